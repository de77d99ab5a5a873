"""What both buses agree on about a batch: its id, its bounds, and that each event is where it belongs."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from counterpoint.base.clock import NS_PER_S
from counterpoint.base.errors import BusRefused
from counterpoint.base.ids import digest
from counterpoint.bus.match import is_pattern
from counterpoint.events.codec import decode_batch, encode_batch
from counterpoint.events.event import Event
from counterpoint.events.places import PLACES, belongs

DUPLICATE_WINDOW_NS = 120 * NS_PER_S  # a batch id seen again within this is stored once
BATCH_BYTES_MAX = 8 * 1024 * 1024 - 4096  # the server's max_payload less room for headers


def batch_id_of(events: Sequence[Event]) -> str:
    """The id of a batch whose publisher gave none: the same events have the same id."""
    return digest(*[event.event_id for event in events])


def _all_belong(subject: str, events: Sequence[Event]) -> bool:
    for kind in set(map(type, events)):
        place = PLACES.get(kind)
        if place is None or place.speaker is not None:
            return all(belongs(event, subject) for event in events)
        if not belongs(next(event for event in events if type(event) is kind), subject):
            return False
    return True


def check_batch(subject: str, events: Sequence[Event]) -> None:
    """What a publisher of ours must have right before anything is sent."""
    assert events, "a batch has at least one event"
    assert not is_pattern(subject), f"publish to one subject, not to {subject!r}"
    assert _all_belong(subject, events), (
        f"{sorted({type(event).__name__ for event in events})} on {subject!r}: not their place (events/places.py)"
    )


def seal_batch(subject: str, events: Sequence[Event]) -> bytes:
    """Encode. Raises :class:`BusRefused` for a batch larger than the bus carries."""
    check_batch(subject, events)
    raw = encode_batch(events)
    if len(raw) > BATCH_BYTES_MAX:
        raise BusRefused(f"a batch of {len(raw)} bytes is over the {BATCH_BYTES_MAX} the bus carries")
    return raw


def open_batch(subject: str, raw: bytes) -> tuple[tuple[Event, ...], int]:
    """Decode what somebody sent: the events, and how many are unreadable or where they do not belong."""
    try:
        events, unreadable = decode_batch(raw)
    except msgspec.DecodeError:
        return (), 1
    if events and not _all_belong(subject, events):
        placed = [event for event in events if belongs(event, subject)]
        unreadable += len(events) - len(placed)
        events = placed
    return tuple(events), unreadable
