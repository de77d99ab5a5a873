"""kill -9 of a real ledger process at random points, round after round: nothing lost, nothing twice.

A round: the books are opened by a process of their own, which grants, books settlements, takes returns and people's
orders, closes, and says each batch it has committed; somewhere in it it is killed. Then whoever looks next rebuilds
every balance from the journal and holds what is booked against the stream up to the stored position.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from counterpoint.base.clock import NS_PER_S
from counterpoint.bench.money.invariants import InvariantBroken
from counterpoint.bus.bus import Delivery
from counterpoint.catalog.model import Campaign, Catalog, ExchangeProfile, LineItem
from counterpoint.events import subjects
from counterpoint.events.event import Event
from counterpoint.events.money import AllowanceRequested, AllowanceReturned, BidderStarted, SettlementNoticed
from counterpoint.ledger.books import Ledger
from counterpoint.ledger.people import Order

NOW_NS: Final = 1_700_000_000 * NS_PER_S
DAY: Final = "2023-11-14"
BIDDERS: Final = 4
PAID: Final = 2_000_000
NOTICES_PER_MESSAGE: Final = 10
LINES_MAX: Final = 40  # committed batches a victim may say before it is killed


class KillsResult(Struct, frozen=True):
    rounds: int
    killed: int  # the others had finished first
    settlements: int
    messages: int
    seconds: float
    problems: tuple[str, ...]


def catalog() -> Catalog:
    return Catalog(
        campaigns=tuple(
            Campaign(id=f"c{i}", advertiser_id="a", name="", daily_budget_micros=10_000_000_000)
            for i in range(3)
        ),
        line_items=(LineItem(id="capped", campaign_id="c1", daily_cap_micros=1_000_000_000),),
        exchanges=(ExchangeProfile(id="x", seat="s", notice_life_ms=120_000),),
    )


def message(number: int, allowances: list[str]) -> Delivery:
    """The stream's message of this number: the same bids whoever asks. Every seventh is a bidder's command; the
    others carry settlements, one in ten of them a repeat of an earlier one."""
    chance = random.Random(number)
    events: list[Event] = []
    bidder = f"b{number % BIDDERS}"
    subject = subjects.notice("x")
    if number <= BIDDERS:
        bidder = f"b{number - 1}"
        subject = subjects.money_command(bidder)
        events.append(
            BidderStarted(
                event_id=f"started-{bidder}",
                source=bidder,
                bidder_id=bidder,
                incarnation="i",
                happened_at_ns=NOW_NS,
                recorded_at_ns=NOW_NS,
            )
        )
    elif number <= 5 * BIDDERS or number % 7 == 0:
        subject = subjects.money_command(bidder)
        if number % 2 or number <= 5 * BIDDERS or not allowances:
            line = "capped" if number % 3 == 1 else ""
            events.append(
                AllowanceRequested(
                    event_id=f"request-{number}",
                    source=bidder,
                    request_id=str(number),
                    bidder_id=bidder,
                    incarnation="i",
                    campaign_id="c1" if line else f"c{number % 3}",
                    arm="agents",
                    amount_nanos=2_000_000_000,
                    line_item_id=line,
                    happened_at_ns=NOW_NS,
                    recorded_at_ns=NOW_NS,
                )
            )
        else:
            events.append(
                AllowanceReturned(
                    event_id=f"return-{number}",
                    source=bidder,
                    allowance_id=chance.choice(allowances),
                    bidder_id=bidder,
                    incarnation="i",
                    amount_nanos=1_000_000,
                    happened_at_ns=NOW_NS,
                    recorded_at_ns=NOW_NS,
                )
            )
    else:
        for n in range(NOTICES_PER_MESSAGE):
            bid = number * NOTICES_PER_MESSAGE + n
            if n == 0 and number > 6 * BIDDERS:
                bid = earlier_bid(number)
            events.append(
                SettlementNoticed(
                    event_id=f"settle-{bid}",
                    source="tracker",
                    bid_id=f"bid{bid}",
                    exchange="x",
                    allowance_id=allowances[bid % len(allowances)] if allowances else "none",
                    campaign_id=f"c{bid % 3}",
                    line_item_id="capped" if bid % 3 == 1 else "free",
                    creative_id="k",
                    bid_nanos=PAID,
                    paid_nanos=PAID,
                    bid_at_ns=NOW_NS,
                    reservation_until_ns=NOW_NS + (60 * NS_PER_S if bid % 5 else -1),
                    happened_at_ns=NOW_NS,
                    recorded_at_ns=NOW_NS,
                )
            )
    return Delivery(subjects.MONEY, number, NOW_NS + number, subject, tuple(events))


def earlier_bid(number: int) -> int:
    """The bid that message ``number`` repeats: of the nearest message before it that had settlements."""
    before = number - 1
    while before % 7 == 0:
        before -= 1
    return before * NOTICES_PER_MESSAGE + 1


def bids_up_to(number: int) -> int:
    """How many different bids the stream has settled up to this message."""
    bids: set[int] = set()
    for at in range(5 * BIDDERS + 1, number + 1):
        if at % 7 == 0:
            continue
        first = 1 if at > 6 * BIDDERS else 0
        bids.update(range(at * NOTICES_PER_MESSAGE + first, (at + 1) * NOTICES_PER_MESSAGE))
        if first:
            bids.add(earlier_bid(at))
    return len(bids)


def victim(engine_url: str, messages: int, seed: int) -> None:
    """The process that is killed: from the stored position to ``messages`` further, in batches, with people's orders
    and closings in between; one line for each that is committed."""
    chance = random.Random(seed)
    ledger = Ledger(engine_url, catalog())
    ledger.set_catalog(catalog(), NOW_NS)
    ledger.mark_sent(ledger.unsent())
    at = (ledger.position(subjects.MONEY) or (0, 0))[0] + 1
    last = at + messages
    while at < last:
        size = chance.randint(1, 8)
        allowances = [a.allowance_id for a in ledger.allowances() if not a.allowance_id.startswith("kept")][
            :12
        ]
        batch = [message(n, allowances if n > 5 * BIDDERS else []) for n in range(at, at + size)]
        ledger.mark_sent(ledger.apply(batch, NOW_NS))
        at += size
        if chance.random() < 0.2:
            key = chance.randint(1, 50)
            kind = ("credit", "debit", "hold", "release")[key % 4]
            ledger.adjust(
                Order(
                    key=f"k{key}",
                    kind=kind,
                    campaign_id=f"c{key % 3}",
                    day=DAY,
                    amount_nanos=key * 1_000_000,
                    author="ann",
                    reason="because",
                ),
                NOW_NS,
            )
        print(at, flush=True)
    ledger.close()
    print("done", flush=True)


def run(
    engine_url: str,
    rounds: int,
    seed: int,
    messages: int = 200,
    progress: Callable[[int], None] | None = None,
    enough: Callable[[], bool] = lambda: False,
) -> KillsResult:
    """Kill ``rounds`` times, or until ``enough``. Raises :class:`InvariantBroken` at the first round after which the books are not right."""
    chance = random.Random(seed)
    began = time.monotonic()
    killed = settlements = 0
    position = (0, 0)
    done = 0
    for number in range(rounds):
        if enough():
            break
        command = [
            sys.executable,
            "-m",
            "counterpoint.bench.money.kills",
            engine_url,
            str(messages),
            str(seed + number),
        ]
        # a session of its own: Ctrl-C is for us, and its death must be ours
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
            assert process.stdout is not None
            said = ""
            for _ in range(chance.randint(0, LINES_MAX)):
                said = process.stdout.readline().strip() or said
            time.sleep(chance.random() * 0.03)  # anywhere inside a transaction
            process.send_signal(signal.SIGKILL)
            rest = process.stdout.read().split()
        killed += process.returncode == -signal.SIGKILL
        committed = int(next((w for w in [*reversed(rest), said] if w.isdigit()), 0))
        settlements, position = _look(engine_url, number, committed, position)
        done = number + 1
        if progress is not None:
            progress(done)
    return KillsResult(done, killed, settlements, position[0], round(time.monotonic() - began, 1), ())


def _look(
    engine_url: str, number: int, committed: int, before: tuple[int, int]
) -> tuple[int, tuple[int, int]]:
    ledger = Ledger(engine_url, catalog())
    try:
        found = ledger.verify()
        position = ledger.position(subjects.MONEY) or (0, 0)
        where = f"round {number}, position {position[0]}"
        if found.problems:
            raise InvariantBroken(f"{where}: {found.problems[:5]}")
        if position[0] < max(committed - 1, before[0]):
            raise InvariantBroken(f"{where}: {committed - 1} was committed before the kill")
        # the position and what was booked under it are one
        if found.settlements != bids_up_to(position[0]):
            raise InvariantBroken(
                f"{where}: {found.settlements} bids booked, the stream has {bids_up_to(position[0])}"
            )
        if found.spent_nanos != found.settlements * PAID:
            raise InvariantBroken(
                f"{where}: {found.spent_nanos} nanos spent by {found.settlements} bids of {PAID}"
            )
        return found.settlements, position
    finally:
        ledger.close()


if __name__ == "__main__":
    victim(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
