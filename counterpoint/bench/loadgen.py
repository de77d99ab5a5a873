"""Load on one HTTP server over keep-alive connections, from a process and a core of its own.

Closed loop: every connection sends its next request when the answer to the last one is in; this finds saturation.
Open loop: requests have intended send times on a fixed grid, whatever the server does; latency counts from the
intended time, so that a stall shows in every request that it delayed (no coordinated omission).

Run as ``python -m counterpoint.bench.loadgen``: a :class:`Load` as JSON on stdin, a :class:`Outcome` as JSON on
stdout. Bodies come from the frozen workload by seed, so nothing large passes between processes.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import time
from collections import deque
from typing import Final, cast

import msgspec
import numpy as np
import uvloop
from msgspec import Struct

from counterpoint.bench.workload import bodies

BACKLOG_MAX: Final = 200_000  # intended requests not yet sent: past that the run is hopeless and says so


class Load(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    port: int
    path: str
    host: str = "127.0.0.1"
    connections: int = 16
    seconds: float = 3.0
    warm_s: float = 0.5  # sent, not measured
    rate: float | None = None  # requests a second, open loop; None: closed loop
    bodies: int = 2_000  # distinct requests, sent in turn
    seed: int = 1
    core: int | None = None  # pin this process to the core; None: not pinned


class Outcome(Struct, frozen=True, kw_only=True):
    sent: int
    answered: int
    answered_per_s: float
    status: dict[str, int]
    unsent: int  # intended, never sent: the connections were all busy to the end
    broken: int  # connections the server closed on us
    p50_ms: float
    p90_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    cpu_us_per_request: float  # of this process, to show that it was not the bottleneck


class _Run:
    def __init__(self, load: Load, payloads: list[bytes]) -> None:
        self.load = load
        self.payloads = payloads
        self.turn = 0
        self.measure_from = 0
        self.stop_at = 0
        self.latency_ns: list[int] = []
        self.status: dict[int, int] = {}
        self.sent = 0
        self.broken = 0
        self.idle: deque[_Connection] = deque()
        self.backlog: deque[int] = deque()  # intended send times that wait for a connection

    def next_payload(self) -> bytes:
        payload = self.payloads[self.turn]
        self.turn = self.turn + 1 if self.turn + 1 < len(self.payloads) else 0
        self.sent += 1
        return payload


class _Connection(asyncio.Protocol):
    __slots__ = ("body_left", "head", "run", "sent_at", "transport")

    def __init__(self, run: _Run) -> None:
        self.run = run
        self.head = b""
        self.body_left = -1  # -1: in the head
        self.sent_at = 0
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's own are not of that class

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if time.perf_counter_ns() < self.run.stop_at:
            self.run.broken += 1

    def send(self, intended_ns: int) -> None:
        assert self.transport is not None, "only idle, open connections are handed out"
        self.sent_at = intended_ns
        self.transport.write(self.run.next_payload())

    def data_received(self, data: bytes) -> None:
        if self.body_left < 0:
            if self.head:
                data = self.head + data
                self.head = b""
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self.head = data
                return
            self.body_left = _content_length(data, end) - (len(data) - end - 4)
            status = int(data[9:12])
            self.run.status[status] = self.run.status.get(status, 0) + 1
        else:
            self.body_left -= len(data)
        if self.body_left <= 0:
            self.body_left = -1
            self._answered()

    def _answered(self) -> None:
        run = self.run
        now = time.perf_counter_ns()
        if now >= run.measure_from:
            if now < run.stop_at:
                run.latency_ns.append(now - self.sent_at)
            else:
                return
        if run.load.rate is None:
            self.send(now)
        elif run.backlog:
            self.send(run.backlog.popleft())
        else:
            run.idle.append(self)


def _content_length(data: bytes, end: int) -> int:
    at = data.find(b"ontent-", 0, end)
    while at >= 0:
        if data[at + 7 : at + 14].lower() == b"length:":
            return int(data[at + 14 : data.find(b"\r\n", at)])
        at = data.find(b"ontent-", at + 7, end)
    return 0  # 204


async def _open_loop(run: _Run, rate: float) -> None:
    """Send on the grid; a tick that comes late sends all that is due, each with its intended time."""
    gap_ns = 1e9 / rate
    start = time.perf_counter_ns()
    due = 0
    while True:
        now = time.perf_counter_ns()
        if now >= run.stop_at or len(run.backlog) > BACKLOG_MAX:
            return
        while start + due * gap_ns <= now:
            intended = int(start + due * gap_ns)
            due += 1
            connection = None
            while run.idle and connection is None:
                connection = run.idle.popleft()
                connection = connection if connection.transport is not None else None
            if connection is None:
                run.backlog.append(intended)
            else:
                connection.send(intended)
        # a timer of the loop is good for a millisecond only, so we yield and look again
        await asyncio.sleep(0)


async def _drive(load: Load) -> Outcome:
    loop = asyncio.get_running_loop()
    run = _Run(load, [http_post(load.path, load.host, body) for body in bodies(load.seed, load.bodies)])
    connections = [
        (await loop.create_connection(lambda: _Connection(run), load.host, load.port))[1]
        for _ in range(load.connections)
    ]
    gc.freeze()
    gc.disable()
    begun = time.perf_counter_ns()
    cpu_begun = time.process_time()
    run.measure_from = begun + int(load.warm_s * 1e9)
    run.stop_at = run.measure_from + int(load.seconds * 1e9)
    if load.rate is None:
        for connection in connections:
            connection.send(time.perf_counter_ns())
        await asyncio.sleep(load.warm_s + load.seconds)
    else:
        run.idle.extend(connections)
        await _open_loop(run, load.rate)
    cpu_s = time.process_time() - cpu_begun
    for connection in connections:
        if connection.transport is not None:
            connection.transport.abort()
    spent = np.sort(np.array(run.latency_ns or [0], np.float64)) / 1e6
    p50, p90, p99, p999 = (float(x) for x in np.quantile(spent, [0.5, 0.9, 0.99, 0.999]))
    return Outcome(
        sent=run.sent,
        answered=len(run.latency_ns),
        answered_per_s=len(run.latency_ns) / load.seconds,
        status={str(code): count for code, count in sorted(run.status.items())},
        unsent=len(run.backlog),
        broken=run.broken,
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
        p999_ms=p999,
        max_ms=float(spent[-1]),
        cpu_us_per_request=cpu_s * 1e6 / max(1, run.sent),
    )


def http_post(path: str, host: str, body: bytes) -> bytes:
    """One request as an exchange sends it, head and body in one buffer."""
    return (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        f"x-openrtb-version: 2.6\r\nConnection: keep-alive\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def drive(load: Load) -> Outcome:
    if load.core is not None:
        os.sched_setaffinity(0, {load.core})
    return uvloop.run(_drive(load))


def main() -> None:
    load = msgspec.json.decode(sys.stdin.buffer.read(), type=Load)
    sys.stdout.buffer.write(msgspec.json.encode(drive(load)) + b"\n")


if __name__ == "__main__":
    main()
