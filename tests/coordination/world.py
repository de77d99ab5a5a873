"""A small catalog and short ways to write proposals and messages, for the tests of this folder."""

from __future__ import annotations

from collections.abc import Sequence

from counterpoint.base.clock import NS_PER_S
from counterpoint.bus.bus import Delivery
from counterpoint.catalog.model import Advertiser, BudgetPool, Campaign, Catalog
from counterpoint.coordination.resolve import EPOCH_NS
from counterpoint.coordination.targets import Target, Targets
from counterpoint.events import subjects
from counterpoint.events.decisions import AgentBeat, HybridTime, Proposal, StopChanged
from counterpoint.events.event import Event

T0 = 1_700_000_000 * NS_PER_S
E0 = T0 // EPOCH_NS


def catalog() -> Catalog:
    return Catalog(
        advertisers=(Advertiser(id="adv", name="Adv", domain="adv.example"),),
        pools=(BudgetPool(id="pool", advertiser_id="adv"),),
        campaigns=(
            Campaign(id="a", advertiser_id="adv", name="a", daily_budget_micros=60_000_000, pool_id="pool"),
            Campaign(
                id="b",
                advertiser_id="adv",
                name="b",
                daily_budget_micros=30_000_000,
                pool_id="pool",
                budget_min_micros=10_000_000,
                reach_weight_ppm=800_000,
                cost_weight_ppm=200_000,
            ),
            Campaign(id="c", advertiser_id="adv", name="c", daily_budget_micros=10_000_000),
        ),
    )


def target(name: str) -> Target:
    found = Targets(catalog()).get(name)
    assert found is not None
    return found


CEILING = "campaign/a/bid_ceiling"
_count = 0


def wish(
    author: str,
    value: int | None = None,
    intent: str = "cost",
    *,
    about: str = CEILING,
    at_ns: int = T0,
    life_s: float = 120,
    low: int | None = None,
    high: int | None = None,
    strength: int = 1_000_000,
    confidence: int = 1_000_000,
    withdraws: bool = False,
    logical: int = 0,
    event_id: str | None = None,
) -> Proposal:
    global _count
    _count += 1
    return Proposal(
        event_id=event_id or f"p{_count}",
        happened_at_ns=at_ns,
        recorded_at_ns=at_ns,
        source=author,
        author=author,
        target=about,
        intent=intent,
        stamp=HybridTime(at_ns, logical, author),
        expires_at_ns=at_ns + int(life_s * NS_PER_S),
        value=value,
        low=low,
        high=high,
        strength=strength,
        confidence=confidence,
        withdraws=withdraws,
    )


def stop(about: str, stopped: bool, at_ns: int, person: str = "ann") -> StopChanged:
    return StopChanged(
        event_id=f"stop-{about}-{at_ns}-{stopped}",
        happened_at_ns=at_ns,
        recorded_at_ns=at_ns,
        source="console",
        target=about,
        stopped=stopped,
        person=person,
    )


def beat(at_ns: int, agent: str = "budget") -> AgentBeat:
    return AgentBeat(
        event_id=f"beat-{agent}-{at_ns}",
        happened_at_ns=at_ns,
        recorded_at_ns=at_ns,
        source=agent,
        agent=agent,
        incarnation="i",
        state="running",
    )


def subject_of(event: Event) -> str:
    if isinstance(event, Proposal):
        return subjects.proposal(event.author)
    return subjects.STOPS if isinstance(event, StopChanged) else subjects.beat("budget")


def message(sequence: int, at_ns: int, *events: Event, subject: str | None = None) -> Delivery:
    return Delivery(
        stream=subjects.DECISIONS,
        sequence=sequence,
        stored_at_ns=at_ns,
        subject=subject if subject is not None else subject_of(events[0]),
        events=events,
    )


def stream(events: Sequence[tuple[int, Event]]) -> list[Delivery]:
    """(stored at, event) in time order, as messages of one event each."""
    return [message(i + 1, at_ns, event) for i, (at_ns, event) in enumerate(events)]
