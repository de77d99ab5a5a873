"""What a baseline learns from its own log: rates by creative and by (campaign, supply path), a day at a time."""

from __future__ import annotations

from copy import copy
from typing import Final

import numpy as np

from counterpoint.bench.market.facts import Facts, Floats
from counterpoint.bench.market.policy import CLICK, Feedback
from counterpoint.market.auctions import Rows
from counterpoint.market.scenario import DAY_NS, STARTS_AT_NS

WEEK_DAYS: Final = 7
# the owner's guess counts as much as this many impressions (clicks), the parent as many at the next level
PRIOR_IMPRESSIONS: Final = 200.0
PRIOR_CLICKS: Final = 20.0
PARENT_IMPRESSIONS: Final = 400.0


class Log:
    """Counts by day; an event counts on the day of its impression, whenever it is told."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        days, creatives, supplies = facts.days, facts.creative_campaign.size, facts.supply_venue.size
        self.impressions = np.zeros((days, creatives, supplies))
        self.clicks = np.zeros((days, creatives, supplies))
        self.conversions = np.zeros((days, facts.campaigns))
        self.revenue = np.zeros((days, facts.campaigns))  # order value, account currency
        self.spend = np.zeros((days, facts.campaigns))  # nanos

    def add(self, feedback: Feedback) -> None:
        won = np.flatnonzero(feedback.won)
        auctions = feedback.requests.auctions
        campaign_of = self.facts.creative_campaign
        if won.size:
            day = int((int(auctions.t_ns[0]) - STARTS_AT_NS) // DAY_NS)
            creative = feedback.creative[won]
            np.add.at(self.impressions[day], (creative, auctions.supply[won]), 1.0)
            np.add.at(self.spend[day], campaign_of[creative], feedback.paid_micros[won])
        e = feedback.events
        if e.kind.size:
            day_of = (e.shown_at_ns - STARTS_AT_NS) // DAY_NS
            click = e.kind == CLICK
            np.add.at(self.clicks, (day_of[click], e.creative[click], e.supply[click]), 1.0)
            order = ~click
            at = (day_of[order], campaign_of[e.creative[order]])
            np.add.at(self.conversions, at, 1.0)
            np.add.at(self.revenue, at, e.order_value_micros[order] / 1e6)

    def faded(self, day: int, memory: float) -> Log:
        """All days before ``day`` as one day (slice(0, 1) of it), each weighing ``memory`` times the next."""
        age = memory ** np.arange(day - 1, -1, -1.0)
        out = copy(self)
        for name in ("impressions", "clicks", "conversions", "revenue", "spend"):
            setattr(out, name, np.tensordot(age, getattr(self, name)[:day], axes=1)[None])
        return out

    def window(self, day: int, days: int = WEEK_DAYS) -> slice:
        """The ``days`` before ``day``; on the first day, nothing."""
        return slice(max(0, day - days), day)

    def conversion_rates(self, when: slice) -> Floats:
        """[campaign] conversions told per click, with the owner's guess as a prior."""
        clicks = self.by_campaign(self.clicks[when].sum(axis=(0, 2)))
        conversions = self.conversions[when].sum(axis=0)
        return np.asarray(
            (conversions + PRIOR_CLICKS * self.facts.conversion_prior) / (clicks + PRIOR_CLICKS)
        )

    def worth_of_click(self, when: slice) -> Floats:
        """[campaign] nanos."""
        w = self.facts.worth
        orders = self.conversions[when].sum(axis=0)
        prior = PRIOR_CLICKS * self.facts.conversion_prior
        basket = (self.revenue[when].sum(axis=0) + prior * self.facts.order_value) / (orders + prior)
        return np.asarray(w[:, 1] + self.conversion_rates(when) * (w[:, 2] + w[:, 3] * basket))

    def click_rates(self, when: slice) -> Floats:
        """[campaign, supply path], shrunk to the campaign's own rate, and that to the owner's guess."""
        facts = self.facts
        clicks = self.by_campaign(self.clicks[when].sum(axis=0))
        shown = self.by_campaign(self.impressions[when].sum(axis=0))
        own = (clicks.sum(axis=1) + PRIOR_IMPRESSIONS * facts.click_prior) / (
            shown.sum(axis=1) + PRIOR_IMPRESSIONS
        )
        return np.asarray((clicks + PARENT_IMPRESSIONS * own[:, None]) / (shown + PARENT_IMPRESSIONS))

    def by_campaign(self, by_creative: Floats) -> Floats:
        """Sum over the creatives of each campaign (first axis)."""
        out = np.zeros((self.facts.campaigns, *by_creative.shape[1:]))
        np.add.at(out, self.facts.creative_campaign, by_creative)
        return out


def as_rows(values: Floats) -> Rows:
    return np.asarray(np.floor(values), dtype=np.int64)
