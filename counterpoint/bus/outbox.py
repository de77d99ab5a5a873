"""The outbox: what may be shed waits here, bounded, and leaves in batches.

``offer`` is two comparisons and an append; encoding and sending happen in ``run``, which the owner keeps as a task.
When the bus is away the batch on its way is retried and the buffer fills; past its bound new events are shed and counted.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence

from counterpoint.base.errors import BusRefused, BusUnavailable
from counterpoint.base.ids import IdSource
from counterpoint.bus.bus import Bus
from counterpoint.events.event import Event

EVENTS_MAX = 50_000  # about 5 s at 10,000 a second
BATCH_MAX = 250
FLUSH_EVERY_S = 0.05
AWAY_PAUSE_S = 0.25


class BatchingOutbox:
    """An :class:`~counterpoint.bus.bus.Outbox` over any bus.

    ``subject_of`` says where an event goes; events of one subject leave in the order they were offered. The buffer
    holds ``events_max``, and one batch per subject is on its way at a time.
    """

    def __init__(
        self,
        bus: Bus,
        subject_of: Callable[[Event], str],
        *,
        events_max: int = EVENTS_MAX,
        batch_max: int = BATCH_MAX,
        flush_every_s: float = FLUSH_EVERY_S,
    ) -> None:
        assert events_max > 0
        assert batch_max > 0
        self._bus = bus
        self._subject_of = subject_of
        self._events_max = events_max
        self._batch_max = batch_max
        self._flush_every_s = flush_every_s
        self._events: deque[Event] = deque()
        self._ids = IdSource()
        self._full_batch = asyncio.Event()
        self._shed = 0
        self._stopping = False
        self.sent = 0
        self.batches = 0

    def offer(self, event: Event) -> bool:
        events = self._events
        waiting = len(events)
        if waiting >= self._events_max:
            self._shed += 1
            return False
        events.append(event)
        if waiting == self._batch_max:  # just now a batch is full: no need to wait for the clock
            self._full_batch.set()
        return True

    @property
    def shed(self) -> int:
        return self._shed

    @property
    def waiting(self) -> int:
        return len(self._events)

    async def run(self) -> None:
        """Flush until :meth:`stop`, then send what is left once. Cancel it to leave at once."""
        while not self._stopping:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._flush_every_s):
                    await self._full_batch.wait()
            self._full_batch.clear()
            if not await self._flush() and not self._stopping:
                await asyncio.sleep(AWAY_PAUSE_S)
        await self._flush()
        self._shed += len(self._events)
        self._events.clear()

    def stop(self) -> None:
        self._stopping = True
        self._full_batch.set()

    async def _flush(self) -> bool:
        """Send what is waiting now; False when the bus is away."""
        left = len(self._events)
        while left > 0:
            if not self._bus.connected():
                return False
            by_subject: dict[str, list[Event]] = {}
            for _ in range(min(left, self._batch_max)):
                event = self._events.popleft()
                by_subject.setdefault(self._subject_of(event), []).append(event)
                left -= 1
            for subject, events in by_subject.items():
                await self._send(subject, events)
        return True

    async def _send(self, subject: str, events: Sequence[Event]) -> None:
        batch_id = self._ids.next(events[0].recorded_at_ns)  # cheaper than a digest, the same on every retry
        while True:
            try:
                await self._bus.publish(subject, events, batch_id=batch_id)
            except BusUnavailable:
                if self._stopping:
                    break
                await asyncio.sleep(AWAY_PAUSE_S)  # meanwhile the buffer fills, and past its bound it sheds
            except BusRefused:
                break
            else:
                self.sent += len(events)
                self.batches += 1
                return
        self._shed += len(events)
