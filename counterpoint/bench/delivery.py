"""Does a budget get spent, and never more than it? The real ledger and the real allowance book in simulated time.

An exchange that sends no loss notices: a bid either wins, and its notice comes after an exponential delay, or nothing
is ever heard of it. ``python -m counterpoint.bench.delivery`` prints both scenarios; docs/ledger.md states the figures.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from counterpoint.base.clock import NS_PER_MS, NS_PER_S
from counterpoint.base.money import NANOS_PER_UNIT
from counterpoint.bidder.allowances import AllowanceBook
from counterpoint.bus.bus import Delivery
from counterpoint.catalog.model import Campaign, Catalog, ExchangeProfile
from counterpoint.events import subjects
from counterpoint.events.event import Event
from counterpoint.events.money import (
    AllowanceGranted,
    AllowanceRefused,
    BalanceReported,
    SettlementNoticed,
)
from counterpoint.ledger.books import Ledger
from counterpoint.ledger.config import LedgerConfig
from counterpoint.ledger.outbox import Outgoing

START_NS = 1_700_000_000 * NS_PER_S  # 22:13 UTC: one and three quarter hours of the day are left
ARMS = ("agents",)
QUIET_S = 45  # without a bid this long, the budget is gone as far as it will go


class DeliveryScenario(Struct, frozen=True, kw_only=True):
    """Names are permanent: a changed scenario gets a new name."""

    name: str
    budget_units: int = 100
    bids_per_s: int = 5_000
    win_rate: float = 0.1
    price_nanos: int = 2_000_000  # mean: 2 units CPM
    reservation_ns: int = 10 * NS_PER_S  # what the profile says is the p99.9 of the win notice's delay
    delay_p999_s: float = 10.0  # what it is
    delay_jumps_after_s: float | None = None  # from then on it is ten times that; None: never
    billing_delay_s: float = 1.0  # from win to settling notice
    bidders: int = 1
    ledger_every_ns: int = 500 * NS_PER_MS  # one fetch, one transaction
    step_ns: int = 100 * NS_PER_MS
    seconds_max: int = 1_500


SCENARIOS = (
    DeliveryScenario(name="delivery-honest-v1"),
    # Ten times slower than the profile says: every fifth win comes after its reservation ended (e^-1.6).
    DeliveryScenario(name="delivery-late-v1", reservation_ns=int(2.3 * NS_PER_S)),
    # Measured as punctual all day, then ten times slower when little money is left: nothing was withheld for it.
    DeliveryScenario(name="delivery-jump-v1", delay_jumps_after_s=200.0),
    DeliveryScenario(name="delivery-two-bidders-v1", bidders=2),
)


class DeliveryResult(Struct, frozen=True, kw_only=True):
    scenario: str
    seed: int
    simulated_s: float
    wall_s: float
    bids: int
    wins: int
    settled: int
    budget_nanos: int
    spent_nanos: int  # all that was booked
    late_nanos: int  # late and covered
    overspend_nanos: int  # at the end
    delivered: float  # booked within the budget, share of the budget
    late_share: float  # of wins, by money, whose notice came after the reservation
    overspend_peak_nanos: int  # the most it ever was; returning allowances cover it again
    overspend_bound_nanos: int  # at that moment: late notices since the account last had free money
    bound_held: bool  # overspend <= its bound after every transaction
    stopped: bool
    problems: tuple[str, ...]  # of the audit

    def line(self) -> str:
        return (
            f"{self.scenario}: {self.delivered:.2%} of {self.budget_nanos / NANOS_PER_UNIT:.0f} delivered, "
            f"overspend {self.overspend_nanos / NANOS_PER_UNIT:.4f}, at its peak "
            f"{self.overspend_peak_nanos / NANOS_PER_UNIT:.4f} (bound "
            f"{self.overspend_bound_nanos / NANOS_PER_UNIT:.4f}), late {self.late_share:.2%}, "
            f"{self.bids} bids, {self.wins} wins in {self.simulated_s:.0f} s ({self.wall_s} s)"
        )


class _World:
    def __init__(self, scenario: DeliveryScenario, seed: int, database: Path) -> None:
        self.scenario = scenario
        self.random = random.Random(seed)
        self.now_ns = START_NS
        catalog = Catalog(
            campaigns=(
                Campaign(
                    id="c1",
                    advertiser_id="a1",
                    name="one",
                    daily_budget_micros=scenario.budget_units * 1_000_000,
                ),
            ),
            exchanges=(
                ExchangeProfile(
                    id="x", seat="s", win_notice_delay_p999_ms=scenario.reservation_ns // NS_PER_MS
                ),
            ),
        )
        self.ledger = Ledger(f"sqlite:///{database}", catalog, LedgerConfig())
        self.ledger.set_catalog(catalog, self.now_ns)
        self.books = {f"b{i}": AllowanceBook(f"b{i}", f"i{i}", ["c1"], ARMS) for i in range(scenario.bidders)}
        self.sequence = 0
        self.outbox: list[tuple[str, list[Event]]] = []
        self.notices: list[tuple[int, int, str, bool, str, int, str, int]] = []  # heap
        self.balance: BalanceReported | None = None
        self.bids = self.wins = self.won_nanos = self.late_won_nanos = 0
        self.late_heard = self.late_since_free = 0
        self.overspend_peak = self.bound_at_peak = 0
        self.bound_held = True
        self.last_bid_ns = self.now_ns
        self.mean_delay_s = scenario.delay_p999_s / math.log(1_000)
        for name, book in self.books.items():
            self.outbox.append((subjects.money_command(name), [book.started(self.now_ns)]))

    def step(self) -> None:
        self.now_ns += self.scenario.step_ns
        for name, book in self.books.items():
            book.expire(self.now_ns)
            commands: list[Event] = [*book.returns_due(self.now_ns), *book.requests_due(self.now_ns)]
            if commands:
                self.outbox.append((subjects.money_command(name), commands))
            self._bid(name, book)
        self._hear_notices()
        if self.now_ns % self.scenario.ledger_every_ns < self.scenario.step_ns:
            self._book()

    def _bid(self, name: str, book: AllowanceBook) -> None:
        scenario, chance, now_ns = self.scenario, self.random, self.now_ns
        until_ns = now_ns + scenario.reservation_ns
        left = book.left
        jump_s = scenario.delay_jumps_after_s
        jumped = jump_s is not None and now_ns > START_NS + jump_s * NS_PER_S
        mean_delay_s = self.mean_delay_s * (10.0 if jumped else 1.0)
        for _ in range(scenario.bids_per_s * scenario.step_ns // NS_PER_S // scenario.bidders):
            price = int(scenario.price_nanos * (0.5 + chance.random()))
            if left[0, 0] < price:  # what decide reads
                break
            bid_id = f"bid-{self.bids}"
            allowance_id = book.reserve(0, 0, price, bid_id, now_ns, until_ns)
            if allowance_id is None:
                break
            self.bids += 1
            self.last_bid_ns = now_ns
            if chance.random() < scenario.win_rate:
                delay_ns = int(chance.expovariate(1.0 / mean_delay_s) * NS_PER_S)
                self.wins += 1
                self.won_nanos += price
                if delay_ns > scenario.reservation_ns:
                    self.late_won_nanos += price
                heapq.heappush(
                    self.notices,
                    (now_ns + delay_ns, now_ns, bid_id, True, allowance_id, price, name, until_ns),
                )

    def _hear_notices(self) -> None:
        billing_ns = int(self.scenario.billing_delay_s * NS_PER_S)
        settled: list[Event] = []
        while self.notices and self.notices[0][0] <= self.now_ns:
            at_ns, bid_at_ns, bid_id, win, allowance_id, price, name, until_ns = heapq.heappop(self.notices)
            book = self.books[name]
            if win:
                book.won(bid_id, at_ns + 60 * NS_PER_S)
                heapq.heappush(
                    self.notices,
                    (at_ns + billing_ns, bid_at_ns, bid_id, False, allowance_id, price, name, until_ns),
                )
                continue
            held_until_ns = book.settled(bid_id, price)
            if held_until_ns == 0:
                self.late_heard += price
            settled.append(
                SettlementNoticed(
                    event_id=f"settle-{bid_id}",
                    happened_at_ns=at_ns,
                    recorded_at_ns=self.now_ns,
                    source=f"bidder/{name}",
                    bid_id=bid_id,
                    exchange="x",
                    allowance_id=allowance_id,
                    campaign_id="c1",
                    line_item_id="l1",
                    creative_id="k1",
                    bid_nanos=price,
                    paid_nanos=price,
                    bid_at_ns=bid_at_ns,
                    reservation_until_ns=max(until_ns if held_until_ns else 0, held_until_ns),
                )
            )
        if settled:
            self.outbox.append((subjects.notice("x"), settled))

    def _book(self) -> None:
        deliveries = []
        for subject, events in self.outbox:
            self.sequence += 1
            deliveries.append(Delivery(subjects.MONEY, self.sequence, self.now_ns, subject, tuple(events)))
        self.outbox.clear()
        self.late_since_free += self.late_heard
        self.late_heard = 0
        if deliveries:
            self._hear_ledger(self.ledger.apply(deliveries, self.now_ns))

    def _hear_ledger(self, outgoing: list[Outgoing]) -> None:
        self.ledger.mark_sent(outgoing)
        for batch in outgoing:
            for event in batch.events:
                if isinstance(event, AllowanceGranted):
                    self.books[event.bidder_id].grant(event, self.now_ns)
                elif isinstance(event, AllowanceRefused):
                    self.books[event.bidder_id].refuse(event, self.now_ns)
                elif isinstance(event, BalanceReported):
                    self._hear_balance(event)
                    for book in self.books.values():
                        book.balance(event, self.now_ns)

    def _hear_balance(self, event: BalanceReported) -> None:
        self.balance = event
        if event.overspend_nanos > self.overspend_peak:
            self.overspend_peak, self.bound_at_peak = event.overspend_nanos, self.late_since_free
        self.bound_held = self.bound_held and event.overspend_nanos <= self.late_since_free
        committed = event.spent_on_time_nanos + event.late_spend_nanos + event.reserved_nanos
        if event.budget_nanos > committed:
            self.late_since_free = 0

    def done(self) -> bool:
        quiet_ns = self.now_ns - self.last_bid_ns
        return quiet_ns > QUIET_S * NS_PER_S or self.now_ns - START_NS > self.scenario.seconds_max * NS_PER_S


def simulate(scenario: DeliveryScenario, seed: int, database: Path) -> DeliveryResult:
    """Run one scenario until its budget is gone (or its time is), and audit the books.

    Deterministic in (scenario, seed) but for ``wall_s``."""
    began = time.perf_counter()
    world = _World(scenario, seed, database)
    while not world.done():
        world.step()
    while world.notices or world.outbox:
        world.step()
    balance = world.balance
    assert balance is not None
    budget = balance.budget_nanos
    covered = balance.spent_on_time_nanos + balance.late_spend_nanos
    verification = world.ledger.verify()
    settlements = verification.settlements
    world.ledger.close()
    return DeliveryResult(
        scenario=scenario.name,
        seed=seed,
        simulated_s=(world.now_ns - START_NS) / NS_PER_S,
        wall_s=round(time.perf_counter() - began, 2),
        bids=world.bids,
        wins=world.wins,
        settled=settlements,
        budget_nanos=budget,
        spent_nanos=covered + balance.overspend_nanos,
        late_nanos=balance.late_spend_nanos,
        overspend_nanos=balance.overspend_nanos,
        delivered=covered / budget,
        late_share=world.late_won_nanos / max(world.won_nanos, 1),
        overspend_peak_nanos=world.overspend_peak,
        overspend_bound_nanos=world.bound_at_peak,
        bound_held=world.bound_held,
        stopped=balance.stopped,
        problems=verification.problems,
    )


def run(seed: int, names: Sequence[str] = ()) -> Iterator[DeliveryResult]:
    """Each scenario, or those named, one after the other."""
    for scenario in SCENARIOS:
        if not names or scenario.name in names:
            with tempfile.TemporaryDirectory() as folder:
                yield simulate(scenario, seed, Path(folder) / "ledger.db")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--scenario", choices=[s.name for s in SCENARIOS], action="append")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    results = []
    for result in run(options.seed, options.scenario or ()):
        print(result.line())
        results.append(result)
    if options.json is not None:
        options.json.write_text(json.dumps(msgspec.to_builtins(results), indent=2))


if __name__ == "__main__":
    main()
