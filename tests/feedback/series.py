"""Seeded minutes of a small campaign on one exchange, as facts: clean, or with one known anomaly."""

from __future__ import annotations

import numpy as np

from counterpoint.base.clock import NS_PER_S
from counterpoint.catalog.model import Advertiser, Campaign, Catalog, ExchangeProfile
from counterpoint.events.decisions import AlarmRaised
from counterpoint.events.event import Event
from counterpoint.events.facts import AuctionWon, BidPlaced, ClickSeen, ImpressionSeen, TrafficCounted
from counterpoint.events.money import SpendBooked
from counterpoint.feedback.learner import FeedbackLearner

MINUTE_NS = 60 * NS_PER_S
T0 = 1_700_000_040 * NS_PER_S  # the beginning of a minute
CATALOG = Catalog(
    advertisers=(Advertiser(id="adv", name="Adv", domain="adv.example"),),
    campaigns=(Campaign(id="a", advertiser_id="adv", name="a", daily_budget_micros=10**9),),
    exchanges=(ExchangeProfile(id="x", seat="s"),),
)


class World:
    """Rates per minute; what is changed from ``break_at`` on is a factor on one of them."""

    def __init__(self, seed: int, **broken: float) -> None:
        self.rng = np.random.default_rng(seed)
        self.broken = broken
        self.count = 0

    def minute(self, minute: int, *, is_broken: bool) -> list[Event]:
        factor = self.broken if is_broken else {}
        rng = self.rng
        at_ns = T0 + minute * MINUTE_NS + 30 * NS_PER_S
        load = float(np.exp(rng.normal(0, 0.06)))
        bids = int(rng.poisson(300 * load))
        win_rate = min(0.95, 0.25 * factor.get("win_rate", 1.0) * float(np.exp(rng.normal(0, 0.05))))
        won = int(rng.binomial(bids, win_rate))
        clicks = int(rng.binomial(won, min(0.9, 0.1 * factor.get("ctr", 1.0))))
        price = 2_000_000 * factor.get("cpm", 1.0) * float(np.exp(rng.normal(0, 0.04)))
        events: list[Event] = []
        for k in range(bids):
            self.count += 1
            bid = f"b{self.count}"
            events.append(_bid(bid, at_ns))
            if k < won:
                events += [_won(bid, at_ns), _impression(bid, at_ns), _booked(bid, at_ns, int(price))]
            if k < clicks:
                events.append(_click(bid, at_ns))
        requests = int(rng.poisson(1_000 * load * factor.get("requests", 1.0)))
        latency = 900.0 * factor.get("latency", 1.0) * float(np.exp(rng.normal(0, 0.08)))
        reason = int(requests * min(0.9, 0.2 * factor.get("no_bid", 1.0)))
        events.append(
            TrafficCounted(
                event_id=f"t{minute}", happened_at_ns=at_ns, recorded_at_ns=at_ns, source="bidder/b1", bidder_id="b1",
                interval_ns=MINUTE_NS, requests={"x": max(bids, requests)}, bids={"x": bids}, no_bids={"no_match": reason},
                latency_us={"p99": latency},
            )
        )  # fmt: skip
        return events


def run(
    learner: FeedbackLearner, world: World, minutes: int, break_at: int | None = None
) -> list[tuple[int, AlarmRaised]]:
    """(minute, alarm) of every alarm about a metric."""
    alarms: list[tuple[int, AlarmRaised]] = []
    for minute in range(minutes):
        broken = break_at is not None and minute >= break_at
        now_ns = T0 + (minute + 1) * MINUTE_NS
        learner.on(world.minute(minute, is_broken=broken), now_ns)
        told = [d.event for d in learner.tick(now_ns + 35 * NS_PER_S)]
        alarms += [(minute, e) for e in told if isinstance(e, AlarmRaised) and e.metric != "beat_age_s"]
    return alarms


def _bid(bid: str, at_ns: int) -> BidPlaced:
    return BidPlaced(
        event_id=bid, happened_at_ns=at_ns, recorded_at_ns=at_ns, source="bidder/b1", auction_id="", exchange="x", media="banner",
        segment="x/banner", campaign_id="a", line_item_id="", creative_id="", price_nanos=2_500_000, value_nanos=0, paced_nanos=0,
        floor_nanos=0, click_rate=0.1, conversion_rate=0.0, win_rate=0.25, auction_type=1,
    )  # fmt: skip


def _won(bid: str, at_ns: int) -> AuctionWon:
    return AuctionWon(
        event_id=f"won-{bid}", happened_at_ns=at_ns, recorded_at_ns=at_ns, source="bidder/b1", bid_id=bid, exchange="x",
        segment="x/banner", campaign_id="a", line_item_id="", creative_id="", bid_nanos=2_500_000,
    )  # fmt: skip


def _impression(bid: str, at_ns: int) -> ImpressionSeen:
    return ImpressionSeen(
        event_id=f"imp-{bid}", happened_at_ns=at_ns, recorded_at_ns=at_ns, source="bidder/b1", bid_id=bid, exchange="x",
        segment="x/banner", campaign_id="a", line_item_id="", creative_id="",
    )  # fmt: skip


def _click(bid: str, at_ns: int) -> ClickSeen:
    return ClickSeen(
        event_id=f"click-{bid}", happened_at_ns=at_ns, recorded_at_ns=at_ns, source="bidder/b1", bid_id=bid, exchange="x",
        segment="x/banner", campaign_id="a", line_item_id="", creative_id="",
    )  # fmt: skip


def _booked(bid: str, at_ns: int, paid: int) -> SpendBooked:
    return SpendBooked(
        event_id=f"spend-{bid}", happened_at_ns=at_ns, recorded_at_ns=at_ns, source="ledger", bid_id=bid, allowance_id="",
        campaign_id="a", line_item_id="", creative_id="", exchange="x", arm="agents", day="d", paid_nanos=paid,
    )  # fmt: skip
