"""Who may look on while a decision is made: a trace for its story, a clock for the benchmark. Serving has neither."""

from __future__ import annotations

from time import perf_counter_ns
from typing import Protocol

from counterpoint.bidder.scratch import Scratch


class Trace(Protocol):
    """Looks at the arrays between the steps: for ``explain`` and the tests. Never changes them."""

    def eligible(self, n: int, scratch: Scratch) -> None: ...

    def admitted(self, n: int, kept: int, scratch: Scratch) -> None: ...

    def fitting(self, imp: int, m: int, scratch: Scratch) -> None: ...

    def priced(self, imp: int, n: int, floor: int, key: int, media: int, scratch: Scratch) -> None: ...


class StageClock:
    """Nanoseconds by stage, summed: handed in by the benchmark, absent when serving."""

    __slots__ = ("choose", "commit", "decode", "eligible", "encode", "last", "price", "requests")

    def __init__(self) -> None:
        self.decode = self.eligible = self.choose = self.price = self.commit = self.encode = 0
        self.requests = 0
        self.last = 0

    def start(self) -> None:
        self.last = perf_counter_ns()

    def lap(self, stage: str) -> None:
        now = perf_counter_ns()
        setattr(self, stage, getattr(self, stage) + now - self.last)
        self.last = now
