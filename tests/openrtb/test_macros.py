from __future__ import annotations

from decimal import Decimal
from urllib.parse import parse_qsl, quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterpoint.base.money import PRICE_MICROS_MAX
from counterpoint.openrtb import macros
from counterpoint.openrtb.macros import (
    AUDIT,
    MISSING,
    Broken,
    Code,
    Currency,
    Notice,
    Price,
    notice_url,
    parse_currency,
    parse_loss,
    parse_notice,
    parse_price,
)


@pytest.mark.parametrize(
    ("text", "nanos"),
    [
        ("1.25", 1_250_000),
        ("0", 0),
        ("0.0", 0),
        (" 3 ", 3_000_000),
        ("1e-3", 1_000),
        ("2.5E+1", 25_000_000),
        ("0.0000001", 1),
        ("1e-999", 1),
        ("0.1234567", 123_457),
        ("+2", 2_000_000),
        ("10000", PRICE_MICROS_MAX),
    ],
)
def test_prices(text: str, nanos: int) -> None:
    assert parse_price(text) == Price(nanos)


@pytest.mark.parametrize(
    "text",
    [
        *(
            None,
            "",
            "  ",
            "${AUCTION_PRICE}",
            "${auction_price}",
            "%24%7BAUCTION_PRICE%7D",
            "$%7BAUCTION_PRICE%7d",
        ),
        *(
            "${AUCTION_PRICE:B64}",
            "{AUCTION_PRICE}",
            "[AUCTION_PRICE]",
            "%%WINNING_PRICE%%",
            "null",
            "undefined",
        ),
    ],
)
def test_what_the_exchange_did_not_tell(text: str | None) -> None:
    assert parse_price(text) == MISSING
    assert parse_loss(text) == MISSING
    assert parse_currency(text) == MISSING


@pytest.mark.parametrize("text", ["AUDIT", "audit", " Audit "])
def test_audit(text: str) -> None:
    assert parse_price(text) == AUDIT
    assert parse_notice({"p": text}).audit
    assert not parse_notice({"p": "1"}).audit


@pytest.mark.parametrize(
    "text",
    [
        *(
            "-1",
            "-0.01",
            "nan",
            "NaN",
            "sNaN",
            "inf",
            "-Infinity",
            "1,25",
            "1.2.3",
            "0x10",
            "1_000",
            "10000.01",
        ),
        *("1e9", "1e999999999", "9" * 400, "\u0661", "abc", "1 2", "$1.20", "=1+1", "<script>"),
    ],
)
def test_what_is_no_price(text: str) -> None:
    found = parse_price(text)
    assert isinstance(found, Broken)
    assert found.why
    assert len(found.text) <= 64


@given(st.text(max_size=40))
def test_any_text_is_one_of_the_four(text: str) -> None:
    found = parse_price(text)
    if isinstance(found, Price):
        assert 0 <= found.nanos <= PRICE_MICROS_MAX
    parse_loss(text)
    parse_currency(text)


@given(st.decimals(min_value=0, max_value=10_000, places=9))
def test_a_price_is_never_booked_below_what_was_said(units: Decimal) -> None:
    found = parse_price(str(units))
    assert isinstance(found, Price)
    assert 0 <= found.nanos - units * 1_000_000 < 1


def test_loss_and_currency() -> None:
    assert parse_loss("102") == Code(102)
    assert parse_loss("4711") == Code(4711)
    assert isinstance(parse_loss("-1"), Broken)
    assert isinstance(parse_loss("1.5"), Broken)
    assert isinstance(parse_loss("9" * 30), Broken)
    assert parse_currency("eur") == Currency("EUR")
    assert isinstance(parse_currency("EURO"), Broken)


@pytest.mark.parametrize("notice", list(Notice))
@pytest.mark.parametrize("base", ["https://t.example/n", "https://t.example/n?b=1&s=x"])
def test_a_notice_url_replaced_by_an_exchange_reads_back(notice: Notice, base: str) -> None:
    url = notice_url(base, notice)
    for macro, value in (
        (macros.AUCTION_PRICE, "1.5"),
        (macros.AUCTION_CURRENCY, "USD"),
        (macros.AUCTION_MINIMUM_BID_TO_WIN, "1.4"),
        (macros.AUCTION_LOSS, "102"),
    ):
        url = url.replace(macro, value)
    values = parse_notice(dict(parse_qsl(url.partition("?")[2], keep_blank_values=True)))
    assert values.price == Price(1_500_000)
    assert values.currency == Currency("USD")
    assert values.min_to_win == (MISSING if notice is Notice.BILLING else Price(1_400_000))
    assert values.loss == (Code(102) if notice is Notice.LOSS else MISSING)


@pytest.mark.parametrize("spoil", [str, str.lower, lambda url: quote(url, safe=":/?&=")])
def test_a_notice_url_nobody_replaced_reads_as_missing(spoil: object) -> None:
    assert callable(spoil)
    url = str(spoil(notice_url("https://t.example/n", Notice.LOSS)))
    values = parse_notice(dict(parse_qsl(url.partition("?")[2], keep_blank_values=True)))
    assert (values.price, values.currency, values.min_to_win, values.loss) == (MISSING,) * 4
