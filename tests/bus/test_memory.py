"""What only the bus in memory can do: simulated time, faults by seed, synchronous doors."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.base.clock import NS_PER_S, ManualClock
from counterpoint.bus.bus import Delivery
from counterpoint.bus.faults import Faults
from counterpoint.bus.memory import MemoryBus
from counterpoint.events import subjects
from counterpoint.events.subjects import DECISIONS, FACTS, MONEY
from tests.bus.samples import NOTICES, beat, click, ids, notice

BIDDERS = [subjects.outcomes(f"b{n}") for n in range(4)]


def run(faults: Faults | None, count: int = 200, read_every: int = 0) -> tuple[MemoryBus, list[Delivery]]:
    """Publish money and facts alike; read all the time or only at the end."""
    clock = ManualClock()
    bus = MemoryBus(clock, faults)
    subscription = bus.subscribe_now(FACTS, ["facts.>"])
    got: list[Delivery] = []
    for n in range(count):
        clock.advance(1_000)
        bus.publish_now(BIDDERS[n % 4], [click(str(n))])
        bus.publish_now(subjects.notice(f"x{n % 4}"), [notice(str(n))])
        if read_every and n % read_every == 0:
            got += subscription.fetch_now(1_000)
    return bus, got + subscription.fetch_now(100_000)


def story(deliveries: list[Delivery]) -> list[tuple[int, int, str, list[str]]]:
    return [(d.sequence, d.stored_at_ns, d.subject, ids(d.events)) for d in deliveries]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), read_every=st.integers(0, 7))
def test_faults_keep_the_contract_and_repeat_by_seed(seed: int, read_every: int) -> None:
    faults = Faults(seed, reorder=0.4, duplicate=0.2, drop=0.1)
    bus, got = run(faults, read_every=read_every)
    _, same = run(Faults(seed, reorder=0.4, duplicate=0.2, drop=0.1), read_every=read_every)
    assert story(got) == story(same)
    # positions and times never go back, nothing is skipped, whoever reads and whenever
    assert [d.sequence for d in got] == list(range(1, bus.last_sequence(FACTS) + 1))
    assert [d.stored_at_ns for d in got] == sorted(d.stored_at_ns for d in got)
    # one publisher's own batches stay in order
    for subject in BIDDERS:
        own = [int(ids(d.events)[0].removeprefix("click-")) for d in got if d.subject == subject]
        assert own == sorted(own)
    # money may come twice and late, but all of it comes
    money = bus.read_now(MONEY, ["money.>"], messages_max=100_000)
    assert {ids(d.events)[0] for d in money} == {f"settle-{n}" for n in range(200)}
    facts = {ids(d.events)[0] for d in got}
    assert len(facts) == 200 - faults.dropped
    for subject in BIDDERS:
        last = bus.last_now(subject)
        assert last == [d for d in got if d.subject == subject][-1]


def test_every_fault_happens_and_is_counted() -> None:
    faults = Faults(7, reorder=0.4, duplicate=0.2, drop=0.1)
    _, got = run(faults)
    assert faults.dropped > 0
    assert faults.duplicated > 0
    assert faults.reordered > 0
    order = [ids(d.events)[0] for d in got]
    assert order != sorted(order, key=lambda name: int(name.removeprefix("click-")))
    assert len(order) > len(set(order))


def test_money_can_be_dropped_only_when_asked_to() -> None:
    faults = Faults(7, drop=1.0, drop_streams=(MONEY,))
    bus, got = run(faults, count=20)
    assert len(got) == 20
    assert bus.last_sequence(MONEY) == 0


def test_the_same_batch_after_the_duplicate_window_is_stored_again() -> None:
    clock = ManualClock()
    bus = MemoryBus(clock)
    first = bus.publish_now(NOTICES, [notice("1")])
    clock.advance(119 * NS_PER_S)
    assert bus.publish_now(NOTICES, [notice("1")]) == first
    clock.advance(2 * NS_PER_S)
    assert bus.publish_now(NOTICES, [notice("1")]) == first + 1


def test_memory_stays_bounded_and_last_values_stay() -> None:
    clock = ManualClock()
    bus = MemoryBus(clock, messages_max=10)
    bus.publish_now(subjects.beat("budget"), [beat("0", agent="budget")])
    for n in range(1_000):
        clock.advance(NS_PER_S)
        bus.publish_now(subjects.beat("bidding"), [beat(str(n))])
    assert bus.forgotten(DECISIONS) == 991
    kept = bus.read_now(DECISIONS, ["decisions.>"], after=5)
    assert [d.sequence for d in kept] == list(range(992, 1_002))
    assert [d.sequence for d in bus.last_all_now("decisions.beat.*")] == [1, 1_001]
    since = bus.subscribe_now(DECISIONS, ["decisions.>"], since_ns=kept[4].stored_at_ns)
    assert [d.sequence for d in since.fetch_now()] == list(range(996, 1_002))


def test_time_never_goes_back_on_a_stream_though_a_clock_does() -> None:
    clock = ManualClock()
    bus = MemoryBus(clock)
    bus.publish_now(NOTICES, [notice("1")])
    clock._now_ns -= 5 * NS_PER_S
    bus.publish_now(NOTICES, [notice("2")])
    one, two = bus.read_now(MONEY, [NOTICES])
    assert one.stored_at_ns == two.stored_at_ns


async def test_fetch_needs_no_sleep_when_there_is_something() -> None:
    bus = MemoryBus(ManualClock())
    subscription = await bus.subscribe(MONEY, [NOTICES])
    bus.publish_now(NOTICES, [notice("1")])
    with pytest.raises(StopIteration) as done:  # it returns without giving the loop back once
        subscription.fetch().send(None)
    assert [d.sequence for d in done.value.value] == [1]
