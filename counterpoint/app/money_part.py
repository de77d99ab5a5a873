"""The ledger's process, from the configuration."""

from __future__ import annotations

import asyncio
import secrets

from counterpoint.app.config import Settings
from counterpoint.app.system import connect_bus
from counterpoint.base.clock import SystemClock
from counterpoint.catalog.store import read_catalog
from counterpoint.ledger.service import run_ledger


async def ledger(settings: Settings, stop: asyncio.Event) -> None:
    settings.data.make()
    bus = await connect_bus(settings, "ledger")
    try:
        await run_ledger(
            bus=bus,
            engine_url=settings.ledger_url,
            catalog=read_catalog(settings.catalog_url),
            clock=SystemClock(),
            stop=stop,
            incarnation=secrets.token_hex(8),
            load_catalog=lambda: read_catalog(settings.catalog_url),
        )
    finally:
        await bus.close()
