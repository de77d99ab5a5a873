"""The bus in memory: simulated time, one process, the same contract as NATS JetStream.

``publish_now`` and ``read_now`` are the synchronous doors for a simulator that runs everything in one thread; the
``Bus`` methods are thin coroutines over them. Not thread-safe.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from counterpoint.base.clock import Clock
from counterpoint.base.errors import BusRefused, BusUnavailable
from counterpoint.bus.batch import DUPLICATE_WINDOW_NS, batch_id_of, check_batch, open_batch, seal_batch
from counterpoint.bus.bus import Delivery
from counterpoint.bus.faults import Faults
from counterpoint.bus.match import Filter, matches
from counterpoint.events.event import Event
from counterpoint.events.subjects import STREAMS, stream_of

MESSAGES_MAX = 200_000  # kept per stream; the oldest go, the last value of a subject stays


class _Stream:
    """Messages ``first .. last`` by sequence; ``kept[0]`` has sequence ``kept_from``, which lags behind ``first``
    by up to a quarter so that forgetting the oldest is amortised."""

    def __init__(self, name: str, messages_max: int) -> None:
        self.name = name
        self.messages_max = messages_max
        self.kept: list[Delivery] = []
        self.kept_from = 1
        self.first = 1
        self.last = 0
        self.read_to = 0  # the highest sequence anybody has been handed: what is read is not reordered
        self.forgotten = 0
        self.latest: dict[str, Delivery] = {}
        self.batch_ids: OrderedDict[str, tuple[int, int]] = OrderedDict()  # id -> (sequence, stored_at_ns)
        self.listeners: set[MemorySubscription] = set()

    def append(self, now_ns: int, subject: str, events: tuple[Event, ...], unreadable: int) -> Delivery:
        stored_at_ns = max(now_ns, self.kept[-1].stored_at_ns) if self.kept else now_ns
        self.last += 1
        delivery = Delivery(self.name, self.last, stored_at_ns, subject, events, unreadable)
        self.kept.append(delivery)
        self.latest[subject] = delivery
        if self.last - self.first + 1 > self.messages_max:
            self.forgotten += 1
            self.first += 1
            if len(self.kept) > self.messages_max + max(16, self.messages_max // 4):
                del self.kept[: self.first - self.kept_from]
                self.kept_from = self.first
        return delivery

    def overtake(self, places: int) -> int:
        """Move the newest message ahead of up to ``places`` unread ones of other subjects; return its sequence."""
        at = len(self.kept) - 1
        newest = self.kept[at]
        lowest = max(self.first, self.read_to + 1) - self.kept_from
        while places and at > lowest and self.kept[at - 1].subject != newest.subject:
            moved = self.kept[at - 1]
            self.kept[at] = replace(
                moved, sequence=moved.sequence + 1, stored_at_ns=self.kept[at].stored_at_ns
            )
            if self.latest[moved.subject].sequence == moved.sequence:
                self.latest[moved.subject] = self.kept[at]
            newest = replace(newest, sequence=moved.sequence, stored_at_ns=moved.stored_at_ns)
            at -= 1
            self.kept[at] = newest
            places -= 1
        self.latest[newest.subject] = newest
        return newest.sequence

    def read(
        self, wanted: Callable[[str], bool], after: int, messages_max: int
    ) -> tuple[list[Delivery], int]:
        """What matches after the position, and the position up to which everything has been looked at."""
        found: list[Delivery] = []
        position = max(after, self.first - 1)
        for index in range(position + 1 - self.kept_from, len(self.kept)):
            delivery = self.kept[index]
            position = delivery.sequence
            if wanted(delivery.subject):
                found.append(delivery)
                if len(found) >= messages_max:
                    break
        self.read_to = max(self.read_to, position)
        return found, position

    def position_at(self, since_ns: int) -> int:
        start = self.first - self.kept_from
        index = bisect_left(self.kept, since_ns, lo=start, key=lambda delivery: delivery.stored_at_ns)
        return self.kept_from + index - 1


class MemorySubscription:
    def __init__(self, bus: MemoryBus, stream: _Stream, subjects: Sequence[str], after: int) -> None:
        self._bus = bus
        self._stream = stream
        self._wanted = Filter(subjects)
        self._position = after
        self._news = asyncio.Event()
        self._closed = False
        stream.listeners.add(self)

    def fetch_now(self, messages_max: int = 64) -> list[Delivery]:
        """What is there, without waiting. Raises :class:`BusUnavailable` while the bus is away."""
        assert messages_max > 0
        self._bus.require()
        found, self._position = self._stream.read(self._wanted, self._position, messages_max)
        return found

    async def fetch(self, messages_max: int = 64, wait_s: float = 1.0) -> list[Delivery]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        while not self._closed:
            self._news.clear()
            if self._bus.connected() and (found := self.fetch_now(messages_max)):
                return found
            left = deadline - loop.time()
            if left <= 0:
                break
            try:
                await asyncio.wait_for(self._news.wait(), left)
            except TimeoutError:
                break
        self._bus.require()
        return []

    def wake(self) -> None:
        self._news.set()

    async def close(self) -> None:
        self._closed = True
        self._stream.listeners.discard(self)
        self.wake()


class MemoryBus:
    """See the module. ``wire`` encodes and decodes every batch as the network would: slower, and strict about what
    can travel. ``messages_max`` bounds each stream; what it forgets is counted in ``forgotten``."""

    def __init__(
        self,
        clock: Clock,
        faults: Faults | None = None,
        *,
        messages_max: int = MESSAGES_MAX,
        duplicate_window_ns: int = DUPLICATE_WINDOW_NS,
        wire: bool = False,
    ) -> None:
        assert messages_max > 0
        self._clock = clock
        self._faults = faults
        self._duplicate_window_ns = duplicate_window_ns
        self._wire = wire
        self._streams = {name: _Stream(name, messages_max) for name in STREAMS}
        self._away = False
        self._closed = False

    def go_away(self) -> None:
        """As if the network were cut: everything raises :class:`BusUnavailable` until :meth:`come_back`."""
        self._away = True

    def come_back(self) -> None:
        self._away = False
        for stream in self._streams.values():
            for subscription in stream.listeners:
                subscription.wake()

    def require(self) -> None:
        if not self.connected():
            raise BusUnavailable("the bus is closed" if self._closed else "the bus is away")

    def forgotten(self, stream: str) -> int:
        """How many messages retention has dropped from a stream."""
        return self._streams[stream].forgotten

    def last_sequence(self, stream: str) -> int:
        return self._streams[stream].last

    def publish_now(self, subject: str, events: Sequence[Event], *, batch_id: str | None = None) -> int:
        """:meth:`publish` without a coroutine. Under ``reorder`` faults later batches may still move this one."""
        self.require()
        stream = self._streams[stream_of(subject)]
        batch, unreadable = tuple(events), 0
        if self._wire:
            batch, unreadable = open_batch(subject, seal_batch(subject, events))
        else:
            check_batch(subject, events)
        now_ns = self._clock.now_ns()
        batch_id = batch_id or batch_id_of(batch)
        known = self._known(stream, batch_id, now_ns)
        if known:
            return known
        faults = self._faults
        if faults and faults.drops(stream.name):
            return stream.last
        delivery = stream.append(now_ns, subject, batch, unreadable)
        sequence = delivery.sequence
        if faults:
            if places := faults.overtakes():
                moved = stream.overtake(places)
                faults.reordered += moved != sequence
                sequence = moved
            if faults.repeats():
                stream.append(now_ns, subject, batch, unreadable)
        stream.batch_ids[batch_id] = (sequence, delivery.stored_at_ns)
        for subscription in stream.listeners:
            subscription.wake()
        return sequence

    def _known(self, stream: _Stream, batch_id: str, now_ns: int) -> int:
        ids = stream.batch_ids
        while ids:
            oldest = next(iter(ids))
            if ids[oldest][1] > now_ns - self._duplicate_window_ns:
                break
            del ids[oldest]
        return ids[batch_id][0] if batch_id in ids else 0

    def subscribe_now(
        self, stream: str, subjects: Sequence[str], *, after: int = 0, since_ns: int | None = None
    ) -> MemorySubscription:
        if stream not in self._streams:
            raise BusRefused(f"there is no stream {stream!r}")
        source = self._streams[stream]
        if since_ns is not None:
            after = source.position_at(since_ns)
        elif after > source.last:
            after = 0
        return MemorySubscription(self, source, subjects, after)

    def read_now(
        self, stream: str, subjects: Sequence[str], *, after: int = 0, messages_max: int = 1_000
    ) -> list[Delivery]:
        """One look at a stream after a position."""
        self.require()
        source = self._streams[stream]
        return source.read(Filter(subjects), 0 if after > source.last else after, messages_max)[0]

    def last_now(self, subject: str) -> Delivery | None:
        self.require()
        return self._streams[stream_of(subject)].latest.get(subject)

    def last_all_now(self, pattern: str) -> list[Delivery]:
        self.require()
        latest = self._streams[stream_of(pattern)].latest
        return sorted((d for s, d in latest.items() if matches(pattern, s)), key=lambda d: d.sequence)

    async def publish(self, subject: str, events: Sequence[Event], *, batch_id: str | None = None) -> int:
        return self.publish_now(subject, events, batch_id=batch_id)

    async def subscribe(
        self, stream: str, subjects: Sequence[str], *, after: int = 0, since_ns: int | None = None
    ) -> MemorySubscription:
        return self.subscribe_now(stream, subjects, after=after, since_ns=since_ns)

    async def last(self, subject: str) -> Delivery | None:
        return self.last_now(subject)

    async def last_all(self, pattern: str) -> list[Delivery]:
        return self.last_all_now(pattern)

    def connected(self) -> bool:
        return not (self._away or self._closed)

    async def close(self) -> None:
        self._closed = True
        for stream in self._streams.values():
            for subscription in list(stream.listeners):
                subscription.wake()
