"""Mixtures of lognormals and point masses as one table between a standard normal and a positive number.

``value(z)`` grows with z, so a number may be partly explained: with z = rho x + sqrt(1 - rho^2) e the mixture's marginal
stays exactly what was declared, while the part known from x is known exactly (a Gaussian copula).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from counterpoint.base.jit import njit
from counterpoint.market.scenario import Lognormal, Mass

GRID_POINTS: Final = 768
SMALLEST: Final = 1e-6  # what a mass at 0 stands for: less than any bid
Z_MAX: Final = 8.0
_NORMAL = NormalDist()


@njit
def normal_cdf(z: float) -> float:
    return 0.5 * math.erfc(-z * 0.7071067811865476)


@njit
def _between(at: Any, xs: Any, ys: Any) -> float:
    """Linear between knots, flat outside; where several knots share an x, the last of them counts."""
    n = xs.shape[0]
    if at < xs[0]:
        return float(ys[0])
    low, high = 0, n
    while high - low > 1:
        middle = (low + high) // 2
        if xs[middle] <= at:
            low = middle
        else:
            high = middle
    if low + 1 >= n or xs[low + 1] <= xs[low]:
        return float(ys[low])
    return float(ys[low] + (ys[low + 1] - ys[low]) * (at - xs[low]) / (xs[low + 1] - xs[low]))


@njit
def fill_values(z: Any, knots_z: Any, knots_log: Any, out: Any) -> None:
    for i in range(z.shape[0]):
        out[i] = math.exp(_between(z[i], knots_z, knots_log))


@njit
def fill_cdf(x: Any, explained: Any, rho: float, knots_z: Any, knots_log: Any, out: Any) -> None:
    """P(value <= x | the known part); ``rho`` below 1."""
    rest = math.sqrt(1.0 - rho * rho)
    for i in range(x.shape[0]):
        if x[i] <= 0.0:
            out[i] = 0.0
            continue
        log_x = math.log(x[i])
        if log_x < knots_log[0]:
            out[i] = 0.0
        elif log_x >= knots_log[-1]:
            out[i] = 1.0
        else:
            out[i] = normal_cdf((_between(log_x, knots_log, knots_z) - rho * explained[i]) / rest)


class Quantiles:
    """``upper``: larger values do not happen (the rest is scaled up)."""

    def __init__(
        self, components: Sequence[Lognormal], masses: Sequence[Mass] = (), upper: float | None = None
    ) -> None:
        parts = [c for c in components if c.weight > 0]
        points = sorted((max(m.at, SMALLEST), m.weight) for m in masses if m.weight > 0)
        total = sum(c.weight for c in parts) + sum(weight for _, weight in points)
        lows = [math.log(c.median) - 5.5 * c.sigma for c in parts]
        highs = [math.log(c.median) + 5.5 * c.sigma for c in parts]
        grid = np.linspace(min(lows), max(highs), GRID_POINTS)
        smooth = np.zeros(GRID_POINTS)
        for c in parts:
            z = (grid - math.log(c.median)) / c.sigma
            smooth += c.weight / total * np.array([_NORMAL.cdf(float(v)) for v in z])
        logs, levels = [float(v) for v in grid], [float(v) for v in smooth]
        for at, _ in points:
            log_at = math.log(at)
            level = float(np.interp(log_at, grid, smooth)) if log_at >= grid[0] else 0.0
            logs += [log_at, log_at]
            levels += [level, level]
        order = np.argsort(np.array(logs), kind="stable")
        knots = np.array(logs)[order]
        heights = np.array(levels)[order]
        for at, weight in points:  # each mass lifts its own second knot and everything above
            first = int(np.searchsorted(knots, math.log(at), side="left"))
            heights[first + 1 :] += weight / total
        if upper is not None:
            top = float(np.interp(math.log(upper), knots, heights))
            keep = knots < math.log(upper)
            knots = np.append(knots[keep], math.log(upper))
            heights = np.append(heights[keep], top) / top
        heights = np.clip(heights, 0.0, 1.0)
        zs = [_NORMAL.inv_cdf(h) if 1e-15 < h < 1 - 1e-15 else math.copysign(Z_MAX, h - 0.5) for h in heights]
        self.knots_log: NDArray[np.float64] = knots
        self.knots_z: NDArray[np.float64] = np.clip(np.array(zs), -Z_MAX, Z_MAX)

    def values(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """The mixture's value for each standard normal z."""
        out = np.empty(z.shape[0])
        fill_values(z, self.knots_z, self.knots_log, out)
        return out

    def cdf(
        self, x: NDArray[np.float64], explained: NDArray[np.float64] | None = None, rho: float = 0.0
    ) -> NDArray[np.float64]:
        """P(value <= x), given the known part where ``rho`` > 0."""
        out = np.empty(x.shape[0])
        fill_cdf(
            x,
            np.zeros(x.shape[0]) if explained is None else explained,
            rho,
            self.knots_z,
            self.knots_log,
            out,
        )
        return out
