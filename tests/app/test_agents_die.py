"""Agents that are killed or hang: bidding goes on, the live view says so, the supervisor starts them again, and they go
on from their snapshots."""

from __future__ import annotations

import asyncio
import io
import signal

import msgspec
import pytest
from rich.console import Console

from counterpoint.app.agent import Saved
from counterpoint.app.live import LiveView
from counterpoint.base.files import read_bytes
from counterpoint.coordination.targets import AGENTS
from counterpoint.events import subjects
from counterpoint.events.decisions import AgentBeat
from tests.app.load import Load
from tests.app.world import Running, until

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("system")]


def _saved(running: Running, name: str) -> Saved:
    raw = read_bytes(running.settings.data.snapshots / f"{name}.bin")
    assert raw is not None, f"{name} has no snapshot"
    return msgspec.msgpack.decode(raw, type=Saved)


async def test_agents_killed_under_load_go_on_from_their_snapshots(running: Running, load: Load) -> None:
    await running.ready()
    view = LiveView(running.watch, running.parts, running.system.catalog, "test")
    load.go()
    snapshots = [running.settings.data.snapshots / f"{name}.bin" for name in AGENTS]
    await until(lambda: all(path.exists() for path in snapshots), "every agent has a snapshot")
    await until(lambda: all(running.watch.alive(name) for name in AGENTS), "every agent is alive")
    before = {name: running.watch.beats[name] for name in AGENTS}
    saved = {name: _saved(running, name) for name in AGENTS}
    policies = (await running.status())["policies"]
    assert running.bus is not None
    ear = await running.bus.subscribe(
        subjects.DECISIONS, ["decisions.beat.>"], since_ns=running.system.clock.now_ns()
    )

    killed = {name: running.kill(f"agent-{name}") for name in AGENTS}
    bids_before = load.counts["bids"]
    await until(
        lambda: all((f"agent-{name}", "ended", -9) in running.news for name in AGENTS), "the news of it"
    )
    await until(lambda: load.counts["bids"] > bids_before + 20, "bidding goes on")
    for name in AGENTS:
        assert "running" not in view.state_of(name), "the view does not show a dead agent's last state"
        await running.back(f"agent-{name}", killed[name])

    first: dict[str, AgentBeat] = {}  # of the new incarnations
    latest: dict[str, AgentBeat] = {}
    async with asyncio.timeout(60):
        while len(latest) < len(AGENTS) or any(beat.state != "running" for beat in latest.values()):
            for delivery in await ear.fetch(256, 1.0):
                for beat in delivery.events:
                    assert isinstance(beat, AgentBeat)
                    old = before.get(beat.agent)
                    if old is not None and beat.incarnation != old.incarnation:
                        first.setdefault(beat.agent, beat)
                        latest[beat.agent] = beat
    await ear.close()
    await until(lambda: all(running.watch.alive(name) for name in AGENTS), "the view shows them alive")
    now = (await running.status())["policies"]
    await load.pause()
    for name in AGENTS:
        facts = saved[name].positions.get(subjects.FACTS, 0)
        assert facts > 0, f"{name}'s snapshot knows no position"
        assert first[name].position >= facts, (
            f"{name} began before its snapshot\n{running.log(f'agent-{name}')}"
        )
        assert first[name].policy_version >= saved[name].policy_version
        assert now.get(name, 0) >= policies.get(name, 0), f"the bidder went back to an older {name} policy"
        assert not (running.settings.data.snapshots / f"{name}.broken").exists()
    print({name: (before[name].policy_version, first[name].policy_version) for name in AGENTS})


async def test_an_agent_that_hangs_is_shown_as_silent_and_stops_nobody(running: Running, load: Load) -> None:
    view = LiveView(running.watch, running.parts, running.system.catalog, "test")
    await until(lambda: running.watch.alive("bidding"), "bidding is alive")
    running.kill("agent-bidding", signal.SIGSTOP)
    try:
        await until(lambda: not running.watch.alive("bidding"), "bidding is silent")
        assert "silent" in view.state_of("bidding")
        assert sum((await load.ask(20)).values()) > 0
        screen = io.StringIO()
        Console(width=160, file=screen).print(view)
        shown = screen.getvalue()
    finally:
        running.kill("agent-bidding", signal.SIGCONT)
    assert "silent" in shown
    assert "who is alive" in shown
    await until(lambda: running.watch.alive("bidding"), "bidding is alive again")
