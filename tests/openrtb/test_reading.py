"""Sizes, domains, categories, countries, devices: one spelling each of what exchanges write in many."""

from __future__ import annotations

from typing import Any

import pytest

from counterpoint.openrtb.categories import categories_match, category_code
from counterpoint.openrtb.countries import ALPHA3_BY_ALPHA2, country_alpha3, region_code
from counterpoint.openrtb.devices import device_os, language_code, os_name
from counterpoint.openrtb.request import decode_request
from counterpoint.openrtb.sizes import banner_sizes, size_range, takes_size
from tests.openrtb.samples import encode


def sizes_of(banner: dict[str, Any], **imp: Any) -> tuple[Any, Any]:
    request = decode_request(
        encode({"id": "r", "device": {"w": 390, "h": 844}, "imp": [{"id": "1", "banner": banner, **imp}]})
    )
    read = request.imp[0].banner
    assert read is not None
    return banner_sizes(read), size_range(request.imp[0], request.device)


def test_sizes() -> None:
    assert sizes_of({"format": [{"w": 300, "h": 250}]})[0] == ((300, 250),)
    assert sizes_of({"format": [{"w": 1, "h": 2}, {"w": 3, "h": 4}, {"w": 1, "h": 2}], "w": 9, "h": 9})[
        0
    ] == ((1, 2), (3, 4))
    assert sizes_of({"w": 728, "h": 90})[0] == ((728, 90),)
    assert sizes_of({"format": [{"wratio": 16, "hratio": 9}], "w": 728, "h": 90})[0] == ((728, 90),)
    assert sizes_of({"format": [{"w": -1, "h": 0}]}) == ((), None)


def test_ranges() -> None:
    _, older = sizes_of({"w": 300, "h": 250, "wmax": 320, "hmax": 260, "wmin": "300"})
    assert older.takes(320, 250)
    assert not older.takes(299, 250)
    _, interstitial = sizes_of({}, instl=1)
    assert interstitial.takes(320, 480)
    assert not interstitial.takes(728, 90)
    assert sizes_of({"w": 300, "h": 250}, instl=1)[1] is None


def test_takes_size() -> None:
    request = decode_request(
        encode({"id": "r", "imp": [{"id": "1", "banner": {"w": 300, "h": 250}}, {"id": "2"}]})
    )
    assert takes_size(request.imp[0], 300, 250)
    assert not takes_size(request.imp[0], 250, 300)
    assert not takes_size(request.imp[1], 300, 250)


def test_categories() -> None:
    assert category_code(" iab1_2") == "IAB1-2"
    listed = frozenset({"IAB7", "IAB9-30"})
    assert categories_match(["IAB7-1"], listed)
    assert categories_match(["IAB9-30"], listed)
    assert not categories_match(["IAB9"], listed)
    assert not categories_match(["IAB70"], listed)
    assert not categories_match([], listed)


def test_countries() -> None:
    assert len(ALPHA3_BY_ALPHA2) == 249
    for alpha2, alpha3 in ALPHA3_BY_ALPHA2.items():
        assert country_alpha3(alpha2.lower()) == country_alpha3(alpha3) == alpha3
    assert [country_alpha3(c) for c in ("UK", " usa ", "", "ZZ", "ZZZ", "840")] == [
        "GBR",
        "USA",
        "",
        "",
        "",
        "",
    ]
    assert region_code("us", "us-ny") == region_code("USA", "NY") == "USA-NY"
    assert region_code("", "NY") == ""


@pytest.mark.parametrize(
    ("device", "name"),
    [
        ({"os": "iOS"}, "ios"),
        ({"os": "iPadOS"}, "ios"),
        ({"os": "OS X"}, "macos"),
        ({"os": "Windows NT 10.0"}, "windows"),
        ({"os": "ANDROID"}, "android"),
        ({"os": "android 14"}, "android"),
        ({"os": "other", "ua": "Mozilla/5.0 (X11; CrOS x86_64)"}, "chromeos"),
        ({"ua": "Mozilla/5.0 (Linux; Android 14; Pixel)"}, "android"),
        ({"ua": "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X)"}, "ios"),
        ({"os": "Linux", "sua": {"platform": {"brand": "Android", "version": ["14"]}}}, "android"),
        ({"os": "BeOS"}, "beos"),
        ({}, ""),
    ],
)
def test_operating_systems(device: dict[str, Any], name: str) -> None:
    request = decode_request(encode({"id": "r", "imp": [{"id": "1"}], "device": device}))
    assert device_os(request.device) == name
    assert device_os(None) == ""
    assert os_name(name) == name


def test_languages() -> None:
    assert language_code("DE-at") == language_code("de_AT") == language_code("de") == "de"
