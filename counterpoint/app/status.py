"""``counterpoint status``: the live view once, of a system that runs elsewhere."""

from __future__ import annotations

import asyncio

from rich.console import Console

from counterpoint.app.config import Settings
from counterpoint.app.live import PARTS, LiveView
from counterpoint.app.system import connect_bus
from counterpoint.app.watch import RATE_WINDOW_S, Watch
from counterpoint.base.clock import SystemClock
from counterpoint.base.errors import BusUnavailable, ConfigError
from counterpoint.base.http_client import HttpClient
from counterpoint.catalog.store import read_catalog

LISTEN_S = 3.0  # some beats of every part, and enough counts for a rate
WIDTH_OF_FILES = 160  # where there is no terminal to say how wide
assert LISTEN_S < RATE_WINDOW_S


async def show_status(settings: Settings) -> bool:
    """Print it; whether the bidder and all other parts are alive. Raises :class:`ConfigError` where nothing runs."""
    try:
        bus = await connect_bus(settings, "console", wait_s=2.0)
    except (BusUnavailable, ConfigError) as error:
        raise ConfigError(
            f"nothing to be heard of a system in {settings.data.root} ({error}). Is it running? "
            "'counterpoint up' starts it"
        ) from error
    client = HttpClient(settings.local_url, connections_max=1, timeout_s=2.0)
    watch = Watch(bus, client, SystemClock())
    watching = asyncio.create_task(watch.run())
    try:
        await asyncio.wait({watching}, timeout=LISTEN_S)
        if watching.done():
            watching.result()
        title = f"Counterpoint · {settings.data.root}, over {LISTEN_S:g} s"
        view = LiveView(watch, {}, read_catalog(settings.catalog_url), title, once=True)
        out = Console(highlight=False)
        if not out.is_terminal:
            out = Console(highlight=False, width=WIDTH_OF_FILES)
        out.print(view)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        client.close()
        await bus.close()
    return watch.bidder_alive and all(watch.alive(name) for name in PARTS)
