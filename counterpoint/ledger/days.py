"""Local days: a campaign's account is for the calendar day at its own offset, and a win belongs to the day of its bid."""

from __future__ import annotations

from datetime import date

from counterpoint.base.clock import NS_PER_S

DAY_NS = 86_400 * NS_PER_S
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_NUMBER_MAX = date.max.toordinal() - _EPOCH_ORDINAL


def day_number(at_ns: int, utc_offset_minutes: int) -> int:
    """Local days since 1970-01-01."""
    return (at_ns + utc_offset_minutes * 60 * NS_PER_S) // DAY_NS


def local_day(at_ns: int, utc_offset_minutes: int) -> str:
    """The local calendar day, YYYY-MM-DD.

    >>> local_day(1_700_000_000 * 10**9, 0), local_day(1_700_000_000 * 10**9, 120)
    ('2023-11-14', '2023-11-15')
    """
    number = min(max(day_number(at_ns, utc_offset_minutes), 0), _NUMBER_MAX)
    return date.fromordinal(_EPOCH_ORDINAL + number).isoformat()


def day_bounds_ns(at_ns: int, utc_offset_minutes: int) -> tuple[int, int]:
    """Begin (inclusive) and end (exclusive) of the local day around ``at_ns``.

    >>> begin, end = day_bounds_ns(1_700_000_000 * 10**9, -60)
    >>> (end - begin) // 10**9, local_day(begin, -60) == local_day(end - 1, -60)
    (86400, True)
    """
    begin = day_number(at_ns, utc_offset_minutes) * DAY_NS - utc_offset_minutes * 60 * NS_PER_S
    return begin, begin + DAY_NS
