"""What holds for every test: no property fails because a machine was busy or a kernel was compiled for the first time."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
