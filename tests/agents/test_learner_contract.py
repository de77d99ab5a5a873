"""One contract for every agent's learner, whoever made it (events/agent.py, STYLE 8 and 14).

A repeated event id changes nothing; ``restore(snapshot())`` decides identically; no sequence of valid events makes it
raise; money in its decisions is integers; equal events and times give equal bytes.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import typing
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from counterpoint.base.clock import NS_PER_MS, NS_PER_S
from counterpoint.base.ids import digest
from counterpoint.catalog.model import BudgetPool, Campaign, Catalog, Creative, Goal, LineItem, Media
from counterpoint.events import decisions, facts, money, subjects
from counterpoint.events.agent import Decision, Learner
from counterpoint.events.codec import EVENT_TYPES, decode_batch, encode_batch
from counterpoint.events.decisions import HybridTime, PolicyPublished, Proposal
from counterpoint.events.event import Event

T0 = 1_767_225_600 * NS_PER_S
CAMPAIGNS = ("c-clicks", "c-orders", "c-value", "c-reach")
ITEMS = tuple(f"li-{c}" for c in CAMPAIGNS)
CREATIVES = ("cr-1", "cr-2", "cr-3")
GOALS = (Goal.CLICKS, Goal.CONVERSIONS, Goal.VALUE, Goal.REACH)
CATALOG = Catalog(
    pools=(BudgetPool(id="pool", advertiser_id="a"),),
    campaigns=tuple(
        Campaign(
            id=name,
            advertiser_id="a",
            name=name,
            pool_id="pool" if at < 2 else None,
            daily_budget_micros=50_000_000,
            goal=goal,
            goal_value_micros=2_000_000,
            utc_offset_minutes=60 * at,
        )
        for at, (name, goal) in enumerate(zip(CAMPAIGNS, GOALS, strict=True))
    ),
    line_items=tuple(
        LineItem(id=item, campaign_id=campaign, creative_ids=CREATIVES)
        for item, campaign in zip(ITEMS, CAMPAIGNS, strict=True)
    ),
    creatives=tuple(
        Creative(
            id=name,
            advertiser_id="a",
            media=Media.VIDEO if at == 2 else Media.BANNER,
            click_url="https://a.example",
            w=300,
            h=250,
            features={"colour": "red" if at else "blue"},
        )
        for at, name in enumerate(CREATIVES)
    ),
    digest="d1",
)


class CatalogLearner(Learner, Protocol):
    def set_catalog(self, catalog: Catalog) -> None: ...


AGENTS = ("bidding", "creative", "budget", "feedback")


def make(agent: str) -> CatalogLearner:
    """``counterpoint.{agent}.learner.{Agent}Learner(catalog)``, the shape the parts are started in."""
    module = importlib.import_module(f"counterpoint.{agent}.learner")
    learner: CatalogLearner = getattr(module, f"{agent.capitalize()}Learner")(CATALOG)
    return learner


def every_agent() -> list[Any]:
    present = [a for a in AGENTS if importlib.util.find_spec(f"counterpoint.{a}.learner") is not None]
    return [pytest.param(agent, id=agent) for agent in present]


# ---- valid events of every kind, from their own definitions


NAMED: dict[str, Sequence[Any]] = {
    "campaign_id": (*CAMPAIGNS, "unknown"),
    "line_item_id": (*ITEMS, "unknown"),
    "creative_id": (*CREATIVES, "unknown"),
    "exchange": ("adx", "other"),
    "segment": ("adx/banner", "adx/video", "other/audio", "strange"),
    "media": ("banner", "video", "audio", "native"),
    "arm": ("agents", "no_agents", "no_bidding", "no_creative", "no_budget", "no_feedback"),
    "bid_id": tuple(f"bid-{i}" for i in range(6)),
    "day": ("2025-12-31", "2026-01-01", "2026-01-02", "garbage"),
    "agent": (*AGENTS, "ledger", "bidder"),
    "target": (
        "campaign/c-clicks/bid_ceiling",
        "campaign/c-orders/budget_share",
        "agent/bidding",
        "all",
        "campaign/",
    ),
    "author": ("budget", "bidding", "person:ann"),
    "intent": ("cost", "reach"),
    "pool_id": ("pool",),
    "metric": ("win_rate",),
    "by": ("click", "view"),
    "state": ("running", "paused"),
    "loss_code": (0, 1, 100, 102, 103, 200),
    "auction_type": (1, 2),
    "unit": ("user", "request"),
}
NANOS = st.integers(0, 10**13) | st.integers(0, 10**7)


def value_of(name: str, kind: Any) -> st.SearchStrategy[Any]:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if name in NAMED:
        return st.sampled_from(NAMED[name])
    if name in ("happened_at_ns", "recorded_at_ns", "bid_at_ns", "valid_until_ns", "expires_at_ns"):
        return st.integers(T0 - 10**12, T0 + 10**13)
    if type(None) in args:
        (inner,) = [a for a in args if a is not type(None)]
        return st.none() | value_of(name, inner)
    if origin is dict:
        keys = st.sampled_from([*CAMPAIGNS, "adx", "low_value", "p99"])
        return st.dictionaries(keys, value_of("", args[1]), max_size=3)
    if origin is tuple:
        return st.lists(value_of("", args[0]), max_size=2).map(tuple)
    if kind is HybridTime:
        return st.builds(HybridTime, st.integers(T0, T0 + 10**12), st.integers(0, 9), st.just("x"))
    simple: dict[Any, st.SearchStrategy[Any]] = {
        int: NANOS,
        float: st.floats(0, 1) | st.floats(allow_nan=True, allow_infinity=True),
        str: st.sampled_from(["", "x", "y"]),
        bool: st.booleans(),
        bytes: st.sampled_from([b"", b"\x80", b"\xc1 not msgpack"]),
    }
    return simple[kind]


def event_of(kind: type[Event]) -> st.SearchStrategy[Event]:
    hints = typing.get_type_hints(kind)
    fields = {
        field.name: value_of(field.name, hints[field.name])
        for field in msgspec.structs.fields(kind)
        if field.name not in ("event_id", "source", "schema_version")
    }
    return st.fixed_dictionaries(fields).map(lambda drawn: kind(event_id="", source="t", **drawn))


LIKELY: tuple[type[Event], ...] = (
    facts.BidPlaced,
    facts.AuctionWon,
    facts.AuctionLost,
    facts.ImpressionSeen,
    facts.ClickSeen,
    facts.AdSkipped,
    facts.ConversionAttributed,
    facts.TrafficCounted,
    money.SpendBooked,
    money.BalanceReported,
    money.BudgetMoved,
)
KINDS = st.one_of([event_of(kind) for kind in (*LIKELY, *EVENT_TYPES)])


def payloads() -> st.SearchStrategy[Event]:
    """Budget policies that are well formed, as the Bidding agent hears them."""
    plan = msgspec.msgpack.encode(
        {
            "version": 1,
            "made_at_ns": T0,
            "valid_until_ns": T0 * 2,
            "plans": {"c-clicks": {"hourly_ppm": [1_000_000] + [0] * 23}},
        }
    )
    return st.just(
        PolicyPublished(
            event_id="",
            happened_at_ns=T0,
            recorded_at_ns=T0,
            source="t",
            agent="budget",
            policy_version=1,
            checksum=digest(plan),
            payload=plan,
            valid_until_ns=T0 * 2,
        )
    )


@dataclasses.dataclass
class Step:
    """Events at one time; ``ms`` passes before."""

    ms: int
    events: list[Event]


@st.composite
def histories(draw: Callable[[Any], Any]) -> list[Step]:
    steps = []
    number = 0
    for ms in draw(
        st.lists(st.sampled_from([0, 200, 1_000, 6_000, 70_000, 4_000_000]), min_size=1, max_size=8)
    ):
        events = []
        for event in draw(st.lists(KINDS | payloads(), max_size=6)):
            for _ in range(draw(st.sampled_from([1, 1, 30]))):  # enough of the same to learn something
                number += 1
                events.append(msgspec.structs.replace(event, event_id=f"e{number}"))
        steps.append(Step(ms, events))
    return steps


def live(
    learner: Learner, history: list[Step], now_ns: int = T0, repeat: bool = False
) -> tuple[list[Decision], int]:
    """Everything decided, and the time at the end."""
    decided: list[Decision] = []
    for step in history:
        now_ns += step.ms * NS_PER_MS
        decided += learner.on(step.events, now_ns)
        if repeat:
            decided += learner.on(step.events, now_ns)
        decided += learner.tick(now_ns)
    return decided, now_ns


def as_bytes(decided: list[Decision]) -> list[tuple[str, bytes]]:
    return [(d.subject, encode_batch([d.event])) for d in decided]


BOUNDED = settings(deadline=None, max_examples=30, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("agent", every_agent())
@BOUNDED
@given(histories())
def test_no_history_makes_it_raise_and_what_it_decides_is_well_formed(
    agent: str, history: list[Step]
) -> None:
    learner = make(agent)
    assert learner.name == agent
    decided, now_ns = live(learner, history)
    seen: set[str] = set()
    for decision in decided:
        event = decision.event
        assert decode_batch(encode_batch([event])) == ([event], 0)
        assert subjects.stream_of(decision.subject) == subjects.DECISIONS
        assert event.event_id
        assert event.event_id not in seen
        seen.add(event.event_id)
        for field in msgspec.structs.fields(type(event)):
            value = getattr(event, field.name)
            if field.name.endswith(("_ns", "_nanos", "_micros", "_ppm")) or field.name in (
                "value",
                "low",
                "high",
            ):
                assert value is None or type(value) is int, (field.name, value)
        if isinstance(event, Proposal):
            assert event.author == agent
            assert event.expires_at_ns > event.happened_at_ns
            assert decision.subject == subjects.proposal(agent)
        if isinstance(event, PolicyPublished):
            assert event.agent == agent
            assert event.checksum == digest(event.payload)
            policy_of(agent, event.payload)
    last, why = learner.explain()
    assert last
    assert why
    assert "\n" not in last + why
    assert now_ns >= T0


def policy_of(agent: str, payload: bytes) -> Any:
    """Decoded and validated as the bidder would; a learner that publishes what the bidder refuses is broken."""
    module = importlib.import_module(f"counterpoint.{agent}.policy")
    policy = module.decode(payload)
    module.validate(policy, frozenset(CAMPAIGNS))
    return policy


@pytest.mark.parametrize("agent", every_agent())
@BOUNDED
@given(histories())
def test_learning_the_same_event_twice_changes_nothing(agent: str, history: list[Step]) -> None:
    once, twice = make(agent), make(agent)
    assert as_bytes(live(once, history)[0]) == as_bytes(live(twice, history, repeat=True)[0])
    assert once.snapshot() == twice.snapshot()


@pytest.mark.parametrize("agent", every_agent())
@BOUNDED
@given(histories(), histories())
def test_restored_it_decides_identically(agent: str, before: list[Step], after: list[Step]) -> None:
    learner, restored = make(agent), make(agent)
    _, now_ns = live(learner, before)
    raw = learner.snapshot()
    restored.restore(raw)
    assert restored.snapshot() == raw
    renamed = [
        Step(step.ms, [msgspec.structs.replace(e, event_id="later-" + e.event_id) for e in step.events])
        for step in after
    ]
    again = [
        *before[-1:],
        *renamed,
    ]  # the last events come once more: the snapshot was older than the position
    assert as_bytes(live(learner, again, now_ns)[0]) == as_bytes(live(restored, again, now_ns)[0])
    assert learner.snapshot() == restored.snapshot()


@pytest.mark.parametrize("agent", every_agent())
def test_a_catalog_can_be_swapped_at_any_time(agent: str) -> None:
    learner = make(agent)
    empty = Catalog(digest="d2")
    now_ns = T0
    for catalog in (
        empty,
        CATALOG,
        msgspec.structs.replace(CATALOG, creatives=CATALOG.creatives[:1]),
        CATALOG,
    ):
        learner.set_catalog(catalog)
        now_ns += 2 * NS_PER_S
        learner.on(
            [
                facts.ImpressionSeen(
                    event_id=f"imp-{now_ns}",
                    happened_at_ns=now_ns,
                    recorded_at_ns=now_ns,
                    source="t",
                    bid_id="b",
                    exchange="adx",
                    segment="adx/banner",
                    campaign_id="c-clicks",
                    line_item_id="li-c-clicks",
                    creative_id="cr-1",
                )
            ],
            now_ns,
        )
        learner.tick(now_ns)
    restored = make(agent)
    restored.restore(learner.snapshot())
    assert restored.snapshot() == learner.snapshot()


def test_every_kind_of_event_can_be_drawn() -> None:
    assert {t.__name__ for t in EVENT_TYPES} >= {t.__name__ for t in LIKELY}
    assert decisions.Proposal in EVENT_TYPES
