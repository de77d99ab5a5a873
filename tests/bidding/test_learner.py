"""What the bidding learner makes of events."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from counterpoint.base.clock import NS_PER_S
from counterpoint.base.ids import digest
from counterpoint.bidding.check import validate
from counterpoint.bidding.features import pack_context
from counterpoint.bidding.learner import BiddingLearner
from counterpoint.bidding.policy import (
    FIELDS,
    BiddingPolicy,
    compile_bidding,
    decode,
    explain_price,
    prepare_bidding,
)
from counterpoint.bidding.state import BiddingConfig
from counterpoint.catalog.model import Campaign, Catalog, Goal, LineItem, Pacing
from counterpoint.events.agent import Decision
from counterpoint.events.decisions import PolicyPublished, Proposal
from counterpoint.events.facts import (
    AuctionLost,
    AuctionWon,
    BidPlaced,
    ClickSeen,
    ConversionAttributed,
    ImpressionSeen,
)
from counterpoint.events.money import BalanceReported, BudgetMoved, SpendBooked

T0 = 1_767_225_600 * NS_PER_S  # 2026-01-01 00:00 UTC
DAY = "2026-01-01"
CATALOG = Catalog(
    campaigns=(
        Campaign(
            id="clicks",
            advertiser_id="a",
            name="",
            daily_budget_micros=100_000_000,
            goal_value_micros=400_000,
        ),
        Campaign(
            id="orders",
            advertiser_id="a",
            name="",
            daily_budget_micros=100_000_000,
            goal=Goal.CONVERSIONS,
            goal_value_micros=20_000_000,
        ),
    ),
    line_items=(LineItem(id="li-1", campaign_id="clicks"), LineItem(id="li-2", campaign_id="orders")),
)


class World:
    """Hands the learner events with ids and times, and keeps what it decided."""

    def __init__(self, learner: BiddingLearner | None = None) -> None:
        self.learner = learner if learner is not None else BiddingLearner(CATALOG)
        self.now_ns = T0
        self.count = 0
        self.decided: list[Decision] = []

    def say(self, kind: type, **fields: Any) -> str:
        self.count += 1
        base = {
            "event_id": f"e{self.count}",
            "happened_at_ns": self.now_ns,
            "recorded_at_ns": self.now_ns,
            "source": "t",
        }
        event = kind(**(base | fields))
        self.decided += self.learner.on([event], self.now_ns)
        return str(event.event_id)

    def auction(self, won: bool, *, item: int = 1, arm: str = "agents", **fields: Any) -> str:
        """A bid and its outcome; a win is rendered and booked at its bid price."""
        campaign = "clicks" if item == 1 else "orders"
        ids = {
            "exchange": "adx",
            "segment": "adx/banner",
            "campaign_id": campaign,
            "line_item_id": f"li-{item}",
            "creative_id": "cr",
            "arm": arm,
        }
        price = fields.pop("price", 800_000)
        bid = self.say(
            BidPlaced,
            **ids,
            auction_id="a",
            media="banner",
            price_nanos=price,
            value_nanos=fields.pop("value", 1_000_000),
            paced_nanos=1_000_000,
            floor_nanos=0,
            click_rate=fields.pop("click_rate", 0.01),
            conversion_rate=0.02,
            win_rate=0.5,
            auction_type=1,
            context=fields.pop("context", b""),
        )
        if won:
            self.say(AuctionWon, **ids, bid_id=bid, bid_nanos=price, **fields)
            self.say(ImpressionSeen, **ids, bid_id=bid)
            del ids["segment"]
            self.say(SpendBooked, **ids, bid_id=bid, allowance_id="al", day=DAY, paid_nanos=price)
        else:
            self.say(AuctionLost, **ids, bid_id=bid, bid_nanos=price, **({"loss_code": 102} | fields))
        return bid

    def touch(self, kind: type, bid: str, item: int = 1, arm: str = "agents", **fields: Any) -> None:
        campaign = "clicks" if item == 1 else "orders"
        self.say(
            kind,
            bid_id=bid,
            exchange="adx",
            segment="adx/banner",
            campaign_id=campaign,
            line_item_id=f"li-{item}",
            creative_id="cr",
            arm=arm,
            **fields,
        )

    def pass_s(self, seconds: float) -> None:
        for _ in range(max(1, round(seconds * 5))):
            self.now_ns += NS_PER_S // 5
            self.decided += self.learner.tick(self.now_ns)

    def policy(self) -> BiddingPolicy:
        self.pass_s(1.2)
        events = [d.event for d in self.decided if isinstance(d.event, PolicyPublished)]
        policy = decode(events[-1].payload, events[-1].checksum)
        validate(policy)
        return policy

    def wishes(self) -> list[Proposal]:
        return [d.event for d in self.decided if isinstance(d.event, Proposal)]


def test_it_learns_what_wins_and_from_every_arm() -> None:
    world = World()
    rng = np.random.default_rng(1)
    for i in range(1_500):
        price = int(rng.uniform(200_000, 2_000_000))
        world.auction(price >= 1_000_000, price=price, arm=("agents", "no_bidding", "no_agents")[i % 3])
    curve = world.policy().curves["adx/banner"]
    at = (0, *curve.bids_nanos), (0.0, *curve.win_rates)
    assert np.interp(800_000, *at) < 0.1
    assert np.interp(1_150_000, *at) > 0.9


@pytest.mark.parametrize("code", [1, 2, 3, 200])
def test_a_loss_that_was_not_about_price_teaches_nothing(code: int) -> None:
    world = World()
    for _ in range(200):
        world.auction(False, loss_code=code)
    assert world.policy().curves == {}


def chance_of_click(policy: BiddingPolicy, click_rate: float, context: bytes = b"") -> float:
    """Of campaign "clicks" on adx/banner, as a bidder with this policy prices it."""
    compiled = compile_bidding(policy, prepare_bidding(CATALOG.campaigns, CATALOG.line_items, ("adx",)))
    at = compiled.segments["adx/banner"]
    steps = explain_price(
        compiled, 0, click_rate, ceiling=10**9, segment=at, auction_type=1, floor=0, key=1, context=context
    )
    return steps.click


def test_clicks_are_learned_only_where_they_were_predicted() -> None:
    world = World()
    for i in range(8_000):
        bid = world.auction(True, click_rate=0.01)
        if i % 50 == 0:  # twice what was predicted
            world.touch(ClickSeen, bid)
        world.auction(True, click_rate=0.9, arm="no_creative")
        if i % 500 == 0:
            world.pass_s(100)
    world.pass_s(100)
    assert chance_of_click(world.policy(), 0.01) == pytest.approx(0.02, rel=0.2)


def test_a_place_where_people_click_is_worth_more_there_and_nowhere_else() -> None:
    world = World()
    good, bad = (
        pack_context((place, *[""] * (len(FIELDS) - 1))) for place in ("good.example", "bad.example")
    )
    for i in range(12_000):
        bid = world.auction(True, click_rate=0.01, context=good if i % 2 else bad)
        if i % 2 and i % 60 == 1:  # 3.3 % there, none at the other
            world.touch(ClickSeen, bid)
        if i % 1_000 == 0:
            world.pass_s(100)
    world.pass_s(100)
    policy = world.policy()
    there, elsewhere = chance_of_click(policy, 0.01, good), chance_of_click(policy, 0.01, bad)
    assert there > 2.0 * elsewhere
    assert there == pytest.approx(2 / 60, rel=0.35)


def test_orders_that_cannot_be_are_contained_and_counted() -> None:
    world = World()
    bid = world.auction(True, item=2)
    world.touch(ClickSeen, bid, item=2)
    clicked_ns = world.now_ns

    def order(**fields: Any) -> None:
        world.touch(ConversionAttributed, bid, item=2, **fields)

    order(happened_at_ns=clicked_ns - 3_600 * NS_PER_S)
    world.now_ns += 20 * 86_400 * NS_PER_S
    order()  # the window is 7 days
    order(happened_at_ns=clicked_ns + 60 * NS_PER_S)
    order(happened_at_ns=clicked_ns + 90 * NS_PER_S)
    world.touch(ConversionAttributed, "nobody-knows", item=2)
    counts = world.learner.contained()
    assert counts.orders_before_click == 1
    assert counts.orders_too_late == 1
    assert counts.orders_repeated == 1
    assert counts.orders_without_click == 1


def test_a_fresh_campaign_is_not_throttled_by_clicks_too_young_to_have_orders() -> None:
    world = World()
    for _ in range(300):
        world.touch(ClickSeen, world.auction(True, item=2), item=2)
    young = world.policy().conversion_rates["li-2"]
    world.now_ns += 6 * 86_400 * NS_PER_S
    world.pass_s(5)
    old = world.policy().conversion_rates["li-2"]
    assert young > 0.015, "minutes after the clicks the prior of 0.02 stands"
    assert old < 0.006, "days after them it does not"


def test_conversion_rates_wait_for_their_orders_and_shrink_to_the_prior() -> None:
    world = World()
    for i in range(400):
        bid = world.auction(True, item=2)
        world.touch(ClickSeen, bid, item=2)
        if i % 10 == 0:
            world.now_ns += 60 * NS_PER_S  # an order a minute after its click
            world.touch(
                ConversionAttributed,
                bid,
                item=2,
                value_micros=9_000_000,
                bid_at_ns=world.now_ns - 60 * NS_PER_S,
            )
    assert world.policy().conversion_rates.get("li-2", 0.02) == pytest.approx(0.1, rel=0.3)
    world.pass_s(200)
    assert world.policy().conversion_rates["li-2"] == pytest.approx(0.1, rel=0.2)
    assert "li-1" not in world.policy().conversion_rates
    assert world.policy().order_values_micros["orders"] < 50_000_000


def test_spend_ahead_of_the_plan_raises_the_multiplier_and_behind_it_does_not_go_below_one() -> None:
    world = World()
    world.pass_s(10)
    for _ in range(12):
        for _ in range(20):
            world.auction(True, price=5_000_000, value=10_000_000)  # 0.1 units in 5 s; the plan has 0.0058
        world.pass_s(5)
    multipliers = world.policy().multipliers
    assert multipliers["clicks"] > 1.5
    assert multipliers["orders"] == 1.0  # neither bid nor spent: it rests
    duals = world.policy().duals
    for name, multiplier in world.policy().multipliers.items():
        assert multiplier == max(duals[name].budget, duals[name].cost, 1.0)
    assert duals["clicks"].binds(world.policy().multipliers["clicks"]) == "the budget"
    assert 0 < duals["clicks"].left_nanos < 100 * 10**9
    assert duals["clicks"].rest == pytest.approx(1.0, abs=0.01)


def test_asap_ignores_the_plan_until_the_money_is_gone() -> None:
    campaigns = tuple(msgspec.structs.replace(c, pacing=Pacing.ASAP) for c in CATALOG.campaigns)
    world = World(BiddingLearner(msgspec.structs.replace(CATALOG, campaigns=campaigns)))
    world.pass_s(10)
    for _ in range(12):
        for _ in range(20):
            world.auction(True, price=5_000_000, value=10_000_000)
        world.pass_s(5)
    assert world.policy().multipliers["clicks"] == 1.0


def test_fallback_arms_do_not_move_the_multiplier() -> None:
    world = World()
    world.pass_s(10)
    for _ in range(12):
        for _ in range(20):
            world.auction(True, price=5_000_000, arm="no_bidding")
        world.pass_s(5)
    assert world.policy().multipliers["clicks"] == 1.0


def test_the_ledger_and_the_budget_agent_are_heard() -> None:
    world = World()
    world.pass_s(1)
    world.say(BudgetMoved, pool_id="p", day=DAY, epoch=1, budgets_nanos={"clicks": 7_000, "nobody": 1})
    money = world.learner._state.money["clicks"]
    assert money.budget == 7_000
    balance = {"late_spend_nanos": 0, "reserved_nanos": 0, "overspend_nanos": 0, "campaign_id": "clicks"}
    world.say(BalanceReported, **balance, day=DAY, budget_nanos=9_000, spent_on_time_nanos=4_000)
    assert (money.budget, money.spent_governed) == (9_000, 4_000)  # bookings we never heard of
    world.say(BalanceReported, **balance, day="2025-12-31", budget_nanos=1, spent_on_time_nanos=1)
    world.say(BalanceReported, **balance, day="9999-99-99", budget_nanos=1, spent_on_time_nanos=1)
    assert money.budget == 9_000
    plans = {
        "valid_until_ns": T0 * 2,
        "version": 4,
        "plans": {"clicks": {"hourly_ppm": (1_000_000, *(0,) * 23)}},
    }
    for broken in ({"plans": {"clicks": {"hourly_ppm": (1, 2)}}}, {"plans": 3}, plans):
        payload = msgspec.msgpack.encode(broken)
        world.say(
            PolicyPublished,
            agent="budget",
            policy_version=1,
            checksum=digest(payload),
            payload=payload,
            valid_until_ns=T0 * 2,
        )
    assert world.learner._state.plans.plans["clicks"].hourly_ppm[0] == 1_000_000


def test_a_campaign_that_pays_above_its_goal_wishes_a_lower_ceiling_and_withdraws_when_fine() -> None:
    config = BiddingConfig(cost_half_life_s=60.0)
    world = World(BiddingLearner(CATALOG, config))
    clicks = 0
    for i in range(2_000):  # 0.8 units CPM, one click in 1,000: 0.8 a click where the goal is 0.4
        world.now_ns += NS_PER_S // 100
        bid = world.auction(True)
        if i % 1_000 == 999:
            world.touch(ClickSeen, bid)
            clicks += 1
    world.pass_s(2)
    assert not world.wishes()  # 1.6 units would have bought 4 clicks: too few to say
    for i in range(8_000):
        world.now_ns += NS_PER_S // 500
        bid = world.auction(True)
        if i % 1_000 == 999:
            world.touch(ClickSeen, bid)
    world.pass_s(2)
    wish = world.wishes()[-1]
    assert wish.target == "campaign/clicks/bid_ceiling"
    assert (wish.author, wish.intent) == ("bidding", "cost")
    assert isinstance(wish.value, int)
    # half of what it bids would be less than 5 % of the owner's 20 units, the least it may wish
    assert wish.value == 1_000_000
    assert wish.expires_at_ns - wish.happened_at_ns == 10 * NS_PER_S
    heard = len(world.wishes())
    world.pass_s(9)
    assert heard < len(world.wishes()) <= heard + 3  # renewed before it expires
    world.decided.clear()
    for i in range(4_000):  # now one in 100 is clicked: 0.08 a click
        world.now_ns += NS_PER_S // 50
        bid = world.auction(True)
        if i % 100 == 99:
            world.touch(ClickSeen, bid)
        if i % 10 == 9:
            world.decided += world.learner.tick(world.now_ns)
    assert world.wishes()[-1].withdraws
    assert len({w.event_id for w in world.wishes()}) == len(world.wishes())
    assert [w.stamp for w in world.wishes()] == sorted(w.stamp for w in world.wishes())


def test_it_publishes_when_something_changed_and_renews_before_it_expires() -> None:
    world = World()
    world.pass_s(30)
    published = [d.event for d in world.decided if isinstance(d.event, PolicyPublished)]
    assert len(published) == 1
    world.pass_s(150)
    published = [d.event for d in world.decided if isinstance(d.event, PolicyPublished)]
    assert len(published) == 3
    versions = [event.policy_version for event in published]
    assert versions == sorted(set(versions))
    assert all(event.valid_until_ns - event.happened_at_ns == 300 * NS_PER_S for event in published)


def test_a_new_catalog_forgets_what_is_gone() -> None:
    world = World()
    world.auction(True, item=2)
    world.learner.set_catalog(msgspec.structs.replace(CATALOG, campaigns=CATALOG.campaigns[:1]))
    world.auction(True, item=2)
    world.pass_s(6)
    assert list(world.policy().multipliers) == ["clicks"]
    assert set(world.learner._state.money) == {"clicks"}


def test_a_foreign_snapshot_is_refused_and_changes_nothing() -> None:
    world = World()
    world.auction(True)
    before = world.learner.snapshot()
    for raw in (b"", b"\x80", msgspec.msgpack.encode([1, 2]), before[: len(before) // 2]):
        with pytest.raises((msgspec.DecodeError, ValueError)):
            world.learner.restore(raw)
    assert world.learner.snapshot() == before
