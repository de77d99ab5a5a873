"""The bidder's own HTTP layer with a fixed answer: what a request costs before anything is decided.

Run as ``python -m counterpoint.bench.bare``; see ``process.Part`` for how it is spoken to.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from typing import Any

import msgspec
import uvloop
from msgspec import Struct

from counterpoint.bidder.http import serve
from counterpoint.bidder.message import JSON, HttpConfig, Request, Response


class BareConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``answer_bytes``: length of the fixed JSON answer, about what a bid takes."""

    answer_bytes: int = 1_900


def say(answer: Any) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
    sys.stdout.buffer.flush()


async def questions() -> asyncio.StreamReader:
    """What the benchmark asks, line by line; ends when it closes the pipe."""
    reader = asyncio.StreamReader(limit=1 << 20)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


async def _run(config: BareConfig) -> None:
    body = b'{"id":"' + b"x" * (config.answer_bytes - 9) + b'"}'
    response = Response(200, body, JSON)

    def application(request: Request) -> Response:
        return response

    server = await serve(application, HttpConfig(port=0))
    gc.collect()
    gc.freeze()
    gc.disable()
    say({"port": server.port, "pid": os.getpid()})
    reader = await questions()
    while await reader.readline():
        say({})
    await server.close(0.1)


def main() -> None:
    config = msgspec.json.decode(sys.stdin.buffer.readline(), type=BareConfig)
    uvloop.run(_run(config))


if __name__ == "__main__":
    main()
