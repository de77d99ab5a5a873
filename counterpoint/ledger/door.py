"""What may come in: ids that every database can keep and every bus can carry, the same on both engines."""

from __future__ import annotations

from typing import Final

from msgspec import structs

from counterpoint.events.event import Event
from counterpoint.events.money import (
    AllowanceRequested,
    AllowanceReturned,
    BidderStarted,
    SettlementNoticed,
)

ID_CHARS_MAX: Final = 256  # two of them fit an index row of PostgreSQL, whatever the alphabet
_SHOWN_MAX: Final = 64
_MAY_BE_EMPTY: Final = ("line_item_id", "currency", "allowance_id", "arm", "creative_id", "exchange")
_NAMES: Final[dict[type[Event], tuple[str, ...]]] = {
    kind: tuple(f.name for f in structs.fields(kind) if f.type is str and f.name != "source")
    for kind in (SettlementNoticed, AllowanceRequested, AllowanceReturned, BidderStarted)
}


def usable(name: str) -> bool:
    """Not too long, and nothing in it that no person could type.

    >>> usable("bid-1"), usable("a" * 257), usable("a" + chr(0)), usable(chr(0xD800))
    (True, False, False, False)
    """
    return len(name) <= ID_CHARS_MAX and name.isprintable()


def unusable_id(event: Event) -> str:
    """The field whose id cannot be kept; empty: all of them can."""
    for field in _NAMES.get(type(event), ("event_id",)):
        value = getattr(event, field)
        if not value and field not in _MAY_BE_EMPTY:
            return field
        if not usable(value):
            return field
    return ""


def shown(name: str) -> str:
    """Escaped and shortened, for a finding.

    >>> shown("a" + chr(0) + "b"), len(shown("x" * 20_000))
    ('a\\\\x00b', 78)
    """
    escaped = name[:_SHOWN_MAX].encode("unicode_escape").decode()
    if len(name) <= _SHOWN_MAX and len(escaped) <= _SHOWN_MAX:
        return escaped
    return f"{escaped[:_SHOWN_MAX]}... {len(name)} long"
