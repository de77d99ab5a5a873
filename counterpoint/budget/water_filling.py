"""Splitting a sum over concave returns: raise everybody to the same marginal return (the KKT conditions)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
SEGMENTS = 64
_HALVINGS = 80


def make_feasible(low: Array, high: Array, total: Array | float) -> tuple[Array, Array]:
    """Bounds between which the total can be reached: lower bounds that ask for too much shrink in proportion, upper
    bounds that allow too little grow alike. Shapes (..., K) and (...)."""
    whole = np.asarray(total, dtype=np.float64)[..., None]
    assert (whole >= 0).all()
    assert (low >= 0).all()
    high = np.maximum(low, high)
    asked = low.sum(axis=-1, keepdims=True)
    too_much = asked > whole
    low = low * np.where(too_much, whole / np.where(too_much, asked, 1.0), 1.0)
    missing = np.maximum(whole - high.sum(axis=-1, keepdims=True), 0.0)
    high = high + missing / high.shape[-1]
    return low, np.maximum(low, high)


def water_fill(
    slopes_at: Callable[[Array], Array],
    low: Array,
    high: Array,
    total: Array | float,
    segments: int = SEGMENTS,
) -> Array:
    """Maximise ``sum f_k(x_k)`` with ``low <= x <= high`` and ``sum x = total``, for concave ``f_k``.

    ``slopes_at(x)``: for amounts of shape (..., K, points), the marginal returns ``f_k'``, of the same shape, falling along
    each row. Each range is cut into ``segments`` pieces, and pieces are taken by marginal return: exact up to one piece. Needs
    ``sum(low) <= total <= sum(high)`` (see :func:`make_feasible`). Ties go to the earlier row.
    """
    whole = np.asarray(total, dtype=np.float64)
    assert (low.sum(axis=-1) <= whole * (1 + 1e-9) + 1e-9).all()
    assert (whole <= high.sum(axis=-1) * (1 + 1e-9) + 1e-9).all()
    size = (high - low) / segments
    middles = low[..., None] + size[..., None] * (np.arange(segments) + 0.5)
    flat = (*low.shape[:-1], low.shape[-1] * segments)
    order = np.argsort(-slopes_at(middles).reshape(flat), axis=-1, kind="stable")
    pieces = np.take_along_axis(np.repeat(size, segments, axis=-1), order, axis=-1)
    before = np.cumsum(pieces, axis=-1) - pieces
    left = (whole - low.sum(axis=-1))[..., None]
    taken = np.clip(left - before, 0.0, pieces)
    back = np.empty_like(taken)
    np.put_along_axis(back, order, taken, axis=-1)
    filled: Array = low + back.reshape(middles.shape).sum(axis=-1)
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
