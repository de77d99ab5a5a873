"""The audit: every balance again, from the journal and the settlements alone."""

from __future__ import annotations

from collections import defaultdict

from msgspec import Struct
from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from counterpoint.ledger.storage import account_of, allowance_of
from counterpoint.ledger.tables import ACCOUNTS, ALLOWANCES, JOURNAL, SETTLEMENTS


class Verification(Struct, frozen=True):
    """``problems`` is empty when the books are right. Sums in nanos over all accounts."""

    accounts: int
    entries: int
    settlements: int
    spent_nanos: int
    overspend_nanos: int
    problems: tuple[str, ...]


def verify(connection: Connection) -> Verification:
    """Recompute accounts, allowances, pools and settlements from the journal. Reads everything: minutes on a large
    database, and a consistent picture only inside one transaction."""
    problems: list[str] = []
    entries = 0
    for entry, legs, total in connection.execute(
        select(JOURNAL.c.entry, func.count(), func.sum(JOURNAL.c.amount_nanos)).group_by(JOURNAL.c.entry)
    ):
        entries += 1
        if total != 0 or legs < 2:
            problems.append(f"entry {entry}: {legs} legs sum to {total}")
    buckets: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    reserved: dict[str, int] = defaultdict(int)
    pools: dict[tuple[str, str], int] = defaultdict(int)
    rows = connection.execute(
        select(
            JOURNAL.c.campaign_id,
            JOURNAL.c.day,
            JOURNAL.c.bucket,
            JOURNAL.c.ref,
            func.sum(JOURNAL.c.amount_nanos),
        ).group_by(JOURNAL.c.campaign_id, JOURNAL.c.day, JOURNAL.c.bucket, JOURNAL.c.ref)
    )
    for campaign_id, day, bucket, ref, amount in rows:
        buckets[campaign_id, day][bucket] += int(amount)
        if bucket == "reserved":
            reserved[ref] += int(amount)
        elif bucket == "pool":
            pools[ref, day] += int(amount)
    problems += [f"pool {p} on {d} is off by {n}" for (p, d), n in pools.items() if n != 0]
    uncovered_since: dict[tuple[str, str], int] = {
        (campaign_id, day): int(amount)
        for campaign_id, day, amount in connection.execute(
            select(JOURNAL.c.campaign_id, JOURNAL.c.day, func.sum(JOURNAL.c.amount_nanos))
            .where(JOURNAL.c.kind == "uncover", JOURNAL.c.bucket == "uncovered")
            .group_by(JOURNAL.c.campaign_id, JOURNAL.c.day)
        )
    }
    settled = {
        (row[0], row[1]): (row[2], int(row[3]), int(row[4]), int(row[5]))
        for row in connection.execute(
            select(
                SETTLEMENTS.c.campaign_id,
                SETTLEMENTS.c.day,
                func.count(),
                func.sum(SETTLEMENTS.c.on_time_nanos),
                func.sum(SETTLEMENTS.c.late_nanos),
                func.sum(SETTLEMENTS.c.overspend_nanos),
            ).group_by(SETTLEMENTS.c.campaign_id, SETTLEMENTS.c.day)
        )
    }
    spent = overspend = settlements = 0
    held: dict[tuple[str, str], int] = defaultdict(int)
    for row in connection.execute(select(ALLOWANCES)):
        allowance = allowance_of(row)
        held[allowance.campaign_id, allowance.day] += allowance.rest
        if reserved.pop(allowance.allowance_id, 0) != allowance.rest:
            problems.append(
                f"allowance {allowance.allowance_id}: journal disagrees with rest {allowance.rest}"
            )
        try:
            allowance.check()
        except AssertionError as wrong:
            problems.append(f"allowance {allowance.allowance_id}: {wrong}")
    problems += [f"journal reserves {n} for unknown allowance {ref}" for ref, n in reserved.items() if n != 0]
    accounts = [account_of(row) for row in connection.execute(select(ACCOUNTS))]
    for account in accounts:
        key = (account.campaign_id, account.day)
        name = f"account {account.campaign_id} {account.day}"
        bucket_of = buckets.pop(key, {})
        expected = {
            "free": account.free,
            "reserved": account.reserved,
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
        if held.pop(key, 0) != account.reserved:
            problems.append(f"{name}: reserved {account.reserved} is not the sum of its allowances")
        try:
            account.check()
        except AssertionError as wrong:
            problems.append(f"{name}: {wrong}")
        count, on_time, late, over = settled.pop(key, (0, 0, 0, 0))
        settlements += count
        if not account.pruned:
            covered = uncovered_since.get(key, 0)
            if (on_time, late + covered, over - covered) != (
                account.spent_on_time,
                account.late,
                account.overspend,
            ):
                problems.append(
                    f"{name}: settlements sum to {on_time}, {late}, {over}, covered since {covered}"
                )
        spent += account.spent_on_time + account.late + account.overspend
        overspend += account.overspend
    problems += [f"journal has {dict(b)} for no account {k}" for k, b in buckets.items() if any(b.values())]
    problems += [f"settlements without account {k}" for k in settled]
    return Verification(len(accounts), entries, settlements, spent, overspend, tuple(problems))
