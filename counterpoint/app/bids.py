"""``counterpoint bids``: the newest bids of the decision log, each with the id that ``explain`` takes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from msgspec import Struct

from counterpoint.base.errors import CounterpointError
from counterpoint.base.plain import columns
from counterpoint.record.schema import KEPT_WON, SCHEMA

PARTS_AT_ONCE: Final = 16
COLUMNS: Final = (
    *("bid_id", "happened_at_ns", "kept", "exchange", "media", "campaign_id", "line_item_id", "creative_id"),
    *("price_nanos", "paid_nanos", "arm"),
)


class RecentBid(Struct, frozen=True, kw_only=True):
    """Prices in nanos per impression, which is micros CPM. ``paid_nanos`` None: not won, or at a price not told."""

    bid_id: str
    happened_at_ns: int
    kept: str
    exchange: str
    media: str
    campaign_id: str
    line_item_id: str
    creative_id: str
    price_nanos: int
    paid_nanos: int | None
    arm: str


def recent(folder: Path, limit: int, *, won: bool = False, campaign: str | None = None) -> list[RecentBid]:
    """The ``limit`` newest bids of the newest parts that hold as many, the newest first. Raises
    :class:`CounterpointError` where a part cannot be read."""
    assert limit > 0
    parts = sorted(folder.glob("*.parquet"), reverse=True)  # named by when they were written
    found: list[RecentBid] = []
    for start in range(0, len(parts), PARTS_AT_ONCE):
        if len(found) >= limit:
            break
        rows = _rows(parts[start : start + PARTS_AT_ONCE], won, campaign)
        found += [RecentBid(**row) for row in rows]
    found.sort(key=lambda bid: (bid.happened_at_ns, bid.bid_id), reverse=True)
    return found[:limit]


def _rows(parts: Sequence[Path], won: bool, campaign: str | None) -> list[dict[str, Any]]:
    wanted = pc.scalar(True)
    if won:
        wanted = wanted & (ds.field("kept") == KEPT_WON)
    if campaign is not None:
        wanted = wanted & (ds.field("campaign_id") == campaign)
    present = [str(part) for part in parts if part.exists()]
    if not present:
        return []
    try:
        table = ds.dataset(present, schema=SCHEMA, format="parquet").to_table(list(COLUMNS), filter=wanted)
    except FileNotFoundError:
        return _rows(parts, won, campaign)  # retention took one between looking and reading
    except pa.ArrowInvalid as error:
        raise CounterpointError(
            f"a part of the decision log cannot be read: {error}; move it away"
        ) from error
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def lines(bids: Sequence[RecentBid]) -> list[str]:
    """A table in plain text, its head first."""
    head = ("bid", "when (UTC)", "exchange", "campaign", "line item", "creative", "bid CPM", "paid CPM")
    rows = [
        (
            bid.bid_id,
            f"{datetime.fromtimestamp(bid.happened_at_ns / 1e9, UTC):%Y-%m-%d %H:%M:%S}",
            bid.exchange,
            bid.campaign_id,
            bid.line_item_id,
            bid.creative_id,
            f"{bid.price_nanos / 1e6:.4f}",
            ("won" if bid.kept == KEPT_WON else "-")
            if bid.paid_nanos is None
            else f"{bid.paid_nanos / 1e6:.4f}",
        )
        for bid in bids
    ]
    return columns((head, *rows))
