"""Files that are either whole or not there."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path


def write_atomically(path: Path, raw: bytes, mode: int = 0o600) -> None:
    """Write beside, sync, rename: a reader sees the old content or the new, after a crash too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with ExitStack() as broken_off:
        broken_off.callback(beside.unlink, missing_ok=True)
        with os.fdopen(handle, "wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        broken_off.pop_all()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_bytes(path: Path) -> bytes | None:
    """The content, or None where there is no such file."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
