"""One machine's worth of Counterpoint: what is prepared, which parts run, in which order they start and stop."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import Struct

from counterpoint.app.config import Settings
from counterpoint.app.supervisor import Part, Supervisor, python_part
from counterpoint.base.clock import Clock
from counterpoint.base.errors import ConfigError, CounterpointError
from counterpoint.base.files import read_bytes, write_atomically
from counterpoint.base.http_client import HttpClient, HttpUnavailable
from counterpoint.bidder.keys import load_keys, new_keys
from counterpoint.bus.nats import NatsBus
from counterpoint.bus.roles import ADMIN, Credential, load_credentials
from counterpoint.bus.server import HOST as NATS_HOST
from counterpoint.bus.server import NatsServer
from counterpoint.bus.streams import StreamLimits, ensure_streams
from counterpoint.catalog.load import check_catalog
from counterpoint.catalog.model import Catalog
from counterpoint.catalog.store import save_catalog
from counterpoint.coordination.targets import AGENTS

START_ORDER = ("ledger", *(f"agent-{name}" for name in AGENTS), "recorder", "bidder")
STOP_ORDER = (
    ("exchange",),
    ("bidder",),
    (*(f"agent-{name}" for name in AGENTS), "recorder"),
    ("ledger",),
    ("nats",),
)
READY_POLL_S = 0.1
PORT_WAIT_S = 3.0  # for the parts of a system that was killed a moment ago
START_TRIES_MAX = 4
STREAMS_LOOK_S = 2.0
ROOM_BYTES = 16 * 1024 * 1024  # with less, starting it again would change nothing
STREAMS_OFF_LOOKS = 3  # a server that has just started reads its disk first


class Runtime(Struct, frozen=True):
    """Where the running parts are reached; ``control/runtime.json``, for the command line."""

    bidder: str
    bus: str
    pids: dict[str, int] = {}


class SystemFailed(CounterpointError):
    """A part did not come up; the message ends with its log."""


class System:
    """Prepare, start, watch, stop. ``config_path``: what the parts are told to read."""

    def __init__(
        self, settings: Settings, config_path: Path, clock: Clock, on_change: Callable[[Part, str], None]
    ) -> None:
        self.settings = settings
        self.config_path = config_path
        self.supervisor = Supervisor(clock, on_change)
        self.clock = clock
        self.warnings: list[str] = []
        self.catalog = Catalog()
        self.server: NatsServer | None = None
        self.on_wait: Callable[[str], None] = lambda said: None  # hears what the start waits for
        self._keeping: list[asyncio.Task[None]] = []

    def prepare(self) -> None:
        """Folders, keys, credentials, catalog. Raises :class:`ConfigError` that says what to mend."""
        settings, data = self.settings, self.settings.data.make()
        loaded = check_catalog(settings.catalog_path)
        self.warnings += [str(found) for found in loaded.warnings]
        self.catalog = loaded.catalog
        save_catalog(settings.catalog_url, loaded.catalog)
        if not data.hmac_keys.exists():
            new_keys(data.hmac_keys)
        load_keys(data.hmac_keys)
        self.server = embedded_server(settings)
        if self.server is not None:
            self.server.prepare()

    async def _free_ports(self) -> None:
        """Whoever holds a port that a part needs would make it start again for ever: say so before anything starts.
        The parts of a system that was killed let go within moments, so this waits a little."""
        config = self.settings.config.bidder
        cure = f"stop what listens there, or set another [bidder] port in {self.config_path}"
        needed = [(config.host, config.port, "the bidder", cure)]
        if self.server is not None:
            cure = f"stop what listens there, or remove {self.server.directory / 'port'}: a free one is chosen then"
            needed.append((NATS_HOST, self.server.port, "the bus", cure))
        deadline = asyncio.get_running_loop().time() + PORT_WAIT_S
        for host, port, who, cure in needed:
            while (why := why_not_bound(host, port)) is not None:
                if asyncio.get_running_loop().time() > deadline:
                    raise ConfigError(f"{who} cannot listen on {host}:{port} ({why}): {cure}")
                await asyncio.sleep(READY_POLL_S)

    async def start(self) -> None:
        """Raises :class:`ConfigError` when a port is somebody else's."""
        await self._free_ports()
        if self.server is not None:
            data = self.settings.data
            part = Part("nats", self.server.prepare(), data.logs / "nats.log")
            self._keep(part)
            await asyncio.to_thread(self._wait_for_nats)
            await self.server.ensure_streams()
            self._keeping.append(
                asyncio.create_task(self._watch_streams(self.server, part), name="watch-streams")
            )
        else:
            await ensure_streams(bus_url(self.settings), bus_credential(self.settings, ADMIN), StreamLimits())
        for name in START_ORDER:
            self._keep(self._part(name))

    def start_exchange(self, rate: float, seed: int) -> None:
        """The demo's traffic, as a part like the others."""
        log = self.settings.data.logs / "exchange.log"
        arguments = [
            "part",
            "exchange",
            "--config",
            str(self.config_path),
            "--rate",
            str(rate),
            "--seed",
            str(seed),
        ]
        self._keep(python_part("exchange", arguments, log))

    def _part(self, name: str) -> Part:
        kind, _, agent = name.partition("-")
        arguments = ["part", kind, *([agent] if agent else []), "--config", str(self.config_path)]
        cpu = self.settings.config.bidder.cpu if kind == "bidder" else None
        return python_part(name, arguments, self.settings.data.logs / f"{name}.log", cpu)

    def _keep(self, part: Part) -> None:
        self._keeping.append(asyncio.create_task(self.supervisor.keep(part), name=f"keep-{part.name}"))

    def _wait_for_nats(self) -> None:
        assert self.server is not None
        self.server.wait_ready()

    async def _watch_streams(self, server: NatsServer, part: Part) -> None:
        """A disk that was full once makes the server switch its streams off, or write to one no more, also when there is
        room again: then it is ended, and the supervisor starts it."""
        looks = 0
        while True:
            await asyncio.sleep(STREAMS_LOOK_S)
            fails = server.could_not_store() or await server.keeps_streams() is False
            looks = looks + 1 if fails else 0
            if looks < STREAMS_OFF_LOOKS or shutil.disk_usage(server.directory).free < ROOM_BYTES:
                continue
            looks = 0
            if part.process is not None and part.process.returncode is None:
                part.process.terminate()

    async def wait_ready(self, wait_s: float = 120.0) -> None:
        """Until the bidder can bid. Raises :class:`SystemFailed` with what it is waiting for."""
        client = HttpClient(self.settings.local_url, connections_max=1, timeout_s=2.0)
        said = "it does not answer yet"
        try:
            async with asyncio.timeout(wait_s):
                while True:
                    self._give_up_on_failing()
                    with contextlib.suppress(HttpUnavailable):
                        answer = await client.get("/health/ready")
                        if answer.status == 200:
                            break
                        said = _waits_for(answer.body)
                    self.on_wait(f"waiting for the bidder: {said}")
                    await asyncio.sleep(READY_POLL_S)
        except TimeoutError as error:
            log = _tail(self.settings.data.logs / "bidder.log")
            raise SystemFailed(f"the bidder was not ready after {wait_s:g} s: {said}\n{log}") from error
        finally:
            client.close()
        self._note_runtime()

    def _give_up_on_failing(self) -> None:
        """At the start, a part that ends again and again will not come up by waiting."""
        for task in self._keeping:
            if task.done():
                task.result()
        for part in self.supervisor.parts.values():
            if part.restarts >= START_TRIES_MAX:
                raise SystemFailed(
                    f"{part.name} ended {part.restarts} times (exit {part.last_exit}); its log ends:\n{_tail(part.log)}"
                )

    def _note_runtime(self) -> None:
        pids = {name: part.pid for name, part in self.supervisor.parts.items() if part.pid is not None}
        runtime = Runtime(self.settings.local_url, bus_url(self.settings), pids)
        write_atomically(
            self.settings.data.runtime, msgspec.json.format(msgspec.json.encode(runtime), indent=2)
        )

    async def stop(self) -> None:
        await self.supervisor.stop_all(STOP_ORDER)
        for task in self._keeping:
            task.cancel()
        await asyncio.gather(*self._keeping, return_exceptions=True)
        self.settings.data.runtime.unlink(missing_ok=True)


def _waits_for(body: bytes) -> str:
    """What a bidder that is not ready answers to /health/ready."""
    try:
        return ", ".join(str(what) for what in msgspec.json.decode(body)["waiting_for"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return body.decode("utf-8", "replace").strip()


def why_not_bound(host: str, port: int) -> str | None:
    """What stands against listening there; None: nothing."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen()
    except OSError as error:
        return error.strerror or str(error)
    return None


def _tail(log: Path) -> str:
    return (read_bytes(log) or b"")[-1_500:].decode("utf-8", "replace")


def embedded_server(settings: Settings) -> NatsServer | None:
    """The NATS server of the data directory; None where the configuration names an external one."""
    if settings.config.bus.url is not None:
        return None
    data = settings.data
    return NatsServer(data.nats, data.secrets, bidder_ids=(settings.config.bidder.id,))


def bus_url(settings: Settings) -> str:
    server = embedded_server(settings)
    return server.url if server is not None else str(settings.config.bus.url)


def bus_credential(settings: Settings, role: str) -> Credential:
    server = embedded_server(settings)
    if server is not None:
        return server.credential(role)
    path = settings.config.bus.credentials
    if path is None:
        raise ConfigError(
            "[bus] url names an external server: say where its credentials are with [bus] credentials"
        )
    known = load_credentials(settings.base / path)
    if role not in known:
        raise ConfigError(f"{path}: no credential for role {role!r}; there are {', '.join(sorted(known))}")
    return known[role]


async def connect_bus(settings: Settings, role: str, *, wait_s: float | None = None) -> NatsBus:
    """Connect with the credential of ``role``; with ``wait_s`` None a bus that is away is used once it is there.

    Raises :class:`BusUnavailable` after ``wait_s``."""
    credential = bus_credential(settings, role)
    bus = NatsBus(bus_url(settings), credential.user, credential.password, role)
    return await bus.open(wait_s if wait_s is not None else 5.0, required=wait_s is not None)
