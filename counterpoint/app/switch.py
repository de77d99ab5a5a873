"""A person's hand on the running system: stop, resume, another catalog. Works with parts of it down."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path

import msgspec
from sqlalchemy import select

from counterpoint.app.config import Settings
from counterpoint.app.system import connect_bus
from counterpoint.base.clock import SystemClock
from counterpoint.base.errors import BusUnavailable, ConfigError, CounterpointError
from counterpoint.base.http_client import HttpClient, HttpUnavailable
from counterpoint.base.ids import digest
from counterpoint.catalog.load import check_catalog
from counterpoint.catalog.store import read_catalog, save_catalog
from counterpoint.coordination.stops import Stop, StopWatch, say
from counterpoint.coordination.targets import AGENTS
from counterpoint.events import subjects
from counterpoint.events.decisions import CatalogChanged, StopChanged
from counterpoint.events.event import Event
from counterpoint.ledger import look
from counterpoint.ledger.migrate import open_existing
from counterpoint.ledger.tables import ACCOUNTS, LedgerDatabaseError

CONFIRM_WAIT_S = 2.0
BUS_WAIT_S = 1.0
TELL_EVERY_S = 0.5


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
    said = Stop(stopped=stopped, at_ns=now_ns, person=person, reason=reason)
    said = say(settings.data.stops, target, said).targets[target]
    lines = [f"{target}: {'stopped' if stopped else 'resumed'} in {settings.data.stops}"]
    confirmed = await _confirmed(settings, target, stopped)
    if confirmed:
        lines.append(f"the bidder obeys, after {time.monotonic() - began:.2f} s")
    else:
        lines.append("no running bidder confirmed it; one that starts will obey the file")
    event = event_of(target, said, now_ns)
    lines.append(await _tell(settings, subjects.STOPS, event))
    return lines


def event_of(target: str, said: Stop, now_ns: int) -> StopChanged:
    """What the stop file holds, as a fact for the bus: the same id whoever tells it."""
    return StopChanged(
        event_id=f"stop-{digest(target, str(said.at_ns), str(said.stopped), said.person)}",
        happened_at_ns=said.at_ns,
        recorded_at_ns=now_ns,
        source=f"person:{said.person}",
        target=target,
        stopped=said.stopped,
        person=said.person,
        reason=said.reason,
    )


async def keep_telling(settings: Settings) -> None:
    """Tell the bus what the stop file holds, also what was said while the bus was away: else a resume from then would
    be known to this machine alone, and the stop before it would hold on the bus for ever."""
    watch, told, clock = StopWatch(settings.data.stops), dict[str, Stop](), SystemClock()
    bus = await connect_bus(settings, "console")
    try:
        while True:
            watch.poll()
            if not watch.problem:
                for target, said in watch.stops.targets.items():
                    if told.get(target) != said:
                        with contextlib.suppress(BusUnavailable):  # away: once more at the next look
                            await bus.publish(subjects.STOPS, [event_of(target, said, clock.now_ns())])
                            told[target] = said
            await asyncio.sleep(TELL_EVERY_S)
    finally:
        await bus.close()


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
    """Check a catalog, store it, tell the parts. Raises the catalog's own error, or :class:`ConfigError` where the books are
    in another currency; then nothing was changed."""
    loaded = check_catalog(file, SystemClock().now_ns())
    unasked = _in_the_books_currency(settings, file, loaded.catalog.account_currency)
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
        *unasked,
        f"catalog {loaded.catalog.digest[:12]} with {len(loaded.catalog.line_items)} line items in place",
        told,
    ]


def _in_the_books_currency(settings: Settings, file: Path, wanted: str) -> list[str]:
    """The ledger would refuse another one, in its log. Returns a warning where the books cannot be asked; a ledger that has
    not begun takes any."""
    try:
        engine = open_existing(settings.ledger_url)
        with engine.execution_options(reads=True).connect() as connection:
            currency, begun = (
                look.currency(connection),
                bool(connection.execute(select(ACCOUNTS.c.day).limit(1)).first()),
            )
        engine.dispose()
    except LedgerDatabaseError as error:
        if settings.config.ledger.url is None and not (settings.data.root / "ledger.db").exists():
            return []  # it makes its books when it starts
        return [f"warning: the ledger's currency could not be asked: {error}"]
    if not begun or currency == wanted:
        return []
    raise ConfigError(
        f"{file}: account_currency is {wanted}, the ledger's books are in {currency}, and amounts of two currencies cannot be "
        f"added up; nothing was changed. Set account_currency to {currency} (what is bought in {wanted} is converted by "
        "[rates]), or start a system of its own with another data_dir"
    )
