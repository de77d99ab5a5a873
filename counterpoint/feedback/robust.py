"""Has a series left its usual range? Robust z-scores: medians instead of means, so that an anomaly cannot hide itself.

``LevelWatch`` judges a positive level (a CPM, a rate, a latency) on the log scale, against the same place of earlier
seasons; ``RatioWatch`` judges successes out of trials with their exposure, and waits until there is enough of it.
Both raise one alarm and then keep quiet for a while, and say NaN while they cannot know.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from msgspec import Struct

MAD_TO_SD = 1.4826
NAN = float("nan")


class LevelRule(Struct, frozen=True, kw_only=True):
    season: int = 1  # points per season; 1: none
    seasons: int = 60  # how many earlier ones make the expectation
    residuals: int = 120  # over which the scale is taken
    warm_up: int = 20  # residuals before anything is judged
    expectation_min: int = 5  # earlier points before there is an expectation
    threshold: float = 5.0
    scale_floor: float = 0.05  # log units: what moves less is no news, however steady it was
    refractory: int = 24  # points


class RatioRule(Struct, frozen=True, kw_only=True):
    trials_min: int = 30
    expected_min: float = 8.0  # successes, and failures, that the chunk should have had
    warm_up: int = 5  # chunks in the baseline
    together: int = 4  # chunks that are also judged as one
    threshold: float = 5.0
    keep: float = 0.95  # of the baseline per chunk: half-life about 14 chunks
    spread_rate: float = 0.05
    spread_max: float = 10.0
    refractory: int = 5  # chunks


class Judged(Struct, frozen=True):
    """One judged point. ``alarm``: |z| reached the threshold and no alarm was raised lately."""

    observed: float
    expected: float
    z: float
    alarm: bool


UNKNOWN = Judged(NAN, NAN, NAN, False)


def median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


class LevelWatch(Struct):
    values: list[float] = []  # log, newest last
    residuals: list[float] = []  # those of warm-up are not among them: zeros would collapse the scale
    quiet: int = 0

    def judge(self, value: float, rule: LevelRule) -> Judged:
        """Take the next point (positive; anything else is passed over) and judge it against those before it."""
        if not (value > 0 and math.isfinite(value)):
            return UNKNOWN
        log = math.log(value)
        before = self.values[-rule.season :: -rule.season][: rule.seasons]
        self.values = [*self.values, log][-rule.season * rule.seasons :]
        self.quiet = max(0, self.quiet - 1)
        if len(before) < rule.expectation_min:
            return UNKNOWN
        expected = median(before)
        residual = log - expected
        z = NAN
        alarm = False
        if len(self.residuals) >= rule.warm_up:
            spread = MAD_TO_SD * median([abs(r) for r in self.residuals])
            z = residual / max(spread, rule.scale_floor)
            if abs(z) >= rule.threshold and self.quiet == 0:
                alarm = True
                self.quiet = rule.refractory
        self.residuals = [*self.residuals, residual][-rule.residuals :]
        return Judged(value, math.exp(expected), z, alarm)


class RatioWatch(Struct):
    trials: float = 0.0  # of the chunk that is being gathered
    successes: float = 0.0
    recent: list[tuple[float, float, float]] = []  # (successes, trials, deviation), not in the baseline yet
    base_trials: float = 0.0  # discounted
    base_successes: float = 0.0
    spread: float = 1.0  # overdispersion: measured variance over binomial variance
    chunks: int = 0
    quiet: int = 0

    def judge(self, successes: float, trials: float, rule: RatioRule) -> Judged:
        """Gather one more interval; judge when there is enough to judge: the newest chunk alone, and the last few
        together, so that a lasting change too small for one chunk is found. They join the baseline only afterwards.

        Successes beyond the trials count as trials (an outcome may be heard one interval after its exposure).
        """
        self.trials += max(trials, 0.0)
        self.successes += max(successes, 0.0)
        y, n = min(self.successes, self.trials), self.trials
        base = self.base_successes / self.base_trials if self.base_trials > 0 else y / n if n else 0.0
        if n < rule.trials_min or n * min(base, 1 - base) < rule.expected_min:
            return UNKNOWN
        self.trials = self.successes = 0.0
        self.quiet = max(0, self.quiet - 1)
        known = self.chunks >= rule.warm_up + rule.together
        raw = self._deviation(y, n) if known else NAN
        self.recent = [*self.recent, (y, n, raw)]
        judged = UNKNOWN
        if known:
            lately = self._deviation(sum(c[0] for c in self.recent), sum(c[1] for c in self.recent))
            z = max(raw, lately, key=abs) / math.sqrt(self.spread)
            alarm = abs(z) >= rule.threshold and self.quiet == 0
            if alarm:
                self.quiet = rule.refractory
            judged = Judged(y / n, base, z, alarm)
        while len(self.recent) >= rule.together:
            self._learn(*self.recent.pop(0), rule)
        self.chunks += 1
        return judged

    def _learn(self, successes: float, trials: float, raw: float, rule: RatioRule) -> None:
        self.base_trials = self.base_trials * rule.keep + trials
        self.base_successes = self.base_successes * rule.keep + successes
        if math.isnan(raw) or self.quiet:
            return  # what just raised an alarm must not widen what is usual
        self.spread += rule.spread_rate * (min(raw * raw, 9.0 * self.spread) - self.spread)
        self.spread = min(max(self.spread, 1.0), rule.spread_max)

    def _deviation(self, successes: float, trials: float) -> float:
        """Variance-stabilised (Anscombe), with the doubt about the baseline: tails near the normal's at small counts."""
        effective = 1 / (1 / trials + 1 / self.base_trials)
        return (
            2
            * math.sqrt(effective)
            * (_angle(successes, trials) - _angle(self.base_successes, self.base_trials))
        )


def _angle(successes: float, trials: float) -> float:
    return math.asin(math.sqrt((successes + 0.375) / (trials + 0.75)))
