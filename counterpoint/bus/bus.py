"""The ``Bus`` protocol. A consumer keeps its own position and saves it with what it made of the events, so that
processing is exactly-once for whoever does both in one transaction and drops repeated event ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from counterpoint.events.event import Event


class Delivery(Struct, frozen=True):
    """One message: a batch of events that was published together."""

    stream: str
    sequence: int  # position in the stream, from 1, without meaning across streams
    stored_at_ns: int  # the stream's own timestamp: never decreases with sequence
    subject: str
    events: tuple[Event, ...]
    unreadable: int = 0  # events of kinds or shapes this version does not know


class Subscription(Protocol):
    async def fetch(self, messages_max: int = 64, wait_s: float = 1.0) -> list[Delivery]:
        """Return 1..messages_max deliveries in stream order, or [] when ``wait_s`` passed without one.

        Survives a bus that goes away and comes back: it resumes after the last delivery it handed out. Raises
        :class:`BusUnavailable` when the bus is away for the whole of ``wait_s``.
        """
        ...

    async def close(self) -> None: ...


class Bus(Protocol):
    async def publish(self, subject: str, events: Sequence[Event], *, batch_id: str | None = None) -> int:
        """Store one batch durably and return its stream sequence (of the first copy, when it is a repeat).

        ``batch_id`` defaults to a digest of the event ids; the same id within the duplicate window is stored once.
        Raises :class:`BusUnavailable` (unknown whether stored: retry with the same events) or :class:`BusRefused`.
        """
        ...

    async def subscribe(
        self, stream: str, subjects: Sequence[str], *, after: int = 0, since_ns: int | None = None
    ) -> Subscription:
        """Deliver what matches any of ``subjects`` (NATS wildcards) after sequence ``after``; with ``since_ns``
        instead, from that stream time on. A position that retention has passed continues at the oldest kept; one
        beyond the end of the stream (the stream was lost and made anew) starts over at its beginning."""
        ...

    async def last(self, subject: str) -> Delivery | None:
        """The newest delivery on exactly this subject, or None."""
        ...

    async def last_all(self, pattern: str) -> list[Delivery]:
        """The newest delivery of every subject that matches the pattern."""
        ...

    def connected(self) -> bool: ...

    async def close(self) -> None: ...


class Outbox(Protocol):
    """For what may be shed: a bounded buffer before the bus, flushed in batches, drops counted."""

    def offer(self, event: Event) -> bool:
        """Never waits. False: the buffer was full and the event is gone (counted)."""
        ...

    @property
    def shed(self) -> int: ...
