"""A scenario played over HTTP against a small real server: what the notices name is what the world says was paid."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
from rich.progress import Progress
from typer.testing import CliRunner

from counterpoint.app.cli import app
from counterpoint.app.config import load_settings
from counterpoint.app.market_wire import play_over_wire, write_system
from counterpoint.base.errors import ConfigError
from counterpoint.base.http_client import HttpClient
from counterpoint.catalog.load import load_catalog
from counterpoint.market import world_market
from counterpoint.market.exchange import Exchange
from counterpoint.market.house import House
from counterpoint.market.load import scenario_named
from counterpoint.market.scenario import Scenario, resized
from counterpoint.market.world import World
from counterpoint.market.world_market import WorldMarket, times_faster
from tests.market.test_exchange import Answer, Bidder

AUCTIONS = 1_500
SMALL = resized(scenario_named("outage-v1"), AUCTIONS)


def _bids(world: World, price: float, shift: int = 0) -> Callable[[dict[str, Any]], Answer]:
    """The first ad that fits, ``shift`` ads further on."""
    every = world.batch(0, world.scenario.auctions)
    fitting = [world.fitting(every, row) for row in range(len(every))]

    def bid(request: dict[str, Any]) -> Answer:
        number = int(request["id"].rsplit("-", 1)[1])
        fits = fitting[number]
        if not fits.size:
            return 204, b""
        spec = world.design.creatives[(int(fits[0]) + shift) % world.design.count]
        base = f"http://bid.example/{{}}/{request['id']}"
        made = {
            "id": request["id"],
            "impid": "1",
            "price": price,
            "cid": world.scenario.campaign[spec.campaign].id,
            "crid": spec.id,
            "nurl": base.format("n/win") + "?p=${AUCTION_PRICE}",
            "burl": base.format("n/bill") + "?p=${AUCTION_PRICE}",
            "lurl": base.format("n/loss") + "?m=${AUCTION_MIN_TO_WIN}",
            "adm": f'<a href="{base.format("t/click")}"><img src="{base.format("t/imp")}">{base.format("t/skip")}</a>',
        }
        return 200, msgspec.json.encode({"id": request["id"], "seatbid": [{"bid": [made]}]})

    return bid


@contextlib.asynccontextmanager
async def _serving(bidder: Bidder) -> AsyncIterator[str]:
    server = await asyncio.start_server(bidder.serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def _played(bidder: Bidder, house: House, most: int = AUCTIONS) -> Exchange:
    tokens = {a.id: "secret" for a in house.world.scenario.advertiser}
    owners = {c.id: c.advertiser for c in house.world.scenario.campaign}
    async with _serving(bidder) as url, asyncio.timeout(60):
        client = HttpClient(url, connections_max=16, timeout_s=5.0)
        market = WorldMarket(house, 1_000.0, most)
        exchange = Exchange(market, client, 1_000.0, tokens, owners, lambda *_: "billing")
        await exchange.run(asyncio.Event())
        client.close()
    assert market.over
    return exchange


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine an answer may take longer than an exchange would wait."""
    monkeypatch.setattr(world_market, "TMAX_MS", 60_000)


async def test_what_is_settled_is_what_the_world_says_was_paid() -> None:
    world = World(SMALL, 4)
    house = House(world)
    bidder = Bidder(_bids(world, 900.5), lambda path, _: 200)
    report = (await _played(bidder, house)).report
    sums = {name: house.sums[name].sum() for name in ("bids", "impressions", "spend", "clicks_realised")}
    assert report.requests == len(bidder.asked) == AUCTIONS
    assert report.bids == report.wins == report.settled == sums["bids"] == sums["impressions"] > 1_000
    assert report.settled_nanos == sums["spend"]
    assert 0 < report.impressions < report.wins, "an outage swallows some"
    assert 0 < report.clicks <= sums["clicks_realised"]
    seen = {urlsplit(path).path.rsplit("/", 1)[1] for path in bidder.paths if path.startswith("/t/imp/")}
    acted = {
        urlsplit(p).path.rsplit("/", 1)[1] for p in bidder.paths if p.startswith(("/t/click/", "/t/skip/"))
    }
    assert acted <= seen
    assert len({body["id"] for body in bidder.asked}) == AUCTIONS
    assert set(bidder.tokens) <= {"bearer secret"}


async def test_the_pace_of_the_wire_changes_nothing_about_the_world() -> None:
    """Rivals that answer us look at whole windows: every answer is in before the next one is drawn."""
    scenario = resized(scenario_named("adversary-v1"), 6_000)
    sums = []
    for most in (2_500, 2_500):
        house = House(World(scenario, 1))
        await _played(Bidder(_bids(house.world, 1.5), lambda path, _: 200), house, most)
        sums.append([house.sums[name].sum() for name in ("spend", "impressions", "bids")])
    assert sums[0] == sums[1]
    assert sums[0][1] > 100


async def test_ads_that_do_not_fit_and_prices_that_are_none_bring_nothing() -> None:
    world = World(SMALL, 4)
    house = House(world)
    report = (await _played(Bidder(_bids(world, 900.5, shift=37), lambda *_: 200), house, 300)).report
    assert report.bids > 200
    assert report.wins < report.bids, "another format's ad is no bid"
    assert house.unfit == report.bids - report.wins
    broken = b'{"id":"x","seatbid":[{"bid":[{"price":"much","crid":"a"}]}]}'
    report = (await _played(Bidder(lambda _: (200, broken), lambda *_: 200), House(world), 50)).report
    assert report.errors == 50


def test_the_files_make_a_system_with_the_money_of_so_many_days(tmp_path: Path) -> None:
    scenario = scenario_named("stationary-v1")
    config = write_system(scenario, 500.0, 8_099, tmp_path / "made")
    settings = load_settings(config)
    catalog = load_catalog(settings.catalog_path)
    assert settings.config.bidder.port == 8_099
    faster = times_faster(scenario, 500.0)
    for ours, theirs in zip(catalog.campaigns, scenario.campaign, strict=True):
        assert ours.daily_budget_micros == pytest.approx(theirs.daily_budget * 1e6 * faster, rel=1e-6)
    caps = [item.frequency_cap.window_s for item in catalog.line_items if item.frequency_cap]
    assert caps
    assert set(caps) == {round(86_400 / faster)}
    with pytest.raises(ConfigError, match="there already"):
        write_system(scenario, 500.0, 8_099, tmp_path / "made")
    write_system(scenario, 500.0, 8_100, tmp_path / "made", force=True)
    assert load_settings(config).config.bidder.port == 8_100


def test_the_command_says_what_to_run_next(tmp_path: Path) -> None:
    arguments = [
        "market",
        "catalog",
        "delay-v1",
        "--rate",
        "50",
        "--port",
        "8077",
        "--out",
        str(tmp_path / "s"),
    ]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert f"counterpoint up --config {tmp_path / 's' / 'config.toml'}" in done.output
    assert "counterpoint market exchange delay-v1 --url http://127.0.0.1:8077 --rate 50" in done.output
    asked = ["market", "exchange", "delay-v1", "--url", "http://127.0.0.1:9"]
    refused = CliRunner().invoke(app, asked)
    assert isinstance(refused.exception, ConfigError)
    assert "no bidder at" in str(refused.exception)
    assert not refused.output


async def _play(url: str, scenario: Scenario = SMALL) -> None:
    with Progress(disable=True) as progress:
        await play_over_wire(scenario, 0, url, 500.0, 1.0, progress, lambda: None)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1:9", "no bidder at http://127.0.0.1:9"),
        ("https://127.0.0.1:8080", "expected an origin like"),
        ("8080", "expected an origin like"),
    ],
)
async def test_a_wrong_url_says_so(url: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        await _play(url)


@pytest.mark.parametrize(
    ("health", "said"),
    [(404, "is no bidder of ours"), (503, "cannot bid yet"), (200, "does not know the exchanges")],
)
async def test_a_wrong_bidder_says_so(health: int, said: str) -> None:
    bidder = Bidder(lambda _: (404, b""), lambda *_: health)
    async with _serving(bidder) as url:
        with pytest.raises(ConfigError, match=said):
            await _play(url)
