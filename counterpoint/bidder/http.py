"""A thin HTTP/1.1 server: ``asyncio.Protocol`` on httptools, one callable as the application.

The application is called inside ``data_received`` with a complete request and returns a :class:`Response` at once,
or a future of one where the answer must first become durable. No task is made per request. Answers leave in the
order of their requests. Everything a peer can make us hold has a bound, and each bound says what happens there:

============================  ==================================================================
header bytes, header count    431 (target alone: 414), connection closed
body bytes                    413 at the first sign of it (Content-Length, or the sum of chunks),
                              nothing kept; what still arrives is thrown away for ``linger_s``
bodies held, all together     503, connection closed
time for a head or a body     408, connection closed (slowloris)
idle time                     closed
connections                   closed at once, counted
answers that nobody reads     reading stops; closed after ``write_timeout_s``
answers owed in order         reading stops until they are written
============================  ==================================================================
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from email.utils import formatdate
from http import HTTPStatus

from counterpoint.base.clock import NS_PER_S
from counterpoint.bidder.connection import Connection
from counterpoint.bidder.message import (
    JSON,
    TEXT,
    Application,
    HttpConfig,
    HttpCounters,
    Request,
    Response,
    header,
)

__all__ = [
    "JSON",
    "TEXT",
    "Application",
    "HttpConfig",
    "HttpCounters",
    "Request",
    "Response",
    "Server",
    "header",
    "serve",
]

log = logging.getLogger(__name__)

TRACEBACKS_MAX = 20  # of a failing application; past that they are only counted
BEAT_S = 0.005  # how often the loop shows that it is free
BEAT_LATE_NS = 1_000_000
SWEEP_S = 1.0
CRASHED = Response(500)


class Server:
    """Listens, holds the connections, and keeps time for them. Made by :func:`serve`."""

    def __init__(self, application: Application, config: HttpConfig, counters: HttpCounters) -> None:
        self.application = application
        self.config = config
        self.counters = counters
        self.closing = False
        self.held_bytes = 0
        self._live: set[Connection] = set()
        self._empty = asyncio.Event()
        self._heads: dict[tuple[int, bytes], bytes] = {}
        self._date = b""
        self._no_content = b""
        self._loop = asyncio.get_running_loop()
        self._listener: asyncio.Server | None = None
        self._beat_timer: asyncio.TimerHandle | None = None
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._free_until_ns = self._due_ns = time.time_ns() + NS_PER_S

    async def start(self) -> None:
        self._sweep()
        self._beat()
        self._listener = await self._loop.create_server(
            lambda: Connection(self),
            self.config.host,
            self.config.port,
            backlog=self.config.backlog,
            reuse_address=True,
        )

    @property
    def port(self) -> int:
        assert self._listener is not None, "the server was not started"
        sock: socket.socket = self._listener.sockets[0]
        return int(sock.getsockname()[1])

    async def close(self, grace_s: float = 2.0) -> None:
        """Stop listening, answer what is owed, close; abort what is left after ``grace_s``."""
        self.closing = True
        if self._listener is not None:
            self._listener.close()
        self._empty.clear()
        for connection in list(self._live):
            connection.finish()
        if self._live:
            try:
                await asyncio.wait_for(self._empty.wait(), grace_s)
            except TimeoutError:
                for connection in list(self._live):
                    connection.abort()
        for timer in (self._beat_timer, self._sweep_timer):
            if timer is not None:
                timer.cancel()
        await asyncio.sleep(0)

    # ---- connections

    def admit(self, connection: Connection) -> bool:
        if self.closing or len(self._live) >= self.config.connections_max:
            self.counters.refused_connections += 1
            return False
        self._live.add(connection)
        self.counters.accepted += 1
        self.counters.connections = len(self._live)
        return True

    def forget(self, connection: Connection) -> None:
        self._live.discard(connection)
        self.counters.connections = len(self._live)
        if not self._live:
            self._empty.set()

    def refused(self, status: int) -> None:
        counts = self.counters.refused_requests
        counts[status] = counts.get(status, 0) + 1

    # ---- how far behind the loop is

    def _beat(self) -> None:
        """A beat that comes late shows that the loop was busy since it was due: whatever is read before the next one
        may have waited that long. One that comes in time shows that nothing waited."""
        now_ns = time.time_ns()
        late = now_ns - self._due_ns > BEAT_LATE_NS
        wait_s = 0.001 if late else BEAT_S
        next_ns = now_ns + int(wait_s * NS_PER_S)
        self._free_until_ns = self._due_ns if late else next_ns
        self._due_ns = next_ns
        self._beat_timer = self._loop.call_later(wait_s, self._beat)

    def lag_ns(self, now_ns: int) -> int:
        """How long bytes read now may have waited for us; 0 while the beat is in time (within 1 ms)."""
        lag = now_ns - self._free_until_ns
        return lag if lag > BEAT_LATE_NS else 0

    def _sweep(self) -> None:
        now_ns = time.time_ns()
        self._date = b"Date: " + formatdate(now_ns / NS_PER_S, usegmt=True).encode() + b"\r\n"
        self._heads.clear()
        self._no_content = b"HTTP/1.1 204 No Content\r\n" + self._date + b"\r\n"
        for connection in list(self._live):
            connection.sweep(now_ns)
        self._sweep_timer = self._loop.call_later(SWEEP_S, self._sweep)

    # ---- answers

    def crashed(self, error: BaseException | None) -> Response:
        """500, counted; the first few with their traceback."""
        self.counters.crashed += 1
        if self.counters.crashed <= TRACEBACKS_MAX:
            log.error("the application failed on a request", exc_info=error)
        return CRASHED

    def encode(self, request: Request | None, response: Response, keep: bool) -> bytes:
        """The bytes of an answer. ``keep``: the connection stays open for another request."""
        status = response.status
        extra = response.headers
        if not keep or response.close:
            extra += b"Connection: close\r\n"
        elif request is not None and b"connection" in request.headers:
            extra += b"Connection: keep-alive\r\n"  # HTTP/1.0 asks for it and wants to hear it
        if status == 204:  # RFC 9110 8.6: no Content-Length here
            return self._no_content if not extra else self._no_content[:-2] + extra + b"\r\n"
        key = (status, response.content_type)
        head = self._heads.get(key)
        if head is None:
            head = b"HTTP/1.1 %d %b\r\n%b" % (status, HTTPStatus(status).phrase.encode(), self._date)
            if response.content_type:
                head += b"Content-Type: " + response.content_type + b"\r\n"
            head += b"Content-Length: "
            self._heads[key] = head
        body = response.body
        if request is not None and request.method == b"HEAD":
            return b"%b%d\r\n%b\r\n" % (head, len(body), extra)
        return b"%b%d\r\n%b\r\n%b" % (head, len(body), extra, body)


async def serve(
    application: Application, config: HttpConfig | None = None, counters: HttpCounters | None = None
) -> Server:
    """Listen and answer on the running loop. Raises ``OSError`` where the address cannot be had."""
    server = Server(
        application,
        config if config is not None else HttpConfig(),
        counters if counters is not None else HttpCounters(),
    )
    await server.start()
    return server
