"""The audit of what people did: credits, debits, refunds and holds, as ordered and as the journal has them."""

from __future__ import annotations

from collections import defaultdict

from sqlalchemy import select
from sqlalchemy.engine import Connection

from counterpoint.ledger.journal_sums import JournalSums, Key
from counterpoint.ledger.people import OF_LINE
from counterpoint.ledger.rows import Account
from counterpoint.ledger.tables import ADJUSTMENTS, SETTLEMENTS


class Ordered:
    """The adjustments, summed by what they are held against."""

    def __init__(self, connection: Connection) -> None:
        self.adjusted: dict[Key, int] = defaultdict(int)  # credits less debits
        self.held: dict[tuple[str, str, str, str], int] = {}  # campaign, day, hold | release, key
        self.refunds_of_days: dict[Key, int] = defaultdict(int)
        self.refunds: dict[str, int] = defaultdict(
            int
        )  # by bid, what was taken back on a rejected finding included
        self.refunded_days: dict[str, Key] = {}  # by bid
        for row in connection.execute(select(ADJUSTMENTS)):
            key = (row.campaign_id, row.day)
            if row.kind in ("credit", "debit"):
                self.adjusted[key] += row.amount_nanos if row.kind == "credit" else -row.amount_nanos
            elif row.kind in ("hold", "release"):
                self.held[(*key, row.kind, row.key)] = row.amount_nanos
            elif row.kind == "refund" and (not row.ref or row.ref.startswith(OF_LINE)):
                self.refunds_of_days[key] += row.amount_nanos
            elif row.kind == "refund" or (row.kind == "reject" and row.amount_nanos):
                self.refunds[row.ref] += row.amount_nanos
                if row.day:
                    self.refunded_days[row.ref] = key


def audit_orders(connection: Connection, accounts: list[Account], journal: JournalSums) -> list[str]:
    """Every order against the journal, and against the account or the settlement it changed. A carried day has lost
    its entries: there only the sums of credits, debits and holds are held against the account."""
    ordered = Ordered(connection)
    problems: list[str] = []
    open_days = {(a.campaign_id, a.day) for a in accounts if not a.pruned}
    held: dict[Key, int] = defaultdict(int)
    for (campaign_id, day, kind, _), nanos in ordered.held.items():
        held[campaign_id, day] += nanos if kind == "hold" else -nanos
    for account in accounts:
        key, name = (account.campaign_id, account.day), f"account {account.campaign_id} {account.day}"
        if ordered.adjusted.pop(key, 0) != account.adjusted:
            problems.append(f"{name}: adjusted {account.adjusted} is not what people credited and debited")
        if held.pop(key, 0) != account.held:
            problems.append(f"{name}: held {account.held} is not what people held and released")
        of_day = sum(journal.refunded[key].values()) - journal.refunded_of_bids.get(key, 0)
        if ordered.refunds_of_days.pop(key, 0) != of_day and not account.pruned:
            problems.append(f"{name}: the journal refunds {of_day} of the day, people ordered otherwise")
    for what, of in (("credits", ordered.adjusted), ("holds", held), ("refunds", ordered.refunds_of_days)):
        problems += [f"people's {what} of {n} for no account {key}" for key, n in of.items() if n != 0]
    for order in sorted(ordered.held.keys() | journal.held.keys()):
        if order[:2] in open_days and ordered.held.get(order, 0) != journal.held.get(order, 0):
            problems.append(
                f"{order[2]} {order[3]}: {ordered.held.get(order, 0)} ordered, the journal has {journal.held.get(order, 0)}"
            )
    return problems + _refunds_of_bids(connection, ordered, journal, open_days)


def _refunds_of_bids(
    connection: Connection, ordered: Ordered, journal: JournalSums, open_days: set[Key]
) -> list[str]:
    refunded = (SETTLEMENTS.c.bid_id, SETTLEMENTS.c.refunded_nanos)
    rows = connection.execute(select(*refunded).where(SETTLEMENTS.c.refunded_nanos != 0))
    stored = {bid: int(nanos) for bid, nanos in rows}
    carried = {bid for bid, key in ordered.refunded_days.items() if key not in open_days}
    expected = {bid for bid in ordered.refunded_days if bid not in carried}
    found = []
    for bid in sorted((stored.keys() | journal.refunds.keys() | expected) - carried):
        says = (ordered.refunds.get(bid, 0), journal.refunds.get(bid, 0), stored.get(bid, 0))
        if len(set(says)) > 1:
            found.append(
                f"bid {bid}: {says[0]} ordered back, the journal has {says[1]}, its settlement {says[2]}"
            )
    return found
