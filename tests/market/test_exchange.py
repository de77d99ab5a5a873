"""The demo's exchange against a small real HTTP server that answers as told: macros, auctions, retries, duplicates."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from counterpoint.base.http_client import HttpClient
from counterpoint.market import exchange as market
from counterpoint.market.demo_market import DemoMarket
from counterpoint.market.demo_world import DemoWorld
from counterpoint.market.exchange import Exchange, macros, target_of, tracking_urls

Answer = tuple[int, bytes]


class Bidder:
    """Answers bids by ``bid`` and everything else by ``notice``; remembers the paths it was asked for."""

    def __init__(self, bid: Callable[[dict[str, Any]], Answer], notice: Callable[[str, int], int]) -> None:
        self.bid = bid
        self.notice = notice
        self.asked: list[dict[str, Any]] = []
        self.paths: Counter[str] = Counter()
        self.tokens: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                method, path, _ = head.split(" ", 2)
                length = [line for line in head.lower().split("\r\n") if line.startswith("content-length:")]
                body = await reader.readexactly(int(length[0].split(":")[1])) if length else b""
                status, answer = self.answer(method, path, head, body)
                extra = b"" if status == 204 else b"Content-Length: %d\r\n" % len(answer)
                writer.write(b"HTTP/1.1 %d X\r\n%b\r\n%b" % (status, extra, answer))
                await writer.drain()
        writer.close()

    def answer(self, method: str, path: str, head: str, body: bytes) -> Answer:
        if path.startswith("/openrtb2/bid/"):
            self.asked.append(msgspec.json.decode(body))
            return self.bid(self.asked[-1])
        self.paths[path] += 1
        if path.startswith("/conversions/"):
            self.tokens.append(head.lower().partition("authorization: ")[2].split("\r\n")[0])
            return 202, b"{}"
        return self.notice(path, self.paths[path]), b""


@contextlib.asynccontextmanager
async def _against(bidder: Bidder, seed: int = 1, rate: float = 200.0) -> AsyncIterator[Exchange]:
    server = await asyncio.start_server(bidder.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = HttpClient(f"http://127.0.0.1:{port}", connections_max=16, timeout_s=5.0)
    tokens, owners = {"shop": "secret"}, {"c1": "shop"}
    settles = {"banner": "billing", "native": "win", "video": "impression", "audio": "impression"}
    try:
        yield Exchange(
            DemoMarket(DemoWorld(seed)), client, rate, tokens, owners, lambda _, media: settles[media]
        )
    finally:
        client.close()
        server.close()


async def _run(exchange: Exchange, requests: int) -> None:
    stop = asyncio.Event()
    running = asyncio.create_task(exchange.run(stop))
    async with asyncio.timeout(60):
        while True:
            await asyncio.sleep(0.01)
            if exchange.report.requests >= requests:
                break
        stop.set()
        await running


def _bid_at(price: str) -> Callable[[dict[str, Any]], Answer]:
    def bid(request: dict[str, Any]) -> Answer:
        base = f"https://bid.example/{{}}/{request['id']}"
        made = {
            "id": request["id"],
            "impid": "1",
            "price": float(price),
            "cid": "c1",
            "crid": "k1",
            "nurl": base.format("n/win") + "?p=${AUCTION_PRICE}&m=${AUCTION_MIN_TO_WIN}",
            "burl": base.format("n/bill") + "?p=${AUCTION_PRICE}&c=${AUCTION_CURRENCY}",
            "lurl": base.format("n/loss") + "?l=${AUCTION_LOSS}&m=${AUCTION_MIN_TO_WIN}",
            "adm": f'<a href="{base.format("t/click")}?x=1"><img src="{base.format("t/imp")}?p=1"></a>',
        }
        return 200, msgspec.json.encode({"id": request["id"], "seatbid": [{"bid": [made]}]})

    return bid


async def test_a_high_bid_wins_pays_by_the_auction_and_settles_once() -> None:
    bidder = Bidder(_bid_at("900.5"), lambda path, _: 200)
    async with _against(bidder) as exchange:
        await _run(exchange, 60)
        report = exchange.report
    assert report.bids == report.requests == len(bidder.asked)
    assert report.wins + report.test_wins == report.bids
    prices = {parse_qs(urlsplit(path).query)["p"][0] for path in bidder.paths if path.startswith("/n/bill/")}
    assert "900.5" in prices, "first price pays its bid"
    assert any(Decimal(price) < 100 for price in prices), "second price pays the rival's"
    assert all("$" not in path for path in bidder.paths), "every macro is replaced"
    by_id = Counter(urlsplit(path).path for path in bidder.paths)
    assert all(count == 1 for count in by_id.values()), "a notice never changes its price on the way"
    banners = [body for body in bidder.asked if "banner" in body["imp"][0]]
    assert sum(path.startswith("/n/bill/") for path in bidder.paths) == report.bids
    assert banners
    assert 0 < report.settled <= report.wins
    assert report.impressions <= report.wins


async def test_a_low_bid_loses_and_only_exchanges_that_say_so_tell() -> None:
    bidder = Bidder(_bid_at("0.0001"), lambda path, _: 200)
    async with _against(bidder) as exchange:
        await _run(exchange, 60)
        await asyncio.sleep(0)
        report = exchange.report
    assert report.wins == report.settled == 0
    told = [path for path in bidder.paths if path.startswith("/n/")]
    assert all(path.startswith("/n/loss/") for path in told)
    assert all(parse_qs(urlsplit(path).query)["l"] == ["102"] for path in told)


async def test_a_settling_notice_is_sent_again_until_it_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(market, "NOTICE_RETRY_S", 0.01)
    bidder = Bidder(_bid_at("900.5"), lambda path, times: 200 if times >= 3 else 503)
    async with _against(bidder) as exchange:
        await _run(exchange, 30)
        report = exchange.report
    assert report.notice_retries >= 2 * report.settled > 0
    assert report.notices_given_up == 0
    money = {
        path: n for path, n in bidder.paths.items() if path.startswith(("/n/win/", "/n/bill/", "/t/imp/"))
    }
    assert all(n in (3, 4) for n in money.values()), "twice in vain, once answered, now and then once more"


async def test_a_bidder_that_never_answers_a_notice_is_given_up_and_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(market, "NOTICE_RETRY_S", 0.001)
    bidder = Bidder(_bid_at("900.5"), lambda path, times: 503)
    async with _against(bidder) as exchange:
        await _run(exchange, 10)
        report = exchange.report
    assert report.settled == report.settled_nanos == 0
    assert report.notices_given_up > 0
    assert max(bidder.paths.values()) == market.NOTICE_TRIES_MAX


async def test_what_was_settled_is_what_its_notices_named() -> None:
    bidder = Bidder(_bid_at("900.5"), lambda path, _: 200)
    async with _against(bidder, seed=3) as exchange:
        await _run(exchange, 80)
        report = exchange.report
    tests = {body["id"] for body in bidder.asked if body.get("test")}
    media = {
        body["id"]: next(m for m in ("banner", "native", "video", "audio") if m in body["imp"][0])
        for body in bidder.asked
    }
    expected = 0
    for path in bidder.paths:
        parts = urlsplit(path)
        kind, bid_id = parts.path.rsplit("/", 1)
        settling = {"banner": "/n/bill", "native": "/n/win"}.get(media[bid_id], "/t/imp")
        if kind == settling and bid_id not in tests:
            price = "900.5" if kind == "/t/imp" else parse_qs(parts.query)["p"][0]
            expected += int(Decimal(price) * 1_000_000)
    assert report.settled_nanos == expected > 0


@pytest.mark.parametrize(
    ("answer", "counted"),
    [
        ((204, b""), "no_bids"),
        ((200, b"{"), "errors"),
        ((200, b'{"id":"x"}'), "errors"),
        ((200, b'{"id":"x","seatbid":[]}'), "no_bids"),
        ((500, b""), "errors"),
    ],
)
async def test_other_answers_are_counted_and_bring_nothing(answer: Answer, counted: str) -> None:
    bidder = Bidder(lambda _: answer, lambda path, _: 200)
    async with _against(bidder) as exchange:
        await _run(exchange, 20)
        report = exchange.report
    assert getattr(report, counted) == report.requests
    assert report.bids == report.wins == 0
    assert not bidder.paths


async def test_a_bidder_that_is_away_is_counted_and_waited_for() -> None:
    client = HttpClient("http://127.0.0.1:9", connections_max=4, timeout_s=1.0)
    exchange = Exchange(DemoMarket(DemoWorld(1)), client, 500.0, {}, {}, lambda *_: "billing")
    await _run(exchange, 30)
    assert exchange.report.unreachable == exchange.report.requests
    client.close()


async def test_an_order_names_its_click_and_the_advertisers_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """A world where everybody who sees clicks and buys at once."""
    bidder = Bidder(_bid_at("900.5"), lambda path, _: 200)
    async with _against(bidder, rate=100.0) as exchange:
        assert isinstance(exchange.market, DemoMarket)
        world = exchange.market.world
        monkeypatch.setattr(world, "draw", lambda stream, number: 0.01)
        monkeypatch.setattr(world, "click_rate", lambda *_: 1.0)
        monkeypatch.setattr(world, "conversion_rate", lambda *_: 1.0)
        monkeypatch.setattr(exchange, "_schedule", _at_once(exchange))
        await _run(exchange, 10)
        report = exchange.report
    assert report.clicks == report.impressions == report.wins > 0
    assert report.conversions >= report.clicks
    assert set(bidder.tokens) == {"bearer secret"}


def _at_once(exchange: Exchange) -> Callable[..., None]:
    scheduled = exchange._schedule
    return lambda delay_s, job, money: scheduled(0.0, job, True)


def test_macros_targets_and_tracking_urls() -> None:
    assert macros("u?p=${AUCTION_PRICE}&x=${OTHER}", {"AUCTION_PRICE": "1.5"}) == "u?p=1.5&x=${OTHER}"
    assert target_of("https://bid.example/n/win/t?a=1") == "/n/win/t?a=1"
    assert target_of("https://bid.example") == "/"
    escaped = '{"link":"http:\\/\\/b.example\\/t\\/click\\/abc"}<Impression>http://b.example/t/imp/abc?p=1&amp;q=2</Impression>'
    assert tracking_urls(escaped) == [
        ("http://b.example/t/click/abc", "click"),
        ("http://b.example/t/imp/abc?p=1&q=2", "imp"),
    ]
    assert tracking_urls("<a href='https://elsewhere.example/x'>") == []
