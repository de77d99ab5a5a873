"""From a committed candidate to the bytes an exchange reads: signed notice URLs, markup, the bid response.

Markup is compiled once per creative and shape of the imp, and rendered per bid (``openrtb/markup.py``): here only the
tracking URLs are made. What a creative can't be rendered for is found before any money is reserved (:meth:`Markups.form`).
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from counterpoint.base.clock import NS_PER_MS
from counterpoint.base.errors import InvalidRequest
from counterpoint.bidder.ask import memorable
from counterpoint.bidder.decide import Candidates, price_in_bid_currency
from counterpoint.bidder.part import CatalogPart, ExchangePart
from counterpoint.bidder.signing import NoticeTokens, SignedBid
from counterpoint.catalog.model import MTYPE, Creative, Media, Settles
from counterpoint.openrtb.macros import Notice, notice_url
from counterpoint.openrtb.markup import BannerMarkup, MarkupError, TrackingUrls
from counterpoint.openrtb.native import NativeImage, NativeMarkup, NativePlan, NativeValues
from counterpoint.openrtb.objects import Audio, Imp, Video
from counterpoint.openrtb.response import Bid, BidResponse, SeatBid, encode_response, price_raw
from counterpoint.openrtb.vast import (
    VastMarkup,
    VastMedia,
    choose_protocol,
    fitting_files,
    skip_offset_s,
)

SKIP_AFTER_S: Final = 5  # own skip button of a skippable creative
FORMS_MAX: Final = 20_000  # renderings remembered; past that the memo starts anew
ATTR_SKIPPABLE: Final = 16


class Form(Struct, frozen=True, kw_only=True):
    """How one creative answers one shape of imp. ``banner``, ``vast``, ``native``: which of them renders."""

    mtype: int
    banner: BannerMarkup | None = None
    vast: VastMarkup | None = None
    native: NativePlan | None = None
    protocol: int = 0
    files: tuple[VastMedia, ...] | None = None
    skip_after_s: int | None = None


_UNMADE: Final = Form(mtype=0)


class Markups:
    """Compiled markup of one catalog's creatives, made when first needed and remembered."""

    __slots__ = ("_banners", "_compiled", "_forms", "_part")

    def __init__(self, part: CatalogPart) -> None:
        self._part = part
        self._compiled: dict[int, BannerMarkup | VastMarkup | NativeMarkup | None] = {}
        self._banners: list[Form | None] = [_UNMADE] * len(part.creatives)
        self._forms: dict[tuple[object, ...], Form | None] = {}

    def form(self, at: int, imp: Imp, secure: bool) -> Form | None:
        """How creative ``at`` answers the imp; None: it can't (the declared catalog and its markup disagree)."""
        form = self._banners[at]  # a banner answers all imps alike
        if form is not _UNMADE:
            return form
        media = self._part.creatives[at].media
        key: tuple[object, ...]
        if media is Media.BANNER:
            form = self._banners[at] = self._make(at, imp, secure)
            return form
        if media is Media.NATIVE:
            native = imp.native
            key = (at, secure, native.request_text, native.ver) if native is not None else (at, None)
        else:
            offer = imp.video if media is Media.VIDEO else imp.audio
            key = (at, secure, *_av_shape(offer)) if offer is not None else (at, None)
        try:
            return self._forms[key]
        except KeyError:
            form = self._make(at, imp, secure)
            if memorable(imp):
                if len(self._forms) >= FORMS_MAX:
                    self._forms.clear()
                self._forms[key] = form
            return form

    def _make(self, at: int, imp: Imp, secure: bool) -> Form | None:
        creative = self._part.creatives[at]
        if at not in self._compiled:
            try:
                self._compiled[at] = compile_markup(creative, self._part.domains[at])
            except MarkupError:
                self._compiled[at] = None
        markup = self._compiled[at]
        if isinstance(markup, BannerMarkup):
            return Form(mtype=MTYPE[Media.BANNER], banner=markup)
        if isinstance(markup, NativeMarkup):
            return _native_form(markup, imp, secure)
        if isinstance(markup, VastMarkup):
            return _vast_form(markup, creative, imp, secure)
        return None


def _av_shape(offer: Video | Audio) -> tuple[object, ...]:
    skip = offer.skip if type(offer) is Video else None
    return (offer.mimes, offer.protocols, offer.minbitrate, offer.maxbitrate, offer.battr, skip)


def compile_markup(creative: Creative, domain: str) -> BannerMarkup | VastMarkup | NativeMarkup:
    """Raises MarkupError for a creative that markup can't be made of."""
    if creative.media is Media.BANNER:
        return BannerMarkup(
            html=creative.html, image_url=creative.image_url, w=creative.w, h=creative.h, title=domain
        )
    if creative.media is Media.NATIVE:
        assets = creative.native
        if assets is None:
            raise MarkupError(f"creative {creative.id!r}: a native creative needs its assets")
        mains = (NativeImage(assets.main_url, assets.main_w, assets.main_h),) if assets.main_url else ()
        icons = (NativeImage(assets.icon_url, assets.icon_w, assets.icon_h),) if assets.icon_url else ()
        return NativeMarkup(
            NativeValues(
                title=assets.title,
                mains=mains,
                icons=icons,
                description=assets.description,
                sponsored=assets.sponsored,
                cta=assets.cta,
                rating=assets.rating,
                video_vast_url=assets.video_vast_url,
            )
        )
    return VastMarkup(
        creative_id=creative.id,
        title=domain,
        duration_s=creative.duration_s,
        files=[VastMedia(file.url, file.mime, file.w, file.h, file.bitrate_kbps) for file in creative.files],
        audio=creative.media is Media.AUDIO,
    )


def _native_form(markup: NativeMarkup, imp: Imp, secure: bool) -> Form | None:
    if imp.native is None:
        return None
    try:
        plan = markup.plan(imp.native.request_text, imp.native.ver, secure=secure)
    except InvalidRequest:
        return None
    return Form(mtype=MTYPE[Media.NATIVE], native=plan) if isinstance(plan, NativePlan) else None


def _vast_form(markup: VastMarkup, creative: Creative, imp: Imp, secure: bool) -> Form | None:
    offer = imp.audio if markup.audio else imp.video
    if offer is None:
        return None
    protocol = choose_protocol(offer.protocols, creative.protocols)
    files = fitting_files(
        markup.files, offer.mimes, bitrate_min=offer.minbitrate, bitrate_max=offer.maxbitrate, secure=secure
    )
    if protocol is None or not files:
        return None
    skip_after_s = skip_offset_s(
        creative.skippable,
        SKIP_AFTER_S,
        offered_skip=offer.skip if type(offer) is Video else 0,
        battr=offer.battr,
        duration_s=creative.duration_s,
        protocol=protocol,
    )
    return Form(
        mtype=MTYPE[creative.media], vast=markup, protocol=protocol, files=files, skip_after_s=skip_after_s
    )


class UrlBase:
    """The prefixes of our own URLs, joined once."""

    __slots__ = ("bill", "click", "imp", "loss", "skip", "win")

    def __init__(self, public_url: str) -> None:
        root = public_url.rstrip("/")
        self.win = root + "/n/win/"
        self.bill = root + "/n/bill/"
        self.loss = root + "/n/loss/"
        self.imp = root + "/t/imp/"
        self.click = root + "/t/click/"
        self.skip = root + "/t/skip/"


_BILLING: Final = Settles.BILLING.value
_WIN_QUERY: Final = notice_url("", Notice.WIN)
_BILL_QUERY: Final = notice_url("", Notice.BILLING)
_LOSS_QUERY: Final = notice_url("", Notice.LOSS)


def make_bid(
    part: CatalogPart,
    place: ExchangePart,
    urls: UrlBase,
    signed: SignedBid,
    tokens: NoticeTokens,
    form: Form,
    creative_at: int,
    imp: Imp,
    price_micros: int,
) -> Bid:
    """One bid, complete. ``price_micros``: CPM in the response's currency."""
    creative = part.creatives[creative_at]
    tracking = TrackingUrls(urls.click + tokens.click, urls.imp + tokens.imp)
    duration_s = 0
    w, h = creative.w, creative.h
    if form.banner is not None:
        adm = form.banner.render(tracking)
    elif form.vast is not None:
        heard = TrackingUrls(tracking.click, tracking.impression, urls.skip + tokens.skip + "?e=")
        adm = form.vast.render(
            heard, signed.bid_id, protocol=form.protocol, files=form.files, skip_after_s=form.skip_after_s
        )
        duration_s = creative.duration_s
    else:
        assert form.native is not None, "a form renders one kind of markup"
        adm = form.native.render(tracking)
        w = h = 0
    attributes = creative.attributes or ()
    if form.skip_after_s is not None and ATTR_SKIPPABLE not in attributes:
        attributes = (*attributes, ATTR_SKIPPABLE)
    return Bid(
        id=signed.bid_id,
        impid=imp.id,
        price=price_raw(price_micros),
        mtype=form.mtype,
        crid=creative.id,
        cid=signed.campaign_id,
        adomain=(part.domains[creative_at],),
        nurl=urls.win + tokens.win + _WIN_QUERY,
        burl=urls.bill + tokens.bill + _BILL_QUERY if signed.settles == _BILLING else "",
        lurl=urls.loss + tokens.loss + _LOSS_QUERY if place.profile.sends_loss_notices else "",
        adm=adm,
        iurl=creative.image_url,
        cat=creative.categories,
        cattax=1 if creative.categories else 0,
        attr=attributes,
        apis=creative.apis,
        protocol=form.protocol,
        language=creative.language,
        w=w,
        h=h,
        dur=duration_s,
        exp=place.profile.billing_delay_max_ms // 1000,
    )


def make_response(candidates: Candidates, place: ExchangePart, bids: list[Bid]) -> bytes:
    return encode_response(
        BidResponse(
            id=candidates.request_id,
            seatbid=(SeatBid(bid=bids, seat=place.profile.seat),),
            cur=candidates.currency,
        )
    )


def bid_price_micros(price_nanos: int, candidates: Candidates) -> int:
    """CPM in the currency of the response; 0: too small to say in it."""
    return price_in_bid_currency(price_nanos, candidates.rate_micros)


def reservation_until_ns(place: ExchangePart, now_ns: int) -> int:
    """A bid's money is held this long for its win notice."""
    return now_ns + place.profile.win_notice_delay_p999_ms * NS_PER_MS
