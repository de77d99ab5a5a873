"""A scenario over the wire: the files a bidder starts from, and the exchange that plays the scenario against it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from counterpoint.base.errors import ConfigError
from counterpoint.base.files import write_atomically
from counterpoint.base.http_client import HttpClient, HttpUnavailable
from counterpoint.catalog.model import Media
from counterpoint.catalog.write import catalog_json
from counterpoint.market.catalogue import catalogue
from counterpoint.market.exchange import Exchange, Report
from counterpoint.market.house import House
from counterpoint.market.scenario import DAY_NS, STARTS_AT_NS, Scenario
from counterpoint.market.world import World
from counterpoint.market.world_market import WorldMarket, times_faster

CONNECTIONS: Final = 64
TIMEOUT_S: Final = 2.0
STRANGERS_MAX: Final = 50  # answers 404 before we say that this is the wrong bidder

_CONFIG: Final = """\
# Written by 'counterpoint market catalog {name} --rate {rate:g}': a day's budget is that of {faster:,.0f} market days,
# so that as much money meets as many auctions as in the scenario. Yours to edit. Every key: docs/configuration.md.
catalog = "catalog.json"
data_dir = "."

[experiment]
name = "market"
salt = "market"
no_agents = 0.0

[budget]
period_s = 10

[bidder]
port = {port}
"""


def write_system(
    scenario: Scenario, requests_per_s: float, port: int, folder: Path, force: bool = False
) -> Path:
    """``folder/catalog.json`` and ``folder/config.toml``, which is returned. Raises :class:`ConfigError` where it
    holds a system already and not ``force``, or cannot be written."""
    faster = times_faster(scenario, requests_per_s)
    config = folder / "config.toml"
    if config.exists() and not force:
        raise ConfigError(
            f"{config}: there already; name another folder with --out, write over it with --force, or edit its port"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "catalog.json", catalog_json(catalogue(scenario, faster=faster)))
        text = _CONFIG.format(name=scenario.name, rate=requests_per_s, faster=faster, port=port)
        write_atomically(config, text.encode())
    except OSError as error:
        raise ConfigError(f"{folder}: {error}. Name a folder that can be written to with --out") from error
    return config


class Played(Struct, frozen=True, kw_only=True):
    """What came of it. Expected: by true probabilities, of what was won. Money in units of the account currency."""

    scenario: str
    digest: str
    seed: int
    requests_per_s: float
    seconds: float
    times_faster: float
    market_days: float  # that passed
    unfit: int  # bids with an ad that does not fit, or is past its life
    expected_value: float
    paid: float
    expected_clicks: float
    expected_conversions: float
    report: Report

    @property
    def ctr(self) -> float:
        return self.expected_clicks / max(self.report.wins, 1)

    @property
    def cpa(self) -> float | None:
        return self.paid / self.expected_conversions if self.expected_conversions > 0 else None

    def table(self) -> Table:
        r = self.report
        rows: list[tuple[str, str]] = [
            ("requests", f"{r.requests:,}"),
            ("bids", f"{r.bids:,}"),
            ("wins", f"{r.wins:,}"),
            ("paid by the auctions", f"{self.paid:,.4f}"),
            ("settled by notices", f"{r.settled_nanos / 1e9:,.4f} ({r.settled:,})"),
            ("expected value", f"{self.expected_value:,.4f}"),
            ("expected CTR", f"{self.ctr:.3%}"),
            ("expected CPA", "no conversions" if self.cpa is None else f"{self.cpa:,.2f}"),
            ("clicks, orders reported", f"{r.clicks:,}, {r.conversions:,}"),
            ("late", f"{r.timeouts:,}"),
            ("errors", f"{r.errors + r.unreachable:,}"),
            ("not asked, too many open", f"{r.throttled:,}"),
            ("ads that do not fit", f"{self.unfit:,}"),
            ("answer p50, p99, ms", f"{r.latency_ms.get('p50', 0.0):g}, {r.latency_ms.get('p99', 0.0):g}"),
        ]
        table = Table(
            "what",
            "figure",
            title=f"{self.scenario}, seed {self.seed}: {self.market_days:.2f} days in {self.seconds:.0f} s",
        )
        for row in rows:
            table.add_row(*row)
        return table

    def as_json(self) -> dict[str, Any]:
        return {**msgspec.to_builtins(self), "ctr": self.ctr, "cpa": self.cpa}


async def play_over_wire(
    scenario: Scenario,
    seed: int,
    url: str,
    requests_per_s: float,
    seconds: float,
    progress: Progress,
    found: Callable[[], None],
) -> Played:
    """``found`` is called when the bidder has answered. Play for ``seconds``, or to the scenario's end. Raises :class:`ConfigError` where no bidder of this scenario answers."""
    try:
        client = HttpClient(url, CONNECTIONS, TIMEOUT_S)
    except ValueError as error:
        raise ConfigError(f"--url {error}") from error
    try:
        await _ready(client, url)
        found()
        house = House(World(scenario, seed))
        market = WorldMarket(house, requests_per_s)
        exchange = _exchange(scenario, market, client, requests_per_s)
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        began_s = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(
                _watch(exchange, market, stop, requests_per_s, seconds, progress), name="watch"
            )
            await exchange.run(stop)
            watching.cancel()
        taken_s = time.monotonic() - began_s
    finally:
        client.close()
    report = exchange.report
    if report.unknown_exchange and not report.bids:
        raise ConfigError(_stranger(url, scenario))
    report.latency_ms = exchange.percentiles()
    sums = {name: float(house.sums[name].sum()) for name in ("value", "spend", "clicks", "conversions")}
    return Played(
        scenario=scenario.name,
        digest=scenario.digest,
        seed=seed,
        requests_per_s=requests_per_s,
        seconds=taken_s,
        times_faster=times_faster(scenario, requests_per_s),
        market_days=(market.time_ns - STARTS_AT_NS) / DAY_NS,
        unfit=house.unfit,
        expected_value=sums["value"] / 1e9,
        paid=sums["spend"] / 1e9,
        expected_clicks=sums["clicks"],
        expected_conversions=sums["conversions"],
        report=report,
    )


def _exchange(scenario: Scenario, market: WorldMarket, client: HttpClient, rate: float) -> Exchange:
    catalog = catalogue(scenario)
    profiles = {profile.id: profile for profile in catalog.exchanges}
    return Exchange(
        market,
        client,
        rate,
        {advertiser.id: advertiser.conversion_token for advertiser in catalog.advertisers},
        {campaign.id: campaign.advertiser_id for campaign in catalog.campaigns},
        lambda exchange_id, media: profiles[exchange_id].settles_by(Media(media)).value,
    )


async def _ready(client: HttpClient, url: str) -> None:
    try:
        answer = await client.get("/health/ready")
    except HttpUnavailable as error:
        raise ConfigError(
            f"no bidder at {url} ({error}). Start one ('counterpoint market catalog' says how), or name it with --url"
        ) from error
    if answer.status == 503:
        raise ConfigError(
            f"the bidder at {url} cannot bid yet: {answer.body.decode('utf-8', 'replace')[:300]}"
        )
    if answer.status != 200:
        raise ConfigError(
            f"what answers at {url} is no bidder of ours (status {answer.status} for /health/ready); see --url"
        )


async def _watch(
    exchange: Exchange,
    market: WorldMarket,
    stop: asyncio.Event,
    rate: float,
    seconds: float,
    progress: Progress,
) -> None:
    """Shows how it goes; ends it in time, and where nobody there knows our exchanges."""
    total = min(int(rate * seconds), market.house.world.scenario.auctions)
    task = progress.add_task("", total=total)
    began_s = time.monotonic()
    while not stop.is_set():
        r = exchange.report
        days = (market.time_ns - STARTS_AT_NS) / DAY_NS
        progress.update(
            task,
            completed=r.requests,
            description=f"day {days:5.2f}  bids {r.bids:,}  wins {r.wins:,}  settled {r.settled_nanos / 1e9:,.3f}",
        )
        strangers = r.unknown_exchange >= STRANGERS_MAX and not r.bids
        if strangers or time.monotonic() - began_s >= seconds:
            stop.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                await stop.wait()


def _stranger(url: str, scenario: Scenario) -> str:
    return (
        f"the bidder at {url} does not know the exchanges of {scenario.name}: it runs on another catalog. Start it with "
        f"the files of 'counterpoint market catalog {scenario.name}'"
    )


def bar() -> Progress:
    return Progress(
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
        console=Console(stderr=True, markup=False, highlight=False),
        transient=True,
    )
