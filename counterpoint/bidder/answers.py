"""Whole answers with one bid, as text with gaps: what nearly every request is answered with.

An answer is made once with the structs, the markup and the encoder of ``respond.py``, with marks in place of what differs
from bid to bid; cut at the marks it is a format. So the two ways to the bytes cannot drift apart, and a test holds them
equal. Per bid there is one formatting, in place of a struct of thirty fields and the escaping of two kilobytes.
"""

from __future__ import annotations

import re
import secrets
from typing import Final

import msgspec
from msgspec import Raw

from counterpoint.bidder.decide import Candidates
from counterpoint.bidder.part import CatalogPart, ExchangePart
from counterpoint.bidder.respond import Form, UrlBase, make_bid, make_response
from counterpoint.bidder.signing import NoticeTokens, SignedBid
from counterpoint.openrtb.objects import Imp
from counterpoint.openrtb.response import price_text

FORMATS_MAX: Final = 8_192  # of about 2 kB each; past that the memo starts anew

# Marks that no creative can hold by accident or on purpose: made anew in each process.
_SALT: Final = secrets.token_hex(8)
_NAMES: Final = ("request", "imp", "price", "bid", "win", "bill", "loss", "impression", "click", "skip")
_MARKS: Final = tuple(f"m{number}x{_SALT}" for number in range(len(_NAMES)))
# request and imp id and the price stand as JSON strings at first: their quotes go with the mark
_CUT: Final = re.compile("|".join([*(f'"{mark}"' for mark in _MARKS[:3]), *_MARKS[3:]]))
_AT: Final = {f'"{mark}"' if at < 3 else mark: at for at, mark in enumerate(_MARKS)}


class AnswerFormat:
    """One creative's answer on one exchange, in one currency, to one shape of imp."""

    __slots__ = ("_order", "_text", "form")

    def __init__(self, form: Form, text: str) -> None:
        self.form = form  # keeps it alive: formats are found by its identity
        pieces = _CUT.split(text)
        self._order = tuple(_AT[mark] for mark in _CUT.findall(text))
        self._text = "%s".join(piece.replace("%", "%%") for piece in pieces)

    def render(
        self, request_id: str, imp_id: str, price_micros: int, bid_id: str, tokens: NoticeTokens
    ) -> bytes:
        values = (
            _ENCODE(request_id).decode(),
            _ENCODE(imp_id).decode(),
            price_text(price_micros),
            bid_id,
            tokens.win,
            tokens.bill,
            tokens.loss,
            tokens.imp,
            tokens.click,
            tokens.skip,
        )
        return (self._text % tuple([values[at] for at in self._order])).encode()


_ENCODE: Final = msgspec.json.Encoder().encode


class AnswerFormats:
    """The formats of one catalog, made when first needed."""

    __slots__ = ("_formats", "_part", "_urls")

    def __init__(self, part: CatalogPart, urls: UrlBase) -> None:
        self._part = part
        self._urls = urls
        self._formats: dict[tuple[int, str, str], AnswerFormat] = {}

    def of(
        self, form: Form, creative_at: int, imp: Imp, place: ExchangePart, signed: SignedBid, made: Candidates
    ) -> AnswerFormat:
        key = (id(form), signed.exchange, signed.currency)
        found = self._formats.get(key)
        if found is None or found.form is not form:
            found = self._make(form, creative_at, imp, place, signed, made)
            if len(self._formats) >= FORMATS_MAX:
                self._formats.clear()
            self._formats[key] = found
        return found

    def _make(
        self, form: Form, creative_at: int, imp: Imp, place: ExchangePart, signed: SignedBid, made: Candidates
    ) -> AnswerFormat:
        bid = make_bid(
            self._part,
            place,
            self._urls,
            msgspec.structs.replace(signed, bid_id=_MARKS[3]),
            NoticeTokens(*_MARKS[4:]),
            form,
            creative_at,
            msgspec.structs.replace(imp, id=_MARKS[1]),
            1,
        )
        bid.price = Raw(f'"{_MARKS[2]}"'.encode())
        marked = msgspec.structs.replace(made, request_id=_MARKS[0])
        return AnswerFormat(form, make_response(marked, place, [bid]).decode())
