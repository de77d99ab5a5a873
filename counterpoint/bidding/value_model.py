"""Chances of a click and of a conversion per click, from features: usable alone, thousands at a time or one.

Both are an offset and what three experts do to its odds (stack.py): plain counts (for clicks the segment's factor, for
conversions nothing), features, and features calibrated. For clicks the offset is what is known of the creative (the
Creative agent's click rate, or the owner's prior), for conversions the line item's rate of orders per click. So a new
campaign starts at its parent's, and a feature has to earn what it says.

>>> model = ValueModel()
>>> seen = Impressions.of([Shown(exchange="adx", media="banner", campaign="c", line_item="l", click_rate=0.01)])
>>> click, conversion = model.predict(seen)
>>> float(round(click[0], 6)), float(round(conversion[0], 6))
(0.01, 0.02)
>>> model.learn_clicks(seen, clicked=[True])
>>> bool(model.predict(seen)[0][0] > 0.01)
True
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from counterpoint.base.seen import hash_id
from counterpoint.bidding.calibration import Calibration, Reliability
from counterpoint.bidding.chances import ValueWeights, pack_slots
from counterpoint.bidding.features import (
    CONTEXT_BYTES,
    FIELDS,
    SOURCES,
    U64,
    exposure_level,
    feature,
    sources_of,
)
from counterpoint.bidding.logistic import Logistic, logit
from counterpoint.bidding.segments import Segments
from counterpoint.bidding.stack import Stack

F64 = NDArray[np.float64]

NO_CONTEXT_BYTES = bytes(CONTEXT_BYTES)
NAMES_MAX = 65_536
KEPT_MIN = 1e-12  # what any silence leaves of what was learned: as good as nothing, and no division by 0
name_hash = lru_cache(maxsize=NAMES_MAX)(hash_id)  # campaigns, line items, segments


class Shown(Struct, frozen=True, kw_only=True):
    """One impression in plain words. Empty or 0: not known. ``exposed``: how often the person was shown the line item
    before, and ``person_shown`` anything (None: no consent)."""

    exchange: str
    media: str
    campaign: str
    line_item: str
    click_rate: float  # of the creative, before features
    conversion_rate: float = 0.02  # per click of the line item, before features
    place: str = ""  # domain or bundle
    category: str = ""
    size: str = ""
    position: str = ""
    hour_of_week: int = 0
    device: str = ""
    country: str = ""
    person_shown: int | None = None
    exposed: int = 0

    def context(self) -> bytes:
        """As a BidPlaced carries it."""
        said = {
            "place": self.place,
            "category": self.category,
            "size": self.size,
            "position": self.position,
            "hour": str(self.hour_of_week % 24),
            "hour_of_week": str(self.hour_of_week),
            "device": self.device,
            "country": self.country,
            "person": "" if self.person_shown is None else str(exposure_level(self.person_shown)),
        }
        return np.array([feature(field, said[field]) for field in FIELDS], "<u4").tobytes()


class Impressions(Struct, frozen=True):
    """Many at once."""

    rows: U64  # [n, SOURCES], features.sources_of
    click_rates: F64
    conversion_rates: F64
    groups: list[tuple[str, str]]  # (campaign, segment)

    def __len__(self) -> int:
        return len(self.groups)

    @classmethod
    def of(cls, shown: Sequence[Shown]) -> Impressions:
        return cls(
            np.array(
                [
                    sources_of(
                        s.context(),
                        name_hash(f"{s.exchange}/{s.media}"),
                        name_hash(s.campaign),
                        name_hash(s.line_item),
                        exposure_level(s.exposed if s.person_shown is not None else 0),
                    )
                    for s in shown
                ],
                dtype=np.uint64,
            ).reshape(len(shown), SOURCES),
            np.array([s.click_rate for s in shown], dtype=np.float64),
            np.array([s.conversion_rate for s in shown], dtype=np.float64),
            [(s.campaign, f"{s.exchange}/{s.media}") for s in shown],
        )


class Snapshot(Struct):
    click: bytes
    conversion: bytes
    click_calibration: Calibration
    conversion_calibration: Calibration
    segments: Segments = msgspec.field(default_factory=Segments)
    click_stack: Stack = msgspec.field(default_factory=Stack)
    conversion_stack: Stack = msgspec.field(default_factory=Stack)


class ValueModel:
    """No I/O, no clock, no chance: what it knows is a function of what it learned, in order.

    ``refused`` counts rows left out because a rate was no chance."""

    def __init__(self) -> None:
        self._click, self._conversion = Logistic(), Logistic()
        self._click_calibration, self._conversion_calibration = Calibration(), Calibration()
        self._click_stack, self._conversion_stack = Stack(), Stack()
        self._segments = Segments()
        self.refused = 0

    # ---- asking

    def predict(self, seen: Impressions) -> tuple[F64, F64]:
        """(chance of a click, of a conversion per click), in [0, 1]. A rate that is no chance gives 0."""
        counts = np.array([self._segments.factor(segment) for _, segment in seen.groups], dtype=np.float64)
        click = self._predict(
            self._click, self._click_calibration, self._click_stack, seen, seen.click_rates, counts
        )
        return click, self._predict(
            self._conversion,
            self._conversion_calibration,
            self._conversion_stack,
            seen,
            seen.conversion_rates,
            np.ones(len(seen)),
        )

    def _predict(
        self, of: Logistic, by: Calibration, among: Stack, seen: Impressions, rates: F64, counts: F64
    ) -> F64:
        given = logit(rates) + np.log(counts)
        raw = of.predict(seen.rows, given)
        known = {
            group: (*among.shares(group[0]), by.factor(group[0], _exchange(group[1])))
            for group in set(seen.groups)
        }
        plain, features, calibrated, factors = (
            np.array([known[group] for group in seen.groups]).reshape(-1, 4).T
        )
        odds = np.exp(given) * plain + raw / (1.0 - raw) * (features + calibrated * factors)
        return np.asarray(np.where(_chances(rates), odds / (1.0 + odds), 0.0))

    def reliability(self) -> tuple[Reliability, Reliability]:
        """Of clicks and of conversions: whether predictions came true, on what was won."""
        return self._click_calibration.reliability(), self._conversion_calibration.reliability()

    def weights(self) -> ValueWeights:
        """What a policy carries."""
        return ValueWeights(
            slots=pack_slots(self._click.weights(), self._conversion.weights()),
            click_calibrations=self._click_calibration.factors(),
            conversion_calibrations=self._conversion_calibration.factors(),
            click_shares=self._click_stack.published(),
            conversion_shares=self._conversion_stack.published(),
        )

    def segment_factors(self) -> dict[str, float]:
        """What plain counts do to click rates, by segment and its parents."""
        return self._segments.factors()

    # ---- learning, from won impressions only

    def learn_clicks(self, seen: Impressions, clicked: Any, weights: Any = None) -> None:
        """``clicked`` 0 or 1 for each. ``weights``: of the impression as a trial, 1 by default; 0 for a click whose
        impression was already learned without it."""
        self._learn(
            self._click, self._click_calibration, self._click_stack, seen, seen.click_rates, clicked, weights,
            self._segments,
        )  # fmt: skip

    def learn_conversions(self, seen: Impressions, converted: Any, weights: Any = None) -> None:
        """Of clicks. ``weights``: which part of a trial the click is by now (Delays.share_at)."""
        self._learn(
            self._conversion, self._conversion_calibration, self._conversion_stack, seen, seen.conversion_rates,
            converted, weights, None,
        )  # fmt: skip

    def _learn(
        self,
        of: Logistic,
        by: Calibration,
        among: Stack,
        seen: Impressions,
        rates: F64,
        labels: Any,
        weights: Any,
        counts: Segments | None,
    ) -> None:
        y = np.asarray(labels, dtype=np.float64)
        w = np.ones(len(seen)) if weights is None else np.asarray(weights, dtype=np.float64)
        sound = _chances(rates) & np.isfinite(w) & (w >= 0.0) & (w <= 1.0) & ((y == 0.0) | (y == 1.0))
        at = np.flatnonzero(sound)
        self.refused += len(seen) - len(at)
        if not len(at):
            return
        given = logit(rates[at])
        if counts is not None:
            given += np.log([counts.factor(seen.groups[k][1]) for k in at.tolist()])
        raw = of.learn(seen.rows[at], given, y[at], w[at])
        plain_odds = np.exp(given).tolist()
        for k, p, plain in zip(at.tolist(), raw.tolist(), plain_odds, strict=True):
            campaign, segment = seen.groups[k]
            exchange, rate, label, weight = _exchange(segment), float(rates[k]), float(y[k]), float(w[k])
            odds = p / (1.0 - p)
            right = odds * by.factor(campaign, exchange)
            shares = among.shares(campaign)
            said = shares[0] * plain + shares[1] * odds + shares[2] * right
            by.add(campaign, exchange, p, said / (1.0 + said), label, weight)
            among.add(campaign, (plain / (1.0 + plain), p, right / (1.0 + right)), label, weight)
            if counts is not None:
                counts.add(segment, label, rate * weight)

    def forget(
        self,
        elapsed_s: float,
        features_half_life_s: float,
        calibration_half_life_s: float,
        counts_half_life_s: float,
    ) -> None:
        features, calibration, counts = (
            max(0.5 ** (elapsed_s / half_life_s), KEPT_MIN)
            for half_life_s in (features_half_life_s, calibration_half_life_s, counts_half_life_s)
        )
        self._segments.decay(counts)
        for among in (self._click_stack, self._conversion_stack):
            among.decay(features)
        for of in (self._click, self._conversion):
            of.forget(features)
        for by in (self._click_calibration, self._conversion_calibration):
            by.decay(calibration)

    def keep(self, campaigns: set[str]) -> None:
        """Forget what was known of all other campaigns alone."""
        self._click_stack.forget(campaigns)
        self._conversion_stack.forget(campaigns)
        self._click_calibration.forget(campaigns)
        self._conversion_calibration.forget(campaigns)

    # ---- kept

    def dump(self) -> Snapshot:
        return Snapshot(
            self._click.dump(), self._conversion.dump(), self._click_calibration, self._conversion_calibration,
            self._segments, self._click_stack, self._conversion_stack,
        )  # fmt: skip

    def load(self, snapshot: Snapshot) -> None:
        """Raises ``ValueError`` where it is none of ours; then nothing is changed."""
        click, conversion = Logistic(), Logistic()
        click.load(snapshot.click)
        conversion.load(snapshot.conversion)
        self._click, self._conversion = click, conversion
        own = msgspec.msgpack.decode(msgspec.msgpack.encode(snapshot), type=Snapshot)
        self._click_calibration, self._conversion_calibration = (
            own.click_calibration,
            own.conversion_calibration,
        )
        self._segments, self._click_stack, self._conversion_stack = (
            own.segments, own.click_stack, own.conversion_stack,
        )  # fmt: skip


def _chances(rates: F64) -> NDArray[np.bool_]:
    return np.asarray((rates > 0.0) & (rates < 1.0))


def _exchange(segment: str) -> str:
    return segment.partition("/")[0]
