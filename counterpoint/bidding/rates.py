"""From impressions to clicks to orders, as far as bidding corrects what others predicted.

All by shrinkage to the level above, so that nothing is ever estimated from nothing:
- click-rate factor of a segment: clicks seen / clicks the creative policy predicted, shrunk to "*/{media}", to "*", to 1;
- conversions per click of a line item: shrunk to its campaign's, and that to the line item's owner's prior;
- mean order value of a campaign: shrunk to its owner's prior.

Counts decay. A click counts as a trial only ``maturity_s`` after it was bought, and its conversion with it, so that
fresh clicks do not look like clicks without an order; what converts later than that counts when it comes.
"""

from __future__ import annotations

import heapq

import msgspec

from counterpoint.base.clock import NS_PER_S
from counterpoint.bidding.policy import CTR_FACTOR_MAX, CTR_FACTOR_MIN, lineage

CLICKS_PRIOR = 20.0  # predicted clicks at which a segment counts as much as its parent
TRIALS_PRIOR = 50.0  # clicks at which a line item's conversion rate counts as much as its campaign's
ORDERS_PRIOR = 10.0
MATURING_MAX = 65_536  # clicks and conversions waiting to mature; past that the oldest counts at once
SEGMENTS_MAX = 512  # further segments teach only their parents
RATE_MIN, RATE_MAX = 1e-6, 0.999


class Clicks(msgspec.Struct):
    """Decayed counts of one segment."""

    seen: float = 0.0
    predicted: float = 0.0
    shown: float = 0.0


class Trials(msgspec.Struct):
    """Decayed counts of one line item or campaign."""

    clicks: float = 0.0
    conversions: float = 0.0


class Orders(msgspec.Struct):
    count: float = 0.0
    micros: float = 0.0


class Maturing(msgspec.Struct, frozen=True, array_like=True, order=True):
    due_ns: int
    arrival: int
    line_item_id: str
    campaign_id: str
    converted: bool


class RatesState(msgspec.Struct):
    clicks: dict[str, Clicks] = {}
    items: dict[str, Trials] = {}
    campaigns: dict[str, Trials] = {}
    orders: dict[str, Orders] = {}
    maturing: list[Maturing] = []
    arrivals: int = 0


class Rates:
    """The learner hands in only line items and campaigns that the catalog knows: that is the bound of the dicts."""

    def __init__(self, half_life_s: float, maturity_s: float) -> None:
        assert half_life_s > 0
        assert maturity_s >= 0
        self._half_life_s = half_life_s
        self._maturity_ns = int(maturity_s * NS_PER_S)
        self.state = RatesState()

    def impression(self, segment: str, predicted: float | None) -> None:
        """``predicted`` None: the bid is forgotten; the segment's mean prediction stands in."""
        for name in lineage(segment):
            counts = self._clicks(name)
            if counts is None or (predicted is None and counts.shown <= 0.0):
                continue
            counts.predicted += counts.predicted / counts.shown if predicted is None else predicted
            counts.shown += 1.0

    def click(self, segment: str) -> None:
        for name in lineage(segment):
            counts = self._clicks(name)
            if counts is not None:
                counts.seen += 1.0

    def trial(
        self, line_item_id: str, campaign_id: str, bought_at_ns: int, converted: bool, now_ns: int
    ) -> None:
        """A click, or (``converted``) the order that followed one."""
        state = self.state
        state.arrivals += 1
        due_ns = max(bought_at_ns + self._maturity_ns, now_ns)
        heapq.heappush(state.maturing, Maturing(due_ns, state.arrivals, line_item_id, campaign_id, converted))
        if len(state.maturing) > MATURING_MAX:
            self._mature(heapq.heappop(state.maturing))

    def order(self, campaign_id: str, value_micros: int) -> None:
        orders = self.state.orders.setdefault(campaign_id, Orders())
        orders.count += 1.0
        orders.micros += max(value_micros, 0)

    def mature(self, now_ns: int) -> bool:
        """Count what is due; True when anything was."""
        maturing = self.state.maturing
        any_due = False
        while maturing and maturing[0].due_ns <= now_ns:
            self._mature(heapq.heappop(maturing))
            any_due = True
        return any_due

    def _mature(self, ripe: Maturing) -> None:
        for counts in (
            self.state.items.setdefault(ripe.line_item_id, Trials()),
            self.state.campaigns.setdefault(ripe.campaign_id, Trials()),
        ):
            if ripe.converted:
                counts.conversions += 1.0
            else:
                counts.clicks += 1.0

    def decay(self, elapsed_s: float) -> None:
        factor = 0.5 ** (elapsed_s / self._half_life_s)
        for clicks in self.state.clicks.values():
            clicks.seen *= factor
            clicks.predicted *= factor
            clicks.shown *= factor
        for trials in (*self.state.items.values(), *self.state.campaigns.values()):
            trials.clicks *= factor
            trials.conversions *= factor
        for orders in self.state.orders.values():
            orders.count *= factor
            orders.micros *= factor

    def factor(self, segment: str) -> float:
        factor = 1.0
        for name in reversed(lineage(segment)):
            counts = self.state.clicks.get(name)
            if counts is not None:
                factor = (counts.seen + CLICKS_PRIOR * factor) / (counts.predicted + CLICKS_PRIOR)
        return min(max(factor, CTR_FACTOR_MIN), CTR_FACTOR_MAX)

    def conversion_rate(self, line_item_id: str, campaign_id: str, prior: float) -> float:
        rate = prior
        for counts in (self.state.campaigns.get(campaign_id), self.state.items.get(line_item_id)):
            if counts is not None:
                rate = (counts.conversions + TRIALS_PRIOR * rate) / (counts.clicks + TRIALS_PRIOR)
        return min(max(rate, RATE_MIN), RATE_MAX)

    def order_value_micros(self, campaign_id: str, prior_micros: int) -> float:
        orders = self.state.orders.get(campaign_id, Orders())
        value = (orders.micros + ORDERS_PRIOR * prior_micros) / (orders.count + ORDERS_PRIOR)
        return min(max(value, 1.0), 1e15)

    def forget(self, line_items: set[str], campaigns: set[str]) -> None:
        """Keep only these."""
        state = self.state
        state.items = {name: counts for name, counts in state.items.items() if name in line_items}
        state.campaigns = {name: counts for name, counts in state.campaigns.items() if name in campaigns}
        state.orders = {name: orders for name, orders in state.orders.items() if name in campaigns}
        state.maturing = [ripe for ripe in state.maturing if ripe.line_item_id in line_items]
        heapq.heapify(state.maturing)

    def _clicks(self, segment: str) -> Clicks | None:
        counts = self.state.clicks.get(segment)
        if counts is None and len(self.state.clicks) < SEGMENTS_MAX:
            counts = self.state.clicks[segment] = Clicks()
        return counts
