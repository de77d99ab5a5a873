"""Orders per click and what an order is worth, by shrinkage to the level above: nothing is estimated from nothing.

- conversions per click of a line item: shrunk to its campaign's, and that to the line item's owner's prior;
- mean order value of a campaign: shrunk to its owner's prior.

Counts decay. A click counts as the part of a trial that its age makes it (delays.py), so that fresh clicks do not look
like clicks without an order. What features say comes on top (value_model.py).
"""

from __future__ import annotations

import msgspec

TRIALS_PRIOR = 50.0  # clicks at which a line item's conversion rate counts as much as its campaign's
ORDERS_PRIOR = 10.0
RATE_GUESS = 0.02  # of a line item that no catalog knows
RATE_MIN, RATE_MAX = 1e-6, 0.999


class Trials(msgspec.Struct):
    """Decayed counts of one line item or campaign."""

    clicks: float = 0.0
    conversions: float = 0.0


class Orders(msgspec.Struct):
    count: float = 0.0
    micros: float = 0.0


class RatesState(msgspec.Struct):
    items: dict[str, Trials] = {}
    campaigns: dict[str, Trials] = {}
    orders: dict[str, Orders] = {}


class Rates:
    """The learner hands in only line items and campaigns that the catalog knows: that is the bound of the dicts."""

    def __init__(self, half_life_s: float) -> None:
        assert half_life_s > 0
        self._half_life_s = half_life_s
        self._priors: dict[str, float] = {}  # by line item, its owner's
        self.state = RatesState()

    def set_priors(self, priors: dict[str, float]) -> None:
        """The owners' expected conversions per click, by line item."""
        self._priors = priors

    def count(self, line_item_id: str, campaign_id: str, trials: float, conversions: float) -> None:
        for counts in (
            self.state.items.setdefault(line_item_id, Trials()),
            self.state.campaigns.setdefault(campaign_id, Trials()),
        ):
            counts.clicks += trials
            counts.conversions += conversions

    def order(self, campaign_id: str, value_micros: int) -> None:
        orders = self.state.orders.setdefault(campaign_id, Orders())
        orders.count += 1.0
        orders.micros += max(value_micros, 0)

    def decay(self, elapsed_s: float) -> None:
        factor = 0.5 ** (elapsed_s / self._half_life_s)
        for trials in (*self.state.items.values(), *self.state.campaigns.values()):
            trials.clicks *= factor
            trials.conversions *= factor
        for orders in self.state.orders.values():
            orders.count *= factor
            orders.micros *= factor

    def known_rate(self, line_item_id: str, campaign_id: str) -> float:
        return self.conversion_rate(line_item_id, campaign_id, self._priors.get(line_item_id, RATE_GUESS))

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
