"""Identifiers that sort by time and cannot collide between processes."""

from __future__ import annotations

import hashlib
import secrets


def digest(*parts: bytes | str, size: int = 16) -> str:
    """A stable hex digest of the parts (BLAKE2b, length-prefixed so that ('ab','c') != ('a','bc'))."""
    raw = [part.encode() if isinstance(part, str) else part for part in parts]
    joined = b"".join([piece for part in raw for piece in (len(part).to_bytes(8, "big"), part)])
    return hashlib.blake2b(joined, digest_size=size).hexdigest()


class IdSource:
    """Unique ids: ``{prefix}{48-bit ms time}{counter}`` in hex, where prefix is random per process."""

    def __init__(self, prefix: str | None = None) -> None:
        self.prefix = prefix if prefix is not None else secrets.token_hex(5)
        self._counter = 0

    def next(self, now_ns: int) -> str:
        self._counter += 1
        return f"{now_ns // 1_000_000:012x}{self.prefix}{self._counter:08x}"
