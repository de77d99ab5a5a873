"""What came of won impressions, told to the value model when it is known.

Impressions are learned in their own order, each CLICK_WAIT_S after it was seen, clicked or not (clicks learned at once
would come in a heap before the impressions without one); a click that comes later takes back that there was none. A click
waits for its conversion for as long as its campaign's window says (30 days at most), and meanwhile counts as the part of
a trial that its age makes it (delays.py). The same parts count for the line item's rate of orders per click (rates.py).

Contained, and counted in :class:`Counts`: orders before their click, after its window, a second one of the same click, or
of a click that is not known (any more); impressions whose context cannot be read.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from itertools import islice

import msgspec
import numpy as np
from msgspec import Struct

from counterpoint.base.clock import NS_PER_S
from counterpoint.bidding import value_model
from counterpoint.bidding.delays import WINDOW_S, Delays, DelaysState, bin_of, enters_at_ns
from counterpoint.bidding.features import CONTEXT_BYTES, SOURCES, exposure_level, sources_of
from counterpoint.bidding.rates import RATE_GUESS, Rates
from counterpoint.bidding.value_model import NO_CONTEXT_BYTES, Impressions, ValueModel, name_hash

CLICK_WAIT_S = 60.0
WAITING_MAX = 65_536  # impressions waiting for a click; past that the oldest count at once as they stand
TOLD_MAX = 32_768  # remembered after that, for a late click; past that the oldest are forgotten
CLICKS_MAX = 65_536  # clicks waiting for an order; past that the oldest are forgotten as they stand
FEATURES_HALF_LIFE_S = 14 * 86_400.0
CALIBRATION_HALF_LIFE_S = 3 * 86_400.0
COUNTS_HALF_LIFE_S = 7 * 86_400.0
DELAYS_HALF_LIFE_S = 30 * 86_400.0
CLOCKS_APART_NS = 60 * NS_PER_S  # an order that much before its click is still after it


class Impression(Struct, frozen=True, array_like=True):
    """A won impression as far as its outcome needs it."""

    at_ns: int
    segment: str
    exchange: str
    campaign_id: str
    line_item_id: str
    click_rate: float
    context: bytes = b""
    exposed: int = 0
    teaches_clicks: bool = True  # False where nobody predicted its click rate


class Click(Struct, array_like=True):
    at_ns: int
    advertiser_id: str
    window_ns: int
    shown: Impression
    bin: int = 0
    told: float = 0.0  # the part of a trial it has counted for
    converted: bool = False


class Counts(Struct):
    """What was contained, since the start."""

    orders_before_click: int = 0
    orders_too_late: int = 0
    orders_repeated: int = 0
    orders_without_click: int = 0
    clicks_without_impression: int = 0
    clicks_forgotten: int = 0
    clicks_late: int = 0  # after their impression had counted as not clicked: learned all the same
    contexts_unreadable: int = 0


class OutcomesState(Struct):
    waiting: dict[str, Impression] = {}
    clicked: dict[str, bool] = {}  # of those waiting
    told: dict[str, Impression] = {}  # not clicked, so far
    clicks: dict[str, Click] = {}
    due: list[tuple[int, str]] = []  # a heap: when a click enters its next bin
    delays: DelaysState = msgspec.field(default_factory=DelaysState)
    # impression, label, weight, and the line item's rate of orders per click before it was heard
    clicks_to_learn: list[tuple[Impression, float, float, float]] = []
    orders_to_learn: list[tuple[Impression, float, float, float]] = []
    counts: Counts = msgspec.field(default_factory=Counts)
    model: value_model.Snapshot | None = None


class Outcomes:
    """``rates`` is told parts of trials and conversions per line item. Bids of line items and campaigns that the
    catalog does not know are not handed in: that is the bound of what is kept by name."""

    def __init__(self, rates: Rates) -> None:
        self.model = ValueModel()
        self.state = OutcomesState()
        self._rates = rates
        self._delays = Delays(self.state.delays)

    # ---- what is heard

    def shown(self, bid_id: str, impression: Impression) -> None:
        state = self.state
        if bid_id in state.clicks:
            return  # its click was heard first
        state.waiting[bid_id] = self._readable(impression)
        if len(state.waiting) > WAITING_MAX:
            self._settle(list(islice(state.waiting, WAITING_MAX // 16)))

    def knows(self, bid_id: str) -> bool:
        """Whether this bid is known to have been shown."""
        state = self.state
        return bid_id in state.waiting or bid_id in state.told or bid_id in state.clicks

    def clicked(
        self, bid_id: str, at_ns: int, advertiser_id: str, window_s: int, otherwise: Impression
    ) -> None:
        """``otherwise`` stands in where the impression is not known (any more)."""
        state = self.state
        if bid_id in state.clicks:
            return
        shown = state.waiting.get(bid_id)
        if shown is not None:
            state.clicked[bid_id] = True
        else:
            shown = state.told.pop(bid_id, None)
            if shown is not None:
                state.counts.clicks_late += 1
                self._click_learned(shown, 1.0, 0.0)
            else:
                state.counts.clicks_without_impression += 1
                shown = self._readable(otherwise)
        window_ns = int(min(window_s, WINDOW_S) * NS_PER_S)
        click = state.clicks[bid_id] = Click(at_ns, advertiser_id, window_ns, shown)
        self._delays.entered(advertiser_id, 0)
        self._grow(click, self._delays.share_at(advertiser_id, 0))
        self._wait(bid_id, click)
        if len(state.clicks) > CLICKS_MAX:
            gone = list(islice(state.clicks, CLICKS_MAX // 16))
            state.counts.clicks_forgotten += len(gone)
            for name in gone:
                del state.clicks[name]
            state.due = [due for due in state.due if due[1] in state.clicks]
            heapq.heapify(state.due)

    def _readable(self, impression: Impression) -> Impression:
        if len(impression.context) in (0, CONTEXT_BYTES):
            return impression
        self.state.counts.contexts_unreadable += 1
        return msgspec.structs.replace(impression, context=b"")

    def converted(self, bid_id: str, at_ns: int) -> bool:
        """True where the order counted."""
        counts = self.state.counts
        click = self.state.clicks.get(bid_id)
        if click is None:
            counts.orders_without_click += 1
            return False
        age_ns = at_ns - click.at_ns
        if age_ns < -CLOCKS_APART_NS:
            counts.orders_before_click += 1
        elif age_ns > click.window_ns:
            counts.orders_too_late += 1
        elif click.converted:
            counts.orders_repeated += 1
        else:
            click.converted = True
            self._delays.converted(click.advertiser_id, max(age_ns, 0))
            rest = 1.0 - click.told
            click.told = 1.0
            self._order_learned(click.shown, 1.0, rest)
            return True
        return False

    # ---- time

    def tick(self, now_ns: int) -> bool:
        """Count what time has made known, and learn; True when anything was learned."""
        state = self.state
        before_ns = now_ns - int(CLICK_WAIT_S * NS_PER_S)
        expired = []
        for name, shown in state.waiting.items():
            if shown.at_ns > before_ns:
                break
            expired.append(name)
        self._settle(expired)
        while state.due and state.due[0][0] <= now_ns:
            _, name = heapq.heappop(state.due)
            click = state.clicks.get(name)
            if click is not None:
                self._age(name, click, now_ns)
        return self._learn()

    def _age(self, name: str, click: Click, now_ns: int) -> None:
        age_ns = now_ns - click.at_ns
        if click.converted or age_ns >= click.window_ns:
            if not click.converted:
                self._grow(click, 1.0)
            if age_ns >= click.window_ns:
                del self.state.clicks[name]
            else:  # kept, so that a second order of it is known as one
                heapq.heappush(self.state.due, (click.at_ns + click.window_ns, name))
            return
        for at in range(click.bin + 1, bin_of(age_ns) + 1):
            self._delays.entered(click.advertiser_id, at)
            click.bin = at
        self._grow(click, self._delays.share_at(click.advertiser_id, click.bin))
        self._wait(name, click)

    def _wait(self, name: str, click: Click) -> None:
        enters_ns = enters_at_ns(click.bin + 1)
        age_ns = click.window_ns if enters_ns is None else min(enters_ns, click.window_ns)
        heapq.heappush(self.state.due, (click.at_ns + age_ns, name))

    def _grow(self, click: Click, share: float) -> None:
        part = share - click.told
        if part <= 0.0:
            return  # the curve has moved: what was told stays told
        click.told = share
        self._order_learned(click.shown, 0.0, part)

    def _settle(self, names: Iterable[str]) -> None:
        state = self.state
        for name in names:
            shown = state.waiting.pop(name)
            clicked = state.clicked.pop(name, False)
            self._click_learned(shown, float(clicked), 1.0)
            if not clicked:
                state.told[name] = shown
        if len(state.told) > TOLD_MAX:
            for name in list(islice(state.told, len(state.told) - TOLD_MAX)):
                del state.told[name]

    def _click_learned(self, shown: Impression, label: float, weight: float) -> None:
        if shown.teaches_clicks:
            self.state.clicks_to_learn.append((shown, label, weight, RATE_GUESS))

    def _order_learned(self, shown: Impression, label: float, weight: float) -> None:
        rate = self._rates.known_rate(shown.line_item_id, shown.campaign_id)
        self._rates.count(shown.line_item_id, shown.campaign_id, weight, label)
        self.state.orders_to_learn.append((shown, label, weight, rate))

    def _learn(self) -> bool:
        any_learned = bool(self.state.clicks_to_learn or self.state.orders_to_learn)
        for waiting, learn in (
            (self.state.clicks_to_learn, self.model.learn_clicks),
            (self.state.orders_to_learn, self.model.learn_conversions),
        ):
            if waiting:
                shown, labels, weights, rates = map(list, zip(*waiting, strict=True))
                learn(self._impressions(shown, rates), labels, weights)
                waiting.clear()
        return any_learned

    def _impressions(self, shown: list[Impression], rates: list[float]) -> Impressions:
        rows = np.array(
            [
                sources_of(
                    s.context or NO_CONTEXT_BYTES,
                    name_hash(s.segment),
                    name_hash(s.campaign_id),
                    name_hash(s.line_item_id),
                    exposure_level(s.exposed),
                )
                for s in shown
            ],
            dtype=np.uint64,
        ).reshape(len(shown), SOURCES)
        return Impressions(
            rows,
            np.array([s.click_rate for s in shown], dtype=np.float64),
            np.array(rates, dtype=np.float64),
            [(s.campaign_id, s.segment or f"{s.exchange}/") for s in shown],
        )

    def decay(self, elapsed_s: float) -> None:
        self.model.forget(elapsed_s, FEATURES_HALF_LIFE_S, CALIBRATION_HALF_LIFE_S, COUNTS_HALF_LIFE_S)
        self._delays.decay(0.5 ** (elapsed_s / DELAYS_HALF_LIFE_S))
        self._delays.refresh()

    def forget(self, line_items: set[str], campaigns: set[str]) -> None:
        """Keep only these."""
        state = self.state
        for kept in (state.waiting, state.told):
            for name in [n for n, shown in kept.items() if shown.line_item_id not in line_items]:
                del kept[name]
        state.clicked = {name: True for name in state.clicked if name in state.waiting}
        for name in [n for n, click in state.clicks.items() if click.shown.line_item_id not in line_items]:
            del state.clicks[name]
        self.model.keep(campaigns)

    # ---- kept

    def dump(self) -> OutcomesState:
        self.state.model = self.model.dump()
        return self.state

    def load(self, state: OutcomesState) -> None:
        """Raises ``ValueError`` where it is none of ours."""
        model = ValueModel()
        if state.model is not None:
            model.load(state.model)
        self.state, self.model = state, model
        self._delays = Delays(state.delays)
