"""One HTTP/1.1 connection: bytes to requests, answers back in the order of their requests, every bound kept."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, cast

import httptools

from counterpoint.base.clock import NS_PER_S
from counterpoint.bidder.message import Request, Response

if TYPE_CHECKING:
    from counterpoint.bidder.http import Server

OUTPUT_BYTES_MAX = 4 * 1024 * 1024  # answers to one read; more is pipelining as an attack: closed
OWED_MAX = 128  # answers owed in order before reading stops
LENGTH_DIGITS_MAX = 40
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_IDLE, _HEAD, _BODY = 0, 1, 2


class _Refused(Exception):
    """Stops the parser in the middle of a read; the connection answers ``status`` and closes."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class _Owed:
    """A place in the order of answers: ``encoded`` once it is known."""

    __slots__ = ("close", "encoded", "request")

    def __init__(self, request: Request | None, encoded: bytes | None, close: bool) -> None:
        self.request = request
        self.encoded = encoded
        self.close = close


class Connection(asyncio.Protocol):
    def __init__(self, server: Server) -> None:
        self._server = server
        self._config = server.config
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._stage = _IDLE
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._header_count = 0
        self._head_bytes = 0
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._held = 0  # of our unfinished body, counted in the server's sum
        self._received_ns = self._lag_ns = self._begun_ns = self._last_ns = 0
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._timed: list[Request] = []  # whose latency is observed when their bytes are handed over
        self._owed: deque[_Owed] = deque()
        self._closing = False  # no request after this one is answered
        self._half_closed = False
        self._reading_paused = False
        self._write_paused_ns = 0
        self._lingering_until_ns = 0

    # ---- transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._last_ns = time.time_ns()
        if not self._server.admit(self):
            self._closing = True
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.forget(self)
        self._hold(0)
        self._transport = None
        self._owed.clear()
        del self._parser  # it holds us: without this a closed connection waits for the cycle collector

    def eof_received(self) -> bool:
        """Keep our half open while answers are owed: a peer may shut its own after the last request."""
        self._half_closed = True
        return bool(self._owed) and not self._lingering_until_ns

    def pause_writing(self) -> None:
        self._write_paused_ns = time.time_ns()
        self._balance_reading()

    def resume_writing(self) -> None:
        self._write_paused_ns = 0
        self._balance_reading()

    def _balance_reading(self) -> None:
        transport = self._transport
        if transport is None or transport.is_closing() or self._half_closed:
            return
        pause = self._write_paused_ns != 0 or len(self._owed) > OWED_MAX
        if pause and not self._reading_paused:
            transport.pause_reading()
        elif self._reading_paused and not pause:
            transport.resume_reading()
        self._reading_paused = pause

    def data_received(self, data: bytes) -> None:
        now_ns = time.time_ns()
        if self._closing:
            return  # lingering: read and thrown away
        lag_ns = self._lag_ns = self._server.lag_ns(now_ns)
        self._received_ns = now_ns - lag_ns
        self._last_ns = now_ns
        if self._stage == _HEAD:  # a head in pieces: the parser collects them, so we must count
            self._head_bytes += len(data)
            if self._head_bytes > 2 * self._config.header_bytes_max:
                self._refuse(431)
                return
        while data:
            try:
                self._parser.feed_data(data)
                break
            except httptools.HttpParserUpgrade as upgrade:
                # RFC 9110 7.8: a server may ignore Upgrade. What follows is parsed as the next request.
                self._parser = httptools.HttpRequestParser(self)
                data = b"" if self._is_over() else data[upgrade.args[0] :]
            except httptools.HttpParserCallbackError as stopped:
                cause = stopped.__context__
                if not isinstance(cause, _Refused):
                    raise
                if not self._is_over():
                    self._refuse(cause.status)
                    return
                break
            except httptools.HttpParserError:
                if not self._is_over():  # else: bytes behind the last request we answer
                    self._server.counters.protocol_errors += 1
                    self._refuse(400)
                    return
                break
        if self._body_bytes or self._held:
            self._hold(self._body_bytes)
            if self._server.held_bytes > self._config.held_bytes_max:
                self._refuse(503)
                return
        self._flush()
        if len(self._owed) > OWED_MAX:
            self._balance_reading()

    def _is_over(self) -> bool:
        """Whether the last request to be answered has been read (the parser's callbacks may have found so)."""
        return self._closing

    # ---- parser

    def on_message_begin(self) -> None:
        self._stage = _HEAD
        self._begun_ns = self._received_ns
        self._url = b""
        self._headers = {}
        self._header_count = 0
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        self._url = self._url + url if self._url else url
        if len(self._url) > self._config.header_bytes_max:
            raise _Refused(414)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value
        self._header_count += 1
        if self._header_count > self._config.headers_max:
            raise _Refused(431)

    def on_headers_complete(self) -> None:
        self._stage = _BODY
        headers = self._headers
        size = len(self._url) + sum(map(len, headers)) + sum(map(len, headers.values()))
        if size > self._config.header_bytes_max:
            raise _Refused(431)
        length = headers.get(b"content-length", b"")
        if (
            len(length) > LENGTH_DIGITS_MAX
        ):  # thousands of zeros in front: the parser takes them, int() does not
            raise _Refused(400)
        if length and int(length) > self._config.body_bytes_max:
            raise _Refused(413)
        if b"expect" in headers and headers[b"expect"].lower() == b"100-continue" and not self._closing:
            self._answer(None, CONTINUE, close=False)
            self._flush()

    def on_body(self, body: bytes) -> None:
        self._body.append(body)
        self._body_bytes += len(body)
        if self._body_bytes > self._config.body_bytes_max:
            raise _Refused(413)

    def on_message_complete(self) -> None:
        self._stage = _IDLE
        chunks = self._body
        body = b""
        if chunks:
            body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
            self._body = []
            self._body_bytes = 0
        if self._closing:
            return
        path, _, query = self._url.partition(b"?")
        if path[:1] != b"/":
            path, query = _absolute(self._url)
        server = self._server
        parser = self._parser
        request = Request(parser.get_method(), path, query, self._headers, body, self._begun_ns, self._lag_ns)
        server.counters.requests += 1
        keep = parser.should_keep_alive() and not server.closing
        try:
            result = server.application(request)
        except Exception as error:  # noqa: BLE001  the edge: one failed request must not take the others with it
            result = server.crashed(error)
        if isinstance(result, Response):
            self._answer(request, server.encode(request, result, keep), not keep or result.close)
            if not keep:
                self._closing = True
            return
        owed = _Owed(request, None, not keep)
        self._owed.append(owed)
        if not keep:
            self._closing = True
        result.add_done_callback(lambda future: self._resolved(owed, future))

    # ---- answers

    def _resolved(self, owed: _Owed, future: asyncio.Future[Response]) -> None:
        if future.cancelled():
            response = self._server.crashed(None)
        else:
            error = future.exception()
            response = future.result() if error is None else self._server.crashed(error)
        assert owed.request is not None, "only requests are answered later"
        owed.encoded = self._server.encode(owed.request, response, not owed.close)
        owed.close = owed.close or response.close
        waiting = self._owed
        while waiting and waiting[0].encoded is not None:
            first = waiting.popleft()
            assert first.encoded is not None
            self._out.append(first.encoded)
            if first.request is not None and first.request.latency is not None:
                self._timed.append(first.request)
            if first.close:
                self._closing = True
                waiting.clear()
        self._flush()
        self._balance_reading()

    def _answer(self, request: Request | None, encoded: bytes, close: bool) -> None:
        if self._owed:
            self._owed.append(_Owed(request, encoded, close))
            return
        self._out.append(encoded)
        self._out_bytes += len(encoded)
        if request is not None and request.latency is not None:
            self._timed.append(request)
        if close:
            self._closing = True
        elif self._out_bytes > OUTPUT_BYTES_MAX:
            raise _Refused(503)

    def _flush(self) -> None:
        transport = self._transport
        out = self._out
        if transport is None:
            out.clear()
            return
        if out:
            transport.write(out[0] if len(out) == 1 else b"".join(out))
            out.clear()
            self._out_bytes = 0
            if self._timed:
                now_ns = time.time_ns()
                for request in self._timed:
                    assert request.latency is not None
                    request.latency.observe(now_ns - request.received_ns)
                self._timed.clear()
        if (self._closing or self._half_closed) and not self._owed and not self._lingering_until_ns:
            transport.close()

    def _refuse(self, status: int) -> None:
        """Answer and close. Closing with bytes unread would reset the connection and destroy the answer on its way,
        so the rest is read and thrown away for a moment."""
        transport = self._transport
        server = self._server
        server.refused(status)
        self._closing = True
        self._stage = _IDLE
        self._body = []
        self._body_bytes = 0
        self._hold(0)
        if transport is None:
            return
        encoded = server.encode(None, Response(status), False)
        if self._owed:  # after the answers that are still to come
            self._owed.append(_Owed(None, encoded, True))
            return
        self._out.append(encoded)
        self._lingering_until_ns = time.time_ns() + int(self._config.linger_s * NS_PER_S)
        self._flush()
        if transport.can_write_eof() and not transport.is_closing():
            transport.write_eof()

    def _hold(self, size: int) -> None:
        self._server.held_bytes += size - self._held
        self._held = size

    # ---- time

    def sweep(self, now_ns: int) -> None:
        """Called every second: close what is idle, slow or not reading."""
        transport = self._transport
        if transport is None:
            return
        config = self._config
        counters = self._server.counters
        if self._lingering_until_ns:
            if now_ns > self._lingering_until_ns:
                transport.abort()
        elif self._write_paused_ns:
            if now_ns - self._write_paused_ns > config.write_timeout_s * NS_PER_S:
                counters.timed_out += 1
                transport.abort()
        elif self._stage != _IDLE:
            allowed_s = config.header_timeout_s if self._stage == _HEAD else config.body_timeout_s
            if now_ns - self._begun_ns > allowed_s * NS_PER_S:
                counters.timed_out += 1
                self._refuse(408)
        elif not self._owed and now_ns - self._last_ns > config.idle_timeout_s * NS_PER_S:
            counters.timed_out += 1
            transport.close()

    def finish(self) -> None:
        """The server is closing: answer what is owed, then close."""
        self._closing = True
        if self._transport is not None and not self._owed:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


def _absolute(url: bytes) -> tuple[bytes, bytes]:
    """Path and query of a target in absolute form (RFC 9112 3.2.2); an unusable one is a path nobody serves."""
    try:
        parsed = httptools.parse_url(url)
    except httptools.HttpParserInvalidURLError:
        return b"", b""
    return parsed.path or b"/", parsed.query or b""
