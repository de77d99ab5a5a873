"""Events and catalogs for the ledger's tests, with what a test does not care about filled in."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from counterpoint.base.clock import NS_PER_S
from counterpoint.bus.bus import Delivery
from counterpoint.catalog.model import BudgetPool, Campaign, Catalog, ExchangeProfile, LineItem
from counterpoint.events import subjects
from counterpoint.events.event import Event
from counterpoint.events.money import (
    AllowanceGranted,
    AllowanceRefused,
    AllowanceRequested,
    AllowanceReturned,
    BidderStarted,
    SettlementNoticed,
)
from counterpoint.ledger.books import Ledger
from counterpoint.ledger.outbox import Outgoing
from counterpoint.ledger.people import Order, Outcome
from counterpoint.ledger.rows import Account

NOW = 1_700_000_000 * NS_PER_S  # 2023-11-14 22:13:20 UTC
DAY = "2023-11-14"
S = NS_PER_S
UNIT = 1_000_000_000  # nanos
NOTICE_LIFE_S = 120


def campaign(
    id: str = "c1",
    *,
    units: int = 100,
    pool: str | None = None,
    advertiser: str = "a1",
    offset: int = 0,
    low: int = 0,
    high: int | None = None,
    paused: bool = False,
    starts: int = 0,
    ends: int | None = None,
    lifetime: int | None = None,
    zone: str = "",
) -> Campaign:
    return Campaign(
        id=id,
        advertiser_id=advertiser,
        name=id,
        daily_budget_micros=units * 1_000_000,
        pool_id=pool,
        utc_offset_minutes=offset,
        budget_min_micros=low * 1_000_000,
        budget_max_micros=None if high is None else high * 1_000_000,
        paused=paused,
        starts_at_ns=starts,
        ends_at_ns=ends,
        lifetime_budget_micros=None if lifetime is None else lifetime * 1_000_000,
        time_zone=zone,
    )


def line_item(
    id: str = "l1", campaign_id: str = "c1", *, daily: int | None = None, lifetime: int | None = None
) -> LineItem:
    return LineItem(
        id=id,
        campaign_id=campaign_id,
        daily_cap_micros=None if daily is None else daily * 1_000_000,
        lifetime_cap_micros=None if lifetime is None else lifetime * 1_000_000,
    )


def catalog(*campaigns: Campaign, lines: tuple[LineItem, ...] = (), currency: str = "USD") -> Catalog:
    pools = {c.pool_id: c.advertiser_id for c in campaigns if c.pool_id is not None}
    return Catalog(
        campaigns=campaigns or (campaign(),),
        pools=tuple(BudgetPool(id=p, advertiser_id=a) for p, a in pools.items()),
        exchanges=(ExchangeProfile(id="x", seat="s", notice_life_ms=NOTICE_LIFE_S * 1_000),),
        line_items=lines,
        account_currency=currency,
        digest=str(hash((campaigns, lines, currency))),
    )


def started(bidder: str = "b1", incarnation: str = "i1", at: int = NOW) -> BidderStarted:
    return BidderStarted(
        event_id=f"started-{bidder}-{incarnation}",
        happened_at_ns=at,
        recorded_at_ns=at,
        source=f"bidder/{bidder}",
        bidder_id=bidder,
        incarnation=incarnation,
    )


def request(
    number: int = 1,
    *,
    nanos: int = 10 * UNIT,
    bidder: str = "b1",
    incarnation: str = "i1",
    campaign_id: str = "c1",
    arm: str = "agents",
    line: str = "",
    currency: str = "",
    at: int = NOW,
) -> AllowanceRequested:
    return AllowanceRequested(
        event_id=f"request-{bidder}-{incarnation}-{number}",
        happened_at_ns=at,
        recorded_at_ns=at,
        source=f"bidder/{bidder}",
        request_id=f"{bidder}-{incarnation}-{number}",
        bidder_id=bidder,
        incarnation=incarnation,
        campaign_id=campaign_id,
        arm=arm,
        amount_nanos=nanos,
        line_item_id=line,
        currency=currency,
    )


def back(
    grant: AllowanceGranted,
    nanos: int,
    *,
    final: bool = False,
    number: int = 1,
    incarnation: str | None = None,
) -> AllowanceReturned:
    return AllowanceReturned(
        event_id=f"return-{grant.allowance_id}-{number}",
        happened_at_ns=NOW,
        recorded_at_ns=NOW,
        source=f"bidder/{grant.bidder_id}",
        allowance_id=grant.allowance_id,
        bidder_id=grant.bidder_id,
        incarnation=incarnation or grant.incarnation,
        amount_nanos=nanos,
        final=final,
    )


def notice(
    bid_id: str,
    allowance_id: str,
    *,
    paid: int = UNIT,
    bid: int | None = None,
    excess: int = 0,
    campaign_id: str = "c1",
    bid_at: int = NOW,
    until: int = NOW + 10 * S,
    at: int = NOW + S,
    copy: int = 1,
    line: str = "l1",
) -> SettlementNoticed:
    return SettlementNoticed(
        event_id=f"settle-{bid_id}" + (f"-{copy}" if copy > 1 else ""),
        happened_at_ns=at,
        recorded_at_ns=at,
        source="tracker/b1",
        bid_id=bid_id,
        exchange="x",
        allowance_id=allowance_id,
        campaign_id=campaign_id,
        line_item_id=line,
        creative_id="k1",
        bid_nanos=paid if bid is None else bid,
        paid_nanos=paid,
        excess_nanos=excess,
        bid_at_ns=bid_at,
        reservation_until_ns=until,
    )


def subject_of(event: Event) -> str:
    if isinstance(event, SettlementNoticed):
        return subjects.notice(event.exchange)
    assert isinstance(event, BidderStarted | AllowanceRequested | AllowanceReturned)
    return subjects.money_command(event.bidder_id)


class Stream:
    """Numbers deliveries as the bus would: one event a message."""

    def __init__(self) -> None:
        self.sequence = 0

    def of(self, *events: Event, at: int = NOW) -> list[Delivery]:
        deliveries = []
        for event in events:
            self.sequence += 1
            deliveries.append(
                Delivery(subjects.MONEY, self.sequence, at + self.sequence, subject_of(event), (event,))
            )
        return deliveries


class Desk:
    """A ledger, its stream, and what it said: for tests that are one line long."""

    def __init__(self, engine_url: str, *campaigns: Campaign, lines: tuple[LineItem, ...] = ()) -> None:
        self.stream = Stream()
        self.catalog = catalog(*campaigns, lines=lines)
        self.ledger = Ledger(engine_url, self.catalog)
        self.said: list[Event] = []
        self.hear(self.ledger.set_catalog(self.catalog, NOW))

    def hear(self, outgoing: list[Outgoing]) -> list[Event]:
        events = [e for o in outgoing for e in o.events]
        self.said += events
        self.ledger.mark_sent(outgoing)
        assert self.ledger.verify().problems == ()
        return events

    def tell(self, *events: Event, at: int = NOW) -> list[Event]:
        return self.hear(self.ledger.apply(self.stream.of(*events, at=at), at))

    def grant(self, number: int = 1, *, at: int = NOW, **fields: object) -> AllowanceGranted:
        said = self.tell(request(number, at=at, **fields), at=at)  # type: ignore[arg-type]
        (granted,) = [e for e in said if isinstance(e, AllowanceGranted)]
        return granted

    def account(self, campaign_id: str = "c1", day: str = DAY) -> Account:
        found = self.ledger.account(campaign_id, day)
        assert found is not None
        return found

    def order(self, kind: str, nanos: int, key: str, **fields: str) -> Outcome:
        """A person's order about c1 and today, unless ``fields`` say otherwise; the books are right afterwards."""
        named = {"campaign_id": "c1", "day": DAY, "author": "ann", "reason": "because", **fields}
        outcome = self.ledger.adjust(Order(key=key, kind=kind, amount_nanos=nanos, **named), NOW)
        assert self.ledger.verify().problems == ()
        return outcome

    def decide(self, kind: str, accept: bool, author: str = "ann") -> Outcome:
        """The first finding of this kind that is open, or else the last one that was decided."""
        of_kind = [f for f in self.ledger.findings() if f.kind == kind]
        (*_, finding) = sorted(of_kind, key=lambda f: (f.state == "open", -f.id))
        outcome = self.ledger.decide(finding.id, accept, author, "because", NOW)
        assert self.ledger.verify().problems == ()
        return outcome

    def refusal(self, number: int, *, at: int = NOW, **fields: object) -> str:
        said = self.tell(request(number, at=at, **fields), at=at)  # type: ignore[arg-type]
        (refused,) = [e for e in said if isinstance(e, AllowanceRefused)]
        return refused.reason


def sqlite_url(folder: Path) -> str:
    return f"sqlite:///{folder / f'{uuid.uuid4().hex}.db'}"


@contextmanager
def postgres_url() -> Iterator[str]:
    """A schema of its own on the local PostgreSQL, dropped afterwards. Skips where there is none."""
    base = os.environ.get("COUNTERPOINT_TEST_POSTGRES", "postgresql+psycopg://127.0.0.1:5432/test")
    schema = f"counterpoint_{uuid.uuid4().hex[:12]}"
    admin = create_engine(base, connect_args={"connect_timeout": 2})
    try:
        with admin.begin() as connection:
            connection.execute(text(f"CREATE SCHEMA {schema}"))
    except OperationalError as error:
        missing = f"no PostgreSQL answers at {base}"
        if os.environ.get("COUNTERPOINT_REQUIRE_POSTGRES"):
            pytest.fail(f"{missing}, and COUNTERPOINT_REQUIRE_POSTGRES insists on one: {error}")
        pytest.skip(missing)
    try:
        yield f"{base}?options=-csearch_path%3D{schema}"
    finally:
        with admin.begin() as connection:
            connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))
        admin.dispose()
