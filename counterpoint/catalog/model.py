"""The catalog as frozen structs: what was declared by people, and nothing that changes by itself.

Money: CPM prices and order values in micros of the account currency; budgets in micros per local day. Counters
(spend, frequency, allowances) live beside the catalog, never in it.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class Media(StrEnum):
    BANNER = "banner"
    VIDEO = "video"
    AUDIO = "audio"
    NATIVE = "native"


MTYPE = {Media.BANNER: 1, Media.VIDEO: 2, Media.AUDIO: 3, Media.NATIVE: 4}  # OpenRTB 2.6, 4.2.3


class Goal(StrEnum):
    REACH = "reach"  # value of an impression = goal_value_micros / 1000 (a CPM)
    CLICKS = "clicks"  # value of a click = goal_value_micros
    CONVERSIONS = "conversions"  # value of a conversion = goal_value_micros (target CPA)
    VALUE = (
        "value"  # value of a unit of order value = 1 / target ROAS; goal_value_micros = target ROAS in ppm
    )


class Pacing(StrEnum):
    EVEN = "even"  # over the local day, along the spend plan
    ASAP = "asap"  # as soon as possible: only value, caps and the budget hold it back


class Advertiser(Struct, frozen=True, kw_only=True):
    id: str
    name: str
    domain: str  # adomain
    conversion_token: str = ""  # required of conversion posts; empty: conversions refused


class BudgetPool(Struct, frozen=True, kw_only=True):
    """Campaigns of ONE advertiser whose owner allowed money to move between them."""

    id: str
    advertiser_id: str


class Campaign(Struct, frozen=True, kw_only=True):
    id: str
    advertiser_id: str
    name: str
    daily_budget_micros: int
    pool_id: str | None = None
    budget_min_micros: int = 0  # inside a pool: never below
    budget_max_micros: int | None = None  # inside a pool: never above; None: the pool's sum
    starts_at_ns: int = 0  # flight, inclusive
    ends_at_ns: int | None = None  # exclusive; None: open end
    utc_offset_minutes: int = 0  # where its local day begins, unless ``time_zone`` says so
    pacing: Pacing = Pacing.EVEN
    goal: Goal = Goal.CLICKS
    goal_value_micros: int = 0
    expected_order_value_micros: int = 50_000_000  # Goal.VALUE: its owner's prior of the mean order value
    reach_weight_ppm: int = 500_000  # the declared trade-off: reach against cost
    cost_weight_ppm: int = 500_000
    bid_ceiling_micros: int = 20_000_000  # CPM; the hard bound of its owner
    click_window_s: int = 7 * 86_400
    view_window_s: int = 86_400
    paused: bool = False
    time_zone: str = ""  # IANA, such as "Europe/Berlin": a local day may have 23 or 25 hours
    lifetime_budget_micros: int | None = None  # of the whole flight; None: only the daily budget
    # Goal.REACH: what an impression is worth of the one before it of the same person; who may not be known is new
    repeat_value_ppm: int = 1_000_000


class FrequencyCap(Struct, frozen=True, kw_only=True):
    impressions: int
    window_s: int


class Targeting(Struct, frozen=True, kw_only=True):
    """Empty: no limit in that dimension. Values are compared as normalised by the index (lower case; ISO codes upper)."""

    exchanges: tuple[str, ...] = ()
    media: tuple[Media, ...] = ()
    sizes: tuple[str, ...] = ()  # "300x250"
    countries: tuple[str, ...] = ()  # ISO-3166-1 alpha-3
    regions: tuple[str, ...] = ()  # "USA-CA"
    device_types: tuple[int, ...] = ()  # AdCOM Device Types
    os: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()  # "site" | "app"
    domains: tuple[str, ...] = ()  # site domain, sub-domains included, or app bundle
    domains_blocked: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()  # IAB Content Taxonomy 1.0 of site/app/content, parents match children
    categories_blocked: tuple[str, ...] = ()
    hours_utc: tuple[int, ...] = ()  # daypart: hours of the week 0..167, Monday 00:00 UTC = 0
    languages: tuple[str, ...] = ()


class UnknownUser(StrEnum):
    BID = "bid"
    NO_BID = "no_bid"


class LineItem(Struct, frozen=True, kw_only=True):
    id: str
    campaign_id: str
    name: str = ""
    targeting: Targeting = Targeting()
    creative_ids: tuple[str, ...] = ()
    bid_min_micros: int = 0  # CPM: below this it does not bid
    bid_max_micros: int | None = None  # CPM; None: the campaign's ceiling
    frequency_cap: FrequencyCap | None = None
    unknown_user: UnknownUser = UnknownUser.BID  # when capped and the user cannot be counted
    expected_click_rate: float = 0.002  # prior of its owner, in (0, 1)
    expected_conversion_rate: float = 0.02  # per click, prior
    paused: bool = False
    daily_cap_micros: int | None = None  # of spend per local day of its campaign; None: the campaign's budget
    lifetime_cap_micros: int | None = None  # of spend in all

    @property
    def spend_capped(self) -> bool:
        """It has allowances of its own."""
        return self.daily_cap_micros is not None or self.lifetime_cap_micros is not None


class NativeAssets(Struct, frozen=True, kw_only=True):
    title: str
    main_url: str = ""
    main_w: int = 0
    main_h: int = 0
    icon_url: str = ""
    icon_w: int = 0
    icon_h: int = 0
    description: str = ""
    sponsored: str = ""
    cta: str = ""
    rating: str = ""
    video_vast_url: str = ""
    likes: str = ""
    downloads: str = ""
    price: str = ""
    sale_price: str = ""
    phone: str = ""
    address: str = ""
    description2: str = ""
    display_url: str = ""

    def data_by_type(self) -> dict[int, str]:
        """What it has, by AdCOM native data asset type."""
        every = {
            1: self.sponsored,
            2: self.description,
            3: self.rating,
            4: self.likes,
            5: self.downloads,
            6: self.price,
            7: self.sale_price,
            8: self.phone,
            9: self.address,
            10: self.description2,
            11: self.display_url,
            12: self.cta,
        }
        return {kind: text for kind, text in every.items() if text}


class MediaFile(Struct, frozen=True, kw_only=True):
    url: str
    mime: str
    w: int = 0
    h: int = 0
    bitrate_kbps: int = 0


class Creative(Struct, frozen=True, kw_only=True):
    id: str  # crid
    advertiser_id: str
    media: Media
    click_url: str  # where a click goes: https, from here and nowhere else
    w: int = 0
    h: int = 0
    duration_s: int = 0  # video, audio
    mimes: tuple[str, ...] = ()
    files: tuple[MediaFile, ...] = ()  # video, audio
    html: str = ""  # banner: markup around {click_url} and {impression_url}; empty: image_url is used
    image_url: str = ""
    native: NativeAssets | None = None
    categories: tuple[str, ...] = ()  # IAB Content Taxonomy 1.0
    attributes: tuple[int, ...] | None = None  # AdCOM creative attributes; None: not declared
    apis: tuple[int, ...] = ()
    protocols: tuple[int, ...] = ()  # video, audio: what the markup is, AdCOM codes
    language: str = ""
    skippable: bool = False
    features: dict[str, str] = {}  # colour, message, format ...: for the creative agent
    paused: bool = False


class Settles(StrEnum):
    """Which ONE notice is spend."""

    WIN = "win"  # nurl
    BILLING = "billing"  # burl
    IMPRESSION = "impression"  # VAST Impression or pixel: client side, books the signed bid price


class NoBidForm(StrEnum):
    STATUS_204 = "204"
    NBR_BODY = "nbr"


class ExchangeProfile(Struct, frozen=True, kw_only=True):
    """Required of every exchange: who it is to us, and how its money and notices behave."""

    id: str  # the {exchange} of /openrtb2/bid/{exchange}
    name: str = ""
    seat: str
    currency: str = "USD"  # what we bid in when the request allows it
    auction_type: int = 1  # 1 first price, 2 second price; used when the request names none
    price_encoding: str = "plain"  # how ${AUCTION_PRICE} comes back: plain decimal CPM
    settles: dict[str, Settles] = {}  # by media; banner, native: billing; video, audio: impression
    win_notice_delay_p999_ms: int = 10_000  # a bid's money is held this long for its win notice
    billing_delay_max_ms: int = 3_600_000  # a win's money is held this long for its settling notice
    notice_life_ms: int = 86_400_000  # after this a notice is late beyond doubt (still booked)
    sends_loss_notices: bool = False
    no_bid: NoBidForm = NoBidForm.STATUS_204
    deadline_ms_max: int = 100
    round_trip_ms: int = 20  # taken off tmax
    gzip_responses: bool = False
    secure_only: bool = False
    markup_on_win: bool = False  # markup answered from nurl instead of in adm
    paused: bool = False

    def settles_by(self, media: Media) -> Settles:
        default = Settles.IMPRESSION if media in (Media.VIDEO, Media.AUDIO) else Settles.BILLING
        return self.settles.get(media.value, default)


class CurrencyRate(Struct, frozen=True, kw_only=True):
    currency: str  # one unit of it costs ``micros`` of the account currency
    micros: int


class Catalog(Struct, frozen=True, kw_only=True):
    """Everything, checked as a whole (references, pools, money) by ``load``. ``digest`` names this content."""

    account_currency: str = "USD"
    rates: tuple[CurrencyRate, ...] = ()
    advertisers: tuple[Advertiser, ...] = ()
    pools: tuple[BudgetPool, ...] = ()
    campaigns: tuple[Campaign, ...] = ()
    line_items: tuple[LineItem, ...] = ()
    creatives: tuple[Creative, ...] = ()
    exchanges: tuple[ExchangeProfile, ...] = ()
    digest: str = ""
