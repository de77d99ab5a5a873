"""What bids in a loop of one's own may cost while nobody knows yet what they win: a share of the plan, not the budget.

A first batch is priced at lambda 1 whatever the budget is, and only what comes of it can say that this was too dear. So until
WINS_KNOWN wins are known, what was spent and what is out (bids made since the last outcomes were told) stay within TIMES of
what the plan has released by then; with more wins the bound grows in proportion, and ends where it reaches the budget. A bid
is out with its cost times its chance to win: 1 where no curve is known, less by the rows it stands on. First lambda is
raised for the call, by RAISE_MAX at most, so that all rows are still bid for and teach; then its leading part is bid for and
the rest is skipped. What is not used is kept for the next call, so that a price above all shares is paid in the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
TIMES = 3.0
WINS_KNOWN = 30.0
RAISE_MAX = 4.0
ROWS_DOUBTED = 30.0  # rows of a curve at which its chances count half
HALVINGS = 8  # of log RAISE_MAX: to half a percent


class Risk(Struct):
    """One budget's. All but ``wins`` is of the calls since the last outcomes were told."""

    wins: int = 0  # known
    asked: int = 0  # rows to price,
    skipped: int = 0  # and of them, rows not bid for because of the money
    out_nanos: float = 0.0  # what the others may cost
    bid_nanos: float = 0.0
    raised_nanos: float = 0.0  # bids, each times the log that lambda was raised by

    def allowed(self, rows: int, budget: int, spent: int, seen: int, auctions: int) -> float:
        """Nanos that ``rows`` more may cost; infinite where enough is known."""
        released = min((seen + self.asked + rows) / auctions, 1.0)
        share = released * TIMES * max(1.0, self.wins / WINS_KNOWN)
        if share >= 1.0 and self.wins >= WINS_KNOWN:
            return math.inf
        return min(share, 1.0) * budget - spent - self.out_nanos

    def made(self, bids: FloatArray, costs: FloatArray, bid_for: NDArray[np.bool_], raised: float) -> None:
        """Bids of a call and what they may cost, where ``bid_for``."""
        total = float(bids[bid_for].sum())
        self.asked += len(bids)
        self.skipped += int((~bid_for).sum())
        self.out_nanos += float(costs[bid_for].sum())
        self.bid_nanos += total
        self.raised_nanos += total * math.log(raised)

    def told(self, wins: int) -> None:
        self.wins += wins
        self.asked = self.skipped = 0
        self.out_nanos = self.bid_nanos = self.raised_nanos = 0.0

    @property
    def log_raised(self) -> float:
        """What lambda was raised by, a mean over the money bid."""
        return self.raised_nanos / self.bid_nanos if self.bid_nanos > 0.0 else 0.0

    @property
    def share_bid_for(self) -> float:
        return 1.0 - self.skipped / self.asked if self.asked else 1.0


def raised(cost_at: Callable[[float], float], allowed: float) -> float:
    """The factor on lambda in [1, RAISE_MAX], about the least at which ``cost_at`` it is ``allowed``."""
    if cost_at(1.0) <= allowed:
        return 1.0
    low, high = 0.0, math.log(RAISE_MAX)
    if allowed <= 0.0 or cost_at(RAISE_MAX) > allowed:
        return RAISE_MAX
    for _ in range(HALVINGS):
        middle = (low + high) / 2.0
        low, high = (middle, high) if cost_at(math.exp(middle)) > allowed else (low, middle)
    return math.exp(high)


def doubted(chances: FloatArray, rows: float) -> FloatArray:
    """As far as ``rows`` bear them out; for the rest everything is won.

    >>> doubted(np.array([0.2]), 0.0).tolist(), doubted(np.array([0.2]), 30.0).tolist()
    ([1.0], [0.6])
    """
    return (chances * rows + ROWS_DOUBTED) / (rows + ROWS_DOUBTED)
