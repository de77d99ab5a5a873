"""A tracker with everything real around it: signer, books, bus in memory, spool on disk."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from counterpoint.base.clock import NS_PER_S, ManualClock
from counterpoint.bidder.allowances import AllowanceBook
from counterpoint.bidder.attribution import Attribution
from counterpoint.bidder.committer import Committer, CommitterConfig
from counterpoint.bidder.conversions import ConversionDesk
from counterpoint.bidder.directory import Directory
from counterpoint.bidder.experiment import ARMS
from counterpoint.bidder.frequency import FrequencyBook
from counterpoint.bidder.keys import KeyRing
from counterpoint.bidder.signing import NoticeKind, SignedBid, Signer
from counterpoint.bidder.spool import Spool
from counterpoint.bidder.tracker import Tracker, Verdict
from counterpoint.bus.memory import MemoryBus
from counterpoint.catalog.model import (
    Advertiser,
    Campaign,
    Catalog,
    Creative,
    CurrencyRate,
    ExchangeProfile,
    FrequencyCap,
    LineItem,
    Media,
)
from counterpoint.events import subjects
from counterpoint.events.event import Event
from counterpoint.events.money import AllowanceGranted, SettlementNoticed

SHOP = "https://shop.example/landing?a=1&b=2"
TOKEN = "shop-token-3f9a"


def make_catalog() -> Catalog:
    return Catalog(
        account_currency="USD",
        rates=(CurrencyRate(currency="EUR", micros=1_080_000),),
        advertisers=(
            Advertiser(id="shop", name="Shop", domain="shop.example", conversion_token=TOKEN),
            Advertiser(id="bank", name="Bank", domain="bank.example", conversion_token="bank-token"),
            Advertiser(id="mute", name="Mute", domain="mute.example"),
        ),
        campaigns=(
            Campaign(id="c1", advertiser_id="shop", name="C1", daily_budget_micros=100_000_000),
            Campaign(id="c2", advertiser_id="bank", name="C2", daily_budget_micros=100_000_000),
        ),
        line_items=(
            LineItem(
                id="l1",
                campaign_id="c1",
                creative_ids=("cr1",),
                frequency_cap=FrequencyCap(impressions=3, window_s=86_400),
            ),
            LineItem(id="l2", campaign_id="c2", creative_ids=("cr2",)),
        ),
        creatives=(
            Creative(id="cr1", advertiser_id="shop", media=Media.BANNER, click_url=SHOP, w=300, h=250),
            Creative(
                id="cr2",
                advertiser_id="bank",
                media=Media.VIDEO,
                click_url="https://bank.example/?cid={click_id}",
            ),
        ),
        exchanges=(ExchangeProfile(id="adx", seat="s1"), ExchangeProfile(id="off", seat="s2", paused=True)),
        digest="catalog-1",
    )


class ListOutbox:
    """Keeps what was offered, up to a bound."""

    def __init__(self, events_max: int = 100_000) -> None:
        self.events: list[Event] = []
        self.events_max = events_max
        self.shed = 0

    def offer(self, event: Event) -> bool:
        if len(self.events) >= self.events_max:
            self.shed += 1
            return False
        self.events.append(event)
        return True

    def ids(self) -> list[str]:
        return [event.event_id for event in self.events]


class World:
    def __init__(
        self, folder: Path, config: CommitterConfig | None = None, spool_bytes_max: int = 1 << 22
    ) -> None:
        self.clock = ManualClock()
        self.bus = MemoryBus(self.clock, wire=True)
        self.spool = Spool(folder / "spool", bytes_max=spool_bytes_max)
        self.committer = Committer(
            self.bus, self.spool, config or CommitterConfig(flush_ms=1, drain_pause_ms=20, distrust_ms=50)
        )
        self.facts = ListOutbox()
        self.signer = Signer(KeyRing(1, {1: secrets.token_bytes(32)}))
        self.book = AllowanceBook("b1", "i1", ["c1", "c2"], ARMS)
        self.frequency = FrequencyBook(secrets.token_bytes(32))
        self.attribution = Attribution()
        self.tracker = Tracker(
            signer=self.signer,
            committer=self.committer,
            facts=self.facts,
            directory=Directory.build(make_catalog()),
            allowances=self.book,
            frequency=self.frequency,
            attribution=self.attribution,
            clock=self.clock,
            source="bidder/b1",
        )
        self.desk = ConversionDesk(self.tracker, "b1")
        self._bids = 0
        now_ns = self.clock.now_ns()
        self.book.grant(
            AllowanceGranted(
                event_id="g1",
                happened_at_ns=now_ns,
                recorded_at_ns=now_ns,
                source="ledger",
                allowance_id="a1",
                request_id="r1",
                bidder_id="b1",
                incarnation="i1",
                campaign_id="c1",
                arm="agents",
                day="2023-11-14",
                granted_nanos=10**9,
                usable_nanos=10**9,
                expires_at_ns=now_ns + 3600 * NS_PER_S,
            ),
            now_ns,
        )

    def bid(self, reserve: bool = True, **changes: object) -> SignedBid:
        """A bid that holds its money in the book, as the engine would have made it."""
        self._bids += 1
        now_ns = self.clock.now_ns()
        made = SignedBid(
            bid_id=f"bid-{self._bids}",
            allowance_id="a1",
            campaign_id="c1",
            line_item_id="l1",
            creative_id="cr1",
            exchange="adx",
            media="banner",
            settles="billing",
            bid_nanos=1_000_000,
            currency="USD",
            rate_micros=1_000_000,
            arm="agents",
            bid_at_ns=now_ns,
            reservation_until_ns=now_ns + 10 * NS_PER_S,
            expires_at_ns=now_ns + 86_400 * NS_PER_S,
            user_key="ab" * 16,
        )
        made = msgspec.structs.replace(made, **changes)
        if reserve and not made.test:
            self.book.reserve(0, 0, made.bid_nanos, made.bid_id, now_ns, made.reservation_until_ns, made)
        return made

    def token(self, kind: NoticeKind, bid: SignedBid) -> bytes:
        return self.signer.sign(bid).of(kind).encode()

    async def notice(self, kind: NoticeKind, bid: SignedBid, query: bytes = b"") -> Verdict:
        found = self.tracker.notice(kind, self.token(kind, bid), query)
        return found if isinstance(found, Verdict) else await found

    def settlements(self) -> list[SettlementNoticed]:
        """What is on the bus, every copy."""
        return [
            event
            for delivery in self.bus.read_now(subjects.MONEY, ["money.notice.>"])
            for event in delivery.events
            if isinstance(event, SettlementNoticed)
        ]


@contextlib.asynccontextmanager
async def running(world: World) -> AsyncIterator[World]:
    task = asyncio.create_task(world.committer.run())
    try:
        yield world
    finally:
        await world.committer.settle(2)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        world.committer.close()


async def until(holds: object, wait_s: float = 5.0) -> None:
    assert callable(holds)
    for _ in range(int(wait_s / 0.002)):
        if holds():
            return
        await asyncio.sleep(0.002)
    raise AssertionError("it did not come to that")
