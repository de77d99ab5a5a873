from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from counterpoint.base.clock import ManualClock
from counterpoint.base.errors import BusRefused, BusUnavailable
from counterpoint.bus.memory import MemoryBus
from counterpoint.bus.outbox import BatchingOutbox
from counterpoint.events import subjects
from counterpoint.events.event import Event
from counterpoint.events.facts import TrafficCounted
from counterpoint.events.subjects import FACTS
from tests.bus.samples import OUTCOMES, click, ids, traffic
from tests.bus.worlds import Embedded


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(2_000):
        if condition():
            return
        await asyncio.sleep(0.002)
    raise AssertionError("it did not come to that")


def place(event: Event) -> str:
    return subjects.traffic("b1") if isinstance(event, TrafficCounted) else OUTCOMES


async def test_events_leave_in_order_and_in_batches() -> None:
    bus = MemoryBus(ManualClock())
    outbox = BatchingOutbox(bus, place, batch_max=10, flush_every_s=0.01)
    for n in range(25):
        assert outbox.offer(click(str(n)))
    outbox.offer(traffic("1"))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(outbox.run())
        await until(lambda: outbox.sent == 26)
        outbox.offer(click("25"))  # what is offered late leaves with stop()
        outbox.stop()
    clicks = bus.read_now(FACTS, [OUTCOMES])
    assert [name for d in clicks for name in ids(d.events)] == [f"click-{n}" for n in range(26)]
    assert [len(d.events) for d in clicks] == [10, 10, 5, 1]
    assert (outbox.sent, outbox.shed, outbox.batches) == (27, 0, 5)


async def test_a_full_buffer_sheds_and_counts() -> None:
    outbox = BatchingOutbox(MemoryBus(ManualClock()), place, events_max=5)
    assert [outbox.offer(click(str(n))) for n in range(8)] == [True] * 5 + [False] * 3
    assert outbox.shed == 3
    assert outbox.waiting == 5


async def test_while_the_bus_is_away_events_wait_and_then_shed() -> None:
    bus = MemoryBus(ManualClock())
    bus.go_away()
    outbox = BatchingOutbox(bus, place, events_max=20, batch_max=5, flush_every_s=0.001)
    running = asyncio.create_task(outbox.run())
    for n in range(30):
        outbox.offer(click(str(n)))
        await asyncio.sleep(0)
    assert outbox.shed == 10
    bus.come_back()
    await until(lambda: outbox.sent == 20)
    outbox.stop()
    await running
    assert [name for d in bus.read_now(FACTS, [OUTCOMES]) for name in ids(d.events)] == [
        f"click-{n}" for n in range(20)
    ]


class Unreliable(MemoryBus):
    """Stores, and then says it does not know whether it did."""

    def __init__(self) -> None:
        super().__init__(ManualClock())
        self.lies = 3

    async def publish(self, subject: str, events: Sequence[Event], *, batch_id: str | None = None) -> int:
        sequence = self.publish_now(subject, events, batch_id=batch_id)
        if self.lies:
            self.lies -= 1
            raise BusUnavailable("no answer")
        return sequence


class Refusing(MemoryBus):
    async def publish(self, subject: str, events: Sequence[Event], *, batch_id: str | None = None) -> int:
        raise BusRefused("no")


async def test_a_retried_batch_is_the_same_batch() -> None:
    bus = Unreliable()
    outbox = BatchingOutbox(bus, place, batch_max=5, flush_every_s=0.001)
    for n in range(5):
        outbox.offer(click(str(n)))
    running = asyncio.create_task(outbox.run())
    await until(lambda: outbox.sent == 5)
    outbox.stop()
    await running
    [delivery] = bus.read_now(FACTS, [OUTCOMES])
    assert len(delivery.events) == 5


async def test_what_is_refused_or_left_at_the_end_is_counted_as_shed() -> None:
    refusing = BatchingOutbox(Refusing(ManualClock()), place)
    away = MemoryBus(ManualClock())
    away.go_away()
    for outbox in (refusing, BatchingOutbox(away, place)):
        outbox.offer(click("1"))
        outbox.stop()
        await outbox.run()
        assert (outbox.shed, outbox.sent, outbox.waiting) == (1, 0, 0)


async def test_over_the_network(embedded: Embedded) -> None:
    bus = await embedded.bus("bidder")
    outbox = BatchingOutbox(bus, place, batch_max=100)
    subscription = await bus.subscribe(FACTS, ["facts.>"])
    running = asyncio.create_task(outbox.run())
    for n in range(1_000):
        outbox.offer(click(str(n)))
    got: list[str] = []
    async with asyncio.timeout(10):
        while len(got) < 1_000:
            got += [name for d in await subscription.fetch() for name in ids(d.events)]
    assert got == [f"click-{n}" for n in range(1_000)]
    outbox.stop()
    await running
