"""Intervals and p-values of a mean over seeds: Student's t, and Hall's t for skewed seeds; no resampling, so no least p.

Hall (1992, "On the removal of skewness by transformation") bends Studentised means so that their skewness goes:
h(t) = t + g t^2 / 3 + g^2 t^3 / 27 + g / 6, g the mean's estimated skewness. Each end of an interval is the farther one of
t's and Hall's, each tail of a p-value the heavier, so both always agree. What that covers: docs/scoreboard.md.
Strata (scenarios) count alike; their variances and third moments add up, degrees of freedom are Welch's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from statistics import NormalDist
from typing import Final

import numpy as np
from msgspec import Struct

from counterpoint.bench.market.facts import Floats

BISECTIONS: Final = 100


class Interval(Struct, frozen=True, kw_only=True):
    """95 %. An end is None where one seed tells no spread."""

    value: float
    low: float | None
    high: float | None


class Mean(Struct, frozen=True, kw_only=True):
    """Of a stratified sample."""

    value: float
    error: float  # standard error; infinite: a stratum with one seed
    skewness: float
    freedom: int  # degrees, rounded down

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        if self.error == 0.0 or math.isinf(self.error):
            return self.value - self.error, self.value + self.error
        q = t_quantile(0.5 + level / 2, self.freedom)
        ends = (q, _unbent(q, self.skewness)), (-q, _unbent(-q, self.skewness))
        return self.value - self.error * max(ends[0]), self.value - self.error * min(ends[1])

    def p_above(self) -> float:
        """One-sided, of a true mean of 0 or less."""
        return self._tail(1.0)

    def p(self) -> float:
        """Two-sided, of a true mean of 0."""
        return min(1.0, 2.0 * min(self._tail(1.0), self._tail(-1.0)))

    def _tail(self, side: float) -> float:
        if math.isinf(self.error):
            return 1.0
        if self.error == 0.0:
            return 0.0 if self.value * side > 0.0 else 1.0
        t = self.value / self.error
        return max(t_tail(side * each, self.freedom) for each in (t, _bent(t, self.skewness)))


def mean_of(strata: Sequence[Floats]) -> Mean:
    """Of the strata's means, each alike; none is empty.

    >>> m = mean_of([np.array([1.0, 2.0, 3.0, 6.0])])
    >>> m.value, round(m.error, 3), m.freedom
    (3.0, 1.08, 3)
    """
    k = len(strata)
    value = math.fsum(float(x.mean()) for x in strata) / k
    if min(x.size for x in strata) < 2:
        return Mean(value=value, error=math.inf, skewness=0.0, freedom=1)
    variances = [float(x.var(ddof=1)) / x.size / k**2 for x in strata]
    square = math.fsum(variances)
    error = math.sqrt(square)
    if error <= 1e-12 * max(float(np.abs(x).max()) for x in strata):  # rounding alone
        return Mean(value=value, error=0.0, skewness=0.0, freedom=1)
    skewness = math.fsum(float((((x - x.mean()) / error) ** 3).mean()) / x.size**2 / k**3 for x in strata)
    parts = zip(variances, strata, strict=True)
    freedom = 1.0 / math.fsum((v / square) ** 2 / (x.size - 1) for v, x in parts)
    return Mean(value=value, error=error, skewness=skewness, freedom=max(1, int(freedom + 1e-9)))


def share_of(strata: Sequence[Floats]) -> Interval:
    """Mean of numbers between 0 and 1, strata alike: Wilson's 95 %, on the safe side where they differ or lie between.

    >>> share_of([np.ones(30)]).low > 0.85
    True
    """
    z = NormalDist().inv_cdf(0.975)
    n = len(strata) ** 2 / math.fsum(1.0 / x.size for x in strata)
    value = math.fsum(float(x.mean()) for x in strata) / len(strata)
    middle = (value + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(value * (1 - value) / n + z * z / (4 * n * n))
    return Interval(value=value, low=max(0.0, middle - half), high=min(1.0, middle + half))


def t_tail(t: float, freedom: int) -> float:
    """P(T > t) of Student's t, to about 1e-15 (Abramowitz and Stegun 26.7.3 and 26.7.4).

    >>> round(t_tail(2.0452, 29), 4), round(t_tail(-2.2281, 10), 4)
    (0.025, 0.975)
    """
    angle = math.atan(abs(t) / math.sqrt(freedom))
    sine, square = math.sin(angle), math.cos(angle) ** 2
    term = total = math.cos(angle) if freedom % 2 else 1.0
    for k in range(3 if freedom % 2 else 2, freedom, 2):
        term *= (k - 1) / k * square
        total += term
    if freedom == 1:
        inside = 2.0 / math.pi * angle
    elif freedom % 2:
        inside = 2.0 / math.pi * (angle + sine * total)
    else:
        inside = sine * total
    outside = max(0.0, 1.0 - inside) / 2.0
    return outside if t >= 0.0 else 1.0 - outside


@cache
def t_quantile(level: float, freedom: int) -> float:
    """For levels from 0.5 on.

    >>> round(t_quantile(0.975, 29), 3)
    2.045
    """
    low, high = 0.0, 1.0
    while t_tail(high, freedom) > 1.0 - level:
        high *= 2.0
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if t_tail(middle, freedom) > 1.0 - level else (low, middle)
    return high


def _bent(t: float, skewness: float) -> float:
    return t + skewness * t * t / 3 + skewness**2 * t**3 / 27 + skewness / 6


def _unbent(h: float, skewness: float) -> float:
    """The other way round."""
    if abs(skewness) < 1e-9:
        return h
    return (math.cbrt(1.0 + skewness * (h - skewness / 6)) - 1.0) * 3.0 / skewness
