"""What the HTTP layer hands to the application and takes back: requests, responses, settings, counters."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated

from msgspec import Meta, Struct

from counterpoint.bidder.metrics import Histogram

JSON = b"application/json"
TEXT = b"text/plain; charset=utf-8"


class HttpConfig(Struct, frozen=True, forbid_unknown_fields=True):
    host: str = "127.0.0.1"  # loopback unless told otherwise
    port: Annotated[int, Meta(ge=0, le=65535)] = 8080  # 0: any free port
    connections_max: Annotated[int, Meta(gt=0)] = 4096
    header_bytes_max: Annotated[int, Meta(gt=0)] = 16 * 1024  # target included
    headers_max: Annotated[int, Meta(gt=0)] = 100
    body_bytes_max: Annotated[int, Meta(gt=0)] = 1024 * 1024
    held_bytes_max: Annotated[int, Meta(gt=0)] = 64 * 1024 * 1024  # unfinished bodies of all connections
    idle_timeout_s: Annotated[float, Meta(gt=0)] = 180.0  # exchanges expect at least 150
    header_timeout_s: Annotated[float, Meta(gt=0)] = 10.0
    body_timeout_s: Annotated[float, Meta(gt=0)] = 20.0  # head and body together
    write_timeout_s: Annotated[float, Meta(gt=0)] = 30.0
    linger_s: Annotated[float, Meta(ge=0)] = 2.0
    backlog: Annotated[int, Meta(gt=0)] = 1024


class HttpCounters:
    """Plain integers, read by the metrics."""

    __slots__ = (
        "accepted",
        "connections",
        "crashed",
        "protocol_errors",
        "refused_connections",
        "refused_requests",
        "requests",
        "timed_out",
    )

    def __init__(self) -> None:
        self.accepted = 0
        self.connections = 0  # open now
        self.crashed = 0  # the application raised: 500
        self.protocol_errors = 0  # not HTTP: 400
        self.refused_connections = 0  # beyond connections_max
        self.refused_requests: dict[int, int] = {}  # by status: 408, 413, 414, 431, 503
        self.requests = 0
        self.timed_out = 0  # idle, slow or not reading: closed


class Request:
    """One complete request.

    ``received_ns``: when its first byte was there to be read, by the wall clock; what it waited because the loop was
    busy counts. ``lag_ns``: that waiting, for its last byte. ``latency`` may be set by a handler: the time from
    ``received_ns`` until the answer is handed to the transport is observed there.
    """

    __slots__ = ("body", "headers", "lag_ns", "latency", "method", "path", "query", "received_ns")

    def __init__(
        self,
        method: bytes,
        path: bytes,
        query: bytes = b"",
        headers: dict[bytes, bytes] | None = None,
        body: bytes = b"",
        received_ns: int = 0,
        lag_ns: int = 0,
    ) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.headers = (
            headers if headers is not None else {}
        )  # names in lower case; the last of repeated ones
        self.body = body
        self.received_ns = received_ns
        self.lag_ns = lag_ns
        self.latency: Histogram | None = None


class Response:
    """``headers`` are complete lines, each made by :func:`header`, so that no value can smuggle in another.
    ``close``: the connection ends after this answer. Never changed once made: one may answer many requests."""

    __slots__ = ("body", "close", "content_type", "headers", "status")

    def __init__(
        self,
        status: int,
        body: bytes = b"",
        content_type: bytes = b"",
        headers: bytes = b"",
        close: bool = False,
    ) -> None:
        self.status = status
        self.body = body
        self.content_type = content_type
        self.headers = headers
        self.close = close


Application = Callable[[Request], "Response | asyncio.Future[Response]"]


def header(name: bytes, value: bytes) -> bytes:
    """One header line. Raises ``ValueError`` where the value could end the line or is not printable ASCII.

    >>> header(b"Location", b"https://example.com/")
    b'Location: https://example.com/\\r\\n'
    """
    if not value.isascii() or any(byte < 0x20 or byte == 0x7F for byte in value):
        raise ValueError(f"header {name!r} holds bytes that no header may hold")
    return name + b": " + value + b"\r\n"
