"""What each process runs: ``counterpoint part NAME --config FILE``. Started by the supervisor, or by systemd, or by hand."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import msgspec
import uvloop

from counterpoint.app.agent import AgentRunner
from counterpoint.app.config import Config, Settings
from counterpoint.app.system import connect_bus
from counterpoint.base.clock import Clock, SystemClock
from counterpoint.base.errors import BusRefused, BusUnavailable
from counterpoint.base.files import write_atomically
from counterpoint.base.http_client import HttpClient
from counterpoint.bidding.learner import BiddingLearner
from counterpoint.budget.learner import BudgetLearner
from counterpoint.budget.state import BudgetConfig
from counterpoint.bus.bus import Bus
from counterpoint.catalog.model import Catalog, Media
from counterpoint.catalog.store import read_catalog
from counterpoint.coordination.stops import StopWatch
from counterpoint.creative.learner import CreativeLearner
from counterpoint.events import subjects
from counterpoint.events.agent import Learner
from counterpoint.events.decisions import AgentBeat
from counterpoint.feedback.learner import FeedbackLearner
from counterpoint.market.demo_market import DemoMarket
from counterpoint.market.demo_world import DemoWorld
from counterpoint.market.exchange import Exchange
from counterpoint.record.recorder import Recorder

log = logging.getLogger(__name__)


class LiveLearner(Learner, Protocol):
    def set_catalog(self, catalog: Catalog) -> None: ...


LEARNERS: dict[str, Callable[[Catalog, Config], LiveLearner]] = {
    "budget": lambda catalog, config: BudgetLearner(
        catalog, config=BudgetConfig(period_s=config.budget.period_s, shadow=config.budget.shadow)
    ),
    "bidding": lambda catalog, _: BiddingLearner(catalog),
    "creative": lambda catalog, _: CreativeLearner(catalog),
    "feedback": lambda catalog, _: FeedbackLearner(catalog),
}
STOP_POLL_S = 0.2
BEAT_S = 0.5
FORGET_EVERY_S = 3_600.0


def run(main: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    """Run one part until SIGTERM or SIGINT; then it gets to finish."""
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )

    async def guarded() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await main(stop)

    uvloop.run(guarded())


async def until(stop: asyncio.Event, *jobs: Coroutine[Any, Any, None]) -> None:
    """Run the jobs side by side until ``stop``; a job that fails takes the part down with it."""
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(job) for job in jobs]
        await stop.wait()
        for task in running:
            task.cancel()


async def watch_stops(watch: StopWatch, on_change: Callable[[], None] = lambda: None) -> None:
    while True:
        if watch.poll():
            on_change()
        await asyncio.sleep(STOP_POLL_S)


# ---- agents


async def agent(settings: Settings, name: str, stop: asyncio.Event) -> None:
    clock = SystemClock()
    data = settings.data
    learner = LEARNERS[name](read_catalog(settings.catalog_url), settings.config)
    stops = StopWatch(data.stops)

    def reload() -> None:
        learner.set_catalog(read_catalog(settings.catalog_url))

    bus = await connect_bus(settings, f"agent-{name}")
    runner = AgentRunner(
        learner, bus, clock, data.snapshots / f"{name}.bin", lambda: stops.stops.agent_stopped(name), reload
    )
    try:
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(watch_stops(stops))
            await runner.run(stop)
            watching.cancel()
    finally:
        await bus.close()


# ---- recorder


async def recorder(settings: Settings, stop: asyncio.Event) -> None:
    clock, data, config = SystemClock(), settings.data, settings.config.recorder
    kept = Recorder(data.decisions, data.snapshots / "recorder.bin", config.sample_rate)
    bus = await connect_bus(settings, "recorder")

    async def read() -> None:
        wanted = ("facts.bids.>", "facts.outcomes.>")
        subscription = await bus.subscribe(subjects.FACTS, wanted, after=kept.position)
        while True:
            try:
                deliveries = await subscription.fetch(messages_max=64, wait_s=1.0)
            except BusUnavailable:
                await asyncio.sleep(0.2)
                continue
            kept.on(deliveries, clock.now_ns())

    async def forget() -> None:
        while True:
            kept.forget_older_than(clock.now_ns(), config.keep_days)
            await asyncio.sleep(FORGET_EVERY_S)

    def said() -> tuple[str, str]:
        return (
            f"{kept.rows_written} decisions kept",
            f"{kept.wins_without_input} wins came too late for their input",
        )

    try:
        await until(stop, read(), forget(), beats(bus, clock, "recorder", said))
    finally:
        kept.flush(clock.now_ns())
        await bus.close()


async def beats(bus: Bus, clock: Clock, name: str, said: Callable[[], tuple[str, str]]) -> None:
    """A sign of life every half second."""
    incarnation = f"{clock.now_ns():x}"
    count = 0
    while True:
        count += 1
        now_ns = clock.now_ns()
        decision, why = said()
        beat = AgentBeat(
            event_id=f"beat-{name}-{incarnation}-{count}",
            happened_at_ns=now_ns,
            recorded_at_ns=now_ns,
            source=name,
            agent=name,
            incarnation=incarnation,
            state="running",
            last_decision=decision,
            why=why,
        )
        try:
            await bus.publish(subjects.beat(name), [beat])
        except (BusUnavailable, BusRefused) as error:
            log.warning("no beat: %s", error)
        await asyncio.sleep(BEAT_S)


# ---- the demo's exchange


async def exchange(settings: Settings, rate: float, seed: int, stop: asyncio.Event) -> None:
    catalog = read_catalog(settings.catalog_url)
    profiles = {profile.id: profile for profile in catalog.exchanges}
    client = HttpClient(settings.local_url, connections_max=64, timeout_s=2.0)
    report_path = settings.data.control / "exchange.json"
    first = SystemClock().now_ns() // 1_000_000_000 % 10**9 * 1_000  # another start asks other questions
    market = Exchange(
        DemoMarket(DemoWorld(seed), first),
        client,
        rate,
        {advertiser.id: advertiser.conversion_token for advertiser in catalog.advertisers},
        {campaign.id: campaign.advertiser_id for campaign in catalog.campaigns},
        lambda exchange_id, media: profiles[exchange_id].settles_by(Media(media)).value,
    )

    def write() -> None:
        market.report.latency_ms = market.percentiles()
        write_atomically(report_path, msgspec.json.encode(market.report))

    async def report() -> None:
        while True:
            await asyncio.sleep(1.0)
            await asyncio.to_thread(write)

    async with asyncio.TaskGroup() as tasks:
        reporting = tasks.create_task(report())
        await market.run(stop)
        reporting.cancel()
    write()
    client.close()
