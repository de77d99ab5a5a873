"""Time comes in as an argument; at the edge it comes from a clock."""

from __future__ import annotations

import time
from typing import Protocol

NS_PER_US = 1_000
NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000


class Clock(Protocol):
    def now_ns(self) -> int:
        """Nanoseconds since the Unix epoch."""
        ...


class SystemClock:
    def now_ns(self) -> int:
        return time.time_ns()


class ManualClock:
    """Simulated time: moves only when told to."""

    def __init__(self, now_ns: int = 1_700_000_000 * NS_PER_S) -> None:
        self._now_ns = now_ns

    def now_ns(self) -> int:
        return self._now_ns

    def advance(self, ns: int) -> int:
        assert ns >= 0, "time does not go back"
        self._now_ns += ns
        return self._now_ns

    def move_to(self, now_ns: int) -> None:
        assert now_ns >= self._now_ns, "time does not go back"
        self._now_ns = now_ns
