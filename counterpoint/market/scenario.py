"""A scenario: everything that makes a simulated market, frozen, with a permanent name and a digest.

Money is in units of the account currency unless a name says micros; days count from the scenario's first Monday,
00:00 UTC. Every key is explained in ``docs/market.md``; how a file becomes a scenario: ``load.py``.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from counterpoint.base.ids import digest
from counterpoint.catalog.model import Goal, Media

DAY_NS: Final = 86_400_000_000_000
STARTS_AT_NS: Final = 1_767_571_200_000_000_000  # Monday 2026-01-05 00:00 UTC
AUCTIONS_MIN: Final = 100
AUCTIONS_MAX: Final = 100_000_000

Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Positive = Annotated[float, Meta(gt=0.0, le=1e9)]
NotNegative = Annotated[float, Meta(ge=0.0, le=1e9)]
Weight = Annotated[float, Meta(ge=-50.0, le=50.0)]
Day = Annotated[float, Meta(ge=0.0, le=3_650.0)]
Name = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[a-z0-9][a-z0-9._-]*$")]


class Part(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all parts of a scenario."""


# ---- people


class Country(Part, frozen=True, kw_only=True):
    code: Annotated[str, Meta(pattern="^[A-Z]{3}$")]  # ISO-3166-1 alpha-3
    share: Positive
    language: str = "en"
    utc_offset_minutes: int = 0


class Users(Part, frozen=True, kw_only=True):
    count: Annotated[int, Meta(ge=10, le=5_000_000)] = 20_000
    reach_skew: Annotated[float, Meta(ge=1.0, le=6.0)] = 2.0  # user = count * u**skew: 1 is uniform
    consent_share: Share = 0.92  # the rest send no id, and the bidder cannot know them again
    countries: tuple[Country, ...] = ()
    phone_share: Share = 0.6
    click_bias_sd: NotNegative = 0.4  # of the logit of a click, per person
    conversion_bias_sd: NotNegative = 0.4
    rival_value_weight: Weight = 0.3  # how much of the conversion bias rivals know and bid on
    aversion_share: Share = 0.25  # of people who dislike a medium, drawn per medium
    aversion: NotNegative = 1.2  # what that takes off the logit of a click


# ---- supply


class Venue(Part, frozen=True, kw_only=True):
    """An exchange, as its profile in the catalog."""

    id: Name
    auction_type: Annotated[int, Meta(ge=1, le=2)] = 1
    minimum_bid_to_win: bool = False  # tells the least bid that would have won, after win and loss


class Lognormal(Part, frozen=True, kw_only=True):
    weight: NotNegative
    median: Positive  # in price units of the supply path
    sigma: Annotated[float, Meta(gt=0.0, le=5.0)]


class Mass(Part, frozen=True, kw_only=True):
    """A price (or floor) that is met exactly, again and again."""

    weight: NotNegative
    at: NotNegative


class Prices(Part, frozen=True, kw_only=True):
    """Highest rival bid: a mixture. Weights need not sum to 1. ``unit_cpm``: account currency CPM per price unit."""

    unit_cpm: Positive
    components: Annotated[tuple[Lognormal, ...], Meta(min_length=1)]
    masses: tuple[Mass, ...] = ()
    floors: tuple[Mass, ...] = ()  # empty: no floor
    explained: Annotated[float, Meta(ge=0.0, le=0.95)] = (
        0.5  # correlation of the price with what can be known
    )
    source: str = ""  # where the figures come from


class Supply(Part, frozen=True, kw_only=True):
    """A supply path: one medium on one exchange. Also a segment of prices and a channel of budgets."""

    venue: Name
    media: Media
    share: Positive  # of all auctions, relative to the others
    prices: Prices


class Place(Part, frozen=True, kw_only=True):
    """A site (domain) or an app (bundle)."""

    id: Annotated[str, Meta(min_length=3, max_length=100)]
    app: bool = False
    media: Annotated[tuple[Media, ...], Meta(min_length=1)]
    category: Annotated[str, Meta(pattern=r"^IAB[0-9]+(-[0-9]+)?$")]
    share: Positive = 1.0
    quality: Weight = 0.0  # mean of its page quality, in standard deviations


class Size(Part, frozen=True, kw_only=True):
    w: Annotated[int, Meta(ge=1, le=10_000)]
    h: Annotated[int, Meta(ge=1, le=10_000)]
    share: Positive
    phone_share: Positive | None = None  # on phones instead of ``share``
    click_weight: Weight = 0.0  # added to the logit of a click


class Traffic(Part, frozen=True, kw_only=True):
    hour_of_week: Annotated[
        tuple[NotNegative, ...], Meta(min_length=168, max_length=168)
    ]  # Monday 00:00 first
    weekend_volume: Positive = 1.0  # Saturday and Sunday, on top of the shape
    weekend_price: Positive = 1.0
    growth_per_day: Annotated[float, Meta(ge=-0.5, le=0.5)] = 0.0  # of the volume, compounded
    peak_price: Annotated[float, Meta(ge=-0.9, le=0.9)] = (
        0.0  # share of what is known of prices that is the hour
    )
    source: str = ""


# ---- demand


class Creatives(Part, frozen=True, kw_only=True):
    """What each line item has per medium (and, for banners, per size)."""

    per_format: Annotated[int, Meta(ge=1, le=200)] = 4
    colours: Annotated[tuple[str, ...], Meta(min_length=1)] = ("red", "blue", "green", "dark")
    messages: Annotated[tuple[str, ...], Meta(min_length=1)] = ("price", "brand", "quality")


class Advertiser(Part, frozen=True, kw_only=True):
    id: Name
    category: Annotated[str, Meta(pattern=r"^IAB[0-9]+(-[0-9]+)?$")]


class Campaign(Part, frozen=True, kw_only=True):
    id: Name
    advertiser: Name
    goal: Goal
    goal_value_micros: Annotated[int, Meta(gt=0)]  # as catalog.model.Campaign
    daily_budget: Positive  # times budget_factor
    media: Annotated[tuple[Media, ...], Meta(min_length=1)]
    countries: tuple[str, ...] = ()
    bid_ceiling_cpm: Positive = 20.0
    frequency_cap: Annotated[int, Meta(ge=0, le=1_000)] = 0  # impressions a day; 0: none
    conversion_rate: Annotated[float, Meta(gt=0.0, lt=1.0)] = 0.08  # per click, of the average person
    order_value: Positive = 50.0
    order_sigma: NotNegative = 0.5  # of the log of the order value
    expected_click_rate: Annotated[float, Meta(gt=0.0, lt=1.0)] = 0.015  # its owner's prior
    expected_conversion_rate: Annotated[float, Meta(gt=0.0, lt=1.0)] = 0.08


# ---- truths about people and ads


class Click(Part, frozen=True, kw_only=True):
    """Logit of a click; docs/market.md has the whole formula. ``link`` steep: S-shaped in the affinity instead."""

    base: dict[Media, Weight]
    taste_weight: NotNegative = 0.5
    content_sd: NotNegative = 0.35  # of the appeal that content explains
    appeal_sd: NotNegative = 0.5  # of the hidden appeal that it does not
    own_content: Share = 0.4  # how far a creative's content leaves what its features say
    quality_weight: Weight = 0.3
    category_match: Weight = 0.3
    fatigue_weight: NotNegative = 0.25
    fatigue_days: Positive = 3.0  # exposures fade with this time constant
    wear_in: NotNegative = 0.0  # exposures that help before they hurt; 0: they always hurt
    link: Annotated[str, Meta(pattern="^(logistic|steep)$")] = "logistic"


class Delay(Part, frozen=True, kw_only=True):
    """Seconds between click and conversion: a mixture of lognormals."""

    components: Annotated[tuple[Lognormal, ...], Meta(min_length=1)]
    window_s: Positive = 604_800.0  # later conversions do not happen
    source: str = ""


class Conversion(Part, frozen=True, kw_only=True):
    taste_weight: Weight = 0.3
    delay: Delay


class Attention(Part, frozen=True, kw_only=True):
    """Skips of video and audio, viewability, and satisfaction."""

    skip: Weight = -0.8  # logit of the average person skipping
    skip_aversion: NotNegative = 2.0
    skip_affinity: NotNegative = 0.5
    view: Weight = 1.2  # logit of being seen
    view_quality: Weight = 0.5
    satisfaction: Weight = 0.3
    satisfaction_affinity: NotNegative = 0.8
    satisfaction_aversion: NotNegative = 1.2
    satisfaction_fatigue: NotNegative = 0.3


class CarryOver(Part, frozen=True, kw_only=True):
    """Adstock per (campaign, channel), in shares of a day's auctions: stock decays, lifts conversions, then saturates."""

    half_life_days: Positive = 2.0
    gain: NotNegative = 0.0  # conversions x (1 + gain * hill(stock)); 0: no carry-over
    half_at: Positive = 0.02
    shape: Annotated[float, Meta(ge=0.2, le=10.0)] = 1.0  # of the hill; above 1: S-shaped
    saturates_at: Positive | None = None  # conversions / (1 + stock / this); None: never


# ---- change


class Drift(Part, frozen=True, kw_only=True):
    price_sd: NotNegative = 0.0  # random walk of the log price, per segment and day^0.5
    price_trend: Weight = 0.0  # log price per day
    appeal_sd: NotNegative = 0.0  # sd of a creative's appeal that wanders (stationary, AR(1) by day)
    appeal_memory: Share = 0.8  # correlation of one day to the next
    taste_turn_deg: NotNegative = 0.0  # turn of the taste space, degrees per day


class Jump(Part, frozen=True, kw_only=True):
    """At ``day`` things are different from then on."""

    day: Day
    price: Positive = 1.0  # factor
    appeal_share: Share = 0.0  # of creatives whose hidden appeal is drawn anew
    conversion: Positive = 1.0  # factor on every conversion rate
    venues: tuple[Name, ...] = ()  # where the price jumps; empty: everywhere


class Shock(Part, frozen=True, kw_only=True):
    """From ``from_day`` to ``to_day`` rivals or traffic are unusual, then as before."""

    from_day: Day
    to_day: Day
    price: Positive = 1.0
    volume: Positive = 1.0
    venues: tuple[
        Name, ...
    ] = ()  # where the price is unusual; empty: everywhere (volume is always everywhere)


class Outage(Part, frozen=True, kw_only=True):
    """Events that happen and are not told. Money notices always come."""

    from_day: Day
    to_day: Day
    lost: Share = 1.0
    kinds: Annotated[
        tuple[Annotated[str, Meta(pattern="^(impression|click|conversion)$")], ...], Meta(min_length=1)
    ]
    venues: tuple[Name, ...] = ()  # empty: everywhere


class Adversary(Part, frozen=True, kw_only=True):
    """Rivals and sellers that answer us, a window of auctions at a time."""

    window: Annotated[int, Meta(ge=100, le=1_000_000)] = 1_000  # auctions
    rival_gain: NotNegative = 0.0  # log price per unit of our win rate above ``reference``
    reference: Share = 0.15
    floor_follows: Share = 0.0  # floors rise to this share of our mean bid of the window before
    memory: Share = 0.5  # weight of the past in what they know of us
    venues: tuple[Name, ...] = ()  # where they do; empty: everywhere


class Churn(Part, frozen=True, kw_only=True):
    """Creatives come and go: each lives ``life_days``, then another of its line item replaces it."""

    generations: Annotated[int, Meta(ge=1, le=50)] = 1  # 1: nobody goes
    life_days: Positive = 2.0


class Scenario(Part, frozen=True, kw_only=True):
    name: Name
    title: Annotated[str, Meta(min_length=10)]
    auctions: Annotated[int, Meta(ge=AUCTIONS_MIN, le=AUCTIONS_MAX)] = 100_000
    days: Annotated[int, Meta(ge=1, le=365)] = 14
    budget_factor: Positive = 1.0  # on every daily budget
    users: Users
    traffic: Traffic
    venue: Annotated[tuple[Venue, ...], Meta(min_length=1)]
    supply: Annotated[tuple[Supply, ...], Meta(min_length=1)]
    place: Annotated[tuple[Place, ...], Meta(min_length=1)]
    size: Annotated[tuple[Size, ...], Meta(min_length=1)]  # of banners
    creatives: Creatives = Creatives()
    advertiser: Annotated[tuple[Advertiser, ...], Meta(min_length=1)]
    campaign: Annotated[tuple[Campaign, ...], Meta(min_length=1)]
    click: Click
    conversion: Conversion
    attention: Attention = Attention()
    carry_over: CarryOver = CarryOver()
    drift: Drift = Drift()
    jump: tuple[Jump, ...] = ()
    shock: tuple[Shock, ...] = ()
    outage: tuple[Outage, ...] = ()
    adversary: Adversary = Adversary()
    churn: Churn = Churn()

    @property
    def digest(self) -> str:
        """Names the content: equal digests are equal markets (for one seed)."""
        return digest(msgspec.json.encode(self, order="sorted"))

    @property
    def ends_at_ns(self) -> int:
        return STARTS_AT_NS + self.days * DAY_NS


def resized(scenario: Scenario, auctions: int) -> Scenario:
    """The same market with more or less traffic over the same days; budgets follow. Digest and verdicts differ."""
    factor = scenario.budget_factor * auctions / scenario.auctions
    return msgspec.structs.replace(scenario, auctions=auctions, budget_factor=factor)
