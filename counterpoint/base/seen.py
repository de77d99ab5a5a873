"""What makes at-least-once harmless: the ids already seen, within a stated bound."""

from __future__ import annotations

import hashlib

import numpy as np

GENERATION_IDS = 131_072


def hash_id(event_id: str) -> int:
    """64 stable bits of an id: the same in every process, unlike ``hash``."""
    return int.from_bytes(hashlib.blake2b(event_id.encode(), digest_size=8).digest(), "little")


class SeenIds:
    """Remembers at least the last ``generation_ids`` distinct ids and at most twice as many; older ones are forgotten
    and would count as new. Two ids meet by chance once in 2**64 / (2 * generation_ids) draws."""

    def __init__(self, generation_ids: int = GENERATION_IDS) -> None:
        assert generation_ids > 0
        self._max = generation_ids
        self._young: dict[int, None] = {}
        self._old: dict[int, None] = {}

    def add(self, event_id: str) -> bool:
        """True the first time.

        >>> seen = SeenIds(2)
        >>> [seen.add(i) for i in ("a", "b", "a", "c", "a")]
        [True, True, False, True, False]
        """
        key = hash_id(event_id)
        if key in self._young or key in self._old:
            return False
        self._young[key] = None
        if len(self._young) >= self._max:
            self._old, self._young = self._young, {}
        return True

    def dump(self) -> tuple[bytes, bytes]:
        """Little-endian 64-bit words of the older and the younger generation, in order of arrival."""
        return tuple(
            np.fromiter(part, dtype="<u8", count=len(part)).tobytes() for part in (self._old, self._young)
        )  # type: ignore[return-value]

    def load(self, dumped: tuple[bytes, bytes]) -> None:
        """Raises ``ValueError`` where a part is not whole words."""
        old, young = (dict.fromkeys(np.frombuffer(part, dtype="<u8").tolist()) for part in dumped)
        self._old, self._young = old, young
