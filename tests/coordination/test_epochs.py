"""Replicas: whatever came in whatever batches, order within an epoch or repeats, the closed epochs agree."""

from __future__ import annotations

import random
from collections.abc import Sequence

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.base.clock import NS_PER_MS, NS_PER_S
from counterpoint.bus.bus import Delivery
from counterpoint.coordination.admit import PROPOSAL_LIFE_NS_MAX
from counterpoint.coordination.epochs import EpochBook, history_since_ns
from counterpoint.coordination.resolve import EPOCH_NS, epoch_end_ns, epoch_of, genesis, resolve
from counterpoint.coordination.targets import AGENTS, Targets, agent_enabled, enabled_of
from counterpoint.events import subjects
from counterpoint.events.decisions import HybridTime, Proposal, Resolution, StopChanged
from counterpoint.events.event import Event
from tests.coordination.world import CEILING, T0, beat, catalog, message, stop, stream, target, wish

ABOUT = [
    CEILING,
    "campaign/c/bid_ceiling",
    "campaign/a/budget_share",
    "campaign/b/budget_share",
    "campaign/a/exploration",
    "campaign/b/enabled",
    "agent/bidding/enabled",
]
WHO = ["budget", "bidding", "feedback", "creative", "ledger", "person:ann"]
INTENT = {"budget": "reach", "bidding": "cost", "feedback": "relevance", "creative": "relevance"}


def trace(seed: int, messages: int, gap_s: float, life_s: Sequence[float]) -> list[Delivery]:
    """A seeded stream: wishes, bounds, withdrawals, stops and signs of life, at random distances."""
    rng = random.Random(seed)
    at_ns = T0
    events: list[tuple[int, Event]] = []
    for i in range(messages):
        at_ns += int(rng.expovariate(1 / gap_s) * NS_PER_S)
        event: Event
        roll = rng.random()
        if roll < 0.15:
            event = beat(at_ns)
        elif roll < 0.2:
            what = rng.choice(["agent/bidding", "agent/budget", "campaign/b", "all"])
            event = stop(what, rng.random() < 0.5, at_ns - rng.randrange(10**9))
        else:
            author = rng.choice(WHO)
            about = rng.choice(ABOUT)
            high = rng.randrange(2 * 10**7) if author in ("ledger", "person:ann") else None
            event = wish(
                author,
                None if author == "ledger" else rng.randrange(2 * 10**7 if "ceiling" in about else 10**6),
                INTENT.get(author, "safety"),
                about=about,
                at_ns=at_ns - rng.randrange(2 * 10**9),
                life_s=rng.choice(life_s),
                high=high if rng.random() < 0.5 or author == "ledger" else None,
                withdraws=rng.random() < 0.1,
                event_id=f"e{seed}-{i}",
            )
        events.append((at_ns, event))
    end_ns = at_ns + 2 * PROPOSAL_LIFE_NS_MAX
    events += [(at_ns + 5 * NS_PER_S, beat(at_ns + 5 * NS_PER_S)), (end_ns, beat(end_ns))]
    return stream(events)


def run(book: EpochBook, deliveries: Sequence[Delivery]) -> list[Resolution]:
    out = []
    for delivery in deliveries:
        book.feed(delivery)
        out += book.closed()
    return out


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(3, 7))
def test_replicas_agree_after_partitions_repeats_and_reordering_inside_epochs(
    seed: int, replicas: int
) -> None:
    """Each replica is cut off at its own times, gets what it missed in bursts with repeats, and within an epoch sees
    the messages in its own order. Every closed epoch is the same everywhere."""
    deliveries = trace(seed, messages=60, gap_s=0.4, life_s=[1, 5, 60])
    rng = random.Random(seed + 1)
    told: list[list[Resolution]] = []
    for _ in range(replicas):
        book = EpochBook(catalog())
        out: list[Resolution] = []
        waiting: list[Delivery] = []
        by_epoch: dict[int, list[Delivery]] = {}
        for delivery in deliveries:
            by_epoch.setdefault(epoch_of(delivery.stored_at_ns), []).append(delivery)
        for _, same in sorted(by_epoch.items()):
            shuffled = [*same]
            rng.shuffle(shuffled)
            waiting += shuffled
            if rng.random() < 0.3:  # healed: all that was missed, some of it twice
                out += run(book, [*waiting, *waiting[-3:]])
                waiting = []
        out += run(book, waiting)
        told.append(out)
    assert all(other == told[0] for other in told)
    assert told[0], "a trace without any resolution tests nothing"


class Naive:
    """The same meaning without any cleverness: every target is resolved at every epoch, over all that was ever said."""

    def __init__(self) -> None:
        self.targets = Targets(catalog())
        self.state = {name: genesis(t) for name in self.targets.names() if (t := self.targets.get(name))}
        self.told: list[Resolution] = []

    def close(self, epoch: int, said: Sequence[tuple[int, Event]]) -> None:
        wishes: list[Proposal] = [e for _, e in said if isinstance(e, Proposal)]
        stops: dict[str, list[StopChanged]] = {}
        for _, event in said:
            if isinstance(event, StopChanged):
                stops.setdefault(enabled_of(event.target), []).append(event)
        names = self.targets.names()
        for name in sorted(names, key=lambda n: (not n.endswith("/enabled"), n)):
            goal = self.targets.get(name)
            assert goal is not None
            after = resolve(
                goal,
                [w for w in wishes if w.target == name],
                goal.trade_off,
                self.state[name],
                epoch_end_ns(epoch),
                silenced=frozenset(a for a in AGENTS if self.state[agent_enabled(a)].value == 0),
                stops=stops.get(name, []),
            )
            if after is not self.state[name]:
                self.told.append(after)
            self.state[name] = after


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6))
def test_the_book_is_the_naive_meaning_made_quick(seed: int) -> None:
    deliveries = trace(seed, messages=40, gap_s=0.5, life_s=[1, 4, 10])[:-1]
    book = EpochBook(catalog())
    told = run(book, deliveries)
    naive = Naive()
    said: list[tuple[int, Event]] = []
    queue = list(deliveries)
    first = epoch_of(queue[0].stored_at_ns)
    for epoch in range(first, epoch_of(queue[-1].stored_at_ns)):
        while queue and epoch_of(queue[0].stored_at_ns) == epoch:
            delivery = queue.pop(0)
            said += [(delivery.stored_at_ns, event) for event in delivery.events]
        naive.close(epoch, said)
    assert told == naive.told


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.3, 1.0))
def test_a_fresh_replica_agrees_with_an_old_one(seed: int, share: float) -> None:
    """It starts from the last published resolutions and 20 minutes of the stream."""
    deliveries = trace(seed, messages=120, gap_s=30, life_s=[20, 300, 590])
    old = EpochBook(catalog())
    cut = int(share * (len(deliveries) - 2))
    last = {r.target: r for r in run(old, deliveries[: cut + 1])}
    since = history_since_ns(deliveries[cut].stored_at_ns)
    fresh = EpochBook(catalog(), resolutions=last.values(), since_ns=since)
    again = run(fresh, [d for d in deliveries[: cut + 1] if d.stored_at_ns >= since])
    assert again == [], "it made anew what was published already"
    assert fresh.settings() == old.settings()
    rest_old = run(old, deliveries[cut + 1 :])
    rest_fresh = run(fresh, deliveries[cut + 1 :])
    assert rest_fresh == rest_old
    assert fresh.digest() == old.digest()


def test_a_fresh_replica_makes_up_for_resolutions_that_nobody_published() -> None:
    deliveries = trace(5, messages=120, gap_s=30, life_s=[20, 300, 590])
    old = EpochBook(catalog())
    told = run(old, deliveries[:100])
    early = deliveries[100].stored_at_ns - PROPOSAL_LIFE_NS_MAX // 2
    published = {r.target: r for r in told if epoch_end_ns(r.epoch) < early}
    since = history_since_ns(deliveries[100].stored_at_ns)
    fresh = EpochBook(catalog(), resolutions=published.values(), since_ns=since)
    made = run(fresh, [d for d in deliveries[:100] if d.stored_at_ns >= since])
    assert made == [r for r in told if epoch_end_ns(r.epoch) >= early]
    assert fresh.digest() == old.digest()


def test_an_epoch_closes_only_when_a_later_message_is_seen() -> None:
    book = EpochBook(catalog())
    proposal = wish("bidding", 5_000_000, at_ns=T0)
    assert run(book, [message(1, T0, proposal), message(2, T0 + EPOCH_NS - 1, beat(T0))]) == []
    assert book.value(CEILING) == 20_000_000
    assert book.provisional(CEILING).provisional
    assert book.provisional(CEILING).value < 20_000_000
    (closed,) = run(book, [message(3, T0 + EPOCH_NS, beat(T0 + EPOCH_NS))])
    assert closed.value == book.value(CEILING) == book.current(CEILING).value
    assert closed.proposals == (proposal.event_id,)


def test_an_author_is_its_credential() -> None:
    """What is published on another author's subject does not count, whoever it says it is from."""
    book = EpochBook(catalog())
    forged = wish("person:ann", high=0, intent="safety")
    run(
        book,
        [message(1, T0, forged, subject=subjects.proposal("budget")), message(2, T0 + EPOCH_NS, beat(T0))],
    )
    assert book.value(CEILING) == 20_000_000
    assert book.refused["not_its_subject"] == 1


def test_clock_bombs_long_lives_and_unknown_targets_are_refused() -> None:
    book = EpochBook(catalog())
    bomb = wish("bidding", 5_000_000, at_ns=T0 + 501 * NS_PER_MS)
    eternal = wish("bidding", 5_000_000, life_s=601)
    nowhere = wish("bidding", 5_000_000, about="campaign/zz/bid_ceiling")
    empty = wish("bidding")
    for i, bad in enumerate([bomb, eternal, nowhere, empty]):
        book.feed(message(i + 1, T0, bad))
    run(book, [message(9, T0 + EPOCH_NS, beat(T0))])
    assert dict(book.refused) == {
        "stamp_ahead": 1,
        "lives_too_long": 1,
        "unknown_target": 1,
        "malformed": 1,
    }
    assert book.settings() == {}


def test_a_stopped_agent_s_wishes_do_not_count_until_it_is_resumed() -> None:
    book = EpochBook(catalog())
    said: list[tuple[int, Event]] = [
        (T0, wish("bidding", 5_000_000, at_ns=T0, life_s=500)),
        (T0 + 20 * NS_PER_S, stop("agent/bidding", True, T0 + 20 * NS_PER_S)),
        (T0 + 40 * NS_PER_S, stop("agent/bidding", False, T0 + 40 * NS_PER_S)),
        (T0 + 90 * NS_PER_S, beat(T0 + 90 * NS_PER_S)),
    ]
    values = []
    for delivery in stream(said):
        book.feed(delivery)
        values.append(book.value(CEILING))
    assert values[1] == 5_000_000
    assert values[2] == 20_000_000
    assert values[3] == 5_000_000
    assert book.value("agent/bidding/enabled") == 1


def test_a_quiet_year_closes_at_once() -> None:
    book = EpochBook(catalog())
    book.feed(message(1, T0, wish("bidding", 5_000_000)))
    later = T0 + 365 * 86_400 * NS_PER_S
    told = run(book, [message(2, later, beat(later))])
    assert told[-1].value == 20_000_000, "the wish faded long ago"
    assert len(told) < 60


def test_memory_is_bounded_by_the_catalog() -> None:
    book = EpochBook(catalog())
    for i in range(500):
        book.feed(message(i + 1, T0 + i, wish(f"person:p{i}", 1, "safety", at_ns=T0 + i)))
    assert book.refused["too_many_authors"] == 500 - 64
    later = T0 + 2 * PROPOSAL_LIFE_NS_MAX
    run(book, [message(501, later, beat(later))])
    assert book.wishes(CEILING) == []


def test_a_published_resolution_that_differs_is_counted_not_believed() -> None:
    book = EpochBook(catalog())
    run(book, stream([(T0, wish("bidding", 5_000_000)), (T0 + EPOCH_NS, beat(T0 + EPOCH_NS))]))
    ours = book.current(CEILING)
    lie = msgspec.structs.replace(ours, value=1, digest="lie")
    book.feed(message(3, T0 + EPOCH_NS, lie, subject=subjects.resolution(CEILING)))
    assert book.disagreements == 1
    assert book.current(CEILING) == ours


def test_the_catalog_can_change_underneath() -> None:
    book = EpochBook(catalog())
    run(book, stream([(T0, wish("bidding", 15_000_000)), (T0 + EPOCH_NS, beat(T0 + EPOCH_NS))]))
    lower = catalog()
    campaigns = tuple(
        msgspec.structs.replace(c, bid_ceiling_micros=4_000_000) for c in lower.campaigns if c.id != "c"
    )
    book.set_catalog(msgspec.structs.replace(lower, campaigns=campaigns))
    run(book, [message(9, T0 + 3 * EPOCH_NS, beat(T0 + 3 * EPOCH_NS))])
    assert book.value(CEILING) == 4_000_000
    assert book.target("campaign/c/bid_ceiling") is None


def test_stamps_decide_who_spoke_last_not_the_order_of_arrival() -> None:
    early = wish("bidding", 5_000_000, at_ns=T0)
    late = msgspec.structs.replace(
        early, event_id="late", value=19_000_000, stamp=HybridTime(T0, 1, "bidding")
    )
    ends = []
    for order in ([early, late], [late, early]):
        book = EpochBook(catalog())
        run(book, stream([(T0, order[0]), (T0, order[1]), (T0 + 30 * NS_PER_S, beat(T0))]))
        ends.append(book.value(CEILING))
    assert ends == [19_000_000, 19_000_000]
    assert target(CEILING).default == 20_000_000
