from __future__ import annotations

from html.parser import HTMLParser
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterpoint.openrtb.markup import BannerMarkup, MarkupError, TrackingUrls, is_https, safe_url

URLS = TrackingUrls("https://t.example/c?b=1&copy=2", "https://t.example/i?b=1&p=${AUCTION_PRICE}")


class Attributes(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str | None]] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.found += attrs


def parsed(html: str) -> Attributes:
    parser = Attributes()
    parser.feed(html)
    parser.close()
    return parser


def test_an_image_banner() -> None:
    banner = BannerMarkup(image_url="https://cdn.example/a.png?x=1&y=2", w=300, h=250, title='5" <deal>')
    page = parsed(banner.render(URLS))
    assert page.tags == ["a", "img", "img"]
    assert ("href", URLS.click) in page.found
    assert ("src", URLS.impression) in page.found
    assert ("src", "https://cdn.example/a.png?x=1&y=2") in page.found
    assert ("alt", '5" <deal>') in page.found
    assert banner.counts_clicks
    assert banner.secure


def test_own_markup_keeps_its_braces_and_gets_a_pixel() -> None:
    html = '<style>a{color:red;width:100%}</style><a href="{click_url}">{x}</a><script>go("{click_url}")</script>'
    out = BannerMarkup(html=html).render(URLS)
    assert out.startswith("<style>a{color:red;width:100%}</style>")
    assert f'go("{URLS.click}")' in out  # as it is in script, escaped in an attribute
    assert ("href", URLS.click) in parsed(out).found
    assert ("src", URLS.impression) in parsed(out).found
    assert "{x}" in out


def test_own_pixel_and_click_inside_another_url() -> None:
    html = '<a href="https://d.example/?to={click_url_encoded}"><img src="{impression_url}"></a>'
    page = parsed(BannerMarkup(html=html).render(URLS))
    assert page.tags == ["a", "img"]
    href = dict(page.found)["href"]
    assert href is not None
    assert unquote(href.partition("to=")[2]) == URLS.click


@given(st.text(max_size=60))
def test_no_url_breaks_out_of_where_it_stands(tail: str) -> None:
    url = "https://t.example/" + tail
    page = parsed(BannerMarkup(html='<a href="{click_url}"><b></b></a>').render(TrackingUrls(url, url)))
    assert page.tags == ["a", "b", "img"]
    assert dict(page.found)["href"] == safe_url(url)
    assert not set(safe_url(url)) & set("\"'<>\\` \n\r\t]") - {"]"}


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "data:text/html,x", "//t.example/x", "", "ftp://x", "https://"]
)
def test_other_schemes_are_refused(url: str) -> None:
    with pytest.raises(MarkupError):
        BannerMarkup(html="{click_url}").render(TrackingUrls(url, "https://t.example/i"))


def test_a_creative_without_anything_to_show_is_refused() -> None:
    with pytest.raises(MarkupError):
        BannerMarkup()


def test_insecure_links_are_seen() -> None:
    assert not BannerMarkup(html='<img src="http://cdn.example/a.png">').secure
    assert not BannerMarkup(image_url="http://cdn.example/a.png").secure
    assert BannerMarkup(html='<svg xmlns="http://www.w3.org/2000/svg"></svg>').secure
    assert is_https("https://a.example")
    assert not is_https("https://a.example", "http://b.example")
