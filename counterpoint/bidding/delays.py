"""How long after the click its conversion comes, per advertiser: product limit on age, right-censored.

A click is at risk in an age bin from when it enters it until it converts; hazard = conversions in the bin / clicks that
entered it (Kaplan-Meier). 1 - the product of (1 - hazard) is the chance to have converted by then, and divided by its
value at the window's end it is G(age): which share of the conversions that will ever come has come. A click of age a
then counts as G(a) of a trial, so a fresh campaign is not taken for one that does not convert.

Hazards are shrunk to those of all advertisers together, and these to DEFAULT, by PRIOR_CONVERSIONS; where no click has
lived long enough yet, they are the parent's.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from counterpoint.base.clock import NS_PER_S

F64 = NDArray[np.float64]

# lower edges of the age bins: 0, 15 s, then half as much again up to 30 days
EDGES_S: Final = (0.0, *(15.0 * 1.5**k for k in range(30)))
BINS: Final = len(EDGES_S)
WINDOW_S: Final = 30 * 86_400.0
_ENDS_S: Final = np.array((*EDGES_S[1:], WINDOW_S))
_EDGES_NS: Final = tuple(int(edge * NS_PER_S) for edge in EDGES_S)
PRIOR_CONVERSIONS: Final = 10.0
RATE_GUESS: Final = 0.03
REFRESH_SHARE: Final = 0.02  # curves are estimated anew when conversions grew by this, and as they decay
ADVERTISERS_MAX: Final = 4_096  # further ones teach only all together
EVERYBODY: Final = ""


def default_curve() -> F64:
    """Before anything was seen: half within half an hour, a long tail. At the ends of the bins."""
    shape = 1.0 / (1.0 + (1_800.0 / _ENDS_S) ** 0.7)
    return np.asarray(shape / shape[-1])


class Ages(msgspec.Struct):
    """Of one advertiser, by bin; decayed."""

    entered: list[float]
    converted: list[float]

    @classmethod
    def none(cls) -> Ages:
        return cls([0.0] * BINS, [0.0] * BINS)


def bin_of(age_ns: int) -> int:
    """The bin of an age, 0 for what is not above it."""
    return max(bisect_right(_EDGES_NS, age_ns) - 1, 0)


def enters_at_ns(at: int) -> int | None:
    """The age at which a click enters bin ``at``; None past the last."""
    return _EDGES_NS[at] if at < BINS else None


class DelaysState(msgspec.Struct):
    ages: dict[str, Ages] = msgspec.field(default_factory=lambda: {EVERYBODY: Ages.none()})
    curves: dict[str, list[float]] = {}  # as last estimated: G at the end of each bin
    unseen: int = 0  # conversions since then


class Delays:
    def __init__(self, state: DelaysState | None = None) -> None:
        self.state = state if state is not None else DelaysState()

    def entered(self, advertiser: str, at: int) -> None:
        for name in (EVERYBODY, advertiser):
            ages = self._of(name)
            if ages is not None:
                ages.entered[at] += 1.0

    def converted(self, advertiser: str, age_ns: int) -> None:
        at = bin_of(age_ns)
        for name in (EVERYBODY, advertiser):
            ages = self._of(name)
            if ages is not None:
                ages.converted[at] += 1.0
        self.state.unseen += 1
        if self.state.unseen > REFRESH_SHARE * sum(self.state.ages[EVERYBODY].converted):
            self.refresh()

    def _of(self, name: str) -> Ages | None:
        ages = self.state.ages.get(name)
        if ages is None and len(self.state.ages) < ADVERTISERS_MAX:
            ages = self.state.ages[name] = Ages.none()
        return ages

    def decay(self, factor: float) -> None:
        for ages in self.state.ages.values():
            ages.entered = [n * factor for n in ages.entered]
            ages.converted = [n * factor for n in ages.converted]

    def refresh(self) -> None:
        """Curves are estimated anew when next asked for."""
        self.state.curves.clear()
        self.state.unseen = 0

    def curve(self, advertiser: str) -> F64:
        """G at the end of each bin: never decreasing, in (0, 1], 1 at the last."""
        return np.array(self._curve(advertiser))

    def _curve(self, advertiser: str) -> list[float]:
        state = self.state
        name = advertiser if advertiser in state.ages else EVERYBODY
        found = state.curves.get(name)
        if found is None:
            parent = default_curve() if name == EVERYBODY else self.curve(EVERYBODY)
            found = state.curves[name] = _product_limit(state.ages[name], parent).tolist()
        return found

    def share_at(self, advertiser: str, at: int) -> float:
        """G in the middle of bin ``at``."""
        curve = self._curve(advertiser)
        return (curve[at] + (curve[at - 1] if at else 0.0)) / 2.0


def _product_limit(ages: Ages, parent: F64) -> F64:
    entered, converted = np.array(ages.entered), np.array(ages.converted)
    # how often this advertiser's clicks convert in the end, against which the parent's shape is laid
    matured = float(entered @ np.diff(parent, prepend=0.0))
    rate = (float(converted.sum()) + PRIOR_CONVERSIONS * RATE_GUESS) / (matured + PRIOR_CONVERSIONS)
    rate = min(max(rate, 1e-4), 0.9)
    before = np.concatenate([[0.0], parent[:-1]])
    prior_converted = PRIOR_CONVERSIONS * (parent - before)
    prior_entered = PRIOR_CONVERSIONS / rate * (1.0 - rate * before)
    hazard = (converted + prior_converted) / np.maximum(entered + prior_entered, 1e-12)
    reached = 1.0 - np.cumprod(1.0 - np.clip(hazard, 0.0, 0.999))
    return np.asarray(reached / reached[-1])
