"""The Bidding agent's parts without bus, server or catalog: one budget, values that the caller brings.

The same win curves, shading table and pacing that run live. Money is the caller's account currency: prices and values in
integer micros CPM (a millionth of a unit per thousand impressions, the same number as nanos per impression). See
``docs/library.md`` and ``examples/bidding_alone.py``.
"""

from __future__ import annotations

import math

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from counterpoint.base.errors import ConfigError
from counterpoint.base.jit import njit
from counterpoint.base.money import PRICE_MICROS_MAX
from counterpoint.bidding import pacing
from counterpoint.bidding.pacing import Pace
from counterpoint.bidding.policy import curve_table, lineage
from counterpoint.bidding.price import best_price
from counterpoint.bidding.state import BiddingConfig
from counterpoint.bidding.win_curve import WinCurves

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
NOT_TOLD = -1


class Refused(Struct):
    """Rows and numbers that were not used, by why. What was known before stays."""

    values: int = 0  # NaN, infinite or negative: no bid
    prices: int = 0  # paid above the bid: the bid is taken for the price
    bids: int = 0  # out of range


class AloneBidder:
    """``price`` and ``learn`` in turns, for one auction or thousands. Not thread-safe.

    ``budget_nanos`` for ``auctions`` expected in all; None: no budget, every value is paid for as it is. ``lowest``: 1 never
    bids above value; down to 0.2 lets it, where a budget is to buy as much value as it can.
    """

    def __init__(self, budget_nanos: int | None = None, auctions: int = 1, lowest: float = 1.0) -> None:
        if auctions < 1 or (budget_nanos is not None and budget_nanos <= 0) or not 0.2 <= lowest <= 1.0:
            raise ConfigError("a budget and a number of auctions above 0, and lowest in 0.2..1")
        self.refused = Refused()
        self.spent_nanos = 0
        self._budget, self._auctions, self._lowest = budget_nanos, auctions, lowest
        self._seen = 0
        self._pace = Pace()
        self._pace.cost.log_lambda = math.log(lowest)
        self._curves = WinCurves(BiddingConfig().curve_half_life_s)
        self._tables: dict[str, FloatArray] = {}

    @property
    def multiplier(self) -> float:
        """lambda: v_eff = value / lambda, and the value that one more unit of money would buy."""
        return 1.0 if self._budget is None else self._pace.multiplier(self._lowest)

    def price(
        self, values: FloatArray, segment: str = "own/banner", auction_type: int = 1, floor_micros: int = 0
    ) -> IntArray:
        """Bids for impressions worth ``values``; 0: none. Never above v_eff, under the floor or above what is left."""
        worth = np.asarray(values, dtype=np.float64)
        good = np.isfinite(worth) & (worth >= 0.0) & (worth <= PRICE_MICROS_MAX)
        self.refused.values += int((~good).sum())
        paced = np.where(good, worth, 0.0) / self.multiplier
        wished = paced
        if auction_type != 2:
            wished = np.zeros(len(worth))
            _shade(self._table(segment), paced, float(floor_micros), wished)
        bids = np.maximum(np.minimum(wished, paced), float(floor_micros))
        bids = np.where((paced >= floor_micros) & (bids >= 1.0), bids, 0.0)
        left = math.inf if self._budget is None else self._budget - self.spent_nanos
        return np.asarray(np.where(bids <= left, bids, 0.0), dtype=np.int64)

    def learn(
        self,
        bids: IntArray,
        won: NDArray[np.bool_],
        minimum_micros: IntArray | None = None,
        paid_micros: IntArray | None = None,
        segment: str = "own/banner",
    ) -> None:
        """What came of bids, in the order of time; 0 was no bid. ``minimum_micros``: the least bid that would have won,
        NOT_TOLD where nobody says; ``paid_micros``: None: the bids."""
        n = len(bids)
        minima = np.full(n, NOT_TOLD) if minimum_micros is None else minimum_micros
        paid = np.where(won, bids if paid_micros is None else paid_micros, 0)
        wrong = (paid > bids) | (paid < 0)
        self.refused.prices += int(wrong.sum())
        paid = np.where(wrong & won, bids, np.maximum(np.where(wrong, 0, paid), 0))
        for bid, was_won, minimum in zip(bids.tolist(), won.tolist(), minima.tolist(), strict=True):
            if bid > 0:
                self._curves.add(segment, bid, was_won, None if minimum < 0 else minimum)
        self.refused.bids = self._curves.refused
        if self._curves.refresh():
            self._tables.clear()
        spent = int(paid.sum())
        self.spent_nanos += spent
        self._seen += n
        if self._budget is None:
            return
        self._pace.spent, self._pace.bids = spent, int((bids > 0).sum())
        self._pace.wins = int(won.sum())
        pacing.step(
            self._pace,
            phi=n / self._auctions,
            rest=max(1.0 - self._seen / self._auctions, 0.0),
            left=float(self._budget - self.spent_nanos),
            budget=float(self._budget),
            elapsed_s=math.inf,
            lowest=self._lowest,
            supply=True,
        )

    def _table(self, segment: str) -> FloatArray:
        if segment not in self._tables:
            curves = self._curves.curves
            source = next((name for name in lineage(segment) if name in curves), None)
            self._tables[segment] = curve_table(None if source is None else curves[source])
        return self._tables[segment]


@njit
def _shade(table: FloatArray, paced: FloatArray, floor: float, out: FloatArray) -> None:
    for i in range(len(paced)):
        if paced[i] >= floor:
            out[i] = best_price(table, paced[i], floor)
