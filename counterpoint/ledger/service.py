"""The ledger's process: hears money, books it in groups, says what was booked. Crash-only: it may be killed at any
moment, and a start is the recovery.

Consumes ``money.notice.>`` and ``money.command.>`` from the stored position, the decisions that split pools, and
``decisions.catalog``. Publishes ``money.ledger.>`` from the outbox, the resolutions it closed, and a sign of life
every 500 ms. Keeps the database.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from counterpoint.base.clock import NS_PER_S, Clock
from counterpoint.base.errors import BusRefused, BusUnavailable
from counterpoint.bus.bus import Bus, Delivery
from counterpoint.catalog.model import Catalog
from counterpoint.coordination.epochs import RESOLUTIONS, SUBJECTS, EpochBook, history_since_ns
from counterpoint.events import subjects
from counterpoint.events.decisions import AgentBeat, CatalogChanged, Resolution
from counterpoint.ledger.books import Ledger
from counterpoint.ledger.config import LedgerConfig
from counterpoint.ledger.outbox import Outgoing
from counterpoint.ledger.shares import PoolShares
from counterpoint.ledger.tables import LedgerDatabaseError

log = logging.getLogger(__name__)

MONEY_SUBJECTS = ("money.notice.>", "money.command.>")
FETCH_MESSAGES_MAX = 256  # one transaction: about 25,000 settlements at the batch size trackers use
FETCH_WAIT_S = 0.25
BEAT_S = 0.5
TICK_NS = 1 * NS_PER_S
CAUGHT_UP_NS = 5 * NS_PER_S
PUBLISHERS = 16  # subjects published at the same time; within one subject in order
RETRY_S = 0.25
RESOLUTIONS_WAITING_MAX = 10_000  # others publish the same ones; beyond this the oldest go

P = ParamSpec("P")
R = TypeVar("R")


async def run_ledger(
    *,
    bus: Bus,
    engine_url: str,
    catalog: Catalog,
    clock: Clock,
    stop: asyncio.Event,
    incarnation: str,
    config: LedgerConfig | None = None,
    load_catalog: Callable[[], Catalog] | None = None,
) -> None:
    """Run until ``stop``. ``load_catalog`` reads the newest catalog when the bus says that it changed (called in the
    ledger's thread); None: the first one stays.

    Whatever is wrong with the money or the database raises out of here: the process ends, nothing half-done is
    committed, and the next start goes on from the last transaction. A bus that is away is waited for.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger") as thread:
        service = _Service(bus, catalog, clock, stop, incarnation, load_catalog, thread)
        await service.run(engine_url, config)


def _caught_up(deliveries: Sequence[Delivery], now_ns: int) -> bool:
    """Nothing waits, or what waits is fresh."""
    return not deliveries or now_ns - deliveries[-1].stored_at_ns < CAUGHT_UP_NS


class _Service:
    def __init__(
        self,
        bus: Bus,
        catalog: Catalog,
        clock: Clock,
        stop: asyncio.Event,
        incarnation: str,
        load_catalog: Callable[[], Catalog] | None,
        thread: ThreadPoolExecutor,
    ) -> None:
        self._bus = bus
        self._catalog = catalog
        self._clock = clock
        self._stop = stop
        self._incarnation = incarnation
        self._load_catalog = load_catalog
        self._thread = thread
        self._state = "starting"
        self._last_decision = ""
        self._why = ""
        self._beats = 0
        self._publishing = asyncio.Lock()  # one round at a time: a subject's batches stay in order
        self._resolutions: deque[Resolution] = deque(maxlen=RESOLUTIONS_WAITING_MAX)

    async def run(self, engine_url: str, config: LedgerConfig | None) -> None:
        self._ledger = await self._in_thread(Ledger, engine_url, self._catalog, config)
        try:
            await self._in_thread(self._ledger.set_catalog, self._catalog, self._clock.now_ns())
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._money(), name="ledger-money")
                tasks.create_task(self._decisions(), name="ledger-decisions")
                tasks.create_task(self._beat(), name="ledger-beat")
            await self._in_thread(self._ledger.forget_sent)
        finally:
            await self._in_thread(self._ledger.close)

    async def _in_thread(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """One thread for the database, so that calls are serial and the loop never waits for the disk."""
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, lambda: function(*args, **kwargs)
        )

    # ---- money

    async def _money(self) -> None:
        await self._publish_unsent()
        position = await self._in_thread(self._ledger.position, subjects.MONEY)
        # From the stream time of the position, not its number: a stream that was lost and made anew may have passed
        # the number already. What is delivered twice is passed over.
        subscription = await self._until_bus(
            lambda: self._bus.subscribe(
                subjects.MONEY, MONEY_SUBJECTS, since_ns=position[1] if position is not None else None
            )
        )
        if subscription is None:
            return
        self._state = "catching_up"
        ticked_ns = 0
        try:
            while not self._stop.is_set():
                try:
                    deliveries = await subscription.fetch(FETCH_MESSAGES_MAX, FETCH_WAIT_S)
                except BusUnavailable:
                    # Nothing closes while notices may be waiting: time passes for money only once we have caught up.
                    await self._pause(RETRY_S)
                    continue
                if deliveries:
                    await self._publish(await self._book(deliveries))
                now_ns = self._clock.now_ns()
                if _caught_up(deliveries, now_ns):
                    self._state = "running"
                    if now_ns - ticked_ns >= TICK_NS:
                        ticked_ns = now_ns
                        await self._publish(await self._in_thread(self._ledger.tick, now_ns))
                        # what people ordered in a process of their own
                        await self._publish(await self._in_thread(self._ledger.unsent_of_others))
        finally:
            await subscription.close()

    async def _book(self, deliveries: Sequence[Delivery]) -> list[Outgoing]:
        before = dict(self._ledger.counts)
        outgoing = await self._in_thread(self._ledger.apply, deliveries, self._clock.now_ns())
        changed = {
            k: n - before.get(k, 0) for k, n in dict(self._ledger.counts).items() if n != before.get(k, 0)
        }
        if changed:
            self._last_decision = ", ".join(f"{n} {what}" for what, n in sorted(changed.items()))
            self._why = f"{len(deliveries)} messages up to {deliveries[-1].sequence}"
        return outgoing

    async def _publish_unsent(self) -> None:
        while not self._stop.is_set():
            unsent = await self._in_thread(self._ledger.unsent)
            if not unsent:
                return
            await self._publish(unsent)
            await self._in_thread(self._ledger.forget_sent)

    async def _publish(self, outgoing: Sequence[Outgoing]) -> None:
        """Publish until the bus has all of it, or ``stop``: then it waits in the outbox for the next start."""
        if not outgoing:
            return
        by_subject: dict[str, list[Outgoing]] = {}
        for batch in outgoing:
            by_subject.setdefault(batch.subject, []).append(batch)
        doors = asyncio.Semaphore(PUBLISHERS)

        async def in_order(batches: list[Outgoing]) -> None:
            async with doors:
                for batch in batches:
                    sent = await self._until_bus(
                        lambda b=batch: self._bus.publish(b.subject, b.events, batch_id=b.batch_id)  # type: ignore[misc]
                    )
                    if sent is None:
                        return
                    self._ledger.mark_sent([batch])

        async with self._publishing, asyncio.TaskGroup() as tasks:
            for batches in by_subject.values():
                tasks.create_task(in_order(batches))

    # ---- decisions

    async def _decisions(self) -> None:
        started_ns = self._clock.now_ns()
        published = await self._until_bus(lambda: self._bus.last_all(RESOLUTIONS))
        since_ns = history_since_ns(started_ns)
        subscription = await self._until_bus(
            lambda: self._bus.subscribe(subjects.DECISIONS, (*SUBJECTS, subjects.CATALOG), since_ns=since_ns)
        )
        if published is None or subscription is None:
            return
        resolutions = [e for d in published for e in d.events if isinstance(e, Resolution)]
        book = EpochBook(self._catalog, resolutions=resolutions, since_ns=since_ns)
        shares = PoolShares(self._catalog, book)
        try:
            while not self._stop.is_set():
                try:
                    deliveries = await subscription.fetch(FETCH_MESSAGES_MAX, FETCH_WAIT_S)
                except BusUnavailable:
                    await self._pause(RETRY_S)
                    continue
                if any(self._catalog_changed(d) for d in deliveries):
                    await self._reload(book, shares)
                self._resolutions.extend(shares.hear(deliveries))
                await self._publish_resolutions()
                now_ns = self._clock.now_ns()
                if _caught_up(deliveries, now_ns) and shares.due(now_ns):
                    await self._publish(await self._in_thread(shares.apply, self._ledger, now_ns))
                    if shares.refused:
                        self._why = f"splits not applied: {shares.refused}"
        finally:
            await subscription.close()

    def _catalog_changed(self, delivery: Delivery) -> bool:
        return any(
            isinstance(e, CatalogChanged) and e.digest != self._catalog.digest for e in delivery.events
        )

    async def _reload(self, book: EpochBook, shares: PoolShares) -> None:
        if self._load_catalog is None:
            return
        catalog = await self._in_thread(self._load_catalog)
        try:
            outgoing = await self._in_thread(self._ledger.set_catalog, catalog, self._clock.now_ns())
        except LedgerDatabaseError as error:
            log.error("catalog %s is not taken up: %s", catalog.digest, error)
            self._why = f"catalog not taken up: {error}"
            return
        self._catalog = catalog
        book.set_catalog(self._catalog)
        shares.set_catalog(self._catalog)
        await self._publish(outgoing)
        self._last_decision, self._why = "budgets of the new catalog", f"catalog {self._catalog.digest}"

    async def _publish_resolutions(self) -> None:
        """Every replica comes to the same ones under the same ids, so one that is lost here is published elsewhere
        or resolved anew: a bus that is away is not waited for."""
        while self._resolutions:
            resolution = self._resolutions[0]
            try:
                await self._bus.publish(subjects.resolution(resolution.target), [resolution])
            except BusUnavailable:
                return
            except BusRefused as error:
                log.error("resolution of %s refused: %s", resolution.target, error)
            self._resolutions.popleft()

    # ---- life

    async def _beat(self) -> None:
        while not self._stop.is_set():
            self._beats += 1
            now_ns = self._clock.now_ns()
            beat = AgentBeat(
                event_id=f"beat-ledger-{self._incarnation}-{self._beats}",
                happened_at_ns=now_ns,
                recorded_at_ns=now_ns,
                source="ledger",
                agent="ledger",
                incarnation=self._incarnation,
                state=self._state,
                last_decision=self._last_decision,
                why=self._why,
                metrics={k: float(v) for k, v in dict(self._ledger.counts).items()},
            )
            with contextlib.suppress(BusUnavailable):  # the next one says the same
                await self._bus.publish(subjects.beat("ledger"), [beat])
            await self._pause(BEAT_S)

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stop.wait(), seconds)
        except TimeoutError:
            return

    async def _until_bus(self, act: Callable[[], Awaitable[R]]) -> R | None:
        """Retry while the bus is away; None when told to stop meanwhile."""
        while True:
            try:
                return await act()
            except BusUnavailable:
                await self._pause(RETRY_S)
                if self._stop.is_set():
                    return None
