"""The columns of the decision log. Grown only by new columns; money in nano-units per impression."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from counterpoint.events.facts import BidPlaced

KEPT_WON, KEPT_SAMPLED = "won", "sampled"

_BID_COLUMNS: tuple[tuple[str, pa.DataType], ...] = (
    ("happened_at_ns", pa.int64()),
    ("recorded_at_ns", pa.int64()),
    ("auction_id", pa.string()),
    ("exchange", pa.string()),
    ("media", pa.string()),
    ("segment", pa.string()),
    ("campaign_id", pa.string()),
    ("line_item_id", pa.string()),
    ("creative_id", pa.string()),
    ("price_nanos", pa.int64()),
    ("value_nanos", pa.int64()),
    ("paced_nanos", pa.int64()),
    ("floor_nanos", pa.int64()),
    ("click_rate", pa.float64()),
    ("conversion_rate", pa.float64()),
    ("win_rate", pa.float64()),
    ("auction_type", pa.int16()),
    ("explored", pa.bool_()),
    ("experiment", pa.string()),
    ("arm", pa.string()),
    ("bucket", pa.int32()),
    ("unit", pa.string()),
    ("creative_propensity", pa.float64()),
    ("price_propensity", pa.float64()),
    ("bidding_version", pa.int64()),
    ("creative_version", pa.int64()),
    ("budget_version", pa.int64()),
    ("feedback_version", pa.int64()),
    ("view_digest", pa.string()),
    ("user_key", pa.string()),
    ("allowance_id", pa.string()),
    ("decision_input", pa.binary()),
    ("click_chance", pa.float64()),
    ("context", pa.binary()),
    ("exposed", pa.int32()),
)

SCHEMA = pa.schema(
    [
        ("bid_id", pa.string()),
        ("kept", pa.string()),  # "won": every win; "sampled": with probability kept_rate
        ("kept_rate", pa.float64()),
        ("paid_nanos", pa.int64()),  # null: not known when the row was written
        *_BID_COLUMNS,
    ]
)


class Row:
    """A bid on its way into the log."""

    __slots__ = ("bid", "kept", "kept_rate", "paid_nanos")

    def __init__(self, bid: BidPlaced, kept: str, kept_rate: float, paid_nanos: int | None) -> None:
        self.bid = bid
        self.kept = kept
        self.kept_rate = kept_rate
        self.paid_nanos = paid_nanos


def table(rows: Iterable[Row]) -> pa.Table:
    listed = list(rows)
    columns: dict[str, list[Any]] = {
        "bid_id": [row.bid.event_id for row in listed],
        "kept": [row.kept for row in listed],
        "kept_rate": [row.kept_rate for row in listed],
        "paid_nanos": [row.paid_nanos for row in listed],
    }
    for name, _ in _BID_COLUMNS:
        columns[name] = [getattr(row.bid, name) for row in listed]
    return pa.table(columns, schema=SCHEMA)
