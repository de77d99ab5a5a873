"""What leaves the simulated bidder: telemetry and settlements, gathered into batches, straight onto the memory bus.

Nothing is shed and nothing waits: the bus is in this process and never away.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from counterpoint.bus.memory import MemoryBus
from counterpoint.events import subjects
from counterpoint.events.event import Event
from counterpoint.events.money import SettlementNoticed

BATCH_MAX: Final = 100  # events; a full batch leaves at once, the rest with the step


class Post:
    """An :class:`~counterpoint.bus.bus.Outbox` with room for one batch a subject. ``name`` makes its batch ids."""

    shed = 0

    def __init__(self, bus: MemoryBus, subject_of: Callable[[Event], str], name: str) -> None:
        self._bus = bus
        self._subject_of = subject_of
        self._name = name
        self._subjects: dict[type[Event], str] = {}
        self._notices: dict[str, str] = {}  # subject by exchange
        self._waiting: dict[str, list[Event]] = {}
        self._batches = 0

    def offer(self, event: Event) -> bool:
        """Always True. Events of one kind go to one subject."""
        kind = type(event)
        subject = self._subjects.get(kind)
        if subject is None:
            subject = self._subjects[kind] = self._subject_of(event)
        self._add(subject, event)
        return True

    def settle(self, exchange: str, event: SettlementNoticed) -> None:
        """Money has its own stream, and a subject an exchange."""
        subject = self._notices.get(exchange)
        if subject is None:
            subject = self._notices[exchange] = subjects.notice(exchange)
        self._add(subject, event)

    def _add(self, subject: str, event: Event) -> None:
        waiting = self._waiting.get(subject)
        if waiting is None:
            self._waiting[subject] = [event]
            return
        waiting.append(event)
        if len(waiting) >= BATCH_MAX:
            self._publish(subject)

    def flush(self) -> None:
        for subject in list(self._waiting):
            self._publish(subject)

    def _publish(self, subject: str) -> None:
        self._batches += 1
        self._bus.publish_now(subject, self._waiting.pop(subject), batch_id=f"{self._name}-{self._batches}")
