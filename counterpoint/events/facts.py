"""What happened to bids and people. Stream FACTS: telemetry, may be shed and is counted when it is."""

from __future__ import annotations

from counterpoint.events.event import Event


class BidPlaced(Event, frozen=True, kw_only=True, tag="bid_placed"):
    """One bid answered to an exchange. ``event_id`` is the bid id.

    ``decision_input`` is the minimal input of the pure function (msgpack, ids already hashed), so that the recorder
    can archive it for wins and for a sample; it is empty where the recorder is off."""

    auction_id: str
    exchange: str
    media: str  # banner | video | audio | native
    segment: str  # where the win curve is kept: "{exchange}/{media}"
    campaign_id: str
    line_item_id: str
    creative_id: str
    price_nanos: int  # per impression, account currency
    value_nanos: int  # expected value of the impression before pacing
    paced_nanos: int  # v_eff: value after the multipliers
    floor_nanos: int
    click_rate: float  # predicted, at the chosen creative
    conversion_rate: float  # predicted, per click, of this impression
    win_rate: float  # predicted, at the price
    auction_type: int  # 1 first price, 2 second price
    explored: bool = False
    # decisions that can be judged later
    experiment: str = ""
    arm: str = "agents"
    bucket: int = 0
    unit: str = "request"  # what was randomised: "user" | "request"
    creative_propensity: float = 1.0
    price_propensity: float = 1.0
    bidding_version: int = 0
    creative_version: int = 0
    budget_version: int = 0
    feedback_version: int = 0
    view_digest: str = ""
    user_key: str = ""  # keyed hash; empty where not consented
    allowance_id: str = ""
    test: bool = False
    decision_input: bytes = b""
    # what the value was made of; no id of a person, and nothing of one who did not consent
    click_chance: float = -1.0  # of this impression, after features and calibration; -1: an older bidder
    context: bytes = (
        b""  # hashed features of the request, one little-endian uint32 for each of bidding.features.FIELDS
    )
    exposed: int = 0  # how often this person was shown the line item before


class AuctionWon(Event, frozen=True, kw_only=True, tag="auction_won"):
    """A win notice (nurl), or the settling notice where the exchange sends no other. ``event_id`` is ``won-{bid_id}``."""

    bid_id: str
    exchange: str
    segment: str
    campaign_id: str
    line_item_id: str
    creative_id: str
    bid_nanos: int
    price_nanos: int | None = None  # what the exchange says we pay; None: macro empty or not replaced
    min_to_win_nanos: int | None = None
    arm: str = "agents"
    bid_at_ns: int = 0
    user_key: str = ""


class AuctionLost(Event, frozen=True, kw_only=True, tag="auction_lost"):
    """A loss notice, or (``inferred``) no win notice within the profile's p99.9 delay. ``event_id`` ``lost-{bid_id}``."""

    bid_id: str
    exchange: str
    segment: str
    campaign_id: str
    line_item_id: str
    creative_id: str
    bid_nanos: int
    loss_code: int = 0  # OpenRTB 3.0 loss reason; 0 unknown; only 100, 102, 103 are price losses
    min_to_win_nanos: int | None = None
    inferred: bool = False
    arm: str = "agents"
    bid_at_ns: int = 0


class _Outcome(Event, frozen=True, kw_only=True):
    bid_id: str
    exchange: str
    segment: str
    campaign_id: str
    line_item_id: str
    creative_id: str
    arm: str = "agents"
    bid_at_ns: int = 0
    user_key: str = ""


class ImpressionSeen(_Outcome, frozen=True, kw_only=True, tag="impression_seen"):
    """Rendered at the client. ``event_id`` ``imp-{bid_id}``."""


class ClickSeen(_Outcome, frozen=True, kw_only=True, tag="click_seen"):
    """First click of one impression. ``event_id`` ``click-{bid_id}``."""


class AdSkipped(_Outcome, frozen=True, kw_only=True, tag="ad_skipped"):
    """Video or audio skipped. ``event_id`` ``skip-{bid_id}``."""


class ConversionAttributed(_Outcome, frozen=True, kw_only=True, tag="conversion_attributed"):
    """One order, once: by last click, else last view, in the declared windows. ``event_id`` is made of advertiser and order id."""

    advertiser_id: str = ""
    order_id: str = ""
    value_micros: int = 0
    by: str = "click"  # "click" | "view"


class ConversionUnattributed(Event, frozen=True, kw_only=True, tag="conversion_unattributed"):
    advertiser_id: str
    order_id: str
    value_micros: int = 0
    reason: str = "no_touch"


class TrafficCounted(Event, frozen=True, kw_only=True, tag="traffic_counted"):
    """What a bidder saw since its last count: requests, bids, no-bids by reason, shed and late, by exchange."""

    bidder_id: str
    interval_ns: int
    requests: dict[str, int]  # by exchange
    bids: dict[str, int]  # by exchange
    no_bids: dict[str, int]  # by reason
    shed_events: int = 0
    latency_us: dict[str, float] = {}  # "p50", "p99", "p999"


FACTS_PRICE_LOSS_CODES = frozenset({0, 100, 102, 103})
