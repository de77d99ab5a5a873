"""The real ledger and real allowance books through crash, replay, duplicates, late wins, cuts and restarts.

Commands and notices go onto a log (the stream); the ledger books from it when a rule says so, dies in the middle of it
when another does, and is opened anew. Whatever the order: the invariants below hold after every step, and at the end
everything that was answered 200 is booked exactly once.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sqlalchemy import event as sqlalchemy_event

from counterpoint.bidder.allowances import AllowanceBook, AllowanceBookConfig
from counterpoint.bus.bus import Delivery
from counterpoint.catalog.local_time import day_at
from counterpoint.events import subjects
from counterpoint.events.event import Event
from counterpoint.events.money import (
    AllowanceGranted,
    AllowanceRefused,
    BalanceReported,
    SettlementNoticed,
    SpendBooked,
)
from counterpoint.ledger import look
from counterpoint.ledger.books import Ledger
from counterpoint.ledger.config import LedgerConfig
from counterpoint.ledger.outbox import Outgoing
from counterpoint.ledger.people import KINDS, Order
from counterpoint.ledger.split import SplitApplied
from tests.ledger.build import (
    NOTICE_LIFE_S,
    NOW,
    S,
    campaign,
    catalog,
    line_item,
    notice,
    subject_of,
)

CAMPAIGNS = ("c1", "c2", "c3")
ARMS = ("agents", "no_agents")
LINES = (("c1", "capped"),)  # purse 3: a line item with a cap of its own
PURSES = (*((name, "free") for name in CAMPAIGNS), *LINES)
LINE_CAP_UNITS, LIFETIME_UNITS = 1, 2  # of the line item a day; of c3 in all
OFFSETS = {"c1": 0, "c2": 0, "c3": 100}
MILLI = 1_000_000
CONFIG = LedgerConfig(headroom_max_ppm=50_000)
BOOK_CONFIG = AllowanceBookConfig(request_first_nanos=600 * MILLI, request_bids_min=1, reservations_max=40)


class Crash(Exception):
    """The process ends here."""


class Bid:
    def __init__(
        self, bidder: str, purse: tuple[str, str], allowance_id: str, price: int, at: int, until: int
    ) -> None:
        self.bidder = bidder
        campaign_id, self.line_item_id = purse
        self.campaign_id = campaign_id
        self.allowance_id = allowance_id
        self.price = price
        self.at_ns = at
        self.until_ns = until


class LedgerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.open_everything = contextlib.ExitStack()
        self.engine_url = self.make_url()
        self.now_ns = NOW
        self.budgets = {"c1": 2, "c2": 3, "c3": 1}
        self.log: list[Delivery] = []
        self.booked_to = 0  # index into the log: what the ledger has been given
        self.sequence = 0
        self.epoch = 0
        self.bids: dict[str, Bid] = {}
        self.lost: set[str] = set()
        self.acked: dict[str, SettlementNoticed] = {}
        self.late_paid: dict[tuple[str, str], int] = defaultdict(int)
        self.booked: dict[str, SpendBooked] = {}
        self.said: set[str] = set()
        self.incarnation = {"b1": 0, "b2": 0}
        self.bid_number = 0
        self.books = {name: self.new_book(name) for name in self.incarnation}
        self.ledger = Ledger(self.engine_url, self.catalog(), CONFIG)
        self.hear(self.ledger.set_catalog(self.catalog(), self.now_ns))

    def make_url(self) -> str:
        folder = self.open_everything.enter_context(tempfile.TemporaryDirectory())
        return f"sqlite:///{Path(folder) / 'ledger.db'}"

    # ---- the world

    def catalog(self) -> Any:
        return catalog(
            *(
                campaign(
                    name,
                    units=self.budgets[name],
                    pool=None if name == "c3" else "p",
                    advertiser="a2" if name == "c3" else "a1",
                    offset=OFFSETS[name],
                    lifetime=LIFETIME_UNITS if name == "c3" else None,
                )
                for name in CAMPAIGNS
            ),
            lines=(line_item("capped", daily=LINE_CAP_UNITS), line_item("free")),
        )

    def new_book(self, name: str) -> AllowanceBook:
        return AllowanceBook(name, f"i{self.incarnation[name]}", CAMPAIGNS, ARMS, BOOK_CONFIG, LINES)

    def publish(self, *events: Event) -> None:
        for said in events:
            self.sequence += 1
            self.log.append(
                Delivery(
                    subjects.MONEY, self.sequence, self.now_ns + self.sequence, subject_of(said), (said,)
                )
            )

    def hear(self, outgoing: list[Outgoing]) -> None:
        """The bus delivers what the ledger says, at least once; the bidders take it."""
        self.ledger.mark_sent(outgoing)
        for said in (e for batch in outgoing for e in batch.events):
            self.said.add(said.event_id)
            if isinstance(said, SpendBooked):
                assert self.booked.setdefault(said.bid_id, said) == said, "told twice, differently"
            elif isinstance(said, AllowanceGranted):
                self.books[said.bidder_id].grant(said, self.now_ns)
            elif isinstance(said, AllowanceRefused):
                self.books[said.bidder_id].refuse(said, self.now_ns)
            elif isinstance(said, BalanceReported):
                for book in self.books.values():
                    book.balance(said, self.now_ns)

    def reopen(self) -> None:
        self.ledger.close()
        self.ledger = Ledger(self.engine_url, self.catalog(), CONFIG)
        self.hear(self.ledger.unsent())

    def state(self) -> Any:
        return self.ledger.accounts(), self.ledger.allowances(), self.ledger.position(subjects.MONEY)

    # ---- bidders

    @initialize()
    def bidders_start(self) -> None:
        for book in self.books.values():
            self.publish(book.started(self.now_ns))
            self.publish(*book.requests_due(self.now_ns))
        self.book_some(1_000)

    @rule(name=st.sampled_from(("b1", "b2")))
    def ask_and_return(self, name: str) -> None:
        book = self.books[name]
        book.expire(self.now_ns)
        self.publish(*book.returns_due(self.now_ns), *book.requests_due(self.now_ns))

    @rule(
        name=st.sampled_from(("b1", "b2")),
        position=st.integers(0, 3),
        arm=st.integers(0, 1),
        bids=st.lists(
            st.tuples(st.integers(1, 120), st.sampled_from(("", "win", "settle"))), min_size=2, max_size=12
        ),
        hold_s=st.sampled_from((5, 20)),
    )
    def bid(self, name: str, position: int, arm: int, bids: list[tuple[int, str]], hold_s: int) -> None:
        book = self.books[name]
        if int(book.left[position, arm]) < 200 * MILLI:  # little money: ask, and let the ledger answer
            self.now_ns += S
            self.ask_and_return(name)
            self.book_some(1_000)
        for price, outcome in bids:
            self.bid_number += 1
            bid_id = f"bid{self.bid_number}"
            left = int(book.left[position, arm])
            until_ns = self.now_ns + hold_s * S
            allowance_id = book.reserve(position, arm, price * MILLI, bid_id, self.now_ns, until_ns)
            if allowance_id is None:
                assert int(book.left[position, arm]) == left
                continue
            assert int(book.left[position, arm]) == left - price * MILLI >= 0
            self.bids[bid_id] = Bid(
                name, PURSES[position], allowance_id, price * MILLI, self.now_ns, until_ns
            )
            if outcome == "win":
                book.won(bid_id, self.now_ns + 60 * S)
            elif outcome == "settle":
                self.settle_bid(bid_id, 90)

    def choose(self, number: int) -> tuple[str, Bid] | None:
        open_bids = [i for i in self.bids if i not in self.acked]
        if not open_bids:
            return None
        bid_id = open_bids[number % len(open_bids)]
        return bid_id, self.bids[bid_id]

    @rule(numbers=st.lists(st.integers(0, 10**6), min_size=1, max_size=5))
    def win(self, numbers: list[int]) -> None:
        for number in numbers:
            if chosen := self.choose(number):
                self.books[chosen[1].bidder].won(chosen[0], self.now_ns + 60 * S)

    @rule(number=st.integers(0, 10**6))
    def lose(self, number: int) -> None:
        if chosen := self.choose(number):
            self.lost.add(chosen[0])
            self.books[chosen[1].bidder].lost(chosen[0])

    @rule(
        numbers=st.lists(st.integers(0, 10**6), min_size=1, max_size=10),
        percent=st.integers(50, 100),
        wait_s=st.sampled_from((0, 0, 1, 22)),
    )
    def settle(self, numbers: list[int], percent: int, wait_s: int) -> None:
        if wait_s:
            self.time_passes(wait_s)
        for number in numbers:
            if chosen := self.choose(number):
                self.settle_bid(chosen[0], percent)

    def settle_bid(self, bid_id: str, percent: int) -> None:
        bid = self.bids[bid_id]
        paid = bid.price * percent // 100
        held_until_ns = self.books[bid.bidder].settled(bid_id, paid)
        # answered 200: from here on it must be booked, once
        settling = notice(
            bid_id,
            bid.allowance_id,
            paid=paid,
            bid=bid.price,
            campaign_id=bid.campaign_id,
            bid_at=bid.at_ns,
            until=max(bid.until_ns, held_until_ns),
            at=self.now_ns,
            line=bid.line_item_id,
        )
        self.acked[bid_id] = settling
        contradicted = held_until_ns == 0 and bid_id in self.lost  # a loss notice had set the money free
        if contradicted or settling.recorded_at_ns > settling.reservation_until_ns:
            day = day_at(bid.at_ns, OFFSETS[bid.campaign_id])
            self.late_paid[bid.campaign_id, day] += paid
            self.late_paid[bid.line_item_id, day] += paid
        self.publish(settling)

    @rule(number=st.integers(0, 10**6), copy=st.integers(1, 2))
    def repeat_a_notice(self, number: int, copy: int) -> None:
        if self.acked:
            bid_id = list(self.acked)[number % len(self.acked)]
            first = self.acked[bid_id]
            self.publish(
                first
                if copy == 1
                else notice(
                    bid_id,
                    first.allowance_id,
                    paid=first.paid_nanos // 2,
                    bid=first.bid_nanos,
                    campaign_id=first.campaign_id,
                    bid_at=first.bid_at_ns,
                    until=0,
                    at=self.now_ns,
                    copy=2,
                    line=first.line_item_id,
                )
            )

    @rule(name=st.sampled_from(("b1", "b2", "", "")))
    def bidder_restarts(self, name: str) -> None:
        if not name:
            return
        self.incarnation[name] += 1
        self.books[name] = self.new_book(name)
        self.publish(self.books[name].started(self.now_ns))

    # ---- the ledger

    @rule(messages=st.integers(1, 40))
    def book_some(self, messages: int) -> None:
        batch = self.log[self.booked_to : self.booked_to + messages]
        self.booked_to += len(batch)
        self.hear(self.ledger.apply(batch, self.now_ns))

    @rule(messages=st.integers(1, 40), statement=st.integers(0, 30))
    def die_in_the_middle(self, messages: int, statement: int) -> None:
        batch = self.log[self.booked_to : self.booked_to + messages]
        before = self.state()
        left = [statement]

        def fail(*_: Any) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise Crash

        engine = self.ledger.engine
        sqlalchemy_event.listen(engine, "before_cursor_execute", fail)
        sqlalchemy_event.listen(engine, "commit", fail)
        try:
            outgoing = self.ledger.apply(batch, self.now_ns)
        except Crash:
            outgoing = None
        finally:
            sqlalchemy_event.remove(engine, "before_cursor_execute", fail)
            sqlalchemy_event.remove(engine, "commit", fail)
        if outgoing is None:
            self.reopen()
            assert self.state() == before, "a transaction that did not commit left something"
        else:
            self.booked_to += len(batch)
            self.hear(outgoing)

    @rule(messages=st.integers(1, 40))
    def die_before_publishing(self, messages: int) -> None:
        batch = self.log[self.booked_to : self.booked_to + messages]
        self.booked_to += len(batch)
        outgoing = self.ledger.apply(batch, self.now_ns)
        self.reopen()
        assert {e.event_id for o in outgoing for e in o.events} <= self.said

    @rule(back=st.integers(1, 60))
    def replay_from_an_older_position(self, back: int) -> None:
        before = self.state()
        start = max(0, self.booked_to - back)
        assert self.ledger.apply(self.log[start : self.booked_to], self.now_ns) == []
        assert self.state() == before

    @rule(back=st.integers(1, 60))
    def the_stream_is_made_anew(self, back: int) -> None:
        """What the publishers still had is published again, under new sequences: the keys alone protect."""
        before = self.state()[:2]
        start = max(0, self.booked_to - back)
        again, waiting = self.log[start : self.booked_to], self.log[self.booked_to :]
        del self.log[:]
        self.sequence, self.booked_to = 0, 0
        self.now_ns += S
        for delivery in (*again, *waiting):
            self.publish(*delivery.events)
        self.book_some(len(again))
        assert self.state()[:2] == before

    # ---- people and time

    @rule(name=st.sampled_from(CAMPAIGNS), units=st.integers(0, 4))
    def change_a_budget(self, name: str, units: int) -> None:
        self.budgets[name] = units
        self.hear(self.ledger.set_catalog(self.catalog(), self.now_ns))

    @rule(
        kind=st.sampled_from(KINDS),
        name=st.sampled_from(("c1", "c2")),
        key=st.integers(0, 30),
        percent=st.integers(1, 60),
    )
    def a_person_orders(self, kind: str, name: str, key: int, percent: int) -> None:
        """Credits, debits, refunds, holds and releases, each key done at most once."""
        day = day_at(self.now_ns, 0)
        bids = [i for i, booked in self.booked.items() if (booked.campaign_id, booked.day) == (name, day)]
        bid_id = bids[key % len(bids)] if bids and kind == "refund" else ""
        order = Order(
            key=f"k{key}",
            kind=kind,
            campaign_id=name,
            day=day,
            amount_nanos=percent * 10 * MILLI,
            author="ann",
            reason="because",
            bid_id=bid_id,
        )
        before = self.state()[:2]
        outcome = self.ledger.adjust(order, self.now_ns)
        self.hear(self.ledger.unsent())
        if not outcome.done or outcome.repeated:
            assert self.state()[1] == before[1]
        if outcome.done:
            assert self.ledger.adjust(order, self.now_ns).repeated

    @rule(share=st.integers(0, 1_000_000))
    def move_money_in_the_pool(self, share: int) -> None:
        self.epoch += 1
        day = day_at(self.now_ns, 0)
        before = [a.budget for a in self.ledger.accounts(day) if a.campaign_id != "c3"]
        result, outgoing = self.ledger.apply_split(
            "p", self.epoch, {"c1": share, "c2": 1_000_000 - share}, self.now_ns
        )
        self.hear(outgoing)
        if isinstance(result, SplitApplied):
            assert len(before) < 2 or sum(result.budgets_nanos.values()) == sum(before)

    @rule(seconds=st.sampled_from((1, 1, 2, 4, 4, 30, 50, NOTICE_LIFE_S + 50, 86_400)))
    def time_passes(self, seconds: int) -> None:
        self.now_ns += seconds * S
        for book in self.books.values():
            book.expire(self.now_ns)
        if self.booked_to == len(self.log):  # the service closes nothing before it has caught up
            self.hear(self.ledger.tick(self.now_ns))

    # ---- what must be true

    @invariant()
    def the_books_are_right(self) -> None:
        verification = self.ledger.verify()
        assert verification.problems == ()
        pool_moves: dict[str, int] = defaultdict(int)
        for account in self.ledger.accounts():
            assert account.spent_on_time + account.reserved <= account.budget
            assert account.overspend <= self.late_paid[account.campaign_id, account.day], (
                "overspend from late only"
            )
            if self.late_paid[account.campaign_id, account.day] == 0:
                assert account.late == 0, "what was on time found its money"
            pool_moves[account.day] += account.moved
        lifetimes = sum(a.budget for a in self.ledger.accounts() if a.campaign_id == "c3")
        assert lifetimes <= LIFETIME_UNITS * 1_000 * MILLI
        with self.ledger.engine.connect() as connection:
            for line in look.balances(connection)[1]:
                late = self.late_paid[line.line_item_id, line.day]
                assert line.line_item_id != "capped" or line.used <= LINE_CAP_UNITS * 1_000 * MILLI + late
        assert all(moved == 0 for moved in pool_moves.values())
        assert verification.settlements <= len(self.acked)

    @invariant()
    def the_bidders_hold_no_more_than_they_were_given(self) -> None:
        for book in self.books.values():
            assert (book.left >= 0).all()
            open_left = sum(a.left for a in book._allowances.values() if a.cell is not None)
            assert int(book.left.sum()) == open_left
            reserved = sum(r[1] for r in (*book._bids.values(), *book._wins.values()))
            assert reserved == sum(a.reserved for a in book._allowances.values())

    def teardown(self) -> None:
        try:
            self.book_some(100_000)
            self.reopen()
            self.the_books_are_right()
            assert self.ledger.verify().settlements == len(self.acked)
            for bid_id, settling in self.acked.items():
                row = self.ledger.settlement(bid_id)
                assert row is not None
                booked = row.on_time_nanos + row.late_nanos + row.overspend_nanos
                assert booked == settling.paid_nanos
                assert self.booked[bid_id].paid_nanos == settling.paid_nanos
        finally:
            self.ledger.close()
            self.open_everything.close()
