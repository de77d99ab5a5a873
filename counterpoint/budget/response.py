"""What money brings: discounted Bayesian response curves, value = a * shape(spend), averaged over shapes.

For each shape (``shapes.py``) ``a`` has a Gamma posterior under a quasi-Poisson likelihood (variance = dispersion x mean,
the dispersion measured), which holds for rare conversions and for large sums alike. Shapes are weighted by their
discounted predictive likelihoods, shrunk to what the pool's other arms show of theirs, and by what the bidder tells of its
margin. Old evidence fades by a factor per period, so doubt grows again.

A period in which an arm hardly spent is *missing*, not worthless: reading "no value at no spend" as evidence starves the
arm for good. Outcomes that come late are set against the spend that bought them, by the measured delay.

Arrays are (..., K) over arms, with any leading axes (many pools at once), and (..., K, J) over shapes.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

import numpy as np
from msgspec import Struct

from counterpoint.budget import shapes
from counterpoint.budget.shapes import Array, Bools

MISSING_BELOW: Final = 0.001  # of an equal share
DISPERSION_RATE: Final = 0.1
DISPERSION_JUMP_MAX: Final = 25.0
DISPERSION_FALL_MAX: Final = (
    4.0  # where less came than expected: a level far too high is no proof of large outcomes
)
LAGS: Final = 28  # periods for which spend is remembered against late outcomes
BUCKETS: Final = 8  # of the week, whatever the caller takes for one
FACTOR_BOUND: Final = 1.5  # of the log of a season's factor
VALUE_MAX: Final = 1e12  # of a period's spend and value, in equal shares: its square is finite still
TIDE_TRUST: Final = 4.0  # rounds of a bucket before its common factor is half believed


class Model(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the curves learn. The defaults are found on tuning seeds: docs/agents.md."""

    prior_events: float = 5.0  # what the pool's mean return counts, in events
    pooling: float = 1.0  # how much of the pool's mean weights is each arm's prior of shapes
    margin_sd: float = 0.1  # of the elasticity that the bidder tells
    season_rate: float = 0.1  # of an arm's own factor of a bucket of the week; 0: none
    surprise: float = 2.5  # standard deviations, twice in a row to the same side: the curve has jumped
    jump_periods: int = 3  # of quick forgetting after a jump
    jump_keep: float = 0.7
    # standard deviations above what was expected: a period's value counts no higher. Of Poisson counts of mean 10 it cuts
    # one period in 10,000; tuning seeds cannot tell 3 from 8, so it is low
    outlier: float = 4.0
    only_log: bool = False  # the logarithm alone: how the first version learned


@dataclass
class Evidence:
    """Of one pool, or of many alike. Value and spend in the caller's money; ``x`` is spend in equal shares."""

    dispersion: Array  # (..., K) value units: variance / mean of a period's value
    value: Array  # (..., K) discounted sum
    exposure: Array  # (..., K, J) discounted sum of shape x time
    score: Array  # (..., K, J) discounted log predictive
    periods: Array  # (..., K) discounted count of periods with evidence
    surprise: Array  # (..., K) the last
    jumping: Array  # (..., K) periods of quick forgetting left
    season: Array  # (..., K, BUCKETS) log factor of the arm in a bucket of the week
    heard: Array  # (..., K, BUCKETS) periods of the bucket
    lag_x: Array  # (..., K, LAGS) newest first
    lag_time: Array  # (..., K, LAGS) time x factor
    mean_shape: Array  # (..., K, J) slow mean of shape x time, for what comes later than LAGS

    @staticmethod
    def fresh(dispersion: Array) -> Evidence:
        k = dispersion.shape
        j = (*k, shapes.COUNT)

        def zeros(*shape: int) -> Array:
            return np.zeros(shape)

        return Evidence(
            dispersion.astype(np.float64), zeros(*k), zeros(*j), zeros(*j), zeros(*k), zeros(*k), zeros(*k),
            zeros(*k, BUCKETS), zeros(*k, BUCKETS), zeros(*k, LAGS), zeros(*k, LAGS), zeros(*j),
        )  # fmt: skip

    def rows(self) -> list[list[list[float]]]:
        """One entry per arm of a single pool, to be kept in a snapshot."""
        return [
            [np.atleast_1d(getattr(self, f.name)[k]).tolist() for f in fields(self)]
            for k in range(self.value.shape[-1])
        ]

    @staticmethod
    def of_rows(rows: list[list[list[float]]]) -> Evidence:
        columns = [np.array([row[i] for row in rows]) for i in range(len(fields(Evidence)))]
        flat = ("dispersion", "value", "periods", "surprise", "jumping")
        return Evidence(
            *(
                column[:, 0] if f.name in flat else column
                for f, column in zip(fields(Evidence), columns, strict=True)
            )
        )


class Posterior:
    """The curves at one moment, ready to be split."""

    def __init__(self, evidence: Evidence, model: Model) -> None:
        e = evidence
        pooled = e.value.sum(axis=-1)[..., None] / np.maximum(e.exposure.sum(axis=-2), 1e-300)
        prior = model.prior_events * e.dispersion
        self.known: Bools = e.value.sum(axis=-1) > 0
        known = self.known[..., None, None]
        base = np.where(known, prior[..., None] / np.maximum(pooled[..., None, :], 1e-300), 1.0)
        self.rate: Array = base + e.exposure  # in value / a
        self.shape: Array = (prior + e.value) / e.dispersion  # Gamma shape of a / dispersion
        self.events: Array = e.value / e.dispersion  # outcomes remembered
        self.a: Array = np.where(known, (prior + e.value)[..., None] / self.rate, 1.0)
        weight = _softmax(e.score + _prior_scores(model))
        if model.pooling > 0:
            common = weight.mean(axis=-2, keepdims=True) + 0.25 / shapes.COUNT
            weight = weight * common**model.pooling
            weight = weight / weight.sum(axis=-1, keepdims=True)
        self.weight: Array = weight

    def slopes(self, x: Array, season: Array | None = None) -> Array:
        """Marginal return, value per equal share, at spends of shape (..., K, points)."""
        out: Array = np.einsum("...kj,...kpj->...kp", self.weight * self.a, shapes.slopes(x))
        return out if season is None else out * season[..., None]

    def marginal(self, x: Array) -> Array:
        return self.slopes(x[..., None])[..., 0]

    def values(self, x: Array) -> Array:
        """Expected value a day by arm of spends of shape (..., K)."""
        out: Array = (self.weight * self.a * shapes.values(x)).sum(axis=-1)
        return out

    def gains(self, new: Array, old: Array) -> tuple[Array, Array]:
        """Expected gain a day by arm of spending ``new`` instead of ``old``, and its variance."""
        bend = self.a * (shapes.values(new) - shapes.values(old))
        mean = (self.weight * bend).sum(axis=-1)
        second = (self.weight * bend**2 * (1 + 1 / self.shape[..., None])).sum(axis=-1)
        return mean, np.maximum(second - mean**2, 0.0)

    def doubt(self) -> Array:
        """Relative standard deviation of the level, by arm."""
        return np.asarray(1.0 / np.sqrt(np.maximum(self.shape, 1e-12)))


def factors(evidence: Evidence, bucket: int) -> Array:
    """(..., K) what the arm brings in this bucket of the week, against its mean over buckets."""
    heard = evidence.heard[..., bucket]
    return np.exp(evidence.season[..., bucket] * heard / (heard + TIDE_TRUST))


def observe(
    evidence: Evidence,
    posterior: Posterior,
    model: Model,
    *,
    x: Array,
    value: Array,
    time: Array,
    keep: float,
    bucket: int | None = None,
    margin: Array | None = None,
    delay: Array | None = None,
) -> tuple[Array, Array]:
    """Learn from one period; returns the (..., K) surprise in standard deviations, and the value that was expected.

    ``x``: spend as a rate, in equal shares a day; ``value``: in the period; ``time``: the period's share of the day;
    ``keep``: what remains of older evidence. ``margin``: elasticity (marginal over average return) that the bidder tells,
    NaN where it tells nothing. ``delay``: (..., K, LAGS + 1) shares of outcomes that come so many periods after the spend,
    what is missing to 1 later still. A value far above what was expected counts as :func:`winsorised`.
    """
    e = evidence
    kept = np.where(e.jumping > 0, min(keep, model.jump_keep), keep)
    e.jumping = np.maximum(e.jumping - 1, 0)
    fade(e, kept)
    season = np.ones_like(x) if bucket is None or model.season_rate == 0 else factors(e, bucket)
    now = shapes.values(x)
    bend = now * (time * season)[..., None]
    seen = (x >= MISSING_BELOW) & (time > 0)
    if delay is not None:
        bend = _late(e, bend, delay)
        e.mean_shape += 0.02 * (now * (time * season)[..., None] - e.mean_shape)
        e.lag_x = np.concatenate([x[..., None], e.lag_x[..., :-1]], axis=-1)
        e.lag_time = np.concatenate([(time * season)[..., None], e.lag_time[..., :-1]], axis=-1)
        seen = seen & (bend.max(axis=-1) > 0)
    expected = (posterior.weight * posterior.a * bend).sum(axis=-1)
    value = winsorised(e, posterior, model, value, expected)
    z = _surprised(e, model, value, expected, posterior.shape, seen)
    bend = np.maximum(bend, 1e-12)
    shape = posterior.shape[..., None]
    rate = posterior.rate
    events = (value / e.dispersion)[..., None]
    # of the Gamma-Poisson predictive, what differs between shapes
    fits = shape * np.log(rate / (rate + bend)) + events * np.log(bend / (rate + bend))
    if margin is not None:
        told = np.where(np.isfinite(margin), margin, 0.0)[..., None]
        off = (shapes.elasticity(x) - told) / model.margin_sd
        fits = fits - np.where(np.isfinite(margin)[..., None], 0.5 * off * off, 0.0)
    e.score = e.score + np.where(seen[..., None], fits, 0.0)
    e.score = e.score - e.score.max(axis=-1, keepdims=True)
    e.exposure = e.exposure + np.where(seen[..., None], bend, 0.0)
    e.value = e.value + np.where(seen, value, 0.0)
    good = seen & (expected > 0)
    safe = np.where(good, expected, 1.0)
    most = np.where(value > safe, DISPERSION_JUMP_MAX, DISPERSION_FALL_MAX) * e.dispersion
    measured = np.minimum((value - safe) ** 2 / safe, most)
    learn = good & (e.periods >= 1) & (e.jumping == 0)  # a level that is wrong is no noise
    # a period that expects a tenth of an outcome tells a tenth: silence is no proof that outcomes are small
    rate = DISPERSION_RATE * np.minimum(1.0, safe / e.dispersion)
    e.dispersion = e.dispersion + np.where(learn, rate * (measured - e.dispersion), 0.0)
    e.dispersion = np.maximum(e.dispersion, 1e-9)
    if bucket is not None and model.season_rate > 0:
        _learn_season(e, model, value, safe, good, bucket)
    e.periods = e.periods + seen
    return z, expected


def sane(amounts: Array) -> Array:
    """Finite and from 0 to :data:`VALUE_MAX`, whatever was told: what is not a number counts as nothing."""
    return np.asarray(np.clip(np.nan_to_num(amounts, nan=0.0), 0.0, VALUE_MAX))


def winsorised(e: Evidence, posterior: Posterior, model: Model, value: Array, expected: Array) -> Array:
    """A period's value, at most ``model.outlier`` predictive standard deviations above what was expected, to whose variance
    one outcome's is added: a rare outcome is no outlier. A rise that lasts is followed all the same, in a few periods."""
    e_d = e.dispersion
    variance = expected * e_d + expected * expected / np.maximum(posterior.shape, 1e-12) + e_d * e_d
    top = expected + model.outlier * np.sqrt(variance)
    return np.where(posterior.known[..., None], np.minimum(value, top), value)


def fade(evidence: Evidence, keep: Array | float) -> None:
    kept = np.asarray(keep)
    evidence.value = evidence.value * kept
    evidence.periods = evidence.periods * kept
    evidence.exposure = evidence.exposure * kept[..., None]
    evidence.score = evidence.score * kept[..., None]


def _late(e: Evidence, bend: Array, delay: Array) -> Array:
    old = np.einsum("...kd,...kdj->...kj", delay[..., 1:] * e.lag_time, shapes.values(e.lag_x))
    rest = np.maximum(1.0 - delay.sum(axis=-1), 0.0)
    return np.asarray(delay[..., :1] * bend + old + rest[..., None] * e.mean_shape)


def _surprised(e: Evidence, model: Model, value: Array, expected: Array, shape: Array, seen: Bools) -> Array:
    able = seen & (e.periods >= 3) & (expected > 0)
    variance = expected * e.dispersion + expected * expected / np.maximum(shape, 1e-12)
    z = np.where(able, (value - expected) / np.sqrt(np.where(able, variance, 1.0)), 0.0)
    jumped = (np.abs(z) > model.surprise) & (z * e.surprise > model.surprise**2)
    e.jumping = np.where(jumped, float(model.jump_periods), e.jumping)
    e.surprise = np.where(jumped, 0.0, z)
    return np.asarray(z)


def _learn_season(e: Evidence, model: Model, value: Array, expected: Array, good: Bools, bucket: int) -> None:
    """Own factor only: what all arms share moves no money."""
    ratio = np.log((value + e.dispersion) / (expected + e.dispersion))
    ratio = ratio - np.where(good, ratio, 0.0).sum(axis=-1, keepdims=True) / np.maximum(
        good.sum(axis=-1, keepdims=True), 1
    )
    step = np.where(good, model.season_rate * np.clip(ratio, -1.0, 1.0), 0.0)
    e.season[..., bucket] = np.clip(e.season[..., bucket] + step, -FACTOR_BOUND, FACTOR_BOUND)
    e.heard[..., bucket] += good


def _softmax(scores: Array) -> Array:
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))


def _prior_scores(model: Model) -> Array:
    """Each family has the same weight before anything is seen."""
    out = np.zeros(shapes.COUNT)
    logs, powers = len(shapes.LOG_C), len(shapes.POWER)
    if model.only_log:
        out[logs:] = -1e9
        return out
    out[:logs], out[logs : logs + powers] = -np.log(logs), -np.log(powers)
    out[logs + powers :] = -np.log(shapes.COUNT - logs - powers)
    return out
