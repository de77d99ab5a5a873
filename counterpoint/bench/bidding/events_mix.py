"""What the bidding learner hears on a busy day, made up: bids, one in ten won, clicks, orders, bookings, traffic counts."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from counterpoint.base.clock import NS_PER_S
from counterpoint.bidding.features import pack_context
from counterpoint.catalog.model import Campaign, Catalog, Creative, Goal, LineItem, Media
from counterpoint.events.event import Event
from counterpoint.events.facts import (
    AuctionLost,
    AuctionWon,
    BidPlaced,
    ClickSeen,
    ConversionAttributed,
    ImpressionSeen,
    TrafficCounted,
)
from counterpoint.events.money import SpendBooked

T0_NS: Final = 1_767_225_600 * NS_PER_S
DAY: Final = "2026-01-01"
WON, CLICKED, ORDERED, OTHER_ARM = 0.1, 0.05, 0.1, 0.05
PLACES, CONTEXTS, EXCHANGES, TRAFFIC_EVERY = 300, 2_000, 4, 5_000
MEDIA: Final = ("banner", "video")


def catalog(campaigns: int, line_items: int, creatives_each: int = 1) -> Catalog:
    """Every other campaign buys clicks, every other conversions."""
    return Catalog(
        campaigns=tuple(
            Campaign(
                id=f"c{c}",
                advertiser_id=f"a{c % 100}",
                name="",
                daily_budget_micros=10**8,
                goal=(Goal.CLICKS, Goal.CONVERSIONS)[c % 2],
                goal_value_micros=(400_000, 20_000_000)[c % 2],
            )
            for c in range(campaigns)
        ),
        line_items=tuple(
            LineItem(
                id=f"li{k}",
                campaign_id=f"c{k % campaigns}",
                creative_ids=tuple(f"cr-{creatives_each * k + n}" for n in range(creatives_each)),
            )
            for k in range(line_items)
        ),
        creatives=tuple(
            Creative(
                id=f"cr-{k}",
                advertiser_id="a",
                media=Media.BANNER,
                click_url="https://a.example",
                w=300,
                h=250,
            )
            for k in range(creatives_each * line_items)
        ),
    )


def contexts(seed: int) -> list[bytes]:
    rng = np.random.default_rng([seed, 1])
    return [
        pack_context(
            (
                f"p{int(PLACES * rng.random() ** 2)}",  # a few places have most of the traffic
                f"IAB{rng.integers(20)}",
                ("300x250", "728x90", "320x50")[rng.integers(3)],
                str(rng.integers(4)),
                str(hour := int(rng.integers(24))),
                str(hour + 24 * int(rng.integers(7))),
                ("phone/ios", "phone/android", "desktop/windows")[rng.integers(3)],
                ("USA", "DEU", "GBR", "FRA")[rng.integers(4)],
                "",
            )
        )
        for _ in range(CONTEXTS)
    ]


def stream(
    events: int,
    campaigns: int,
    line_items: int,
    *,
    seed: int,
    at_ns: int,
    rate: float,
    creatives_each: int = 1,
) -> list[Event]:
    """About ``events`` events from ``at_ns`` on, ``rate`` a second; line items of :func:`catalog`."""
    rng = np.random.default_rng([seed, 2])
    seen = contexts(seed)
    out: list[Event] = []
    at = 0
    while len(out) < events:
        item = int(line_items * rng.random() ** 3)  # a few have most of the bids
        bid_id, price = f"bid-{seed:02x}-{at:08x}-0123456789", int(rng.lognormal(14, 0.5))
        exchange, media = f"x{at % EXCHANGES}", MEDIA[item % 2]
        now_ns = at_ns + int(len(out) / rate * NS_PER_S)
        base: dict[str, Any] = {"happened_at_ns": now_ns, "recorded_at_ns": now_ns, "source": "bidder/b1"}
        ids: dict[str, Any] = {
            "exchange": exchange,
            "campaign_id": f"c{item % campaigns}",
            "line_item_id": f"li{item}",
            "creative_id": f"cr-{creatives_each * item + int(rng.integers(creatives_each))}",
            "arm": "agents" if rng.random() >= OTHER_ARM else "no_agents",
        }
        named = ids | base | {"segment": f"{exchange}/{media}"}
        click_rate = float(np.exp(rng.normal(-4.6, 0.6)))
        out.append(
            BidPlaced(
                event_id=bid_id,
                auction_id="a",
                media=media,
                price_nanos=price,
                value_nanos=2 * price,
                paced_nanos=2 * price,
                floor_nanos=100_000,
                click_rate=click_rate,
                click_chance=click_rate,
                conversion_rate=0.02,
                win_rate=0.3,
                auction_type=1,
                context=seen[int(rng.integers(CONTEXTS))],
                **named,
            )
        )
        of: dict[str, Any] = {"bid_id": bid_id}
        if rng.random() < WON:
            out.append(
                AuctionWon(event_id=f"won-{bid_id}", bid_nanos=price, price_nanos=price, **of, **named)
            )
            out.append(ImpressionSeen(event_id=f"imp-{bid_id}", **of, **named))
            spend: dict[str, Any] = {"allowance_id": "al", "day": DAY, "paid_nanos": price}
            out.append(SpendBooked(event_id=f"spend-{bid_id}", **of, **ids, **base, **spend))
            if rng.random() < CLICKED:
                out.append(ClickSeen(event_id=f"click-{bid_id}", **of, **named))
                if rng.random() < ORDERED:
                    out.append(
                        ConversionAttributed(
                            event_id=f"order-{bid_id}",
                            value_micros=30_000_000,
                            bid_at_ns=now_ns,
                            **of,
                            **named,
                        )
                    )
        else:
            told: dict[str, Any] = {"min_to_win_nanos": int(price * 1.3)} if at % 2 else {}
            out.append(
                AuctionLost(event_id=f"lost-{bid_id}", bid_nanos=price, loss_code=102, **told, **of, **named)
            )
        if at % TRAFFIC_EVERY == 0:
            counted: dict[str, Any] = {"requests": {exchange: 50_000}, "bids": {exchange: 5_000}}
            out.append(
                TrafficCounted(
                    event_id=f"traffic-{seed}-{at}",
                    bidder_id="b1",
                    interval_ns=NS_PER_S,
                    no_bids={},
                    **counted,
                    **base,
                )
            )
        at += 1
    return out
