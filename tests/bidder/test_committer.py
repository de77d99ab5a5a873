"""Group commit: True means on the bus or on the disk, whatever the bus does meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.base.clock import ManualClock
from counterpoint.base.errors import BusRefused, BusUnavailable
from counterpoint.bidder.committer import Committer, CommitterConfig
from counterpoint.bidder.spool import Spool
from counterpoint.bus.memory import MemoryBus
from counterpoint.events import subjects
from counterpoint.events.codec import decode_batch
from counterpoint.events.event import Event
from counterpoint.events.money import SettlementNoticed
from tests.bidder.world import until

FAST = CommitterConfig(flush_ms=1, ack_timeout_ms=30, drain_pause_ms=10, distrust_ms=20)
SUBJECT = subjects.notice("adx")


class Moody(MemoryBus):
    """A bus that can take a batch without saying so, hang, or refuse."""

    def __init__(self) -> None:
        super().__init__(ManualClock(), wire=True)
        self.mood = "good"  # good | hangs | forgets_to_answer | refuses
        self.batch_ids_seen: list[str] = []

    async def publish(self, subject: str, events: Sequence[Event], *, batch_id: str | None = None) -> int:
        if self.mood == "hangs":
            await asyncio.sleep(3600)
        if self.mood == "refuses":
            raise BusRefused("no permission")
        sequence = await super().publish(subject, events, batch_id=batch_id)
        self.batch_ids_seen.append(batch_id or "")
        if self.mood == "forgets_to_answer":
            raise BusUnavailable("no acknowledgement")
        return sequence

    def booked(self) -> list[str]:
        return [
            event.bid_id
            for delivery in self.read_now(subjects.MONEY, ["money.notice.>"])
            for event in delivery.events
            if isinstance(event, SettlementNoticed)
        ]


def settlement(n: int, exchange: str = "adx") -> SettlementNoticed:
    return SettlementNoticed(
        event_id=f"settle-{n}",
        happened_at_ns=n,
        recorded_at_ns=n,
        source="bidder/b1",
        bid_id=f"bid-{n}",
        exchange=exchange,
        allowance_id="a",
        campaign_id="c",
        line_item_id="l",
        creative_id="cr",
        bid_nanos=10,
        paid_nanos=9,
    )


@contextlib.asynccontextmanager
async def running(
    bus: Moody, folder: Path, config: CommitterConfig = FAST, **limits: int
) -> AsyncIterator[Committer]:
    committer = Committer(bus, Spool(folder, **limits), config)
    task = asyncio.create_task(committer.run())
    try:
        yield committer
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        committer.close()


def spooled(folder: Path) -> list[str]:
    spool = Spool(folder)
    try:
        return [
            event.bid_id
            for number in spool.seal()
            for batch in spool.read(number).batches
            for event in decode_batch(batch.events)[0]
            if isinstance(event, SettlementNoticed)
        ]
    finally:
        spool.close()


async def test_notices_leave_in_batches_by_subject(tmp_path: Path) -> None:
    bus = Moody()
    async with running(bus, tmp_path) as committer:
        futures = [committer.submit(SUBJECT, settlement(n)) for n in range(250)]
        futures.append(committer.submit(subjects.notice("other"), settlement(999, "other")))
        assert all(await asyncio.gather(*futures))
        assert sorted(bus.booked()) == sorted([f"bid-{n}" for n in range(250)] + ["bid-999"])
        assert committer.counters.batches_published == 4
        assert committer.pending == 0
        assert committer.spool.empty


async def test_with_the_bus_away_they_are_on_disk_and_drain_when_it_is_back(tmp_path: Path) -> None:
    bus = Moody()
    async with running(bus, tmp_path) as committer:
        bus.go_away()
        assert all(await asyncio.gather(*[committer.submit(SUBJECT, settlement(n)) for n in range(30)]))
        assert not committer.spool.empty
        assert committer.counters.events_spooled == 30
        bus.come_back()
        await until(lambda: committer.spool.empty)
        assert sorted(bus.booked()) == sorted(f"bid-{n}" for n in range(30))
        assert committer.spool.bytes_used == 0
        assert await committer.submit(SUBJECT, settlement(100))
        assert bus.booked()[-1] == "bid-100"


async def test_a_bus_that_hangs_is_left_after_the_timeout_and_not_asked_for_every_batch(
    tmp_path: Path,
) -> None:
    bus = Moody()
    async with running(
        bus, tmp_path, CommitterConfig(flush_ms=1, ack_timeout_ms=50, distrust_ms=5000)
    ) as committer:
        bus.mood = "hangs"
        assert await committer.submit(SUBJECT, settlement(0))
        assert all(await asyncio.gather(*[committer.submit(SUBJECT, settlement(n)) for n in range(1, 20)]))
        assert committer.counters.bus_failures <= 3
        assert committer.counters.events_spooled == 20


async def test_a_batch_whose_acknowledgement_was_lost_goes_again_under_the_same_id(tmp_path: Path) -> None:
    bus = Moody()
    async with running(bus, tmp_path) as committer:
        bus.mood = "forgets_to_answer"
        assert await committer.submit(SUBJECT, settlement(1))
        bus.mood = "good"
        await until(lambda: committer.spool.empty)
        assert bus.booked() == ["bid-1"]  # the bus dropped the second copy by its id
        assert len(bus.batch_ids_seen) >= 2
        assert len(set(bus.batch_ids_seen)) == 1


async def test_what_an_earlier_process_left_is_drained_first(tmp_path: Path) -> None:
    bus = Moody()
    bus.go_away()
    async with running(bus, tmp_path) as committer:
        assert await committer.submit(SUBJECT, settlement(1))
    bus.come_back()
    async with running(bus, tmp_path) as committer:
        assert await committer.submit(SUBJECT, settlement(2))
        await until(lambda: committer.spool.empty)
        assert sorted(bus.booked()) == ["bid-1", "bid-2"]
        assert bus.booked()[0] == "bid-1"


async def test_a_refused_batch_is_kept_and_the_others_pass(tmp_path: Path) -> None:
    bus = Moody()
    async with running(bus, tmp_path) as committer:
        bus.mood = "refuses"
        assert await committer.submit(SUBJECT, settlement(1))
        await until(lambda: committer.counters.batches_refused >= 2)
        assert not committer.spool.empty
        bus.mood = "good"
        assert await committer.submit(SUBJECT, settlement(2))
        await until(lambda: committer.spool.empty)
        assert sorted(bus.booked()) == ["bid-1", "bid-2"]


async def test_neither_bus_nor_room_on_disk_is_not_durable(tmp_path: Path) -> None:
    bus = Moody()
    async with running(bus, tmp_path, bytes_max=2000) as committer:
        bus.go_away()
        answers = [await committer.submit(SUBJECT, settlement(n)) for n in range(40)]
        assert answers[0]
        assert not answers[-1]
        assert committer.counters.not_durable == answers.count(False)
        bus.come_back()
        await until(lambda: committer.spool.empty)
        assert sorted(bus.booked()) == sorted(f"bid-{n}" for n, kept in enumerate(answers) if kept)


async def test_more_than_may_wait_is_not_durable_at_once(tmp_path: Path) -> None:
    bus = Moody()
    async with running(bus, tmp_path, CommitterConfig(pending_max=10)) as committer:
        futures = [committer.submit(SUBJECT, settlement(n)) for n in range(15)]
        assert [future.done() for future in futures] == [False] * 10 + [True] * 5
        assert (await asyncio.gather(*futures)).count(True) == 10


async def test_settling_waits_for_what_was_taken_and_takes_no_more(tmp_path: Path) -> None:
    bus = Moody()
    async with running(bus, tmp_path, CommitterConfig(flush_ms=200)) as committer:
        taken = committer.submit(SUBJECT, settlement(1))
        await asyncio.sleep(0)
        await committer.settle()
        assert taken.done()
        assert taken.result()
        assert not await committer.submit(SUBJECT, settlement(2))
        assert bus.booked() == ["bid-1"]


@given(
    moods=st.lists(
        st.sampled_from(["good", "hangs", "forgets_to_answer", "refuses", "away"]), min_size=1, max_size=6
    ),
    crash=st.booleans(),
)
@settings(deadline=None, max_examples=25)
def test_whatever_the_bus_does_true_is_kept_and_booked_once_per_bid(
    tmp_path_factory: pytest.TempPathFactory, moods: list[str], crash: bool
) -> None:
    folder = tmp_path_factory.mktemp("moods")
    bus = Moody()
    kept: list[str] = []

    async def main() -> None:
        n = 0
        async with running(bus, folder) as committer:
            for mood in moods:
                bus.mood = "good" if mood == "away" else mood
                if mood == "away":
                    bus.go_away()
                futures = {f"bid-{n + k}": committer.submit(SUBJECT, settlement(n + k)) for k in range(3)}
                n += 3
                if not crash or mood != moods[-1]:
                    await asyncio.gather(*futures.values())
                kept.extend(bid for bid, future in futures.items() if future.done() and future.result())
                if mood == "away":
                    bus.come_back()
        on_disk = spooled(folder)
        assert set(kept) <= set(bus.booked()) | set(on_disk)
        bus.mood = "good"
        async with running(bus, folder) as committer:
            await until(lambda: committer.spool.empty)
        booked = bus.booked()
        assert set(kept) <= set(booked)
        assert len(booked) == len(set(booked))

    asyncio.run(main())
