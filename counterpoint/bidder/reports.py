"""What a bidder tells of itself: a sign of life, what it saw and answered, and where its telemetry goes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from counterpoint.base.clock import NS_PER_S, Clock
from counterpoint.base.errors import BusRefused, BusUnavailable
from counterpoint.bidder.engine import Engine
from counterpoint.bidder.exposition import Exposition
from counterpoint.bus.bus import Bus, Outbox
from counterpoint.bus.outbox import BatchingOutbox
from counterpoint.events import subjects
from counterpoint.events.decisions import AgentBeat, PolicyRejected
from counterpoint.events.event import Event
from counterpoint.events.facts import BidPlaced, TrafficCounted

log = logging.getLogger(__name__)

BEAT_S: Final = 0.5
TRAFFIC_S: Final = 1.0


class Reports:
    """``beat`` and ``count_traffic`` belong in a task group beside the server."""

    def __init__(
        self,
        bus: Bus,
        clock: Clock,
        engine: Engine,
        outbox: BatchingOutbox,
        exposition: Exposition,
        waiting_for: Callable[[], list[str]],
    ) -> None:
        self.bus = bus
        self.clock = clock
        self.engine = engine
        self.outbox = outbox
        self.exposition = exposition
        self.waiting_for = waiting_for
        self.incarnation = engine.book.incarnation
        self._beats = 0
        self._traffic = TrafficCounter(engine, outbox)

    async def beat(self) -> None:
        while True:
            self._beats += 1
            now_ns = self.clock.now_ns()
            counts = self.exposition.counts()
            waiting = self.waiting_for()
            beat = AgentBeat(
                event_id=f"beat-bidder-{self.incarnation}-{self._beats}",
                happened_at_ns=now_ns,
                recorded_at_ns=now_ns,
                source=self.engine.source,
                agent="bidder",
                incarnation=self.incarnation,
                state="catching_up" if waiting else "running",
                last_decision=f"view {self.engine.view.digest[:8]}, {self.engine.swaps} swaps",
                why="; ".join(waiting),
                metrics={name: float(value) for name, value in counts.items()},
            )
            try:
                await self.bus.publish(subjects.beat("bidder"), [beat])
            except (BusUnavailable, BusRefused) as error:
                log.debug("no beat: %s", error)
            await asyncio.sleep(BEAT_S)

    async def count_traffic(self) -> None:
        while True:
            await asyncio.sleep(TRAFFIC_S)
            now_ns = self.clock.now_ns()
            latency = self.exposition.status((), now_ns)["latency_us"]
            counted = self._traffic.count(
                now_ns, int(TRAFFIC_S * NS_PER_S), self.exposition.no_bids(), latency
            )
            self.outbox.offer(counted)


class TrafficCounter:
    """What came and was answered since the last time it was asked."""

    def __init__(self, engine: Engine, outbox: Outbox) -> None:
        self._engine = engine
        self._outbox = outbox
        self._last: dict[str, dict[str, int]] = {}

    def count(
        self, now_ns: int, interval_ns: int, no_bids: dict[str, int], latency_us: dict[str, float]
    ) -> TrafficCounted:
        """``no_bids`` by reason, since the start; ``latency_us`` as it is told."""
        engine = self._engine
        return TrafficCounted(
            event_id=f"traffic-{engine.book.incarnation}-{now_ns}",
            happened_at_ns=now_ns,
            recorded_at_ns=now_ns,
            source=engine.source,
            bidder_id=engine.bidder_id,
            interval_ns=interval_ns,
            requests=self._since_last("requests", {name: c.requests for name, c in engine.counts.items()}),
            bids=self._since_last("bids", {name: c.bids for name, c in engine.counts.items()}),
            no_bids=self._since_last("no_bids", no_bids),
            shed_events=self._outbox.shed,
            latency_us=latency_us,
        )

    def _since_last(self, name: str, counts: dict[str, int]) -> dict[str, int]:
        before, self._last[name] = self._last.get(name, {}), counts
        return {
            key: value - before.get(key, 0) for key, value in counts.items() if value > before.get(key, 0)
        }


def subject_of(bidder_id: str) -> Callable[[Event], str]:
    """Where the bidder's telemetry goes."""
    bids, outcomes, traffic = (
        subjects.bids(bidder_id),
        subjects.outcomes(bidder_id),
        subjects.traffic(bidder_id),
    )

    def of(event: Event) -> str:
        if isinstance(event, BidPlaced):
            return bids
        if isinstance(event, TrafficCounted):
            return traffic
        if isinstance(event, PolicyRejected):
            return subjects.policy_rejected(event.agent)
        return outcomes

    return of
