from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterpoint.catalog.normal import domain, registrable


@pytest.mark.parametrize(
    ("adomain", "listed", "blocked"),
    [
        ("brand.example", "brand.example", True),
        ("BRAND.example.", "https://www.brand.example/path?x", True),
        ("shop.brand.example", "brand.example", True),
        ("brand.example", "shop.brand.example", True),
        ("notbrand.example", "brand.example", False),
        ("brand.co.uk", "other.co.uk", False),
        ("a.brand.co.uk", "brand.co.uk", True),
        ("brand.example", "", False),
        ("", "", False),
        ("m\u00fcnchen.example", "xn--mnchen-3ya.example", True),
    ],
)
def test_blocked_advertisers(adomain: str, listed: str, blocked: bool) -> None:
    assert (domain(adomain) != "" and registrable(adomain) == registrable(listed)) is blocked


@given(st.text(max_size=30))
def test_any_text_is_some_host(text: str) -> None:
    assert registrable(text) == registrable(domain(text))
