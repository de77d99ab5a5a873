"""The audit: every balance again, from the journal, the settlements and what people ordered."""

from __future__ import annotations

from collections import defaultdict

from msgspec import Struct
from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from counterpoint.ledger.journal_sums import JournalSums, Key, Parts, Progress, halves, whole
from counterpoint.ledger.orders_audit import audit_orders
from counterpoint.ledger.rows import CLOSED, Account
from counterpoint.ledger.storage import account_of, allowance_of, line_of
from counterpoint.ledger.tables import ACCOUNTS, ALLOWANCES, LINES, SETTLEMENTS, SPLITS

_OF_OPEN_DAYS = {"grant", "settle", "keep", "return", "close"}  # kinds that no carried day has
_SHOWN_MAX = 2**63 - 1


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
    journal = JournalSums(connection, progress)
    problems = journal.problems
    problems += [f"pool {p} on {d} is off by {n}" for (p, d), n in journal.pools.items() if n != 0]
    split = set(connection.execute(select(SPLITS.c.pool_id)).scalars())
    problems += sorted(
        {f"pool {p}: money moved, never split" for p, _ in journal.pools if p and p not in split}
    )
    settled = _settled(connection)
    held, line_reserves, allowances = _allowances(connection, journal, problems)
    accounts = [account_of(row) for row in connection.execute(select(ACCOUNTS))]
    for account in accounts:
        key = (account.campaign_id, account.day)
        name = f"account {account.campaign_id} {account.day}"
        _against_journal(account, name, journal.buckets.pop(key, {}), problems)
        if held.pop(key, 0) != account.reserved:
            problems.append(f"{name}: reserved {account.reserved} is not the sum of its allowances")
        if account.budget != max(account.target, account.committed):
            problems.append(
                f"{name}: budget {account.budget} is neither its target {account.target} nor what is committed"
            )
        _against_its_marks(account, name, settled.get(key, _Settled()), journal.kinds[key], problems)
        try:
            account.check()
        except AssertionError as wrong:
            problems.append(f"{name}: {wrong}")
    pruned = {(a.campaign_id, a.day) for a in accounts if a.pruned}
    settlements = sum(s.count for s in settled.values())
    problems += audit_orders(connection, accounts, journal)
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
        min(sum(a.spent for a in accounts), _SHOWN_MAX),
        min(sum(a.overspend for a in accounts), _SHOWN_MAX),
        tuple(problems),
        allowances,
        lines,
    )


def _allowances(
    connection: Connection, journal: JournalSums, problems: list[str]
) -> tuple[dict[Key, int], dict[tuple[str, str], int], int]:
    """What allowances hold, by account and by (line item, day); each against its part of the journal."""
    held: dict[Key, int] = defaultdict(int)
    lines: dict[tuple[str, str], int] = defaultdict(int)
    rows = connection.execute(
        select(SETTLEMENTS.c.allowance_id, *halves(SETTLEMENTS.c.on_time_nanos))
        .where(SETTLEMENTS.c.on_time_nanos != 0)
        .group_by(SETTLEMENTS.c.allowance_id)
    )
    on_time = {row[0]: whole(row[1], row[2]) for row in rows}
    number = 0
    for row in connection.execute(select(ALLOWANCES)):
        allowance = allowance_of(row)
        number += 1
        if allowance.state != CLOSED:
            held[allowance.campaign_id, allowance.day] += allowance.rest
            if allowance.line_item_id:
                lines[allowance.line_item_id, allowance.day] += allowance.rest
        parts = journal.allowances.pop(allowance.allowance_id, Parts())
        if parts.rest != allowance.rest:
            problems.append(
                f"allowance {allowance.allowance_id}: journal disagrees with rest {allowance.rest}"
            )
        problems += [
            f"allowance {allowance.allowance_id}: {what} is {getattr(allowance, what)}, "
            f"the journal says {getattr(parts, what)}"
            for what in ("granted", "spent", "late", "returned")
            if getattr(parts, what) != getattr(allowance, what)
        ]
        if on_time.pop(allowance.allowance_id, 0) != allowance.spent:
            problems.append(
                f"allowance {allowance.allowance_id}: its settlements do not sum to what it spent, {allowance.spent}"
            )
        try:
            allowance.check()
        except AssertionError as wrong:
            problems.append(f"allowance {allowance.allowance_id}: {wrong}")
    problems += [
        f"journal reserves {parts.rest} for unknown allowance {ref}"
        for ref, parts in journal.allowances.items()
        if parts.rest != 0
    ]
    problems += [f"settlements of {n} on time for unknown allowance {ref}" for ref, n in on_time.items()]
    return held, lines, number


def _settled(connection: Connection) -> dict[Key, _Settled]:
    parts = ("on_time_nanos", "late_nanos", "overspend_nanos", "refunded_nanos")
    sums = [half for name in parts for half in halves(SETTLEMENTS.c[name])]
    names = (SETTLEMENTS.c.campaign_id, SETTLEMENTS.c.day)
    return {
        (row[0], row[1]): _Settled(int(row[2]), *(whole(row[at], row[at + 1]) for at in range(3, 11, 2)))
        for row in connection.execute(select(*names, func.count(), *sums).group_by(*names))
    }


def _against_its_marks(
    account: Account, name: str, settled: _Settled, kinds: set[str], problems: list[str]
) -> None:
    """What an account says of itself beside its balances: stopped, and carried."""
    if account.overspend > 0 and (not account.stopped or account.free > 0):
        problems.append(f"{name}: overspend {account.overspend}, yet not stopped, or beside free money")
    if account.stopped != bool(account.stop_reason):
        problems.append(f"{name}: stopped without a reason, or a reason without a stop")
    if account.stopped and not account.pruned and settled.overspend == 0:
        problems.append(f"{name}: stopped, and no settlement of it overspent")
    if account.pruned and (kinds & _OF_OPEN_DAYS or ("budget" in kinds and "carried" not in kinds)):
        problems.append(f"{name}: marked as carried, its journal is not")
    if not account.pruned and "carried" in kinds:
        problems.append(f"{name}: its journal is carried, it is not marked so")


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
    accounts: list[Account], settled: dict[Key, _Settled], journal: JournalSums, problems: list[str]
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
        if found.refunded != journal.refunded_of_bids.get(key, 0):
            problems.append(f"{name}: settlements were refunded {found.refunded}, the journal disagrees")


def _lines(
    connection: Connection,
    reserves: dict[tuple[str, str], int],
    journal: JournalSums,
    pruned: set[Key],
    problems: list[str],
) -> int:
    """Line items against settlements and allowances. A refund of a day as a whole may be off a line item's spend."""
    parts = ("on_time_nanos", "late_nanos", "overspend_nanos", "refunded_nanos")
    sums = [half for name in parts for half in halves(SETTLEMENTS.c[name])]
    names = (SETTLEMENTS.c.line_item_id, SETTLEMENTS.c.day)
    spent = {}
    for row in connection.execute(
        select(*names, *sums).where(SETTLEMENTS.c.line_item_id != "").group_by(*names)
    ):
        on_time, late, overspend, refunded = (whole(row[at], row[at + 1]) for at in range(2, 10, 2))
        spent[row[0], row[1]] = on_time + late + overspend - refunded
    number = 0
    for row in connection.execute(select(LINES)):
        line = line_of(row)
        number += 1
        key, owner = (line.line_item_id, line.day), (line.campaign_id, line.day)
        name = f"line item {line.line_item_id} {line.day}"
        if reserves.pop(key, 0) != line.reserved:
            problems.append(f"{name}: reserved {line.reserved} is not the sum of its allowances")
        if row.spent_nanos < 0:
            problems.append(f"{name}: spent {row.spent_nanos}")
        back = sum(journal.refunded[owner].values()) - journal.refunded_of_bids.get(owner, 0)
        booked = spent.pop(key, 0)
        if owner not in pruned and not booked - back <= line.spent <= booked:
            problems.append(f"{name}: spent {line.spent}, its settlements say {booked}")
    problems += [f"allowances hold {n} for no line item {k}" for k, n in reserves.items() if n != 0]
    problems += [f"settlements without line item {k}" for k, n in spent.items() if n != 0]
    return number
