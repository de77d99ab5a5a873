"""A small keep-alive HTTP/1.1 client for loopback and exchange-side work: one request in flight per connection.

Used by the demo exchange, the request replay, the load generator's checks and the console. The bidder itself
never calls anybody.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import ExitStack
from typing import cast
from urllib.parse import urlsplit

import httptools
from msgspec import Struct


class Response(Struct, frozen=True):
    status: int
    headers: dict[bytes, bytes]  # names lower-cased
    body: bytes


class HttpUnavailable(ConnectionError):
    """Nobody answered: refused, closed before an answer, or past the timeout. The request may or may not have been seen."""


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[Response] | None = None
        self._headers: dict[bytes, bytes] = {}
        self._chunks: list[bytes] = []
        self.usable = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name

    def connection_lost(self, exc: Exception | None) -> None:
        self.usable = False
        self._fail("connection closed before the answer was complete")

    def _fail(self, why: str) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(HttpUnavailable(why))

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.close()
            self._fail(f"not HTTP: {error}")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_body(self, body: bytes) -> None:
        self._chunks.append(body)

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if not self._parser.should_keep_alive():
            self.close()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(Response(status, self._headers, b"".join(self._chunks)))

    def send(self, request: bytes) -> asyncio.Future[Response]:
        assert self.transport is not None
        self._headers, self._chunks = {}, []
        self._parser = httptools.HttpResponseParser(self)
        self._waiter = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self._waiter

    def close(self) -> None:
        self.usable = False
        if self.transport is not None:
            self.transport.close()


class HttpClient:
    """A pool of at most ``connections_max`` connections to one origin; callers past that wait their turn."""

    def __init__(self, origin: str, connections_max: int = 32, timeout_s: float = 5.0) -> None:
        parts = urlsplit(origin)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"{origin!r}: expected an origin like http://127.0.0.1:8080")
        self.host, self.port = parts.hostname, parts.port or 80
        self.timeout_s = timeout_s
        self._idle: deque[_Connection] = deque()
        self._slots = asyncio.Semaphore(connections_max)

    async def request(
        self, method: str, target: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> Response:
        """Send one request. Raises :class:`HttpUnavailable`; any HTTP status is an answer."""
        head = [f"{method} {target} HTTP/1.1", f"Host: {self.host}:{self.port}"]
        head += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if body or method in ("POST", "PUT"):
            head.append(f"Content-Length: {len(body)}")
        raw = ("\r\n".join(head) + "\r\n\r\n").encode() + body
        async with self._slots:
            connection = await self._connection()
            with ExitStack() as broken_off:
                broken_off.callback(connection.close)
                try:
                    async with asyncio.timeout(self.timeout_s):
                        answer = await connection.send(raw)
                except TimeoutError as error:
                    raise HttpUnavailable(f"no answer within {self.timeout_s} s") from error
                broken_off.pop_all()
            if connection.usable:
                self._idle.append(connection)
            return answer

    async def _connection(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        try:
            async with asyncio.timeout(self.timeout_s):
                _, connection = await asyncio.get_running_loop().create_connection(
                    _Connection, self.host, self.port
                )
        except (OSError, TimeoutError) as error:
            raise HttpUnavailable(f"cannot connect to {self.host}:{self.port}: {error}") from error
        return connection

    async def get(self, target: str) -> Response:
        return await self.request("GET", target)

    async def post(self, target: str, body: bytes, headers: dict[str, str] | None = None) -> Response:
        return await self.request(
            "POST", target, body, {"Content-Type": "application/json", **(headers or {})}
        )

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()
