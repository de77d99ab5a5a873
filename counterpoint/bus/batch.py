"""What both buses agree on about a batch: its id, its bounds."""

from __future__ import annotations

from collections.abc import Sequence

from counterpoint.base.clock import NS_PER_S
from counterpoint.base.ids import digest
from counterpoint.events.event import Event

DUPLICATE_WINDOW_NS = 120 * NS_PER_S  # a batch id seen again within this is stored once
BATCH_BYTES_MAX = 8 * 1024 * 1024 - 4096  # the server's max_payload less room for headers


def batch_id_of(events: Sequence[Event]) -> str:
    """The id of a batch whose publisher gave none: the same events have the same id."""
    return digest(*[event.event_id for event in events])
