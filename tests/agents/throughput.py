"""``python -m tests.agents.throughput``: events a second through the bidding and creative learners on one core.

The mix of one bid in ten won (BidPlaced, AuctionLost or AuctionWon with ImpressionSeen, SpendBooked and now and then
ClickSeen), 20 campaigns, 8 segments, batches of 100, ticks every 200 ms of a stream of 10,000 events a second, policies
published as they fall due. Decoding from the bus is not in it.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from counterpoint.base.clock import NS_PER_S
from counterpoint.bidding.learner import BiddingLearner
from counterpoint.catalog.model import Campaign, Catalog, Creative, LineItem, Media
from counterpoint.creative.learner import CreativeLearner
from counterpoint.events.agent import Learner
from counterpoint.events.event import Event
from counterpoint.events.facts import AuctionLost, AuctionWon, BidPlaced, ClickSeen, ImpressionSeen
from counterpoint.events.money import SpendBooked

T0 = 1_767_225_600 * NS_PER_S
CAMPAIGNS = 20


def catalog() -> Catalog:
    ids = [f"cr-{k}" for k in range(5 * CAMPAIGNS)]
    return Catalog(
        campaigns=tuple(
            Campaign(
                id=f"c{c}", advertiser_id="a", name="", daily_budget_micros=10**8, goal_value_micros=10**6
            )
            for c in range(CAMPAIGNS)
        ),
        line_items=tuple(
            LineItem(id=f"li{c}", campaign_id=f"c{c}", creative_ids=tuple(ids[5 * c : 5 * c + 5]))
            for c in range(CAMPAIGNS)
        ),
        creatives=tuple(
            Creative(
                id=name, advertiser_id="a", media=Media.BANNER, click_url="https://a.example", w=300, h=250
            )
            for name in ids
        ),
    )


def stream(bids: int) -> list[Event]:
    rng = np.random.default_rng(1)
    events: list[Event] = []
    for at in range(bids):
        c = int(rng.integers(CAMPAIGNS))
        bid_id, price = f"bid-{at:08x}-0123456789", int(rng.lognormal(14, 0.5))
        exchange = f"x{c % 4}"
        ids: dict[str, Any] = {
            "exchange": exchange,
            "campaign_id": f"c{c}",
            "line_item_id": f"li{c}",
            "creative_id": f"cr-{5 * c + int(rng.integers(5))}",
            "arm": "agents" if rng.random() < 0.95 else "no_agents",
        }
        base: dict[str, Any] = {"happened_at_ns": T0, "recorded_at_ns": T0, "source": "bidder/b1"}
        named = ids | base | {"segment": f"{exchange}/{('banner', 'video')[c % 2]}"}
        events.append(
            BidPlaced(
                event_id=bid_id,
                auction_id="a",
                media="banner",
                price_nanos=price,
                value_nanos=2 * price,
                paced_nanos=2 * price,
                floor_nanos=0,
                click_rate=0.01,
                conversion_rate=0.02,
                win_rate=0.3,
                auction_type=1,
                **named,
            )
        )
        if rng.random() < 0.1:
            of: dict[str, Any] = {"bid_id": bid_id}
            events.append(
                AuctionWon(event_id=f"won-{bid_id}", bid_nanos=price, price_nanos=price, **of, **named)
            )
            events.append(ImpressionSeen(event_id=f"imp-{bid_id}", **of, **named))
            spend: dict[str, Any] = {"allowance_id": "al", "day": "2026-01-01", "paid_nanos": price}
            events.append(SpendBooked(event_id=f"spend-{bid_id}", **of, **ids, **base, **spend))
            if rng.random() < 0.05:
                events.append(ClickSeen(event_id=f"click-{bid_id}", **of, **named))
        else:
            lost: dict[str, Any] = {"bid_id": bid_id, "bid_nanos": price, "loss_code": 102}
            events.append(AuctionLost(event_id=f"lost-{bid_id}", **lost, **named))
    return events


def measure(learner: Learner, events: list[Event]) -> tuple[float, float, int]:
    """(events a second, milliseconds of one snapshot, its bytes)"""
    now_ns = T0
    started = time.perf_counter()
    for at in range(0, len(events), 100):
        learner.on(events[at : at + 100], now_ns)
        now_ns += NS_PER_S // 100
        if at % 2_000 == 0:
            learner.tick(now_ns)
    rate = len(events) / (time.perf_counter() - started)
    started = time.perf_counter()
    size = len(learner.snapshot())
    return rate, (time.perf_counter() - started) * 1e3, size


def main() -> None:
    events = stream(100_000)
    outcomes: list[Event] = [e for e in events if isinstance(e, ImpressionSeen | ClickSeen)]
    for learner, heard in ((BiddingLearner(catalog()), events), (CreativeLearner(catalog()), outcomes)):
        rate, snapshot_ms, size = measure(learner, heard)
        print(
            f"{learner.name}: {rate:,.0f} events/s over {len(heard):,}; snapshot {snapshot_ms:.0f} ms, {size:,} bytes"
        )


if __name__ == "__main__":
    main()
