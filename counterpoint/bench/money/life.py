"""Bidders, exchanges and what they say, in simulated time: real allowance books over a random world."""

from __future__ import annotations

import heapq
import random
from collections import Counter, deque
from typing import Final

from msgspec import Struct

from counterpoint.base.clock import NS_PER_S
from counterpoint.bench.money.invariants import Answered, Granted, InvariantBroken
from counterpoint.bidder.allowances import AllowanceBook, AllowanceBookConfig
from counterpoint.catalog.local_time import local_day
from counterpoint.catalog.model import BudgetPool, Campaign, Catalog, ExchangeProfile, LineItem
from counterpoint.events import subjects
from counterpoint.events.event import Event
from counterpoint.events.money import SettlementNoticed
from counterpoint.ledger.books import Ledger
from counterpoint.ledger.config import LedgerConfig

START_NS: Final = 1_700_000_000 * NS_PER_S
ARMS: Final = ("agents", "no_agents")
MILLI: Final = 1_000_000  # nanos
NOTICE_LIFE_S: Final = 120
LEDGER: Final = LedgerConfig(keep_days=2)
BOOK: Final = AllowanceBookConfig(request_first_nanos=60 * MILLI, reservations_max=5_000)


class MoneyConfig(Struct, frozen=True):
    bidders: int = 16
    campaigns: int = 8  # the first three share a pool, the fourth has a lifetime budget of two days, the fifth a capped line item;  # the eighth claims the pool, and is of another advertiser
    budget_units: int = 4  # a day: gone towards its end
    day_operations: int = 60_000  # then it is another day; or
    day_s_max: int = 240  # after this many seconds, where little money is left to bid
    bids_per_turn: int = 25
    unrest: float = (
        1.0  # how often something dies, is repeated, or a person comes: 1 about every fifth transaction
    )
    verifications: int = 20  # full rebuilds, spread over the run


class _Bid(Struct):
    bidder: int
    purse: tuple[str, str]
    allowance_id: str
    price: int
    at_ns: int
    until_ns: int
    contradicted: bool = False  # a loss notice had set its money free


class Life:
    """The bidding half of :class:`counterpoint.bench.money.world.World`. ``total``: operations done."""

    def __init__(self, engine_url: str, seed: int, config: MoneyConfig) -> None:
        self.config = config
        self.chance = random.Random(seed)
        self.now_ns = START_NS
        self.operations: Counter[str] = Counter()
        self.total = 0
        self.transactions = 0
        self.verified = 0
        self.answered = Answered()
        self.granted = Granted()
        self._url = engine_url
        self._names = [f"c{i}" for i in range(config.campaigns)]
        self._budgets = dict.fromkeys(self._names, config.budget_units)
        self._lines = (("c4", "capped"),) if config.campaigns > 4 else ()
        self._purses = (*((name, f"{name}-free") for name in self._names), *self._lines)
        self._incarnations = [0] * config.bidders
        self.books = [self._new_book(i) for i in range(config.bidders)]
        self._outbox: list[tuple[str, list[Event]]] = []
        self._recent: deque[SettlementNoticed] = deque(maxlen=2_000)
        self._due: list[tuple[int, int, str, _Bid, str]] = []  # heap of what exchanges will say
        self._sequence = self._number = self._orders = self._epoch = 0
        self._stream_ns = START_NS
        self._booked_ns = self._ticked_ns = self.now_ns
        self.new_day_due = config.day_operations
        self._day_ends_ns = self.now_ns + config.day_s_max * NS_PER_S
        self.ledger = Ledger(engine_url, self.catalog(), LEDGER)

    def catalog(self) -> Catalog:
        return Catalog(
            campaigns=tuple(
                Campaign(
                    id=name,
                    advertiser_id="a0" if at < 3 else f"a{at}",
                    name=name,
                    daily_budget_micros=self._budgets[name] * 1_000_000,
                    pool_id="pool" if at < 3 or at == 7 else None,
                    budget_min_micros=1_000_000 if at == 7 else 0,
                    budget_max_micros=100_000_000 if at == 7 else None,
                    time_zone="Europe/Berlin" if at == 5 else "",
                    utc_offset_minutes=330 if at == 6 else 0,
                    lifetime_budget_micros=2_000_000 * self.config.budget_units if at == 3 else None,
                )
                for at, name in enumerate(self._names)
            ),
            pools=(BudgetPool(id="pool", advertiser_id="a0"),),
            line_items=tuple(
                LineItem(
                    id=line,
                    campaign_id=campaign,
                    daily_cap_micros=100_000 * self.config.budget_units if line == "capped" else None,
                )
                for campaign, line in self._purses
            ),
            exchanges=(ExchangeProfile(id="x", seat="s", notice_life_ms=NOTICE_LIFE_S * 1_000),),
        )

    def _new_book(self, at: int) -> AllowanceBook:
        name = f"b{at}"
        return AllowanceBook(name, f"i{self._incarnations[at]}", self._names, ARMS, BOOK, self._lines)

    def _did(self, what: str, times: int = 1) -> None:
        self.operations[what] += times
        self.total += times

    def _turn(self, at: int) -> None:
        """A bidder lets time end what is over, gives back, asks, and bids; bids come between its timer's ticks, too."""
        book, chance, now_ns = self.books[at], self.chance, self.now_ns
        if chance.random() < 0.7:
            self._did("expire", len(book.expire(now_ns)))
            commands: list[Event] = [*book.returns_due(now_ns), *book.requests_due(now_ns)]
            if commands:
                self._did("ask or return", len(commands))
                self._outbox.append((subjects.money_command(book.bidder_id), commands))
        if chance.random() < 0.002:
            self._incarnations[at] += 1
            self.books[at] = book = self._new_book(at)
            self._outbox.append((subjects.money_command(book.bidder_id), [book.started(now_ns)]))
            self._did("bidder dies")
        left = book.left
        for _ in range(self.config.bids_per_turn):
            purse, arm = chance.randrange(len(self._purses)), chance.randrange(2)
            price = chance.randint(1, 60) * MILLI // 4
            if left.item(purse, arm) < price and chance.random() < 0.95:
                continue  # what decide reads; now and then it is asked all the same
            self._did("reserve")
            self._number += 1
            bid_id = f"bid{self._number}"
            until_ns = now_ns + chance.choice((5, 10, 20)) * NS_PER_S
            before = left.item(purse, arm)
            allowance_id = book.reserve(purse, arm, price, bid_id, now_ns, until_ns)
            if allowance_id is None:
                continue
            self.granted.check_bid(allowance_id, now_ns)
            if left.item(purse, arm) != before - price or before < price:
                raise InvariantBroken(f"reserve of {price} left {left.item(purse, arm)} of {before}")
            self._fate(bid_id, _Bid(at, self._purses[purse], allowance_id, price, now_ns, until_ns))

    def _fate(self, bid_id: str, bid: _Bid) -> None:
        """What the exchange will say of it, and when."""
        chance = self.chance
        drawn = chance.random()
        delay_ns = int(chance.expovariate(1.5) * NS_PER_S)
        if drawn < 0.30:
            self._plan(delay_ns, bid_id, bid, "lose")
        elif drawn < 0.55:
            return  # silence
        elif drawn < 0.90:
            self._plan(delay_ns, bid_id, bid, "win")
        elif drawn < 0.985:
            self._plan(delay_ns, bid_id, bid, "settle")
        else:
            self._plan(chance.randint(2, 60) * NS_PER_S, bid_id, bid, "settle")  # mostly late

    def _plan(self, delay_ns: int, bid_id: str, bid: _Bid, what: str) -> None:
        self._number += 1
        heapq.heappush(self._due, (self.now_ns + delay_ns, self._number, bid_id, bid, what))

    def _exchanges_speak(self) -> None:
        chance = self.chance
        said: list[Event] = []
        while self._due and self._due[0][0] <= self.now_ns:
            _, _, bid_id, bid, what = heapq.heappop(self._due)
            book = self.books[bid.bidder]
            self._did(what)
            if what == "lose":
                bid.contradicted = book.lost(bid_id) is not None
                if chance.random() < 0.005:
                    self._plan(NS_PER_S, bid_id, bid, "settle")  # an exchange that contradicts itself
            elif what == "win":
                book.won(bid_id, self.now_ns + 20 * NS_PER_S)
                if chance.random() < 0.97:  # the others are never billed
                    self._plan(int(chance.expovariate(0.5) * NS_PER_S), bid_id, bid, "settle")
            else:
                said.append(self._settle(bid_id, bid, book))
        if self._recent and chance.random() < 0.5:
            said.append(self._repeat(chance.choice(self._recent)))
        if said:
            self._outbox.append((subjects.notice("x"), said))

    def _settle(self, bid_id: str, bid: _Bid, book: AllowanceBook) -> SettlementNoticed:
        paid = bid.price * self.chance.randint(50, 100) // 100
        held_until_ns = book.settled(bid_id, paid)
        until_ns = max(bid.until_ns, held_until_ns)
        late = self.now_ns > until_ns or (bid.contradicted and held_until_ns == 0)
        campaign_id, line_item_id = bid.purse
        excess = bid.price * 999 if self.chance.random() < 0.0002 else 0
        self.answered.add(bid_id, self._day(campaign_id, bid.at_ns), bid.purse, paid, late, excess > 0)
        notice = SettlementNoticed(
            event_id=f"settle-{bid_id}",
            happened_at_ns=self.now_ns,
            recorded_at_ns=self.now_ns,
            source=f"tracker/b{bid.bidder}",
            bid_id=bid_id,
            exchange="x",
            allowance_id=bid.allowance_id,
            campaign_id=campaign_id,
            line_item_id=line_item_id,
            creative_id="k",
            bid_nanos=bid.price,
            paid_nanos=paid,
            excess_nanos=excess,
            bid_at_ns=bid.at_ns,
            reservation_until_ns=until_ns,
        )
        self._recent.append(notice)
        return notice

    def _repeat(self, first: SettlementNoticed) -> SettlementNoticed:
        """The same again, or the same bid under another event id and at another price: neither books anything."""
        self._did("duplicate")
        if self.chance.random() < 0.5:
            return first
        self._number += 1
        return SettlementNoticed(
            **{name: getattr(first, name) for name in first.__struct_fields__}
            | {"event_id": f"{first.event_id}-{self._number}", "paid_nanos": first.paid_nanos // 2}
        )

    def _day(self, campaign_id: str, at_ns: int) -> str:
        return local_day(self.ledger.campaign(campaign_id), at_ns)
