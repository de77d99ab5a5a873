"""A whole system in a temporary folder: the demo's catalog with short notice delays, free ports, real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import select

from counterpoint.app.config import Settings, load_settings
from counterpoint.app.demo import example_catalog
from counterpoint.app.supervisor import Part
from counterpoint.app.system import System, connect_bus
from counterpoint.app.watch import Watch
from counterpoint.base.clock import SystemClock
from counterpoint.base.http_client import HttpClient, HttpUnavailable
from counterpoint.bus.nats import NatsBus
from counterpoint.ledger.migrate import open_existing
from counterpoint.ledger.tables import ACCOUNTS, SETTLEMENTS
from counterpoint.ledger.verify import Verification, verify

SMALL = "harbor-teaser"  # a campaign whose money ends while the tests run
ALLOWANCE_LIFE_S = 12  # a bidder goes on without the ledger for no longer
WIN_DELAY_MS, BILLING_DELAY_MS = 1_500, 2_500  # what comes later is late spend


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def catalog_text() -> str:
    """The demo's catalog, where money is held for seconds only, and one budget is small."""
    text = example_catalog("demo").read_text("utf-8")
    for old, new in (
        ("win_notice_delay_p999_ms = 5000", f"win_notice_delay_p999_ms = {WIN_DELAY_MS}"),
        ("billing_delay_max_ms = 60000", f"billing_delay_max_ms = {BILLING_DELAY_MS}"),
        ('daily_budget = "1.50"', 'daily_budget = "0.50"'),
        ('budget_min = "1.00"', 'budget_min = "0.40"'),
        ('budget_max = "2.00"', 'budget_max = "0.60"'),
    ):
        assert old in text, f"the demo's catalog has no {old!r} any more"
        text = text.replace(old, new)
    return text


def write_world(folder: Path, port: int | None = None, catalog: str | None = None) -> Path:
    """A configuration with its catalog; returns the configuration's path."""
    (folder / "catalog.toml").write_text(catalog if catalog is not None else catalog_text(), "utf-8")
    config = folder / "counterpoint.toml"
    config.write_text(
        f'catalog = "catalog.toml"\ndata_dir = "var"\n\n[bidder]\nport = {port or free_port()}\n'
        f"\n[ledger]\nallowance_life_s = {ALLOWANCE_LIFE_S}\n"
        '\n[experiment]\nname = "test"\nno_agents = 0.1\n',
        "utf-8",
    )
    return config


class Books(msgspec.Struct, frozen=True):
    """The ledger's database as it stands."""

    settlements: dict[str, int]  # nanos booked, by bid id
    accounts: dict[tuple[str, str], dict[str, Any]]
    audit: Verification


def read_books(settings: Settings) -> Books:
    engine = open_existing(settings.ledger_url)
    try:
        reader = engine.execution_options(reads=True)
        with reader.connect() as connection, connection.begin():  # one transaction: one consistent picture
            audit = verify(connection)
            booked = {
                str(row.bid_id): int(row.on_time_nanos + row.late_nanos + row.overspend_nanos)
                for row in connection.execute(select(SETTLEMENTS))
            }
            accounts = {
                (str(row.campaign_id), str(row.day)): dict(row._mapping)
                for row in connection.execute(select(ACCOUNTS))
            }
    finally:
        engine.dispose()
    return Books(booked, accounts, audit)


def money_problems(books: Books) -> list[str]:
    """What would break the promise about money; empty when it is kept."""
    problems = list(books.audit.problems)
    for (campaign, day), account in books.accounts.items():
        promised = account["spent_on_time_nanos"] + account["reserved_nanos"]
        if promised > account["budget_nanos"]:
            problems.append(f"{campaign} {day}: {promised} of {account['budget_nanos']} promised")
        if account["overspend_nanos"] and not (account["stopped"] and account["stop_reason"]):
            problems.append(f"{campaign} {day}: overspend {account['overspend_nanos']} unexplained")
    return problems


class Running:
    """A started system, its eyes (:class:`Watch`), and hands to kill its parts with."""

    def __init__(self, config: Path) -> None:
        self.config = config
        self.settings = load_settings(config)
        self.news: list[tuple[str, str, int | None]] = []
        self.system = System(self.settings, config, SystemClock(), self._on_change)
        self.client = HttpClient(self.settings.local_url, connections_max=4, timeout_s=3.0)
        self.bus: NatsBus | None = None
        self._watching: asyncio.Task[None] | None = None
        self._watch: Watch | None = None

    def _on_change(self, part: Part, what: str) -> None:
        self.news.append((part.name, what, part.last_exit))

    @property
    def watch(self) -> Watch:
        assert self._watch is not None
        return self._watch

    @property
    def parts(self) -> dict[str, Part]:
        return self.system.supervisor.parts

    async def start(self) -> None:
        self.system.prepare()
        await self.system.start()
        await self.system.wait_ready()
        self.bus = await connect_bus(self.settings, "console", wait_s=10.0)
        self._watch = Watch(self.bus, self.client, SystemClock())
        self._watching = asyncio.create_task(self._watch.run())

    async def stop(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        if self.bus is not None:
            await self.bus.close()
        self.client.close()
        await self.system.stop()

    def kill(self, name: str, number: int = signal.SIGKILL) -> int:
        """Returns the pid that was hit."""
        pid = self.parts[name].pid
        assert pid is not None, f"{name} is not running"
        os.kill(pid, number)
        return pid

    async def back(self, name: str, killed_pid: int) -> None:
        """Until the supervisor has started the part again."""
        await until(lambda: self.parts[name].pid not in (None, killed_pid), f"{name} is started again")

    async def status(self) -> dict[str, Any]:
        return dict(msgspec.json.decode((await self.client.get("/control/status")).body))

    async def ready(self, wait_s: float = 60.0) -> None:
        """Until the bidder says that it can bid."""
        said = ""
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline:
            try:
                answer = await self.client.get("/health/ready")
            except HttpUnavailable as error:
                said = str(error)
            else:
                if answer.status == 200:
                    return
                said = answer.body.decode()
            await asyncio.sleep(0.1)
        raise AssertionError(f"the bidder is not ready after {wait_s} s: {said}\n{self.log('bidder')}")

    def log(self, name: str) -> str:
        return (self.settings.data.logs / f"{name}.log").read_text("utf-8", "replace")[-3_000:]


async def until(holds: Callable[[], bool], what: str, wait_s: float = 30.0) -> None:
    """Wait for something that must come about; how long it takes is not what is tested."""
    deadline = time.monotonic() + wait_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {wait_s} s: {what}"
        await asyncio.sleep(0.05)
