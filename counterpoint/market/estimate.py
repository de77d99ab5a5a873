"""Mixtures from logged figures, and how far two samples are apart."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from counterpoint.market.quantiles import normal_cdf
from counterpoint.market.scenario import Lognormal, Mass

ROUNDS: Final = 300
SIGMA_MIN: Final = 0.05
SPIKE_TIMES: Final = 4.0  # a value this many times as frequent as its neighbours is a point mass
SPIKE_SHARE: Final = 0.006  # and at least this share of all
SPIKE_NEIGHBOURS: Final = 6

Floats = NDArray[np.float64]


class Mixture(Struct, frozen=True):
    components: tuple[Lognormal, ...]
    masses: tuple[Mass, ...]


def fit_mixture(
    values: Floats, counts: Floats, floors: Floats | None = None, parts: int = 3, spikes: bool = True
) -> Mixture:
    """EM for lognormals and point masses. ``floors``: where value <= floor, all we know is that it was not above it.

    Values are whole units, so the density of a value v is taken over (v - 1, v].
    """
    floor = np.zeros(values.shape) if floors is None else floors
    censored = (values <= floor) & (floor > 0)
    at = np.array(_spikes(values[~censored], counts[~censored]) if spikes else [])
    total = counts.sum()
    y = np.log(np.maximum(values - (0.5 if spikes else 0.0), 0.25))
    log_floor = np.log(np.maximum(floor, 0.25))
    free = ~np.isin(values, at) & ~censored
    start = _quantiles(y[free], counts[free], (np.arange(parts) + 0.5) / parts)
    means = np.array(start)
    sigmas = np.full(parts, max(float(np.std(y[free])) / parts, 0.3))
    weights = np.full(parts, 0.7 / parts)
    mass = np.full(at.shape[0], 0.3 / max(at.shape[0], 1))
    for _ in range(ROUNDS):
        density = np.empty((parts, y.shape[0]))
        first, second = np.empty_like(density), np.empty_like(density)  # E[y], E[y^2] of each part
        for k in range(parts):
            z = (y - means[k]) / sigmas[k]
            width = 1.0 / np.maximum(values - 0.5, 0.5) if spikes else 1.0
            exact = np.exp(-0.5 * z * z) / (sigmas[k] * math.sqrt(2 * math.pi)) * width
            limit = (log_floor - means[k]) / sigmas[k]
            below = np.array([max(normal_cdf(float(v)), 1e-12) for v in limit])
            hazard = np.exp(-0.5 * limit * limit) / math.sqrt(2 * math.pi) / below
            mean_below = means[k] - sigmas[k] * hazard
            var_below = np.maximum(sigmas[k] ** 2 * (1 - limit * hazard - hazard * hazard), 1e-6)
            density[k] = weights[k] * np.where(censored, below, exact)
            first[k] = np.where(censored, mean_below, y)
            second[k] = np.where(censored, var_below + mean_below**2, y * y)
        hit = (values[None, :] == at[:, None]) & ~censored[None, :]
        under = (at[:, None] <= floor[None, :]) & censored[None, :]
        spike = mass[:, None] * (hit | under)
        every = density.sum(axis=0) + spike.sum(axis=0) + 1e-300
        share = density / every * counts
        weights = share.sum(axis=1) / total
        mass = (spike / every * counts).sum(axis=1) / total
        sums = np.maximum(share.sum(axis=1), 1e-9)
        means = (share * first).sum(axis=1) / sums
        sigmas = np.sqrt(np.maximum((share * second).sum(axis=1) / sums - means**2, SIGMA_MIN**2))
    order = np.argsort(means)
    return Mixture(
        tuple(
            Lognormal(
                weight=round(float(weights[k]), 4),
                median=round(math.exp(means[k]), 2),
                sigma=round(float(sigmas[k]), 4),
            )
            for k in order
            if weights[k] > 0.002
        ),
        tuple(
            Mass(weight=round(float(w), 4), at=float(a)) for a, w in zip(at, mass, strict=True) if w > 0.001
        ),
    )


def _spikes(values: Floats, counts: Floats) -> list[float]:
    table: dict[int, float] = {}
    for v, c in zip(values.astype(int).tolist(), counts.tolist(), strict=True):
        table[v] = table.get(v, 0.0) + c
    total = sum(table.values())
    found = []
    for v, c in sorted(table.items()):
        near = [table.get(v + d, 0.0) for d in range(-SPIKE_NEIGHBOURS, SPIKE_NEIGHBOURS + 1) if d]
        if c > SPIKE_SHARE * total and c > SPIKE_TIMES * (float(np.median(near)) + 1.0):
            found.append(float(v))
    return found


def _quantiles(values: Floats, counts: Floats, at: Floats) -> list[float]:
    order = np.argsort(values)
    cumulated = np.cumsum(counts[order]) / counts.sum()
    return [float(values[order][min(int(np.searchsorted(cumulated, q)), values.size - 1)]) for q in at]


class Distance(Struct, frozen=True):
    """Between two samples: the largest gap of their distribution functions, and the area between them."""

    ks: float
    wasserstein: float  # in the unit of the values
    n_first: int
    n_second: int


def distance(
    first: Floats, second: Floats, first_counts: Floats | None = None, second_counts: Floats | None = None
) -> Distance:
    """Two-sample Kolmogorov-Smirnov statistic and first Wasserstein distance; counts: how often each value came."""
    a = np.ones(first.shape) if first_counts is None else first_counts
    b = np.ones(second.shape) if second_counts is None else second_counts
    grid = np.unique(np.concatenate([first, second]))
    gap = np.abs(_ecdf(first, a, grid) - _ecdf(second, b, grid))
    area = float((gap[:-1] * np.diff(grid)).sum()) if grid.size > 1 else 0.0
    return Distance(float(gap.max()), area, int(a.sum()), int(b.sum()))


def _ecdf(values: Floats, counts: Floats, grid: Floats) -> Floats:
    order = np.argsort(values, kind="stable")
    cumulated = np.concatenate([[0.0], np.cumsum(counts[order])]) / counts.sum()
    return np.asarray(cumulated[np.searchsorted(values[order], grid, side="right")], dtype=np.float64)
