"""How fast the ledger books settlements: one core, SQLite with synchronous=FULL or PostgreSQL, by size of the batch."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from counterpoint.base.clock import NS_PER_S
from counterpoint.bus.bus import Delivery
from counterpoint.catalog.model import Campaign, Catalog, ExchangeProfile
from counterpoint.events import subjects
from counterpoint.events.event import Event
from counterpoint.events.money import AllowanceGranted, AllowanceRequested, BidderStarted, SettlementNoticed
from counterpoint.ledger.books import Ledger
from counterpoint.ledger.outbox import Outgoing

NOW_NS: Final = 1_700_000_000 * NS_PER_S
CAMPAIGNS: Final = 20
PER_MESSAGE: Final = 100  # as trackers batch them
BATCHES: Final = (1, 100, 1_600, 6_400)


class SpeedResult(Struct, frozen=True):
    """``cpu_us`` and ``wall_us`` a settlement; per second of one core's CPU time, and of wall time with the disk."""

    batch: int
    settlements: int
    cpu_us: float
    wall_us: float
    per_cpu_s: int
    per_s: int


def _granted(ledger: Ledger) -> dict[str, str]:
    """One allowance per campaign, large enough for all that comes."""
    asks: list[Event] = [
        BidderStarted(
            event_id="started",
            happened_at_ns=NOW_NS,
            recorded_at_ns=NOW_NS,
            source="b",
            bidder_id="b",
            incarnation="i",
        )
    ]
    asks += [
        AllowanceRequested(
            event_id=f"request-{at}",
            happened_at_ns=NOW_NS,
            recorded_at_ns=NOW_NS,
            source="b",
            request_id=str(at),
            bidder_id="b",
            incarnation="i",
            campaign_id=f"c{at}",
            arm="agents",
            amount_nanos=40_000_000 * NS_PER_S,
        )
        for at in range(CAMPAIGNS)
    ]
    said = ledger.apply(
        [Delivery(subjects.MONEY, 1, NOW_NS, subjects.money_command("b"), tuple(asks))], NOW_NS
    )
    ledger.mark_sent(said)
    return {
        e.campaign_id: e.allowance_id
        for batch in said
        for e in batch.events
        if isinstance(e, AllowanceGranted)
    }


def run(
    engine_url: str, settlements: int = 100_000, progress: Callable[[int], None] | None = None
) -> list[SpeedResult]:
    """Book settlements in batches of each size, at most ``settlements`` of each; ends with the audit."""
    catalog = Catalog(
        campaigns=tuple(
            Campaign(id=f"c{at}", advertiser_id="a", name="", daily_budget_micros=10**14)
            for at in range(CAMPAIGNS)
        ),
        exchanges=(ExchangeProfile(id="x", seat="s"),),
    )
    ledger = Ledger(engine_url, catalog)
    ledger.mark_sent(ledger.set_catalog(catalog, NOW_NS))
    allowances = _granted(ledger)
    results, sequence, bid, done = [], 1, 0, 0
    for size in BATCHES:
        count = min(settlements, size * 200)
        batches: list[list[Delivery]] = []
        for _ in range(max(count // size, 1)):
            deliveries = []
            for start in range(0, size, PER_MESSAGE):
                sequence += 1
                events = tuple(_notice(bid + n, allowances) for n in range(min(PER_MESSAGE, size - start)))
                bid += len(events)
                deliveries.append(
                    Delivery(subjects.MONEY, sequence, NOW_NS + sequence, subjects.notice("x"), events)
                )
            batches.append(deliveries)
        wall, cpu = time.perf_counter(), time.process_time()
        outgoing: list[Outgoing] = []
        for batch in batches:
            outgoing = ledger.apply(batch, NOW_NS)
            ledger.mark_sent(outgoing)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        booked = len(batches) * size
        results.append(
            SpeedResult(
                size,
                booked,
                round(cpu / booked * 1e6, 2),
                round(wall / booked * 1e6, 2),
                int(booked / cpu),
                int(booked / wall),
            )
        )
        done += booked
        if progress is not None:
            progress(done)
    found = ledger.verify()
    ledger.close()
    assert found.problems == (), found.problems
    assert found.settlements == done
    return results


def _notice(number: int, allowances: dict[str, str]) -> SettlementNoticed:
    campaign_id = f"c{number % CAMPAIGNS}"
    return SettlementNoticed(
        event_id=f"settle-{number}",
        happened_at_ns=NOW_NS,
        recorded_at_ns=NOW_NS,
        source="tracker",
        bid_id=f"01a2094eed0461{number:010x}",
        exchange="x",
        allowance_id=allowances[campaign_id],
        campaign_id=campaign_id,
        line_item_id=f"l{number % (5 * CAMPAIGNS)}",
        creative_id="k",
        bid_nanos=2_000_000,
        paid_nanos=1_900_000,
        bid_at_ns=NOW_NS,
        reservation_until_ns=NOW_NS + NS_PER_S,
    )
