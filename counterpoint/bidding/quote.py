"""Bids of a loop of one's own, thousands at a time, and what they win on the curve they were made with."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from counterpoint.base.jit import njit
from counterpoint.base.money import PRICE_MICROS_MAX
from counterpoint.bidding.price import best_price, rate_at
from counterpoint.bidding.state import BiddingConfig
from counterpoint.bidding.told import FIXED_PRICE, SECOND_PRICE

FloatArray = NDArray[np.float64]


def bids_of(
    table: FloatArray, paced: FloatArray, floors: FloatArray, kind: int, explores: Generator | None
) -> FloatArray:
    """Bids [n] of whole micros for impressions worth ``paced`` [n] after lambda: shaded, perhaps moved, at or above their floors; 0:
    none."""
    wished = paced
    if kind == FIXED_PRICE:
        wished = floors
    elif kind != SECOND_PRICE:
        wished = _shaded(table, paced, floors)
    if explores is not None and kind != FIXED_PRICE:
        config = BiddingConfig()
        moved = 1.0 + config.exploration_span * (2.0 * explores.random(len(paced)) - 1.0)
        wished = np.where(explores.random(len(paced)) < config.exploration_rate, wished * moved, wished)
    bids = np.minimum(np.maximum(np.minimum(wished, paced), floors), PRICE_MICROS_MAX)
    return np.where((paced >= floors) & (bids >= 1.0), np.floor(bids), 0.0)


@njit
def _shaded(table: FloatArray, paced: FloatArray, floors: FloatArray) -> FloatArray:
    out = np.zeros(len(paced))
    for i in range(len(paced)):
        if paced[i] >= floors[i]:
            out[i] = best_price(table, paced[i], floors[i])
    return out


@njit
def rates_of(table: FloatArray, bids: FloatArray) -> FloatArray:
    out = np.empty(len(bids))
    for i in range(len(bids)):
        out[i] = rate_at(table, bids[i])
    return out
