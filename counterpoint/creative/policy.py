"""The creative policy: which of the fitting creatives of a line item is shown, with which probability.

The learner publishes, per creative, the posterior mean of its click rate and a weight: its probability of being the
best of its group (same line item, media and size), times how good the group is. Drawing with probability
proportional to the weights *is* Thompson sampling (probability matching), and unlike an argmax over one posterior
draw it has an exact propensity, which is logged.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from counterpoint.base.errors import PolicyRefused
from counterpoint.base.ids import digest
from counterpoint.base.jit import njit
from counterpoint.base.rng import mix64, mix64_kernel, uniform, uniform_kernel
from counterpoint.base.unreadable import UNREADABLE
from counterpoint.catalog.model import Creative, LineItem

AGENT = "creative"
EPSILON_MIN, EPSILON_MAX = 0.001, 0.5
EPSILON_DEFAULT = 0.02  # share of draws that is uniform, so that no propensity is 0
WEIGHT_MAX = 1e6
EXPLORATION_MAX = 2_000_000  # ppm
CLICK_RATE_DEFAULT = 0.002  # of a creative no line item shows
_CHOOSE_SALT = 0x6372_6561_7469_7665

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


class CreativeScore(Struct, frozen=True, array_like=True):
    click_rate: float  # posterior mean, in (0, 1)
    weight: float  # >= 0, relative to its line item's other creatives


class CreativePolicy(Struct, frozen=True, kw_only=True):
    """What the creative learner publishes. A creative it does not name keeps the owner's prior and
    weight 1; the learner names all creatives of a line item or none."""

    version: int
    made_at_ns: int
    valid_until_ns: int
    scores: dict[str, CreativeScore] = {}
    epsilon: float = EPSILON_DEFAULT


_ENCODER = msgspec.msgpack.Encoder(order="deterministic")
_DECODER = msgspec.msgpack.Decoder(CreativePolicy)


def encode(policy: CreativePolicy) -> bytes:
    """Equal policies give equal bytes."""
    return _ENCODER.encode(policy)


def decode(payload: bytes, checksum: str | None = None) -> CreativePolicy:
    """Raises :class:`PolicyRefused` on foreign bytes or where ``checksum`` (``digest(payload)``) differs."""
    if checksum is not None and digest(payload) != checksum:
        raise PolicyRefused("creative policy: checksum does not fit the payload; fetch it again")
    try:
        return _DECODER.decode(payload)
    except UNREADABLE as error:
        raise PolicyRefused(f"creative policy: cannot be read: {error}") from error


# ---- the catalog's side, prepared once per catalog


@dataclass(frozen=True, slots=True)
class CreativeFrame:
    """What choosing needs of the catalog, by position in ``creatives`` as given."""

    creative_position: dict[str, int]
    prior: FloatArray  # by creative: mean expected_click_rate of the line items that show it


def prepare_creative(line_items: Sequence[LineItem], creatives: Sequence[Creative]) -> CreativeFrame:
    position = {creative.id: i for i, creative in enumerate(creatives)}
    total, count = np.zeros(len(creatives)), np.zeros(len(creatives))
    for item in line_items:
        for creative_id in item.creative_ids:
            at = position.get(creative_id)
            if at is not None:
                total[at] += item.expected_click_rate
                count[at] += 1
    prior = np.where(count > 0, total / np.maximum(count, 1), CLICK_RATE_DEFAULT)
    return CreativeFrame(creative_position=position, prior=prior)


@dataclass(frozen=True, slots=True)
class CompiledCreative:
    """Arrays for :func:`choose`, by creative position. Swapped whole, never written to."""

    version: int
    valid_until_ns: int
    fallback: bool  # then call with uniform=1
    weight: FloatArray
    click_rate: FloatArray
    epsilon: float


def compile_creative(policy: CreativePolicy | None, frame: CreativeFrame) -> CompiledCreative:
    """``None`` is the stated fallback: uniform among what fits, at the owner's prior. Expects a validated policy."""
    weight = np.ones(len(frame.prior), dtype=np.float64)
    click_rate = frame.prior.copy()
    if policy is not None:
        for creative_id, score in policy.scores.items():
            at = frame.creative_position.get(creative_id)
            if at is not None:
                weight[at] = score.weight
                click_rate[at] = score.click_rate
    return CompiledCreative(
        version=0 if policy is None else policy.version,
        valid_until_ns=2**62 if policy is None else policy.valid_until_ns,
        fallback=policy is None,
        weight=weight,
        click_rate=click_rate,
        epsilon=EPSILON_DEFAULT if policy is None else policy.epsilon,
    )


# ---- refused before use


def checksum(payload: bytes) -> str:
    return digest(payload)


def validate(policy: CreativePolicy, catalog_ids: Collection[str] = ()) -> None:
    """Raise :class:`PolicyRefused` unless every number is finite and in bounds and a golden group is drawn from with
    positive propensities that sum to 1. ``catalog_ids`` is not read: unknown creatives are tolerated."""
    if policy.version < 1 or policy.made_at_ns < 0 or policy.valid_until_ns <= policy.made_at_ns:
        raise PolicyRefused("creative policy: version or times out of order")
    if not (math.isfinite(policy.epsilon) and EPSILON_MIN <= policy.epsilon <= EPSILON_MAX):
        raise PolicyRefused(
            f"creative policy: epsilon {policy.epsilon} is outside [{EPSILON_MIN}, {EPSILON_MAX}]"
        )
    for creative_id, score in policy.scores.items():
        if not (math.isfinite(score.click_rate) and 0.0 < score.click_rate < 1.0):
            raise PolicyRefused(f"creative policy: click rate of {creative_id!r} is {score.click_rate}")
        if not (math.isfinite(score.weight) and 0.0 <= score.weight <= WEIGHT_MAX):
            raise PolicyRefused(f"creative policy: weight of {creative_id!r} is {score.weight}")
    weights = sorted(score.weight for score in policy.scores.values())
    group = [weights[0], weights[len(weights) // 2], weights[-1]] if weights else [0.0, 1.0]
    for exploration in (0, 1_000_000, EXPLORATION_MAX):
        chances = propensities(group, policy.epsilon, exploration)
        if not (min(chances) > 0.0 and abs(sum(chances) - 1.0) < 1e-9):
            raise PolicyRefused(f"creative policy: a golden group is drawn with {chances}")


# ---- the kernel


@njit
def _chance(weight: float, total: float, best: bool, k: int, epsilon: float, exploration: float) -> float:
    """Propensity of one of ``k`` creatives. ``exploration`` 0: the best alone; 1: as the weights say; 2: uniform."""
    uniform_chance = 1.0 / k
    matched = weight / total if total > 0.0 else uniform_chance
    if exploration <= 1.0:
        model = exploration * matched
        if best:
            model += 1.0 - exploration
    else:
        model = (2.0 - exploration) * matched + (exploration - 1.0) * uniform_chance
    return float((1.0 - epsilon) * model + epsilon * uniform_chance)


@njit
def choose(
    m: int,
    cand_li: NDArray[np.int32],
    cand_cr: NDArray[np.int32],
    weight: FloatArray,
    click_rate: FloatArray,
    campaign_of: NDArray[np.int32],
    exploration_ppm: IntArray,
    epsilon: float,
    uniform_flag: int,
    key: np.uint64,
    out_li: NDArray[np.int32],
    out_cr: NDArray[np.int32],
    out_propensity: FloatArray,
    out_ctr: FloatArray,
) -> int:
    """Draw one creative per line item and return how many line items there were.

    ``cand_li``, ``cand_cr`` parallel positions, first ``m`` used, equal line items adjacent. ``weight`` and
    ``click_rate`` by creative, ``campaign_of`` by line item, ``exploration_ppm`` (resolved setting
    ``campaign/{id}/exploration``, 0..2,000,000) by campaign. ``uniform_flag`` 1: every candidate alike (the fallback arm).
    The draw of a line item depends on ``key`` and its position alone, not on what else was eligible. Propensities are
    exact and never 0.
    """
    draws = np.uint64(key ^ mix64_kernel(np.uint64(_CHOOSE_SALT)))
    n = 0
    start = 0
    while start < m:
        item = cand_li[start]
        end = start + 1
        while end < m and cand_li[end] == item:
            end += 1
        k = end - start
        total = 0.0
        best = start
        for i in range(start, end):
            w = weight[cand_cr[i]]
            total += w
            if w > weight[cand_cr[best]]:
                best = i
        exploration = min(max(exploration_ppm[campaign_of[item]], 0), EXPLORATION_MAX) / 1e6
        if uniform_flag != 0:
            exploration = 2.0
        u = uniform_kernel(draws, np.uint64(item))
        chosen = end - 1
        propensity = 0.0
        below = 0.0
        for i in range(start, end):
            propensity = _chance(weight[cand_cr[i]], total, i == best, k, epsilon, exploration)
            below += propensity
            if u < below:
                chosen = i
                break
        out_li[n] = item
        out_cr[n] = cand_cr[chosen]
        out_propensity[n] = propensity
        out_ctr[n] = click_rate[cand_cr[chosen]]
        n += 1
        start = end
    return n


def propensities(
    weights: Sequence[float], epsilon: float, exploration_ppm: int, *, uniform_flag: bool = False
) -> list[float]:
    """The chances :func:`choose` draws one line item's creatives with, in order.

    >>> [round(p, 3) for p in propensities([3.0, 1.0], 0.02, 1_000_000)]
    [0.745, 0.255]
    """
    total = 0.0
    for weight in weights:
        total += weight
    best = max(range(len(weights)), key=lambda i: weights[i])
    exploration = 2.0 if uniform_flag else min(max(exploration_ppm, 0), EXPLORATION_MAX) / 1e6
    chance = _chance.py_func  # type: ignore[attr-defined]
    return [
        float(chance(float(w), total, i == best, len(weights), epsilon, exploration))
        for i, w in enumerate(weights)
    ]


def explain_choice(
    candidates: Sequence[int],
    compiled: CompiledCreative,
    item: int,
    *,
    exploration_ppm: int,
    uniform_flag: bool,
    key: int,
) -> tuple[int, list[float]]:
    """(position within ``candidates`` that was drawn, the chance of each): equal to :func:`choose` for this line item."""
    chances = propensities(
        [float(compiled.weight[c]) for c in candidates],
        compiled.epsilon,
        exploration_ppm,
        uniform_flag=uniform_flag,
    )
    u = uniform(key ^ mix64(_CHOOSE_SALT), item)
    below = 0.0
    for at, chance in enumerate(chances):
        below += chance
        if u < below:
            return at, chances
    return len(chances) - 1, chances
