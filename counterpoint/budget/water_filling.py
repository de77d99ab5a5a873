"""Splitting a sum over concave returns: raise everybody to the same marginal return (the KKT conditions)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
SEGMENTS = 64
_HALVINGS = 80


def widen(low: Array, high: Array, least: Array, most: Array, total: Array | float) -> tuple[Array, Array]:
    """Bounds between which the total can be reached: wishes ``low``..``high`` inside the hard ``least``..``most``. Lower
    wishes that ask for too much come down towards ``least``, upper ones that allow too little rise towards ``most``, all by
    the same part of their way. Needs ``sum(least) <= total <= sum(most)``. Shapes (..., K) and (...).

    >>> widen(np.array([2.0, 1.0]), np.array([2.0, 1.0]), np.zeros(2), np.array([2.0, 3.0]), 4.0)[1].tolist()
    [2.0, 2.0]
    """
    whole = np.asarray(total, dtype=np.float64)[..., None]
    low = np.clip(low, least, most)
    high = np.clip(np.maximum(high, low), least, most)
    return _towards(low, least, whole, down=True), _towards(high, most, whole, down=False)


def _towards(wish: Array, hard: Array, whole: Array, *, down: bool) -> Array:
    gap = (wish.sum(axis=-1, keepdims=True) - whole) * (1.0 if down else -1.0)
    room = np.abs(hard - wish)
    able = room.sum(axis=-1, keepdims=True)
    part = np.clip(gap / np.where(able > 0, able, 1.0), 0.0, 1.0)
    return np.asarray(wish + part * (hard - wish))


def fit(x: Array, low: Array, high: Array, total: Array | float) -> Array:
    """``x`` within the bounds, its gap to the total spread by what room each has left: who has none does not move. Needs
    ``sum(low) <= total <= sum(high)``.

    >>> fit(np.array([1.0, 1.0, 1.0]), np.array([0.5, 0.0, 0.0]), np.array([0.5, 1.0, 3.0]), 3.0).tolist()
    [0.5, 1.0, 1.5]
    """
    x = np.clip(x, low, high)
    gap = np.asarray(total, dtype=np.float64)[..., None] - x.sum(axis=-1, keepdims=True)
    room = np.where(gap > 0, high - x, x - low)
    able = room.sum(axis=-1, keepdims=True)
    return np.asarray(np.clip(x + room * (gap / np.where(able > 0, able, 1.0)), low, high))


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
    ``sum(low) <= total <= sum(high)`` (see :func:`widen`). Ties go to the earlier row.
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
