"""From curves to the next split, safely: floors, trust region, hysteresis, damped reversals, a rule against the incumbent.

Everything is in equal shares of the pool, so that the sum of a split is the number of arms. Arrays are (..., K) with any
leading axes: the same code splits one live pool and a thousand simulated ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from msgspec import Struct

from counterpoint.budget.response import Posterior
from counterpoint.budget.shapes import Array, Bools
from counterpoint.budget.water_filling import fit, water_fill, widen

SEGMENTS: Final = 32
STEP_LEAST: Final = 0.15  # of the trust region, on the log scale: what is left of it after reversals
Z90: Final = 1.645
ROUNDING: Final = 1e-9
PPM_ROUNDING: Final = 1e-5  # shares are told in ppm: no further out of its bounds, a split is not out of them


class Safety(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    trust_factor: float = 1.2  # a budget moves at most by this factor per period
    floor_share: float = 0.03  # of an equal share: exploration floor
    gain_min: float = 0.002  # a split is moved for a gain of at least this share of the pool's value ...
    doubt: float = 0.25  # ... and this many standard deviations
    reversal: float = 0.5  # of its step is left to an arm that turns round; it grows back by half a period
    behind: float = (
        0.02  # of the fixed split's value: so far behind it, with 95 % certainty, sends the pool back to it
    )
    behind_keep: float = 0.95  # memory of that comparison, per period
    rest_periods: int = 20  # for which the fixed split then holds
    evidence_min: float = 5.0  # outcomes remembered of the pool: with fewer, its split stays as it is
    idle_above: float = (
        0.9  # who spends less of its money than this gets no more than a tenth above what it spends
    )


@dataclass
class Standing:
    """What the safety rules remember. (..., K), and (...) for the last four."""

    step: Array  # of the trust region, log scale: 0..1
    went: Array  # direction of the last move: -1, 0, 1
    lead: Array  # discounted value of our split less the fixed one, as the curves see it
    lead_variance: Array
    worth: Array  # discounted value of the fixed split
    resting: Array  # periods for which the fixed split still holds

    @staticmethod
    def fresh(shape: tuple[int, ...]) -> Standing:
        top = shape[:-1]
        return Standing(
            np.ones(shape), np.zeros(shape), np.zeros(top), np.zeros(top), np.zeros(top), np.zeros(top)
        )


@dataclass(frozen=True)
class Proposed:
    x: Array  # (..., K) the next split: the current one where nothing is to be moved
    moved: Bools  # (...) whether it differs
    gain: Array  # (...) expected gain a day, and its standard deviation
    gain_sd: Array
    value: Array  # (...) expected value a day of the current split
    marginal: Array  # (..., K) marginal returns at the current split
    returned: Bools  # (...) whether the fixed split holds because we fell behind it


def propose(
    posterior: Posterior,
    standing: Standing,
    safety: Safety,
    x: Array,
    fixed: Array,
    *,
    least: Array | float = 0.0,
    most: Array | float = np.inf,
    frozen: Bools | None = None,
    spent: Array | None = None,
    season: Array | None = None,
    tilt: Array | None = None,
    alarmed: Bools | None = None,
) -> Proposed:
    """The next split after ``x``. ``fixed``: the split of the owner, which holds when ours falls behind it.

    ``least``, ``most``: the owner's bounds, which always hold. ``frozen``: arms whose money stays, whatever their bounds. Where
    these together cannot hold the sum, nothing is moved. ``spent``: what of ``x`` was spent.
    ``season``: factors of the coming bucket of the week. ``tilt``: the residual policy's log factors on marginal returns.
    ``alarmed``: arms whose curve has just jumped get their whole step back.
    """
    total = x.sum(axis=-1)
    arms = x.shape[-1]
    if alarmed is not None:
        standing.step = np.where(alarmed, 1.0, standing.step)
    whole = np.broadcast_to(total[..., None], x.shape)
    hard_most = np.minimum(np.broadcast_to(most, x.shape), whole)
    hard_least = np.minimum(np.broadcast_to(least, x.shape), hard_most)
    if frozen is not None:
        hard_least, hard_most = np.where(frozen, x, hard_least), np.where(frozen, x, hard_most)
    sums = hard_least.sum(axis=-1), hard_most.sum(axis=-1)
    able = (sums[0] <= total * (1 + ROUNDING)) & (total <= sums[1] * (1 + ROUNDING))
    hard_least, hard_most = (np.where(able[..., None], hard, x) for hard in (hard_least, hard_most))
    span = np.log(safety.trust_factor) * standing.step
    floor = safety.floor_share * total[..., None] / arms
    low = np.maximum(x * np.exp(-span), floor)
    high = np.maximum(x * np.exp(span), floor)
    if spent is not None:
        idle = spent < safety.idle_above * x
        capped = np.maximum(np.maximum(spent * 1.1, low), floor)
        high = np.where(idle, np.minimum(high, capped), high)
    rests = (standing.resting > 0)[..., None]
    owners = fit(fixed, hard_least, hard_most, total)
    low, high = widen(low, high, hard_least, hard_most, total)
    low, high = np.where(rests, owners, low), np.where(rests, owners, high)
    scale = np.ones_like(x) if season is None else season
    if tilt is not None:
        scale = scale * np.exp(tilt)
    new = fit(_fill(posterior, scale, low, high, total), low, high, total)
    mean, variance = posterior.gains(new, x)
    gain, sd = (mean * scale).sum(axis=-1), np.sqrt((variance * scale**2).sum(axis=-1))
    value = posterior.values(x).sum(axis=-1)
    # alike for all and concave, a prior alone would always find a gain in the equal split
    shown = posterior.events.sum(axis=-1) >= safety.evidence_min
    worth = (gain > np.maximum(safety.gain_min * value, safety.doubt * sd)) & (gain > 0) & shown
    out = (np.maximum(x - hard_most, hard_least - x) > PPM_ROUNDING * whole).any(axis=-1)
    back = np.where(np.asarray(out)[..., None], fit(x, hard_least, hard_most, total), x)
    new = np.where((worth | rests[..., 0])[..., None], new, back)
    moved = able & (np.abs(new - x).sum(axis=-1) > 1e-9)
    new = np.where(moved[..., None], new, x)
    _damp(standing, safety, x, new)
    returned = _compare(posterior, standing, safety, x, fixed)
    return Proposed(new, moved, gain, sd, value, posterior.marginal(x), returned)


def _fill(posterior: Posterior, scale: Array, low: Array, high: Array, total: Array) -> Array:
    """Water-filling in pieces, then in finer ones around the answer."""
    coarse = water_fill(lambda at: posterior.slopes(at, scale), low, high, total, SEGMENTS)
    piece = 2.0 * (high - low).max(axis=-1, keepdims=True) / SEGMENTS
    near, far = np.maximum(low, coarse - piece), np.minimum(high, coarse + piece)
    return water_fill(lambda at: posterior.slopes(at, scale), near, far, total, SEGMENTS)


def _damp(standing: Standing, safety: Safety, x: Array, new: Array) -> None:
    """An arm that turns round moves in smaller steps from then on, so that it settles instead of swinging."""
    way = np.sign(new - x) * (np.abs(new - x) > 0.01 * np.maximum(x, 1e-9))
    turned = way * standing.went < 0
    grown = np.minimum(standing.step * 1.5, 1.0)
    standing.step = np.where(
        turned,
        np.maximum(standing.step * safety.reversal, STEP_LEAST),
        np.where(way != 0, grown, standing.step),
    )
    standing.went = np.where(way != 0, way, standing.went)


def _compare(posterior: Posterior, standing: Standing, safety: Safety, x: Array, fixed: Array) -> Bools:
    """Conservative rule: as soon as the split is behind the fixed one by more than ``behind`` of its value with 95 %
    certainty (one-sided, by the curves' posterior over the remembered periods), the fixed one holds for a while."""
    mean, variance = posterior.gains(x, fixed)
    keep = safety.behind_keep
    standing.lead = standing.lead * keep + mean.sum(axis=-1)
    # errors of one curve are the same error every period: standard deviations add, not variances
    sd = np.sqrt(standing.lead_variance) * keep + np.sqrt(variance.sum(axis=-1))
    standing.lead_variance = sd**2
    standing.worth = standing.worth * keep + posterior.values(fixed).sum(axis=-1)
    behind = standing.lead + Z90 * sd < -safety.behind * standing.worth
    fell = behind & (standing.resting <= 0)  # on the way back it is behind still
    standing.resting = np.where(fell, float(safety.rest_periods), np.maximum(standing.resting - 1, 0))
    for name in ("lead", "lead_variance", "worth"):
        setattr(standing, name, np.where(standing.resting > 0, 0.0, getattr(standing, name)))
    return np.asarray(standing.resting > 0)
