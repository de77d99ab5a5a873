"""Opening a ledger's database: made where there is none, brought up to this version where it is older, refused where
it is newer."""

from __future__ import annotations

from sqlalchemy import Column, Engine, func, insert, inspect, literal, select, text, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.schema import CreateTable

from counterpoint.ledger.tables import (
    ACCOUNTS,
    ALLOWANCES,
    FINDINGS,
    LINES,
    METADATA,
    SCHEMA_VERSION,
    SETTLEMENTS,
    WRITER,
    LedgerDatabaseError,
    connect,
    create_schema,
)

_ADDED_IN_2: tuple[Column[object], ...] = (
    WRITER.c.currency,
    ALLOWANCES.c.line_item_id,
    SETTLEMENTS.c.refunded_nanos,
    FINDINGS.c.state,
    FINDINGS.c.payload,
)


def open_engine(engine_url: str) -> Engine:
    """The database with the schema of this version. Safe to call from several processes at once.

    Raises :class:`LedgerDatabaseError` where it cannot be reached, or was written by a newer version.
    """
    engine = connect(engine_url)
    try:
        with engine.begin() as connection:
            create_schema(connection)
            found = _version(connection)
            if found > SCHEMA_VERSION:
                raise LedgerDatabaseError(_newer(engine, found))
            if found == 1:
                _from_1_to_2(connection)
    except SQLAlchemyError as error:
        engine.dispose()
        reason = str(getattr(error, "orig", None) or error).strip()
        raise LedgerDatabaseError(
            f"ledger database {engine.url!r}: {reason}; check path, rights and server"
        ) from error
    return engine


def open_existing(engine_url: str) -> Engine:
    """For who only looks: nothing is made or changed. Raises :class:`LedgerDatabaseError` where there is no ledger of
    this version."""
    engine = connect(engine_url)
    missing = (
        f"{engine.url!r} holds no ledger; name its database with --database, or its system with --config"
    )
    database = engine.url.database
    if engine.dialect.name == "sqlite":
        try:
            with open(database or "", "rb"):
                pass
        except OSError as error:
            raise LedgerDatabaseError(f"{missing} ({error})") from error
    try:
        with engine.execution_options(reads=True).connect() as connection:
            if not inspect(connection).has_table(WRITER.name):
                raise LedgerDatabaseError(missing)
            found = _version(connection)
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).strip()
        raise LedgerDatabaseError(f"{missing} ({reason})") from error
    if found > SCHEMA_VERSION:
        raise LedgerDatabaseError(_newer(engine, found))
    if found < SCHEMA_VERSION:
        raise LedgerDatabaseError(
            f"{engine.url!r} has the ledger's schema {found}, this version reads {SCHEMA_VERSION}; "
            "make a copy of it, then start the ledger once: it brings the database up to date"
        )
    return engine


def _version(connection: Connection) -> int:
    return int(connection.execute(select(WRITER.c.schema_version)).scalar_one())


def _newer(engine: Engine, found: int) -> str:
    return (
        f"{engine.url!r} has the ledger's schema {found}, this version knows {SCHEMA_VERSION}; "
        "use the newer version of counterpoint that wrote it, or another database"
    )


def _from_1_to_2(connection: Connection) -> None:
    """Line items, credits, refunds, held money, findings that are decided, one currency."""
    for column in _ADDED_IN_2:
        _add(connection, column)
    _widen_accounts(connection)
    METADATA.create_all(connection)
    connection.execute(
        insert(LINES).from_select(
            ["line_item_id", "day", "campaign_id", "spent_nanos", "reserved_nanos"],
            select(
                SETTLEMENTS.c.line_item_id,
                SETTLEMENTS.c.day,
                func.min(SETTLEMENTS.c.campaign_id),
                func.sum(
                    SETTLEMENTS.c.on_time_nanos + SETTLEMENTS.c.late_nanos + SETTLEMENTS.c.overspend_nanos
                ),
                literal(0),
            )
            .where(SETTLEMENTS.c.line_item_id != "")
            .group_by(SETTLEMENTS.c.line_item_id, SETTLEMENTS.c.day),
        )
    )
    connection.execute(update(WRITER).values(schema_version=2))


def _add(connection: Connection, column: Column[object]) -> None:
    kind = column.type.compile(connection.dialect)
    default = column.server_default
    tail = f" DEFAULT '{default.arg}' NOT NULL" if default is not None else ""  # type: ignore[attr-defined]
    connection.execute(text(f"ALTER TABLE {column.table.name} ADD COLUMN {column.name} {kind}{tail}"))


def _widen_accounts(connection: Connection) -> None:
    """Two more columns, and constraints that know of held money. SQLite changes no constraint: the table is copied."""
    before = [c.name for c in ACCOUNTS.c if c.name not in ("held_nanos", "adjusted_nanos")]
    if connection.dialect.name == "postgresql":
        for name in ("covered_within_budget", "no_negative_money"):
            connection.execute(text(f"ALTER TABLE accounts DROP CONSTRAINT {name}"))
        for column in (ACCOUNTS.c.held_nanos, ACCOUNTS.c.adjusted_nanos):
            _add(connection, column)
        for constraint in ACCOUNTS.constraints:
            if constraint.name in ("covered_within_budget", "no_negative_money"):
                rule = constraint.sqltext  # type: ignore[attr-defined]
                connection.execute(
                    text(f"ALTER TABLE accounts ADD CONSTRAINT {constraint.name} CHECK ({rule})")
                )
        return
    connection.execute(text("ALTER TABLE accounts RENAME TO accounts_1"))
    connection.execute(CreateTable(ACCOUNTS))
    columns = ", ".join(before)
    connection.execute(text(f"INSERT INTO accounts ({columns}) SELECT {columns} FROM accounts_1"))
    connection.execute(text("DROP TABLE accounts_1"))
