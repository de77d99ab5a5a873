"""What a hostile world does to the Budget learner: broken clocks, forged stamps, outliers, stops, changed pools, repeats."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest

from counterpoint.base.clock import NS_PER_S
from counterpoint.budget.alone import Allocator, Arm
from counterpoint.budget.learner import BudgetLearner
from counterpoint.budget.policy import DAY_NS
from counterpoint.catalog.model import Catalog, Goal
from counterpoint.coordination.targets import bid_ceiling, budget_share
from counterpoint.events.agent import Decision
from counterpoint.events.decisions import Proposal
from counterpoint.events.event import Event
from counterpoint.events.facts import ConversionAttributed
from counterpoint.events.money import BalanceReported
from tests.budget.test_learner import (
    CATALOG,
    MINUTE_NS,
    MINUTELY,
    T0,
    auction,
    balance,
    clicked,
    minutely,
    minutes,
    policies,
    shares,
    spent,
    traffic,
)

SHADOW = msgspec.structs.replace(MINUTELY, shadow=True)


def proposals(decisions: list[Decision]) -> list[Proposal]:
    return [d.event for d in decisions if isinstance(d.event, Proposal)]


def starved(learner: BudgetLearner, first: int, last: int) -> list[Decision]:
    """``poor`` loses nearly every auction on price."""
    out = learner.tick(T0 + first * MINUTE_NS)
    for minute in range(first, last):
        at_ns = T0 + minute * MINUTE_NS + NS_PER_S
        events = [
            balance("poor", at_ns, 60_000_000_000, minute + 1),
            spent("poor", minute, at_ns, 10_000_000),
        ]
        learner.on([*events, *(auction(False, minute * 100 + k, at_ns, 3_000_000) for k in range(20))], at_ns)
        out += learner.tick(T0 + (minute + 1) * MINUTE_NS + 5 * NS_PER_S)
    return out


# ---- shadow


def test_in_shadow_what_stood_is_withdrawn_and_nothing_is_wished() -> None:
    live = minutely()
    assert bid_ceiling("poor") in {p.target for p in proposals(starved(live, 0, 7))}
    minutes(live, 7, 45)
    assert live._state.wished
    live._state.deliveries["poor"].wished = 8_000_000
    shadow = BudgetLearner(CATALOG, config=SHADOW)
    shadow.restore(live.snapshot())
    said = proposals(minutes(shadow, 45, 60))
    assert all(p.withdraws for p in said)
    assert sorted(p.target for p in said) == sorted(
        [bid_ceiling("poor"), budget_share("good"), budget_share("poor")]
    )
    assert shadow._state.wished == {}


def test_in_shadow_no_bid_ceiling_is_wished() -> None:
    assert proposals(starved(BudgetLearner(CATALOG, config=SHADOW), 0, 7)) == []


# ---- time


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("fault", ["stamp", "stamp_first", "jump", "traffic"])
def test_a_broken_clock_stops_it_no_longer_than_it_lasts(fault: str, restart: bool) -> None:
    learner = minutely()
    if fault != "stamp_first":
        minutes(learner, 0, 3)
    now_ns = T0 + 3 * MINUTE_NS
    if fault in ("stamp", "stamp_first"):
        learner.on([spent("good", 10**6, T0 + 365 * DAY_NS, 5)], now_ns)
        learner.on([balance("good", T0 + 365 * DAY_NS, 5, 10**9)], now_ns)
    elif fault == "traffic":
        learner.on([traffic(1, T0 + 365 * DAY_NS, 10**6)], now_ns)
    else:
        learner.tick(T0 + DAY_NS)
    if restart:
        again = minutely()
        again.restore(learner.snapshot())
        learner = again
    said = minutes(learner, 3, 60)
    assert shares(said)[budget_share("good")] > 550_000
    assert len(policies(said)) > 50, "and goes on publishing"
    assert all(p.stamp.physical_ns <= T0 + 61 * MINUTE_NS for p in proposals(said)), (
        "no stamp ahead of the bus"
    )
    s = learner._state
    assert s.period * 60 * NS_PER_S <= T0 + 60 * MINUTE_NS
    assert s.heard_ns <= T0 + 61 * MINUTE_NS
    assert s.too_early == {"stamp": 2, "stamp_first": 2, "traffic": 1, "jump": 0}[fault]
    hour = T0 // (3_600 * NS_PER_S)
    learner.on([traffic(2, T0 + 60 * MINUTE_NS, 10**6)], T0 + 60 * MINUTE_NS)
    assert learner._state.traffic.hour == hour + 1


# ---- evidence


def owned(*budgets: float, goal: Goal = Goal.CLICKS) -> Catalog:
    first = CATALOG.campaigns[0]
    return msgspec.structs.replace(
        CATALOG,
        campaigns=tuple(
            msgspec.structs.replace(
                first,
                id=f"a{i}",
                daily_budget_micros=int(x * 1e6),
                goal=goal,
                goal_value_micros=1_000_000 if goal is Goal.VALUE else first.goal_value_micros,
            )
            for i, x in enumerate(budgets)
        ),
    )


def ordered(name: str, i: int, at_ns: int, micros: int) -> ConversionAttributed:
    return ConversionAttributed(
        event_id=f"o-{name}-{i}", happened_at_ns=at_ns, recorded_at_ns=at_ns, bid_at_ns=at_ns - 1, source="bidder",
        bid_id=f"{name}{i}", exchange="x", segment="x/banner", campaign_id=name, line_item_id="", creative_id="",
        arm="agents", value_micros=micros,
    )  # fmt: skip


@pytest.mark.parametrize("clicks", [0, 3])
def test_without_evidence_the_owners_split_stays(clicks: int) -> None:
    catalog = owned(800, 150, 50)
    learner = BudgetLearner(catalog, config=MINUTELY)
    learner.on([clicked("a2", i, T0) for i in range(clicks)], T0)
    for minute in range(120):
        at_ns = T0 + minute * MINUTE_NS + 30 * NS_PER_S
        learner.on(
            [spent(c.id, minute, at_ns, c.daily_budget_micros * 1_000 // 1_440) for c in catalog.campaigns],
            at_ns,
        )
        assert shares(learner.tick(T0 + (minute + 1) * MINUTE_NS + 3 * NS_PER_S)) == {}


def orders(outlier: int, minutes_: int = 300) -> list[float]:
    """Orders of Poisson number and gamma size, one of them typed wrong in minute 100; the better campaign's share."""
    rng = np.random.default_rng(0)
    catalog = owned(144, 144, goal=Goal.VALUE)
    learner, held = BudgetLearner(catalog, config=MINUTELY), {"a0": 0.5, "a1": 0.5}
    out = []
    for minute in range(minutes_):
        at_ns = T0 + minute * MINUTE_NS + 30 * NS_PER_S
        events: list[Event] = [spent(n, minute, at_ns, int(2e8 * x)) for n, x in held.items()]
        for name, mean in (("a0", 6.0), ("a1", 2.0)):
            sizes = rng.gamma(2.0, 25e6, rng.poisson(mean * math.sqrt(2 * held[name])))
            events += [ordered(name, minute * 100 + k, at_ns, int(x)) for k, x in enumerate(sizes)]
        if minute == 100:
            events.append(ordered("a1", 10**7, at_ns, outlier))
        learner.on(events, at_ns)
        told = shares(learner.tick(T0 + (minute + 1) * MINUTE_NS + 3 * NS_PER_S))
        if told:
            held = {n: told[budget_share(n)] / 1e6 for n in held}
            budgets = [
                msgspec.structs.replace(balance(n, at_ns, 0, minute + 1), budget_nanos=int(288e9 * x))
                for n, x in held.items()
            ]
            learner.on(budgets, at_ns)
        out.append(held["a0"])
    return out


def test_one_outlier_order_does_not_unsettle_a_pool() -> None:
    usual, typo = orders(50_000_000), orders(10**15)
    assert usual[99] > 0.55
    assert np.abs(np.array(typo) - np.array(usual)).max() < 0.15
    assert typo[-1] == pytest.approx(usual[-1], abs=0.08)


def test_a_negative_order_is_worth_nothing_and_breaks_nothing() -> None:
    assert orders(-(10**15), 150) == pytest.approx(orders(0, 150))


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("big", [1e12, 1e160, 1e308])
def test_an_allocator_stays_finite_whatever_it_is_told(big: float, first: bool) -> None:
    allocator = Allocator([Arm(name="a"), Arm(name="b")], 100.0)
    amounts = allocator.allocate().amounts
    for period in range(40):
        wrong = period == (0 if first else 15)
        allocator.observe(amounts, {"a": big if wrong else 40.0, "b": 90.0})
        amounts = allocator.allocate().amounts
        assert all(map(math.isfinite, amounts.values()))
    again = Allocator([Arm(name="a"), Arm(name="b")], 100.0)
    again.restore(allocator.snapshot())
    assert again.snapshot() == allocator.snapshot()
    assert again.allocate() == allocator.allocate()


# ---- stops, pools, repeats


def stopped(name: str, at_ns: int, version: int) -> BalanceReported:
    """By the ledger, for overspend."""
    return msgspec.structs.replace(
        balance(name, at_ns, 140 * 10**9, version),
        late_spend_nanos=4 * 10**9,
        overspend_nanos=10**9,
        stopped=True,
    )


@pytest.mark.parametrize("since", [0, 20])
def test_no_money_is_wished_for_who_is_stopped_for_overspend(since: int) -> None:
    learner = minutely()
    minutes(learner, 0, since)
    for minute in range(since, 45):
        learner.on([stopped("good", T0 + minute * MINUTE_NS, minute + 1)], T0 + minute * MINUTE_NS)
        told = shares(minutes(learner, minute, minute + 1))
        assert told.get(budget_share("good"), 500_000) <= 500_000, "it keeps what it has"


def test_a_budget_below_nothing_is_nothing() -> None:
    learner = minutely()
    minutes(learner, 0, 20)
    below = msgspec.structs.replace(stopped("good", T0, 10**9), budget_nanos=-(10**9))
    learner.on([below], T0 + 20 * MINUTE_NS)
    told = shares(minutes(learner, 20, 40))
    assert told[budget_share("good")] == 0
    assert sum(told.values()) == 1_000_000


def test_a_wish_for_other_members_of_a_pool_is_dropped_and_withdrawn() -> None:
    third = msgspec.structs.replace(CATALOG.campaigns[0], id="third")
    three = msgspec.structs.replace(CATALOG, campaigns=(*CATALOG.campaigns, third))
    alone = msgspec.structs.replace(three.campaigns[0], pool_id=None)
    without = msgspec.structs.replace(three, campaigns=(alone, *three.campaigns[1:]))
    learner = minutely(three)
    minutes(learner, 0, 45)
    assert len(learner._state.wished) == 3
    restored = minutely(without)
    restored.restore(learner.snapshot())
    learner.set_catalog(without)
    for one in (learner, restored):
        said = proposals(one.tick(T0 + 45 * MINUTE_NS + NS_PER_S))
        assert sorted(p.target for p in said if p.withdraws) == [budget_share("poor"), budget_share("third")]
        assert not [p for p in said if not p.withdraws]
        assert one._state.wished == {}
    same = minutely(three)
    minutes(same, 0, 45)
    before = dict(same._state.wished)
    same.set_catalog(three)
    assert same._state.wished == before


def test_a_repeated_outcome_does_not_count_again_after_many_other_facts() -> None:
    learner = minutely()
    learner.tick(T0)
    facts = [spent("good", 1, T0, 5), clicked("good", 1, T0)]
    learner.on(facts, T0)
    before = learner.returns_by_arm(), learner._state.open
    learner.on([auction(True, i, T0) for i in range(50_000)], T0)
    again = minutely()
    again.restore(learner.snapshot())
    again.on(facts, T0)
    assert again.returns_by_arm() == before[0]
    tally = again._state.open[str(again._state.period)]["good"]
    assert (tally.spend, tally.value_agents) == (5, 500_000_000.0)
