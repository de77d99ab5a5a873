"""Events to bytes and back: msgpack, a batch is a list. Unknown kinds are counted and passed over, never guessed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Union

import msgspec

from counterpoint.base.unreadable import UNREADABLE
from counterpoint.events import decisions, facts, money
from counterpoint.events.event import Event


def _leaves(module: Any) -> list[type[Event]]:
    found = [
        thing
        for thing in vars(module).values()
        if isinstance(thing, type) and issubclass(thing, Event) and not thing.__name__.startswith("_")
    ]
    return [thing for thing in found if thing is not Event]


EVENT_TYPES: tuple[type[Event], ...] = tuple(
    sorted({t for module in (money, facts, decisions) for t in _leaves(module)}, key=lambda t: t.__name__)
)
_KINDS = frozenset(str(t.__struct_config__.tag) for t in EVENT_TYPES)
_ENCODER = msgspec.msgpack.Encoder()
_ANY_EVENT: Any = Union[EVENT_TYPES]  # noqa: UP007 (made of a tuple)
_DECODER: msgspec.msgpack.Decoder[list[Event]] = msgspec.msgpack.Decoder(list[_ANY_EVENT])
_LOOSE = msgspec.msgpack.Decoder(list[msgspec.Raw])
_ONE: msgspec.msgpack.Decoder[Event] = msgspec.msgpack.Decoder(_ANY_EVENT)


def encode_batch(events: Sequence[Event]) -> bytes:
    return _ENCODER.encode(events)


def decode_batch(raw: bytes) -> tuple[list[Event], int]:
    """Return the events and how many could not be read (newer kinds, broken fields).

    Raises ``msgspec.DecodeError``, and nothing else, where the batch as a whole is not msgpack or nested too deep.
    """
    try:
        return _DECODER.decode(raw), 0
    except (msgspec.ValidationError, UnicodeDecodeError, RecursionError):
        events: list[Event] = []
        unread = 0
        try:
            items = _LOOSE.decode(raw)
        except RecursionError as error:
            raise msgspec.DecodeError(f"nested too deep: {error}") from error
        for item in items:
            try:
                events.append(_ONE.decode(item))
            except UNREADABLE:
                unread += 1
        return events, unread
