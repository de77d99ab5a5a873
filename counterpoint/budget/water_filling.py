"""Splitting a sum over concave returns: raise everybody to the same marginal return (the KKT conditions)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
SEGMENTS = 64
_HALVINGS = 80


def make_feasible(low: Array, high: Array, total: float) -> tuple[Array, Array]:
    """Bounds between which the total can be reached: lower bounds that ask for too much shrink in proportion, upper
    bounds that allow too little grow alike."""
    assert total >= 0
    assert (low >= 0).all()
    high = np.maximum(low, high)
    if low.sum() > total:
        low = low * (total / low.sum())
    if high.sum() < total:
        high = high + (total - high.sum()) / len(high)
    return low, np.maximum(low, high)


def water_fill(slopes_at: Callable[[Array], Array], low: Array, high: Array, total: float) -> Array:
    """Maximise ``sum f_k(x_k)`` with ``low <= x <= high`` and ``sum x = total``, for concave ``f_k``.

    ``slopes_at(x)``: for amounts of shape (K, points), the marginal returns ``f_k'``, of the same shape, falling along
    each row. Each range is cut into 64 pieces, and pieces are taken by marginal return: exact up to one piece. Needs
    ``sum(low) <= total <= sum(high)`` (see :func:`make_feasible`). Ties go to the earlier row.
    """
    assert low.sum() <= total * (1 + 1e-9) + 1e-9
    assert total <= high.sum() * (1 + 1e-9) + 1e-9
    size = (high - low) / SEGMENTS
    middles = low[:, None] + size[:, None] * (np.arange(SEGMENTS) + 0.5)
    order = np.argsort(-slopes_at(middles), axis=None, kind="stable")
    taken = np.cumsum(np.repeat(size, SEGMENTS)[order])
    left = total - low.sum()
    whole = int(np.searchsorted(taken, left, side="right"))
    rows = order // SEGMENTS
    filled: Array = low + size * np.bincount(rows[:whole], minlength=len(low))
    if whole < len(order):
        rest = left - (taken[whole - 1] if whole else 0.0)
        filled[rows[whole]] += max(0.0, min(rest, size[rows[whole]]))
    return filled


def water_fill_log(a: Array, c: Array, low: Array, high: Array, total: float) -> tuple[Array, float]:
    """The exact split for ``f_k(x) = a_k ln(1 + x / c_k)``, and the common marginal return.

    >>> x, mu = water_fill_log(np.array([1.0, 2.0]), np.ones(2), np.zeros(2), np.full(2, 9.0), total=4.0)
    >>> x.round(6).tolist(), round(mu, 6)
    ([1.0, 3.0], 0.5)
    """
    best, worst = float((a / (c + low)).max()), float((a / (c + high)).min())
    for _ in range(_HALVINGS):
        mu = (best * worst) ** 0.5 if worst > 0 else best / 2
        if np.clip(a / mu - c, low, high).sum() > total:
            worst = mu
        else:
            best = mu
    return np.clip(a / best - c, low, high), best
