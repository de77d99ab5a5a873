"""Substitution macros (OpenRTB 2.6, section 4.4): put into notice URLs as they are, read back when the notice comes.

The exchange replaces blindly, or not at all: what comes back may be the macro itself, nothing, the word ``AUDIT``
(markup rendered for a creative audit: no win, no money), or no number. Each of these is a value here, never an
exception: a notice must settle once whatever it carries.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from enum import StrEnum

from msgspec import Struct

from counterpoint.base.money import MICROS_PER_UNIT, PRICE_MICROS_MAX

AUCTION_ID = "${AUCTION_ID}"
AUCTION_BID_ID = "${AUCTION_BID_ID}"
AUCTION_IMP_ID = "${AUCTION_IMP_ID}"
AUCTION_SEAT_ID = "${AUCTION_SEAT_ID}"
AUCTION_AD_ID = "${AUCTION_AD_ID}"
AUCTION_PRICE = "${AUCTION_PRICE}"
AUCTION_CURRENCY = "${AUCTION_CURRENCY}"
AUCTION_MBR = "${AUCTION_MBR}"
AUCTION_LOSS = "${AUCTION_LOSS}"
AUCTION_MIN_TO_WIN = "${AUCTION_MIN_TO_WIN}"
AUCTION_MINIMUM_BID_TO_WIN = "${AUCTION_MINIMUM_BID_TO_WIN}"  # the same, as several exchanges spell it

# Query parameters of our notice URLs that carry macros; the signed part of the URL uses none of these names.
PRICE_PARAM = "p"
CURRENCY_PARAM = "c"
MIN_TO_WIN_PARAM = "m"
MIN_TO_WIN_OTHER_PARAM = "n"
LOSS_PARAM = "l"


class Notice(StrEnum):
    WIN = "win"  # nurl
    BILLING = "billing"  # burl
    LOSS = "loss"  # lurl


_PRICED = f"{PRICE_PARAM}={AUCTION_PRICE}&{CURRENCY_PARAM}={AUCTION_CURRENCY}"
_LABELLED = (
    f"{_PRICED}&{MIN_TO_WIN_PARAM}={AUCTION_MIN_TO_WIN}&{MIN_TO_WIN_OTHER_PARAM}={AUCTION_MINIMUM_BID_TO_WIN}"
)
MACRO_QUERY = {
    Notice.WIN: _LABELLED,
    Notice.BILLING: _PRICED,
    Notice.LOSS: f"{_LABELLED}&{LOSS_PARAM}={AUCTION_LOSS}",
}


def notice_url(signed_url: str, notice: Notice) -> str:
    """``signed_url`` with the macros of that notice behind it.

    >>> notice_url("https://t.example/burl?s=1", Notice.BILLING)
    'https://t.example/burl?s=1&p=${AUCTION_PRICE}&c=${AUCTION_CURRENCY}'
    """
    return f"{signed_url}{'&' if '?' in signed_url else '?'}{MACRO_QUERY[notice]}"


class Price(Struct, frozen=True, gc=False):
    """A price that came back, in nano-units per impression (= micros CPM) of the *bid's* currency, rounded up."""

    nanos: int


class Code(Struct, frozen=True, gc=False):
    """A loss reason (OpenRTB 3.0 "Loss Reason Codes"), known to us or not."""

    value: int


class Currency(Struct, frozen=True, gc=False):
    value: str  # ISO 4217, upper case


class Missing(Struct, frozen=True, gc=False):
    """Not sent, empty, or the macro unreplaced: the exchange does not tell."""


class Audit(Struct, frozen=True, gc=False):
    """Rendered for a creative audit: not a win, nothing to book."""


class Broken(Struct, frozen=True, gc=False):
    """Something came that can't be what it should be. ``text`` is cut to 64 characters."""

    text: str
    why: str


MISSING = Missing()
AUDIT = Audit()

# Unreplaced macros, also percent-encoded (once decoded by the query parser, or twice encoded and still so).
_UNREPLACED = ("${", "$%7b", "%24{", "%24%7b", "%2524%257b", "{auction_", "%%", "[auction_", "%7bauction_")
_TEXT_MAX = 64


def _absent(text: str | None) -> Missing | Audit | None:
    if text is None or not text.strip():
        return MISSING
    lower = text.strip().lower()
    if lower == "audit":
        return AUDIT
    if lower in ("null", "undefined", "none", "n/a") or any(mark in lower for mark in _UNREPLACED):
        return MISSING
    return None


def _broken(text: str, why: str) -> Broken:
    return Broken(text[:_TEXT_MAX], why)


def parse_price(text: str | None) -> Price | Missing | Audit | Broken:
    """The value of ``${AUCTION_PRICE}`` or a minimum to win: a plain decimal CPM in units of currency.

    An exponent is taken (some exchanges print small doubles that way), a comma is not: it may be a decimal or a
    thousands separator, and this is money. Above 10,000 units CPM it is no price.

    >>> parse_price("1.25"), parse_price("${AUCTION_PRICE}"), parse_price("1,25")
    (Price(nanos=1250000), Missing(), Broken(text='1,25', why='not a decimal number'))
    """
    absent = _absent(text)
    if absent is not None:
        return absent
    assert text is not None
    raw = text.strip()
    if len(raw) > _TEXT_MAX or "_" in raw or not raw.isascii():
        return _broken(raw, "not a decimal number")
    try:
        value = Decimal(raw)
    except InvalidOperation:
        return _broken(raw, "not a decimal number")
    if not value.is_finite():
        return _broken(raw, "not finite")
    if value < 0:
        return _broken(raw, "negative")
    if value.adjusted() > 12 or value * MICROS_PER_UNIT > PRICE_MICROS_MAX:
        return _broken(raw, "above 10,000 units CPM")
    if value.adjusted() < -12:
        return Price(0 if value == 0 else 1)
    return Price(int((value * MICROS_PER_UNIT).to_integral_value(ROUND_CEILING)))


def parse_loss(text: str | None) -> Code | Missing | Audit | Broken:
    """The value of ``${AUCTION_LOSS}``.

    >>> parse_loss("102"), parse_loss("")
    (Code(value=102), Missing())
    """
    absent = _absent(text)
    if absent is not None:
        return absent
    assert text is not None
    raw = text.strip()
    if not (raw.isascii() and raw.isdigit()) or len(raw) > 6:
        return _broken(raw, "not a loss reason code")
    return Code(int(raw))


def parse_currency(text: str | None) -> Currency | Missing | Audit | Broken:
    """The value of ``${AUCTION_CURRENCY}``.

    >>> parse_currency("usd")
    Currency(value='USD')
    """
    absent = _absent(text)
    if absent is not None:
        return absent
    assert text is not None
    raw = text.strip().upper()
    if len(raw) != 3 or not (raw.isascii() and raw.isalpha()):
        return _broken(raw, "not a currency code")
    return Currency(raw)


class NoticeValues(Struct, frozen=True, gc=False):
    """All that the macros of a notice brought. ``audit``: any of them says so."""

    price: Price | Missing | Audit | Broken
    currency: Currency | Missing | Audit | Broken
    min_to_win: Price | Missing | Audit | Broken
    loss: Code | Missing | Audit | Broken

    @property
    def audit(self) -> bool:
        return AUDIT in (self.price, self.currency, self.min_to_win, self.loss)


def parse_notice(query: Mapping[str, str]) -> NoticeValues:
    """The macro values of a notice URL's decoded query; other parameters are not looked at.

    >>> parse_notice({"p": "0.5", "n": "0.3"}).min_to_win
    Price(nanos=300000)
    """
    min_to_win = parse_price(query.get(MIN_TO_WIN_PARAM))
    if isinstance(min_to_win, Missing):
        min_to_win = parse_price(query.get(MIN_TO_WIN_OTHER_PARAM))
    return NoticeValues(
        price=parse_price(query.get(PRICE_PARAM)),
        currency=parse_currency(query.get(CURRENCY_PARAM)),
        min_to_win=min_to_win,
        loss=parse_loss(query.get(LOSS_PARAM)),
    )
