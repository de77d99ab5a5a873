"""``counterpoint explain BID_ID``: the decision log, the archive and the ledger, looked up for one bid."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from counterpoint.app.config import Settings
from counterpoint.base.clock import NS_PER_S, SystemClock
from counterpoint.base.errors import CounterpointError
from counterpoint.ledger.tables import SETTLEMENTS
from counterpoint.record.archive import Archive
from counterpoint.record.explain import explain
from counterpoint.record.find import find, made_at_ms
from counterpoint.record.recorder import PART_NS_MAX, WAITING_NS_MAX
from counterpoint.record.story import Booked, Story

MS_PER_DAY = 86_400_000


def tell(settings: Settings, bid_id: str) -> Story:
    """The story of a bid of this installation. Raises :class:`CounterpointError` that says what to do where the decision
    log does not hold it."""
    bid_id = bid_id.strip().lower()
    found = find(settings.data.decisions, bid_id)
    if found is None:
        raise CounterpointError(_not_there(settings, bid_id))
    story = explain(found, Archive(settings.data.archive))
    return msgspec.structs.replace(story, booked=_booked(settings, bid_id))


def _not_there(settings: Settings, bid_id: str) -> str:
    folder, config = settings.data.decisions, settings.config.recorder
    if not folder.is_dir():
        return f"there is no decision log in {folder}: is this the --config of the running system?"
    age_ms = SystemClock().now_ns() // 1_000_000 - made_at_ms(bid_id)
    if age_ms < 0:
        return f"bid {bid_id} lies in the future by its own id: it is none of ours"
    if age_ms > config.keep_days * MS_PER_DAY:
        return (
            f"bid {bid_id} is {age_ms // MS_PER_DAY} days old and decisions are kept for {config.keep_days}: "
            "raise recorder.keep_days before the next one is needed"
        )
    said = (
        f"bid {bid_id} is not in the decision log ({folder}). Every win is kept, about {PART_NS_MAX // NS_PER_S} s after "
        "it was heard of"
    )
    if age_ms * 1_000_000 <= WAITING_NS_MAX + 2 * PART_NS_MAX:
        return (
            f"{said}; of the rest a sample of {config.sample_rate:g}, {WAITING_NS_MAX // NS_PER_S} s after the bid: try "
            "again in a moment"
        )
    return (
        f"{said}; this one did not win, or no notice of it came, and it is not in the sample of {config.sample_rate:g} "
        "of the rest: raise recorder.sample_rate to keep more (test bids are never kept)"
    )


def _booked(settings: Settings, bid_id: str) -> Booked | None:
    """What the ledger booked; None where it booked nothing or cannot be asked now."""
    url = sa.make_url(settings.ledger_url)
    if url.get_backend_name() == "sqlite":
        url = url.set(database=f"file:{url.database}", query={"mode": "ro", "uri": "true"})
    wanted = sa.select(SETTLEMENTS).where(SETTLEMENTS.c.bid_id == bid_id)
    engine = sa.create_engine(url)
    try:
        with engine.connect() as connection:
            row = connection.execute(wanted).one_or_none()
    except sa.exc.DBAPIError:
        return None
    finally:
        engine.dispose()
    if row is None:
        return None
    return Booked(
        on_time_nanos=row.on_time_nanos,
        late_nanos=row.late_nanos,
        overspend_nanos=row.overspend_nanos,
        booked_at_ns=row.booked_at_ns,
    )
