"""``njit`` with its type kept: numba's own decorator is untyped, and strict checking would lose every kernel.

Compiled code is kept on disk in a folder named by the digest of every kernel's source. Numba itself looks at the file of
the outermost function alone: after a change of something that it calls, it would go on serving the old code.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])

PACKAGE: Final = Path(__file__).parent.parent
KEPT_MAX: Final = 3  # folders of compiled code; an older version that still runs has loaded what it needs
DIGEST_BYTES: Final = 8


def njit(function: F) -> F:
    """Compile for the hot path: no Python objects, cached on disk, no fast-math (results must replay exactly)."""
    return cast(F, numba.njit(cache=True, nogil=True, fastmath=False, error_model="numpy")(function))


def compiled_for(function: Callable[..., Any], *examples: Any) -> Callable[..., Any]:
    """The compiled code itself, for arguments of the very types of ``examples``: half the price of a call through numba,
    which looks at every argument's type each time. Nobody looks here: an array of another type or layout is misread, a
    number that does not fit its type raises OverflowError."""
    dispatcher, type_of = cast(Any, function), cast(Any, numba.typeof)
    entry: Callable[..., Any] = dispatcher.compile(tuple(type_of(example) for example in examples))
    return entry


def sources_digest(package: Path) -> str:
    """Of all files under ``package`` that compile something or name numba, by path and content."""
    found = blake2b(digest_size=DIGEST_BYTES)
    for path in sorted(package.rglob("*.py")):
        source = path.read_bytes()
        if b"njit" in source:
            found.update(str(path.relative_to(package)).encode() + b"\0" + source + b"\0")
    return found.hexdigest()


def keep_compiled(package: Path, fallback: Path) -> Path | None:
    """The folder for this version's compiled code: beside the package, else under ``fallback``; older ones go.

    None where neither can be written: then numba keeps to its own ways.
    """
    name = f"kernels-{sources_digest(package)}"
    for parent in (package / "__pycache__", fallback):
        try:
            (parent / name).mkdir(parents=True, exist_ok=True)
            (parent / name).touch()
            others = sorted(parent.glob("kernels-*"), key=_used_at, reverse=True)
        except OSError:
            continue
        for old in others[KEPT_MAX:]:
            shutil.rmtree(old, ignore_errors=True)
        return parent / name
    return None


def _used_at(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except OSError:  # another process has just removed it
        return 0.0


_config: Any = numba.config  # its settings come from the environment and are declared nowhere
if not _config.CACHE_DIR:  # NUMBA_CACHE_DIR, where somebody set it, is theirs to keep
    _folder = keep_compiled(PACKAGE, Path.home() / ".cache" / "counterpoint")
    if _folder is not None:
        _config.CACHE_DIR = str(_folder)
