"""What is known of each creative's click rate, and how likely it is the best of its group.

Per creative a Beta posterior over clicks per impression. Its prior is content: the line item's click rate (shrunk to
its owner's prior) times the geometric mean of what the creative's features have done for other creatives (format,
colour, message ... as the catalog declares them), worth PRIOR_CLICKS clicks. So a new creative starts where its
like stand, not at nothing. Skips of video and audio make an impression worth less: value = click rate x (1 - SKIP_COST x
skip rate).

Counts decay. All arms teach: each drew by chances that do not depend on the outcome, so clicks per impression of a
creative are honest in each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from counterpoint.base.rng import mix64
from counterpoint.base.seen import hash_id

PRIOR_CLICKS = 1.5  # clicks a creative's prior is worth
ITEM_CLICKS = 5.0  # clicks the owner's prior of a line item is worth
FEATURE_CLICKS = 10.0  # clicks at which a feature's effect counts half
FEATURE_EFFECT_MAX = 3.0
SKIP_IMPRESSIONS = 50.0  # impressions at which a creative's skip rate counts as much as its line item's
SKIP_COST = 0.5
DRAWS = 512
RATE_MIN, RATE_MAX = 1e-6, 0.5

FloatArray = NDArray[np.float64]


class Counts(msgspec.Struct):
    """Decayed."""

    impressions: float = 0.0
    clicks: float = 0.0
    skips: float = 0.0

    def decay(self, factor: float) -> None:
        self.impressions *= factor
        self.clicks *= factor
        self.skips *= factor


class Shown(msgspec.Struct, frozen=True):
    """One creative of one line item, as the catalog has it."""

    creative_id: str
    group: str  # "{line item}|{media}|{w}x{h}": who competes with whom
    features: tuple[str, ...]  # "format=300x250", "colour=red"


class Posterior(msgspec.Struct, frozen=True):
    alpha: float
    beta: float
    quality: float  # what an impression is worth beside its click rate, from skips

    @property
    def mean(self) -> float:
        return self.alpha / (self.alpha + self.beta)


def item_rate(counts: Counts, owner_prior: float) -> float:
    """A line item's click rate, shrunk to what its owner expected."""
    prior = min(max(owner_prior, RATE_MIN), RATE_MAX)
    rate = (counts.clicks + ITEM_CLICKS) / (counts.impressions + ITEM_CLICKS / prior)
    return min(max(rate, RATE_MIN), RATE_MAX)


def feature_effects(shown: Sequence[Shown], counts: dict[str, Counts], rate: float) -> dict[str, float]:
    """Clicks seen with a feature / clicks expected at the line item's rate, shrunk to 1."""
    seen: dict[str, list[float]] = {}
    for creative in shown:
        own = counts.get(creative.creative_id)
        if own is None:
            continue
        for feature in creative.features:
            sums = seen.setdefault(feature, [0.0, 0.0])
            sums[0] += own.clicks
            sums[1] += own.impressions * rate
    return {
        feature: min(
            max((clicks + FEATURE_CLICKS) / (expected + FEATURE_CLICKS), 1 / FEATURE_EFFECT_MAX),
            FEATURE_EFFECT_MAX,
        )
        for feature, (clicks, expected) in seen.items()
    }


def posteriors(shown: Sequence[Shown], counts: dict[str, Counts], owner_prior: float) -> list[Posterior]:
    """Of one line item's creatives, in order."""
    total = Counts()
    for creative in shown:
        own = counts.get(creative.creative_id, Counts())
        total.impressions += own.impressions
        total.clicks += own.clicks
        total.skips += own.skips
    rate = item_rate(total, owner_prior)
    skip_rate = min(total.skips / (total.impressions + SKIP_IMPRESSIONS), 1.0)
    effects = feature_effects(shown, counts, rate)
    found = []
    for creative in shown:
        own = counts.get(creative.creative_id, Counts())
        logs = [math.log(effects[f]) for f in creative.features if f in effects]
        prior = min(max(rate * math.exp(sum(logs) / len(logs)) if logs else rate, RATE_MIN), RATE_MAX)
        clicks = min(own.clicks, own.impressions)  # an impression's pixel may be lost where its click is not
        skipped = (own.skips + SKIP_IMPRESSIONS * skip_rate) / (own.impressions + SKIP_IMPRESSIONS)
        found.append(
            Posterior(
                alpha=PRIOR_CLICKS + clicks,
                beta=PRIOR_CLICKS / prior - PRIOR_CLICKS + own.impressions - clicks,
                quality=1.0 - SKIP_COST * min(skipped, 1.0),
            )
        )
    return found


def chances_of_best(
    group: Sequence[Posterior], seed: int, group_name: str, round_number: int, scale: float
) -> FloatArray:
    """P(best) of each, by DRAWS draws from the posteriors: Thompson's probability matching.

    The draws are a function of (seed, group, round) alone. ``scale`` in (0, 1] narrows the posterior's spread: below 1
    explores less than Thompson would.
    """
    if len(group) == 1:
        return np.ones(1)
    key = mix64(seed ^ mix64(hash_id(group_name)))
    rng = np.random.Generator(np.random.Philox(key=key, counter=round_number << 64))
    narrow = 1.0 / (scale * scale)
    alpha = np.array([p.alpha for p in group]) * narrow
    beta = np.array([p.beta for p in group]) * narrow
    drawn = rng.beta(alpha, beta, size=(DRAWS, len(group))) * np.array([p.quality for p in group])
    won = np.bincount(np.argmax(drawn, axis=1), minlength=len(group)).astype(np.float64)
    return np.asarray((won + 0.5 / len(group)) / (DRAWS + 0.5), dtype=np.float64)
