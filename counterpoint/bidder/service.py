"""The bidder's process: engine and tracker behind one HTTP server, joined to the bus.

Consumes policies, proposals, stops and signs of life (stream DECISIONS), its grants and the balances (MONEY), and the
outcomes that other bidders saw (FACTS). Publishes bids, outcomes and counts (FACTS), settlements, allowance commands
(MONEY), resolutions and its sign of life (DECISIONS). Keeps a snapshot of who saw what and the notice spool.

With the bus away it bids on what it holds: the last View, its allowances until they expire, notices into the spool.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from counterpoint.base.clock import Clock
from counterpoint.base.errors import BusRefused, BusUnavailable, ConfigError
from counterpoint.base.unreadable import UNREADABLE
from counterpoint.bidder.allowance_desk import AllowanceDesk
from counterpoint.bidder.allowances import AllowanceBook
from counterpoint.bidder.arm_budgets import ArmBudgets
from counterpoint.bidder.attribution import Attribution
from counterpoint.bidder.commit import BidContext
from counterpoint.bidder.committer import Committer
from counterpoint.bidder.directory import Directory
from counterpoint.bidder.engine import Engine
from counterpoint.bidder.experiment import AGENTS
from counterpoint.bidder.exposition import Exposition
from counterpoint.bidder.frequency import FrequencyBook, bid_key, line_item_key
from counterpoint.bidder.heap import collect_young, freeze_heap
from counterpoint.bidder.hearing import POLICY_SUBJECTS, Hearing
from counterpoint.bidder.holder import Refusal, ViewHolder
from counterpoint.bidder.outgoing import presumed_lost
from counterpoint.bidder.reports import Reports
from counterpoint.bidder.view import View
from counterpoint.bus.bus import Bus, Delivery
from counterpoint.bus.outbox import BatchingOutbox
from counterpoint.catalog.model import Catalog
from counterpoint.coordination.epochs import RESOLUTIONS, SUBJECTS, history_since_ns
from counterpoint.coordination.stops import StopWatch
from counterpoint.events import subjects
from counterpoint.events.decisions import (
    PolicyRejected,
    Resolution,
)
from counterpoint.events.facts import AuctionWon, ImpressionSeen

log = logging.getLogger(__name__)

STOP_POLL_S: Final = 0.1
COLLECT_S: Final = 0.1  # often and briefly: what is collected is what came since
CATALOG_POLL_S: Final = 2.0
SNAPSHOT_S: Final = 60.0
AWAY_PAUSE_S: Final = 0.2
VIEWS_WAITING_MAX: Final = 256  # Views not yet archived; past that the oldest cannot be explained
RESOLUTIONS_WAITING_MAX: Final = 10_000  # others publish the same ones; past that the oldest go
CATCH_UP_QUIET_S: Final = 0.5  # no outcome for this long: the tail has been read


class Saved(Struct, frozen=True):
    """What a restarted bidder knows of people. ``facts_position``: outcomes up to here are in it."""

    facts_position: int
    frequency: bytes
    attribution: bytes
    arm_budgets: bytes


class BidderService:
    """Wires the parts that :mod:`counterpoint.app` made. ``archive`` keeps a View for later explanation; ``save`` and
    ``saved`` are the snapshot file; ``load_catalog`` and ``catalog_digest`` read the catalog's database."""

    def __init__(
        self,
        *,
        bus: Bus,
        clock: Clock,
        engine: Engine,
        committer: Committer,
        outbox: BatchingOutbox,
        attribution: Attribution,
        frequency: FrequencyBook,
        book: AllowanceBook,
        stops: StopWatch,
        exposition: Exposition,
        set_directory: Callable[[Directory], None],
        directory: Directory,
        load_catalog: Callable[[], Catalog],
        catalog_digest: Callable[[], str],
        archive: Callable[[View, dict[str, bytes]], None],
        save: Callable[[bytes], None],
    ) -> None:
        self.bus = bus
        self.clock = clock
        self.engine = engine
        self.committer = committer
        self.outbox = outbox
        self.attribution = attribution
        self.frequency = frequency
        self.book = book
        self.stops = stops
        self.exposition = exposition
        self._set_directory = set_directory
        self._directory = directory
        self._load_catalog = load_catalog
        self._catalog_digest = catalog_digest
        self._archive = archive
        self._save = save
        self._to_archive: deque[tuple[View, dict[str, bytes]]] = deque([(engine.view, {})], VIEWS_WAITING_MAX)
        self._archive_wake = asyncio.Event()
        self._look_at_catalog = asyncio.Event()
        self._resolutions: deque[Resolution] = deque(maxlen=RESOLUTIONS_WAITING_MAX)
        self._facts_position = 0
        self._reading_tail = True
        self.reports = Reports(bus, clock, engine, outbox, exposition, self.waiting_for)
        self.holder = ViewHolder(engine.view, self.on_swap, self.on_refused, clock.now_ns)
        self.hearing = Hearing(self.holder)
        arm_budgets = ArmBudgets(
            engine.view.part.campaigns, engine.view.experiment.shares(), engine.view.part.line_items
        )
        self.desk = AllowanceDesk(bus, clock, book, arm_budgets, self._presume_lost)

    # ---- readiness

    def waiting_for(self) -> list[str]:
        """Why it cannot bid yet; empty when it can."""
        waiting = []
        if not self.desk.ledger_answered:
            waiting.append("the ledger's first answer about an allowance")
        if self._reading_tail:
            waiting.append("catching up on who has seen what")
        if self.engine.view.stopped:
            waiting.append("a person to resume: everything is stopped")
        return waiting

    # ---- life

    def restore(self, raw: bytes | None) -> None:
        """Take up the last snapshot; one that cannot be read is said so, and people count as unknown."""
        if raw is None:
            return
        try:
            saved = msgspec.msgpack.decode(raw, type=Saved)
            self.frequency.restore(saved.frequency)
            self.attribution.restore(saved.attribution)
            self.desk.arm_budgets.restore(saved.arm_budgets)
        except UNREADABLE as error:
            log.warning("the snapshot cannot be read (%s): people seen before now count as unknown", error)
            return
        self._facts_position = saved.facts_position

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode(
            Saved(
                self._facts_position,
                self.frequency.snapshot(self.clock.now_ns()),
                self.attribution.snapshot(),
                self.desk.arm_budgets.snapshot(),
            )
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Until ``stop``; a part of it that fails takes the process down, and the supervisor starts it again."""
        self.frequency.catching_up = True
        jobs: Sequence[Coroutine[Any, Any, None]] = (
            self._hear_decisions(),
            self._hear_policies(),
            self._each(subjects.MONEY, self.desk.subjects, self.desk.take, since_ns=self.clock.now_ns()),
            self._hear_outcomes(),
            self.holder.run(),
            self._keep_views(),
            self.desk.tend(),
            self.desk.send(),
            self._publish_resolutions(),
            self._watch_stops(),
            self._watch_catalog(),
            self.reports.beat(),
            self.reports.count_traffic(),
            self._tidy(),
            self.outbox.run(),
            self.committer.run(),
        )
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(job) for job in jobs]
            await stop.wait()
            await self.committer.settle()
            self.outbox.stop()
            for task in running:
                task.cancel()
        await self._keep_snapshot()

    # ---- decisions heard

    async def _hear_decisions(self) -> None:
        since_ns = history_since_ns(self.clock.now_ns())
        published: list[Delivery] | None = None
        while published is None:
            try:
                published = await self.bus.last_all(RESOLUTIONS)
            except BusUnavailable:
                await asyncio.sleep(AWAY_PAUSE_S)
        resolutions = [event for d in published for event in d.events if isinstance(event, Resolution)]
        self.hearing.begin(self.engine.view.inputs.catalog, resolutions, since_ns)
        await self._each(subjects.DECISIONS, SUBJECTS, self._resolved, since_ns=since_ns)

    def _resolved(self, delivery: Delivery) -> None:
        self._resolutions.extend(self.hearing.resolved(delivery))

    async def _hear_policies(self) -> None:
        now_ns = self.clock.now_ns()
        heard = False
        while not heard:
            try:
                for agent in AGENTS:
                    latest = await self.bus.last(subjects.policy(agent))
                    if latest is not None:
                        self._hear_policy(latest)
                heard = True
            except BusUnavailable:
                await asyncio.sleep(AWAY_PAUSE_S)
        await self._each(subjects.DECISIONS, POLICY_SUBJECTS, self._hear_policy, since_ns=now_ns)

    def _hear_policy(self, delivery: Delivery) -> None:
        if self.hearing.policies(delivery):
            self._look_at_catalog.set()

    def on_refused(self, refusal: Refusal) -> None:
        """A policy, catalog or experiment that is not used: the last good one stays, and everybody hears of it."""
        log.warning("refused, the last good one stays: %s %s", refusal.agent, refusal.reason)
        now_ns = self.clock.now_ns()
        self.outbox.offer(
            PolicyRejected(
                event_id=f"rejected-{self.engine.bidder_id}-{refusal.agent}-{refusal.policy_version}-{now_ns}",
                happened_at_ns=now_ns,
                recorded_at_ns=now_ns,
                source=self.engine.source,
                agent=refusal.agent,
                policy_version=refusal.policy_version,
                reason=refusal.reason,
            )
        )

    # ---- Views

    def on_swap(self, view: View) -> None:
        """A new View is in use from here on (:class:`ViewHolder` calls it on the loop)."""
        new_catalog = view.part is not self.engine.view.part
        self.engine.swap(view)
        if new_catalog:
            self._directory = Directory.build(view.inputs.catalog, self._directory)
            self._set_directory(self._directory)
            self.desk.arm_budgets.set_campaigns(view.inputs.catalog.campaigns, view.inputs.catalog.line_items)
            freeze_heap()
        self._to_archive.append((view, self.hearing.payloads()))
        self._archive_wake.set()

    async def _keep_views(self) -> None:
        """Off the loop, one after the other."""
        while True:
            while self._to_archive:
                view, payloads = self._to_archive.popleft()
                await asyncio.to_thread(self._archive, view, payloads)
            await self._archive_wake.wait()
            self._archive_wake.clear()

    async def _watch_stops(self) -> None:
        said = ""
        while True:
            if self.stops.poll():
                self.holder.stops(self._stopped())
            if (
                self.stops.problem != said
            ):  # also where what holds did not change: a person must mend the file
                said = self.stops.problem
                if said:
                    log.error("%s", said)
            await asyncio.sleep(STOP_POLL_S)

    def _stopped(self) -> frozenset[str]:
        return frozenset(
            name for name in self.stops.stops.targets if self.stops.stops.stopped(name) is not None
        )

    async def _watch_catalog(self) -> None:
        """The bus says when; the database is looked at now and then all the same, for when the bus was away."""
        said = ""
        while True:
            try:
                async with asyncio.timeout(CATALOG_POLL_S):
                    await self._look_at_catalog.wait()
            except TimeoutError:
                pass
            self._look_at_catalog.clear()
            try:
                if await asyncio.to_thread(self._catalog_digest) == self.engine.view.part.digest:
                    said = ""
                    continue
                catalog = await asyncio.to_thread(self._load_catalog)
            except ConfigError as error:  # locked, damaged, gone: bids go on with the catalog in use
                if str(error) != said:
                    said = str(error)
                    log.error("the catalog in use stays: %s", said)
                continue
            said = ""
            self.hearing.set_catalog(catalog)

    # ---- people

    def _presume_lost(self, bid: BidContext, now_ns: int) -> None:
        """No win notice within the exchange's own delay: the person is not counted, and the learners hear of a loss."""
        if bid.user_key:
            self.frequency.release(bid.user_key, bid_key(bid.bid_id))
        self.outbox.offer(presumed_lost(bid, now_ns, self.engine.source))

    async def _hear_outcomes(self) -> None:
        """First the tail since the snapshot, then what other bidders see. Our own come back and change nothing."""
        after = self._facts_position
        began_ns = self.clock.now_ns()
        subscription = None
        while True:
            try:
                if subscription is None:
                    subscription = await self.bus.subscribe(
                        subjects.FACTS,
                        ("facts.outcomes.>",),
                        after=after,
                        since_ns=None if after else began_ns,
                    )
                wait_s = CATCH_UP_QUIET_S if self._reading_tail else 1.0
                deliveries = await subscription.fetch(messages_max=64, wait_s=wait_s)
            except BusUnavailable:
                await asyncio.sleep(AWAY_PAUSE_S)
                continue
            for delivery in deliveries:
                self._take_outcomes(delivery)
            if self._reading_tail and (not deliveries or deliveries[-1].stored_at_ns >= began_ns):
                self._reading_tail = False
                self.frequency.catching_up = False

    def _take_outcomes(self, delivery: Delivery) -> None:
        self._facts_position = delivery.sequence
        if delivery.subject == subjects.outcomes(self.engine.bidder_id) and not self._reading_tail:
            return
        now_ns = self.clock.now_ns()
        self.attribution.on(delivery.events)
        for event in delivery.events:
            if not isinstance(event, AuctionWon | ImpressionSeen) or not event.user_key:
                continue
            if event.line_item_id in self._directory.capped:
                item, bid = line_item_key(event.line_item_id), bid_key(event.bid_id)
                self.frequency.confirm(event.user_key, item, bid, event.happened_at_ns, now_ns)

    # ---- telling

    async def _publish_resolutions(self) -> None:
        """Every replica publishes what it closed; the ids are the same, so the bus keeps one."""
        while True:
            if not self._resolutions:
                await asyncio.sleep(0.1)
                continue
            resolution = self._resolutions[0]
            try:
                await self.bus.publish(subjects.resolution(resolution.target), [resolution])
            except BusUnavailable:
                await asyncio.sleep(AWAY_PAUSE_S)
                continue
            except BusRefused as error:
                log.error("resolution of %s refused: %s", resolution.target, error)
            if self._resolutions and self._resolutions[0] is resolution:
                self._resolutions.popleft()

    async def _tidy(self) -> None:
        loop = asyncio.get_running_loop()
        save_at = loop.time() + SNAPSHOT_S
        while True:
            await asyncio.sleep(COLLECT_S)
            collect_young()
            if loop.time() >= save_at:
                save_at = loop.time() + SNAPSHOT_S
                await self._keep_snapshot()

    async def _keep_snapshot(self) -> None:
        """A disk that does not take it is told, never raised: bids go on, and a restart reads a longer tail."""
        try:
            await asyncio.to_thread(self._save, self.snapshot())
        except OSError as error:
            log.error("the snapshot is not kept, the last one stays: %s", error)

    async def _each(
        self, stream: str, wanted: Sequence[str], take: Callable[[Delivery], None], *, since_ns: int
    ) -> None:
        subscription = await self.bus.subscribe(stream, wanted, since_ns=since_ns)
        while True:
            try:
                deliveries = await subscription.fetch(messages_max=64, wait_s=1.0)
            except BusUnavailable:
                await asyncio.sleep(AWAY_PAUSE_S)
                continue
            for delivery in deliveries:
                take(delivery)
