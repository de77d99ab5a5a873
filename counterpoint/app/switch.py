"""A person's hand on the running system: stop, resume, another catalog. Works with parts of it down."""

from __future__ import annotations

import asyncio
import secrets
import time
from pathlib import Path

import msgspec

from counterpoint.app.config import Settings
from counterpoint.app.system import connect_bus
from counterpoint.base.clock import SystemClock
from counterpoint.base.errors import BusUnavailable, ConfigError, CounterpointError
from counterpoint.base.http_client import HttpClient, HttpUnavailable
from counterpoint.catalog.load import check_catalog
from counterpoint.catalog.store import read_catalog, save_catalog
from counterpoint.coordination.stops import Stop, say
from counterpoint.coordination.targets import AGENTS
from counterpoint.events import subjects
from counterpoint.events.decisions import CatalogChanged, StopChanged
from counterpoint.events.event import Event

CONFIRM_WAIT_S = 2.0
BUS_WAIT_S = 1.0


def target_of(settings: Settings, word: str) -> str:
    """ "all", an agent's name or a campaign's id as the stop file names it. Raises :class:`ConfigError`."""
    if word == "all":
        return "all"
    if word.removeprefix("agent/") in AGENTS:
        return f"agent/{word.removeprefix('agent/')}"
    campaigns = [campaign.id for campaign in read_catalog(settings.catalog_url).campaigns]
    if word.removeprefix("campaign/") in campaigns:
        return f"campaign/{word.removeprefix('campaign/')}"
    raise ConfigError(
        f"{word!r} is neither 'all', an agent ({', '.join(AGENTS)}) nor a campaign ({', '.join(campaigns[:20])})"
    )


async def switch(settings: Settings, word: str, stopped: bool, person: str, reason: str) -> list[str]:
    """Write the stop file, tell the bus, and wait for the bidder to confirm. Returns what to tell the person."""
    target = target_of(settings, word)
    now_ns = SystemClock().now_ns()
    began = time.monotonic()
    settings.data.make()
    say(settings.data.stops, target, Stop(stopped=stopped, at_ns=now_ns, person=person, reason=reason))
    lines = [f"{target}: {'stopped' if stopped else 'resumed'} in {settings.data.stops}"]
    confirmed = await _confirmed(settings, target, stopped)
    if confirmed:
        lines.append(f"the bidder obeys, after {time.monotonic() - began:.2f} s")
    else:
        lines.append("no running bidder confirmed it; one that starts will obey the file")
    event = StopChanged(
        event_id=f"stop-{secrets.token_hex(8)}",
        happened_at_ns=now_ns,
        recorded_at_ns=now_ns,
        source=f"person:{person}",
        target=target,
        stopped=stopped,
        person=person,
        reason=reason,
    )
    lines.append(await _tell(settings, subjects.STOPS, event))
    return lines


async def _confirmed(settings: Settings, target: str, stopped: bool) -> bool:
    client = HttpClient(settings.local_url, connections_max=1, timeout_s=CONFIRM_WAIT_S)
    try:
        async with asyncio.timeout(CONFIRM_WAIT_S):
            while True:
                status = msgspec.json.decode((await client.get("/control/status")).body)
                if (target in status.get("view", {}).get("stops", ())) == stopped:
                    return True
                await asyncio.sleep(0.05)
    except (TimeoutError, HttpUnavailable, msgspec.DecodeError):
        return False
    finally:
        client.close()


async def _tell(settings: Settings, subject: str, event: Event) -> str:
    try:
        bus = await connect_bus(settings, "console", wait_s=BUS_WAIT_S)
    except CounterpointError as error:
        return f"the bus was not told ({error})"
    try:
        await bus.publish(subject, [event])
    except BusUnavailable as error:
        return f"the bus was not told ({error})"
    finally:
        await bus.close()
    return "the bus was told"


async def load_into(settings: Settings, file: Path) -> list[str]:
    """Check a catalog, store it, tell the parts. Raises the catalog's own error; then nothing was changed."""
    loaded = check_catalog(file)
    settings.data.make()
    save_catalog(settings.catalog_url, loaded.catalog)
    now_ns = SystemClock().now_ns()
    event = CatalogChanged(
        event_id=f"catalog-{loaded.catalog.digest}-{now_ns}",
        happened_at_ns=now_ns,
        recorded_at_ns=now_ns,
        source="console",
        digest=loaded.catalog.digest,
        line_items=len(loaded.catalog.line_items),
    )
    told = await _tell(settings, subjects.CATALOG, event)
    warnings = [f"warning: {found}" for found in loaded.warnings]
    return [
        *warnings,
        f"catalog {loaded.catalog.digest[:12]} with {len(loaded.catalog.line_items)} line items in place",
        told,
    ]
