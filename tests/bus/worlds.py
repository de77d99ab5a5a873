"""The buses under the one contract: in memory, the embedded server, and a server somebody else runs."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from pathlib import Path
from typing import Protocol

import msgspec

from counterpoint.base.clock import ManualClock
from counterpoint.bus.bus import Bus
from counterpoint.bus.memory import MemoryBus
from counterpoint.bus.nats import NatsBus
from counterpoint.bus.roles import Credential
from counterpoint.bus.server import NatsServer, server_binary
from counterpoint.bus.streams import StreamLimits, ensure_streams

SMALL_FACTS_BYTES = 200_000
BULK = b"." * 10_000  # a batch of about this size: some 20 fit into FACTS where it is small
MIB = 1024 * 1024


def small_limits(
    facts_bytes: int = 64 * MIB, money_bytes: int = 64 * MIB, age_s: int = 3_600
) -> StreamLimits:
    return StreamLimits(
        money_bytes=money_bytes,
        facts_bytes=facts_bytes,
        decisions_bytes=64 * MIB,
        decisions_age_s=age_s,
        latest_bytes=64 * MIB,
    )


class World(Protocol):
    small: bool

    async def bus(self, role: str) -> Bus: ...

    async def crash(self) -> None:
        """As ``kill -9``."""
        ...

    async def restart(self) -> None:
        """And everybody is connected again."""
        ...

    async def close(self) -> None: ...


class InMemory:
    def __init__(self, small: bool) -> None:
        self.small = small
        self.clock = ManualClock()
        self._bus = MemoryBus(self.clock, messages_max=20 if small else 100_000, wire=True)

    async def bus(self, role: str) -> Bus:
        return self._bus

    async def crash(self) -> None:
        self._bus.go_away()

    async def restart(self) -> None:
        self._bus.come_back()

    async def close(self) -> None:
        await self._bus.close()


class _Networked:
    def __init__(self, small: bool) -> None:
        self.small = small
        self.limits = small_limits(SMALL_FACTS_BYTES) if small else small_limits()
        self.buses: dict[str, NatsBus] = {}

    def credential(self, role: str) -> Credential:
        raise AssertionError

    @property
    def url(self) -> str:
        raise AssertionError

    async def bus(self, role: str) -> Bus:
        if role not in self.buses:
            credential = self.credential(role)
            bus = NatsBus(self.url, credential.user, credential.password, f"test-{role}", publish_wait_s=2.0)
            self.buses[role] = await bus.open()
        return self.buses[role]

    async def all_connected(self, connected: bool) -> None:
        for _ in range(1_000):
            if all(bus.connected() is connected for bus in self.buses.values()):
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"connected should be {connected}")


class Embedded(_Networked):
    """Through each role's own account, as the parts run."""

    def __init__(self, directory: Path, small: bool) -> None:
        super().__init__(small)
        self.server = NatsServer(directory, limits=self.limits)

    @property
    def url(self) -> str:
        return self.server.url

    def credential(self, role: str) -> Credential:
        return self.server.credential(role)

    async def crash(self) -> None:
        self.server.kill()
        await self.all_connected(False)

    async def restart(self) -> None:
        await self.server.start()
        await self.all_connected(True)

    async def close(self) -> None:
        for bus in self.buses.values():
            await bus.close()
        self.server.stop()


class External(_Networked):
    """One account, one user: a server we know by its URL alone."""

    def __init__(self, directory: Path, small: bool) -> None:
        super().__init__(small)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = int(probe.getsockname()[1])
        self._config = directory / "external.conf"
        self._config.write_bytes(
            msgspec.json.encode(
                {
                    "listen": f"127.0.0.1:{self._port}",
                    "max_payload": 8 * MIB,
                    "jetstream": {"store_dir": str(directory / "store"), "sync_interval": "always"},
                    "authorization": {"users": [{"user": "somebody", "password": "s3cret"}]},
                }
            )
        )
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self._port}"

    def credential(self, role: str) -> Credential:
        return Credential("somebody", "s3cret")

    async def crash(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        await self.all_connected(False)

    def _spawn(self) -> None:
        self._process = subprocess.Popen(
            [str(server_binary()), "-c", str(self._config)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    async def restart(self) -> None:
        self._spawn()
        for attempt in range(100):
            try:
                with socket.create_connection(("127.0.0.1", self._port), 0.2):
                    break
            except OSError:
                await asyncio.sleep(0.01 * (attempt + 1))
        await ensure_streams(self.url, self.credential("admin"), self.limits)
        await self.all_connected(True)

    async def close(self) -> None:
        for bus in self.buses.values():
            await bus.close()
        if self._process is not None:
            self._process.terminate()
            self._process.wait()


async def make_world(kind: str, directory: Path, *, small: bool = False) -> World:
    if kind == "memory":
        return InMemory(small)
    world = Embedded(directory, small) if kind == "embedded" else External(directory, small)
    await world.restart()
    return world
