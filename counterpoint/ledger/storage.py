"""Accounts, allowances and lines, row to struct and back."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Table, bindparam, insert, update
from sqlalchemy.engine import Connection

from counterpoint.ledger.rows import Account, Allowance, Line

_ACCOUNT = {  # field -> column
    "campaign_id": "campaign_id",
    "day": "day",
    "budget": "budget_nanos",
    "target": "target_nanos",
    "moved": "moved_nanos",
    "spent_on_time": "spent_on_time_nanos",
    "late": "late_nanos",
    "reserved": "reserved_nanos",
    "overspend": "overspend_nanos",
    "stopped": "stopped",
    "stop_reason": "stop_reason",
    "suspense": "suspense",
    "version": "version",
    "pruned": "pruned",
    "held": "held_nanos",
    "adjusted": "adjusted_nanos",
}
_ALLOWANCE = {
    "allowance_id": "allowance_id",
    "bidder_id": "bidder_id",
    "incarnation": "incarnation",
    "campaign_id": "campaign_id",
    "day": "day",
    "arm": "arm",
    "granted": "granted_nanos",
    "out": "out_nanos",
    "headroom": "headroom_nanos",
    "spent": "spent_nanos",
    "late": "late_nanos",
    "returned": "returned_nanos",
    "state": "state",
    "expires_at_ns": "expires_at_ns",
    "closes_at_ns": "closes_at_ns",
    "line_item_id": "line_item_id",
}
_LINE = {
    "line_item_id": "line_item_id",
    "day": "day",
    "campaign_id": "campaign_id",
    "spent": "spent_nanos",
    "reserved": "reserved_nanos",
}


def account_of(row: Any) -> Account:
    return Account(**{name: getattr(row, column) for name, column in _ACCOUNT.items()})


def account_row(account: Account) -> dict[str, Any]:
    return {column: getattr(account, name) for name, column in _ACCOUNT.items()}


def allowance_of(row: Any) -> Allowance:
    found = Allowance(**{name: getattr(row, column) for name, column in _ALLOWANCE.items()})
    found.counted = found.rest
    return found


def allowance_row(allowance: Allowance) -> dict[str, Any]:
    return {column: getattr(allowance, name) for name, column in _ALLOWANCE.items()}


def line_of(row: Any) -> Line:
    found = Line(**{name: getattr(row, column) for name, column in _LINE.items()})
    found.spent = max(found.spent, 0)  # earlier versions could refund a line item more than it spent
    return found


def line_row(line: Line) -> dict[str, Any]:
    return {column: getattr(line, name) for name, column in _LINE.items()}


def write_rows(
    connection: Connection,
    table: Table,
    key: tuple[str, ...],
    new: list[dict[str, Any]],
    changed: list[dict[str, Any]],
) -> None:
    """Insert the new rows, update the changed ones by ``key``. All rows name all columns."""
    if new:
        connection.execute(insert(table), new)
    if changed:
        statement = (
            update(table)
            .where(*(table.c[name] == bindparam(f"key_{name}") for name in key))
            .values({name: bindparam(f"new_{name}") for name in changed[0] if name not in key})
        )
        rows = [
            {(f"key_{name}" if name in key else f"new_{name}"): value for name, value in row.items()}
            for row in changed
        ]
        connection.execute(statement, rows)
