"""What leaves the simulated bidder: telemetry and settlements, gathered into batches, straight onto the memory bus.

Nothing is shed and nothing waits: the bus is in this process and never away.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from counterpoint.bus.memory import MemoryBus
from counterpoint.events.event import Event

BATCH_MAX: Final = 100  # events; a full batch leaves at once, the rest with the step


class Post:
    """An :class:`~counterpoint.bus.bus.Outbox` with room for one batch a subject. ``name`` makes its batch ids."""

    shed = 0

    def __init__(self, bus: MemoryBus, subject_of: Callable[[Event], str], name: str) -> None:
        self._bus = bus
        self._subject_of = subject_of
        self._name = name
        self._subjects: dict[type[Event], str] = {}
        self._waiting: dict[str, list[Event]] = {}
        self._batches = 0

    def offer(self, event: Event) -> bool:
        """Always True. Events of one kind go to one subject."""
        kind = type(event)
        subject = self._subjects.get(kind)
        if subject is None:
            subject = self._subjects[kind] = self._subject_of(event)
        self.send(subject, event)
        return True

    def send(self, subject: str, event: Event) -> None:
        waiting = self._waiting.get(subject)
        if waiting is None:
            self._waiting[subject] = [event]
        else:
            waiting.append(event)
            if len(waiting) >= BATCH_MAX:
                self._publish(subject)

    def flush(self) -> None:
        for subject in list(self._waiting):
            self._publish(subject)

    def _publish(self, subject: str) -> None:
        self._batches += 1
        self._bus.publish_now(subject, self._waiting.pop(subject), batch_id=f"{self._name}-{self._batches}")
