"""A disk that is full, or was: what goes on, what is said, what is started again."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path

import msgspec
import pytest

from counterpoint.app.agent import AgentRunner
from counterpoint.base.clock import SystemClock
from counterpoint.budget.learner import BudgetLearner
from counterpoint.bus.memory import MemoryBus
from counterpoint.bus.server import NatsServer, server_binary
from tests.bidder.world import make_catalog


async def test_streams_that_are_switched_off_are_seen(tmp_path: Path) -> None:
    """As a full disk leaves the server: it answers, and keeps nothing."""
    server = NatsServer(tmp_path / "nats", tmp_path / "secrets")
    assert await _looked(server) is None
    await server.start()
    try:
        assert await _looked(server) is True
    finally:
        server.stop()
    path = server.secrets / "nats.conf"
    config = msgspec.json.decode(path.read_bytes())
    del config["jetstream"], config["accounts"]["BUS"]["jetstream"]
    path.write_bytes(msgspec.json.encode(config))
    process = await asyncio.create_subprocess_exec(str(server_binary()), "-c", str(path))
    try:
        server.wait_ready()
        assert await _looked(server) is False
    finally:
        process.terminate()
        await process.wait()


async def _looked(server: NatsServer) -> bool | None:
    if not server.credentials_path.exists():
        server.prepare()
    return await server.keeps_streams()


def test_a_write_that_failed_is_read_from_the_log_once(tmp_path: Path) -> None:
    server = NatsServer(tmp_path / "nats", tmp_path / "secrets")
    assert not server.could_not_store()
    log = tmp_path / "nats" / "server.log"
    log.parent.mkdir()
    log.write_text("[1] [INF] Server is ready\n" * 10_000)
    assert not server.could_not_store()
    with log.open("a") as more:
        more.write("[ERR] JetStream failed to store a msg on stream 'BUS > MONEY': no space left on device\n")
    assert server.could_not_store()
    assert not server.could_not_store()
    log.write_text("[ERR] JetStream out of space, will be DISABLED\n")  # rotated: shorter than what was seen
    assert server.could_not_store()


async def test_an_agent_whose_snapshot_cannot_be_written_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = SystemClock()

    failed = asyncio.Event()
    loop = asyncio.get_running_loop()

    def full(*_: object) -> None:
        loop.call_soon_threadsafe(failed.set)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("counterpoint.app.agent.write_atomically", full)
    monkeypatch.setattr("counterpoint.app.agent.SNAPSHOT_S", 0.05)
    bus = MemoryBus(clock, wire=True)
    runner = AgentRunner(
        BudgetLearner(make_catalog()), bus, clock, tmp_path / "budget.bin", lambda: False, lambda: None
    )
    stop = asyncio.Event()
    running = asyncio.create_task(runner.run(stop))
    await asyncio.wait_for(failed.wait(), 10)
    failed.clear()
    await asyncio.wait_for(failed.wait(), 10)  # it went on, and tried again
    assert not running.done()
    assert "No space left" in caplog.text
    stop.set()
    await asyncio.wait_for(running, 10)
