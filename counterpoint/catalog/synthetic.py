"""A seeded catalog of any size, and requests that go with it: for the latency benchmark and for tests of scale.

Frozen: the same arguments give the same catalog. The larger the catalog, the more its line items are limited, so that
a typical request finds a few dozen of them at every size (median at least 20, with at least 100 creatives that fit).
"""

from __future__ import annotations

from random import Random
from typing import Any, Final

from msgspec import Struct

from counterpoint.catalog.digest import seal
from counterpoint.catalog.model import (
    Advertiser,
    Campaign,
    Catalog,
    Creative,
    CurrencyRate,
    ExchangeProfile,
    FrequencyCap,
    Goal,
    LineItem,
    Media,
    MediaFile,
    NativeAssets,
    Targeting,
)

EXCHANGES: Final = ("north", "south", "east")
COUNTRIES: Final = ("USA", "DEU", "GBR", "FRA", "BRA", "IND", "JPN", "POL", "ESP", "ITA")
COUNTRY_WEIGHTS: Final = (40, 15, 10, 8, 7, 6, 5, 4, 3, 2)
REGIONS: Final = ("CA", "TX", "NY", "FL", "BE", "BY")
LANGUAGES: Final = ("en", "de", "fr", "es", "pt")
OPERATING_SYSTEMS: Final = ("android", "ios", "windows", "macos")
CATEGORIES: Final = tuple(f"IAB{n}" for n in (1, 2, 3, 5, 7, 8, 9, 12, 13, 17, 19, 20))
SIZES: Final = ((300, 250), (728, 90), (320, 50), (300, 600), (160, 600), (970, 250))
SIZE_WEIGHTS: Final = (45, 15, 20, 10, 5, 5)
DOMAINS: Final = tuple(f"site{n}.example.com" for n in range(3_000))
BUNDLES: Final = tuple(f"com.example.app{n}" for n in range(1_000))

ADVERTISERS_MAX: Final = 200
CREATIVES_PER_LINE_ITEM: Final = 7


class Limits(Struct, frozen=True):
    """How often a line item limits a dimension."""

    country: float
    device: float
    hours: float
    category: float
    domains: float
    exchange: float


# by number of line items, up to and including; measured to leave a few dozen eligible
_LIMITS: Final = (
    (2_000, Limits(country=0.6, device=0.5, hours=0.3, category=0.3, domains=0.1, exchange=0.4)),
    (20_000, Limits(country=1.0, device=0.9, hours=0.6, category=0.7, domains=0.55, exchange=0.6)),
    (10**9, Limits(country=1.0, device=1.0, hours=0.9, category=1.0, domains=0.85, exchange=0.9)),
)


class SyntheticRequest(Struct, frozen=True):
    """One request with one imp, as the keyword arguments of ``fill_query`` without the time."""

    exchange: str
    media: str
    sizes: tuple[tuple[int, int], ...]
    country: str
    region: str
    device_type: int
    os: str
    channel: str
    domain: str
    bundle: str
    categories: tuple[str, ...]
    hour_of_week: int
    language: str


def _skewed(random: Random, values: tuple[str, ...]) -> str:
    """Few values come often, as with real sites: the square of a uniform draw."""
    return values[int(len(values) * random.random() ** 3)]


def synthetic_catalog(line_items: int, creatives: int = 10_000, seed: int = 1) -> Catalog:
    """``line_items`` line items over ``creatives`` creatives (both at least 1)."""
    assert min(line_items, creatives) >= 1
    random = Random(seed)
    advertisers = max(1, min(ADVERTISERS_MAX, creatives // 50, line_items))
    limits = next(found for upto, found in _LIMITS if line_items <= upto)
    made = [_creative(random, n, n % advertisers) for n in range(creatives)]
    by_format: dict[tuple[int, str], list[str]] = {}
    for n, creative in enumerate(made):
        by_format.setdefault((n % advertisers, _format(creative)), []).append(creative.id)
    campaigns = max(advertisers, line_items // 10)
    return seal(
        Catalog(
            rates=(
                CurrencyRate(currency="EUR", micros=1_080_000),
                CurrencyRate(currency="GBP", micros=1_270_000),
            ),
            advertisers=tuple(
                Advertiser(
                    id=f"adv{n}",
                    name=f"Advertiser {n}",
                    domain=f"brand{n}.example",
                    conversion_token=f"token-{n}",
                )
                for n in range(advertisers)
            ),
            campaigns=tuple(_campaign(random, n, n % advertisers) for n in range(campaigns)),
            line_items=tuple(
                _line_item(random, n, n % campaigns, (n % campaigns) % advertisers, by_format, limits)
                for n in range(line_items)
            ),
            creatives=tuple(made),
            exchanges=tuple(ExchangeProfile(id=name, seat=f"seat-{name}") for name in EXCHANGES),
        )
    )


def _campaign(random: Random, n: int, advertiser: int) -> Campaign:
    goal = (Goal.REACH, Goal.CLICKS, Goal.CONVERSIONS)[n % 3]
    value = {Goal.REACH: 3_000_000, Goal.CLICKS: 1_500_000, Goal.CONVERSIONS: 60_000_000}[goal]
    return Campaign(
        id=f"ca{n}",
        advertiser_id=f"adv{advertiser}",
        name=f"Campaign {n}",
        daily_budget_micros=random.randrange(50, 500) * 1_000_000,
        goal=goal,
        goal_value_micros=int(value * (0.5 + random.random())),
    )


def _format(creative: Creative) -> str:
    return f"{creative.w}x{creative.h}" if creative.media is Media.BANNER else creative.media.value


def _creative(random: Random, n: int, advertiser: int) -> Creative:
    # a fixed share of each medium, so that every advertiser has enough of all
    turn = (n // ADVERTISERS_MAX) % 20
    base: dict[str, Any] = {
        "id": f"cr{n}",
        "advertiser_id": f"adv{advertiser}",
        "click_url": f"https://brand{advertiser}.example/land/{n}",
        "categories": (CATEGORIES[advertiser % len(CATEGORIES)],),
        "attributes": (),
        "features": {
            "colour": random.choice(("red", "blue", "green")),
            "message": random.choice(("price", "brand")),
        },
    }
    if turn < 16:
        w, h = random.choices(SIZES, SIZE_WEIGHTS)[0]
        image = f"https://cdn.example.com/{n}.png"
        return Creative(media=Media.BANNER, w=w, h=h, image_url=image, **base)
    if turn < 18:
        file = MediaFile(
            url=f"https://cdn.example.com/{n}.mp4", mime="video/mp4", w=640, h=360, bitrate_kbps=800
        )
        seconds = random.choice((15, 30))
        return Creative(
            media=Media.VIDEO,
            files=(file,),
            mimes=("video/mp4",),
            duration_s=seconds,
            protocols=(2, 3, 7),
            **base,
        )
    if turn == 18:
        file = MediaFile(url=f"https://cdn.example.com/{n}.mp3", mime="audio/mpeg", bitrate_kbps=128)
        return Creative(
            media=Media.AUDIO,
            files=(file,),
            mimes=("audio/mpeg",),
            duration_s=30,
            protocols=(2, 3, 7),
            **base,
        )
    assets = NativeAssets(
        title=f"Offer {n}",
        main_url=f"https://cdn.example.com/{n}.jpg",
        main_w=1_200,
        main_h=627,
        sponsored=f"Brand {advertiser}",
        description="What it is, in a sentence.",
        cta="Open",
    )
    return Creative(media=Media.NATIVE, native=assets, **base)


def _line_item(
    random: Random,
    n: int,
    campaign: int,
    advertiser: int,
    by_format: dict[tuple[int, str], list[str]],
    limits: Limits,
) -> LineItem:
    wanted = random.random()
    if wanted < 0.85:
        w, h = random.choices(SIZES, SIZE_WEIGHTS)[0]
        kind = f"{w}x{h}"
    else:
        kind = "video" if wanted < 0.93 else "native" if wanted < 0.98 else "audio"
    pool = by_format.get((advertiser, kind)) or by_format.get((advertiser, "300x250")) or []
    start = random.randrange(len(pool)) if pool else 0
    count = min(CREATIVES_PER_LINE_ITEM, len(pool))
    capped = random.random() < 0.3
    return LineItem(
        id=f"li{n}",
        campaign_id=f"ca{campaign}",
        creative_ids=tuple(pool[(start + k) % len(pool)] for k in range(count)),
        bid_max_micros=random.randrange(4, 20) * 1_000_000,
        frequency_cap=FrequencyCap(impressions=random.randrange(2, 12), window_s=86_400) if capped else None,
        expected_click_rate=0.0005 + 0.004 * random.random(),
        targeting=_targeting(random, limits),
    )


def _targeting(random: Random, limits: Limits) -> Targeting:
    values: dict[str, Any] = {}
    if random.random() < limits.exchange:
        values["exchanges"] = (random.choice(EXCHANGES),)
    if random.random() < limits.country:
        values["countries"] = tuple(dict.fromkeys(random.choices(COUNTRIES, COUNTRY_WEIGHTS, k=2), 1))
    if random.random() < limits.device:
        values["device_types"] = random.choice(((2,), (4,), (4, 5)))
    if random.random() < limits.hours:
        first, length = random.randrange(24), random.choice((6, 12))
        values["hours_utc"] = tuple(
            sorted({day * 24 + (first + k) % 24 for day in range(7) for k in range(length)})
        )
    if random.random() < limits.category:
        values["categories"] = tuple(dict.fromkeys(random.choices(CATEGORIES, k=4), 1))
    if random.random() < 0.1:
        values["categories_blocked"] = (random.choice(CATEGORIES),)
    if random.random() < limits.domains:
        names = DOMAINS if random.random() < 0.6 else BUNDLES
        values["domains"] = tuple({_skewed(random, names): 1 for _ in range(random.randrange(1, 30))})
    if random.random() < 0.2:
        values["domains_blocked"] = tuple({_skewed(random, DOMAINS): 1 for _ in range(5)})
    if random.random() < 0.05:
        values["languages"] = (random.choice(LANGUAGES),)
    if random.random() < 0.05:
        values["os"] = (random.choice(OPERATING_SYSTEMS),)
    return Targeting(**values)


def synthetic_requests(count: int, seed: int = 1) -> list[SyntheticRequest]:
    """Requests over the same values; most are banners on phones, one in ten a video."""
    random = Random(seed ^ 0x5EED)
    return [_request(random) for _ in range(count)]


def _request(random: Random) -> SyntheticRequest:
    app = random.random() < 0.4
    country = random.choices(COUNTRIES, COUNTRY_WEIGHTS)[0]
    draw = random.random()
    media = "banner" if draw < 0.88 else "video" if draw < 0.97 else "native"
    sizes = tuple(dict.fromkeys(random.choices(SIZES, SIZE_WEIGHTS, k=random.choice((1, 1, 2))), 1))
    device = random.choice((2, 4, 4, 4, 5))
    return SyntheticRequest(
        exchange=random.choice(EXCHANGES),
        media=media,
        sizes=sizes if media == "banner" else (),
        country=country,
        region=random.choice(REGIONS) if country in ("USA", "DEU") else "",
        device_type=device,
        os=random.choice(("windows", "macos") if device == 2 else ("android", "ios")),
        channel="app" if app else "site",
        domain="" if app else "www." + _skewed(random, DOMAINS),
        bundle=_skewed(random, BUNDLES) if app else "",
        categories=(random.choice(CATEGORIES),),
        hour_of_week=random.randrange(168),
        language="en" if country in ("USA", "GBR", "IND") else random.choice(LANGUAGES),
    )
