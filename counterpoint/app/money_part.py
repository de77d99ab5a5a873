"""The ledger's process, from the configuration."""

from __future__ import annotations

import asyncio
import secrets

from counterpoint.app.config import Settings
from counterpoint.app.system import connect_bus
from counterpoint.base.clock import NS_PER_S, SystemClock
from counterpoint.catalog.store import read_catalog
from counterpoint.ledger.config import LedgerConfig
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
            config=LedgerConfig(allowance_life_ns=settings.config.ledger.allowance_life_s * NS_PER_S),
            load_catalog=lambda: read_catalog(settings.catalog_url),
        )
    finally:
        await bus.close()
