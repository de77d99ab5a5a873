"""Closing a link ends, whatever the client library does with the cancellation."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from nats.aio.client import Client

from counterpoint.bus.link import Link


async def test_a_close_while_connecting_ends_though_the_client_swallows_the_cancellation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connecting = asyncio.Event()

    async def deaf(self: Link, client: Client) -> None:
        connecting.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3_600)

    monkeypatch.setattr(Link, "_connect", deaf)
    link = Link("nats://127.0.0.1:1", "u", "p", "test")
    opening = asyncio.create_task(link.open(0.01, required=False))
    await connecting.wait()
    await opening
    async with asyncio.timeout(5):
        await link.close()
    assert not link.connected
