"""The base of every event, and the batch it travels in."""

from __future__ import annotations

from msgspec import Struct


class Event(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind"):
    """An immutable fact in the past tense, a decision, or a command that may be refused.

    ``event_id`` is the same on redelivery, so a consumer can drop the repeat.
    ``happened_at_ns``: when it happened where it happened. ``recorded_at_ns``: when we learned of it;
    learning must not peek before this. Both are nanoseconds since the Unix epoch.
    ``source`` names the publisher, like ``bidder/b1`` or ``agent/budget``.
    ``schema_version`` counts additions of fields; nothing is ever renamed or reused.
    """

    event_id: str
    happened_at_ns: int
    recorded_at_ns: int
    source: str
    schema_version: int = 1
