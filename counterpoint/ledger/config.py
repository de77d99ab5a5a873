"""The ledger's settings."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from counterpoint.base.clock import NS_PER_S

_Positive = Annotated[int, Meta(gt=0)]
_Ppm = Annotated[int, Meta(ge=0, le=1_000_000)]


class LedgerConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Times in nanoseconds, shares in ppm, days as such."""

    allowance_life_ns: _Positive = 45 * NS_PER_S  # no bid on an allowance after this
    allowance_life_min_ns: _Positive = 1 * NS_PER_S  # a day or flight ending sooner grants nothing more
    request_life_ns: _Positive = 30 * NS_PER_S  # an older request is refused
    notice_life_default_ns: _Positive = 86_400 * NS_PER_S  # where the catalog names no exchange
    bidder_share_max_ppm: _Ppm = 500_000  # of a day's budget in one bidder's hands: what its crash withholds
    grant_min_ppm: _Ppm = 1_000  # of the day's budget: less than this is not worth an allowance
    # Headroom: twice the measured share of late spend, between these.
    headroom_min_ppm: _Ppm = 10_000
    headroom_max_ppm: _Ppm = 100_000
    headroom_margin: _Positive = 2
    lateness_half_life_ns: _Positive = 3_600 * NS_PER_S
    retry_after_ns: _Positive = 3 * NS_PER_S  # after a refusal that returning allowances may cure
    closings_per_tick: _Positive = 500
    events_per_batch: _Positive = 100  # on the bus
    # Keys outlive notices plus spool: after this many days an account's settlement keys go and its journal is carried.
    keep_days: _Positive = 35
    commands_kept_ns: _Positive = 7 * 86_400 * NS_PER_S
