"""Banner markup, and the templates all markup is rendered from.

Markup is compiled once per creative and rendered once per bid: a rendering puts tracking URLs into prepared text and
does nothing else. What makes that safe is that a URL is checked first (:func:`safe_url`): afterwards it holds none of
the characters that end an attribute, a CDATA section, a JSON or a script string.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from urllib.parse import quote

from msgspec import Struct

from counterpoint.base.errors import CounterpointError


class MarkupError(CounterpointError):
    """Markup that can't be made from what was given: a creative's mistake, found when it is compiled."""


# No quotes, angle brackets, backslash, backtick, "^", blanks or control characters. "$", "{", "}" stay: macros.
_SAFE_URL = re.compile(r"https?://[A-Za-z0-9\-._~:/?#\[\]@!$&()*+,;=%{}|]+")
_KEEP = "-._~:/?#[]@!$&()*+,;=%{}|"
URL_CHARS_MAX = 8_192


def safe_url(url: str) -> str:
    """``url`` as it may stand in markup: http or https, everything risky percent-encoded.

    Raises :class:`MarkupError` for any other scheme (``javascript:``, ``data:`` ...) and for overlong ones.

    >>> safe_url('https://t.example/c?a=1&b="x"')
    'https://t.example/c?a=1&b=%22x%22'
    """
    if _SAFE_URL.fullmatch(url) is not None and len(url) <= URL_CHARS_MAX:
        return url
    encoded = quote(url.strip(), safe=_KEEP)
    if _SAFE_URL.fullmatch(encoded) is None or len(encoded) > URL_CHARS_MAX:
        raise MarkupError(f"not an http(s) URL that can stand in markup: {url[:100]!r}")
    return encoded


def is_https(*urls: str) -> bool:
    """Whether all of these go over TLS: what ``imp.secure`` = 1 asks of every URL in the markup."""
    return all(url.startswith("https://") for url in urls)


class TrackingUrls(Struct, frozen=True, gc=False):
    """Where one bid's markup reports to. ``event``: an event's name is appended to it; "": events are not reported."""

    click: str
    impression: str
    event: str = ""

    def checked(self) -> TrackingUrls:
        """The same with every URL safe; itself when they are, as ours always are."""
        click, impression = safe_url(self.click), safe_url(self.impression)
        event = safe_url(self.event) if self.event else ""
        if click is self.click and impression is self.impression and event is self.event:
            return self
        return TrackingUrls(click, impression, event)


class Slot(Struct, frozen=True, gc=False):
    """A place in a template: which value goes there."""

    name: str


class Template:
    """Text with slots, split at its slots once; ``render`` joins it with their values.

    >>> Template(["a=", Slot("x"), "; 100%"], ("x",)).render("1")
    'a=1; 100%'
    """

    __slots__ = ("_format", "_order", "parts")

    def __init__(self, parts: Sequence[str | Slot], names: tuple[str, ...]) -> None:
        """``names``: the order in which ``render`` takes its values."""
        self.parts = tuple(parts)
        self._format = "".join(p.replace("%", "%%") if isinstance(p, str) else "%s" for p in parts)
        self._order = tuple(names.index(p.name) for p in parts if isinstance(p, Slot))

    def render(self, *values: str) -> str:
        return self._format % tuple([values[i] for i in self._order])


_SLOT = re.compile(r"(\{click_url\}|\{click_url_encoded\}|\{impression_url\})")
_SCRIPT_OR_STYLE = re.compile(r"<(/?)(script|style)\b", re.IGNORECASE)
_LINK = re.compile(r"""(?:src|href|url)\s*[=(]\s*["']?\s*(http:)""", re.IGNORECASE)

# The order of a banner template's values: as they stand in an attribute, in a script, and inside another URL.
_NAMES = ("click_attr", "click_script", "click_encoded", "impression_attr", "impression_script")


class BannerMarkup:
    """One banner creative, ready to be rendered per bid.

    ``html`` may hold ``{click_url}`` (the tracked click, redirecting to the landing page), ``{click_url_encoded}`` (the
    same inside the query of another URL) and ``{impression_url}``; all other braces are left alone, so style and script
    need no escaping. Without ``{impression_url}`` a pixel is appended. ``image_url`` is used where ``html`` is empty.
    """

    __slots__ = ("_template", "counts_clicks", "secure")

    def __init__(
        self, *, html: str = "", image_url: str = "", w: int = 0, h: int = 0, title: str = ""
    ) -> None:
        if not html:
            if not image_url:
                raise MarkupError("a banner needs html or an image_url")
            html = _image_html(image_url, w, h, title)
        if "{impression_url}" not in html:
            html += _PIXEL
        parts: list[str | Slot] = []
        in_code = False
        for piece in _SLOT.split(html):
            if piece == "{click_url_encoded}":
                parts.append(Slot("click_encoded"))
            elif piece in ("{click_url}", "{impression_url}"):
                parts.append(Slot(f"{piece[1:-5]}_{'script' if in_code else 'attr'}"))
            else:
                parts.append(piece)
                for tag in _SCRIPT_OR_STYLE.finditer(piece):
                    in_code = not tag.group(1)
        self._template = Template(parts, _NAMES)
        self.counts_clicks = "{click_url" in html
        self.secure = _LINK.search(html) is None  # tracking URLs aside: see ``is_https``

    def render(self, urls: TrackingUrls) -> str:
        """The ``adm`` of one bid."""
        urls = urls.checked()
        click, impression = urls.click, urls.impression
        encoded = quote(click, safe="") if _needs_encoded(self._template) else ""
        return self._template.render(
            click.replace("&", "&amp;"), click, encoded, impression.replace("&", "&amp;"), impression
        )


def _needs_encoded(template: Template) -> bool:
    return Slot("click_encoded") in template.parts


_PIXEL = (
    '<img src="{impression_url}" width="1" height="1" alt="" style="position:absolute;left:-9999px;border:0">'
)


def _image_html(image_url: str, w: int, h: int, title: str) -> str:
    size = f' width="{w}" height="{h}"' if w > 0 and h > 0 else ""
    return (
        '<a href="{click_url}" target="_blank" rel="noopener noreferrer">'
        f'<img src="{escape(safe_url(image_url))}"{size} alt="{escape(title)}" style="display:block;border:0"></a>'
    )
