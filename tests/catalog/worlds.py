"""Small random catalogs and requests over few values, so that they meet often. A seed makes the same one again."""

from __future__ import annotations

from random import Random
from typing import Any

from counterpoint.catalog.model import (
    Advertiser,
    Campaign,
    Catalog,
    Creative,
    CurrencyRate,
    ExchangeProfile,
    LineItem,
    Media,
    MediaFile,
    NativeAssets,
    Targeting,
)
from counterpoint.catalog.query import AvOffer, BannerOffer, ImageAsset, NativeOffer
from tests.catalog.reference import Asked

NOW_NS = 1_000
SIZES = ((300, 250), (728, 90), (11, 13))
CATEGORIES = ("IAB1", "IAB1-1", "IAB1-2", "IAB2", "IAB2-1", "IAB7-39")
HOSTS = ("example.com", "news.example.com", "a.news.example.com", "other.org", "single")
BUNDLES = ("com.example.game", "123456", "example.com")
ADVERTISERS = ("acme.com", "shop.ford.com", "brand.co.uk")
LANGUAGES = ("en", "de")
COUNTRIES = ("USA", "DEU", "GBR")
ATTRIBUTES = (1, 9, 16, 61, 62, 500)
MIMES = ("video/mp4", "video/webm", "audio/mpeg")
IMAGES = (
    "https://cdn.example/a.jpg",
    "https://cdn.example/a.png",
    "http://cdn.example/a.jpg",
    "https://cdn.example/a",
)


class World:
    def __init__(self, seed: int) -> None:
        self.random = Random(seed)

    def chance(self, p: float) -> bool:
        return self.random.random() < p

    def some(self, values: Any, p: float = 0.2, most: int = 2) -> Any:
        """Nothing, or with probability ``p`` a few of the values."""
        if self.random.random() >= p:
            return ()
        return tuple(self.random.sample(values, self.random.randint(1, min(most, len(values)))))

    def one(self, *values: Any) -> Any:
        return self.random.choice(values)

    # -- catalogs ---------------------------------------------------------------------------------------------

    def catalog(self) -> Catalog:
        creatives = [self.creative(n) for n in range(self.random.randint(4, 16))]
        campaigns = tuple(self.campaign(n) for n in range(self.random.randint(1, 3)))
        items = tuple(self.line_item(n, campaigns, creatives) for n in range(self.random.randint(0, 80)))
        return Catalog(
            rates=(CurrencyRate(currency="EUR", micros=1_080_000),),
            advertisers=tuple(Advertiser(id=f"adv{n}", name="", domain=d) for n, d in enumerate(ADVERTISERS)),
            campaigns=campaigns,
            line_items=items,
            creatives=tuple(creatives),
            exchanges=(ExchangeProfile(id="north", seat="1"), ExchangeProfile(id="south", seat="1")),
        )

    def campaign(self, n: int) -> Campaign:
        return Campaign(
            id=f"ca{n}",
            advertiser_id="adv0",
            name="",
            daily_budget_micros=1,
            starts_at_ns=self.one(0, 0, NOW_NS, NOW_NS + 1),
            ends_at_ns=self.one(None, None, None, NOW_NS, NOW_NS + 1),
            paused=self.chance(0.05),
        )

    def line_item(self, n: int, campaigns: tuple[Campaign, ...], creatives: list[Creative]) -> LineItem:
        ids = [c.id for c in creatives]
        return LineItem(
            id=f"li{n}",
            campaign_id=self.random.choice(campaigns).id,
            creative_ids=tuple(self.random.sample(ids, self.random.randint(0, min(8, len(ids))))),
            targeting=self.targeting(),
            paused=self.chance(0.05),
        )

    def targeting(self) -> Targeting:
        return Targeting(
            exchanges=self.some(("north", "south")),
            media=self.some(tuple(Media), 0.1, 3),
            sizes=self.some([f"{w}x{h}" for w, h in SIZES]),
            countries=self.some(COUNTRIES),
            regions=self.some(("USA-CA", "USA-TX", "DEU-BE"), 0.05),
            device_types=self.some((1, 2, 4, 5)),
            os=self.some(("ios", "android"), 0.1),
            channels=self.some(("site", "app"), 0.1),
            domains=self.some(HOSTS + BUNDLES, 0.2, 4),
            domains_blocked=self.some(HOSTS + BUNDLES, 0.2),
            categories=self.some(CATEGORIES, 0.2, 4),
            categories_blocked=self.some(CATEGORIES),
            hours_utc=self.some((0, 1, 167), 0.1),
            languages=self.some(LANGUAGES, 0.1),
        )

    def creative(self, n: int) -> Creative:
        media = self.one(Media.BANNER, *Media)
        common: dict[str, Any] = {
            "id": f"cr{n}",
            "advertiser_id": f"adv{self.random.randrange(3)}",
            "media": media,
            "click_url": "https://landing.example/",
            "categories": self.some(CATEGORIES, 0.8),
            "attributes": None if self.chance(0.2) else self.some(ATTRIBUTES),
            "apis": self.some((3, 7)),
            "language": self.one("", *LANGUAGES),
            "paused": self.chance(0.05),
        }
        if media is Media.BANNER:
            html = self.one("", "<b>x</b>", "<script>x</script>", "<iframe src='http://x'></iframe>")
            w, h = self.random.choice(SIZES)
            return Creative(w=w, h=h, html=html, image_url="" if html else self.one(*IMAGES), **common)
        common |= {"duration_s": self.one(6, 15, 30), "protocols": self.some((2, 3, 7), 0.9, 3)}
        if media is Media.NATIVE:
            return Creative(native=self.native_assets(), mimes=self.some(MIMES, 0.7), **common)
        files = tuple(
            MediaFile(url="https://cdn.example/f", mime=mime, bitrate_kbps=self.one(0, 500, 2_000))
            for mime in self.some(MIMES, 0.95)
        )
        return Creative(files=files, skippable=media is Media.VIDEO and self.chance(0.3), **common)

    def native_assets(self) -> NativeAssets:
        w, h = self.one((0, 0), (1200, 627), (300, 250))
        icon = self.one(0, 50, 80)
        return NativeAssets(
            title=self.one("", "Short", "A longer title"),
            main_url=self.one(*IMAGES) if w else "",
            main_w=w,
            main_h=h,
            icon_url=self.one(*IMAGES) if icon else "",
            icon_w=icon,
            icon_h=icon,
            description=self.one("", "words", "many more words"),
            sponsored=self.one("", "Acme"),
            cta=self.one("", "Go"),
            video_vast_url=self.one("", "https://cdn.example/vast.xml"),
        )

    # -- requests ---------------------------------------------------------------------------------------------

    def av_offer(self) -> AvOffer:
        return AvOffer(
            mimes=self.some((*MIMES, "video/x-flv"), 0.6, 3),
            protocols=self.some((2, 3, 5, 9), 0.6, 3),
            min_s=self.one(0, 0, 0, 5, 15, 120),
            max_s=self.one(None, None, 15, 30, 2),
            exact_s=self.some((6, 15, 20)),
            battr=self.some(ATTRIBUTES, 0.15),
            api=self.some((3, 7), 0.7),
            skip=self.chance(0.3),
            linearity=self.one(None, None, None, 1, 2),
            min_kbps=self.one(0, 0, 300, 1_000),
            max_kbps=self.one(None, None, 600, 3_000),
        )

    def native_offer(self) -> NativeOffer:
        return NativeOffer(
            title_len=self.one(None, 0, 5, 90),
            images=tuple(
                ImageAsset(
                    type=self.one(1, 2, 3),
                    w=self.one(0, 0, 300, 80),
                    h=self.one(0, 0, 250, 80),
                    wmin=self.one(0, 1, 200),
                    hmin=self.one(0, 1, 200),
                    mimes=self.some(("image/jpg", "image/png")),
                )
                for _ in range(self.one(0, 0, 1, 2))
            ),
            data=tuple((self.one(1, 2, 4, 12), self.one(0, 5, 100)) for _ in range(self.one(0, 0, 1, 2))),
            video=self.av_offer() if self.chance(0.2) else None,
            battr=self.some(ATTRIBUTES, 0.15),
            api=self.some((3, 7), 0.7),
        )

    def banner_offer(self) -> BannerOffer:
        return BannerOffer(
            sizes=self.some((*SIZES, (1, 1)), 0.95, 3),
            mimes=self.some(("text/html", "image/jpeg", "image/jpg", "foo/bar"), 0.3, 3),
            battr=self.some(ATTRIBUTES, 0.15),
            btype=self.some((2, 3, 4)),
            api=self.some((3, 7), 0.7),
        )

    def request(self) -> Asked:
        app = self.chance(0.4)
        return Asked(
            exchange=self.one("north", "south", "elsewhere"),
            banner=self.banner_offer() if self.chance(0.7) else None,
            video=self.av_offer() if self.chance(0.5) else None,
            audio=self.av_offer() if self.chance(0.4) else None,
            native=self.native_offer() if self.chance(0.5) else None,
            secure=self.chance(0.15),
            country=self.one("", *COUNTRIES, "FRA"),
            region=self.one("", "CA", "TX", "BE"),
            device_type=self.one(0, 1, 2, 4, 5),
            os=self.one("", "ios", "android", "windows"),
            channel="app" if app else "site",
            domain="" if app else self.one("", *HOSTS, "https://www.example.com/x"),
            bundle=self.one("", *BUNDLES) if app else "",
            categories=self.some((*CATEGORIES, "lifestyle"), 0.7, 3),
            hour_of_week=self.one(0, 1, 50, 167),
            language=self.one("", *LANGUAGES, "fr"),
            bcat=self.some((*CATEGORIES, "10"), 0.15),
            acat=self.some(CATEGORIES, 0.1, 4),
            badv=self.some(("ford.com", "www.acme.com", "x.brand.co.uk", "co.uk", "bad-advertiser")),
            wlang=self.some(LANGUAGES, 0.1),
        )
