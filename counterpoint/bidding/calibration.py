"""Whether predicted chances come true on what we won, and the factor that makes them.

Fitted on won impressions only, each weighing 1, with what was predicted of it *before* it was learned: we win where we
think too much of an impression, and only there does it cost money. The factor on odds of a group "{campaign}|{exchange}"
is (seen + PRIOR x parent) / (predicted + PRIOR), its parents "*|{exchange}" and "*|*": nothing is estimated from nothing.
"""

from __future__ import annotations

import math
from typing import Final

import msgspec

from counterpoint.bidding.chances import CALIBRATION_MAX, CALIBRATION_MIN, CALIBRATIONS_MAX

PRIOR: Final = 100.0  # predicted events at which a group counts as much as its parent; at 20 it added noise
WORTH_SAYING: Final = 0.01  # a factor nearer to its parent's is not published
BINS: Final = 24  # of predicted chance: each twice the one before, the last from 1/2 on
EVERYTHING: Final = "*|*"


class Sums(msgspec.Struct, array_like=True):
    """Decayed."""

    seen: float = 0.0
    predicted: float = 0.0


class Reliable(msgspec.Struct, array_like=True):
    """One bin of predicted chance; decayed."""

    rows: float = 0.0
    seen: float = 0.0
    predicted: float = 0.0
    variance: float = 0.0


class Reliability(msgspec.Struct, frozen=True):
    """What is monitored: seen / predicted, how far that is from chance, and by predicted chance."""

    rows: float
    ratio: float
    z: float  # (seen - predicted) / its standard deviation if every prediction were right
    bins: tuple[tuple[float, float, float], ...]  # (mean predicted, mean seen, rows) where there are any


class Calibration(msgspec.Struct):
    groups: dict[str, Sums] = {}
    bins: list[Reliable] = msgspec.field(default_factory=lambda: [Reliable() for _ in range(BINS)])

    def add(
        self, campaign: str, exchange: str, raw: float, predicted: float, seen: float, weight: float = 1.0
    ) -> None:
        """``raw`` before this calibration, ``predicted`` after it: the first fits the factor, the second is judged."""
        for name in (f"{campaign}|{exchange}", f"*|{exchange}", EVERYTHING):
            sums = self.groups.get(name)
            if sums is None:
                if len(self.groups) >= CALIBRATIONS_MAX:
                    continue  # a further group has its parents' factor
                sums = self.groups[name] = Sums()
            sums.seen += seen
            sums.predicted += raw * weight
        if weight > 0.0 or seen != 0.0:
            at = min(max(BINS + math.floor(math.log2(max(predicted, 1e-9))), 0), BINS - 1)
            one = self.bins[at]
            one.rows += weight
            one.seen += seen
            one.predicted += predicted * weight
            one.variance += predicted * (1.0 - predicted) * weight

    def decay(self, factor: float) -> None:
        for sums in self.groups.values():
            sums.seen *= factor
            sums.predicted *= factor
        for one in self.bins:
            one.rows, one.seen = one.rows * factor, one.seen * factor
            one.predicted, one.variance = one.predicted * factor, one.variance * factor

    def forget(self, campaigns: set[str]) -> None:
        """Keep only these campaigns, and the parents."""
        kept = {*campaigns, "*"}
        self.groups = {name: sums for name, sums in self.groups.items() if name.rpartition("|")[0] in kept}

    def factor(self, campaign: str, exchange: str) -> float:
        factor = 1.0
        for name in (EVERYTHING, f"*|{exchange}", f"{campaign}|{exchange}"):
            factor = self._shrunk(name, factor)
        return factor

    def _shrunk(self, name: str, parent: float) -> float:
        sums = self.groups.get(name)
        if sums is None:
            return parent
        factor = (max(sums.seen, 0.0) + PRIOR * parent) / (sums.predicted + PRIOR)
        return min(max(factor, CALIBRATION_MIN), CALIBRATION_MAX)

    def factors(self) -> dict[str, float]:
        """All that differ from their parent, by name, as a policy carries them."""
        found: dict[str, float] = {}
        everything = self._shrunk(EVERYTHING, 1.0)
        if abs(everything - 1.0) > WORTH_SAYING:
            found[EVERYTHING] = everything
        for name in sorted(self.groups):
            campaign, _, exchange = name.rpartition("|")
            if name == EVERYTHING:
                continue
            parent = everything if campaign == "*" else self._shrunk(f"*|{exchange}", everything)
            factor = self._shrunk(name, parent)
            if abs(factor / parent - 1.0) > WORTH_SAYING or campaign == "*":
                found[name] = factor
        return found

    def reliability(self) -> Reliability:
        rows, seen = sum(b.rows for b in self.bins), sum(b.seen for b in self.bins)
        predicted, variance = sum(b.predicted for b in self.bins), sum(b.variance for b in self.bins)
        return Reliability(
            rows=rows,
            ratio=seen / predicted if predicted > 0.0 else 1.0,
            z=(seen - predicted) / math.sqrt(variance) if variance > 0.0 else 0.0,
            bins=tuple((b.predicted / b.rows, b.seen / b.rows, b.rows) for b in self.bins if b.rows >= 1.0),
        )
