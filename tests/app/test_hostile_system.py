"""A whole system whose files break and whose agents lie: nobody falls, what is broken is said, what people say holds."""

from __future__ import annotations

import pytest

from counterpoint.app.system import connect_bus
from counterpoint.base.clock import SystemClock
from counterpoint.coordination.stops import Stop, say
from counterpoint.events import subjects
from tests.app.load import Load
from tests.app.world import Running, until

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("system")]


def pids(running: Running) -> dict[str, int | None]:
    return {name: part.pid for name, part in running.parts.items()}


async def test_one_agents_bytes_end_nobody(running: Running, load: Load) -> None:
    await running.ready()
    before = pids(running)
    bus = await connect_bus(running.settings, "agent-budget", wait_s=5.0)
    try:
        for raw in (b"\x91\x81\xa4kind\xa2\xff\xfe", b"\x91" * 200_000 + b"\x90", b"\xc1"):
            await bus.link.ask(subjects.beat("budget"), raw, wait_s=5.0)
        await bus.link.ask(subjects.beat("budget"), b"x", headers={"Status": "404"}, wait_s=5.0)
    finally:
        await bus.close()
    heard = {name: running.watch.beats[name].event_id for name in ("bidding", "creative", "ledger", "bidder")}
    await until(
        lambda: all(running.watch.beats[name].event_id != last for name, last in heard.items()),
        "everybody speaks, and is heard behind it",
    )
    assert pids(running) == before
    assert (await load.ask(100)).total() > 0


async def test_broken_files_are_said_and_stop_no_bids(running: Running, load: Load) -> None:
    await running.ready()
    before = pids(running)
    data = running.settings.data
    data.stops.write_bytes(b"{broken")
    aside = data.catalog.with_suffix(".aside")
    data.catalog.rename(aside)
    try:
        await until(lambda: "stop file" in running.log("bidder"), "the broken stop file is told")
        await until(lambda: "the catalog in use stays" in running.log("bidder"), "the lost catalog is told")
        assert (await load.ask(100)).total() > 0
        # a stop is obeyed all the same, and a resume mends the file
        at_ns = SystemClock().now_ns()
        say(data.stops, "all", Stop(stopped=True, at_ns=at_ns, person="ann"))
        await until(lambda: bool(running.watch.status.get("view", {}).get("stopped")), "the stop is obeyed")
    finally:
        aside.replace(data.catalog)
        say(data.stops, "all", Stop(stopped=False, at_ns=SystemClock().now_ns(), person="ann"))
    await running.ready()
    assert pids(running) == before
