"""``njit`` with its type kept: numba's own decorator is untyped, and strict checking would lose every kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])


def njit(function: F) -> F:
    """Compile for the hot path: no Python objects, cached on disk, no fast-math (results must replay exactly)."""
    return cast(F, numba.njit(cache=True, nogil=True, fastmath=False, error_model="numpy")(function))
