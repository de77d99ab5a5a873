"""VAST documents for linear video and audio ads: inline, versions 2.0 to 4.3, in the version the player asked for.

Element order follows the schemas (VAST 2.0.1, 3.0, 4.2 XSD). A document is compiled once per creative, version and
choice of media files; per bid only tracking URLs and the bid id are put in.
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import quoteattr

from msgspec import Struct

from counterpoint.openrtb.markup import (
    MarkupError,
    Slot,
    Template,
    TrackingUrls,
    is_https,
    safe_url,
)

# AdCOM "Creative Subtypes - Audio/Video": inline code -> version we write, best first.
VERSION_BY_PROTOCOL = {13: "4.2", 11: "4.1", 7: "4.0", 3: "3.0", 2: "2.0", 15: "4.3"}
PROTOCOL_UNSTATED = 3  # where the request names no protocol: the one every player of the last decade reads
WRAPPER_PROTOCOLS = frozenset({4, 5, 6, 8, 12, 14, 16})
ATTR_SKIPPABLE = 16  # AdCOM creative attribute

# Reported through ``TrackingUrls.event``: what the agents learn from, and no other request of every viewer. Since VAST 3.0.
EVENTS = ("skip",)

TEMPLATES_MAX = 64  # per creative: versions x choices of files; then the cache starts afresh


class VastMedia(Struct, frozen=True, gc=False):
    """A media file. ``bitrate_kbps`` 0: not stated. Sizes are 0 for audio."""

    url: str
    mime: str
    w: int = 0
    h: int = 0
    bitrate_kbps: int = 0


def choose_protocol(offered: Sequence[int], able: Sequence[int] = ()) -> int | None:
    """The inline protocol to answer with: the newest of those offered that we write, else ``None``: does not fit.

    ``able`` limits it to what the creative's markup declares; empty: all that we write.

    >>> choose_protocol([2, 3, 5, 6]), choose_protocol([1, 9]), choose_protocol([]), choose_protocol([2, 7], [2])
    (3, None, 3, 2)
    """
    if not offered:
        if not able or PROTOCOL_UNSTATED in able:
            return PROTOCOL_UNSTATED
        offered = able
    for protocol in VERSION_BY_PROTOCOL:
        if protocol in offered and (not able or protocol in able):
            return protocol
    return None


def skip_offset_s(
    creative_skippable: bool,
    skip_after_s: int,
    *,
    offered_skip: int | None,
    battr: Sequence[int],
    duration_s: int,
    protocol: int = PROTOCOL_UNSTATED,
) -> int | None:
    """Seconds until our own skip button, or ``None``: the document asks for none.

    Only where the player does not bring its own (``skip`` 1) and was not told to keep the ad whole (``skip`` 0), the
    publisher does not block skippable ads, the document's version knows of skipping (since 3.0), and there is something
    left to skip. The bid then declares attribute 16.
    """
    if not creative_skippable or offered_skip is not None or ATTR_SKIPPABLE in battr:
        return None
    if VERSION_BY_PROTOCOL[protocol] < "3":
        return None
    return skip_after_s if 0 < skip_after_s < duration_s else None


def fitting_files(
    files: Sequence[VastMedia],
    mimes: Sequence[str],
    *,
    bitrate_min: int = 0,
    bitrate_max: int = 0,
    secure: bool = False,
) -> tuple[VastMedia, ...]:
    """The files a player can take; none: the creative does not fit. A bitrate that is not stated is not refused."""
    wanted = {mime.strip().lower() for mime in mimes}
    return tuple(
        f
        for f in files
        if f.mime.lower() in wanted
        and not (f.bitrate_kbps and (f.bitrate_kbps < bitrate_min or 0 < bitrate_max < f.bitrate_kbps))
        and (not secure or is_https(f.url))
    )


_NAMES = ("impression", "click", "event", "bid_id")


class VastMarkup:
    """One video or audio creative, ready to be rendered per bid."""

    __slots__ = ("_templates", "audio", "creative_id", "duration_s", "files", "title")

    def __init__(
        self,
        *,
        creative_id: str,
        title: str,
        duration_s: int,
        files: Sequence[VastMedia],
        audio: bool = False,
    ) -> None:
        if duration_s <= 0:
            raise MarkupError(f"creative {creative_id!r}: a linear ad needs a duration in whole seconds")
        if not files:
            raise MarkupError(f"creative {creative_id!r}: a linear ad needs a media file")
        self.creative_id = creative_id
        self.title = title
        self.duration_s = duration_s
        self.files = tuple(VastMedia(safe_url(f.url), f.mime, f.w, f.h, f.bitrate_kbps) for f in files)
        self.audio = audio
        self._templates: dict[tuple[object, ...], Template] = {}

    def render(
        self,
        urls: TrackingUrls,
        bid_id: str,
        *,
        protocol: int,
        files: tuple[VastMedia, ...] | None = None,
        skip_after_s: int | None = None,
    ) -> str:
        """The ``adm`` of one bid. ``protocol``: from :func:`choose_protocol`; ``files``: from :func:`fitting_files` of
        ``self.files``, ``None``: all; ``skip_after_s``: from :func:`skip_offset_s`.
        """
        version = VERSION_BY_PROTOCOL[protocol]
        chosen = self.files if files is None else files
        # All files is the common case and needs no hashing of them.
        key = (version, skip_after_s, bool(urls.event), None if chosen == self.files else chosen)
        template = self._templates.get(key)
        if template is None:
            if len(self._templates) >= TEMPLATES_MAX:
                self._templates.clear()
            template = self._compile(version, chosen, skip_after_s, bool(urls.event))
            self._templates[key] = template
        urls = urls.checked()
        return template.render(urls.impression, urls.click, urls.event, xml_text(bid_id))

    def _compile(
        self, version: str, files: tuple[VastMedia, ...], skip_after_s: int | None, events: bool
    ) -> Template:
        assert files, "a document without a media file would never play"
        modern = version >= "4"
        impression: list[str | Slot] = ["<Impression><![CDATA[", Slot("impression"), "]]></Impression>"]
        title = f"<AdTitle>{xml_text(self.title or self.creative_id)}</AdTitle>"
        ad_type = ' adType="audio"' if self.audio and version >= "4.1" else ""
        creative_id = quoteattr(xml_chars(self.creative_id))
        parts: list[str | Slot] = [
            f'<?xml version="1.0" encoding="UTF-8"?><VAST version="{version}"',
            ' xmlns="http://www.iab.com/VAST"' if version >= "4.1" else "",
            f'><Ad id={creative_id}{ad_type}><InLine><AdSystem version="1">Counterpoint</AdSystem>',
        ]
        if modern:
            parts += impression
            if version >= "4.1":
                parts += ["<AdServingId>", Slot("bid_id"), "</AdServingId>"]
            parts.append(title)
        else:
            parts += [title, *impression]
        ad_id_attr = "adId" if modern else "AdID"
        parts.append(f"<Creatives><Creative id={creative_id} {ad_id_attr}={creative_id}>")
        if version == "4.0":
            parts.append('<UniversalAdId idRegistry="unknown" idValue="unknown">unknown</UniversalAdId>')
        elif modern:
            parts.append('<UniversalAdId idRegistry="unknown">unknown</UniversalAdId>')
        skip = f' skipoffset="{clock(skip_after_s)}"' if skip_after_s is not None and version >= "3" else ""
        parts.append(f"<Linear{skip}>")
        duration = f"<Duration>{clock(self.duration_s)}</Duration>"
        clicks: list[str | Slot] = [
            "<VideoClicks><ClickThrough><![CDATA[",
            Slot("click"),
            "]]></ClickThrough></VideoClicks>",
        ]
        media = f"<MediaFiles>{''.join(map(_media_file, files))}</MediaFiles>"
        tracking = _tracking() if events and version >= "3" else []
        if modern:
            parts += [*tracking, duration, media, *clicks]
        else:
            parts += [duration, *tracking, *clicks, media]
        parts.append("</Linear></Creative></Creatives></InLine></Ad></VAST>")
        return Template(parts, _NAMES)


def _tracking() -> list[str | Slot]:
    parts: list[str | Slot] = ["<TrackingEvents>"]
    for event in EVENTS:
        parts += [f'<Tracking event="{event}"><![CDATA[', Slot("event"), f"{event}]]></Tracking>"]
    parts.append("</TrackingEvents>")
    return parts


def _media_file(f: VastMedia) -> str:
    bitrate = f' bitrate="{f.bitrate_kbps}"' if f.bitrate_kbps else ""
    return (
        f'<MediaFile delivery="progressive" type={quoteattr(xml_chars(f.mime))} width="{f.w}" height="{f.h}"{bitrate}>'
        f"<![CDATA[{f.url}]]></MediaFile>"
    )


def vast_wrapper(tag_url: str, version: str = "2.0") -> str:
    """A wrapper around somebody else's VAST tag, for native video assets: they take a document and no URL.

    It counts nothing: the native ad reports the impression itself.
    """
    return (
        f'<VAST version="{version}"><Ad id="wrapper"><Wrapper><AdSystem>Counterpoint</AdSystem>'
        f"<VASTAdTagURI><![CDATA[{safe_url(tag_url)}]]></VASTAdTagURI>"
        "<Impression><![CDATA[about:blank]]></Impression><Creatives/></Wrapper></Ad></VAST>"
    )


def clock(seconds: int) -> str:
    """``HH:MM:SS``.

    >>> clock(3_675)
    '01:01:15'
    """
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def xml_chars(text: str) -> str:
    """Without the characters XML 1.0 can't hold, not even escaped."""
    if text.isprintable():
        return text
    return "".join(
        c
        for c in text
        if c in "\t\n\r" or (c >= " " and not "\ud800" <= c <= "\udfff" and c not in "\ufffe\uffff")
    )


def xml_text(text: str) -> str:
    """As it may stand between tags.

    >>> xml_text("Salt & <b>pepper</b>")
    'Salt &amp; &lt;b&gt;pepper&lt;/b&gt;'
    """
    return xml_chars(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
