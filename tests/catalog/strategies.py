"""Small random catalogs and requests over few values, so that they meet often."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

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
SIZES = ((300, 250), (728, 90), (320, 50), (11, 13))
CATEGORIES = ("IAB1", "IAB1-1", "IAB1-2", "IAB2", "IAB2-1", "IAB7-39")
HOSTS = ("example.com", "news.example.com", "a.news.example.com", "other.org", "single")
BUNDLES = ("com.example.game", "123456", "example.com")
ADVERTISERS = ("acme.com", "shop.ford.com", "brand.co.uk")
LANGUAGES = ("en", "de")
COUNTRIES = ("USA", "DEU", "GBR")
ATTRIBUTES = (1, 9, 16, 61, 62, 500)
MIMES = ("video/mp4", "video/webm", "audio/mpeg")
IMAGE_URLS = (
    "https://cdn.example/a.jpg",
    "https://cdn.example/a.png",
    "http://cdn.example/a.jpg",
    "https://cdn.example/a",
)


def some(values: Any, most: int = 2) -> st.SearchStrategy[Any]:
    """None of them more often than not, as in real targeting."""
    return st.just(()) | st.lists(st.sampled_from(values), max_size=most, unique=True).map(tuple)


@st.composite
def targetings(draw: st.DrawFn) -> Targeting:
    return Targeting(
        exchanges=draw(some(("north", "south"))),
        media=draw(some(tuple(Media))),
        sizes=draw(some(tuple(f"{w}x{h}" for w, h in SIZES))),
        countries=draw(some(COUNTRIES)),
        regions=draw(some(("USA-CA", "USA-TX", "DEU-BE"))),
        device_types=draw(some((1, 2, 4, 5))),
        os=draw(some(("ios", "android"))),
        channels=draw(some(("site", "app"))),
        domains=draw(some(HOSTS + BUNDLES)),
        domains_blocked=draw(some(HOSTS + BUNDLES)),
        categories=draw(some(CATEGORIES)),
        categories_blocked=draw(some(CATEGORIES)),
        hours_utc=draw(some((0, 1, 167))),
        languages=draw(some(LANGUAGES)),
    )


@st.composite
def creatives(draw: st.DrawFn, number: int) -> Creative:
    media = draw(st.sampled_from(tuple(Media)))
    common: dict[str, Any] = {
        "id": f"cr{number}",
        "advertiser_id": f"adv{draw(st.integers(0, 2))}",
        "media": media,
        "click_url": "https://landing.example/",
        "categories": draw(some(CATEGORIES)),
        "attributes": draw(st.none() | some(ATTRIBUTES)),
        "apis": draw(some((3, 7))),
        "language": draw(st.sampled_from(("", *LANGUAGES))),
        "paused": draw(st.integers(0, 9)) == 0,
    }
    if media is Media.BANNER:
        w, h = draw(st.sampled_from(SIZES))
        html = draw(
            st.sampled_from(("", "<b>x</b>", "<script>x</script>", "<iframe src='http://x'></iframe>"))
        )
        image = "" if html else draw(st.sampled_from(IMAGE_URLS))
        return Creative(w=w, h=h, html=html, image_url=image, **common)
    play: dict[str, Any] = {
        "duration_s": draw(st.sampled_from((6, 15, 30))),
        "protocols": draw(some((2, 3, 7), 3)),
    }
    if media is Media.NATIVE:
        w, h = draw(st.sampled_from(((0, 0), (1200, 627), (300, 250))))
        icon = draw(st.sampled_from((0, 50, 80)))
        assets = NativeAssets(
            title=draw(st.sampled_from(("", "Short", "A longer title"))),
            main_url=draw(st.sampled_from(IMAGE_URLS)) if w else "",
            main_w=w,
            main_h=h,
            icon_url=draw(st.sampled_from(IMAGE_URLS)) if icon else "",
            icon_w=icon,
            icon_h=icon,
            description=draw(st.sampled_from(("", "words", "many more words"))),
            sponsored=draw(st.sampled_from(("", "Acme"))),
            cta=draw(st.sampled_from(("", "Go"))),
            video_vast_url=draw(st.sampled_from(("", "https://cdn.example/vast.xml"))),
        )
        return Creative(native=assets, mimes=draw(some(MIMES)), **play, **common)
    files = tuple(
        MediaFile(url="https://cdn.example/f", mime=mime, bitrate_kbps=draw(st.sampled_from((0, 500, 2_000))))
        for mime in draw(some(MIMES))
    )
    skippable = media is Media.VIDEO and draw(st.booleans())
    return Creative(files=files, skippable=skippable, **play, **common)


@st.composite
def catalogs(draw: st.DrawFn) -> Catalog:
    made = [draw(creatives(n)) for n in range(draw(st.integers(1, 6)))]
    campaigns = [
        Campaign(
            id=f"ca{n}",
            advertiser_id="adv0",
            name="",
            daily_budget_micros=1,
            starts_at_ns=draw(st.sampled_from((0, NOW_NS, NOW_NS + 1))),
            ends_at_ns=draw(st.sampled_from((None, None, NOW_NS, NOW_NS + 1))),
            paused=draw(st.integers(0, 9)) == 0,
        )
        for n in range(draw(st.integers(1, 3)))
    ]
    ids = [c.id for c in made]
    items = [
        LineItem(
            id=f"li{n}",
            campaign_id=draw(st.sampled_from(campaigns)).id,
            creative_ids=tuple(draw(st.lists(st.sampled_from(ids), unique=True, max_size=4))),
            targeting=draw(targetings()) if draw(st.booleans()) else Targeting(),
            paused=draw(st.integers(0, 9)) == 0,
        )
        for n in range(draw(st.integers(0, 8)))
    ]
    return Catalog(
        rates=(CurrencyRate(currency="EUR", micros=1_080_000),),
        advertisers=tuple(Advertiser(id=f"adv{n}", name="", domain=d) for n, d in enumerate(ADVERTISERS)),
        campaigns=tuple(campaigns),
        line_items=tuple(items),
        creatives=tuple(made),
        exchanges=(ExchangeProfile(id="north", seat="1"), ExchangeProfile(id="south", seat="1")),
    )


@st.composite
def av_offers(draw: st.DrawFn) -> AvOffer:
    return AvOffer(
        mimes=draw(some((*MIMES, "video/x-flv"))),
        protocols=draw(some((2, 3, 5, 9))),
        min_s=draw(st.sampled_from((0, 5, 15, 120))),
        max_s=draw(st.sampled_from((None, 15, 30, 2))),
        exact_s=draw(some((6, 15, 20))),
        battr=draw(some(ATTRIBUTES)),
        api=draw(some((3, 7))),
        skip=draw(st.booleans()),
        linearity=draw(st.sampled_from((None, None, 1, 2))),
        min_kbps=draw(st.sampled_from((0, 0, 300, 1_000))),
        max_kbps=draw(st.sampled_from((None, None, 600, 3_000))),
    )


@st.composite
def native_offers(draw: st.DrawFn) -> NativeOffer:
    images = st.builds(
        ImageAsset,
        type=st.sampled_from((1, 2, 3)),
        w=st.sampled_from((0, 0, 300, 80)),
        h=st.sampled_from((0, 0, 250, 80)),
        wmin=st.sampled_from((0, 1, 200)),
        hmin=st.sampled_from((0, 1, 200)),
        mimes=some(("image/jpg", "image/png")),
    )
    return NativeOffer(
        title_len=draw(st.sampled_from((None, 0, 5, 90))),
        images=tuple(draw(st.lists(images, max_size=2))),
        data=tuple(
            draw(
                st.lists(st.tuples(st.sampled_from((1, 2, 4, 12)), st.sampled_from((0, 5, 100))), max_size=2)
            )
        ),
        video=draw(st.none() | av_offers()),
        battr=draw(some(ATTRIBUTES)),
        api=draw(some((3, 7))),
    )


@st.composite
def requests(draw: st.DrawFn) -> Asked:
    app = draw(st.booleans())
    banner = st.builds(
        BannerOffer,
        sizes=st.lists(st.sampled_from((*SIZES, (1, 1))), max_size=3, unique=True).map(tuple),
        mimes=some(("text/html", "image/jpeg", "image/jpg", "foo/bar")),
        battr=some(ATTRIBUTES),
        btype=some((2, 3, 4)),
        api=some((3, 7)),
    )
    return Asked(
        exchange=draw(st.sampled_from(("north", "south", "elsewhere"))),
        banner=draw(st.none() | banner),
        video=draw(st.none() | av_offers()),
        audio=draw(st.none() | av_offers()),
        native=draw(st.none() | native_offers()),
        secure=draw(st.booleans()),
        country=draw(st.sampled_from(("", *COUNTRIES, "FRA"))),
        region=draw(st.sampled_from(("", "CA", "TX", "BE"))),
        device_type=draw(st.sampled_from((0, 1, 2, 4, 5))),
        os=draw(st.sampled_from(("", "ios", "android", "windows"))),
        channel="app" if app else "site",
        domain="" if app else draw(st.sampled_from(("", *HOSTS, "https://www.example.com/x"))),
        bundle=draw(st.sampled_from(("", *BUNDLES))) if app else "",
        categories=draw(some((*CATEGORIES, "lifestyle"))),
        hour_of_week=draw(st.sampled_from((0, 1, 50, 167))),
        language=draw(st.sampled_from(("", *LANGUAGES, "fr"))),
        bcat=draw(some((*CATEGORIES, "10"))),
        acat=draw(some(CATEGORIES)),
        badv=draw(some(("ford.com", "www.acme.com", "x.brand.co.uk", "co.uk", "bad-advertiser"))),
        wlang=draw(some(LANGUAGES)),
    )
