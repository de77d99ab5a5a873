"""Dropping repeats: the bus delivers at least once, and a repeated event id must change nothing."""

from __future__ import annotations

from collections.abc import Iterable

SEEN_MAX = 65_536


class RecentIds:
    """The last ``limit`` distinct ids, in the order they came. A repeat older than that is taken as new.

    >>> seen = RecentIds()
    >>> seen.first_time("a"), seen.first_time("a")
    (True, False)
    """

    def __init__(self, ids: Iterable[str] = (), limit: int = SEEN_MAX) -> None:
        assert limit > 0
        self._limit = limit
        self._ids: dict[str, None] = dict.fromkeys(ids)

    def first_time(self, event_id: str) -> bool:
        if event_id in self._ids:
            return False
        self._ids[event_id] = None
        if len(self._ids) > self._limit:
            del self._ids[next(iter(self._ids))]
        return True

    def ids(self) -> list[str]:
        return list(self._ids)
