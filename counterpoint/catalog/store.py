"""The catalog in a database: SQLite in WAL mode by default, PostgreSQL by the same code.

One row per thing, with the columns people filter by and its struct as msgpack beside them; one ``catalog_version`` row
names the content. A save replaces everything in one transaction, so a reader sees the old catalog or the new one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine

from counterpoint.base.errors import ConfigError
from counterpoint.catalog.digest import encode, seal
from counterpoint.catalog.model import (
    Advertiser,
    BudgetPool,
    Campaign,
    Catalog,
    Creative,
    CurrencyRate,
    ExchangeProfile,
    LineItem,
)

BUSY_TIMEOUT_MS: Final = 5_000
ROWS_PER_INSERT: Final = 10_000

METADATA: Final = sa.MetaData()


def _table(name: str, *columns: sa.Column[Any]) -> sa.Table:
    return sa.Table(
        name,
        METADATA,
        sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),  # the catalog's own order
        sa.Column("id", sa.String(64), nullable=False, unique=True),
        *columns,
        sa.Column("body", sa.LargeBinary, nullable=False),
    )


def _named(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.String(64), nullable=True, index=True)


ADVERTISERS: Final = _table("catalog_advertiser", sa.Column("domain", sa.String(253), nullable=False))
POOLS: Final = _table("catalog_pool", _named("advertiser_id"))
CAMPAIGNS: Final = _table(
    "catalog_campaign",
    _named("advertiser_id"),
    _named("pool_id"),
    sa.Column("daily_budget_micros", sa.BigInteger, nullable=False),
    sa.Column("paused", sa.Boolean, nullable=False),
)
LINE_ITEMS: Final = _table(
    "catalog_line_item", _named("campaign_id"), sa.Column("paused", sa.Boolean, nullable=False)
)
CREATIVES: Final = _table(
    "catalog_creative",
    _named("advertiser_id"),
    sa.Column("media", sa.String(8), nullable=False),
    sa.Column("paused", sa.Boolean, nullable=False),
)
EXCHANGES: Final = _table("catalog_exchange", sa.Column("currency", sa.String(3), nullable=False))
VERSION: Final = sa.Table(
    "catalog_version",
    METADATA,
    sa.Column("only", sa.Integer, primary_key=True, autoincrement=False),  # always 1
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column(
        "body_digest", sa.String(64), nullable=False
    ),  # of the rows as stored, whatever version wrote them
    sa.Column("account_currency", sa.String(3), nullable=False),
    sa.Column("rates", sa.LargeBinary, nullable=False),
)


class Kind(Struct, frozen=True):
    """How one part of the catalog is stored."""

    attribute: str  # of Catalog
    table: Any  # sa.Table
    struct: type[Struct]
    columns: tuple[str, ...]


KINDS: Final = (
    Kind("advertisers", ADVERTISERS, Advertiser, ("id", "domain")),
    Kind("pools", POOLS, BudgetPool, ("id", "advertiser_id")),
    Kind(
        "campaigns", CAMPAIGNS, Campaign, ("id", "advertiser_id", "pool_id", "daily_budget_micros", "paused")
    ),
    Kind("line_items", LINE_ITEMS, LineItem, ("id", "campaign_id", "paused")),
    Kind("creatives", CREATIVES, Creative, ("id", "advertiser_id", "media", "paused")),
    Kind("exchanges", EXCHANGES, ExchangeProfile, ("id", "currency")),
)
_RATES: Final = msgspec.msgpack.Decoder(tuple[CurrencyRate, ...])


class CatalogStoreError(ConfigError):
    """The catalog database cannot be read or written, or holds something else than a catalog."""


def _engine(url: str) -> Engine:
    """``sqlite:///var/catalog.db`` or ``postgresql+psycopg://...``; a plain path means SQLite."""
    full = url if "://" in url else f"sqlite:///{url}"
    try:
        engine = sa.create_engine(full, poolclass=sa.NullPool)
    except (sa.exc.ArgumentError, ImportError) as error:
        raise CatalogStoreError(
            f"catalog database {url}: {error}; write sqlite:///FILE or postgresql+psycopg://..."
        ) from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _sqlite_settings)
        # the driver's own BEGIN comes late and leaves DDL outside; we begin ourselves
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    return engine


def _sqlite_settings(connection: Any, _record: Any) -> None:
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


@contextmanager
def _transaction(url: str) -> Iterator[Connection]:
    engine = _engine(url)
    try:
        with engine.begin() as connection:
            yield connection
    except sa.exc.SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error)
        raise CatalogStoreError(
            f"catalog database {engine.url!r}: {reason}; check path, rights and server"
        ) from error
    finally:
        engine.dispose()


def save_catalog(url: str, catalog: Catalog) -> str:
    """Replace the stored catalog by this one, in one transaction; returns its digest. Unchanged content writes nothing."""
    sealed = seal(catalog)
    with _transaction(url) as connection:
        METADATA.create_all(connection)
        if connection.scalar(sa.select(VERSION.c.digest)) == sealed.digest:
            return sealed.digest
        for table in METADATA.tables.values():
            connection.execute(sa.delete(table))
        bodies = hashlib.blake2b(digest_size=16)
        for kind in KINDS:
            things: Sequence[Struct] = getattr(sealed, kind.attribute)
            for start in range(0, len(things), ROWS_PER_INSERT):
                rows = [
                    _row(kind, start + n, it) for n, it in enumerate(things[start : start + ROWS_PER_INSERT])
                ]
                for row in rows:
                    bodies.update(row["body"])
                connection.execute(sa.insert(kind.table), rows)
        connection.execute(
            sa.insert(VERSION).values(
                only=1,
                digest=sealed.digest,
                body_digest=bodies.hexdigest(),
                account_currency=sealed.account_currency,
                rates=encode(sealed.rates),
            )
        )
    return sealed.digest


def _row(kind: Kind, position: int, thing: Struct) -> dict[str, Any]:
    row: dict[str, Any] = {"position": position, "body": encode(thing)}
    for name in kind.columns:
        row[name] = _plain(getattr(thing, name))
    return row


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, str) else value


def current_digest(url: str) -> str | None:
    """The digest of what is stored, None while nothing is: one small read, to see whether a reload is due."""
    with _transaction(url) as connection:
        if not sa.inspect(connection).has_table(VERSION.name):
            return None
        return connection.scalar(sa.select(VERSION.c.digest))


def read_catalog(url: str) -> Catalog:
    """The stored catalog, checked against its digest. Raises :class:`CatalogStoreError` when there is none."""
    with _transaction(url) as connection:
        found = None
        if sa.inspect(connection).has_table(VERSION.name):
            found = connection.execute(sa.select(VERSION)).one_or_none()
        if found is None:
            raise CatalogStoreError(f"{url} holds no catalog; load one with counterpoint's catalog command")
        bodies = hashlib.blake2b(digest_size=16)
        parts: dict[str, tuple[Struct, ...]] = {}
        try:
            rates = _RATES.decode(found.rates)
            for kind in KINDS:
                decode = msgspec.msgpack.Decoder(kind.struct).decode
                rows = (
                    connection.execute(sa.select(kind.table.c.body).order_by(kind.table.c.position))
                    .scalars()
                    .all()
                )
                for body in rows:
                    bodies.update(body)
                parts[kind.attribute] = tuple(decode(body) for body in rows)
        except msgspec.DecodeError as error:
            raise CatalogStoreError(
                f"{url}: a row cannot be read ({error}); load the catalog file again"
            ) from error
    if bodies.hexdigest() != found.body_digest:
        raise CatalogStoreError(f"{url}: rows were changed behind our back; load the catalog file again")
    loose: dict[str, Any] = parts
    return Catalog(account_currency=found.account_currency, rates=rates, digest=found.digest, **loose)
