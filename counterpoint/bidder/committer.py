"""Group commit of notices: gather for a few milliseconds, publish as one batch, answer when it is durable.

A batch is on the bus (acknowledged), or, where the bus does not answer in time, in the spool (synced), under the same
batch id; a drain publishes the spool again in order when the bus is back, and removes a segment when all of it is
acknowledged. What is in neither is answered "not durable": 503, and the exchange retries. A batch that did reach the
bus although its acknowledgement did not reach us is published twice: the bus drops it by its id, the ledger by bid.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct

from counterpoint.base.errors import BusRefused, BusUnavailable
from counterpoint.bidder.spool import Spool, SpooledBatch, SpoolFull
from counterpoint.bus.batch import batch_id_of
from counterpoint.bus.bus import Bus
from counterpoint.events.codec import decode_batch, encode_batch
from counterpoint.events.event import Event

T = TypeVar("T")
Positive = Annotated[float, Meta(gt=0)]


class CommitterConfig(Struct, frozen=True, forbid_unknown_fields=True):
    flush_ms: Positive = 3.0  # the longest a notice waits for company
    batch_max: Annotated[int, Meta(gt=0, le=1000)] = 100
    ack_timeout_ms: Positive = 300.0  # then the spool takes it
    pending_max: Annotated[int, Meta(gt=0)] = 20_000  # notices not yet durable; past that 503
    in_flight_max: Annotated[int, Meta(gt=0)] = 8  # batches waiting for the bus at once
    distrust_ms: Positive = 1000.0  # after a failure of the bus, straight to the spool for so long
    drain_pause_ms: Positive = 500.0  # between attempts while the bus is away


class CommitterCounters:
    __slots__ = (
        "batches_published",
        "batches_refused",
        "batches_spooled",
        "bus_failures",
        "drained_batches",
        "events_published",
        "events_spooled",
        "not_durable",
    )

    def __init__(self) -> None:
        self.batches_published = 0
        self.batches_spooled = 0
        self.batches_refused = 0  # the bus said no: kept in the spool, a person must look
        self.bus_failures = 0
        self.drained_batches = 0
        self.events_published = 0
        self.events_spooled = 0
        self.not_durable = 0  # answered 503


_Waiting = tuple[Event, "asyncio.Future[bool]"]


class Committer:
    """``submit`` never waits; ``run`` belongs in a task group beside the server. One event loop, one spool."""

    def __init__(self, bus: Bus, spool: Spool, config: CommitterConfig | None = None) -> None:
        self.bus = bus
        self.spool = spool
        self.config = config if config is not None else CommitterConfig()
        self.counters = CommitterCounters()
        self.pending = 0
        self._gathered: dict[str, list[_Waiting]] = {}  # by subject
        self._gathered_count = 0
        self._some = asyncio.Event()
        self._many = asyncio.Event()
        self._to_spool: list[tuple[SpooledBatch, asyncio.Future[bool]]] = []
        self._spool_wake = asyncio.Event()
        self._drain_wake = asyncio.Event()
        self._idle = asyncio.Event()
        # After a failure batches go to the spool at once for a while, so that not every one of them waits for the
        # timeout; after a start, until what an earlier process left has been drained.
        self._distrusted_until_s = 0.0 if spool.empty else math.inf
        self._acknowledged: set[str] = set()  # batches of segments that had to stay
        self._in_flight = asyncio.Semaphore(self.config.in_flight_max)
        self._running = 0  # batches on their way
        self._closing = False
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="spool")

    def submit(self, subject: str, event: Event) -> asyncio.Future[bool]:
        """Resolves to True when the event is durable, to False when it is not: too many wait, or the spool is full."""
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if self.pending >= self.config.pending_max or self._closing:
            self.counters.not_durable += 1
            future.set_result(False)
            return future
        self.pending += 1
        waiting = self._gathered.get(subject)
        if waiting is None:
            self._gathered[subject] = [(event, future)]
        else:
            waiting.append((event, future))
        self._gathered_count += 1
        self._some.set()
        if self._gathered_count >= self.config.batch_max:
            self._many.set()
        return future

    async def run(self) -> None:
        """Until cancelled. Cancelling loses nothing that was answered; what is pending stays unanswered."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._gather(tasks), name="commit-notices")
            tasks.create_task(self._write_spool(), name="spool-notices")
            tasks.create_task(self._drain(), name="drain-spool")

    async def settle(self, timeout_s: float = 5.0) -> None:
        """Take no more, and wait until all that was taken is durable or refused. Call before cancelling ``run``."""
        self._closing = True
        self._many.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self.pending:
                    self._idle.clear()
                    await self._idle.wait()

    def close(self) -> None:
        """After ``run`` has ended: wait for the spool's thread and release the folder."""
        self._worker.shutdown(wait=True)
        self.spool.close()

    # ---- gathering and publishing

    async def _gather(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            await self._some.wait()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.config.flush_ms / 1000):
                    await self._many.wait()
            gathered, self._gathered = self._gathered, {}
            self._gathered_count = 0
            self._some.clear()
            if not self._closing:
                self._many.clear()
            for subject, waiting in gathered.items():
                for start in range(0, len(waiting), self.config.batch_max):
                    await self._in_flight.acquire()
                    tasks.create_task(
                        self._commit(subject, waiting[start : start + self.config.batch_max]),
                        name="commit-batch",
                    )

    async def _commit(self, subject: str, waiting: list[_Waiting]) -> None:
        events = tuple(event for event, _ in waiting)
        batch_id = batch_id_of(events)
        try:
            durable = await self._publish(subject, events, batch_id)
            if not durable:
                durable = await self._spool(SpooledBatch(batch_id, subject, encode_batch(events)))
                if durable:
                    self.counters.batches_spooled += 1
                    self.counters.events_spooled += len(events)
        finally:
            self._in_flight.release()
        self.pending -= len(waiting)
        if not durable:
            self.counters.not_durable += len(waiting)
        for _, future in waiting:
            if not future.done():
                future.set_result(durable)
        if self.pending == 0:
            self._idle.set()

    async def _publish(self, subject: str, events: tuple[Event, ...], batch_id: str) -> bool:
        if asyncio.get_running_loop().time() < self._distrusted_until_s or not self.bus.connected():
            return False
        try:
            async with asyncio.timeout(self.config.ack_timeout_ms / 1000):
                await self.bus.publish(subject, events, batch_id=batch_id)
        except (BusUnavailable, TimeoutError):
            self._distrust()
            return False
        except BusRefused:
            self.counters.batches_refused += 1
            return False
        self.counters.batches_published += 1
        self.counters.events_published += len(events)
        return True

    def _distrust(self) -> None:
        self.counters.bus_failures += 1
        self._distrusted_until_s = asyncio.get_running_loop().time() + self.config.distrust_ms / 1000

    # ---- the spool

    async def _spool(self, batch: SpooledBatch) -> bool:
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._to_spool.append((batch, future))
        self._spool_wake.set()
        return await future

    async def _write_spool(self) -> None:
        """One sync for all batches that came while the last one was being written."""
        while True:
            await self._spool_wake.wait()
            self._spool_wake.clear()
            taken, self._to_spool = self._to_spool, []
            if not taken:
                continue
            batches = [batch for batch, _ in taken]
            try:
                await self._off_loop(partial(self.spool.append, batches))
                durable = True
            except SpoolFull:
                durable = False
            for _, future in taken:
                if not future.done():
                    future.set_result(durable)
            self._drain_wake.set()

    async def _drain(self) -> None:
        pause_s = self.config.drain_pause_ms / 1000
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._drain_wake.wait()
            self._drain_wake.clear()
            if self.spool.empty or not self.bus.connected():
                continue
            if await self._drain_once():
                self._distrusted_until_s = 0.0
            else:
                self._distrust()
            await asyncio.sleep(pause_s)  # what was spooled meanwhile, or refused, waits a little

    async def _drain_once(self) -> bool:
        """Publish what is spooled, oldest first. False when the bus failed in the middle."""
        for number in await self._off_loop(self.spool.seal):
            content = await self._off_loop(partial(self.spool.read, number))
            aside = content.damaged > 0
            refused = False
            for batch in content.batches:
                if batch.batch_id in self._acknowledged:
                    continue
                events = _readable(batch)
                if events is None:
                    aside = True  # of a newer version: kept with its segment, for a person
                    continue
                try:
                    async with asyncio.timeout(self.config.ack_timeout_ms / 1000):
                        await self.bus.publish(batch.subject, events, batch_id=batch.batch_id)
                except (BusUnavailable, TimeoutError):
                    return False
                except BusRefused:
                    self.counters.batches_refused += 1
                    refused = True  # stays, and is tried again: a permission may come back
                    continue
                self._acknowledged.add(batch.batch_id)
                self.counters.drained_batches += 1
            if not refused:
                await self._off_loop(partial(self.spool.remove, number, keep_aside=aside))
                self._acknowledged.difference_update(batch.batch_id for batch in content.batches)
        return True

    async def _off_loop(self, job: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, job)


def _readable(batch: SpooledBatch) -> list[Event] | None:
    try:
        events, unread = decode_batch(batch.events)
    except msgspec.DecodeError:
        return None
    return events if events and not unread else None
