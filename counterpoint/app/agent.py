"""Joins a learner to the bus: events in, decisions out, a snapshot with the position it stands for.

Consumes what ``LISTENS`` says, publishes the learner's decisions and an ``AgentBeat`` every half second, keeps
``snapshots/<agent>.bin``. Killed at any moment it resumes from its last snapshot: the events after it come again,
and a repeated event id changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from counterpoint.base.clock import Clock
from counterpoint.base.errors import BusRefused, BusUnavailable
from counterpoint.base.files import read_bytes, write_atomically
from counterpoint.base.unreadable import UNREADABLE
from counterpoint.bus.bus import Bus, Delivery, Subscription
from counterpoint.coordination.learner_desk import LISTENS, LearnerDesk
from counterpoint.events import subjects
from counterpoint.events.agent import Learner

log = logging.getLogger(__name__)

TICK_S = 0.2
SNAPSHOT_S = 5.0
QUEUE_MAX = 256  # deliveries read ahead of the learner; past that we stop reading, the stream keeps the rest


class Saved(Struct, frozen=True):
    """A learner's state and the stream positions it includes."""

    positions: dict[str, int]
    learner: bytes
    policy_version: int = 0  # the last one published


class AgentRunner:
    def __init__(
        self,
        learner: Learner,
        bus: Bus,
        clock: Clock,
        snapshot_path: Path,
        is_stopped: Callable[[], bool],
        on_catalog: Callable[[], None],
    ) -> None:
        self.learner = learner
        self.desk = LearnerDesk(learner, secrets.token_hex(6), is_stopped, on_catalog)
        self.bus = bus
        self.clock = clock
        self.snapshot_path = snapshot_path
        self._queue: asyncio.Queue[Delivery] = asyncio.Queue(maxsize=QUEUE_MAX)
        self._caught_up = False

    def restore(self) -> None:
        """Take up the last snapshot. A broken one is put aside and said so: learning starts over, nothing else stops."""
        raw = read_bytes(self.snapshot_path)
        if raw is None:
            return
        try:
            saved = msgspec.msgpack.decode(raw, type=Saved)
            self.learner.restore(saved.learner)
        except (*UNREADABLE, ValueError, KeyError) as error:
            aside = self.snapshot_path.with_suffix(".broken")
            self.snapshot_path.replace(aside)
            log.warning(
                "snapshot cannot be used (%s); kept as %s, learning starts from the streams", error, aside
            )
            return
        self.desk.positions = dict(saved.positions)
        self.desk.policy_version = saved.policy_version

    async def run(self, stop: asyncio.Event) -> None:
        self.restore()
        async with asyncio.TaskGroup() as tasks:
            readers = [
                tasks.create_task(self._read(stream, wanted), name=f"read-{stream}")
                for stream, wanted in LISTENS[self.learner.name].items()
            ]
            tasks.create_task(self._learn(stop), name="learn")
            await stop.wait()
            for reader in readers:
                reader.cancel()

    async def _read(self, stream: str, wanted: Sequence[str]) -> None:
        subscription = await self._subscribe(stream, wanted)
        while True:
            try:
                for delivery in await subscription.fetch(messages_max=64, wait_s=1.0):
                    await self._queue.put(delivery)
            except BusUnavailable:
                await asyncio.sleep(0.2)

    async def _subscribe(self, stream: str, wanted: Sequence[str]) -> Subscription:
        while True:
            try:
                return await self.bus.subscribe(stream, wanted, after=self.desk.positions.get(stream, 0))
            except BusUnavailable:
                await asyncio.sleep(0.2)

    async def _learn(self, stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        tick_at = snapshot_at = loop.time()
        while not stop.is_set():
            await self._take(until=tick_at)
            if loop.time() >= tick_at:
                tick_at = loop.time() + TICK_S
                self.desk.tick(self.clock.now_ns())
                self._caught_up = self._caught_up or self._queue.empty()
                await self._beat(
                    "paused" if self.desk.is_stopped() else "running" if self._caught_up else "catching_up"
                )
            await self._publish()
            if loop.time() >= snapshot_at + SNAPSHOT_S:
                snapshot_at = loop.time()
                await self._save()
        await self._save()
        await self._beat("stopping", force=True)

    async def _take(self, until: float) -> None:
        wait = until - asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(max(wait, 0.001)):
                deliveries = [await self._queue.get()]
        except TimeoutError:
            return
        while len(deliveries) < QUEUE_MAX and not self._queue.empty():
            deliveries.append(self._queue.get_nowait())
        self.desk.take(deliveries, self.clock.now_ns())

    async def _publish(self) -> None:
        while self.desk.pending:
            decision = self.desk.pending[0]
            try:
                await self.bus.publish(decision.subject, [decision.event])
            except BusUnavailable:
                return  # kept, in order, for when the bus is back
            except BusRefused as error:
                log.error("the bus refused %s: %s", decision.subject, error)
            self.desk.published()

    async def _beat(self, state: str, force: bool = False) -> None:
        beat = self.desk.beat(self.clock.now_ns(), state, self._queue.qsize(), force)
        if beat is None:
            return
        try:
            await self.bus.publish(subjects.beat(self.learner.name), [beat])
        except BusUnavailable:
            return
        except BusRefused as error:
            log.error("the bus refused the beat: %s", error)

    async def _save(self) -> None:
        saved = Saved(dict(self.desk.positions), self.learner.snapshot(), self.desk.policy_version)
        raw = msgspec.msgpack.encode(saved)
        try:
            await asyncio.to_thread(write_atomically, self.snapshot_path, raw)
        except OSError as error:  # learning goes on; a restart reads the streams from the last one
            log.error("the snapshot is not kept, the last one stays: %s", error)
