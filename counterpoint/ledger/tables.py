"""The ledger's tables, and the engine they live in. One schema for SQLite (embedded) and PostgreSQL (scaled out).

Money is BigInteger nanos. The constraints repeat in the database what the code asserts: whatever writes here, the
books cannot say that more was promised than there is.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Engine,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    create_engine,
    event,
    insert,
    make_url,
    select,
    text,
)
from sqlalchemy.engine import Connection

METADATA = MetaData()
SCHEMA_VERSION = 1
_SCHEMA_LOCK = 0x636F756E746572  # any constant: one creator of the schema at a time

# One row. Whoever writes holds it: on PostgreSQL by FOR UPDATE, on SQLite by BEGIN IMMEDIATE.
WRITER = Table(
    "writer",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("schema_version", Integer, nullable=False),
    Column("entry_next", BigInteger, nullable=False),
    Column("outbox_next", BigInteger, nullable=False),
    Column("finding_next", BigInteger, nullable=False),
)

# How far each bus stream is in the books.
POSITIONS = Table(
    "positions",
    METADATA,
    Column("stream", String(64), primary_key=True),
    Column("sequence", BigInteger, nullable=False),
    Column("stored_at_ns", BigInteger, nullable=False),
)

# A campaign's money for one local day.
ACCOUNTS = Table(
    "accounts",
    METADATA,
    Column("campaign_id", String, primary_key=True),
    Column("day", String(10), primary_key=True),
    Column("budget_nanos", BigInteger, nullable=False),
    Column("target_nanos", BigInteger, nullable=False),  # catalog + moved; budget follows when money is back
    Column("moved_nanos", BigInteger, nullable=False),  # by pool moves, this day
    Column("spent_on_time_nanos", BigInteger, nullable=False),
    Column("late_nanos", BigInteger, nullable=False),  # late and covered
    Column("reserved_nanos", BigInteger, nullable=False),  # sum of what allowances still hold
    Column("overspend_nanos", BigInteger, nullable=False),  # late and covered by nothing
    Column("stopped", Boolean, nullable=False),
    Column("stop_reason", String, nullable=False),
    Column("suspense", Boolean, nullable=False),  # no such campaign in the catalog
    Column("version", BigInteger, nullable=False),
    Column("pruned", Boolean, nullable=False),  # settlement keys gone, journal carried to one entry
    CheckConstraint("spent_on_time_nanos + reserved_nanos <= budget_nanos", name="never_promised_twice"),
    CheckConstraint(
        "spent_on_time_nanos + late_nanos + reserved_nanos <= budget_nanos", name="covered_within_budget"
    ),
    CheckConstraint(
        "budget_nanos >= 0 AND spent_on_time_nanos >= 0 AND late_nanos >= 0 AND reserved_nanos >= 0"
        " AND overspend_nanos >= 0",
        name="no_negative_money",
    ),
)

# Slices of an account, each in the hands of one bidder incarnation.
ALLOWANCES = Table(
    "allowances",
    METADATA,
    Column("allowance_id", String(64), primary_key=True),
    Column("bidder_id", String, nullable=False),
    Column("incarnation", String, nullable=False),
    Column("campaign_id", String, nullable=False),
    Column("day", String(10), nullable=False),
    Column("arm", String, nullable=False),
    Column("granted_nanos", BigInteger, nullable=False),
    Column("out_nanos", BigInteger, nullable=False),  # in the bidder's hands: usable - spent - returned
    Column("headroom_nanos", BigInteger, nullable=False),  # withheld for late spend
    Column("spent_nanos", BigInteger, nullable=False),
    Column("late_nanos", BigInteger, nullable=False),  # late spend paid from here, of whichever allowance
    Column("returned_nanos", BigInteger, nullable=False),
    Column("state", String(8), nullable=False),  # open | orphan | final | closed
    Column("expires_at_ns", BigInteger, nullable=False),
    Column("closes_at_ns", BigInteger, nullable=False),  # expiry + longest notice life
    CheckConstraint(
        "granted_nanos = out_nanos + headroom_nanos + spent_nanos + late_nanos + returned_nanos",
        name="nothing_vanishes",
    ),
    CheckConstraint(
        "out_nanos >= 0 AND headroom_nanos >= 0 AND spent_nanos >= 0 AND late_nanos >= 0"
        " AND returned_nanos >= 0",
        name="no_negative_part",
    ),
    Index("allowances_of_account", "campaign_id", "day", "state"),
    Index("allowances_to_close", "state", "closes_at_ns"),
    Index("allowances_of_bidder", "bidder_id", "state"),
)

# The settlement key: one row per bid id, ever.
SETTLEMENTS = Table(
    "settlements",
    METADATA,
    Column("bid_id", String, primary_key=True),
    Column("campaign_id", String, nullable=False),
    Column("day", String(10), nullable=False),
    Column("allowance_id", String, nullable=False),
    Column("exchange", String, nullable=False),
    Column("line_item_id", String, nullable=False),
    Column("creative_id", String, nullable=False),
    Column("arm", String, nullable=False),
    Column("on_time_nanos", BigInteger, nullable=False),
    Column("late_nanos", BigInteger, nullable=False),
    Column("overspend_nanos", BigInteger, nullable=False),  # as booked; may have been covered since
    Column("booked_at_ns", BigInteger, nullable=False),
    Index("settlements_of_account", "campaign_id", "day"),
)

# Double entry: each movement is one entry with two legs that sum to zero; movements of one transaction between the
# same two buckets are one entry. Buckets of a (campaign, day):
#   owner (minus the budget) | free | reserved | on_time | late | overspend | uncovered (minus overspend)
#   pool (moves to and from the pool `ref`)
JOURNAL = Table(
    "journal",
    METADATA,
    Column("entry", BigInteger, primary_key=True, autoincrement=False),
    Column("leg", Integer, primary_key=True, autoincrement=False),
    Column("kind", String(16), nullable=False),
    Column("campaign_id", String, nullable=False),
    Column("day", String(10), nullable=False),
    Column("bucket", String(16), nullable=False),
    Column("ref", String, nullable=False),  # allowance or pool
    Column("amount_nanos", BigInteger, nullable=False),
    Column("at_ns", BigInteger, nullable=False),
    Index("journal_of_account", "campaign_id", "day"),
)

# Idempotency keys of commands.
COMMANDS = Table(
    "commands",
    METADATA,
    Column("event_id", String, primary_key=True),
    Column("at_ns", BigInteger, nullable=False),
    Index("commands_by_time", "at_ns"),
)

INCARNATIONS = Table(
    "incarnations",
    METADATA,
    Column("bidder_id", String, primary_key=True),
    Column("incarnation", String, primary_key=True),
    Column("current", Boolean, nullable=False),
    Column("started_at_ns", BigInteger, nullable=False),
)

# What was decided in a committed transaction and the bus has not confirmed yet.
OUTBOX = Table(
    "outbox",
    METADATA,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("batch_id", String(64), nullable=False),
    Column("subject", String, nullable=False),
    Column("payload", LargeBinary, nullable=False),
)

# For a person: excess held, unknown campaigns and allowances, broken amounts.
FINDINGS = Table(
    "findings",
    METADATA,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", String(32), nullable=False),
    Column("ref", String, nullable=False),  # bid id, or stream position
    Column("campaign_id", String, nullable=False),
    Column("amount_nanos", BigInteger, nullable=False),
    Column("note", String, nullable=False),
    Column("at_ns", BigInteger, nullable=False),
)

# Measured lateness per campaign: halved every half-life.
LATENESS = Table(
    "lateness",
    METADATA,
    Column("campaign_id", String, primary_key=True),
    Column("settled_nanos", BigInteger, nullable=False),
    Column("late_nanos", BigInteger, nullable=False),
    Column("since_ns", BigInteger, nullable=False),
)

# The last epoch whose split was applied, per pool, and on which day: an older or repeated one changes nothing.
SPLITS = Table(
    "splits",
    METADATA,
    Column("pool_id", String, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("day", String(10), nullable=False),
    Column("at_ns", BigInteger, nullable=False),
)


def open_engine(engine_url: str) -> Engine:
    """An engine with the durability the books need, and the schema made where it is missing.

    SQLite: WAL, ``synchronous=FULL``, every transaction takes the write lock at its start. Safe to call from several
    processes at once.
    """
    url = make_url(engine_url)
    if url.drivername in ("postgresql", "postgres"):
        url = url.set(drivername="postgresql+psycopg")
    engine = create_engine(url)
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def _connected(connection: Any, _record: Any) -> None:
            connection.isolation_level = None  # the driver must not begin or commit by itself
            connection.execute("PRAGMA busy_timeout=30000")
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA foreign_keys=ON")

        @event.listens_for(engine, "begin")
        def _begun(connection: Connection) -> None:
            reads = connection.get_execution_options().get("reads")
            connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    else:

        @event.listens_for(engine, "begin")
        def _begun_elsewhere(connection: Connection) -> None:
            # each statement of the default level sees what was committed meanwhile: an audit of a ledger at work
            # would find money missing that is not
            if connection.get_execution_options().get("reads"):
                connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")

    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_SCHEMA_LOCK})"))
        METADATA.create_all(connection)
        found = connection.execute(select(WRITER.c.schema_version)).scalar()
        if found is None:
            connection.execute(
                insert(WRITER).values(
                    id=1, schema_version=SCHEMA_VERSION, entry_next=1, outbox_next=1, finding_next=1
                )
            )
        else:
            assert found == SCHEMA_VERSION, f"ledger schema {found}, this version reads {SCHEMA_VERSION}"
    return engine
