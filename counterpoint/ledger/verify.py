"""The audit: every balance again, from the journal and the settlements alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from msgspec import Struct
from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from counterpoint.ledger.rows import CLOSED, Account
from counterpoint.ledger.storage import account_of, allowance_of, line_of
from counterpoint.ledger.tables import ACCOUNTS, ADJUSTMENTS, ALLOWANCES, JOURNAL, LINES, SETTLEMENTS

ENTRIES_PER_READ = 200_000
Progress = Callable[[int, int], None]  # journal entries read, journal entries there are
_Key = tuple[str, str]  # campaign, day


class Verification(Struct, frozen=True):
    """``problems`` is empty when the books are right. Sums in nanos over all accounts."""

    accounts: int
    entries: int
    settlements: int
    spent_nanos: int
    overspend_nanos: int
    problems: tuple[str, ...]
    allowances: int = 0
    lines: int = 0


class _Journal:
    """What the journal says, read once in pieces: sums by account and bucket, by allowance, by pool."""

    def __init__(self, connection: Connection, progress: Progress | None) -> None:
        self.problems: list[str] = []
        self.entries = 0
        self.buckets: dict[_Key, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        self.reserved: dict[str, int] = defaultdict(int)
        self.pools: dict[tuple[str, str], int] = defaultdict(int)
        self.covered: dict[_Key, int] = defaultdict(int)  # overspend that money coming back covered
        self.refunded: dict[_Key, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        self.refunded_bids: dict[_Key, int] = defaultdict(int)  # the part that names its bid
        first, last = connection.execute(select(func.min(JOURNAL.c.entry), func.max(JOURNAL.c.entry))).one()
        if first is None:
            return
        for start in range(first, last + 1, ENTRIES_PER_READ):
            self._read(connection, start, start + ENTRIES_PER_READ)
            if progress is not None:
                progress(min(start + ENTRIES_PER_READ, last + 1) - first, last + 1 - first)

    def _read(self, connection: Connection, start: int, end: int) -> None:
        piece = (JOURNAL.c.entry >= start, JOURNAL.c.entry < end)
        sums = (
            select(func.count(JOURNAL.c.leg).label("legs"), func.sum(JOURNAL.c.amount_nanos).label("total"))
            .add_columns(JOURNAL.c.entry)
            .where(*piece)
            .group_by(JOURNAL.c.entry)
            .subquery()
        )
        self.entries += int(connection.execute(select(func.count()).select_from(sums)).scalar_one())
        wrong = select(sums).where((sums.c.total != 0) | (sums.c.legs < 2))
        self.problems += [
            f"entry {r.entry}: {r.legs} legs sum to {r.total}" for r in connection.execute(wrong)
        ]
        rows = connection.execute(
            select(
                JOURNAL.c.campaign_id,
                JOURNAL.c.day,
                JOURNAL.c.kind,
                JOURNAL.c.bucket,
                JOURNAL.c.ref,
                func.sum(JOURNAL.c.amount_nanos),
            )
            .where(*piece)
            .group_by(JOURNAL.c.campaign_id, JOURNAL.c.day, JOURNAL.c.kind, JOURNAL.c.bucket, JOURNAL.c.ref)
        )
        for campaign_id, day, kind, bucket, ref, summed in rows:
            amount, key = int(summed), (campaign_id, day)
            self.buckets[key][bucket] += amount
            if bucket == "reserved":
                self.reserved[ref] += amount
            elif bucket == "pool":
                self.pools[ref, day] += amount
            if kind == "uncover" and bucket == "uncovered":
                self.covered[key] += amount
            elif kind == "refund" and bucket in ("on_time", "late", "overspend"):
                self.refunded[key][bucket] -= amount
                if ref:
                    self.refunded_bids[key] -= amount


class _Settled(Struct, frozen=True):
    count: int = 0
    on_time: int = 0
    late: int = 0
    overspend: int = 0
    refunded: int = 0


def verify(connection: Connection, progress: Progress | None = None) -> Verification:
    """Recompute accounts, allowances, line items, pools and settlements from the journal. Reads everything: minutes
    on a large database, and a consistent picture only inside one transaction. Memory: one number per allowance and
    account, not per entry."""
    journal = _Journal(connection, progress)
    problems = journal.problems
    problems += [f"pool {p} on {d} is off by {n}" for (p, d), n in journal.pools.items() if n != 0]
    held, line_reserves, allowances = _allowances(connection, journal, problems)
    settled = {
        (row[0], row[1]): _Settled(*(int(n) for n in row[2:]))
        for row in connection.execute(
            select(
                SETTLEMENTS.c.campaign_id,
                SETTLEMENTS.c.day,
                func.count(),
                func.sum(SETTLEMENTS.c.on_time_nanos),
                func.sum(SETTLEMENTS.c.late_nanos),
                func.sum(SETTLEMENTS.c.overspend_nanos),
                func.sum(SETTLEMENTS.c.refunded_nanos),
            ).group_by(SETTLEMENTS.c.campaign_id, SETTLEMENTS.c.day)
        )
    }
    adjusted = _adjusted(connection)
    accounts = [account_of(row) for row in connection.execute(select(ACCOUNTS))]
    for account in accounts:
        key = (account.campaign_id, account.day)
        name = f"account {account.campaign_id} {account.day}"
        _against_journal(account, name, journal.buckets.pop(key, {}), problems)
        if held.pop(key, 0) != account.reserved:
            problems.append(f"{name}: reserved {account.reserved} is not the sum of its allowances")
        if adjusted.pop(key, 0) != account.adjusted:
            problems.append(f"{name}: adjusted {account.adjusted} is not what people credited and debited")
        try:
            account.check()
        except AssertionError as wrong:
            problems.append(f"{name}: {wrong}")
    pruned = {(a.campaign_id, a.day) for a in accounts if a.pruned}
    settlements = sum(s.count for s in settled.values())
    _against_settlements(accounts, settled, journal, problems)
    lines = _lines(connection, line_reserves, journal, pruned, problems)
    problems += [
        f"journal has {dict(b)} for no account {k}" for k, b in journal.buckets.items() if any(b.values())
    ]
    problems += [
        f"settlements without account {k}"
        for k in settled.keys() - {(a.campaign_id, a.day) for a in accounts}
    ]
    return Verification(
        len(accounts),
        journal.entries,
        settlements,
        sum(a.spent for a in accounts),
        sum(a.overspend for a in accounts),
        tuple(problems),
        allowances,
        lines,
    )


def _allowances(
    connection: Connection, journal: _Journal, problems: list[str]
) -> tuple[dict[_Key, int], dict[tuple[str, str], int], int]:
    """What allowances hold, by account and by (line item, day); each against its part of the journal."""
    held: dict[_Key, int] = defaultdict(int)
    lines: dict[tuple[str, str], int] = defaultdict(int)
    number = 0
    for row in connection.execute(select(ALLOWANCES)):
        allowance = allowance_of(row)
        number += 1
        if allowance.state != CLOSED:
            held[allowance.campaign_id, allowance.day] += allowance.rest
            if allowance.line_item_id:
                lines[allowance.line_item_id, allowance.day] += allowance.rest
        if journal.reserved.pop(allowance.allowance_id, 0) != allowance.rest:
            problems.append(
                f"allowance {allowance.allowance_id}: journal disagrees with rest {allowance.rest}"
            )
        try:
            allowance.check()
        except AssertionError as wrong:
            problems.append(f"allowance {allowance.allowance_id}: {wrong}")
    problems += [
        f"journal reserves {n} for unknown allowance {ref}" for ref, n in journal.reserved.items() if n != 0
    ]
    return held, lines, number


def _adjusted(connection: Connection) -> dict[_Key, int]:
    """Credits less debits, by account."""
    found: dict[_Key, int] = defaultdict(int)
    for row in connection.execute(select(ADJUSTMENTS).where(ADJUSTMENTS.c.kind.in_(("credit", "debit")))):
        found[row.campaign_id, row.day] += row.amount_nanos if row.kind == "credit" else -row.amount_nanos
    return found


def _against_journal(account: Account, name: str, bucket_of: dict[str, int], problems: list[str]) -> None:
    expected = {
        "free": account.free,
        "reserved": account.reserved,
        "held": account.held,
        "on_time": account.spent_on_time,
        "late": account.late,
        "overspend": account.overspend,
        "uncovered": -account.overspend,
    }
    problems += [
        f"{name}: {bucket} is {value}, the journal says {bucket_of.get(bucket, 0)}"
        for bucket, value in expected.items()
        if bucket_of.get(bucket, 0) != value
    ]
    if -bucket_of.get("owner", 0) - bucket_of.get("pool", 0) != account.budget:
        problems.append(f"{name}: budget {account.budget} is not what owner and pool gave")
    if -bucket_of.get("pool", 0) != account.moved:
        problems.append(f"{name}: moved {account.moved} is not what the pool gave")


def _against_settlements(
    accounts: list[Account], settled: dict[_Key, _Settled], journal: _Journal, problems: list[str]
) -> None:
    for account in accounts:
        if account.pruned:
            continue
        key = (account.campaign_id, account.day)
        found, back = settled.get(key, _Settled()), journal.refunded[key]
        covered = journal.covered.get(key, 0)
        name = f"account {account.campaign_id} {account.day}"
        says = (
            found.on_time - back["on_time"],
            found.late + covered - back["late"],
            found.overspend - covered - back["overspend"],
        )
        if says != (account.spent_on_time, account.late, account.overspend):
            problems.append(
                f"{name}: settlements less refunds sum to {says[0]} on time, {says[1]} late, {says[2]} overspend"
            )
        if found.refunded != journal.refunded_bids.get(key, 0):
            problems.append(f"{name}: settlements were refunded {found.refunded}, the journal disagrees")


def _lines(
    connection: Connection,
    reserves: dict[tuple[str, str], int],
    journal: _Journal,
    pruned: set[_Key],
    problems: list[str],
) -> int:
    """Line items against settlements and allowances. A refund of a day as a whole may be off a line item's spend."""
    spent = {
        (row[0], row[1]): int(row[2])
        for row in connection.execute(
            select(
                SETTLEMENTS.c.line_item_id,
                SETTLEMENTS.c.day,
                func.sum(
                    SETTLEMENTS.c.on_time_nanos
                    + SETTLEMENTS.c.late_nanos
                    + SETTLEMENTS.c.overspend_nanos
                    - SETTLEMENTS.c.refunded_nanos
                ),
            )
            .where(SETTLEMENTS.c.line_item_id != "")
            .group_by(SETTLEMENTS.c.line_item_id, SETTLEMENTS.c.day)
        )
    }
    number = 0
    for row in connection.execute(select(LINES)):
        line = line_of(row)
        number += 1
        key, owner = (line.line_item_id, line.day), (line.campaign_id, line.day)
        name = f"line item {line.line_item_id} {line.day}"
        if reserves.pop(key, 0) != line.reserved:
            problems.append(f"{name}: reserved {line.reserved} is not the sum of its allowances")
        back = sum(journal.refunded[owner].values()) - journal.refunded_bids.get(owner, 0)
        booked = spent.pop(key, 0)
        if owner not in pruned and not booked - back <= line.spent <= booked:
            problems.append(f"{name}: spent {line.spent}, its settlements say {booked}")
    problems += [f"allowances hold {n} for no line item {k}" for k, n in reserves.items() if n != 0]
    problems += [f"settlements without line item {k}" for k, n in spent.items() if n != 0]
    return number
