"""The HTTP layer over real sockets: order, keep-alive, every bound, and whatever bytes a peer may send."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import re
import time
from collections.abc import AsyncIterator, Callable

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.bidder.connection import Connection
from counterpoint.bidder.http import HttpConfig, Request, Response, Server, header, serve
from counterpoint.bidder.metrics import Histogram, merged

LOOPS: list[Callable[[], asyncio.AbstractEventLoop]] = [asyncio.new_event_loop, uvloop.new_event_loop]


class App:
    """Answers with what it was asked; paths of other kinds of answer by name."""

    def __init__(self) -> None:
        self.seen: list[Request] = []
        self.later: list[asyncio.Future[Response]] = []

    def __call__(self, request: Request) -> Response | asyncio.Future[Response]:
        self.seen.append(request)
        if request.path == b"/later":
            future: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
            self.later.append(future)
            return future
        if request.path == b"/none":
            return Response(204)
        if request.path == b"/crash":
            raise RuntimeError("meant to")
        if request.path == b"/big":
            return Response(200, b"x" * 300_000)
        return Response(200, request.body or request.path, b"text/plain")


@contextlib.asynccontextmanager
async def running(config: HttpConfig | None = None) -> AsyncIterator[tuple[Server, App]]:
    app = App()
    server = await serve(app, config if config is not None else HttpConfig(port=0))
    try:
        yield server, app
    finally:
        await server.close(grace_s=0.2)


async def until(holds: Callable[[], bool], wait_s: float = 5.0) -> None:
    for _ in range(int(wait_s / 0.002)):
        if holds():
            return
        await asyncio.sleep(0.002)
    raise AssertionError("it did not come to that")


async def talk(server: Server, raw: bytes, wait_s: float = 2.0, eof: bool = True) -> bytes:
    """Send bytes, and read until the server closes or says nothing more."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    answer = b""
    try:
        writer.write(raw)
        if eof:
            writer.write_eof()
        async with asyncio.timeout(wait_s):
            while chunk := await reader.read(65536):
                answer += chunk
    except (TimeoutError, OSError):
        pass  # what was read until then counts
    finally:
        writer.close()
    return answer


def statuses(answer: bytes) -> list[int]:
    return [int(found) for found in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]


def config(**changes: object) -> HttpConfig:
    return HttpConfig(**{"port": 0, **changes})  # type: ignore[arg-type]


GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"


def post(body: bytes, path: bytes = b"/p", extra: bytes = b"") -> bytes:
    return b"POST %b HTTP/1.1\r\nHost: x\r\n%bContent-Length: %d\r\n\r\n%b" % (path, extra, len(body), body)


async def test_answers_carry_length_date_and_type() -> None:
    async with running() as (server, app):
        answer = await talk(server, post(b"hello"))
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"Content-Length: 5" in head
        assert b"Date: " in head
        assert b"Content-Type: text/plain" in head
        assert body == b"hello"
        assert app.seen[0].method == b"POST"
        assert abs(app.seen[0].received_ns - time.time_ns()) < 10**10


async def test_204_has_neither_length_nor_body() -> None:
    async with running() as (server, _):
        answer = await talk(server, b"GET /none HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 204 No Content\r\n")
        assert answer.endswith(b"\r\n\r\n")
        assert b"Content-Length" not in answer


async def test_many_requests_share_a_connection_and_come_back_in_order() -> None:
    async with running() as (server, app):
        answer = await talk(server, b"".join(post(b"%03d" % n) for n in range(200)))
        assert re.findall(rb"\r\n\r\n(\d{3})", answer) == [b"%03d" % n for n in range(200)]
        assert server.counters.accepted == 1
        assert len(app.seen) == 200


async def test_later_answers_keep_the_order_of_requests() -> None:
    async with running() as (server, app):
        later = b"GET /later HTTP/1.1\r\nHost: x\r\n\r\n"
        task = asyncio.create_task(talk(server, later + post(b"second") + later + post(b"fourth")))
        await until(lambda: len(app.later) >= 2)
        app.later[1].set_result(Response(200, b"third"))
        await asyncio.sleep(0.02)
        app.later[0].set_result(Response(200, b"first"))
        answer = await task
        assert re.findall(rb"first|second|third|fourth", answer) == [b"first", b"second", b"third", b"fourth"]


async def test_a_future_that_fails_is_a_500_and_the_others_live() -> None:
    async with running() as (server, app):
        task = asyncio.create_task(talk(server, b"GET /later HTTP/1.1\r\nHost: x\r\n\r\n" + GET))
        await until(lambda: len(app.later) >= 1)
        app.later[0].set_exception(RuntimeError("meant to"))
        assert statuses(await task) == [500, 200]
        assert statuses(await talk(server, b"GET /crash HTTP/1.1\r\nHost: x\r\n\r\n" + GET)) == [500, 200]
        assert server.counters.crashed == 2


async def test_a_peer_that_leaves_before_its_answer_harms_nobody() -> None:
    async with running() as (server, app):
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /later HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda: len(app.later) >= 1)
        writer.transport.abort()
        await asyncio.sleep(0.05)
        app.later[0].set_result(Response(200, b"too late"))
        assert statuses(await talk(server, GET)) == [200]


async def test_head_has_the_length_and_no_body() -> None:
    async with running() as (server, _):
        answer = await talk(server, b"HEAD /abc HTTP/1.1\r\nHost: x\r\n\r\n" + GET)
        assert statuses(answer) == [200, 200]
        assert b"Content-Length: 4\r\n\r\nHTTP/1.1" in answer


async def test_connection_close_is_honoured_and_what_follows_ignored() -> None:
    async with running() as (server, app):
        answer = await talk(
            server, b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" + GET, eof=False
        )
        assert statuses(answer) == [200]
        assert b"Connection: close" in answer
        assert len(app.seen) == 1


async def test_http_1_0_closes_unless_asked_to_keep() -> None:
    async with running() as (server, _):
        assert b"Connection: close" in await talk(server, b"GET /a HTTP/1.0\r\n\r\n", eof=False)
        kept = b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
        answer = await talk(server, kept + kept)
        assert statuses(answer) == [200, 200]
        assert answer.count(b"Connection: keep-alive") == 2


async def test_chunked_bodies_are_joined() -> None:
    async with running() as (server, _):
        raw = b"POST /p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"
        assert (await talk(server, raw + GET)).count(b"\r\n\r\nabcde") == 1


async def test_a_request_in_single_bytes_is_one_request() -> None:
    async with running() as (server, app):
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        for byte in post(b"slow"):
            writer.write(bytes([byte]))
            await asyncio.sleep(0)
        await until(lambda: len(app.seen) >= 1)
        assert app.seen[0].body == b"slow"
        writer.close()


async def test_expect_100_continue_is_told_to_go_on() -> None:
    async with running() as (server, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"POST /p HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"ok")
        assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
        writer.close()


async def test_expect_with_too_large_a_body_is_refused_at_once() -> None:
    async with running(config(body_bytes_max=10)) as (server, _):
        raw = b"POST /p HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 11\r\n\r\n"
        assert statuses(await talk(server, raw)) == [413]


async def test_upgrade_is_ignored_and_the_connection_goes_on() -> None:
    async with running() as (server, _):
        up = b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
        assert statuses(await talk(server, up * 3 + GET)) == [200] * 4


async def test_a_target_in_absolute_form_is_its_path() -> None:
    async with running() as (server, app):
        await talk(server, b"GET http://evil.example/x/y?z=1 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (app.seen[0].path, app.seen[0].query) == (b"/x/y", b"z=1")


# ---- bounds


async def test_ten_megabytes_are_refused_unread() -> None:
    async with running(config(linger_s=0.3)) as (server, app):
        head = b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\n"
        answer = await talk(server, head + b"x" * 10_000_000)
        assert statuses(answer) == [413]
        assert b"Connection: close" in answer
        assert server.held_bytes == 0
        assert not app.seen
        assert server.counters.refused_requests == {413: 1}


async def test_a_chunked_body_without_end_is_refused_at_the_bound() -> None:
    async with running(config(body_bytes_max=1000, linger_s=0.2)) as (server, app):
        head = b"POST /p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        assert statuses(
            await talk(server, head + b"64\r\n" + b"x" * 100 + b"\r\n" + b"3e8\r\n" + b"y" * 1000)
        ) == [413]
        assert not app.seen


async def test_bodies_of_all_connections_together_are_bounded() -> None:
    async with running(config(body_bytes_max=1000, held_bytes_max=1500)) as (server, _):
        head = b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
        _, first = await asyncio.open_connection("127.0.0.1", server.port)
        first.write(head + b"x" * 900)
        await asyncio.sleep(0.05)
        assert statuses(await talk(server, head + b"x" * 900)) == [503]
        first.close()
        await asyncio.sleep(0.05)
        assert server.held_bytes == 0


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET /a HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 20_000 + b"\r\n\r\n", 431),
        (b"GET /a HTTP/1.1\r\n" + b"".join(b"H%d: x\r\n" % n for n in range(200)) + b"\r\n", 431),
        (b"NONSENSE\r\n\r\n", 400),
        (b"GET /a HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET /a HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n", 400),
        (b"POST /a HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc", 400),
        (b"POST /a HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc", 400),
        (b"GET /a HTTP/1.1\r\nBad Header: x\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),  # a TLS hello
    ],
)
async def test_what_is_out_of_bounds_or_no_http_is_refused(raw: bytes, status: int) -> None:
    async with running(config(linger_s=0.1)) as (server, app):
        assert statuses(await talk(server, raw, eof=False)) == [status]
        assert not app.seen
        assert statuses(await talk(server, GET)) == [200]


async def test_a_head_that_trickles_without_end_is_cut() -> None:
    async with running(config(header_bytes_max=1000, linger_s=0.1)) as (server, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /a HTTP/1.1\r\nX: ")
        with contextlib.suppress(ConnectionError):
            for _ in range(60):
                writer.write(b"a" * 50)
                await writer.drain()
                await asyncio.sleep(0.001)
        assert statuses(await reader.read(1000)) == [431]
        writer.close()


async def test_slow_heads_slow_bodies_and_idle_connections_are_closed() -> None:
    limits = config(header_timeout_s=0.2, body_timeout_s=0.2, idle_timeout_s=0.2, linger_s=0.1)
    async with running(limits) as (server, _):
        answers = await asyncio.gather(
            talk(server, b"GET /a HTTP/1.1\r\nHost: ", 4, eof=False),
            talk(server, b"POST /a HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc", 4, eof=False),
            talk(server, b"", 4, eof=False),
            talk(server, GET, 4, eof=False),
        )
        assert [statuses(answer) for answer in answers] == [[408], [408], [], [200]]
        assert server.counters.timed_out == 4
        await until(lambda: server.counters.connections == 0)


async def test_an_owed_answer_keeps_an_idle_connection_open() -> None:
    async with running(config(idle_timeout_s=0.1)) as (server, app):
        task = asyncio.create_task(talk(server, b"GET /later HTTP/1.1\r\nHost: x\r\n\r\n", 5, eof=False))
        await asyncio.sleep(1.6)
        app.later[0].set_result(Response(200, b"patience"))
        assert b"patience" in await task


async def test_connections_beyond_the_bound_are_refused_and_counted() -> None:
    async with running(config(connections_max=2)) as (server, _):
        held = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(2)]
        await asyncio.sleep(0.05)
        assert await talk(server, GET) == b""
        assert server.counters.refused_connections == 1
        held[0][1].close()
        await asyncio.sleep(0.05)
        assert statuses(await talk(server, GET)) == [200]
        held[1][1].close()


async def test_a_peer_that_never_reads_stops_being_read() -> None:
    async with running(config(write_timeout_s=0.2)) as (server, app):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
        big = b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n"
        with contextlib.suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(4):
                while server.counters.timed_out == 0:
                    writer.write(big)
                    await asyncio.sleep(0.002)
        assert server.counters.timed_out == 1
        assert len(app.seen) < 200
        writer.close()
        with contextlib.suppress(ConnectionError):
            await reader.read(10)


async def test_pipelining_for_more_than_we_hold_is_cut() -> None:
    async with running(config(linger_s=0.1)) as (server, app):
        answer = await talk(server, b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n" * 1000, 4)
        assert statuses(answer)[-1:] == [503]
        assert len(app.seen) < 100


async def test_closing_answers_what_is_owed() -> None:
    app = App()
    server = await serve(app, HttpConfig(port=0))
    port = server.port
    task = asyncio.create_task(talk(server, b"GET /later HTTP/1.1\r\nHost: x\r\n\r\n", 3, eof=False))
    await until(lambda: len(app.later) >= 1)
    closing = asyncio.create_task(server.close(grace_s=2))
    await asyncio.sleep(0.05)
    app.later[0].set_result(Response(200, b"kept"))
    await closing
    assert b"kept" in await task
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


async def test_closed_connections_are_freed_without_the_cycle_collector() -> None:
    async with running() as (server, _):
        gc.collect()
        gc.disable()
        try:
            for _ in range(20):
                await talk(server, GET)
            await until(lambda: server.counters.connections == 0)
            assert sum(isinstance(thing, Connection) for thing in gc.get_objects()) == 0
        finally:
            gc.enable()


def test_it_listens_on_loopback_unless_told_otherwise() -> None:
    assert HttpConfig().host == "127.0.0.1"


# ---- lateness


@pytest.mark.parametrize("new_loop", LOOPS)
def test_time_the_bytes_waited_for_a_busy_loop_counts(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def main() -> None:
        async with running() as (server, app):
            await asyncio.sleep(0.05)
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(GET)
            await until(lambda: len(app.seen) >= 1)
            writer.write(GET)
            time.sleep(0.1)  # noqa: ASYNC251  the loop is busy while the bytes are there
            await until(lambda: len(app.seen) >= 2)
            waited = app.seen[1].lag_ns
            assert 80_000_000 < waited < 400_000_000
            await asyncio.sleep(0.1)
            writer.write(GET)
            await until(lambda: len(app.seen) >= 3)
            assert app.seen[2].lag_ns < waited
            writer.close()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())


# ---- whatever comes


def test_header_lines_hold_no_other_header() -> None:
    for value in (b"a\r\nSet-Cookie: x", b"a\nb", b"a\x00b", "é".encode()):
        with pytest.raises(ValueError, match="header"):
            header(b"Location", value)


PIECES = st.sampled_from(
    [
        b"GET ",
        b"POST ",
        b"/a ",
        b"HTTP/1.1\r\n",
        b"Host: x\r\n",
        b"Content-Length: 3\r\n",
        b"Content-Length: 99999999\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Expect: 100-continue\r\n",
        b"Connection: Upgrade\r\nUpgrade: x\r\n",
        b"\r\n",
        b"\r\n\r\n",
        b"abc",
        b"3\r\nabc\r\n",
        b"0\r\n\r\n",
        b"GET /later HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nHost: x\r\n\r\n",
        GET,
    ]
)


@given(st.lists(st.lists(PIECES | st.binary(max_size=40), max_size=8).map(b"".join), min_size=1, max_size=6))
@settings(deadline=None, max_examples=60)
def test_any_bytes_leave_the_server_up(conversations: list[bytes]) -> None:
    async def main() -> None:
        async with running(config(linger_s=0.01)) as (server, _):
            for raw in conversations:
                answer = await talk(server, raw, 0.2)
                assert not [status for status in statuses(answer) if status >= 500]
            assert statuses(await talk(server, GET)) == [200]
            assert server.counters.crashed == 0

    asyncio.run(main())


def test_percentiles_of_nothing_and_of_several_histograms() -> None:
    assert Histogram().percentile(0.99) == 0
    one, other = Histogram(), Histogram()
    for _ in range(99):
        one.observe(1_000_000)
    other.observe(10**18)
    other.observe(-5)
    both = merged([one, other])
    assert both.count == 101
    assert 1_000_000 <= both.percentile(0.5) <= 1_070_000
    assert both.percentile(0.001) <= 32
