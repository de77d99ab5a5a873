"""The Budget learner's contract: repeats, snapshots, arms, the spend plan, and the wish for a higher bid ceiling."""

from __future__ import annotations

import msgspec
import pytest

from counterpoint.base.clock import NS_PER_S
from counterpoint.base.errors import PolicyRefused
from counterpoint.budget import policy as artefact
from counterpoint.budget.learner import BudgetLearner
from counterpoint.budget.policy import DAY_NS, EVEN_PPM, HOUR_NS, BudgetPolicy, CampaignPlan, planned_ppm
from counterpoint.budget.state import BudgetConfig
from counterpoint.bus.bus import Delivery
from counterpoint.catalog.model import Advertiser, BudgetPool, Campaign, Catalog, Goal
from counterpoint.coordination.epochs import EpochBook
from counterpoint.coordination.targets import bid_ceiling, budget_share
from counterpoint.events import subjects
from counterpoint.events.agent import Decision
from counterpoint.events.decisions import PolicyPublished, Proposal
from counterpoint.events.event import Event
from counterpoint.events.facts import AuctionLost, AuctionWon, ClickSeen, TrafficCounted
from counterpoint.events.money import BalanceReported, SpendBooked

T0 = 20_000 * DAY_NS + 10 * HOUR_NS
MINUTE_NS = 60 * NS_PER_S
CATALOG = Catalog(
    advertisers=(Advertiser(id="adv", name="Adv", domain="adv.example"),),
    pools=(BudgetPool(id="pool", advertiser_id="adv"),),
    campaigns=tuple(
        Campaign(
            id=name,
            advertiser_id="adv",
            name=name,
            daily_budget_micros=144_000_000,
            pool_id="pool",
            goal=Goal.CLICKS,
            goal_value_micros=500_000,
            bid_ceiling_micros=8_000_000,
        )
        for name in ("good", "poor")
    ),
)


MINUTELY = BudgetConfig(period_s=60, half_life_periods=120, trust_factor=1.2, window_periods=5)


def minutely(catalog: Catalog = CATALOG) -> BudgetLearner:
    return BudgetLearner(catalog, config=MINUTELY)


def spent(name: str, i: int, at_ns: int, nanos: int, arm: str = "agents") -> SpendBooked:
    return SpendBooked(
        event_id=f"s-{name}-{i}-{arm}", happened_at_ns=at_ns, recorded_at_ns=at_ns, source="ledger", bid_id=f"{name}{i}",
        allowance_id="", campaign_id=name, line_item_id="", creative_id="", exchange="x", arm=arm, day="d", paid_nanos=nanos,
    )  # fmt: skip


def clicked(name: str, i: int, at_ns: int, arm: str = "agents") -> ClickSeen:
    return ClickSeen(
        event_id=f"c-{name}-{i}-{arm}", happened_at_ns=at_ns, recorded_at_ns=at_ns, source="bidder", bid_id=f"{name}{i}",
        exchange="x", segment="x/banner", campaign_id=name, line_item_id="", creative_id="", arm=arm,
    )  # fmt: skip


def auction(won: bool, i: int, at_ns: int, min_to_win: int | None = None) -> AuctionWon | AuctionLost:
    if won:
        return AuctionWon(
            event_id=f"a-{i}", happened_at_ns=at_ns, recorded_at_ns=at_ns, source="bidder", bid_id=f"b{i}", exchange="x",
            segment="x/banner", campaign_id="poor", line_item_id="", creative_id="", bid_nanos=1_000_000,
        )  # fmt: skip
    return AuctionLost(
        event_id=f"a-{i}", happened_at_ns=at_ns, recorded_at_ns=at_ns, source="bidder", bid_id=f"b{i}", exchange="x",
        segment="x/banner", campaign_id="poor", line_item_id="", creative_id="", bid_nanos=1_000_000,
        min_to_win_nanos=min_to_win, loss_code=102,
    )  # fmt: skip


def balance(name: str, at_ns: int, spent_nanos: int, version: int) -> BalanceReported:
    return BalanceReported(
        event_id=f"bal-{name}-{version}", happened_at_ns=at_ns, recorded_at_ns=at_ns, source="ledger", campaign_id=name,
        day="d", budget_nanos=144_000_000_000, spent_on_time_nanos=spent_nanos, late_spend_nanos=0, reserved_nanos=0,
        overspend_nanos=0, version=version,
    )  # fmt: skip


def minutes(learner: BudgetLearner, first: int, last: int, arm: str = "agents") -> list[Decision]:
    """Both campaigns spend their even budget; the good one's money brings four times the clicks."""
    out: list[Decision] = []
    for minute in range(first, last):
        at_ns = T0 + minute * MINUTE_NS + 30 * NS_PER_S
        events: list[Event] = []
        for name, clicks in (("good", 8), ("poor", 2)):
            events += [spent(name, minute, at_ns, 100_000_000, arm)]
            events += [clicked(name, minute * 100 + k, at_ns, arm) for k in range(clicks)]
        out += learner.on(events, at_ns)
        out += learner.tick(T0 + (minute + 1) * MINUTE_NS)
    return out


def shares(decisions: list[Decision]) -> dict[str, int]:
    return {
        d.event.target: d.event.value or 0
        for d in decisions
        if isinstance(d.event, Proposal) and d.event.target.endswith("/budget_share")
    }


def test_moves_money_to_where_it_brings_more_and_keeps_the_sum() -> None:
    learner = minutely()
    said = shares(minutes(learner, 0, 45))
    assert said[budget_share("good")] > 500_000
    assert sum(said.values()) == 1_000_000
    assert "pool" in learner.explain()[0]


def test_measures_only_the_arm_where_agents_decide() -> None:
    learner = minutely()
    assert shares(minutes(learner, 0, 45, arm="no_budget")) == {}
    assert learner.returns_by_arm()["no_budget"] == pytest.approx(25.0)


def test_a_repeated_event_changes_nothing() -> None:
    once, twice = minutely(), minutely()
    for learner in (once, twice):
        learner.tick(T0)
    events = [spent("good", 1, T0, 5), clicked("good", 1, T0), balance("good", T0, 5, 1)]
    once.on(events, T0)
    twice.on([*events, *events], T0)
    twice.on(events, T0)
    assert once.snapshot() == twice.snapshot()


def test_restored_it_decides_identically() -> None:
    first = minutely()
    minutes(first, 0, 25)
    second = minutely()
    second.restore(first.snapshot())
    assert second.snapshot() == first.snapshot()
    assert minutes(first, 25, 50) == minutes(second, 25, 50)
    assert second.snapshot() == first.snapshot()


def test_a_wish_is_renewed_and_accepted_by_the_resolver() -> None:
    learner = minutely()
    book = EpochBook(CATALOG)
    sequence = 0
    for minute in range(60):
        for decision in minutes(learner, minute, minute + 1):
            sequence += 1
            book.feed(
                Delivery(
                    subjects.DECISIONS,
                    sequence,
                    T0 + (minute + 1) * MINUTE_NS,
                    decision.subject,
                    (decision.event,),
                )
            )
    assert not book.refused
    assert book.value(budget_share("good")) > 550_000
    assert book.current(budget_share("good")).winner == "budget"


def test_wishes_a_higher_ceiling_when_the_price_keeps_it_from_its_plan_and_takes_it_back() -> None:
    learner = minutely()
    learner.tick(T0)
    said: list[Proposal] = []
    for minute in range(14):
        at_ns = T0 + minute * MINUTE_NS + NS_PER_S
        starving = minute < 7
        events: list[Event] = [
            balance("poor", at_ns, 60_000_000_000, minute + 1),
            spent("poor", minute, at_ns, 10_000_000 if starving else 120_000_000),
        ]
        events += [auction(not starving, minute * 100 + k, at_ns, 3_000_000) for k in range(20)]
        learner.on(events, at_ns)
        decided = learner.tick(T0 + (minute + 1) * MINUTE_NS + 5 * NS_PER_S)
        wishes = [d.event for d in decided if isinstance(d.event, Proposal)]
        said += [wish for wish in wishes if wish.target == bid_ceiling("poor")]
    assert said[0].intent == "reach"
    assert said[0].value == 8_000_000, "at the ceiling already: it wishes to keep it"
    assert "on price" in said[0].reason
    assert said[-1].withdraws


def test_the_plan_starts_even_and_follows_the_traffic() -> None:
    learner = minutely()
    first = artefact.decode(policies(learner.tick(T0))[0].payload)
    artefact.validate(first, ["good", "poor"])
    assert first.plans["good"].hourly_ppm == EVEN_PPM
    for hour in range(72):
        at_ns = T0 + hour * HOUR_NS
        count = 4_000_000 if (at_ns // HOUR_NS) % 24 in (18, 19, 20) else 400_000
        learner.on([traffic(hour, at_ns, count)], at_ns)
    plan = learner.policy(T0).plans["good"].hourly_ppm
    assert sum(plan) == 1_000_000
    assert min(plan[18:21]) > 2 * max(plan[:18])
    assert min(plan) > 0


def traffic(i: int, at_ns: int, count: int) -> TrafficCounted:
    return TrafficCounted(
        event_id=f"t{i}", happened_at_ns=at_ns, recorded_at_ns=at_ns, source="bidder/b1", bidder_id="b1",
        interval_ns=HOUR_NS, requests={"x": count}, bids={}, no_bids={},
    )  # fmt: skip


def policies(decisions: list[Decision]) -> list[PolicyPublished]:
    return [d.event for d in decisions if isinstance(d.event, PolicyPublished)]


def test_versions_go_on_after_a_lost_snapshot() -> None:
    before = minutely()
    published = policies(before.tick(T0) + before.tick(T0 + 31 * NS_PER_S))
    assert [p.policy_version for p in published] == [1, 2]
    fresh = minutely()
    fresh.on(published, T0)
    assert policies(fresh.tick(T0 + 90 * NS_PER_S))[0].policy_version == 3


def test_the_fallback_is_even_spending() -> None:
    assert planned_ppm(None, "good", 12 * HOUR_NS, 0) == 500_000
    late = tuple(0 if h < 23 else 500_000 if h == 23 else 0 for h in range(24))
    plan = CampaignPlan(hourly_ppm=(*late[:22], 500_000, 500_000))
    policy = BudgetPolicy(version=1, made_at_ns=0, valid_until_ns=13 * HOUR_NS, plans={"good": plan})
    artefact.validate(policy, ["good"])
    assert planned_ppm(policy, "good", 12 * HOUR_NS, 0) == 0
    assert planned_ppm(policy, "good", 14 * HOUR_NS, 0) == 14 * 1_000_000 // 24, "expired"


@pytest.mark.parametrize(
    "change",
    [
        {"hourly_ppm": EVEN_PPM[:23]},
        {"hourly_ppm": (1_000_000, *([0] * 23))},
        {"hourly_ppm": (-1, 83_335, *EVEN_PPM[2:])},
        {"share_ppm": 1_000_001},
        {"marginal_return": float("nan")},
        {"marginal_return": -1.0},
    ],
)
def test_a_bad_policy_is_refused(change: dict[str, object]) -> None:
    plan = msgspec.structs.replace(CampaignPlan(), **change)
    policy = BudgetPolicy(version=1, made_at_ns=0, valid_until_ns=1, plans={"good": plan})
    with pytest.raises(PolicyRefused):
        artefact.validate(artefact.decode(artefact.encode(policy)), ["good"])
    with pytest.raises(PolicyRefused):
        artefact.decode(b"\xc1")


def test_a_catalog_change_forgets_what_is_gone() -> None:
    learner = minutely()
    minutes(learner, 0, 30)
    smaller = msgspec.structs.replace(CATALOG, campaigns=CATALOG.campaigns[:1])
    restored = minutely(smaller)
    restored.restore(learner.snapshot())
    learner.set_catalog(smaller)
    assert learner.policy(T0).plans.keys() == {"good"}
    assert restored.policy(T0) == learner.policy(T0)
    learner.on([spent("poor", 999, T0, 1)], T0)
    assert shares(minutes(learner, 30, 60)).keys() <= {budget_share("good")}


def test_one_that_catches_up_learns_the_same_periods_as_one_that_never_slept() -> None:
    awake, asleep = minutely(), minutely()
    minutes(awake, 0, 20)
    minutes(asleep, 0, 5)
    missed: list[Event] = []
    for minute in range(5, 20):
        at_ns = T0 + minute * MINUTE_NS + 30 * NS_PER_S
        for name, clicks in (("good", 8), ("poor", 2)):
            missed += [spent(name, minute, at_ns, 100_000_000)]
            missed += [clicked(name, minute * 100 + k, at_ns) for k in range(clicks)]
    asleep.on(missed, T0 + 20 * MINUTE_NS)
    asleep.tick(T0 + 20 * MINUTE_NS)
    assert asleep._state.curves == awake._state.curves
    late = T0 + 20 * MINUTE_NS
    asleep.on([spent("good", 777, T0, 10**12)], late)
    asleep.tick(late + 3 * MINUTE_NS)
    assert asleep._state.too_late == 1


def test_in_shadow_it_says_what_it_would_have_moved_and_moves_nothing() -> None:
    learner = BudgetLearner(CATALOG, config=msgspec.structs.replace(MINUTELY, shadow=True))
    said = minutes(learner, 0, 45)
    assert not shares(said)
    told = policies(said)[-1].reason
    assert "shadow, nothing moved" in told
    assert "would have moved" in told


def test_a_move_is_told_in_money() -> None:
    learner = minutely()
    said = minutes(learner, 0, 45)
    reasons = [d.event.reason for d in said if isinstance(d.event, Proposal) and d.event.value is not None]
    assert any("USD from poor to good: marginal return" in r and "90 % interval" in r for r in reasons)


def test_it_hears_the_bidders_margin_and_not_a_broken_one() -> None:
    learner = minutely()

    def paced(version: int, payload: bytes) -> PolicyPublished:
        return PolicyPublished(
            event_id=f"p-{version}", happened_at_ns=T0, recorded_at_ns=T0, source="bidding", agent="bidding",
            policy_version=version, checksum="", payload=payload, valid_until_ns=T0 + DAY_NS,
        )  # fmt: skip

    told = {"good": 20.0, "poor": 1.0, "stranger": 2.0}
    learner.on([paced(1, msgspec.msgpack.encode({"version": 1, "multipliers": told}))], T0)
    learner.on([paced(2, b"\xc1 not msgpack")], T0)
    before = learner.snapshot()
    assert msgspec.msgpack.decode(before)["lambdas"] == {"good": 20.0}, "1 says that money is not short"
    said = shares(minutes(learner, 0, 30))
    assert sum(said.values()) == 1_000_000
    other = minutely()
    other.restore(before)
    assert other.snapshot() == before
