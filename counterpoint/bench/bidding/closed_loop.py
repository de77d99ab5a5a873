"""A bidder that learns from nothing but its own bids, in a market with a known curve."""

from __future__ import annotations

from typing import Final

import numpy as np

from counterpoint.bench.bidding.curve_markets import (
    REGIMES,
    FloatArray,
    Market,
    best_on_known_curve,
    bids_for,
    compiled,
    surplus,
    teach,
    values_of,
)
from counterpoint.bidding.state import BiddingConfig
from counterpoint.bidding.win_curve import WinCurves

CHECK_ROWS: Final = 100
JUDGED, DRAWN = 4_000, 100_000


class ClosedLoop:
    """``level`` multiplies what competitors bid (not the floors); it may be changed while the loop runs."""

    def __init__(self, market: Market, regime: str, seed: int) -> None:
        config = BiddingConfig()
        self._market, self._told = market, REGIMES[regime]
        self._rng = np.random.default_rng([seed, 7])
        self._seed = seed
        self._curves = WinCurves(config.curve_half_life_s)
        self._exploration = (config.exploration_rate, config.exploration_span)
        self._tables = compiled({}, *self._exploration)
        self._lived = 0
        self.change(1.0)

    def change(self, level: float) -> None:
        """Competitors bid ``level`` times what they bid at first from now on."""
        self._level = level
        rng = np.random.default_rng([self._seed, 8])
        self._values = values_of(rng, JUDGED)
        self._rivals, self._floors = self._draw(rng, JUDGED)
        self.known = best_on_known_curve(self._values, self._rivals, self._floors, self._draw(rng, DRAWN)[0])

    def _draw(self, rng: np.random.Generator, n: int) -> tuple[FloatArray, FloatArray]:
        rivals, floors = self._market.draw(rng, n)
        return rivals * self._level, floors

    def live(self, rows: int) -> None:
        """``rows`` auctions, then a new policy."""
        values = values_of(self._rng, rows)
        rivals, floors = self._draw(self._rng, rows)
        bids = bids_for(self._tables, values, floors, key=1 + self._lived)
        teach(self._curves, bids, rivals, floors, self._told)
        self._lived += rows
        self._curves.refresh()
        self._tables = compiled(self._curves.curves, *self._exploration)

    def share(self) -> float:
        """Of the surplus of who knows the curve, on auctions not learned from."""
        tables = compiled(self._curves.curves)
        bids = bids_for(tables, self._values, self._floors)
        return surplus(bids, self._values, self._rivals, self._floors) / self.known
