"""Random operations by many bidders over the real ledger and real allowance books, in simulated time.

Reservations, wins, losses, silence, settlements (on time, late, contradicted, repeated, with a claim above the bid),
bidders that die, messages out of order, a ledger that dies inside its transaction or before it could publish, streams
replayed and made anew, budgets cut, money moved in a pool, people's orders, new days. A second, independent account of
what was answered 200 is kept beside the books; after every transaction what the ledger says is held against it, and
now and then every balance is rebuilt from the journal.

Deterministic in (seed, operations, config).
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any

from msgspec import Struct
from sqlalchemy import event as sqlalchemy_event

from counterpoint.base.clock import NS_PER_MS, NS_PER_S
from counterpoint.bench.money.invariants import InvariantBroken, check_books, check_said
from counterpoint.bench.money.life import LEDGER, MILLI, NOTICE_LIFE_S, START_NS, Life, MoneyConfig
from counterpoint.bus.bus import Delivery
from counterpoint.events import subjects
from counterpoint.events.event import Event
from counterpoint.events.money import AllowanceGranted, AllowanceRefused, BalanceReported, SpendBooked
from counterpoint.ledger.books import Ledger
from counterpoint.ledger.outbox import Outgoing
from counterpoint.ledger.people import KINDS, Order

__all__ = ["MoneyConfig", "MoneyResult", "World", "run"]


class MoneyResult(Struct, frozen=True):
    seed: int
    operations: int
    by_kind: dict[str, int]
    transactions: int
    settlements: int
    simulated_s: float
    verifications: int
    spent_nanos: int
    late_nanos: int  # of what was answered
    overspend_nanos: int
    accounts: int  # campaigns x days
    exhausted: int  # of them: a tenth of the budget or less was left
    stopped: int  # of them: by overspend
    problems: tuple[str, ...]


class _Crash(Exception):
    """The process ends here."""


class World(Life):
    """One life. ``step`` until ``operations`` have been done, then ``finish``."""

    def __init__(self, engine_url: str, seed: int, config: MoneyConfig) -> None:
        super().__init__(engine_url, seed, config)
        self._batches: deque[list[Delivery]] = deque(maxlen=3)
        self._hear(self.ledger.set_catalog(self.catalog(), self.now_ns))
        for book in self.books:
            self._outbox.append((subjects.money_command(book.bidder_id), [book.started(self.now_ns)]))

    def step(self) -> None:
        chance = self.chance
        self.now_ns += chance.randint(20, 120) * NS_PER_MS
        for at in chance.sample(range(self.config.bidders), 4):
            self._turn(at)
        self._exchanges_speak()
        if self.now_ns - self._booked_ns > 700 * NS_PER_MS:
            self._booked_ns = self.now_ns
            self._ledger_turn()
        if self.total >= self.new_day_due or self.now_ns >= self._day_ends_ns:
            self.new_day_due = self.total + self.config.day_operations
            self._days_pass()

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
                if isinstance(event, AllowanceGranted | BalanceReported):
                    self.granted.hear(event)
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
            self._check_pool()
        elif drawn < 0.08:
            self._epoch += 1
            shares = {name: chance.randrange(10**6) for name in (*self._names[:3], self._names[-1])}
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

    def _check_pool(self) -> None:
        """Whatever was moved before a cut: the pool's targets are what its owner and people give."""
        day = self._day(self._names[0], self.now_ns)
        pool = [a for a in self.ledger.accounts(day) if a.campaign_id in self._names[:3]]
        given = sum(max(self._budgets[a.campaign_id] * 1_000 * MILLI + a.adjusted, 0) for a in pool)
        if sum(a.target for a in pool) > given:
            raise InvariantBroken(f"the pool is to hold {sum(a.target for a in pool)} of {given}: {pool}")

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
            amount_nanos=bid.paid_nanos if bid is not None else chance.randint(1, 400) * MILLI,
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
            self._idle(10 * NS_PER_S)
        self.now_ns = (self.now_ns // (86_400 * NS_PER_S) + 1) * 86_400 * NS_PER_S
        self._hear(self.ledger.tick(self.now_ns))
        self.now_ns += 3_600 * NS_PER_S
        self._recent.clear()
        self._batches.clear()
        for _ in range(4):
            self._idle(61 * NS_PER_S)
        for name in self._names:
            self._budgets[name] = self.config.budget_units
        self._day_ends_ns = self.now_ns + self.config.day_s_max * NS_PER_S

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
        return check_books(self.ledger, self.answered, self.books, self._names[:3])

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
        accounts = world.ledger.accounts()
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
        spent_nanos=found.spent_nanos,
        late_nanos=sum(world.answered.late[a.campaign_id, a.day] for a in accounts),
        overspend_nanos=found.overspend_nanos,
        accounts=len(accounts),
        exhausted=sum(a.spent >= a.budget * 9 // 10 for a in accounts),
        stopped=sum(a.stopped for a in accounts),
        problems=problems,
    )
