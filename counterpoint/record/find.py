"""A row of the decision log by its bid id, without reading more of the log than must be."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.dataset as ds
from msgspec import Struct

from counterpoint.base.errors import CounterpointError
from counterpoint.record.schema import SCHEMA
from counterpoint.record.story import LoggedBid

PARTS_AT_ONCE: Final = 64
CLOCKS_APART_MS: Final = 60_000  # how far the recorder's clock may be behind the bidder's

_BID_ID: Final = re.compile(r"[0-9a-f]{12}[0-9a-f]*")


class Found(Struct, frozen=True):
    bid: LoggedBid
    decision_input: bytes


def made_at_ms(bid_id: str) -> int:
    """When the bid was made: an id starts with its milliseconds in hex. Raises CounterpointError where it is no bid id."""
    if _BID_ID.fullmatch(bid_id) is None:
        raise CounterpointError(
            f"{bid_id!r} is no bid id: one of ours starts with 12 hex digits of time, as in the response's bid.id or "
            "the decision log's bid_id; 'counterpoint bids' lists some"
        )
    return int(bid_id[:12], 16)


def find(folder: Path, bid_id: str) -> Found | None:
    """The row of the bid, None where no part holds it.

    A part's name starts with the milliseconds of its writing, so only parts from the bid's own time on can hold it; they
    are read in that order, since a bid is written soon after it was made. A part that retention takes meanwhile is
    passed over."""
    since = made_at_ms(bid_id) - CLOCKS_APART_MS
    parts = sorted(part for part in folder.glob("*.parquet") if int(part.name.split("-", 1)[0]) >= since)
    for start in range(0, len(parts), PARTS_AT_ONCE):
        rows = _rows(parts[start : start + PARTS_AT_ONCE], bid_id)
        if rows:
            row = {name: value for name, value in rows[0].items() if value is not None}
            decision_input = row.pop("decision_input", b"")
            return Found(msgspec.convert(row, LoggedBid), bytes(decision_input))
    return None


def _rows(parts: list[Path], bid_id: str) -> list[dict[str, Any]]:
    present = [str(part) for part in parts if part.exists()]
    if not present:
        return []
    try:
        table = ds.dataset(present, schema=SCHEMA, format="parquet").to_table(
            filter=ds.field("bid_id") == bid_id
        )
    except FileNotFoundError:
        return _rows(parts, bid_id)  # one went between looking and reading
    except pa.ArrowInvalid as error:
        raise CounterpointError(
            f"a part of the decision log cannot be read: {error}; move it away"
        ) from error
    found: list[dict[str, Any]] = table.to_pylist()
    return found
