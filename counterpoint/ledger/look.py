"""Looking at the books without changing them: balances, findings, what people did. For the command line and the audit."""

from __future__ import annotations

from msgspec import Struct
from sqlalchemy import select
from sqlalchemy.engine import Connection

from counterpoint.ledger.rows import Account, Line
from counterpoint.ledger.storage import account_of, line_of
from counterpoint.ledger.tables import ACCOUNTS, ADJUSTMENTS, FINDINGS, LINES, WRITER


class Finding(Struct, frozen=True):
    """Something a person must look at (excess held, unknown campaign, broken amount)."""

    kind: str
    ref: str
    campaign_id: str
    amount_nanos: int
    note: str
    at_ns: int
    id: int = 0
    state: str = "open"  # open | accepted | rejected


class Adjustment(Struct, frozen=True):
    """What a person did, as it was ordered."""

    key: str
    kind: str
    campaign_id: str
    day: str
    ref: str
    amount_nanos: int
    author: str
    reason: str
    at_ns: int


def currency(connection: Connection) -> str:
    return str(connection.execute(select(WRITER.c.currency)).scalar_one())


def findings(connection: Connection, state: str | None = None) -> list[Finding]:
    """Oldest first; ``state`` None: all."""
    query = select(FINDINGS).order_by(FINDINGS.c.id)
    if state is not None:
        query = query.where(FINDINGS.c.state == state)
    return [
        Finding(r.kind, r.ref, r.campaign_id, r.amount_nanos, r.note, r.at_ns, r.id, r.state)
        for r in connection.execute(query)
    ]


def adjustments(connection: Connection) -> list[Adjustment]:
    rows = connection.execute(select(ADJUSTMENTS).order_by(ADJUSTMENTS.c.at_ns, ADJUSTMENTS.c.key))
    return [Adjustment(*(getattr(r, name) for name in Adjustment.__struct_fields__)) for r in rows]


def balances(
    connection: Connection, day: str | None = None, campaign_id: str | None = None
) -> tuple[list[Account], list[Line]]:
    """Accounts and their line items by day, then campaign; None: all."""
    accounts = select(ACCOUNTS).order_by(ACCOUNTS.c.day, ACCOUNTS.c.campaign_id)
    lines = select(LINES).order_by(LINES.c.day, LINES.c.campaign_id, LINES.c.line_item_id)
    if day is not None:
        accounts, lines = accounts.where(ACCOUNTS.c.day == day), lines.where(LINES.c.day == day)
    if campaign_id is not None:
        accounts = accounts.where(ACCOUNTS.c.campaign_id == campaign_id)
        lines = lines.where(LINES.c.campaign_id == campaign_id)
    return [account_of(r) for r in connection.execute(accounts)], [
        line_of(r) for r in connection.execute(lines)
    ]
