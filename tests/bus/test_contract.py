"""One contract, whatever the bus: what ``bus/bus.py`` promises."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from counterpoint.base.errors import BusRefused, BusUnavailable
from counterpoint.bus.bus import Bus, Delivery, Subscription
from counterpoint.events import subjects
from counterpoint.events.decisions import PolicyPublished
from counterpoint.events.event import Event
from counterpoint.events.subjects import DECISIONS, FACTS, MONEY
from tests.bus.samples import BEATS, NOTICES, OUTCOMES, balance, beat, click, ids, notice, policy, traffic
from tests.bus.worlds import BULK, InMemory, World


async def take(subscription: Subscription, count: int, messages_max: int = 64) -> list[Delivery]:
    got: list[Delivery] = []
    async with asyncio.timeout(20):
        while len(got) < count:
            found = await subscription.fetch(messages_max, wait_s=5.0)
            assert len(found) <= messages_max
            got += found
    assert len(got) == count
    return got


async def publish_all(bus: Bus, subject: str, events: Sequence[Event]) -> list[int]:
    return [await bus.publish(subject, [event]) for event in events]


async def test_batches_come_in_order_whole_and_with_the_streams_own_time(world: World) -> None:
    bus = await world.bus("bidder")
    subscription = await bus.subscribe(MONEY, [NOTICES])
    sequences = [
        await bus.publish(NOTICES, [notice(f"{batch}-{event}") for event in range(3)]) for batch in range(10)
    ]
    got = await take(subscription, 10)
    assert sequences == [delivery.sequence for delivery in got] == list(range(1, 11))
    assert [ids(delivery.events) for delivery in got] == [
        [f"settle-{batch}-{event}" for event in range(3)] for batch in range(10)
    ]
    assert got[0].events[0] == notice("0-0")
    times = [delivery.stored_at_ns for delivery in got]
    assert times == sorted(times)
    assert all((d.stream, d.subject, d.unreadable) == (MONEY, NOTICES, 0) for d in got)


async def test_a_retried_batch_is_stored_once_and_keeps_its_first_sequence(world: World) -> None:
    bus = await world.bus("bidder")
    events = [notice("1"), notice("2")]
    first = await bus.publish(NOTICES, events)
    assert await bus.publish(NOTICES, events) == first
    named = await bus.publish(NOTICES, [notice("3")], batch_id="batch-7")
    assert named != first
    # the first copy is the batch, whatever a retry carries
    assert await bus.publish(NOTICES, [notice("4")], batch_id="batch-7") == named
    got = await take(await bus.subscribe(MONEY, ["money.>"]), 2)
    assert [ids(d.events) for d in got] == [["settle-1", "settle-2"], ["settle-3"]]


async def test_what_the_caller_does_to_its_list_later_changes_nothing(world: World) -> None:
    bus = await world.bus("bidder")
    events = [notice("1")]
    await bus.publish(NOTICES, events)
    events.append(notice("2"))
    events[0] = notice("3")
    [delivery] = await take(await bus.subscribe(MONEY, [NOTICES]), 1)
    assert delivery.events == (notice("1"),)


async def test_a_consumer_resumes_by_position(world: World) -> None:
    bus = await world.bus("bidder")
    sequences = await publish_all(bus, NOTICES, [notice(str(n)) for n in range(5)])
    got = await take(await bus.subscribe(MONEY, [NOTICES], after=sequences[1]), 3)
    assert [ids(d.events) for d in got] == [["settle-2"], ["settle-3"], ["settle-4"]]
    at_the_end = await bus.subscribe(MONEY, [NOTICES], after=sequences[-1])
    assert await at_the_end.fetch(wait_s=0.05) == []
    await bus.publish(NOTICES, [notice("new")])
    assert ids((await take(at_the_end, 1))[0].events) == ["settle-new"]


async def test_a_consumer_begins_at_a_time(world: World) -> None:
    bus = await world.bus("bidder")
    for n in range(4):
        await bus.publish(NOTICES, [notice(str(n))])
        if isinstance(world, InMemory):
            world.clock.advance(1_000)
    stored = [d.stored_at_ns for d in await take(await bus.subscribe(MONEY, [NOTICES]), 4)]
    since = await bus.subscribe(MONEY, [NOTICES], since_ns=stored[2])
    assert [d.sequence for d in await take(since, 2)] == [3, 4]
    assert [d.sequence for d in await take(await bus.subscribe(MONEY, [NOTICES], since_ns=0), 4)] == [
        1,
        2,
        3,
        4,
    ]
    future = await bus.subscribe(MONEY, [NOTICES], since_ns=stored[3] + 1)
    assert await future.fetch(wait_s=0.05) == []
    await bus.publish(NOTICES, [notice("later")])
    assert [d.sequence for d in await take(future, 1)] == [5]


async def test_wildcards_and_several_subjects(world: World) -> None:
    bus = await world.bus("bidder")
    await bus.publish(OUTCOMES, [click("1")])
    await bus.publish(subjects.traffic("b1"), [traffic("2")])
    await bus.publish(OUTCOMES, [click("3")])
    for patterns, expected in (
        (["facts.>"], [1, 2, 3]),
        (["facts.*.b1"], [1, 2, 3]),
        (["facts.outcomes.*"], [1, 3]),
        ([OUTCOMES, "facts.traffic.>"], [1, 2, 3]),
        (["facts.traffic.*", "facts.bids.*"], [2]),
    ):
        got = await take(await bus.subscribe(FACTS, patterns), len(expected))
        assert [d.sequence for d in got] == expected
    elsewhere = await bus.subscribe(FACTS, ["facts.*", "facts.bids.b1", "facts.outcomes.b2"])
    assert await elsewhere.fetch(wait_s=0.05) == []


async def test_last_values(world: World) -> None:
    agent, ledger = await world.bus("agent-bidding"), await world.bus("ledger")
    assert await agent.last(subjects.policy("bidding")) is None
    assert await agent.last_all("decisions.policy.*") == []
    for version in range(3):
        await agent.publish(subjects.policy("bidding"), [policy(str(version))])
    await (await world.bus("agent-creative")).publish(
        subjects.policy("creative"), [policy("0", agent="creative")]
    )
    for campaign, reserved in (("1", 5), ("2", 6), ("1", 7)):
        await ledger.publish(subjects.balance(campaign), [balance(campaign, reserved)])
    last = await agent.last(subjects.policy("bidding"))
    assert last is not None
    assert (last.sequence, ids(last.events)) == (3, ["policy-bidding-2"])
    assert [ids(d.events) for d in await agent.last_all("decisions.policy.*")] == [
        ["policy-bidding-2"],
        ["policy-creative-0"],
    ]
    assert [ids(d.events) for d in await agent.last_all("money.ledger.balance.*")] == [
        ["balance-2-6"],
        ["balance-1-7"],
    ]


async def test_many_last_values(world: World) -> None:
    """More than the 1,024 subjects JetStream answers about at once."""
    ledger = await world.bus("ledger")
    campaigns = [str(n) for n in range(1_100)]
    for some in range(0, len(campaigns), 100):
        await asyncio.gather(
            *(ledger.publish(subjects.balance(c), [balance(c, 1)]) for c in campaigns[some : some + 100])
        )
    async with asyncio.timeout(10):
        await ledger.publish(subjects.balance("7"), [balance("7", 2)])
    got = await ledger.last_all("money.ledger.balance.*")
    assert {d.subject for d in got} == {subjects.balance(c) for c in campaigns}
    assert ids(got[-1].events) == ["balance-7-2"]


async def test_two_consumers_do_not_disturb_each_other(world: World) -> None:
    bus = await world.bus("bidder")
    one, two = await bus.subscribe(MONEY, [NOTICES]), await bus.subscribe(MONEY, [NOTICES])
    await publish_all(bus, NOTICES, [notice(str(n)) for n in range(6)])
    assert [d.sequence for d in await take(one, 6, messages_max=2)] == [1, 2, 3, 4, 5, 6]
    assert [d.sequence for d in await take(two, 6, messages_max=5)] == [1, 2, 3, 4, 5, 6]
    await one.close()
    await bus.publish(NOTICES, [notice("more")])
    assert [d.sequence for d in await take(two, 1)] == [7]


async def test_a_long_backlog_comes_through(world: World) -> None:
    """More than the 1,000 unacknowledged messages at which JetStream consumers stall by default."""
    bus = await world.bus("bidder")
    for some in range(0, 1_500, 100):
        await asyncio.gather(*(bus.publish(OUTCOMES, [click(str(n))]) for n in range(some, some + 100)))
    subscription = await bus.subscribe(FACTS, [OUTCOMES])
    got = await take(subscription, 1_500, messages_max=1_400)
    assert [d.sequence for d in got] == list(range(1, 1_501))


async def test_fetch_wakes_up_for_news_and_returns_nothing_without(world: World) -> None:
    bus = await world.bus("bidder")
    subscription = await bus.subscribe(MONEY, [NOTICES])
    assert await subscription.fetch(wait_s=0.0) == []
    waiting = asyncio.create_task(subscription.fetch(wait_s=30.0))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await bus.publish(NOTICES, [notice("1")])
    async with asyncio.timeout(5):
        assert [d.sequence for d in await waiting] == [1]
    waiting = asyncio.create_task(subscription.fetch(wait_s=30.0))
    await asyncio.sleep(0.02)
    await subscription.close()
    async with asyncio.timeout(5):
        assert await waiting == []


async def test_a_large_batch_passes_and_one_too_large_is_refused(world: World) -> None:
    bus = await world.bus("agent-bidding")
    subject = subjects.policy("bidding")
    payload = bytes(range(256)) * 4 * 1024 * 6  # 6 MiB
    await bus.publish(subject, [policy("large", payload=payload)])
    with pytest.raises(BusRefused):
        await bus.publish(subject, [policy("too-large", payload=payload * 2)])
    [delivery] = await take(await bus.subscribe(DECISIONS, [subject]), 1)
    event = delivery.events[0]
    assert isinstance(event, PolicyPublished)
    assert event.payload == payload
    await bus.publish(subject, [policy("next")])


async def test_what_was_acknowledged_survives_a_crash_and_subscriptions_go_on(world: World) -> None:
    bus = await world.bus("bidder")
    subscription = await bus.subscribe(MONEY, [NOTICES])
    idle = await bus.subscribe(MONEY, [NOTICES])
    await publish_all(bus, NOTICES, [notice(str(n)) for n in range(5)])
    assert len(await take(subscription, 3, messages_max=3)) == 3
    await world.crash()
    assert not bus.connected()
    with pytest.raises(BusUnavailable):
        async with asyncio.timeout(2):
            await bus.publish(NOTICES, [notice("away")])
    with pytest.raises(BusUnavailable):
        await subscription.fetch(wait_s=0.1)
    waiting = asyncio.create_task(idle.fetch(wait_s=30.0))
    await world.restart()
    assert await bus.publish(NOTICES, [notice("4")]) == 5  # the retry of what was stored before the crash
    await bus.publish(NOTICES, [notice("away")])
    assert [ids(d.events)[0] for d in await take(subscription, 3)] == ["settle-3", "settle-4", "settle-away"]
    async with asyncio.timeout(10):
        assert (await waiting)[0].sequence == 1
    last = await bus.last(NOTICES)
    assert last is not None
    assert last.sequence == 6


async def test_every_acknowledged_batch_is_there_after_a_crash_in_full_flight(world: World) -> None:
    bus = await world.bus("bidder")
    acknowledged: list[str] = []

    async def publish_until_it_fails(lane: int) -> None:
        for n in range(100_000):
            try:
                await bus.publish(NOTICES, [notice(f"{lane}-{n}")])
            except BusUnavailable:
                return
            acknowledged.append(f"settle-{lane}-{n}")
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as lanes:
        for lane in range(4):
            lanes.create_task(publish_until_it_fails(lane))
        await asyncio.sleep(0.15)
        await world.crash()
    await world.restart()
    assert acknowledged
    stored: list[str] = []
    subscription = await bus.subscribe(MONEY, [NOTICES])
    while found := await subscription.fetch(256, wait_s=0.3):
        stored += [event_id for delivery in found for event_id in ids(delivery.events)]
    assert set(acknowledged) <= set(stored)
    assert len(stored) == len(set(stored))


async def test_a_position_that_retention_has_passed_goes_on_at_the_oldest_kept(small_world: World) -> None:
    bus = await small_world.bus("bidder")
    for n in range(60):
        event = replace(traffic(str(n)), requests={BULK.decode(): 1})
        await bus.publish(subjects.traffic("b1"), [event])
    late = await bus.subscribe(FACTS, ["facts.>"], after=2)
    first = (await late.fetch(1, wait_s=2.0))[0].sequence
    assert 30 < first <= 60
    rest = await take(late, 60 - first)
    assert [d.sequence for d in rest] == list(range(first + 1, 61))


async def test_a_position_beyond_the_end_starts_over(world: World) -> None:
    bus = await world.bus("bidder")
    on_empty = await bus.subscribe(MONEY, [NOTICES], after=17)
    await publish_all(bus, NOTICES, [notice(str(n)) for n in range(3)])
    assert [d.sequence for d in await take(on_empty, 3)] == [1, 2, 3]
    beyond = await bus.subscribe(MONEY, [NOTICES], after=4)
    assert [d.sequence for d in await take(beyond, 3)] == [1, 2, 3]


async def test_our_own_mistakes_are_assertions_and_unknown_streams_are_refused(world: World) -> None:
    bus = await world.bus("agent-bidding")
    with pytest.raises(AssertionError):
        await bus.publish(BEATS, [])
    with pytest.raises(AssertionError):
        await bus.publish("decisions.beat.*", [beat("1")])
    with pytest.raises(AssertionError, match="not their place"):
        await bus.publish(BEATS, [notice("1")])
    with pytest.raises(AssertionError, match="not their place"):
        await bus.publish(subjects.policy("bidding"), [policy("1", agent="creative")])
    with pytest.raises(BusRefused):
        await bus.subscribe("NOWHERE", ["nowhere.>"])
