"""The words a replay is ordered with; nothing heavy is imported here, so that the command line starts at once."""

from __future__ import annotations

from enum import StrEnum


class Auction(StrEnum):
    FIRST = "first"  # counterfactual: the winner pays its bid, rivals assumed unchanged
    SECOND = "second"  # as logged: the winner pays the market price

    @property
    def second(self) -> bool:
        return self is Auction.SECOND


class Feedback(StrEnum):
    FULL = "full"  # the minimum bid to win, on win and on loss, of every auction it bid in
    WIN = "win"  # that minimum only where it won
    BINARY = "binary"  # won or lost
