"""The bid response: structs -> bytes (OpenRTB 2.6, section 4.2)."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import Raw, Struct

from counterpoint.base.money import MICROS_PER_UNIT, PRICE_MICROS_MAX


def price_text(micros: int) -> str:
    """A CPM in micros as decimal text, exact and as short as it goes: no binary float comes near it.

    >>> price_text(1_250_000), price_text(3), price_text(2_000_000)
    ('1.25', '0.000003', '2')
    """
    assert 0 < micros <= PRICE_MICROS_MAX, f"not a price: {micros} micros CPM"
    units, rest = divmod(micros, MICROS_PER_UNIT)
    if not rest:
        return str(units)
    return f"{units}.{rest:06d}".rstrip("0")


def price_raw(micros: int) -> Raw:
    """The same as a JSON number for :attr:`Bid.price`."""
    return Raw(price_text(micros).encode())


class Bid(Struct, gc=False, omit_defaults=True, kw_only=True):
    """4.2.3. What stands without a default is always sent; absent means not stated."""

    id: str
    impid: str
    price: Raw  # CPM in BidResponse.cur: ``price_raw(micros)``
    mtype: int  # 1 banner, 2 video, 3 audio, 4 native
    crid: str
    cid: str
    adomain: tuple[str, ...]
    nurl: str = ""
    burl: str = ""
    lurl: str = ""
    adm: str = ""
    adid: str = ""
    iurl: str = ""
    cat: tuple[str, ...] = ()
    cattax: int = 0
    attr: tuple[int, ...] = ()
    api: int = 0
    apis: tuple[int, ...] = ()
    protocol: int = 0
    language: str = ""
    w: int = 0
    h: int = 0
    dur: int = 0  # seconds
    exp: int = 0  # seconds


class SeatBid(Struct, gc=False, omit_defaults=True, kw_only=True):
    """4.2.2."""

    bid: Sequence[Bid]
    seat: str
    group: int = 0


class BidResponse(Struct, gc=False, omit_defaults=True, kw_only=True):
    """4.2.1. ``cur`` is always sent: its default would be USD."""

    id: str
    seatbid: Sequence[SeatBid]
    cur: str
    bidid: str = ""


_ENCODE = msgspec.json.Encoder().encode


def encode_response(response: BidResponse) -> bytes:
    return _ENCODE(response)
