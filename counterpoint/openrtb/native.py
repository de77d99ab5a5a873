"""Native ads (Native 1.0 to 1.2): what is asked for, and an answer that fits it or says why not.

A request comes as JSON text, wrapped in ``{"native": ...}`` by version 1.0 and bare since 1.1; an object in the place
of text was made text by ``request.decode_request``. The answer is JSON text of the same form. What it takes is
worked out once per (request, creative): placements send the same request over and over.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import msgspec
from msgspec import Struct

from counterpoint.base.errors import InvalidRequest
from counterpoint.openrtb import tolerant
from counterpoint.openrtb.markup import Slot, Template, TrackingUrls, is_https, safe_url
from counterpoint.openrtb.objects import Int, Wire
from counterpoint.openrtb.vast import WRAPPER_PROTOCOLS, vast_wrapper

IMG_ICON, IMG_LOGO, IMG_MAIN = 1, 2, 3  # Image Asset Types; 2 is deprecated
EVENT_IMPRESSION, METHOD_IMG = 1, 1
ASSETS_MAX = 32  # more are nobody's layout
PLANS_MAX = 256  # per creative: distinct requests remembered; then the memory starts afresh


class DataKind(StrEnum):
    """Data Asset Types we have values for."""

    SPONSORED = "sponsored"
    DESCRIPTION = "description"
    RATING = "rating"
    CTA = "cta"


_DATA_KINDS = {1: DataKind.SPONSORED, 2: DataKind.DESCRIPTION, 3: DataKind.RATING, 12: DataKind.CTA}


class TitleAsked(Wire):
    len: Int = 0  # characters; 0: not stated


class ImageAsked(Wire):
    type: Int = 0
    w: Int = 0
    h: Int = 0
    wmin: Int = 0
    hmin: Int = 0
    mimes: tuple[str, ...] = ()


class DataAsked(Wire):
    type: Int = 0
    len: Int = 0


class VideoAsked(Wire):
    mimes: tuple[str, ...] = ()
    minduration: Int = 0
    maxduration: Int = 0
    protocols: tuple[Int, ...] = ()


class AssetAsked(Wire):
    id: Int | None = None
    required: Int = 0
    title: TitleAsked | None = None
    img: ImageAsked | None = None
    data: DataAsked | None = None
    video: VideoAsked | None = None


class EventTrackerAsked(Wire):
    event: Int = 0
    methods: tuple[Int, ...] = ()


class NativeRequest(Wire):
    """Native 1.2, section 4. ``wrapped``: it came inside ``{"native": ...}``."""

    ver: str = ""
    assets: tuple[AssetAsked, ...] = ()
    eventtrackers: tuple[EventTrackerAsked, ...] = ()
    privacy: Int = 0
    plcmttype: Int = 0
    context: Int = 0
    wrapped: bool = False


class _Wrapped(Wire):
    native: NativeRequest | None = None


_BARE = msgspec.json.Decoder(NativeRequest, strict=False)
_WRAPPED = msgspec.json.Decoder(_Wrapped, strict=False)
_read_tolerantly = tolerant.reader_of(NativeRequest, leave=("wrapped",))
_BROKEN = (msgspec.MsgspecError, RecursionError, ValueError)


def parse_native_request(text: str) -> NativeRequest:
    """All three forms; raises :class:`InvalidRequest` for what is none, or asks for no asset.

    >>> parse_native_request('{"native": {"assets": [{"id": 1, "title": {"len": 25}}]}}').wrapped
    True
    """
    if len(text) > 2 and '"native"' in text:
        try:
            inner = _WRAPPED.decode(text).native
        except _BROKEN:
            inner = None
        if inner is not None and inner.assets:
            inner.wrapped = True
            return inner
    try:
        request = _BARE.decode(text)
        request.wrapped = False
    except _BROKEN:
        request = _parse_tolerantly(text)
    if not request.assets:
        request = _parse_tolerantly(text)
    return request


def _parse_tolerantly(text: str) -> NativeRequest:
    try:
        plain: Any = msgspec.json.decode(text)
        if isinstance(plain, str):  # encoded twice
            plain = msgspec.json.decode(plain)
        wrapped = isinstance(plain, dict) and isinstance(plain.get("native"), dict)
        request = _read_tolerantly(plain["native"] if wrapped else plain)
    except _BROKEN as error:
        raise InvalidRequest(f"native.request is not JSON that can be read: {error}") from error
    except tolerant.Unreadable:
        raise InvalidRequest("native.request is not an object") from None
    assert isinstance(request, NativeRequest)
    if not request.assets:
        raise InvalidRequest("native.request asks for no asset")
    request.wrapped = wrapped
    return request


class NativeImage(Struct, frozen=True, gc=False):
    url: str
    w: int
    h: int


class NativeValues(Struct, frozen=True, kw_only=True):
    """What a creative has to offer. Empty: it has none. Texts are sent whole or not at all, never cut."""

    title: str
    mains: tuple[NativeImage, ...] = ()
    icons: tuple[NativeImage, ...] = ()
    description: str = ""
    sponsored: str = ""
    cta: str = ""
    rating: str = ""
    video_vast_url: str = ""

    def data(self, kind: DataKind) -> str:
        return str(getattr(self, kind.value))


class NativeMisfit(Struct, frozen=True, gc=False):
    """A required asset this creative can't give."""

    asset_id: int
    why: str


class NativePlan(Struct, frozen=True):
    """An answer, complete but for tracking URLs."""

    template: Template
    asset_ids: tuple[int, ...]

    def render(self, urls: TrackingUrls) -> str:
        """The ``adm`` of one bid: JSON text."""
        urls = urls.checked()
        return self.template.render(urls.click, urls.impression, urls.event)


class NativeMarkup:
    """One native creative: ``plan`` says whether it fits a request, and remembers."""

    __slots__ = ("_plans", "values")

    def __init__(self, values: NativeValues) -> None:
        self.values = values
        self._plans: dict[tuple[str, str, bool], NativePlan | NativeMisfit | InvalidRequest] = {}

    def plan(self, request_text: str, ver: str = "", *, secure: bool = False) -> NativePlan | NativeMisfit:
        """Fit this creative to ``imp.native.request`` (and ``imp.native.ver``); raises :class:`InvalidRequest`."""
        key = (request_text, ver, secure)
        found = self._plans.get(key)
        if found is None:
            if len(self._plans) >= PLANS_MAX:
                self._plans.clear()
            try:
                found = fit(parse_native_request(request_text), self.values, ver=ver, secure=secure)
            except InvalidRequest as error:
                found = error
            self._plans[key] = found
        if isinstance(found, InvalidRequest):
            raise found
        return found


def fit(
    request: NativeRequest, values: NativeValues, *, ver: str = "", secure: bool = False
) -> NativePlan | NativeMisfit:
    """An answer to every required asset, and to each other one we have something for.

    Assets without an id can't be answered. Impressions are reported through ``eventtrackers`` where the request
    offers event 1 by image, else through ``imptrackers``. Root and asset order follow the request.
    """
    if len(request.assets) > ASSETS_MAX:
        return NativeMisfit(0, f"more than {ASSETS_MAX} assets")
    assets: list[dict[str, Any]] = []
    for asked in request.assets:
        asset_id = asked.id
        answer: dict[str, Any] | str = "has no id" if asset_id is None else _asset(asked, values, secure)
        if isinstance(answer, str):
            if asked.required:
                return NativeMisfit(asset_id or 0, answer)
            continue
        required = {"required": 1} if asked.required else {}
        assets.append({"id": asset_id, **required, **answer})
    if not assets:
        return NativeMisfit(0, "none of the optional assets can be given")
    version = _version(request.ver or ver)
    wrapped = request.wrapped if version is None else version < (1, 1)
    root: dict[str, Any] = {}
    if version is not None and version >= (1, 1):
        root["ver"] = f"{version[0]}.{version[1]}"
    root["assets"] = assets
    root["link"] = {"url": _CLICK}
    if _offers_impression_image(request.eventtrackers):
        root["eventtrackers"] = [{"event": EVENT_IMPRESSION, "method": METHOD_IMG, "url": _IMPRESSION}]
    else:
        root["imptrackers"] = [_IMPRESSION]
    text = msgspec.json.encode({"native": root} if wrapped else root).decode()
    return NativePlan(Template(_split(text), _NAMES), tuple(a["id"] for a in assets))


# Stand-ins for URLs while the answer is built; none of their characters is escaped in JSON or percent-encoded.
_CLICK, _IMPRESSION = "https://c.invalid/${CLICK}", "https://i.invalid/${IMPRESSION}"
_NAMES = ("click", "impression", "event")


def _split(text: str) -> list[str | Slot]:
    parts: list[str | Slot] = []
    rest = text
    while True:
        at = [
            (i, mark, name)
            for mark, name in ((_CLICK, "click"), (_IMPRESSION, "impression"))
            if (i := rest.find(mark)) >= 0
        ]
        if not at:
            parts.append(rest)
            return parts
        i, mark, name = min(at)
        parts += [rest[:i], Slot(name)]
        rest = rest[i + len(mark) :]


def _version(text: str) -> tuple[int, int] | None:
    """``None``: not stated, or not readable.

    >>> _version("1.2"), _version("1"), _version("")
    ((1, 2), (1, 0), None)
    """
    major, _, minor = text.strip().partition(".")
    if not (major.isascii() and major.isdigit()) or len(major) > 3:
        return None
    digits = minor[:1]
    return int(major), int(digits) if digits.isascii() and digits.isdigit() else 0


def _offers_impression_image(trackers: Sequence[EventTrackerAsked]) -> bool:
    return any(t.event == EVENT_IMPRESSION and METHOD_IMG in t.methods for t in trackers)


def _asset(asked: AssetAsked, values: NativeValues, secure: bool) -> dict[str, Any] | str:
    """The answer, or why there is none."""
    if asked.title is not None:
        if not values.title:
            return "no title"
        if 0 < asked.title.len < len(values.title):
            return f"the title is longer than {asked.title.len}"
        return {"title": {"text": values.title, "len": len(values.title)}}
    if asked.img is not None:
        return _image(asked.img, values, secure)
    if asked.data is not None:
        kind = _DATA_KINDS.get(asked.data.type)
        text = values.data(kind) if kind is not None else ""
        if not text or kind is None:
            return f"no data of type {asked.data.type}"
        if 0 < asked.data.len < len(text):
            return f"the {kind.value} is longer than {asked.data.len}"
        return {"data": {"type": asked.data.type, "len": len(text), "value": text}}
    if asked.video is not None:
        return _video(asked.video, values, secure)
    return "an asset of no kind we know"


def _image(asked: ImageAsked, values: NativeValues, secure: bool) -> dict[str, Any] | str:
    if asked.type in (IMG_ICON, IMG_LOGO):
        images = values.icons
    elif asked.type in (IMG_MAIN, 0):
        images = values.mains
    else:
        return f"no image of type {asked.type}"
    for image in images:
        if secure and not is_https(image.url):
            continue
        if _fits(image.w, asked.w, asked.wmin) and _fits(image.h, asked.h, asked.hmin):
            kind = {"type": asked.type} if asked.type else {}
            return {"img": {**kind, "url": safe_url(image.url), "w": image.w, "h": image.h}}
    return "no image of that size"


def _fits(size: int, exact: int, least: int) -> bool:
    """4.4: a minimum means the client rescales; an exact size without one is meant exactly."""
    if least > 0:
        return size >= least
    return exact <= 0 or size == exact


def _video(asked: VideoAsked, values: NativeValues, secure: bool) -> dict[str, Any] | str:
    """Our creatives name a VAST tag by URL, the asset takes a document: a wrapper, where wrappers are offered."""
    if not values.video_vast_url:
        return "no video"
    if secure and not is_https(values.video_vast_url):
        return "the video is not secure"
    if asked.protocols and WRAPPER_PROTOCOLS.isdisjoint(asked.protocols):
        return "the video is a VAST wrapper, and none is offered"
    return {"video": {"vasttag": vast_wrapper(values.video_vast_url)}}
