"""What a bid request asks of the catalog's index: OpenRTB objects on one side, plain values on the other."""

from __future__ import annotations

from typing import Final

from counterpoint.base.errors import InvalidRequest
from counterpoint.bidder.scratch import FITS_MAX, FitKey, ImpFit, Scratch
from counterpoint.catalog import query as q
from counterpoint.catalog.fill import banner_sizes as interstitial_sizes
from counterpoint.catalog.index import (
    AvOffer,
    BannerOffer,
    CatalogIndex,
    Fit,
    ImageAsset,
    NativeOffer,
    fill_fit,
)
from counterpoint.openrtb.devices import device_os
from counterpoint.openrtb.native import IMG_MAIN, ImageAsked, VideoAsked, parse_native_request
from counterpoint.openrtb.objects import App, Audio, Banner, BidRequest, Device, Imp, Native, Site, Video
from counterpoint.openrtb.sizes import banner_sizes, size_range
from counterpoint.openrtb.vast import WRAPPER_PROTOCOLS

BANNER: Final = 1
VIDEO: Final = 2
AUDIO: Final = 4
NATIVE: Final = 8

MEDIA_NAMES: Final = tuple(
    tuple(name for bit, name in ((1, "banner"), (2, "video"), (4, "audio"), (8, "native")) if bits & bit)
    for bits in range(16)
)
SHAPE_MAX: Final = 8_192  # characters and numbers of one imp that a memo may keep
HOUR_NS: Final = 3_600 * 1_000_000_000
HOURS_OF_WEEK: Final = 168
THURSDAY: Final = 72  # the epoch began on one: hours since Monday 00:00

Size = tuple[int, int]


def hour_of_week(now_ns: int) -> int:
    """Hours since Monday 00:00 UTC, 0..167.

    >>> hour_of_week(0), hour_of_week(4 * 24 * HOUR_NS)
    (72, 0)
    """
    return (now_ns // HOUR_NS + THURSDAY) % HOURS_OF_WEEK


def sizes_of(index: CatalogIndex, imp: Imp, device: Device | None) -> tuple[Size, ...]:
    """The banner sizes the imp takes, exact ones first; of a range, those that some creative has."""
    banner = imp.banner
    if banner is None:
        return ()
    sizes = banner_sizes(banner)
    if banner.wmax > 0 or (imp.instl and not sizes):
        taken = size_range(imp, device)
        if taken is not None:
            return (*sizes, *(size for size in index.sizes if taken.takes(*size)))
        return tuple(interstitial_sizes(sizes, bool(imp.instl)))
    return sizes


def categories_of(place: Site | App) -> tuple[str, ...]:
    """Categories of the place and its content, those of IAB Content Taxonomy 1.0 only."""
    found = place.cat + place.sectioncat + place.pagecat if place.cattax <= 1 else ()
    content = place.content
    if content is not None and content.cat and content.cattax <= 1:
        found += content.cat
    return found


def ask(
    scratch: Scratch,
    request: BidRequest,
    exchange: str,
    media: int,
    sizes: tuple[Size, ...],
    now_ns: int,
    key: int,
) -> None:
    """Fill ``scratch.query``, and what imps share of ``scratch.contexts``. ``media`` bits and ``sizes``: the union over the imps that are answered."""
    site, app, device = request.site, request.app, request.device
    channel = domain = bundle = language = ""
    categories: tuple[str, ...] = ()
    place = site if site is not None else app
    if place is not None:
        categories = categories_of(place)
        domain = place.domain
        content = place.content
        if content is not None:
            language = content.language
        if site is not None:
            channel = "site"
            domain = domain or site.page
        elif app is not None:
            channel = "app"
            bundle = app.bundle
    country = region = os = ""
    device_type = 0
    if device is not None:
        os = device_os(device)
        device_type = device.devicetype
        language = language or device.language
        geo = device.geo
        if geo is not None:
            country = geo.country
            region = geo.region
    week_hour = hour_of_week(now_ns)
    scratch.contexts.request(
        bundle or (place.domain if place is not None else ""),
        categories[0] if categories else "",
        device_type,
        os,
        country,
        week_hour,
    )
    scratch.facets.fill(
        scratch.query,
        exchange,
        MEDIA_NAMES[media],
        sizes,
        country,
        region,
        device_type,
        os,
        channel,
        domain,
        bundle,
        categories,
        week_hour,
        language,
        now_ns,
        key,
    )


def fit_of(
    index: CatalogIndex,
    scratch: Scratch,
    imp: Imp,
    media: int,
    sizes: tuple[Size, ...],
    secure: bool,
    key: int,
) -> ImpFit:
    """What the imp accepts, of the ``media`` bits that may be answered. Imps of one shape share their arrays."""
    shape: FitKey = (
        secure,
        _banner_key(imp.banner, sizes) if media & BANNER and imp.banner is not None else None,
        _av_key(imp.video) if media & VIDEO and imp.video is not None else None,
        _av_key(imp.audio) if media & AUDIO and imp.audio is not None else None,
        _native_key(imp) if media & NATIVE else None,
    )
    fit = scratch.fits.get(shape)
    if fit is None:
        made = _make_fit(index, imp, media, sizes, secure)
        fit = ImpFit(made, scratch.part.fit_classes.that_fit(index, made))
        if memorable(imp):
            if len(scratch.fits) >= FITS_MAX:
                scratch.fits.clear()
            scratch.fits[shape] = fit
    fit.fit.cells[q.F_KEY] = key if key < 1 << 63 else key - (1 << 64)
    return fit


def memorable(imp: Imp) -> bool:
    """Whether a memo may keep what the imp says: a request may hold megabytes, and a memo keeps what it is asked."""
    length = 0
    banner, video, audio, native = imp.banner, imp.video, imp.audio, imp.native
    if banner is not None:
        length += len(banner.format) + len(banner.battr) + len(banner.api) + sum(map(len, banner.mimes))
    for offer in (video, audio):
        if offer is not None:
            length += len(offer.battr) + len(offer.api) + len(offer.protocols) + sum(map(len, offer.mimes))
    if native is not None:
        length += len(native.request_text) + len(native.ver) + len(native.battr) + len(native.api)
    return length <= SHAPE_MAX


def _banner_key(banner: Banner, sizes: tuple[Size, ...]) -> FitKey:
    return (sizes, banner.mimes, banner.battr, banner.btype, banner.api)


def _av_key(offer: Video | Audio) -> FitKey:
    return (
        offer.mimes,
        offer.protocols,
        offer.minduration,
        offer.maxduration,
        offer.battr,
        offer.api,
        offer.minbitrate,
        offer.maxbitrate,
        (offer.linearity, offer.skip) if type(offer) is Video else None,
    )


def _native_key(imp: Imp) -> FitKey:
    native = imp.native
    assert native is not None, "native is among the media that may be answered"
    return (native.request_text, native.battr, native.api)


def _make_fit(index: CatalogIndex, imp: Imp, media: int, sizes: tuple[Size, ...], secure: bool) -> Fit:
    banner, native = imp.banner, imp.native
    fit = index.new_fit()
    fill_fit(
        index,
        fit,
        banner=BannerOffer(
            sizes=sizes, mimes=banner.mimes, battr=banner.battr, btype=banner.btype, api=banner.api
        )
        if media & BANNER and banner is not None
        else None,
        video=_av_offer(imp.video) if media & VIDEO and imp.video is not None else None,
        audio=_av_offer(imp.audio) if media & AUDIO and imp.audio is not None else None,
        native=_native_offer(native) if media & NATIVE and native is not None else None,
        secure=secure,
    )
    return fit


def _av_offer(offer: Video | Audio) -> AvOffer:
    video = offer if type(offer) is Video else None
    return AvOffer(
        mimes=offer.mimes,
        protocols=offer.protocols,
        min_s=offer.minduration,
        max_s=offer.maxduration,
        battr=offer.battr,
        api=offer.api,
        skip=video is not None and video.skip == 1,
        linearity=video.linearity or None if video is not None else None,
        min_kbps=offer.minbitrate,
        max_kbps=offer.maxbitrate or None,
    )


_NATIVE_DATA: Final = frozenset({1, 2, 3, 12})  # the data assets that our native answers can give
_UNANSWERABLE: Final = NativeOffer(data=((0, 0),))


def _native_offer(native: Native) -> NativeOffer:
    """The required assets of a native request; one that nothing of ours answers fits no creative."""
    try:
        asked = parse_native_request(native.request_text)
    except InvalidRequest:
        return _UNANSWERABLE
    title_len: int | None = None
    images: list[ImageAsset] = []
    data: list[tuple[int, int]] = []
    video: AvOffer | None = None
    for asset in asked.assets:
        if not asset.required:
            continue
        if asset.id is None:
            return _UNANSWERABLE
        if asset.title is not None:
            shorter = min(title_len or asset.title.len, asset.title.len)
            title_len = max(0, shorter or asset.title.len)
        elif asset.img is not None:
            images.append(_image(asset.img))
        elif asset.data is not None:
            data.append((asset.data.type if asset.data.type in _NATIVE_DATA else 0, max(0, asset.data.len)))
        elif asset.video is not None and _takes_wrapper(asset.video):
            video = AvOffer()
        else:
            return _UNANSWERABLE
    return NativeOffer(
        title_len=title_len,
        images=tuple(images),
        data=tuple(data),
        video=video,
        battr=native.battr,
        api=native.api,
    )


def _image(asked: ImageAsked) -> ImageAsset:
    """A minimum means that the client rescales, so the exact size beside it is no condition (Native 4.4)."""
    return ImageAsset(
        type=asked.type or IMG_MAIN,
        w=asked.w if asked.w > 0 and asked.wmin <= 0 else 0,
        h=asked.h if asked.h > 0 and asked.hmin <= 0 else 0,
        wmin=max(0, asked.wmin),
        hmin=max(0, asked.hmin),
    )


def _takes_wrapper(asked: VideoAsked) -> bool:
    return not asked.protocols or not WRAPPER_PROTOCOLS.isdisjoint(asked.protocols)
