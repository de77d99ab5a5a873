"""Joins a learner to the bus: events in, decisions out, a snapshot with the position it stands for.

Consumes what ``LISTENS`` says, publishes the learner's decisions and an ``AgentBeat`` every half second, keeps
``snapshots/<agent>.bin``. Killed at any moment it resumes from its last snapshot: the events after it come again,
and a repeated event id changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from counterpoint.base.clock import NS_PER_MS, Clock
from counterpoint.base.errors import BusRefused, BusUnavailable
from counterpoint.base.files import read_bytes, write_atomically
from counterpoint.base.unreadable import UNREADABLE
from counterpoint.bus.bus import Bus, Delivery, Subscription
from counterpoint.events import subjects
from counterpoint.events.agent import Decision, Learner
from counterpoint.events.decisions import AgentBeat, PolicyPublished

log = logging.getLogger(__name__)

LISTENS: dict[str, dict[str, tuple[str, ...]]] = {
    "budget": {
        subjects.MONEY: ("money.ledger.>",),
        subjects.FACTS: ("facts.>",),
        subjects.DECISIONS: (
            "decisions.policy.>",
            "decisions.resolution.>",
            "decisions.stops",
            "decisions.catalog",
        ),
    },
    "bidding": {
        subjects.MONEY: ("money.ledger.>",),
        subjects.FACTS: ("facts.>",),
        subjects.DECISIONS: (
            "decisions.policy.>",
            "decisions.resolution.>",
            "decisions.stops",
            "decisions.catalog",
        ),
    },
    "creative": {
        subjects.FACTS: ("facts.outcomes.>",),
        subjects.DECISIONS: ("decisions.resolution.>", "decisions.stops", "decisions.catalog"),
    },
    "feedback": {
        subjects.MONEY: ("money.ledger.>",),
        subjects.FACTS: ("facts.>",),
        subjects.DECISIONS: ("decisions.>",),
    },
}

TICK_S = 0.2
BEAT_NS = 500 * NS_PER_MS
SNAPSHOT_S = 5.0
QUEUE_MAX = 256  # deliveries read ahead of the learner; past that we stop reading, the stream keeps the rest
PENDING_MAX = 1_000  # decisions that wait for the bus; past that the oldest go: a newer one supersedes them


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
        self.bus = bus
        self.clock = clock
        self.snapshot_path = snapshot_path
        self.is_stopped = is_stopped
        self.on_catalog = on_catalog
        self.incarnation = secrets.token_hex(6)
        self.positions: dict[str, int] = {}
        self.policy_version = 0
        self.events_seen = 0
        self.decisions_dropped = 0
        self._queue: asyncio.Queue[Delivery] = asyncio.Queue(maxsize=QUEUE_MAX)
        self._pending: deque[Decision] = deque()
        self._beat_count = 0
        self._beat_at_ns = 0
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
        self.positions = dict(saved.positions)
        self.policy_version = saved.policy_version

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
                return await self.bus.subscribe(stream, wanted, after=self.positions.get(stream, 0))
            except BusUnavailable:
                await asyncio.sleep(0.2)

    async def _learn(self, stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        tick_at = snapshot_at = loop.time()
        while not stop.is_set():
            await self._take(until=tick_at)
            if loop.time() >= tick_at:
                tick_at = loop.time() + TICK_S
                self._decided(self.learner.tick(self.clock.now_ns()))
                self._caught_up = self._caught_up or self._queue.empty()
                await self._beat(
                    "paused" if self.is_stopped() else "running" if self._caught_up else "catching_up"
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
        for delivery in deliveries:
            if delivery.subject == subjects.CATALOG:
                self.on_catalog()
            self.events_seen += len(delivery.events)
            self._decided(self.learner.on(delivery.events, self.clock.now_ns()))
            self.positions[delivery.stream] = delivery.sequence

    def _decided(self, decisions: Sequence[Decision]) -> None:
        if self.is_stopped():
            return  # a stopped agent hears, but does not speak
        for decision in decisions:
            if len(self._pending) >= PENDING_MAX:
                self._pending.popleft()
                self.decisions_dropped += 1
            self._pending.append(decision)

    async def _publish(self) -> None:
        while self._pending:
            decision = self._pending[0]
            try:
                await self.bus.publish(decision.subject, [decision.event])
            except BusUnavailable:
                return  # kept, in order, for when the bus is back
            except BusRefused as error:
                log.error("the bus refused %s: %s", decision.subject, error)
            self._pending.popleft()
            if isinstance(decision.event, PolicyPublished):
                self.policy_version = decision.event.policy_version

    async def _beat(self, state: str, force: bool = False) -> None:
        now_ns = self.clock.now_ns()
        if not force and now_ns - self._beat_at_ns < BEAT_NS:
            return
        self._beat_at_ns = now_ns
        self._beat_count += 1
        decision, why = self.learner.explain()
        beat = AgentBeat(
            event_id=f"beat-{self.incarnation}-{self._beat_count}",
            happened_at_ns=now_ns,
            recorded_at_ns=now_ns,
            source=f"agent/{self.learner.name}",
            agent=self.learner.name,
            incarnation=self.incarnation,
            state=state,
            policy_version=self.policy_version,
            position=self.positions.get(subjects.FACTS, 0),
            lag_events=self._queue.qsize(),
            last_decision=decision,
            why=why,
            metrics={
                "events_seen": float(self.events_seen),
                "decisions_dropped": float(self.decisions_dropped),
            },
        )
        try:
            await self.bus.publish(subjects.beat(self.learner.name), [beat])
        except BusUnavailable:
            return
        except BusRefused as error:
            log.error("the bus refused the beat: %s", error)

    async def _save(self) -> None:
        saved = Saved(dict(self.positions), self.learner.snapshot(), self.policy_version)
        raw = msgspec.msgpack.encode(saved)
        try:
            await asyncio.to_thread(write_atomically, self.snapshot_path, raw)
        except OSError as error:  # learning goes on; a restart reads the streams from the last one
            log.error("the snapshot is not kept, the last one stays: %s", error)
