"""What a campaign's money brings: a discounted Bayesian response curve, value = a * ln(1 + spend / c).

``c`` lies on a grid of nine; for each, ``a`` has a Gamma posterior under a quasi-Poisson likelihood (variance =
dispersion x mean, the dispersion measured), which holds for rare conversions and for large sums alike. The weights of
the grid are the discounted predictive likelihoods. Old evidence fades by a factor per period, so doubt grows again.

A period in which a campaign hardly spent is *missing*, not worthless: reading "no value at no spend" as evidence
starves the campaign for good.
"""

from __future__ import annotations

import math

import numpy as np
from msgspec import Struct, field

from counterpoint.budget.water_filling import Array

GRID = np.geomspace(0.02, 20.0, 9)  # c, in equal shares of the pool
PRIOR_EVENTS = 2.0  # what the pool's mean return counts, in events
MISSING_BELOW = 0.001  # of an equal share
DISPERSION_RATE = 0.1
DISPERSION_JUMP_MAX = 25.0
SURPRISE = 2.5  # standard deviations, twice in a row to the same side: the curve has jumped
JUMP_PERIODS = 3  # of quick forgetting after a jump
JUMP_KEEP = 0.7


class Curve(Struct):
    """One campaign's evidence. Money and value in nanos, spend as a rate per day."""

    dispersion: float  # value units: variance / mean of a period's value
    value: float = 0.0  # discounted sum
    exposure: list[float] = field(
        default_factory=lambda: [0.0] * len(GRID)
    )  # discounted sum of ln(1 + spend / c) x time, for each c
    likelihood: list[float] = field(
        default_factory=lambda: [0.0] * len(GRID)
    )  # discounted log predictive, for each c
    periods: float = 0.0  # discounted count of periods with evidence
    last_surprise: float = 0.0
    jumping: int = 0  # periods of quick forgetting left


class Posterior:
    """The curves of one pool at one moment, ready to be split. ``unit`` is an equal share of the pool (nanos a day)."""

    def __init__(self, curves: list[Curve], unit: float) -> None:
        self.c: Array = GRID * unit
        exposure = np.array([curve.exposure for curve in curves])
        value = np.array([curve.value for curve in curves])
        dispersion = np.array([curve.dispersion for curve in curves])
        pooled = value.sum() / np.maximum(exposure.sum(axis=0), 1e-300)
        prior = PRIOR_EVENTS * dispersion
        known = value.sum() > 0
        base = prior[:, None] / pooled[None, :] if known else np.ones_like(exposure)
        self.shape: Array = (prior + value) / dispersion  # Gamma shape of a / dispersion
        self.a: Array = (prior + value)[:, None] / (base + exposure) if known else base
        scores = np.array([curve.likelihood for curve in curves])
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        self.weight: Array = weights / weights.sum(axis=1, keepdims=True)

    def slopes(self, x: Array) -> Array:
        """Marginal return at spends of shape (K, points)."""
        mix = self.weight * self.a
        out: Array = (mix[:, None, :] / (self.c[None, None, :] + x[:, :, None])).sum(axis=2)
        return out

    def marginal(self, x: Array) -> Array:
        return self.slopes(x[:, None])[:, 0]

    def value(self, x: Array) -> float:
        """Expected value a day of spends of shape (K,)."""
        return float((self.weight * self.a * np.log1p(x[:, None] / self.c)).sum())

    def gain(self, new: Array, old: Array) -> tuple[float, float]:
        """Expected gain a day of spending ``new`` instead of ``old``, and its standard deviation."""
        bend = self.a * (np.log1p(new[:, None] / self.c) - np.log1p(old[:, None] / self.c))
        mean = (self.weight * bend).sum(axis=1)
        second = (self.weight * bend**2 * (1 + 1 / self.shape[:, None])).sum(axis=1)
        return float(mean.sum()), float(np.sqrt(np.maximum(second - mean**2, 0.0).sum()))


def observe(
    curve: Curve, posterior: Posterior, row: int, *, spend: float, value: float, time: float, keep: float
) -> None:
    """Learn from one period. ``spend``: nanos a day (the period's money over its share of the day); ``value``: nanos in
    the period; ``time``: the period's share of the day; ``keep``: what remains of older evidence."""
    if curve.jumping > 0:
        curve.jumping -= 1
        keep = min(keep, JUMP_KEEP)
    fade(curve, keep)
    unit = posterior.c[0] / GRID[0]
    if spend < MISSING_BELOW * unit or time <= 0:
        return
    bend = time * np.log1p(spend / posterior.c)
    a, shape, weight = posterior.a[row], posterior.shape[row], posterior.weight[row]
    expected = float((weight * a * bend).sum())
    _surprise(curve, value, expected, float(shape))
    rate = shape / a * curve.dispersion  # Gamma rate of a, in 1 / value
    events = value / curve.dispersion
    fits = (
        math.lgamma(events + shape)
        - math.lgamma(shape)
        - math.lgamma(events + 1)
        + shape * np.log(rate / (rate + bend))
        + events * np.log(bend / (rate + bend))
    )
    curve.likelihood = [x + float(fit) for x, fit in zip(curve.likelihood, fits, strict=True)]
    top = max(curve.likelihood)
    curve.likelihood = [x - top for x in curve.likelihood]
    curve.exposure = [x + float(b) for x, b in zip(curve.exposure, bend, strict=True)]
    curve.value += value
    if expected > 0 and curve.periods >= 1:
        measured = min((value - expected) ** 2 / expected, DISPERSION_JUMP_MAX * curve.dispersion)
        curve.dispersion += DISPERSION_RATE * (measured - curve.dispersion)
    curve.periods += 1


def fade(curve: Curve, keep: float) -> None:
    curve.value *= keep
    curve.periods *= keep
    curve.exposure = [x * keep for x in curve.exposure]
    curve.likelihood = [x * keep for x in curve.likelihood]


def _surprise(curve: Curve, value: float, expected: float, shape: float) -> None:
    if curve.periods < 3 or expected <= 0:
        return
    deviation = math.sqrt(expected * curve.dispersion + expected * expected / shape)
    z = (value - expected) / deviation if deviation > 0 else 0.0
    if abs(z) > SURPRISE and z * curve.last_surprise > SURPRISE * SURPRISE:
        curve.jumping = JUMP_PERIODS
        curve.last_surprise = 0.0
    else:
        curve.last_surprise = z
