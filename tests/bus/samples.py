"""Events as small as their kinds allow, each where it belongs."""

from __future__ import annotations

from counterpoint.events import subjects
from counterpoint.events.decisions import AgentBeat, HybridTime, PolicyPublished, Proposal
from counterpoint.events.event import Event
from counterpoint.events.facts import ClickSeen, TrafficCounted
from counterpoint.events.money import BalanceReported, SettlementNoticed

NOTICES = subjects.notice("adx")
OUTCOMES = subjects.outcomes("b1")
BEATS = subjects.beat("bidding")


def notice(key: str) -> SettlementNoticed:
    return SettlementNoticed(
        event_id=f"settle-{key}",
        happened_at_ns=1,
        recorded_at_ns=2,
        source="tracker/b1",
        bid_id=key,
        exchange="adx",
        allowance_id="a1",
        campaign_id="c1",
        line_item_id="l1",
        creative_id="cr1",
        bid_nanos=1_000_000,
        paid_nanos=900_000,
    )


def click(key: str) -> ClickSeen:
    return ClickSeen(
        event_id=f"click-{key}",
        happened_at_ns=1,
        recorded_at_ns=2,
        source="tracker/b1",
        bid_id=key,
        exchange="adx",
        segment="adx/banner",
        campaign_id="c1",
        line_item_id="l1",
        creative_id="cr1",
    )


def traffic(key: str) -> TrafficCounted:
    return TrafficCounted(
        event_id=f"traffic-{key}",
        happened_at_ns=1,
        recorded_at_ns=2,
        source="bidder/b1",
        bidder_id="b1",
        interval_ns=1,
        requests={"adx": 1},
        bids={},
        no_bids={},
    )


def beat(key: str, agent: str = "bidding") -> AgentBeat:
    return AgentBeat(
        event_id=f"beat-{agent}-{key}",
        happened_at_ns=1,
        recorded_at_ns=2,
        source=f"agent/{agent}",
        agent=agent,
        incarnation="i1",
        state="running",
    )


def policy(key: str, agent: str = "bidding", payload: bytes = b"") -> PolicyPublished:
    return PolicyPublished(
        event_id=f"policy-{agent}-{key}",
        happened_at_ns=1,
        recorded_at_ns=2,
        source=f"agent/{agent}",
        agent=agent,
        policy_version=1,
        checksum="00",
        payload=payload,
        valid_until_ns=3,
    )


def proposal(key: str, author: str = "bidding") -> Proposal:
    return Proposal(
        event_id=f"proposal-{author}-{key}",
        happened_at_ns=1,
        recorded_at_ns=2,
        source=f"agent/{author}",
        author=author,
        target="campaign/1/bid_ceiling",
        intent="cost",
        stamp=HybridTime(1, 0, author),
        expires_at_ns=3,
        value=1,
    )


def balance(campaign: str, reserved_nanos: int) -> BalanceReported:
    return BalanceReported(
        event_id=f"balance-{campaign}-{reserved_nanos}",
        happened_at_ns=1,
        recorded_at_ns=2,
        source="ledger",
        campaign_id=campaign,
        day="2026-11-23",
        budget_nanos=100,
        spent_on_time_nanos=0,
        late_spend_nanos=0,
        reserved_nanos=reserved_nanos,
        overspend_nanos=0,
    )


def ids(events: tuple[Event, ...]) -> list[str]:
    return [event.event_id for event in events]
