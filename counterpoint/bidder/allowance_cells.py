"""What an allowance book is made of: its settings, one allowance, one cell of (campaign, arm)."""

from __future__ import annotations

from msgspec import Struct

from counterpoint.base.clock import NS_PER_MS, NS_PER_S
from counterpoint.events.money import AllowanceGranted


class AllowanceBookConfig(Struct, frozen=True, forbid_unknown_fields=True):
    reservations_max: int = 200_000  # bids and wins together; past that bids are refused and counted
    request_horizon_ns: int = 15 * NS_PER_S  # ask for this much of the recent reservation throughput
    renew_before_ns: int = 8 * NS_PER_S  # money expiring sooner than this no longer counts as held
    request_first_nanos: int = 50_000_000  # the first ask of a cell: 0.05 units, a few bids
    request_share_ppm: int = (
        10_000  # ... or this share of what the cell may still have today, where that is more
    )
    request_bids_min: int = 8  # never ask for less than this many of the dearest recent bid
    request_timeout_ns: int = 10 * NS_PER_S  # unanswered this long: ask again
    request_interval_ns: int = 500 * NS_PER_MS  # between two asks of one cell
    backoff_first_ns: int = 1 * NS_PER_S  # after a refusal, doubling
    backoff_max_ns: int = 60 * NS_PER_S
    requests_per_call: int = 64
    returns_per_call: int = 64
    return_interval_ns: int = 1 * NS_PER_S  # between two returns of one allowance


class Expired(Struct, frozen=True):
    """A bid whose reservation ended without a win notice: presumed lost. ``context`` is what ``reserve`` was given."""

    bid_id: str
    nanos: int
    context: object


class Allowance:
    __slots__ = (
        "allowance_id",
        "campaign_id",
        "cell",
        "day",
        "expires_at_ns",
        "left",
        "reserved",
        "returned_at_ns",
        "returns",
        "spent",
        "starts_at_ns",
    )

    def __init__(self, event: AllowanceGranted) -> None:
        self.allowance_id = event.allowance_id
        self.campaign_id = event.campaign_id
        self.day = event.day
        self.cell: Cell | None = None  # None: closing, no bid any more
        self.left = event.usable_nanos  # neither reserved, spent nor returned
        self.reserved = 0
        self.spent = 0
        self.starts_at_ns = event.starts_at_ns
        self.expires_at_ns = event.expires_at_ns
        self.returned_at_ns = 0
        self.returns = 0


class Cell:
    """One (campaign, arm), or one capped line item in an arm: its open allowances and what is asked for it."""

    __slots__ = (
        "arm",
        "asked_at_ns",
        "backoff_ns",
        "blocked_until_ns",
        "campaign_id",
        "dearest",
        "hot",
        "index",
        "line_item_id",
        "measured_at_ns",
        "open",
        "pending_request",
        "rate_per_s",
        "reserved_since",
        "stopped_day",
    )

    def __init__(self, campaign_id: str, arm: str, index: int, line_item_id: str = "") -> None:
        self.campaign_id = campaign_id
        self.line_item_id = line_item_id  # empty: for all of the campaign's that have no cap of their own
        self.arm = arm
        self.index = index  # flat position in left; -1: the campaign left the catalog
        self.open: list[Allowance] = []  # by expiry, the next to expire first
        self.pending_request = ""
        self.asked_at_ns = -(10**18)
        self.blocked_until_ns = 0
        self.backoff_ns = 0
        self.reserved_since = 0  # nanos reserved since measured_at_ns
        self.measured_at_ns = 0
        self.rate_per_s = 0  # nanos reserved a second, recent
        self.dearest = 0  # the highest price reserved, decaying
        self.hot = False
        self.stopped_day = ""  # the newest local day that is stopped
