"""Local days of campaigns: the calendar day in its IANA zone, or at its fixed offset. A day of a zone with summer time
has 23, 24 or 25 hours."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from counterpoint.base.clock import NS_PER_S
from counterpoint.catalog.model import Campaign

DAY_NS = 86_400 * NS_PER_S
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_NUMBER_MAX = date.max.toordinal() - _EPOCH_ORDINAL
_QUARTER_NS = 900 * NS_PER_S  # no zone changes its offset inside a quarter of an hour
_LAST_QUARTER = (int(datetime(9998, 12, 31, tzinfo=UTC).timestamp())) * NS_PER_S // _QUARTER_NS


def offset_minutes(campaign: Campaign, at_ns: int) -> int:
    """Local time less UTC at that moment.

    >>> summer = Campaign(id="c", advertiser_id="a", name="", daily_budget_micros=0, time_zone="Europe/Berlin")
    >>> offset_minutes(summer, 1_700_000_000 * 10**9), offset_minutes(summer, 1_690_000_000 * 10**9)
    (60, 120)
    """
    if not campaign.time_zone:
        return campaign.utc_offset_minutes
    return _zone_offset_minutes(campaign.time_zone, _quarter(at_ns))


def local_day(campaign: Campaign, at_ns: int) -> str:
    """The local calendar day, YYYY-MM-DD."""
    return day_at(at_ns, offset_minutes(campaign, at_ns))


def day_at(at_ns: int, utc_offset_minutes: int) -> str:
    """The calendar day at a fixed offset.

    >>> day_at(1_700_000_000 * 10**9, 0), day_at(1_700_000_000 * 10**9, 120)
    ('2023-11-14', '2023-11-15')
    """
    number = (at_ns + utc_offset_minutes * 60 * NS_PER_S) // DAY_NS
    return date.fromordinal(_EPOCH_ORDINAL + min(max(number, 0), _NUMBER_MAX)).isoformat()


def day_bounds_ns(campaign: Campaign, at_ns: int) -> tuple[int, int]:
    """Begin (inclusive) and end (exclusive) of the local day around ``at_ns``.

    >>> back = Campaign(id="c", advertiser_id="a", name="", daily_budget_micros=0, time_zone="Europe/Berlin")
    >>> begin, end = day_bounds_ns(back, int(datetime(2026, 10, 25, 12, tzinfo=UTC).timestamp()) * 10**9)
    >>> (end - begin) // (3_600 * 10**9)
    25
    """
    if campaign.time_zone:
        return _zone_day_ns(campaign.time_zone, local_day(campaign, at_ns))
    ahead_ns = campaign.utc_offset_minutes * 60 * NS_PER_S
    begin = (at_ns + ahead_ns) // DAY_NS * DAY_NS - ahead_ns
    return begin, begin + DAY_NS


def _quarter(at_ns: int) -> int:
    return min(max(at_ns // _QUARTER_NS, 0), _LAST_QUARTER)


@lru_cache(maxsize=4_096)
def _zone_offset_minutes(zone: str, quarter: int) -> int:
    at = datetime.fromtimestamp(quarter * _QUARTER_NS // NS_PER_S, ZoneInfo(zone))
    offset = at.utcoffset()
    assert offset is not None
    return offset // timedelta(minutes=1)


@lru_cache(maxsize=1_024)
def _zone_day_ns(zone: str, day: str) -> tuple[int, int]:
    begin = date.fromisoformat(day)
    return _midnight_ns(zone, begin), _midnight_ns(zone, begin + timedelta(days=1))


def _midnight_ns(zone: str, day: date) -> int:
    """The first moment of the day: where midnight is skipped, that of the jump; where it comes twice, the first."""
    return int(datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone)).timestamp()) * NS_PER_S
