"""Random operations by many bidders over the real ledger and real allowance books, in simulated time.

Reservations, wins, losses, silence, settlements (on time, late, contradicted, repeated, with a claim above the bid),
bidders that die, messages out of order, a ledger that dies inside its transaction or before it could publish, streams
replayed and made anew, budgets cut, money moved in a pool, people's orders, new days. A second, independent account of
what was answered 200 is kept beside the books; after every transaction what the ledger says is held against it, and
now and then every balance is rebuilt from the journal.

Deterministic in (seed, operations, config).
"""

from __future__ import annotations

import heapq
import random
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from typing import Any, Final

from msgspec import Struct
from sqlalchemy import event as sqlalchemy_event

from counterpoint.base.clock import NS_PER_MS, NS_PER_S
from counterpoint.bench.money.invariants import Answered, InvariantBroken, check_books, check_said
from counterpoint.bidder.allowances import AllowanceBook, AllowanceBookConfig
from counterpoint.bus.bus import Delivery
from counterpoint.catalog.local_time import local_day
from counterpoint.catalog.model import BudgetPool, Campaign, Catalog, ExchangeProfile, LineItem
from counterpoint.events import subjects
from counterpoint.events.event import Event
from counterpoint.events.money import (
    AllowanceGranted,
    AllowanceRefused,
    BalanceReported,
    SettlementNoticed,
    SpendBooked,
)
from counterpoint.ledger.books import Ledger
from counterpoint.ledger.config import LedgerConfig
from counterpoint.ledger.outbox import Outgoing
from counterpoint.ledger.people import KINDS, Order

START_NS: Final = 1_700_000_000 * NS_PER_S
ARMS: Final = ("agents", "no_agents")
MILLI: Final = 1_000_000  # nanos
NOTICE_LIFE_S: Final = 120
LEDGER: Final = LedgerConfig(keep_days=2, headroom_max_ppm=50_000)
BOOK: Final = AllowanceBookConfig(request_first_nanos=2_000 * MILLI, reservations_max=5_000)


class MoneyConfig(Struct, frozen=True):
    bidders: int = 16
    campaigns: int = (
        8  # the first three share a pool, the fourth has a lifetime budget, the fifth a capped line item
    )
    budget_units: int = 400
    bids_per_turn: int = 25
    unrest: float = (
        1.0  # how often something dies, is repeated, or a person comes: 1 about every fifth transaction
    )
    verifications: int = 20  # full rebuilds, spread over the run


class MoneyResult(Struct, frozen=True):
    seed: int
    operations: int
    by_kind: dict[str, int]
    transactions: int
    settlements: int
    simulated_s: float
    verifications: int
    overspend_nanos: int
    problems: tuple[str, ...]


class _Crash(Exception):
    """The process ends here."""


class _Bid(Struct):
    bidder: int
    purse: tuple[str, str]
    allowance_id: str
    price: int
    at_ns: int
    until_ns: int
    contradicted: bool = False  # a loss notice had set its money free


class World:
    """One life. ``step`` until ``operations`` have been done, then ``finish``."""

    def __init__(self, engine_url: str, seed: int, config: MoneyConfig) -> None:
        self.config = config
        self.chance = random.Random(seed)
        self.now_ns = START_NS
        self.operations: Counter[str] = Counter()
        self.total = 0
        self.transactions = 0
        self.verified = 0
        self.answered = Answered()
        self._url = engine_url
        self._names = [f"c{i}" for i in range(config.campaigns)]
        self._budgets = dict.fromkeys(self._names, config.budget_units)
        self._lines = (("c4", "capped"),) if config.campaigns > 4 else ()
        self._purses = (*((name, f"{name}-free") for name in self._names), *self._lines)
        self._incarnations = [0] * config.bidders
        self.books = [self._new_book(i) for i in range(config.bidders)]
        self._outbox: list[tuple[str, list[Event]]] = []
        self._recent: deque[SettlementNoticed] = deque(maxlen=2_000)
        self._batches: deque[list[Delivery]] = deque(maxlen=3)
        self._due: list[tuple[int, int, str, _Bid, str]] = []  # heap of what exchanges will say
        self._sequence = self._number = self._orders = self._epoch = 0
        self._stream_ns = START_NS
        self._booked_ns = self._ticked_ns = self.now_ns
        self.new_day_due = 150_000
        self.ledger = Ledger(engine_url, self.catalog(), LEDGER)
        self._hear(self.ledger.set_catalog(self.catalog(), self.now_ns))
        for book in self.books:
            self._outbox.append((subjects.money_command(book.bidder_id), [book.started(self.now_ns)]))

    def catalog(self) -> Catalog:
        return Catalog(
            campaigns=tuple(
                Campaign(
                    id=name,
                    advertiser_id="a0" if at < 3 else f"a{at}",
                    name=name,
                    daily_budget_micros=self._budgets[name] * 1_000_000,
                    pool_id="pool" if at < 3 else None,
                    time_zone="Europe/Berlin" if at == 5 else "",
                    utc_offset_minutes=330 if at == 6 else 0,
                    lifetime_budget_micros=3_000_000 * self.config.budget_units if at == 3 else None,
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

    # ---- one step of time

    def step(self) -> None:
        chance = self.chance
        self.now_ns += chance.randint(20, 120) * NS_PER_MS
        for at in chance.sample(range(self.config.bidders), 4):
            self._turn(at)
        self._exchanges_speak()
        if self.now_ns - self._booked_ns > 700 * NS_PER_MS:
            self._booked_ns = self.now_ns
            self._ledger_turn()
        if self.total >= self.new_day_due:
            self.new_day_due = self.total + 150_000
            self._days_pass()

    def _turn(self, at: int) -> None:
        """A bidder lets time end what is over, gives back, asks, and bids."""
        book, chance, now_ns = self.books[at], self.chance, self.now_ns
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
            self._did("reserve")
            if left.item(purse, arm) < price and chance.random() < 0.95:
                continue  # what decide reads; now and then it is asked all the same
            self._number += 1
            bid_id = f"bid{self._number}"
            until_ns = now_ns + chance.choice((2, 5, 10)) * NS_PER_S
            before = left.item(purse, arm)
            allowance_id = book.reserve(purse, arm, price, bid_id, now_ns, until_ns)
            if allowance_id is None:
                continue
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
        elif drawn < 0.97:
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

    # ---- the ledger

    def _ledger_turn(self) -> None:
        chance = self.chance
        batch = self._deliveries()
        drawn = chance.random() / self.config.unrest
        if drawn < 0.02:
            self._die_inside(batch)
        dies = 0.02 <= drawn < 0.04
        self._hear(self._apply(batch), publish=not dies)
        if dies:
            self._did("ledger dies before publishing")
            self._reopen()
        elif 0.04 <= drawn < 0.06:
            self._replay()
        elif 0.06 <= drawn < 0.065:
            self._stream_anew()
        if self.now_ns - self._ticked_ns > NS_PER_S:
            self._ticked_ns = self.now_ns
            self._hear(self.ledger.tick(self.now_ns))
        self._people(chance.random() / self.config.unrest)

    def _deliveries(self) -> list[Delivery]:
        """What waits, shuffled but for the order of one author's commands."""
        waiting, self._outbox = self._outbox, []
        keys = [subject for subject, _ in waiting]
        self.chance.shuffle(keys)
        queues: dict[str, deque[list[Event]]] = defaultdict(deque)
        for subject, events in waiting:
            queues[subject].append(events)
        self._did("reorder", len(keys) > 1)
        return [self._deliver(subject, queues[subject].popleft()) for subject in keys]

    def _deliver(self, subject: str, events: list[Event]) -> Delivery:
        self._sequence += 1
        self._stream_ns = max(self._stream_ns + 1, self.now_ns)
        return Delivery(subjects.MONEY, self._sequence, self._stream_ns, subject, tuple(events))

    def _apply(self, batch: list[Delivery]) -> list[Outgoing]:
        self._batches.append(batch)
        self.transactions += 1
        return self.ledger.apply(batch, self.now_ns)

    def _hear(self, outgoing: list[Outgoing], publish: bool = True) -> None:
        if not publish:
            return
        self.ledger.mark_sent(outgoing)
        for batch in outgoing:
            for event in batch.events:
                if isinstance(event, SpendBooked):
                    continue
                if isinstance(event, AllowanceGranted):
                    self.books[int(event.bidder_id[1:])].grant(event, self.now_ns)
                elif isinstance(event, AllowanceRefused):
                    self.books[int(event.bidder_id[1:])].refuse(event, self.now_ns)
                elif isinstance(event, BalanceReported):
                    check_said(event, self.answered)
                    for book in self.books:
                        book.balance(event, self.now_ns)

    def _reopen(self) -> None:
        self.ledger.close()
        self.ledger = Ledger(self._url, self.catalog(), LEDGER)
        unsent = self.ledger.unsent()
        while unsent:
            self._hear(unsent)
            self.ledger.forget_sent()
            unsent = self.ledger.unsent()

    def _die_inside(self, batch: list[Delivery]) -> None:
        before = self.ledger.accounts(), self.ledger.position(subjects.MONEY)
        statements = [self.chance.randrange(40)]

        def fail(*_: Any) -> None:
            statements[0] -= 1
            if statements[0] < 0:
                raise _Crash

        engine = self.ledger.engine
        sqlalchemy_event.listen(engine, "before_cursor_execute", fail)
        sqlalchemy_event.listen(engine, "commit", fail)
        died = False
        try:
            self.ledger.apply(batch, self.now_ns)  # what it would say waits in the outbox
        except _Crash:
            died = True
        finally:
            sqlalchemy_event.remove(engine, "before_cursor_execute", fail)
            sqlalchemy_event.remove(engine, "commit", fail)
        if died:
            self._did("ledger dies in a transaction")
            if (self.ledger.accounts(), self.ledger.position(subjects.MONEY)) != before:
                raise InvariantBroken("a transaction that did not commit left something")
        self._reopen()

    def _replay(self) -> None:
        self._did("replay")
        for batch in list(self._batches):
            if self.ledger.apply(batch, self.now_ns):
                raise InvariantBroken("what was in the books already changed them")

    def _stream_anew(self) -> None:
        """The stream is lost; the publishers still have the last batch, and publish it under new numbers."""
        self._did("stream made anew")
        again, self._sequence = self._batches[-1], 0
        self.now_ns += NS_PER_S
        before = self.ledger.accounts()
        self._hear(self._apply([self._deliver(d.subject, list(d.events)) for d in again]))
        if self.ledger.accounts() != before:
            raise InvariantBroken("the keys alone did not protect the books")

    # ---- people and days

    def _people(self, drawn: float) -> None:
        chance = self.chance
        if drawn < 0.03:
            name = chance.choice(self._names)
            self._budgets[name] = chance.randint(0, self.config.budget_units)
            self._did("budget changed")
            self._hear(self.ledger.set_catalog(self.catalog(), self.now_ns))
        elif drawn < 0.08:
            self._epoch += 1
            shares = {name: chance.randrange(10**6) for name in self._names[:3]}
            before = self._pool_sum()
            _, outgoing = self.ledger.apply_split("pool", self._epoch, shares, self.now_ns)
            self._hear(outgoing)
            self._did("pool move")
            if self._pool_sum() != before:
                raise InvariantBroken("the sum of the pool was not kept")
        elif drawn < 0.16:
            self._order()
        elif drawn < 0.18:
            for finding in [f for f in self.ledger.findings() if f.state == "open"][:3]:
                accept = chance.random() < 0.5
                outcome = self.ledger.decide(finding.id, accept, "ann", "because", self.now_ns)
                if not outcome.done:  # its day was carried, the settlement is gone: it can only be rejected
                    self.ledger.decide(finding.id, False, "ann", "too old", self.now_ns)
                elif finding.kind == "excess_held" and accept:
                    self.answered.accept(finding.ref, finding.amount_nanos)
                self._did("finding decided")
                self._hear(self.ledger.unsent_of_others() or self.ledger.unsent())

    def _pool_sum(self) -> int:
        day = self._day(self._names[0], self.now_ns)
        return sum(a.budget for a in self.ledger.accounts(day) if a.campaign_id in self._names[:3])

    def _order(self) -> None:
        chance = self.chance
        name, kind = chance.choice(self._names), chance.choice(KINDS)
        known = [n for n in self._recent if n.campaign_id == name]
        bid = chance.choice(known) if known and kind == "refund" else None
        self._orders += 1
        order = Order(
            key=f"k{chance.randint(max(self._orders - 3, 1), self._orders)}",
            kind=kind,
            campaign_id=name,
            day=self._day(name, bid.bid_at_ns if bid is not None else self.now_ns),
            amount_nanos=bid.paid_nanos if bid is not None else chance.randint(1, 2_000) * MILLI,
            author="ann",
            reason="because",
            bid_id=bid.bid_id if bid is not None else "",
        )
        self._did("person's order")
        outcome = self.ledger.adjust(order, self.now_ns)
        if outcome.done and not outcome.repeated and kind == "refund":
            self.answered.refund(name, order.day, order.amount_nanos)
        self._hear(self.ledger.unsent())

    def _days_pass(self) -> None:
        """To the next day: what is out is heard of or silent, everything closes, and it begins anew."""
        self._did("new day")
        end_ns = self.now_ns + 2 * NOTICE_LIFE_S * NS_PER_S
        while self.now_ns < end_ns:
            self._idle(2_000 * NS_PER_MS)
        self.now_ns = (self.now_ns // (86_400 * NS_PER_S) + 1) * 86_400 * NS_PER_S + 3_600 * NS_PER_S
        self._recent.clear()
        self._batches.clear()
        for _ in range(4):
            self._idle(61 * NS_PER_S)
        for name in self._names:
            self._budgets[name] = self.config.budget_units

    def _idle(self, passes_ns: int) -> None:
        """Time without bids."""
        self.now_ns += passes_ns
        for book in self.books:
            self._did("expire", len(book.expire(self.now_ns)))
            commands = book.returns_due(self.now_ns)
            if commands:
                self._did("ask or return", len(commands))
                self._outbox.append((subjects.money_command(book.bidder_id), list(commands)))
        self._exchanges_speak()
        self._hear(self._apply(self._deliveries()))
        self._hear(self.ledger.tick(self.now_ns))

    # ---- the end

    def verify(self) -> tuple[str, ...]:
        self.verified += 1
        return check_books(self.ledger, self.answered, self.books)

    def finish(self) -> tuple[str, ...]:
        """Everything that was answered is booked, and nothing else."""
        while self._due or self._outbox:
            self._idle(2_000 * NS_PER_MS)
        for _ in range(3):
            self._idle(61 * NS_PER_S)
        self._reopen()
        self.answered.complete = True
        return self.verify()


def run(
    engine_url: str,
    operations: int,
    seed: int,
    config: MoneyConfig | None = None,
    progress: Callable[[int], None] | None = None,
    enough: Callable[[], bool] = lambda: False,
) -> MoneyResult:
    """Live until ``operations`` are done, or ``enough``. ``progress`` is told how many. Raises :class:`InvariantBroken` at the first
    step after which something is not as it must be, with the seed in its message."""
    config = config or MoneyConfig()
    world = World(engine_url, seed, config)
    problems: tuple[str, ...] = ()
    verify_at = every = max(operations // max(config.verifications, 1), 1)
    try:
        while world.total < operations and not problems and not enough():
            world.step()
            if world.total >= verify_at:
                verify_at += every
                problems = world.verify()
            if progress is not None:
                progress(world.total)
        problems = problems or world.finish()
        found = world.ledger.verify()
    except (InvariantBroken, AssertionError) as broken:
        raise InvariantBroken(f"seed {seed}, after {world.total} operations: {broken}") from broken
    finally:
        world.ledger.close()
    return MoneyResult(
        seed=seed,
        operations=world.total,
        by_kind=dict(world.operations.most_common()),
        transactions=world.transactions,
        settlements=world.answered.count,
        simulated_s=(world.now_ns - START_NS) / NS_PER_S,
        verifications=world.verified,
        overspend_nanos=found.overspend_nanos,
        problems=problems,
    )
