"""A load client that plays the exchange and keeps the record that an exchange keeps: what it sent, what was answered.

Most settling notices are sent once and answered. Some come twice, some late, some are cut off before the answer, some
are never sent, and of those that were not answered most are sent again until they are. What the ledger may hold in
the end follows from that record alone.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Coroutine
from decimal import Decimal
from typing import Any, Final

import msgspec
from msgspec import Struct

from counterpoint.base.http_client import HttpClient, HttpUnavailable
from counterpoint.catalog.model import ExchangeProfile, Media
from counterpoint.market.demo_world import DemoWorld, Opportunity
from counterpoint.market.exchange import macros, target_of, tracking_urls
from tests.app.world import WIN_DELAY_MS, Books

DURABLE: Final = (200, 204)
NEVER_SENT, TWICE, LATE, CUT_OFF = 0.06, 0.08, 0.08, 0.06  # shares of wins
GIVES_UP: Final = 0.3  # of notices that were not answered: not sent again
RETRY_S: Final = 0.6
TRIES_MAX: Final = 60


class Bill(Struct):
    """One won bid, as the exchange will claim it."""

    bid_id: str
    campaign_id: str
    amount_nanos: int
    target: str  # path and query of the settling notice
    test: bool
    tries: int = 0
    failed: int = 0  # refused, reset, timed out or answered with an error
    answered: bool = False


class Load:
    def __init__(
        self, origin: str, profiles: dict[str, ExchangeProfile], requests_per_s: float, seed: int
    ) -> None:
        self.profiles = profiles
        self.rate = requests_per_s
        self.world = DemoWorld(seed)
        self.rng = random.Random(seed)
        self.bills: dict[str, Bill] = {}
        self.counts: Counter[str] = Counter()
        self.bids_of: Counter[str] = Counter()  # by campaign
        self._number = seed * 1_000_000
        self._asks = HttpClient(origin, connections_max=32, timeout_s=2.0)
        self._notices = HttpClient(origin, connections_max=32, timeout_s=3.0)
        self._jobs: set[asyncio.Task[None]] = set()
        self._asking: asyncio.Task[None] | None = None

    # ---- traffic

    def go(self) -> None:
        self._asking = asyncio.create_task(self._ask_on())

    async def pause(self) -> None:
        """Ask no more; what was won is still billed."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)
            self._asking = None

    async def drain(self, wait_s: float = 60.0) -> None:
        """Until every notice has been sent for the last time."""
        await self.pause()
        async with asyncio.timeout(wait_s):
            while self._jobs:
                done = await asyncio.gather(*self._jobs)
                assert done is not None

    async def close(self) -> None:
        await self.pause()
        for job in self._jobs:
            job.cancel()
        await asyncio.gather(*self._jobs, return_exceptions=True)
        self._asks.close()
        self._notices.close()

    async def ask(self, count: int) -> Counter[str]:
        """So many requests one after the other, billed like the others; bids by campaign."""
        before = Counter(self.bids_of)
        for _ in range(count):
            await self._ask(self._next())
        return self.bids_of - before

    async def _ask_on(self) -> None:
        loop = asyncio.get_running_loop()
        next_at = loop.time()
        while True:
            next_at = max(next_at + 1.0 / self.rate, loop.time() - 0.5)  # after a stall: no flood
            self._do(self._ask(self._next()))
            await asyncio.sleep(max(next_at - loop.time(), 0))

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _do(self, job: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(job)
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)

    async def _ask(self, number: int) -> None:
        opportunity = self.world.opportunity(number)
        exchange = opportunity.venue.exchange
        test = number % 40 == 0 or bool(opportunity.body.get("test"))
        body = {**opportunity.body, "test": 1} if test else opportunity.body
        self.counts["requests"] += 1
        try:
            answer = await self._asks.post(f"/openrtb2/bid/{exchange}", msgspec.json.encode(body))
        except HttpUnavailable:
            self.counts["unreachable"] += 1
            return
        if answer.status != 200:
            assert answer.status == 204, f"{answer.status}: {answer.body[:200]!r}"
            self.counts["no_bids"] += 1
            return
        response = msgspec.json.decode(answer.body)
        bid = response["seatbid"][0]["bid"][0]
        self.counts["bids"] += 1
        self.bids_of[bid["cid"]] += 1
        self._auction(opportunity, bid, test)

    def _auction(self, opportunity: Opportunity, bid: dict[str, Any], test: bool) -> None:
        price, rival = Decimal(str(bid["price"])), Decimal(str(round(opportunity.rival_cpm, 6)))
        threshold = max(rival, Decimal(str(opportunity.floor_cpm)))
        if price < threshold:
            self.counts["losses"] += 1
            if bid.get("lurl") and self.rng.random() < 0.5:
                lost = {"AUCTION_LOSS": "102", "AUCTION_MIN_TO_WIN": f"{threshold}"}
                self._do(self._inform(target_of(macros(bid["lurl"], lost))))
            return
        paid = price if opportunity.venue.auction_type == 1 else threshold
        values = {"AUCTION_PRICE": f"{paid}", "AUCTION_CURRENCY": "USD", "AUCTION_MIN_TO_WIN": f"{threshold}"}
        settles = self.profiles[opportunity.venue.exchange].settles_by(Media(opportunity.media)).value
        urls = {"win": bid.get("nurl", ""), "billing": bid.get("burl", "")}
        for url, kind in tracking_urls(bid.get("adm", "")):
            if kind == "imp":  # the player or browser sends this one
                urls["impression"] = url
        for kind, url in urls.items():
            if kind != settles and url:
                self._do(self._inform(target_of(macros(url, values))))
        amount = price if settles == "impression" else paid
        bill = Bill(
            bid_id=bid["id"],
            campaign_id=bid["cid"],
            amount_nanos=int(amount * 1_000_000),
            target=target_of(macros(urls[settles], values)),
            test=test,
        )
        assert bill.bid_id not in self.bills, "a bid id is never used again"
        self.bills[bill.bid_id] = bill
        self._do(self._settle(bill))

    # ---- notices

    async def _settle(self, bill: Bill) -> None:
        kind = self.rng.random()
        if kind < NEVER_SENT:
            self.counts["never_sent"] += 1
            return
        kind -= NEVER_SENT
        late = 0 <= kind < LATE
        kind -= LATE
        self.counts["late"] += late
        await asyncio.sleep(
            self.rng.uniform(2.2, 3.5) * WIN_DELAY_MS / 1_000 if late else self.rng.uniform(0.05, 0.8)
        )
        if 0 <= kind < CUT_OFF:
            await self._cut_off(bill)
            if self.rng.random() < GIVES_UP:
                return
            await asyncio.sleep(RETRY_S)
        for _ in range(TRIES_MAX):
            if await self._send(bill):
                break
            if self.rng.random() < GIVES_UP:
                self.counts["given_up"] += 1
                return
            await asyncio.sleep(RETRY_S)
        else:
            raise AssertionError(f"no answer to a settling notice after {TRIES_MAX} tries: {bill}")
        if self.rng.random() < TWICE:
            self.counts["twice"] += 1
            await self._send(bill)

    async def _send(self, bill: Bill) -> bool:
        bill.tries += 1
        try:
            status = (await self._notices.get(bill.target)).status
        except HttpUnavailable:
            status = 0
        assert status in (0, *DURABLE, 503), f"a notice of ours was answered {status}"
        if status not in DURABLE:
            bill.failed += 1
            self.counts["failed"] += 1
            return False
        bill.answered = True
        return True

    async def _cut_off(self, bill: Bill) -> None:
        """Send it and hang up without waiting for the answer: it may have been seen, it may not."""
        bill.tries += 1
        bill.failed += 1
        self.counts["cut_off"] += 1
        try:
            _, writer = await asyncio.open_connection(self._notices.host, self._notices.port)
        except OSError:
            return
        writer.write(f"GET {bill.target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        writer.close()

    async def _inform(self, target: str) -> None:
        await asyncio.sleep(self.rng.uniform(0.05, 0.4))
        try:
            await self._notices.get(target)
        except HttpUnavailable:
            self.counts["informing_lost"] += 1

    # ---- what must be in the books

    def due(self) -> dict[str, int]:
        """What was answered: in the books exactly once, with this amount."""
        return {b.bid_id: b.amount_nanos for b in self.bills.values() if b.answered and not b.test}

    def problems(self, books: Books) -> list[str]:
        """Where the books differ from what the record allows."""
        problems = [
            f"answered and not booked: {bid_id}" for bid_id in self.due() if bid_id not in books.settlements
        ]
        for bid_id, booked in books.settlements.items():
            bill = self.bills.get(bid_id)
            if bill is None or not bill.tries:
                problems.append(f"booked and never sent: {bid_id}")
            elif bill.test:
                problems.append(f"a test bid was booked: {bid_id}")
            elif booked != bill.amount_nanos:
                problems.append(f"{bid_id}: booked {booked} of {bill.amount_nanos}")
        return problems

    async def settled(self, read: Callable[[], Books], wait_s: float = 40.0) -> Books:
        """Until everything that was answered is booked; returns the books then."""
        deadline = asyncio.get_running_loop().time() + wait_s
        due = self.due()
        while True:
            books = await asyncio.to_thread(read)
            missing = due.keys() - books.settlements.keys()
            if not missing:
                return books
            assert asyncio.get_running_loop().time() < deadline, (
                f"{len(missing)} of {len(due)} answered notices are not booked after {wait_s} s"
            )
            await asyncio.sleep(0.3)
