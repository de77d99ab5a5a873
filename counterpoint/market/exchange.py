"""An exchange over real HTTP: asks a running bidder, holds the auction, sends the notices, and lets people look, click, buy.

Behaves as exchanges do: open-loop arrivals, a deadline, notices late and sometimes twice, retries until 200 or 204.
Only ever talks to the one origin it was given.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import re
from collections import Counter
from collections.abc import Callable, Coroutine
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from counterpoint.base.http_client import HttpClient, HttpUnavailable
from counterpoint.market.demo_world import DemoWorld, Opportunity

NOTICE_TRIES_MAX = 8
NOTICE_RETRY_S = 1.5
PENDING_MAX = (
    100_000  # follow-ups waiting for their time; past that new impressions bring no clicks, and it is counted
)
IN_FLIGHT_MAX = 512  # requests without an answer; past that the exchange throttles itself, and counts it
_TRACK = re.compile(r"https?://[^\"'<>\s\\\]]+/t/(imp|click|skip)/[^\"'<>\s\\\]]+")
LATENCIES_KEPT = 20_000


class Report(Struct, kw_only=True):
    """What the exchange saw. Money in nano-units."""

    requests: int = 0
    bids: int = 0
    no_bids: int = 0
    timeouts: int = 0
    errors: int = 0  # 4xx, 5xx, broken answers
    unreachable: int = 0
    throttled: int = 0
    wins: int = 0
    test_wins: int = 0
    settled: int = 0  # settling notices answered 200 or 204
    settled_nanos: int = 0  # the price those notices named
    notices_given_up: int = 0
    notice_retries: int = 0
    impressions: int = 0
    clicks: int = 0
    conversions: int = 0
    skips: int = 0
    latency_ms: dict[str, float] = {}


class _Later(NamedTuple):
    """A follow-up that waits for its time. ``money``: a notice that is sent before we stop, early rather than never."""

    at_s: float
    tie: int
    money: bool
    job: Callable[[], Coroutine[Any, Any, None]]


class DemoExchange:
    """``tokens``: conversion token by advertiser id; ``advertiser_of``: by campaign id; ``settles``: settling notice by
    (exchange, media), as the profiles declare."""

    def __init__(
        self,
        world: DemoWorld,
        client: HttpClient,
        requests_per_s: float,
        tokens: dict[str, str],
        advertiser_of: dict[str, str],
        settles: Callable[[str, str], str],
        first_number: int = 0,
    ) -> None:
        self.world = world
        self.client = client
        self.rate = requests_per_s
        self.tokens = tokens
        self.advertiser_of = advertiser_of
        self.settles = settles
        self.report = Report()
        self.wins_by_campaign: Counter[str] = Counter()
        self._number = itertools.count(first_number)
        self._later: list[_Later] = []  # a heap
        self._tie = itertools.count()
        self._latencies: list[float] = []
        self._in_flight = 0

    async def run(self, stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        next_at = loop.time()
        async with asyncio.TaskGroup() as followed:
            async with asyncio.TaskGroup() as asked:
                while not stop.is_set():
                    now = loop.time()
                    while next_at <= now:
                        next_at += 1.0 / self.rate
                        if self._in_flight >= IN_FLIGHT_MAX:
                            self.report.throttled += 1
                            continue
                        self._in_flight += 1
                        asked.create_task(self._ask(next(self._number)))
                    while self._later and self._later[0].at_s <= now:
                        followed.create_task(heapq.heappop(self._later).job())
                    pause = min(next_at, self._later[0].at_s if self._later else next_at) - loop.time()
                    await asyncio.sleep(min(max(pause, 0.0), 0.05))
            # every request is answered, and what has been won is still settled: a real exchange does not forget a
            # bill because we stop
            for later in sorted(self._later):
                if later.money:
                    followed.create_task(later.job())
            self._later.clear()

    def percentiles(self) -> dict[str, float]:
        kept = sorted(self._latencies)
        if not kept:
            return {}
        at = {"p50": 0.5, "p99": 0.99, "p999": 0.999}
        return {name: round(kept[min(int(q * len(kept)), len(kept) - 1)], 3) for name, q in at.items()}

    async def _ask(self, number: int) -> None:
        opportunity = self.world.opportunity(number)
        loop = asyncio.get_running_loop()
        began = loop.time()
        self.report.requests += 1
        try:
            answer = await self.client.post(
                f"/openrtb2/bid/{opportunity.venue.exchange}", msgspec.json.encode(opportunity.body)
            )
        except HttpUnavailable:
            self.report.unreachable += 1
            return
        finally:
            self._in_flight -= 1
        took_ms = (loop.time() - began) * 1_000
        if len(self._latencies) >= LATENCIES_KEPT:
            self._latencies = self._latencies[LATENCIES_KEPT // 2 :]
        self._latencies.append(took_ms)
        if answer.status == 204:
            self.report.no_bids += 1
            return
        if took_ms > opportunity.body["tmax"]:
            self.report.timeouts += 1
            return
        try:
            response = msgspec.json.decode(answer.body) if answer.status == 200 else None
            bids = [bid for seat in response["seatbid"] for bid in seat["bid"]] if response else []
        except (msgspec.DecodeError, KeyError, TypeError):
            bids, response = [], None
        if response is None:
            self.report.errors += 1
        elif not bids:
            self.report.no_bids += 1
        else:
            self.report.bids += 1
            self._auction(opportunity, number, max(bids, key=lambda bid: Decimal(str(bid["price"]))))

    def _auction(self, opportunity: Opportunity, number: int, bid: dict[str, Any]) -> None:
        price, rival = Decimal(str(bid["price"])), Decimal(str(round(opportunity.rival_cpm, 6)))
        threshold = max(rival, Decimal(str(opportunity.floor_cpm)))
        if price < threshold:
            if opportunity.venue.loss_notices and bid.get("lurl"):
                url = macros(bid["lurl"], {"AUCTION_LOSS": "102", "AUCTION_MIN_TO_WIN": f"{threshold}"})
                self._notify(0.2, url, number, money=False)
            return
        paid = price if opportunity.venue.auction_type == 1 else threshold
        test = bool(opportunity.body.get("test"))
        if test:
            self.report.test_wins += 1
        else:
            self.report.wins += 1
            self.wins_by_campaign[bid.get("cid", "")] += 1
        values = {
            "AUCTION_PRICE": f"{paid}",
            "AUCTION_BID_ID": bid["id"],
            "AUCTION_CURRENCY": "USD",
            "AUCTION_MIN_TO_WIN": f"{threshold}" if opportunity.venue.loss_notices else "",
        }
        settling = self.settles(opportunity.venue.exchange, opportunity.media)
        client_side = {kind: macros(url, values) for url, kind in tracking_urls(bid.get("adm", ""))}

        def draw(stream: int) -> float:
            return self.world.draw(stream, number)

        for kind, key, delay in (
            ("win", "nurl", 0.05 + 0.4 * draw(0)),
            ("billing", "burl", 0.3 + 2.0 * draw(1)),
        ):
            if bid.get(key):
                self._notify(
                    delay, macros(bid[key], values), number, settles=settling == kind and not test, paid=paid
                )
        if "imp" in client_side and draw(2) < 0.97:
            seen_at = 0.5 + 2.0 * draw(3)
            settles = settling == "impression" and not test
            seen = "" if test else "impressions"
            self._notify(seen_at, client_side["imp"], number, settles=settles, paid=price, counts=seen)
            if "skip" in client_side and self.world.skips(opportunity, number):
                self._notify(
                    seen_at + 5.0, client_side["skip"], number, money=False, counts="" if test else "skips"
                )
            elif "click" in client_side and draw(4) < self.world.click_rate(bid.get("crid", ""), opportunity):
                clicked_at = seen_at + 1.0 + 4.0 * draw(5)
                self._notify(
                    clicked_at, client_side["click"], number, money=False, counts="" if test else "clicks"
                )
                if draw(6) < self.world.conversion_rate(bid.get("cid", "")):
                    self._convert(seen_at + 6.0 + 20.0 * draw(7), client_side["click"], bid, number)

    def _notify(
        self,
        delay_s: float,
        url: str,
        number: int,
        *,
        settles: bool = False,
        paid: Decimal = Decimal(0),
        money: bool = True,
        counts: str = "",
    ) -> None:
        """``counts``: the figure of the report that counts it once it was answered."""
        twice = self.world.draw(8, number) < 0.03
        target = target_of(url)

        async def send() -> None:
            for attempt in range(NOTICE_TRIES_MAX):
                try:
                    status = (await self.client.get(target)).status
                except HttpUnavailable:
                    status = 0
                if status in (200, 204, 302):
                    if settles:
                        self.report.settled += 1
                        self.report.settled_nanos += int(paid * 1_000_000)
                    if counts:
                        setattr(self.report, counts, getattr(self.report, counts) + 1)
                    if twice:
                        await self._quietly(target)
                    return
                if not money:
                    return
                self.report.notice_retries += attempt < NOTICE_TRIES_MAX - 1
                await asyncio.sleep(NOTICE_RETRY_S)
            self.report.notices_given_up += 1

        self._schedule(delay_s, send, money)

    async def _quietly(self, target: str) -> None:
        try:
            await self.client.get(target)
        except HttpUnavailable:
            return

    def _convert(self, delay_s: float, click_url: str, bid: dict[str, Any], number: int) -> None:
        advertiser = self.advertiser_of.get(bid.get("cid", ""), "")
        token = self.tokens.get(advertiser)
        if not token:
            return
        order = {
            "order_id": f"order-{self.world.seed}-{number}",
            "value": str(round(10 + 90 * self.world.draw(9, number), 2)),
            "currency": "USD",
            "click_id": click_url.rsplit("/", 1)[-1].split("?")[0],
        }

        async def send() -> None:
            try:
                answer = await self.client.post(
                    f"/conversions/{advertiser}",
                    msgspec.json.encode(order),
                    {"Authorization": f"Bearer {token}"},
                )
            except HttpUnavailable:
                return
            self.report.conversions += answer.status in (200, 202, 204)

        self._schedule(delay_s, send, money=False)

    def _schedule(self, delay_s: float, job: Callable[[], Coroutine[Any, Any, None]], money: bool) -> None:
        if len(self._later) >= PENDING_MAX and not money:
            return
        at_s = asyncio.get_running_loop().time() + delay_s
        heapq.heappush(self._later, _Later(at_s, next(self._tie), money, job))


def macros(url: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        url = url.replace("${" + name + "}", value)
    return url


def target_of(url: str) -> str:
    """The path and query of a URL: the origin is always the bidder we were given."""
    rest = url.split("://", 1)[-1]
    return "/" + rest.split("/", 1)[1] if "/" in rest else "/"


def tracking_urls(adm: str) -> list[tuple[str, str]]:
    """Our own URLs in the markup, as a browser or player would meet them (escaped as XML, HTML or JSON)."""
    plain = adm.replace("\\/", "/").replace("&amp;", "&")
    return [(match.group(0), match.group(1)) for match in _TRACK.finditer(plain)]
