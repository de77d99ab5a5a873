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
    inspect,
    make_url,
    text,
)
from sqlalchemy.engine import Connection
from sqlalchemy.exc import ArgumentError

from counterpoint.base.errors import ConfigError

METADATA = MetaData()
SCHEMA_VERSION = 2  # counterpoint.ledger.migrate brings older databases up
_SCHEMA_LOCK = 0x636F756E746572  # any constant: one creator of the schema at a time


class LedgerDatabaseError(ConfigError):
    """The database holds no ledger, or one that this version cannot use; the message says what to do."""


# One row. Whoever writes holds it: on PostgreSQL by FOR UPDATE, on SQLite by BEGIN IMMEDIATE.
WRITER = Table(
    "writer",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("schema_version", Integer, nullable=False),
    Column("entry_next", BigInteger, nullable=False),
    Column("outbox_next", BigInteger, nullable=False),
    Column("finding_next", BigInteger, nullable=False),
    Column("currency", String(3), nullable=False, server_default=""),  # of every amount; empty: not said yet
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
    Column("held_nanos", BigInteger, nullable=False, server_default="0"),  # set aside by a person
    Column("adjusted_nanos", BigInteger, nullable=False, server_default="0"),  # credits less debits
    CheckConstraint("spent_on_time_nanos + reserved_nanos <= budget_nanos", name="never_promised_twice"),
    CheckConstraint(
        "spent_on_time_nanos + late_nanos + reserved_nanos + held_nanos <= budget_nanos",
        name="covered_within_budget",
    ),
    CheckConstraint(
        "budget_nanos >= 0 AND spent_on_time_nanos >= 0 AND late_nanos >= 0 AND reserved_nanos >= 0"
        " AND overspend_nanos >= 0 AND held_nanos >= 0",
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
    Column(
        "line_item_id", String, nullable=False, server_default=""
    ),  # the capped line item it is for; or any
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
    Column("refunded_nanos", BigInteger, nullable=False, server_default="0"),
    CheckConstraint(
        "refunded_nanos >= 0 AND refunded_nanos <= on_time_nanos + late_nanos + overspend_nanos",
        name="never_more_back_than_booked",
    ),
    Index("settlements_of_account", "campaign_id", "day"),
)

# Double entry: each movement is one entry with two legs that sum to zero; movements of one transaction between the
# same two buckets are one entry. Buckets of a (campaign, day):
#   owner (minus the budget) | free | reserved | held | on_time | late | overspend | uncovered (minus overspend)
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

# What each line item spent (of whatever kind, less refunds) and has in allowances of its own, per local day of its
# campaign: what its caps are held against.
LINES = Table(
    "lines",
    METADATA,
    Column("line_item_id", String, primary_key=True),
    Column("day", String(10), primary_key=True),
    Column("campaign_id", String, nullable=False),
    Column("spent_nanos", BigInteger, nullable=False),
    Column("reserved_nanos", BigInteger, nullable=False),
    CheckConstraint("reserved_nanos >= 0", name="no_negative_reserve"),
)

# What people did to the books, under the key they gave it: never forgotten.
ADJUSTMENTS = Table(
    "adjustments",
    METADATA,
    Column("key", String, primary_key=True),
    Column("kind", String(16), nullable=False),  # credit | debit | refund | hold | release | accept | reject
    Column("campaign_id", String, nullable=False),
    Column("day", String(10), nullable=False),
    Column("ref", String, nullable=False),  # bid or finding
    Column("amount_nanos", BigInteger, nullable=False),
    Column("author", String, nullable=False),
    Column("reason", String, nullable=False),
    Column("at_ns", BigInteger, nullable=False),
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
    Column("state", String(8), nullable=False, server_default="open"),  # open | accepted | rejected
    Column("payload", LargeBinary, nullable=True),  # the settlement it is about, as it came
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


def connect(engine_url: str) -> Engine:
    """An engine with the durability the books need: SQLite in WAL mode with ``synchronous=FULL``, where every
    transaction takes the write lock at its start. What is marked ``reads`` sees one consistent picture.

    Raises :class:`LedgerDatabaseError` for an address that is none.
    """
    try:
        url = make_url(engine_url)
        if url.drivername in ("postgresql", "postgres"):
            url = url.set(drivername="postgresql+psycopg")
        engine = create_engine(url)
    except (ArgumentError, ImportError) as error:
        raise LedgerDatabaseError(
            f"ledger database {engine_url}: {error}; write sqlite:///FILE or postgresql://HOST/DATABASE"
        ) from error
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

    return engine


def create_schema(connection: Connection) -> None:
    """Make what is missing, one creator at a time."""
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SELECT pg_advisory_xact_lock({_SCHEMA_LOCK})"))
    if inspect(connection).has_table(WRITER.name):
        return
    METADATA.create_all(connection)
    connection.execute(
        insert(WRITER).values(
            id=1, schema_version=SCHEMA_VERSION, entry_next=1, outbox_next=1, finding_next=1, currency=""
        )
    )
