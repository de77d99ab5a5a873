"""One simulated day with the whole bidding learner in the loop: events in, policies out, priced by the kernel.

``python -m tests.bidding.whole_day`` prints the figures of docs/agents.md. The learner knows nothing at midnight: it starts
on the stated default, hears wins and losses without any price, and learns curve and multiplier as it spends. Its budget is
30 % of what the true curve would spend unpaced on that day; the plan comes from another day. Compared with the best fixed
multiplier in hindsight on the true curve, and with the fallback (0.8 x value, first come first served).
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np

from counterpoint.base.clock import NS_PER_S
from counterpoint.base.ids import digest
from counterpoint.base.rng import mix64
from counterpoint.bidding.check import validate
from counterpoint.bidding.learner import BiddingLearner
from counterpoint.bidding.pacing import DAY_NS
from counterpoint.bidding.policy import compile_bidding, decode, price
from counterpoint.bidding.price import NO_CONTEXT, NO_EVENTS
from counterpoint.bidding.state import BiddingConfig
from counterpoint.catalog.model import Campaign, Catalog, LineItem
from counterpoint.events.decisions import PolicyPublished
from counterpoint.events.event import Event
from counterpoint.events.facts import AuctionLost, AuctionWon, BidPlaced
from counterpoint.events.money import SpendBooked
from tests.bidding.market import (
    LOGNORMAL,
    PER_CLICK,
    STEPS,
    UNIT,
    FloatArray,
    best_fixed,
    compiled,
    day,
    one_item,
    plan_from,
    run_fixed,
    true_curve,
)

T0 = 1_767_225_600 * NS_PER_S
NAMES: dict[str, Any] = {"campaign_id": "c", "line_item_id": "li", "creative_id": "cr", "exchange": "adx"}


def run_learner(seed: int, auctions: int, budget_share: float = 0.3) -> dict[str, float]:
    world = day(seed, auctions)
    truth = compiled(true_curve(LOGNORMAL))
    budget = budget_share * run_fixed(world, truth, 1.0, 1e18)[0]
    campaign = Campaign(
        id="c",
        advertiser_id="a",
        name="",
        daily_budget_micros=int(budget * UNIT / 1_000),
        goal_value_micros=int(PER_CLICK * UNIT / 1_000),
        bid_ceiling_micros=1_000 * UNIT,
    )
    catalog = Catalog(campaigns=(campaign,), line_items=(LineItem(id="li", campaign_id="c"),))
    learner = BiddingLearner(catalog, BiddingConfig(pacing_step_ms=60_000))
    plans = {"valid_until_ns": T0 * 2, "plans": {"c": {"hourly_ppm": plan_from(day(seed + 1_000, auctions))}}}
    payload = msgspec.msgpack.encode(plans)
    base: dict[str, Any] = {"happened_at_ns": T0, "recorded_at_ns": T0, "source": "t"}
    heard = PolicyPublished(
        event_id="plan",
        agent="budget",
        policy_version=1,
        checksum=digest(payload),
        payload=payload,
        valid_until_ns=T0 * 2,
        **base,
    )
    learner.on([heard], T0)
    frame = one_item()
    tables = compile_bidding(None, frame)
    spend = value = 0.0
    count = 0
    for at, (values, minimums) in enumerate(world.steps):
        now_ns = T0 + at * (DAY_NS // STEPS)
        for decision in learner.tick(now_ns):
            if isinstance(decision.event, PolicyPublished):
                policy = decode(decision.event.payload)
                if at % 60 == 0:
                    validate(policy)
                tables = compile_bidding(policy, frame)
        n = len(values)
        out_money, out_rates = np.zeros((4, n), dtype=np.int64), np.zeros((5, n))
        ctr: FloatArray = values / PER_CLICK
        for i in range(n):  # one request each: the price's chance hangs on the request's key
            price(
                1,
                np.zeros(1, dtype=np.int32),
                ctr[i : i + 1],
                tables.money,
                tables.values,
                np.array([1_000 * UNIT], dtype=np.int64),
                *tables.market,
                *tables.value_model,
                NO_CONTEXT,
                NO_EVENTS,
                tables.segment("adx", "banner"),
                1,
                0,
                np.uint64(mix64(seed * 7_919 + at * 1_000_003 + i)),
                out_money[:, i : i + 1],
                out_rates[:, i : i + 1],
            )
        events: list[Event] = []
        for bid, worth, minimum in zip(
            out_money[0].tolist(), values.tolist(), minimums.tolist(), strict=True
        ):
            if bid == 0 or spend + bid / UNIT > budget:  # the ledger grants nothing beyond the budget
                continue
            count += 1
            bid_id = f"b{count}"
            named = {**NAMES, "segment": "adx/banner", **base}
            events.append(
                BidPlaced(
                    event_id=bid_id,
                    auction_id="a",
                    media="banner",
                    price_nanos=bid,
                    value_nanos=int(worth * UNIT),
                    paced_nanos=bid,
                    floor_nanos=0,
                    click_rate=0.01,
                    conversion_rate=0.0,
                    win_rate=0.0,
                    auction_type=1,
                    **named,
                )
            )
            if bid >= minimum * UNIT:
                spend += bid / UNIT
                value += worth
                events.append(AuctionWon(event_id=f"won-{bid_id}", bid_id=bid_id, bid_nanos=bid, **named))
                booked: dict[str, Any] = {
                    "allowance_id": "al",
                    "arm": "agents",
                    "day": "2026-01-01",
                    "paid_nanos": bid,
                }
                events.append(
                    SpendBooked(event_id=f"spend-{bid_id}", bid_id=bid_id, **NAMES, **base, **booked)
                )
            else:
                events.append(
                    AuctionLost(
                        event_id=f"lost-{bid_id}", bid_id=bid_id, bid_nanos=bid, loss_code=102, **named
                    )
                )
        learner.on(events, now_ns)
    best = best_fixed(world, truth, budget)
    _, fallback = _flat(world.steps, budget)
    return {"spent": spend / budget, "value": value / best, "fallback_value": fallback / best}


def _flat(steps: list[tuple[FloatArray, FloatArray]], budget: float) -> tuple[float, float]:
    spend = value = 0.0
    for values, minimums in steps:
        won = values * 0.8 >= minimums
        cost = values[won] * 0.8
        fits = spend + np.cumsum(cost) <= budget
        spend += float(cost[fits].sum())
        value += float(values[won][fits].sum())
    return spend, value


def main(seeds: int = 5) -> None:
    cases = [run_learner(seed, 30_000) for seed in range(seeds)]
    for key in cases[0]:
        found = np.array([case[key] for case in cases])
        print(f"{key:15s} {found.mean():.3f} +/- {2.78 * found.std(ddof=1) / math.sqrt(seeds):.3f}")


if __name__ == "__main__":
    main()
