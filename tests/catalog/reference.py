"""The catalog's rules in plain Python over the structs: slow, obvious, and written without looking at the index's bits."""

from __future__ import annotations

from msgspec import Struct

from counterpoint.catalog import normal
from counterpoint.catalog.model import Campaign, Catalog, Creative, LineItem, Media, MediaFile
from counterpoint.catalog.query import AvOffer, BannerOffer, ImageAsset, NativeOffer


class Asked(Struct, frozen=True, kw_only=True):
    """A request with one imp."""

    exchange: str = "north"
    banner: BannerOffer | None = None
    video: AvOffer | None = None
    audio: AvOffer | None = None
    native: NativeOffer | None = None
    secure: bool = False
    country: str = ""
    region: str = ""
    device_type: int = 0
    os: str = ""
    channel: str = ""
    domain: str = ""
    bundle: str = ""
    categories: tuple[str, ...] = ()
    hour_of_week: int = 0
    language: str = ""
    bcat: tuple[str, ...] = ()
    acat: tuple[str, ...] = ()
    badv: tuple[str, ...] = ()
    wlang: tuple[str, ...] = ()

    def media(self) -> tuple[Media, ...]:
        offers = {
            Media.BANNER: self.banner,
            Media.VIDEO: self.video,
            Media.AUDIO: self.audio,
            Media.NATIVE: self.native,
        }
        return tuple(medium for medium, offer in offers.items() if offer is not None)


def _named(wanted: tuple[str, ...], value: str) -> bool:
    """No wish, or the value is among the wishes."""
    return not wanted or value in wanted


def _host_in(names: tuple[str, ...], asked: Asked) -> bool:
    """The site, or a domain above it, or exactly the app."""
    host = normal.domain(asked.domain)
    for name in names:
        name = normal.domain(name)
        if host and (host == name or (host.endswith("." + name) and "." in name)):
            return True
        if asked.bundle and asked.bundle.lower() == name:
            return True
    return False


def _category_in(names: tuple[str, ...], asked: Asked) -> bool:
    return any(c == name or c.startswith(name + "-") for c in asked.categories for name in names)


def owned(catalog: Catalog, item: LineItem) -> list[Creative]:
    """The creatives it may use at all."""
    by_id = {c.id: c for c in catalog.creatives}
    target = item.targeting
    return [
        c
        for c in (by_id[name] for name in item.creative_ids)
        if not c.paused
        and (not target.media or c.media in target.media)
        and (c.media is not Media.BANNER or not target.sizes or f"{c.w}x{c.h}" in target.sizes)
    ]


def is_eligible(
    catalog: Catalog, item: LineItem, campaign: Campaign, asked: Asked, now_ns: int, open_: bool
) -> bool:
    target = item.targeting
    if item.paused or campaign.paused or not open_:
        return False
    if now_ns < campaign.starts_at_ns or (campaign.ends_at_ns is not None and now_ns >= campaign.ends_at_ns):
        return False
    devices = set(target.device_types) | ({4, 5} if 1 in target.device_types else set())
    region = f"{asked.country}-{asked.region}" if asked.country and asked.region else ""
    if not (
        _named(target.exchanges, asked.exchange)
        and _named(target.countries, asked.country)
        and _named(target.regions, region)
        and (not devices or asked.device_type in devices)
        and _named(target.os, asked.os)
        and _named(target.channels, asked.channel)
        and _named(target.languages, asked.language)
        and (not target.hours_utc or asked.hour_of_week in target.hours_utc)
        and (not target.domains or _host_in(target.domains, asked))
        and not _host_in(target.domains_blocked, asked)
        and (not target.categories or _category_in(target.categories, asked))
        and not _category_in(target.categories_blocked, asked)
    ):
        return False
    media = asked.media()
    return any(
        c.media in media
        and (asked.banner is None or c.media is not Media.BANNER or (c.w, c.h) in asked.banner.sizes)
        for c in owned(catalog, item)
    )


def _battr_ok(creative: Creative, battr: tuple[int, ...]) -> bool:
    if not battr:
        return True
    if creative.attributes is None:
        return False
    has = set(creative.attributes) | ({16} if creative.skippable else set())
    # vendor codes share one bit: an unknown one can only exclude
    has |= {62} if any(a >= 62 for a in has) else set()
    wanted = set(battr) | ({62} if any(a >= 62 for a in battr) else set())
    return not has & wanted


def _apis_ok(creative: Creative, api: tuple[int, ...]) -> bool:
    return set(creative.apis) <= set(api)


def _mimes(creative: Creative) -> set[str]:
    found = {normal.mime(m) for m in creative.mimes} | {normal.mime(f.mime) for f in creative.files}
    if not found and creative.media is Media.BANNER:
        found = {"text/html"} if creative.html else {normal.image_mime(creative.image_url)}
    return found


def _mime_ok(creative: Creative, mimes: tuple[str, ...]) -> bool:
    return not mimes or bool(_mimes(creative) & {normal.mime(m) for m in mimes})


def _av_ok(creative: Creative, offer: AvOffer) -> bool:
    if offer.exact_s:
        if creative.duration_s not in offer.exact_s:
            return False
    elif creative.duration_s < offer.min_s or (offer.max_s is not None and creative.duration_s > offer.max_s):
        return False
    if offer.protocols and not set(offer.protocols) & set(creative.protocols):
        return False
    if offer.skip and creative.skippable:
        return False
    if offer.min_kbps or offer.max_kbps:
        return any(_file_ok(file, offer) for file in creative.files)
    return True


def _file_ok(file: MediaFile, offer: AvOffer) -> bool:
    if offer.mimes and normal.mime(file.mime) not in {normal.mime(m) for m in offer.mimes}:
        return False
    if file.bitrate_kbps == 0:
        return True
    return file.bitrate_kbps >= offer.min_kbps and (not offer.max_kbps or file.bitrate_kbps <= offer.max_kbps)


def _image_ok(url: str, w: int, h: int, asset: ImageAsset) -> bool:
    if not url or w < max(asset.wmin, 1) or h < max(asset.hmin, 1):
        return False
    if (asset.w and w != asset.w) or (asset.h and h != asset.h):
        return False
    return not asset.mimes or normal.image_mime(url) in {normal.mime(m) for m in asset.mimes}


def _native_ok(creative: Creative, offer: NativeOffer) -> bool:
    have = creative.native
    assert have is not None
    if offer.title_len is not None and (
        not have.title or (offer.title_len and len(have.title) > offer.title_len)
    ):
        return False
    for asset in offer.images:
        main = asset.type == 3
        url = have.main_url if main else have.icon_url
        w, h = (have.main_w, have.main_h) if main else (have.icon_w, have.icon_h)
        if not _image_ok(url, w, h, asset):
            return False
    texts = have.data_by_type()
    for kind, length in offer.data:
        if kind not in texts or (length and len(texts[kind]) > length):
            return False
    if offer.video is not None:
        return (
            bool(have.video_vast_url)
            and _mime_ok(creative, offer.video.mimes)
            and _av_ok(creative, offer.video)
        )
    return True


def _is_https(creative: Creative) -> bool:
    urls = [creative.click_url, creative.image_url, creative.html, *(f.url for f in creative.files)]
    if creative.native is not None:
        urls += [creative.native.main_url, creative.native.icon_url, creative.native.video_vast_url]
    return not any("http://" in url for url in urls)


def _banner_type(creative: Creative) -> int:
    if "<script" in creative.html:
        return 3
    return 4 if "<iframe" in creative.html else 2


def _lists_ok(catalog: Catalog, creative: Creative, asked: Asked) -> bool:
    if (asked.bcat or asked.acat) and not creative.categories:
        return False
    for own in creative.categories:
        if any(own == c or own.startswith(c + "-") for c in asked.bcat):
            return False
        if asked.acat and not any(own == c or own.startswith(c + "-") for c in asked.acat):
            return False
    domain = next(a.domain for a in catalog.advertisers if a.id == creative.advertiser_id)
    if any(normal.registrable(b) == normal.registrable(domain) for b in asked.badv):
        return False
    return not asked.wlang or creative.language in asked.wlang


def is_fitting(catalog: Catalog, creative: Creative, asked: Asked) -> bool:
    if asked.secure and not _is_https(creative):
        return False
    if not _lists_ok(catalog, creative, asked):
        return False
    if creative.media is Media.BANNER:
        offer = asked.banner
        return (
            offer is not None
            and (creative.w, creative.h) in offer.sizes
            and _mime_ok(creative, offer.mimes)
            and _battr_ok(creative, offer.battr)
            and _apis_ok(creative, offer.api)
            and _banner_type(creative) not in offer.btype
        )
    if creative.media is Media.NATIVE:
        native = asked.native
        return (
            native is not None
            and _battr_ok(creative, native.battr)
            and _apis_ok(creative, native.api)
            and _native_ok(creative, native)
        )
    av = asked.video if creative.media is Media.VIDEO else asked.audio
    return (
        av is not None
        and (creative.media is Media.AUDIO or av.linearity in (None, 1))
        and _mime_ok(creative, av.mimes)
        and _battr_ok(creative, av.battr)
        and _apis_ok(creative, av.api)
        and _av_ok(creative, av)
    )


def answer(
    catalog: Catalog, asked: Asked, now_ns: int, open_: list[bool]
) -> tuple[list[int], list[tuple[int, int]]]:
    """Positions of eligible line items, and of the pairs that fit, both in catalog order."""
    campaigns = {c.id: (at, c) for at, c in enumerate(catalog.campaigns)}
    creative_at = {c.id: at for at, c in enumerate(catalog.creatives)}
    eligible: list[int] = []
    pairs: list[tuple[int, int]] = []
    for position, item in enumerate(catalog.line_items):
        at, campaign = campaigns[item.campaign_id]
        if not is_eligible(catalog, item, campaign, asked, now_ns, open_[at]):
            continue
        eligible.append(position)
        pairs += [
            (position, creative_at[c.id]) for c in owned(catalog, item) if is_fitting(catalog, c, asked)
        ]
    return eligible, pairs
