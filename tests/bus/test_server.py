"""The embedded server: its files, its port, and what the streams do at their bounds."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from counterpoint.base.errors import BusUnavailable, ConfigError
from counterpoint.bus.nats import NatsBus
from counterpoint.bus.roles import load_credentials
from counterpoint.bus.server import NatsServer, server_binary
from counterpoint.events import subjects
from counterpoint.events.subjects import DECISIONS, MONEY
from tests.bus.samples import BEATS, NOTICES, beat, ids, notice, policy
from tests.bus.worlds import BULK, Embedded, small_limits


async def connect(server: NatsServer, role: str) -> NatsBus:
    credential = server.credential(role)
    return await NatsBus(
        server.url, credential.user, credential.password, f"test-{role}", publish_wait_s=0.5
    ).open()


def test_the_binary_is_the_one_of_the_wheel() -> None:
    assert server_binary().is_relative_to(Path(sys.prefix).resolve())


async def test_secrets_are_ours_alone_and_stay_the_same(tmp_path: Path) -> None:
    server = NatsServer(tmp_path / "nats", tmp_path / "secrets")
    with pytest.raises(ConfigError, match="no bus credentials"):
        server.credential("bidder")
    server.prepare()
    first = load_credentials(server.credentials_path)
    assert len({credential.password for credential in first.values()}) == len(first)
    assert all(len(credential.password) >= 32 for credential in first.values())
    for path in (tmp_path / "secrets").iterdir():
        assert path.stat().st_mode & 0o077 == 0, path
    assert (tmp_path / "secrets").stat().st_mode & 0o077 == 0
    again = NatsServer(tmp_path / "nats", tmp_path / "secrets", bidder_ids=("b1", "b2"))
    again.prepare()
    assert load_credentials(again.credentials_path) == first
    assert again.port == server.port
    with pytest.raises(ConfigError, match="no bus role"):
        again.credential("nobody")
    (tmp_path / "secrets" / "bus.json").write_text("{broken")
    with pytest.raises(ConfigError, match="not bus credentials"):
        again.credential("bidder")


def listening_on(port: int) -> set[str]:
    """The local addresses of listening sockets, as Linux writes them."""
    rows = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
    ]
    return {row[1].split(":")[0] for row in rows if row[3] == "0A" and int(row[1].split(":")[1], 16) == port}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/net")
async def test_it_listens_on_loopback_only(embedded: Embedded) -> None:
    assert listening_on(embedded.server.port) == {"0100007F"}


async def test_a_second_server_on_the_directory_is_refused_with_the_cure(embedded: Embedded) -> None:
    with pytest.raises(ConfigError, match="is taken"):
        NatsServer(embedded.server.directory).spawn()


async def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    server = NatsServer(tmp_path)
    server.prepare()
    (tmp_path / "jetstream").write_text("a file where the directory should be")
    with pytest.raises(BusUnavailable, match="nats-server ended"):
        await server.start()
    assert not server.alive()


async def test_stop_and_start_keep_port_data_and_last_values(tmp_path: Path) -> None:
    server = NatsServer(tmp_path, limits=small_limits())
    await server.start()
    port = server.port
    bus = await connect(server, "bidder")
    await bus.publish(NOTICES, [notice("1")])
    server.stop()
    assert not server.alive()
    assert server.pid is None
    again = NatsServer(
        tmp_path, limits=small_limits(money_bytes=32 * 1024 * 1024)
    )  # a changed bound is applied
    await again.start()
    assert again.port == port
    for _ in range(500):
        if bus.connected():
            break
        await asyncio.sleep(0.01)
    last = await bus.last(NOTICES)
    assert last is not None
    assert ids(last.events) == ["settle-1"]
    await bus.close()
    again.stop()


async def test_last_values_outlive_the_age_of_their_stream(tmp_path: Path) -> None:
    server = NatsServer(tmp_path, limits=small_limits(age_s=1))
    await server.start()
    bus = await connect(server, "agent-bidding")
    await bus.publish(subjects.policy("bidding"), [policy("1")])
    await bus.publish(subjects.policy("bidding"), [policy("2")])
    fresh = await bus.subscribe(DECISIONS, ["decisions.>"])
    assert len(await fresh.fetch()) > 0
    for _ in range(60):
        await asyncio.sleep(0.1)
        if not await (await bus.subscribe(DECISIONS, ["decisions.>"])).fetch(wait_s=0.0):
            break
    await bus.publish(BEATS, [beat("1")])
    last = await bus.last(subjects.policy("bidding"))
    assert last is not None
    assert (last.stream, last.sequence, ids(last.events)) == (DECISIONS, 2, ["policy-bidding-2"])
    assert [d.sequence for d in await bus.last_all("decisions.>")] == [2, 3]
    await bus.close()
    server.stop()


async def test_money_waits_when_its_stream_is_full(tmp_path: Path) -> None:
    server = NatsServer(tmp_path, limits=small_limits(money_bytes=100_000))
    await server.start()
    bus = await connect(server, "bidder")
    large = [replace(notice(str(n)), line_item_id=BULK.decode()) for n in range(20)]
    for event in large[:5]:
        await bus.publish(NOTICES, [event])
    answers = await asyncio.gather(*(bus.publish(NOTICES, [e]) for e in large[5:]), return_exceptions=True)
    assert all(isinstance(answer, BusUnavailable) for answer in answers[-5:])
    first = (await (await bus.subscribe(MONEY, [NOTICES])).fetch())[0]
    assert first.sequence == 1  # nothing was dropped to make room
    await bus.close()
    server.stop()


async def test_a_server_that_hangs_is_unavailable_not_a_hang(embedded: Embedded) -> None:
    bus = await connect(embedded.server, "bidder")
    pid = embedded.server.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(BusUnavailable):
            async with asyncio.timeout(3):
                await bus.publish(NOTICES, [notice("1")])
    finally:
        os.kill(pid, signal.SIGCONT)
    assert await bus.publish(NOTICES, [notice("1")]) == 1  # the retry, of what was stored or not
    await bus.close()


@pytest.mark.parametrize("published_anew", [2, 8])
async def test_a_stream_lost_and_made_anew_is_read_from_its_beginning(
    embedded: Embedded, published_anew: int
) -> None:
    """Also where it has grown past the old position meanwhile."""
    bus = await embedded.bus("bidder")
    subscription = await bus.subscribe(MONEY, [NOTICES])
    for n in range(5):
        await bus.publish(NOTICES, [notice(f"old-{n}")])
    assert len(await subscription.fetch(wait_s=2.0)) > 0
    while await subscription.fetch(wait_s=0.05):
        pass
    await embedded.crash()
    shutil.rmtree(embedded.server.directory / "jetstream")
    await embedded.restart()
    for n in range(published_anew):
        await bus.publish(NOTICES, [notice(f"new-{n}")])
    got = await subscription.fetch(wait_s=2.0)
    assert [d.sequence for d in got] == list(range(1, published_anew + 1))


async def test_a_bus_that_is_away_at_the_start_is_used_once_it_is_there(tmp_path: Path) -> None:
    server = NatsServer(tmp_path, limits=small_limits())
    server.prepare()
    credential = server.credential("bidder")
    absent = NatsBus(server.url, credential.user, credential.password, "early")
    with pytest.raises(BusUnavailable):
        await absent.open(wait_s=0.1)
    bus = NatsBus(server.url, credential.user, credential.password, "early")
    await bus.open(wait_s=0.05, required=False)
    assert not bus.connected()
    subscription = await bus.subscribe(MONEY, [NOTICES])
    with pytest.raises(BusUnavailable):
        await bus.publish(NOTICES, [notice("1")])
    waiting = asyncio.create_task(subscription.fetch(wait_s=20.0))
    await server.start()
    for _ in range(500):
        if bus.connected():
            break
        await asyncio.sleep(0.01)
    await bus.publish(NOTICES, [notice("1")])
    async with asyncio.timeout(5):
        assert [d.sequence for d in await waiting] == [1]
    await bus.close()
    with pytest.raises(BusUnavailable):
        await bus.publish(NOTICES, [notice("2")])
    server.stop()


def test_a_free_port_is_chosen_once(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        server = NatsServer(tmp_path)
        assert server.port != holder.getsockname()[1]
    server.prepare()
    assert NatsServer(tmp_path).port == server.port
