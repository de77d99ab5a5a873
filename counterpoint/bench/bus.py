"""What the bus costs: acknowledged publishes, events a second out and in, delay, and what a crash of the server loses.

``python -m counterpoint.bench.bus [BATCHES]`` starts a server of its own in a temporary directory for each setting and
prints one line per figure. Figures of ``docs/decisions/0001-bus-durability.md`` come from here.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from counterpoint.bus.nats import NatsBus
from counterpoint.bus.outbox import BatchingOutbox
from counterpoint.bus.server import NatsServer
from counterpoint.bus.streams import StreamLimits
from counterpoint.events import subjects
from counterpoint.events.event import Event
from counterpoint.events.facts import BidPlaced
from counterpoint.events.money import SettlementNoticed

BATCH = 100
OUTBOX_EVENTS = 40_000
_T = 1_795_000_000_000_000_000
NOTICES, BIDS = subjects.notice("adx"), subjects.bids("b1")


def bid(n: int) -> BidPlaced:
    """About 560 bytes, with the fields a real one has filled."""
    return BidPlaced(
        event_id=f"{n:032x}",
        happened_at_ns=_T + n,
        recorded_at_ns=_T + n,
        source="bidder/b1",
        auction_id=f"a{n:030d}",
        exchange="adx",
        media="banner",
        segment="adx/banner",
        campaign_id="c17",
        line_item_id="li-1234",
        creative_id="cr-9876",
        price_nanos=1_234_567,
        value_nanos=2_345_678,
        paced_nanos=2_000_000,
        floor_nanos=100_000,
        click_rate=0.0123,
        conversion_rate=0.05,
        win_rate=0.2,
        auction_type=1,
        experiment="always-on",
        bucket=123,
        creative_propensity=0.3,
        bidding_version=3,
        creative_version=5,
        view_digest="abcdef0123456789",
        user_key="u" * 32,
        allowance_id="al-12345678",
    )


def notice(n: int) -> SettlementNoticed:
    return SettlementNoticed(
        event_id=f"settle-{n:032x}",
        happened_at_ns=_T,
        recorded_at_ns=_T,
        source="tracker/b1",
        bid_id=f"{n:032x}",
        exchange="adx",
        allowance_id="al-12345678",
        campaign_id="c17",
        line_item_id="li-1234",
        creative_id="cr-9876",
        bid_nanos=1_234_567,
        paid_nanos=1_234_567,
        bid_at_ns=_T,
        reservation_until_ns=_T,
    )


class Bench:
    """``numbers`` grows over all figures, so that no batch repeats another's id."""

    def __init__(self, server: NatsServer, bus: NatsBus, batches: int) -> None:
        self.server = server
        self.bus = bus
        self.batches = batches
        self.numbers = 0

    def make(self, event: Callable[[int], Event], size: int) -> list[list[Event]]:
        made = [[event(self.numbers + b * size + n) for n in range(size)] for b in range(self.batches)]
        self.numbers += self.batches * size
        return made

    async def publishes(
        self, what: str, subject: str, batches: Sequence[Sequence[Event]], at_once: int
    ) -> None:
        waiting = iter(batches)
        delays_ms: list[float] = []

        async def lane() -> None:
            for batch in waiting:
                began = time.perf_counter()
                await self.bus.publish(subject, batch, batch_id=batch[0].event_id)
                delays_ms.append((time.perf_counter() - began) * 1e3)

        cpu, began = time.process_time(), time.perf_counter()
        await asyncio.gather(*(lane() for _ in range(at_once)))
        took_s, cpu = time.perf_counter() - began, time.process_time() - cpu
        events = sum(map(len, batches))
        delays_ms.sort()
        print(
            f"  {what}, {at_once} at once: {len(batches) / took_s:,.0f} acknowledged/s, {events / took_s:,.0f} events/s, "
            f"p50 {delays_ms[len(delays_ms) // 2]:.2f} ms, p99 {delays_ms[int(len(delays_ms) * 0.99)]:.2f} ms, "
            f"publisher {cpu / events * 1e6:.1f} us CPU/event"
        )

    async def consumes(self) -> None:
        subscription = await self.bus.subscribe(subjects.FACTS, [BIDS])
        events = 0
        cpu, began = time.process_time(), time.perf_counter()
        while found := await subscription.fetch(64, wait_s=0.2):
            events += sum(len(delivery.events) for delivery in found)
            took_s = time.perf_counter() - began
        cpu = time.process_time() - cpu
        print(f"  consumer: {events / took_s:,.0f} events/s, {cpu / events * 1e6:.1f} us CPU/event")

    async def outbox(self) -> None:
        outbox = BatchingOutbox(self.bus, lambda _: BIDS)
        events = [bid(self.numbers + n) for n in range(OUTBOX_EVENTS)]
        self.numbers += OUTBOX_EVENTS
        began = time.perf_counter()
        for event in events:
            outbox.offer(event)
        offered_s = time.perf_counter() - began
        outbox.stop()
        began = time.perf_counter()
        await outbox.run()
        print(
            f"  outbox: offer {offered_s / OUTBOX_EVENTS * 1e6:.2f} us, "
            f"drained {outbox.sent / (time.perf_counter() - began):,.0f} events/s, shed {outbox.shed}"
        )

    async def delay(self) -> None:
        subscription = await self.bus.subscribe(subjects.MONEY, [NOTICES], since_ns=time.time_ns())
        delays_ms: list[float] = []
        for _ in range(100):
            waiting = asyncio.create_task(subscription.fetch(wait_s=2.0))
            await asyncio.sleep(0.005)
            began = time.perf_counter()
            await self.bus.publish(NOTICES, [notice(self.numbers)])
            self.numbers += 1
            await waiting
            delays_ms.append((time.perf_counter() - began) * 1e3)
        delays_ms.sort()
        print(f"  published to delivered: p50 {delays_ms[50]:.2f} ms, p99 {delays_ms[98]:.2f} ms")

    async def crash(self) -> None:
        """Kill the server right after an acknowledgement, and count what is not there afterwards."""
        for what, subject, event in (("MONEY", NOTICES, notice), ("FACTS", BIDS, bid)):
            for batch in self.make(event, BATCH):
                sequence = await self.bus.publish(subject, batch, batch_id=batch[0].event_id)
            self.server.kill()
            await self.server.start()
            while not self.bus.connected():  # noqa: ASYNC110 (a connection comes when it comes)
                await asyncio.sleep(0.01)
            last = await self.bus.last(subject)
            kept = last.sequence if last is not None else 0
            print(
                f"  kill -9: {sequence - kept} of the last {self.batches} acknowledged batches of {what} lost"
            )


async def run(batches: int) -> None:
    for name, always, facts_async in (
        ("sync always, FACTS async (ours)", True, True),
        ("sync always, FACTS too", True, False),
        ("sync every 2 min (NATS default)", False, False),
    ):
        print(name)
        with tempfile.TemporaryDirectory() as directory:
            limits = StreamLimits(facts_async=facts_async)
            server = NatsServer(Path(directory), limits=limits, fsync_always=always)
            await server.start()
            credential = server.credential("bidder")
            async with NatsBus(server.url, credential.user, credential.password, "bench") as bus:
                bench = Bench(server, bus, batches)
                for at_once in (1, 16):
                    await bench.publishes(
                        "MONEY, batches of 100", NOTICES, bench.make(notice, BATCH), at_once
                    )
                    await bench.publishes("MONEY, single notices", NOTICES, bench.make(notice, 1), at_once)
                    await bench.publishes("FACTS, batches of 100", BIDS, bench.make(bid, BATCH), at_once)
                await bench.consumes()
                await bench.outbox()
                await bench.delay()
                await bench.crash()
            server.stop()


if __name__ == "__main__":
    asyncio.run(run(int(sys.argv[1]) if len(sys.argv) > 1 else 600))
