"""What holds for every test: no property fails because a machine was busy or a kernel was compiled for the first time; and
all that starts whole systems runs on one worker.

pytest-xdist 3.8 writes the group of ``xdist_group`` behind a test's id, where pytest 9.2 no longer reads it: every test then
went to whichever worker was free, each worker started a system of its own, and tests that kill parts of one ran beside
each other. So the scheduler goes by the folder.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

SYSTEM = "tests/app/"


class BySystem(LoadScopeScheduling):  # type: ignore[misc]  # it ships no types
    """The tests of :data:`SYSTEM` together, the largest group and therefore first; every other test by itself."""

    def _split_scope(self, nodeid: str) -> str:
        return SYSTEM if nodeid.startswith(SYSTEM) else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling | None:
    return BySystem(config, log) if config.getvalue("dist") == "loadgroup" else None


os.environ.pop("COLUMNS", None)  # of the workers; tables in tests are as wide as in a file
