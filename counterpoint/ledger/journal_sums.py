"""What the journal says, read once in pieces, for the audit. Sums are exact whatever stands in the rows: amounts beyond
what the books can hold are a difference to report, not an error of the database."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.engine import Connection

from counterpoint.ledger.tables import JOURNAL

ENTRIES_PER_READ = 200_000
Progress = Callable[[int, int], None]  # journal entries read, journal entries there are
Key = tuple[str, str]  # campaign, day
_HALF: Final = 2**32


def halves(column: Any) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    """A sum in two parts, each of which fits 64 bits; :func:`whole` puts them together."""
    return func.sum(column // _HALF), func.sum(column % _HALF)


def whole(high: Any, low: Any) -> int:
    """
    >>> whole(-1, -5) == -(2**32) - 5
    True
    """
    return int(high) * _HALF + int(low)


class Parts:
    """The journal's share of one allowance, nanos."""

    __slots__ = ("granted", "late", "other", "returned", "spent")

    def __init__(self) -> None:
        self.granted = self.spent = self.late = self.returned = self.other = 0

    def add(self, kind: str, nanos: int) -> None:
        if kind == "grant" or (kind == "keep" and nanos > 0):
            self.granted += nanos
        elif kind == "settle":
            self.spent -= nanos
        elif kind == "late":
            self.late -= nanos
        elif kind in ("return", "close", "keep"):
            self.returned -= nanos
        else:
            self.other += nanos

    @property
    def rest(self) -> int:
        return self.granted - self.spent - self.late - self.returned + self.other


class JournalSums:
    """By account and bucket, by allowance, by pool, by what people ordered."""

    def __init__(self, connection: Connection, progress: Progress | None) -> None:
        self.problems: list[str] = []
        self.entries = 0
        self.buckets: dict[Key, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        self.kinds: dict[Key, set[str]] = defaultdict(set)
        self.allowances: dict[str, Parts] = defaultdict(Parts)
        self.pools: dict[tuple[str, str], int] = defaultdict(int)
        self.covered: dict[Key, int] = defaultdict(int)  # overspend that money coming back covered
        self.refunded: dict[Key, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        self.refunded_of_bids: dict[Key, int] = defaultdict(int)  # the part that names its bid
        self.refunds: dict[str, int] = defaultdict(int)  # by bid
        self.held: dict[tuple[str, str, str, str], int] = defaultdict(
            int
        )  # campaign, day, hold | release, key
        first, last = connection.execute(select(func.min(JOURNAL.c.entry), func.max(JOURNAL.c.entry))).one()
        if first is None:
            return
        for start in range(first, last + 1, ENTRIES_PER_READ):
            self._read(connection, start, start + ENTRIES_PER_READ)
            if progress is not None:
                progress(min(start + ENTRIES_PER_READ, last + 1) - first, last + 1 - first)

    def _read(self, connection: Connection, start: int, end: int) -> None:
        piece = (JOURNAL.c.entry >= start, JOURNAL.c.entry < end)
        high, low = halves(JOURNAL.c.amount_nanos)
        sums = (
            select(
                JOURNAL.c.entry,
                func.count(JOURNAL.c.leg).label("legs"),
                high.label("high"),
                low.label("low"),
            )
            .where(*piece)
            .group_by(JOURNAL.c.entry)
            .subquery()
        )
        self.entries += int(connection.execute(select(func.count()).select_from(sums)).scalar_one())
        doubtful = select(sums).where(or_(sums.c.high != 0, sums.c.low != 0, sums.c.legs < 2))
        for row in connection.execute(doubtful):
            total = whole(row.high, row.low)
            if total != 0 or row.legs < 2:
                self.problems.append(f"entry {row.entry}: {row.legs} legs sum to {total}")
        names = (JOURNAL.c.campaign_id, JOURNAL.c.day, JOURNAL.c.kind, JOURNAL.c.bucket, JOURNAL.c.ref)
        for campaign_id, day, kind, bucket, ref, row_high, row_low in connection.execute(
            select(*names, high, low).where(*piece).group_by(*names)
        ):
            self._add(campaign_id, day, kind, bucket, ref, whole(row_high, row_low))

    def _add(self, campaign_id: str, day: str, kind: str, bucket: str, ref: str, amount: int) -> None:
        key = (campaign_id, day)
        self.buckets[key][bucket] += amount
        self.kinds[key].add(kind)
        if bucket == "reserved":
            self.allowances[ref].add(kind, amount)
        elif bucket == "pool":
            self.pools[ref, day] += amount
        elif bucket == "held" and kind in ("hold", "release"):
            self.held[campaign_id, day, kind, ref] += amount if kind == "hold" else -amount
        if kind == "uncover" and bucket == "uncovered":
            self.covered[key] += amount
        elif kind == "refund" and bucket in ("on_time", "late", "overspend"):
            self.refunded[key][bucket] -= amount
            if ref:
                self.refunded_of_bids[key] -= amount
                self.refunds[ref] -= amount
