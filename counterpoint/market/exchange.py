"""An exchange over real HTTP: asks a running bidder, holds the auction, sends the notices, and lets people look, click, buy.

Behaves as exchanges do: open-loop arrivals, a deadline, notices late and sometimes twice, retries until 200 or 204.
Only ever talks to the one origin it was given. What it sells comes from a :class:`Market`: the demo's (``demo_market``)
or a scenario's (``world_market``).
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import re
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from decimal import Decimal
from typing import Any, NamedTuple, Protocol

import msgspec
from msgspec import Struct

from counterpoint.base.http_client import HttpClient, HttpUnavailable

NOTICE_TRIES_MAX = 8
NOTICE_RETRY_S = 1.5
PENDING_MAX = (
    100_000  # follow-ups waiting for their time; past that new impressions bring no clicks, and it is counted
)
IN_FLIGHT_MAX = 512  # requests without an answer; past that the exchange throttles itself, and counts it
_TRACK = re.compile(r"https?://[^\"'<>\s\\\]]+/t/(imp|click|skip)/[^\"'<>\s\\\]]+")
LATENCIES_KEPT = 20_000
_COUNTED = {"imp": "impressions", "skip": "skips", "click": "clicks"}  # figures of the report


class Report(Struct, kw_only=True):
    """What the exchange saw. Money in nano-units."""

    requests: int = 0
    bids: int = 0
    no_bids: int = 0
    timeouts: int = 0
    errors: int = 0  # 4xx, 5xx, broken answers
    unknown_exchange: int = 0  # of them 404: the bidder's catalog does not name the exchange
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


class Ask(Struct, frozen=True):
    """One bid request. ``number`` is the market's, ``what`` its own business."""

    number: int
    exchange: str
    media: str
    tmax_ms: int
    body: bytes
    test: bool = False
    what: Any = None


class Offer(Struct):
    """A bid that came in time. ``client_side``: once won, our own URLs in the markup, by kind."""

    ask: Ask
    bid: dict[str, Any]
    price: Decimal  # CPM
    client_side: dict[str, str] = {}

    def text(self, key: str) -> str:
        value = self.bid.get(key)
        return value if isinstance(value, str) else ""


class Verdict(Struct, frozen=True):
    """Of one auction. ``made``: which offer stood, -1: none. ``minimum``: what would have won, where the exchange
    tells it; it sends loss notices then."""

    made: int = -1
    won: bool = False
    paid: Decimal = Decimal(0)
    minimum: Decimal | None = None


class Deed(NamedTuple):
    """Something a person does with a won ad: "imp", "skip", "click" or "order" (worth ``value``)."""

    delay_s: float
    kind: str
    offer: Offer
    value: str = ""


class Market(Protocol):
    """What is sold, to whom, and what people do: the world behind an exchange."""

    @property
    def seed(self) -> int: ...

    @property
    def over(self) -> bool:
        """Nothing more will be asked."""

    def ask(self) -> Ask | None:
        """The next request; None: not now."""

    def hold(self, ask: Ask, offers: Sequence[Offer]) -> Verdict:
        """The auction; called once for every request, without offers where there was no bid in time."""

    def deeds(self, last: bool = False) -> list[Deed]:
        """What people do now and soon, each told once. ``last``: no request is open, none will come."""

    def draw(self, stream: int, number: int) -> float:
        """Chance of the exchange's own (0 win notice, 1 billing notice, 8 duplicates), in [0, 1)."""


class Exchange:
    """``tokens``: conversion token by advertiser id; ``advertiser_of``: by campaign id; ``settles``: settling notice by
    (exchange, media), as the profiles declare."""

    def __init__(
        self,
        market: Market,
        client: HttpClient,
        requests_per_s: float,
        tokens: dict[str, str],
        advertiser_of: dict[str, str],
        settles: Callable[[str, str], str],
    ) -> None:
        self.market = market
        self.client = client
        self.rate = requests_per_s
        self.tokens = tokens
        self.advertiser_of = advertiser_of
        self.settles = settles
        self.report = Report()
        self.wins_by_campaign: Counter[str] = Counter()
        self._later: list[_Later] = []  # a heap
        self._tie = itertools.count()
        self._latencies: list[float] = []
        self._in_flight = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Until ``stop``, or until the market is over."""
        loop = asyncio.get_running_loop()
        next_at = loop.time()
        async with asyncio.TaskGroup() as followed:
            async with asyncio.TaskGroup() as asked:
                while not stop.is_set() and not self.market.over:
                    now = loop.time()
                    while next_at <= now:
                        if self._in_flight >= IN_FLIGHT_MAX:
                            self.report.throttled += 1
                            next_at += 1.0 / self.rate
                            continue
                        ask = self.market.ask()
                        if ask is None:
                            break
                        next_at += 1.0 / self.rate
                        self._in_flight += 1
                        asked.create_task(self._ask(ask))
                    self._let_people_act()
                    while self._later and self._later[0].at_s <= now:
                        followed.create_task(heapq.heappop(self._later).job())
                    pause = min(next_at, self._later[0].at_s if self._later else next_at) - loop.time()
                    await asyncio.sleep(min(max(pause, 0.0), 0.05))
            # every request is answered, and what has been won is still settled: a real exchange does not forget a
            # bill because we stop
            self._let_people_act(last=True)
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

    async def _ask(self, ask: Ask) -> None:
        """The market hears of every request, whatever became of it."""
        offers: list[Offer] = []
        try:
            offers = await self._offers(ask)
        finally:
            self._in_flight -= 1
            verdict = self.market.hold(ask, offers)
        if verdict.made >= 0:
            self._tell(ask, offers[verdict.made], verdict)

    async def _offers(self, ask: Ask) -> list[Offer]:
        loop = asyncio.get_running_loop()
        began = loop.time()
        self.report.requests += 1
        try:
            answer = await self.client.post(f"/openrtb2/bid/{ask.exchange}", ask.body)
        except HttpUnavailable:
            self.report.unreachable += 1
            return []
        took_ms = (loop.time() - began) * 1_000
        if len(self._latencies) >= LATENCIES_KEPT:
            self._latencies = self._latencies[LATENCIES_KEPT // 2 :]
        self._latencies.append(took_ms)
        if answer.status == 204:
            self.report.no_bids += 1
            return []
        if took_ms > ask.tmax_ms:
            self.report.timeouts += 1
            return []
        offers = offers_of(ask, answer.body) if answer.status == 200 else None
        if offers is None:
            self.report.errors += 1
            self.report.unknown_exchange += answer.status == 404
        elif not offers:
            self.report.no_bids += 1
        else:
            self.report.bids += 1
        return offers or []

    def _tell(self, ask: Ask, offer: Offer, verdict: Verdict) -> None:
        minimum = "" if verdict.minimum is None else f"{verdict.minimum:f}"
        if not verdict.won:
            if minimum and offer.text("lurl"):
                url = macros(offer.text("lurl"), {"AUCTION_LOSS": "102", "AUCTION_MIN_TO_WIN": minimum})
                self._notify(0.2, url, ask.number, money=False)
            return
        if ask.test:
            self.report.test_wins += 1
        else:
            self.report.wins += 1
            self.wins_by_campaign[offer.text("cid")] += 1
        values = {
            "AUCTION_PRICE": f"{verdict.paid:f}",
            "AUCTION_BID_ID": offer.text("id"),
            "AUCTION_CURRENCY": "USD",
            "AUCTION_MIN_TO_WIN": minimum,
        }
        settling = self.settles(ask.exchange, ask.media)
        offer.client_side = {kind: macros(url, values) for url, kind in tracking_urls(offer.text("adm"))}
        for kind, key, delay in (
            ("win", "nurl", 0.05 + 0.4 * self.market.draw(0, ask.number)),
            ("billing", "burl", 0.3 + 2.0 * self.market.draw(1, ask.number)),
        ):
            if offer.text(key):
                settles = settling == kind and not ask.test
                url = macros(offer.text(key), values)
                self._notify(delay, url, ask.number, settles=settles, paid=verdict.paid)

    def _let_people_act(self, last: bool = False) -> None:
        for deed in self.market.deeds(last):
            offer, ask = deed.offer, deed.offer.ask
            if deed.kind == "order":
                if "click" in offer.client_side:
                    self._convert(deed.delay_s, offer, deed.value)
                continue
            url = offer.client_side.get(deed.kind)
            if url is None:
                continue
            settles = (
                deed.kind == "imp" and self.settles(ask.exchange, ask.media) == "impression" and not ask.test
            )
            self._notify(
                deed.delay_s,
                url,
                ask.number,
                settles=settles,
                paid=offer.price,
                money=deed.kind == "imp",
                counts="" if ask.test else _COUNTED[deed.kind],
            )

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
        twice = self.market.draw(8, number) < 0.03
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

    def _convert(self, delay_s: float, offer: Offer, value: str) -> None:
        advertiser = self.advertiser_of.get(offer.text("cid"), "")
        token = self.tokens.get(advertiser)
        if not token:
            return
        order = {
            "order_id": f"order-{self.market.seed}-{offer.ask.number}",
            "value": value,
            "currency": "USD",
            "click_id": offer.client_side["click"].rsplit("/", 1)[-1].split("?")[0],
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


def offers_of(ask: Ask, body: bytes) -> list[Offer] | None:
    """The bids of a response; None where it is none."""
    try:
        response = msgspec.json.decode(body)
        bids = [bid for seat in response["seatbid"] for bid in seat["bid"]]
        return [Offer(ask, bid, Decimal(str(bid["price"]))) for bid in bids]
    except (msgspec.DecodeError, KeyError, TypeError, ArithmeticError):
        return None


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
