"""Distributions of the minimum bid to win as masses by price bin: their grid, a shape to start from, knots to publish, bytes to keep."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from counterpoint.base.money import PRICE_MICROS_MAX
from counterpoint.bidding import win_kernels
from counterpoint.bidding.policy import WinCurve
from counterpoint.bidding.price import KNOTS_MAX

FloatArray = NDArray[np.float64]

BINS = 700
EDGES: FloatArray = np.round(
    np.geomspace(1e4, float(PRICE_MICROS_MAX), BINS)
)  # upper edges, 2 % apart, in nanos; what is above them has a bin of its own
WIDTH = BINS + 1
_LOG_EDGES: FloatArray = np.log(EDGES)
KNOT_ERROR_MAX = 0.002  # win rate that may be lost by keeping fewer knots


def fitted_shape(counts: FloatArray) -> FloatArray:
    """The log-logistic distribution that fits the rows, by way of a rough estimate on a flat prior around them."""
    used = np.flatnonzero(counts.sum(axis=0))
    low, high = max(int(used[0]) - 100, 0), min(int(used[-1]) + 35, BINS)
    flat = np.full(WIDTH, 1e-9)
    flat[low : high + 1] += 1.0
    flat /= flat.sum()
    rough, fitted = flat.copy(), np.empty(WIDTH)
    win_kernels.self_consistent(counts, flat, 5.0, rough, 60, 1e-3)
    win_kernels.log_logistic(rough, _LOG_EDGES, fitted)
    return fitted


def to_knots(prices: FloatArray, rates: FloatArray, rows: float) -> WinCurve:
    """The fewest points whose straight lines stay within KNOT_ERROR_MAX of ``rates`` (never falling, by bin), at most
    KNOTS_MAX."""
    rates = np.maximum.accumulate(np.clip(rates, 0.0, 1.0))
    first = max(int(np.searchsorted(rates, min(5e-4, rates[-1] / 4), side="right")) - 1, 0)
    last = max(int(np.searchsorted(rates, rates[-1] - 5e-4)), first)
    chosen = np.zeros(BINS, dtype=np.bool_)
    win_kernels.knots(prices, rates, first, last, KNOT_ERROR_MAX, KNOTS_MAX, chosen)
    at = np.flatnonzero(chosen)
    return WinCurve(
        bids_nanos=tuple(prices[at].astype(np.int64).tolist()),
        win_rates=tuple(np.round(rates[at], 6).tolist()),
        rows=round(rows, 1),
    )


def pack(array: FloatArray) -> tuple[int, bytes]:
    used = np.flatnonzero(array)
    if not len(used):
        return 0, b""
    return int(used[0]), array[used[0] : used[-1] + 1].tobytes()


def unpack(packed: tuple[int, bytes], size: int) -> FloatArray:
    start, raw = packed
    values = np.frombuffer(raw)
    if start < 0 or start + len(values) > size or not np.all(np.isfinite(values)):
        raise ValueError("win curves: counts that do not fit their bins")
    array = np.zeros(size)
    array[start : start + len(values)] = values
    return array
