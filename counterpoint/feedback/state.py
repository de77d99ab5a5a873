"""Everything the Feedback learner knows: plain structs, so that a snapshot is one msgpack message."""

from __future__ import annotations

from msgspec import Struct, field

from counterpoint.feedback.health import Part
from counterpoint.feedback.robust import LevelRule, LevelWatch, RatioRule, RatioWatch


class FeedbackConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    interval_s: int = 60
    late_s: int = 2  # an interval waits this long for its events
    quiet_s: int = 30  # and this long when nothing at all is heard
    policy_s: int = 5
    policy_life_s: int = 60
    level: LevelRule = LevelRule()
    ratio: RatioRule = RatioRule()
    levels_max: int = 2_000  # series; further ones are counted, not followed
    ratios_max: int = 20_000
    alarms_max: int = 20  # per interval; the largest |z| first
    exploration_low: int = 500_000  # ppm: wished when the click rate falls or the predictions are off
    exploration_high: int = 1_250_000  # ppm: wished when the click model is stale
    exploration_life_s: int = 600  # how long one finding is acted upon
    renew_s: int = 40
    stale_policy_s: int = 300  # the Creative agent's policy is older than this: its posterior is stale
    adjusted_max: int = 200  # campaigns at a time


class CampaignTally(Struct):
    """One campaign, one interval, experiment arm ``agents``."""

    bids: int = 0
    predicted: float = 0.0  # sum of the bids' predicted chances of a click
    won: int = 0
    impressions: int = 0
    clicks: int = 0
    conversions: int = 0
    booked: int = 0
    paid_nanos: int = 0


class ExchangeTally(Struct):
    requests: int = 0
    bids: int = 0
    won: int = 0
    booked: int = 0
    paid_nanos: int = 0


class Adjustment(Struct):
    """A wish about one campaign's exploration, and until when it is renewed."""

    value: int
    until_ns: int
    reason: str
    intent: str = "relevance"


class State(Struct):
    version: int = 0
    policy_at_ns: int = 0
    renewed_at_ns: int = 0
    last_tick_ns: int = 0
    listening_since_ns: int = 0
    interval: int = -1
    skip_interval: int = -1  # cut short by a sleep of ours: not judged
    heard_ns: int = 0
    alarm_count: int = 0
    judged: int = 0
    unfollowed: int = 0
    clock_physical_ns: int = 0
    clock_logical: int = 0
    parts: dict[str, Part] = {}
    told_health: dict[str, str] = {}
    told_distrust: list[str] = []
    campaigns: dict[str, CampaignTally] = {}  # open interval
    exchanges: dict[str, ExchangeTally] = {}
    no_bids: dict[str, int] = {}
    requests: int = 0
    p99_us: dict[str, float] = {}  # by bidder, the worst of the interval
    levels: dict[str, LevelWatch] = {}  # by "metric|subject"
    ratios: dict[str, RatioWatch] = {}
    rates: dict[str, float] = field(default_factory=dict)  # last judged value, by "metric|subject"
    adjustments: dict[str, Adjustment] = {}
    decided: str = "listening"
    why: str = "nothing unusual yet"
    seen: tuple[bytes, bytes] = (b"", b"")  # filled for a snapshot only
