"""What the live learner hears and cannot be: contained, counted, and the last good policy stays."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.base.clock import NS_PER_S
from counterpoint.base.errors import PolicyRefused
from counterpoint.bidding.check import validate
from counterpoint.bidding.learner import BiddingLearner
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
from tests.bidding.test_learner import CATALOG, DAY, T0, World

MONTH_NS = 30 * 86_400 * NS_PER_S


@pytest.mark.parametrize("rate", [math.nan, math.inf, -math.inf, -0.1, 1.1])
def test_a_prediction_that_is_no_chance_counts_as_none(rate: float) -> None:
    world = World()
    for _ in range(300):
        world.auction(True, click_rate=rate)
    world.pass_s(100)
    assert world.learner.refused().predictions == 300
    policy = world.policy()
    assert "li-1" not in policy.mean_click_rates
    assert policy.value.slots == World().policy().value.slots  # nothing learned of it


@pytest.mark.parametrize("value", [-1, -(2**62), 2**62])
def test_a_value_beyond_belief_does_not_move_the_target_cost(value: int) -> None:
    world = World()
    world.pass_s(10)
    for _ in range(50):
        world.auction(True, value=value)
    world.pass_s(20)
    assert world.learner.refused().predictions == 50
    cost = world.learner._state.paces["clicks"].cost
    assert (cost.value, cost.paid_at_one, cost.due, cost.log_lambda) == (0.0, 0.0, 0.0, 0.0)


def notices(world: World, bid: str, **fields: Any) -> dict[str, Any]:
    return {
        "bid_id": bid,
        "exchange": "adx",
        "segment": "adx/banner",
        "campaign_id": "clicks",
        "line_item_id": "li-1",
        "creative_id": "cr",
        "arm": "agents",
    } | fields


def test_a_loss_after_the_win_and_a_second_win_are_refused() -> None:
    world = World()
    bid = world.auction(True)  # won, shown, booked
    waiting = world.say(
        BidPlaced,
        **{k: v for k, v in notices(world, "").items() if k != "bid_id"},
        auction_id="a",
        media="banner",
        price_nanos=800_000,
        value_nanos=1_000_000,
        paced_nanos=1_000_000,
        floor_nanos=0,
        click_rate=0.01,
        conversion_rate=0.02,
        win_rate=0.5,
        auction_type=1,
    )
    world.say(AuctionWon, **notices(world, waiting, bid_nanos=800_000))
    wins = world.learner._state.paces["clicks"].wins
    world.say(AuctionWon, **notices(world, waiting, bid_nanos=800_000))
    for gone in (bid, waiting):
        world.say(AuctionLost, **notices(world, gone, bid_nanos=800_000, loss_code=102))
    refused = world.learner.refused()
    assert (refused.wins_repeated, refused.losses_after_win) == (1, 2)
    assert world.learner._state.paces["clicks"].wins == wins
    world.say(ImpressionSeen, **notices(world, waiting))
    assert world.learner._outcomes.knows(waiting)


def test_a_win_before_its_bid_teaches_the_market_all_the_same() -> None:
    early, usual = World(), World()
    for world in (early, usual):
        for _ in range(200):
            price = 800_000
            if world is early:
                world.say(AuctionWon, **notices(world, "unknown", bid_nanos=price))
            else:
                world.auction(True, click_rate=0.0)
    assert early.policy().curves["adx/banner"] == usual.policy().curves["adx/banner"]


def test_a_click_before_its_win_and_impression_is_learned_once() -> None:
    world = World()
    bid = world.auction(
        False, loss_code=2
    )  # whose outcome was something else than price: it may yet be shown
    world.touch(ClickSeen, bid)
    world.touch(ClickSeen, bid)
    world.touch(ImpressionSeen, bid)
    assert list(world.learner._outcomes.state.clicks) == [bid]
    assert bid not in world.learner._outcomes.state.waiting


def test_orders_months_old_and_beyond_belief_teach_nothing() -> None:
    world = World()
    bids = [world.auction(True, item=2) for _ in range(4)]
    for bid in bids:
        world.touch(ClickSeen, bid, item=2)
    world.pass_s(1)
    clicked_ns = world.now_ns
    world.touch(ConversionAttributed, bids[0], item=2, value_micros=2**62)
    world.touch(ConversionAttributed, bids[1], item=2, value_micros=-1)
    world.now_ns += 3 * MONTH_NS
    world.touch(ConversionAttributed, bids[2], item=2, happened_at_ns=clicked_ns + 2 * MONTH_NS)
    world.touch(ConversionAttributed, bids[3], item=2, happened_at_ns=clicked_ns - 3 * MONTH_NS)
    assert world.learner.refused().orders == 2
    counts = world.learner.contained()
    assert (counts.orders_too_late, counts.orders_before_click) == (1, 1)
    assert world.learner._rates.state.orders == {}


def test_a_booking_below_zero_gives_no_money_back() -> None:
    world = World()
    ids = notices(world, "b")
    del ids["segment"]
    world.say(SpendBooked, **ids, allowance_id="al", day=DAY, paid_nanos=-(10**12))
    assert world.learner.refused().spends == 1
    assert world.learner._state.money["clicks"].spent_all == 0


def test_an_exchange_may_change_its_auction_type_from_bid_to_bid() -> None:
    """A price below our bid is a minimum in second price alone; the curve stays where the market is."""
    rng, world = np.random.default_rng(9), World()
    for i in range(1_500):
        price = int(rng.uniform(200_000, 2_000_000))
        won = price >= 1_000_000
        paid: dict[str, Any] = {"price_nanos": price if i % 2 else 1_000_000} if won else {}
        world.auction(won, price=price, **paid)
    curve = world.policy().curves["adx/banner"]
    at = (0, *curve.bids_nanos), (0.0, *curve.win_rates)
    assert np.interp(850_000, *at) < 0.1
    assert np.interp(1_150_000, *at) > 0.9


def test_a_policy_with_a_number_that_is_none_is_refused_and_the_learner_stays() -> None:
    world = World()
    for _ in range(100):
        world.auction(True)
    good = world.policy()
    for broken in (
        {"multipliers": {"clicks": math.nan}},
        {"conversion_rates": {"li-2": -1.0}},
        {"marginal_values": {"li-1": math.inf}},
        {"mean_click_rates": {"li-1": 2.0}},
    ):
        with pytest.raises(PolicyRefused):
            validate(msgspec.structs.replace(good, **broken))
    validate(good)


# ---- anything, in any order

IDS: dict[str, Any] = {
    "exchange": "adx",
    "campaign_id": "clicks",
    "line_item_id": "li-1",
    "creative_id": "cr",
    "arm": "agents",
}
wild = st.one_of(st.floats(), st.floats(0.0, 1.0))
whole = st.one_of(st.integers(-(2**62), 2**62), st.integers(0, 3_000_000))
moment = st.one_of(
    st.integers(0, 2**62), st.integers(T0 - 3 * MONTH_NS, T0 + MONTH_NS), st.integers(T0, T0 + 600 * NS_PER_S)
)
bid_ids = st.sampled_from([f"b{k}" for k in range(4)])
maybe = st.one_of(st.none(), whole)


@st.composite
def events(draw: st.DrawFn) -> Event:
    kind = draw(st.sampled_from(["bid", "won", "lost", "seen", "click", "order", "spend", "traffic"]))
    said: dict[str, Any] = {"recorded_at_ns": T0, "happened_at_ns": draw(moment), "source": "t"}
    bid = draw(bid_ids)
    fresh = f"{kind}-{bid}-{draw(st.integers(0, 3))}"
    there: dict[str, Any] = {"segment": "adx/banner", "bid_id": bid, "event_id": fresh}
    match kind:
        case "bid":
            del there["bid_id"]
            return BidPlaced(
                **said,
                **IDS,
                **(there | {"event_id": bid}),
                auction_id="a",
                media="banner",
                price_nanos=draw(whole),
                value_nanos=draw(whole),
                paced_nanos=1,
                floor_nanos=draw(whole),
                click_rate=draw(wild),
                click_chance=draw(wild),
                conversion_rate=draw(wild),
                win_rate=draw(wild),
                auction_type=draw(st.integers(0, 4)),
                context=draw(st.sampled_from([b"", b"x", bytes(36)])),
                exposed=draw(whole),
            )
        case "won":
            prices: dict[str, Any] = {"price_nanos": draw(maybe), "min_to_win_nanos": draw(maybe)}
            return AuctionWon(**said, **IDS, **there, bid_nanos=draw(whole), **prices)
        case "lost":
            code = draw(st.sampled_from([0, 2, 100, 102]))
            return AuctionLost(
                **said, **IDS, **there, bid_nanos=draw(whole), loss_code=code, min_to_win_nanos=draw(maybe)
            )
        case "seen":
            return ImpressionSeen(**said, **IDS, **there)
        case "click":
            return ClickSeen(**said, **IDS, **there)
        case "order":
            return ConversionAttributed(
                **said, **IDS, **there, value_micros=draw(whole), bid_at_ns=draw(moment)
            )
        case "spend":
            booked: dict[str, Any] = {"allowance_id": "al", "day": DAY, "paid_nanos": draw(whole)}
            return SpendBooked(**said, **IDS, bid_id=bid, event_id=fresh, **booked)
        case _:
            return TrafficCounted(
                **said,
                event_id=fresh,
                bidder_id="b",
                interval_ns=1,
                requests={"adx": draw(whole)},
                bids={},
                no_bids={},
            )


@settings(max_examples=80, deadline=None)
@given(st.lists(st.lists(events(), max_size=12), max_size=6))
def test_whatever_it_hears_its_policy_is_sound_and_it_can_be_kept(heard: list[list[Event]]) -> None:
    learner = BiddingLearner(CATALOG)
    for at, batch in enumerate(heard):
        learner.on(batch, T0 + at * 40 * NS_PER_S)
        learner.tick(T0 + at * 40 * NS_PER_S)
    now_ns = T0 + 400 * NS_PER_S
    learner.tick(now_ns)
    policy = learner.policy(now_ns)
    validate(policy)
    again = BiddingLearner(CATALOG)
    again.restore(learner.snapshot())
    assert again.policy(now_ns) == policy
