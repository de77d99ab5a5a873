"""``counterpoint up``: start everything, show it, stop it cleanly, say what happened."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.live import Live
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from counterpoint.app.config import Settings
from counterpoint.app.live import AGENTS, LiveView
from counterpoint.app.supervisor import Part
from counterpoint.app.switch import keep_telling
from counterpoint.app.system import System, connect_bus
from counterpoint.app.watch import Watch, spent_nanos
from counterpoint.base.clock import Clock, SystemClock
from counterpoint.base.errors import ConfigError
from counterpoint.base.http_client import HttpClient
from counterpoint.base.money import nanos_to_micros_up
from counterpoint.bus.bus import Bus
from counterpoint.catalog.model import Catalog
from counterpoint.events.money import BalanceReported

PLAIN_EVERY_S = 5.0
DRAIN_S = 4.0  # after the traffic ends: notices on their way, settlements being booked


async def run_up(
    settings: Settings,
    config_path: Path,
    *,
    demo: bool,
    seconds: float | None,
    json_out: Path | None,
    rate: float | None,
    plain: bool,
) -> int:
    """Run until Ctrl-C, SIGTERM or ``seconds`` of traffic. Exit code 0 when everything stopped cleanly."""
    console, clock = Console(markup=False, highlight=False, soft_wrap=True), SystemClock()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    news = News(console if plain else None)
    system = System(settings, config_path, clock, news.part)
    with _one_at_a_time(settings):
        console.print("preparing: catalog, keys, bus ...")
        system.prepare()
        for warning in system.warnings:
            console.print(f"warning: {warning}", highlight=False)
        try:
            await system.start()
            console.print("starting the parts (the first start compiles the hot path, up to a minute) ...")
            with _waiting(system, plain):
                if not await _ready_or_stopped(system, stop):
                    return 0
            console.print(
                f"ready: bidder at {settings.local_url}, data in {settings.data.root}", highlight=False
            )
            outcome = await _watch(system, settings, news, stop, demo, seconds, rate, plain, console, clock)
        finally:
            console.print("stopping: traffic first, the bus last ...")
            await system.stop()
    _write(json_out, outcome)
    console.print(_closing(outcome), highlight=False)
    return 0


def _waiting(system: System, plain: bool) -> contextlib.AbstractContextManager[object]:
    """On a terminal: that something goes on, for how long, and what is waited for."""
    if plain:
        return contextlib.nullcontext()
    columns = (SpinnerColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    progress = Progress(*columns, console=Console(markup=False, highlight=False), transient=True)
    task = progress.add_task("waiting for the bidder", total=None)
    system.on_wait = lambda said: progress.update(task, description=said)
    return progress


async def _ready_or_stopped(system: System, stop: asyncio.Event) -> bool:
    ready = asyncio.create_task(system.wait_ready())
    stopped = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait({ready, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if ready in done:
        ready.result()
        return True
    ready.cancel()
    return False


async def _watch(
    system: System,
    settings: Settings,
    news: News,
    stop: asyncio.Event,
    demo: bool,
    seconds: float | None,
    rate: float | None,
    plain: bool,
    console: Console,
    clock: Clock,
) -> dict[str, Any]:
    bus = await connect_bus(settings, "console", wait_s=10.0)
    client = HttpClient(settings.local_url, connections_max=2, timeout_s=2.0)
    watch = Watch(bus, client, clock)
    title = "Counterpoint" + (" · demo" if demo else "")
    view = LiveView(watch, system.supervisor.parts, system.catalog, title)
    news.view = view
    watching = asyncio.create_task(watch.run())
    telling = asyncio.create_task(keep_telling(settings))
    before = await balances_now(bus)
    if demo:
        config = settings.config.demo
        system.start_exchange(rate or config.requests_per_s, config.seed)
    began_ns = clock.now_ns()
    try:
        if plain:
            await _lines(console, watch, view, stop, seconds)
        else:
            with Live(view, console=Console(), refresh_per_second=4, screen=False):
                await _wait(stop, seconds)
        if demo and "exchange" in system.supervisor.parts:
            console.print(f"the traffic ends; {DRAIN_S:g} s for notices that are on their way ...")
            await system.supervisor.retire("exchange")
            await asyncio.sleep(DRAIN_S)
        for task in (watching, telling):
            if task.done():
                task.result()  # it failed: say why
        seconds_run = (clock.now_ns() - began_ns) / 1e9
        return outcome_of(system, watch, settings, system.catalog, seconds_run, demo, before)
    finally:
        for task in (watching, telling):
            task.cancel()
        await asyncio.gather(watching, telling, return_exceptions=True)
        client.close()
        await bus.close()


async def _wait(stop: asyncio.Event, seconds: float | None) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()


async def _lines(
    console: Console, watch: Watch, view: LiveView, stop: asyncio.Event, seconds: float | None
) -> None:
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds if seconds is not None else float("inf")
    while not stop.is_set() and loop.time() < until:
        await _wait(stop, min(PLAIN_EVERY_S, until - loop.time()))
        spent = sum(spent_nanos(b) for b in watch.balances.values())
        latency = watch.status.get("latency_us", {})
        alive = ", ".join(name for name in AGENTS if watch.alive(name))
        console.print(
            f"{datetime.now():%H:%M:%S}  {watch.rate('requests'):,.0f} requests/s  {watch.rate('bids'):,.0f} bids/s  "
            f"{watch.rate('wins'):,.1f} wins/s  spent {nanos_to_micros_up(spent) / 1e6:,.2f}  "
            f"p99 {latency.get('p99', 0) / 1000:.2f} ms  alive: {alive or 'none yet'}",
            highlight=False,
        )


async def balances_now(bus: Bus) -> dict[str, BalanceReported]:
    """The last balance of every campaign that the bus holds."""
    found: dict[str, BalanceReported] = {}
    for delivery in await bus.last_all("money.ledger.balance.>"):
        for event in delivery.events:
            if isinstance(event, BalanceReported):
                found[event.campaign_id] = event
    return found


def spent_since(before: dict[str, BalanceReported], now: dict[str, BalanceReported]) -> int:
    """Nanos. An account is one local day's: what was spent on an earlier day than today's is not taken off."""
    return sum(
        spent_nanos(balance)
        - (spent_nanos(before[key]) if key in before and before[key].day == balance.day else 0)
        for key, balance in now.items()
    )


def outcome_of(
    system: System,
    watch: Watch,
    settings: Settings,
    catalog: Catalog,
    seconds: float,
    demo: bool,
    before: dict[str, BalanceReported],
) -> dict[str, Any]:
    """What happened, for ``--json``. Money in micros of the account currency, spend rounded up: ``spend_micros`` is the
    accounts' local day, earlier runs of it included, ``spend_micros_this_run`` what this run added (to today's)."""
    balances = watch.balances
    spent = sum(spent_nanos(b) for b in balances.values())
    overspent = sum(b.overspend_nanos for b in balances.values())
    totals = watch.totals
    agents = {}
    for name in AGENTS:
        beat, part = watch.beats.get(name), system.supervisor.parts.get(f"agent-{name}")
        agents[name] = {
            "state": beat.state if beat is not None and watch.alive(name) else "dead",
            "alive": watch.alive(name),
            "restarts": part.restarts if part is not None else 0,
            "policy_version": beat.policy_version if beat is not None else 0,
            "last_decision": beat.last_decision if beat is not None else "",
            "why": beat.why if beat is not None else "",
        }
    names = {campaign.id: campaign for campaign in catalog.campaigns}
    return {
        "seconds": round(seconds, 1),
        "requests": totals.get("requests", 0),
        "bids": totals.get("bids", 0),
        "wins": totals.get("wins", 0),
        "impressions": totals.get("impressions", 0),
        "clicks": totals.get("clicks", 0),
        "conversions": totals.get("conversions", 0),
        "spend_micros": nanos_to_micros_up(spent),
        "spend_micros_this_run": nanos_to_micros_up(max(spent_since(before, balances), 0)),
        "overspend_micros": nanos_to_micros_up(overspent),
        "campaigns": {
            key: {
                "budget_micros": balance.budget_nanos // 1000,
                "spend_micros": nanos_to_micros_up(spent_nanos(balance)),
                "late_micros": nanos_to_micros_up(balance.late_spend_nanos),
                "overspend_micros": nanos_to_micros_up(balance.overspend_nanos),
                "stopped": balance.stopped,
                "goal": names[key].goal.value if key in names else "",
            }
            for key, balance in sorted(balances.items())
        },
        "agents": agents,
        "parts": {
            name: {"state": part.state, "restarts": part.restarts}
            for name, part in system.supervisor.parts.items()
        },
        "latency_ms": {
            key: round(value / 1000, 3) for key, value in watch.status.get("latency_us", {}).items()
        },
        "no_bids": watch.status.get("no_bids", {}),
        "resolutions": {target: found.value for target, found in sorted(watch.resolutions.items())},
        "clash": msgspec.to_builtins(watch.clash) if watch.clash is not None else None,
        "exchange": read_report(settings.data.control / "exchange.json") if demo else None,
    }


def _write(path: Path | None, outcome: dict[str, Any]) -> None:
    if path is not None:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(outcome), indent=2) + b"\n")


def read_report(path: Path) -> dict[str, Any]:
    """The demo exchange's last report; empty where there is none."""
    try:
        return dict(msgspec.json.decode(path.read_bytes()))
    except (FileNotFoundError, msgspec.DecodeError):
        return {}


def _closing(outcome: dict[str, Any]) -> str:
    alive = sum(1 for agent in outcome["agents"].values() if agent["alive"])
    return (
        f"{outcome['requests']:,} requests, {outcome['bids']:,} bids, {outcome['wins']:,} wins, "
        f"spent {outcome['spend_micros_this_run'] / 1e6:,.2f} ({outcome['spend_micros'] / 1e6:,.2f} today), "
        f"overspent {outcome['overspend_micros'] / 1e6:,.2f}, "
        f"{alive} of {len(outcome['agents'])} agents alive at the end"
    )


class News:
    """Where "the bidding agent ended" goes: into the live view, or as a line."""

    def __init__(self, console: Console | None) -> None:
        self.console = console
        self.view: LiveView | None = None

    def part(self, part: Part, what: str) -> None:
        if what == "started":
            return
        text = f"{datetime.now():%H:%M:%S} {part.name} {what}"
        if what == "ended":
            text += f" (exit {part.last_exit}); it is started again, the others go on. Its log: {part.log}"
        if self.view is not None:
            self.view.news.append(text)
        if self.console is not None:
            self.console.print(text, highlight=False)


@contextlib.contextmanager
def _one_at_a_time(settings: Settings) -> Iterator[None]:
    """Two systems on one data directory would both own the ledger. Raises :class:`ConfigError`."""
    import fcntl

    settings.data.make()
    with (settings.data.control / "up.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(
                f"another 'counterpoint up' runs on {settings.data.root}: stop it, or use another data_dir"
            ) from error
        yield
