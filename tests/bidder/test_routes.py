"""The whole front of a bidder over real sockets: a bid's own URLs followed, and everything an attacker may try."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import re
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from counterpoint.base.clock import NS_PER_MS
from counterpoint.base.http_client import HttpClient, Response
from counterpoint.bidder.committer import CommitterConfig
from counterpoint.bidder.directory import Directory, is_click_target
from counterpoint.bidder.engine import Engine
from counterpoint.bidder.exposition import Exposition
from counterpoint.bidder.http import HttpConfig, HttpCounters, Request, Server, serve
from counterpoint.bidder.http import Response as HttpResponse
from counterpoint.bidder.routes import Routes, RoutesConfig
from counterpoint.bidder.signing import NoticeKind
from counterpoint.bidder.view import ViewInputs, compile_view
from counterpoint.catalog.model import Catalog, Creative, Goal, Media, NoBidForm
from tests.bidder.test_http import statuses, talk
from tests.bidder.world import SHOP, TOKEN, World, make_catalog, running

KINDS = {
    NoticeKind.WIN: "/n/win/",
    NoticeKind.BILLING: "/n/bill/",
    NoticeKind.LOSS: "/n/loss/",
    NoticeKind.IMPRESSION: "/t/imp/",
    NoticeKind.CLICK: "/t/click/",
    NoticeKind.SKIP: "/t/skip/",
}


def biddable() -> Catalog:
    catalog = make_catalog()
    banner = Creative(
        id="cr1",
        advertiser_id="shop",
        media=Media.BANNER,
        click_url=SHOP,
        w=300,
        h=250,
        image_url="https://cdn.example/a.png",
        attributes=(),
        categories=("IAB1",),
    )
    campaign = replace(catalog.campaigns[0], goal=Goal.REACH, goal_value_micros=5_000_000)
    profiles = (replace(catalog.exchanges[0], sends_loss_notices=True), catalog.exchanges[1])
    return replace(
        catalog,
        campaigns=(campaign, catalog.campaigns[1]),
        creatives=(banner, *catalog.creatives[1:]),
        exchanges=profiles,
    )


class Front:
    def __init__(self, world: World, catalog: Catalog, config: RoutesConfig | None = None) -> None:
        self.world = world
        self.view = compile_view(ViewInputs(catalog=catalog))
        world.tracker.directory = Directory.build(catalog)
        self.engine = Engine(
            self.view,
            world.book,
            world.frequency,
            world.signer,
            public_url="http://bidder.test",
            bidder_id="b1",
            seed=1,
            outbox=world.facts,
            clock=world.clock.now_ns,
        )
        self.waiting_for: list[str] = []
        self.http = HttpCounters()
        self.routes = Routes(
            engine=self.engine,
            tracker=world.tracker,
            conversions=world.desk,
            ready=lambda: self.waiting_for,
            status=lambda: self.exposition.status(self.waiting_for, world.clock.now_ns()),
            metrics=lambda: self.exposition.page(),
            config=config,
        )
        self.exposition = Exposition(
            engine=self.engine,
            tracker=world.tracker,
            conversions=world.desk,
            http=self.http,
            routes=self.routes.counters,
            latency=self.routes.latency,
            incarnation="i1",
            started_at_ns=world.clock.now_ns(),
        )
        self.server: Server | None = None
        self.client: HttpClient | None = None

    async def get(self, path: str, method: str = "GET") -> Response:
        assert self.client is not None
        return await self.client.get(path)

    async def post(self, path: str, body: bytes, headers: dict[str, str] | None = None) -> Response:
        assert self.client is not None
        return await self.client.post(path, body, headers)


@contextlib.asynccontextmanager
async def open_front(
    folder: Path,
    catalog: Catalog | None = None,
    config: RoutesConfig | None = None,
    world: World | None = None,
) -> AsyncIterator[Front]:
    async with running(world if world is not None else World(folder)) as made:
        front = Front(made, catalog if catalog is not None else biddable(), config)

        # The world's clock stands still, the socket's does not; and a slow machine is no overload here.
        def application(request: Request) -> HttpResponse | asyncio.Future[HttpResponse]:
            request.received_ns, request.lag_ns = made.clock.now_ns(), 0
            return front.routes(request)

        front.server = await serve(application, HttpConfig(port=0, linger_s=0.1), front.http)
        front.client = HttpClient(f"http://127.0.0.1:{front.server.port}")
        try:
            yield front
        finally:
            front.client.close()
            await front.server.close(0.2)


def ask(**changes: object) -> bytes:
    body = {
        "id": "auction-1",
        "imp": [{"id": "1", "banner": {"w": 300, "h": 250}, "bidfloor": 0.01}],
        "site": {"domain": "news.example", "page": "https://news.example/a"},
        "device": {"ua": "Mozilla/5.0", "ip": "198.51.100.7", "geo": {"country": "USA"}},
        "user": {"id": "person-1"},
        "at": 1,
        "tmax": 100,
        "cur": ["USD"],
    }
    return msgspec.json.encode({**body, **changes})


def path_of(url: str) -> str:
    return url.removeprefix("http://bidder.test")


async def bid_of(front: Front, **changes: object) -> dict[str, str]:
    """One real bid; its URLs by kind."""
    answer = await front.post("/openrtb2/bid/adx", ask(**changes))
    assert answer.status == 200, answer.headers
    bid = msgspec.json.decode(answer.body)["seatbid"][0]["bid"][0]
    in_markup = re.findall(r"(http://bidder\.test/t/(imp|click)/[A-Za-z0-9_\-]+)", bid["adm"])
    found = {"win": bid["nurl"], "bill": bid["burl"], "loss": bid["lurl"], "id": bid["id"]}
    return found | {kind: url for url, kind in in_markup}


def filled(url: str, price: str = "1.0") -> str:
    return path_of(url).replace("${AUCTION_PRICE}", price).replace("${AUCTION_CURRENCY}", "USD")


# ---- the good way


async def test_a_bid_its_notices_its_click_and_its_order(tmp_path: Path) -> None:
    async with open_front(tmp_path) as front:
        urls = await bid_of(front)
        assert (await front.get(filled(urls["win"], "0.7"))).status == 200
        assert (await front.get(filled(urls["bill"], "0.7"))).status == 200
        pixel = await front.get(path_of(urls["imp"]))
        assert (pixel.status, pixel.headers[b"content-type"]) == (200, b"image/gif")
        click = await front.get(path_of(urls["click"]))
        assert (click.status, click.headers[b"location"]) == (302, SHOP.encode())
        order = msgspec.json.encode({"order_id": "1", "click_id": urls["click"].rsplit("/", 1)[1]})
        sold = await front.post("/conversions/shop", order, {"Authorization": f"Bearer {TOKEN}"})
        assert (sold.status, msgspec.json.decode(sold.body)["by"]) == (200, "click")
        (booked,) = front.world.settlements()
        assert (booked.bid_id, booked.paid_nanos) == (urls["id"], 700_000)
        status = msgspec.json.decode((await front.get("/control/status")).body)
        counts = status["counts"]
        assert {
            name: counts[name] for name in ("requests", "bids", "wins", "settled", "impressions", "clicks")
        } == {
            "requests": 1,
            "bids": 1,
            "wins": 1,
            "settled": 1,
            "impressions": 1,
            "clicks": 1,
        }
        assert counts["conversions"] == 1
        assert status["latency_us"]["p50"] > 0
        page = (await front.get("/metrics")).body.decode()
        assert 'counterpoint_bids_total{exchange="adx"} 1.0' in page
        assert 'counterpoint_notices_total{kind="bill",outcome="settled"} 1.0' in page
        assert "counterpoint_bid_latency_seconds_bucket" in page


async def test_notices_come_by_post_too_and_are_answered_again(tmp_path: Path) -> None:
    async with open_front(tmp_path) as front:
        urls = await bid_of(front)
        for _ in range(3):
            assert (await front.post(filled(urls["bill"]), b"whatever")).status == 200
        assert len(front.world.settlements()) == 1


async def test_a_test_request_never_bills(tmp_path: Path) -> None:
    async with open_front(tmp_path) as front:
        urls = await bid_of(front, test=1)
        for kind in ("win", "bill", "imp", "click"):
            assert (await front.get(filled(urls[kind]))).status in (200, 302)
        assert not front.world.settlements()
        assert not front.world.facts.events


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/openrtb2/bid/adx", b"{", 400),
        ("/openrtb2/bid/adx", b"", 400),
        ("/openrtb2/bid/adx", b"[]", 400),
        ("/openrtb2/bid/adx", b'{"id": "1"}', 400),
        ("/openrtb2/bid/adx", b"\xff" * 100, 400),
        ("/openrtb2/bid/nobody", ask(), 404),
        ("/openrtb2/bid/", ask(), 404),
        ("/openrtb2/bid/../bid/adx", ask(), 404),
        ("/openrtb2/bid/off", ask(), 204),
        ("/openrtb2/bid/adx", ask(tmax=1), 204),
        ("/openrtb2/bid/adx", ask(cur=["XXX"]), 204),
    ],
)
async def test_what_gets_no_bid_gets_no_content(tmp_path: Path, path: str, body: bytes, status: int) -> None:
    async with open_front(tmp_path) as front:
        answer = await front.post(path, body)
        assert (answer.status, answer.body) == (status, b"")


@pytest.mark.parametrize("tmax", [-5, 0, 10**12, "100", 1.5e300, None])
async def test_an_absurd_tmax_is_no_error(tmp_path: Path, tmax: object) -> None:
    async with open_front(tmp_path) as front:
        assert (await front.post("/openrtb2/bid/adx", ask(tmax=tmax))).status in (200, 204, 400)


async def test_no_bids_say_why_and_take_the_form_of_the_profile(tmp_path: Path) -> None:
    async with open_front(tmp_path) as front:
        assert (await front.post("/openrtb2/bid/adx", ask(tmax=1))).headers[b"x-no-bid"] == b"late"
    catalog = biddable()
    long = replace(catalog, exchanges=(replace(catalog.exchanges[0], no_bid=NoBidForm.NBR_BODY),))
    async with open_front(tmp_path, long) as front:
        answer = await front.post("/openrtb2/bid/adx", ask(tmax=1))
        assert (answer.status, msgspec.json.decode(answer.body)["nbr"]) == (200, 15)
    async with open_front(tmp_path, config=RoutesConfig(no_bid_header=False)) as front:
        assert b"x-no-bid" not in (await front.post("/openrtb2/bid/adx", ask(tmax=1))).headers


async def test_gzip_in_and_out(tmp_path: Path) -> None:
    catalog = biddable()
    zipped = replace(catalog, exchanges=(replace(catalog.exchanges[0], gzip_responses=True),))
    async with open_front(tmp_path, zipped) as front:
        sent = {"Content-Encoding": "gzip", "Accept-Encoding": "gzip"}
        answer = await front.post("/openrtb2/bid/adx", gzip.compress(ask()), sent)
        assert answer.headers[b"content-encoding"] == b"gzip"
        assert b"seatbid" in zlib.decompress(answer.body, 31)
        plain = await front.post("/openrtb2/bid/adx", ask())
        assert b"content-encoding" not in plain.headers
        assert (await front.post("/openrtb2/bid/adx", b"no gzip", sent)).status == 400
        bomb = gzip.compress(b" " * 20_000_000)
        assert (await front.post("/openrtb2/bid/adx", bomb, sent)).status == 400
        assert front.routes.counters.envelope_faults.total() == 2


async def test_overload_sheds_bids_and_serves_notices(tmp_path: Path) -> None:
    async with open_front(tmp_path) as front:
        late = Request(b"POST", b"/openrtb2/bid/adx", body=ask(), lag_ns=30 * NS_PER_MS)
        answer = front.routes(late)
        assert isinstance(answer, HttpResponse)
        assert (answer.status, front.routes.counters.shed["adx"]) == (204, 1)
        bid = front.world.bid()
        notice = front.routes(
            Request(b"GET", b"/n/bill/" + front.world.token(NoticeKind.BILLING, bid), lag_ns=30 * NS_PER_MS)
        )
        assert isinstance(notice, asyncio.Future)
        assert (await notice).status == 200
        assert front.exposition.no_bids()["overload"] == 1


async def test_ready_says_what_it_waits_for(tmp_path: Path) -> None:
    async with open_front(tmp_path) as front:
        assert (await front.get("/health/ready")).status == 200
        front.waiting_for = ["allowances"]
        answer = await front.get("/health/ready")
        assert (answer.status, msgspec.json.decode(answer.body)) == (
            503,
            {"ready": False, "waiting_for": ["allowances"]},
        )
        assert (await front.get("/health/live")).status == 200


async def test_money_that_cannot_be_kept_is_503_with_a_retry(tmp_path: Path) -> None:
    world = World(tmp_path, spool_bytes_max=10)
    async with open_front(tmp_path, world=world) as front:
        world.bus.go_away()
        urls = await bid_of(front)
        answer = await front.get(filled(urls["bill"]))
        assert (answer.status, answer.headers[b"retry-after"]) == (503, b"1")
        world.bus.come_back()
        await asyncio.sleep(0.1)
        assert (await front.get(filled(urls["bill"]))).status == 200
        assert len(world.settlements()) == 1


# ---- the bad ways


async def test_no_url_of_one_kind_works_as_another(tmp_path: Path) -> None:
    async with open_front(tmp_path) as front:
        urls = await bid_of(front)
        for kind, prefix in (
            ("imp", "/n/bill/"),
            ("click", "/n/bill/"),
            ("win", "/n/bill/"),
            ("imp", "/t/click/"),
        ):
            token = path_of(urls[kind]).split("/")[3].split("?")[0]
            assert (await front.get(f"{prefix}{token}?p=0.1")).status in (403, 404)
        assert not front.world.settlements()


@pytest.mark.parametrize(
    "attempt",
    [
        "/t/click/{token}?url=https://evil.example",
        "/t/click/{token}?redirect=//evil.example&u=javascript:alert(1)",
        "/t/click/{token}?%0d%0aLocation:%20https://evil.example",
        "/t/click/https://evil.example/{token}",
        "/t/click//evil.example/%2e%2e",
        "/t/click/{token}%0d%0aSet-Cookie:%20a=b",
        "/t/click/{token}/../../evil",
        "/t/click/",
        "/t/click/{cut}",
    ],
)
async def test_a_click_never_leads_anywhere_but_to_the_catalogs_target(tmp_path: Path, attempt: str) -> None:
    async with open_front(tmp_path) as front:
        token = path_of((await bid_of(front))["click"]).split("/")[3]
        answer = await front.get(attempt.format(token=token, cut=token[:-1]))
        assert answer.status in (302, 404)
        assert answer.headers.get(b"location", SHOP.encode()) == SHOP.encode()
        assert (b"location" in answer.headers) == (answer.status == 302)
        assert b"set-cookie" not in answer.headers


@pytest.mark.parametrize(
    ("url", "usable"),
    [
        ("https://shop.example/a?b=c", True),
        ("http://shop.example", True),
        ("javascript:alert(1)", False),
        ("//evil.example", False),
        ("https://", False),
        ("https:///path", False),
        ("https://a.example/\r\nSet-Cookie: x", False),
        ("https://a.example/ b", False),
        ("https://a.example\\@evil.example", False),
        ("data:text/html,x", False),
        ("https://exämple.example", False),
        ("", False),
    ],
)
def test_click_targets_that_are_none_are_never_sent(url: str, usable: bool) -> None:
    assert is_click_target(url) is usable


async def test_a_forged_price_books_no_more_than_was_signed(tmp_path: Path) -> None:
    async with open_front(tmp_path) as front:
        urls = await bid_of(front)
        assert (await front.get(filled(urls["bill"], "9999"))).status == 200
        (booked,) = front.world.settlements()
        assert booked.paid_nanos == booked.bid_nanos
        assert booked.excess_nanos > 0


@pytest.mark.parametrize(
    "value",
    ["", "AUDIT", "${AUCTION_PRICE}", "%24%7BAUCTION_PRICE%7D", "0.5%0d%0aX:1", "'; DROP", "9" * 5000],
)
async def test_macros_in_any_state_are_200(tmp_path: Path, value: str) -> None:
    async with open_front(tmp_path) as front:
        urls = await bid_of(front)
        assert (await front.get(filled(urls["bill"], quote(value, safe="%$")))).status == 200
        assert len(front.world.settlements()) == (0 if value == "AUDIT" else 1)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        (b"GET", b"/openrtb2/bid/adx"),
        (b"DELETE", b"/n/bill/x"),
        (b"PUT", b"/t/imp/x"),
        (b"GET", b"/conversions/shop"),
        (b"POST", b"/metrics"),
        (b"POST", b"/control/status"),
    ],
)
async def test_other_methods_are_405(tmp_path: Path, method: bytes, path: bytes) -> None:
    async with open_front(tmp_path) as front:
        assert front.server is not None
        raw = b"%b %b HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n" % (method, path)
        assert statuses(await talk(front.server, raw)) == [405]


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/..",
        "/../../etc/passwd",
        "/n",
        "/n/",
        "/n/win",
        "/n/win/../bill/x",
        "/health",
        "/%2e%2e/metrics",
        "/n/nothing/x",
        "//metrics",
        "/openrtb2",
    ],
)
async def test_paths_we_do_not_have_are_404(tmp_path: Path, path: str) -> None:
    async with open_front(tmp_path) as front:
        answer = await front.get(path)
        assert (answer.status, answer.body) == (404, b"")


async def test_pages_for_operators_can_be_left_out(tmp_path: Path) -> None:
    async with open_front(tmp_path, config=RoutesConfig(control=False)) as front:
        assert (await front.get("/metrics")).status == 404
        assert (await front.get("/control/status")).status == 404
        assert (await front.get("/health/live")).status == 200


async def test_conversions_need_the_token_of_that_advertiser(tmp_path: Path) -> None:
    async with open_front(tmp_path) as front:
        body = b'{"order_id": "1"}'
        for headers in ({}, {"Authorization": "Bearer no"}, {"Authorization": "Bearer bank-token"}):
            answer = await front.post("/conversions/shop", body, headers)
            assert answer.status == 401
            assert answer.headers[b"www-authenticate"] == b"Bearer"
        assert (
            await front.post("/conversions/sh%6fp", body, {"Authorization": f"Bearer {TOKEN}"})
        ).status == 200
        assert (await front.post("/conversions/%ff", body)).status == 404
        assert (
            await front.post("/conversions/shop/../bank", body, {"Authorization": f"Bearer {TOKEN}"})
        ).status == 401


async def test_a_head_on_a_click_is_no_click(tmp_path: Path) -> None:
    async with open_front(tmp_path) as front:
        assert front.server is not None
        path = path_of((await bid_of(front))["click"]).encode()
        answer = await talk(front.server, b"HEAD %b HTTP/1.1\r\nHost: x\r\n\r\n" % path)
        assert statuses(answer) == [302]
        assert SHOP.encode() in answer
        assert not [e for e in front.world.facts.events if e.event_id.startswith("click")]


SEGMENTS = st.one_of(
    st.text(max_size=40).map(lambda text: quote(text, safe="")),
    st.binary(max_size=300).map(lambda raw: quote(raw, safe="")),
    st.sampled_from(["..", "%2e%2e", "%00", "${AUCTION_PRICE}", "", "{token}", "{token}x", "{cut}"]),
)
QUERIES = st.lists(
    st.tuples(
        st.sampled_from(["p", "m", "n", "l", "c", "x", "", "p%00"]),
        st.one_of(
            st.text(max_size=20).map(lambda t: quote(t, safe="")),
            st.sampled_from(
                ["${AUCTION_PRICE}", "AUDIT", "", "1e400", "-0", "%", "%zz", "+", "NaN", "0.5", "&" * 50]
            ),
        ),
    ),
    max_size=6,
).map(lambda pairs: "&".join(f"{name}={value}" for name, value in pairs))


@given(
    calls=st.lists(
        st.tuples(st.sampled_from(sorted(KINDS.values())), SEGMENTS, QUERIES, st.booleans()),
        min_size=1,
        max_size=8,
    )
)
@settings(deadline=None, max_examples=60)
def test_whatever_is_asked_of_the_notice_urls(
    tmp_path_factory: pytest.TempPathFactory, calls: list[tuple[str, str, str, bool]]
) -> None:
    async def main() -> None:
        world = World(tmp_path_factory.mktemp("fuzz"), CommitterConfig(flush_ms=1))
        async with open_front(Path("."), FUZZED, world=world) as front:
            for prefix, segment, query, use_post in calls:
                bid = world.bid()
                token = world.token(next(k for k, v in KINDS.items() if v == prefix), bid).decode()
                path = prefix + segment.replace("{token}", token).replace("{cut}", token[:-1]) + "?" + query
                answer = await (front.post(path, b"x") if use_post else front.get(path))
                assert answer.status in (200, 204, 302, 403, 404), (path, answer.status)
                if answer.status == 302:
                    assert answer.headers[b"location"] == SHOP.encode()
            assert front.http.crashed == 0
            booked = world.settlements()
            assert len({event.bid_id for event in booked}) == len(booked)
            assert all(0 <= event.paid_nanos <= event.bid_nanos for event in booked)
            assert (await front.get("/health/live")).status == 200

    asyncio.run(main())


@given(
    body=st.binary(max_size=200) | st.text(max_size=100).map(lambda t: msgspec.json.encode({"order_id": t}))
)
@settings(deadline=None, max_examples=40)
def test_whatever_is_posted_as_an_order(tmp_path_factory: pytest.TempPathFactory, body: bytes) -> None:
    async def main() -> None:
        world = World(tmp_path_factory.mktemp("fuzz"), CommitterConfig(flush_ms=1))
        async with open_front(Path("."), FUZZED, world=world) as front:
            answer = await front.post("/conversions/shop", body, {"Authorization": f"Bearer {TOKEN}"})
            assert answer.status in (200, 400)
            assert front.http.crashed == 0

    asyncio.run(main())


FUZZED = biddable()
