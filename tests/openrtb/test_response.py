from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct, structs

from counterpoint.base.money import PRICE_MICROS_MAX
from counterpoint.openrtb.response import Bid, BidResponse, SeatBid, encode_response, price_raw, price_text
from tests.openrtb.corpora import need, records


def a_bid(micros: int = 1_234_567) -> Bid:
    return Bid(
        id="b",
        impid="1",
        price=price_raw(micros),
        mtype=1,
        crid="cr",
        cid="c",
        adomain=("brand.example",),
        w=300,
        h=250,
    )


@given(st.integers(1, PRICE_MICROS_MAX))
def test_a_price_is_written_exactly(micros: int) -> None:
    response = BidResponse(id="r", seatbid=[SeatBid(bid=[a_bid(micros)], seat="s")], cur="USD")
    text = encode_response(response)
    price = msgspec.json.decode(text, type=dict[str, object])
    assert price["id"] == "r"
    raw = text.split(b'"price":')[1].split(b",")[0]
    assert Decimal(raw.decode()) * 1_000_000 == micros
    assert b"e" not in raw.lower()


@pytest.mark.parametrize("micros", [0, -1, PRICE_MICROS_MAX + 1])
def test_what_is_no_price_never_leaves(micros: int) -> None:
    with pytest.raises(AssertionError):
        price_text(micros)


def test_always_there() -> None:
    response = BidResponse(id="r", seatbid=(SeatBid(bid=(a_bid(),), seat="s"),), cur="EUR")
    plain = msgspec.json.decode(encode_response(response))
    assert set(plain) == {"id", "seatbid", "cur"}
    assert set(plain["seatbid"][0]) == {"bid", "seat"}
    assert set(plain["seatbid"][0]["bid"][0]) == {
        *("id", "impid", "price", "mtype", "crid", "cid", "adomain", "w", "h")
    }


def test_markup_survives_the_encoding() -> None:
    bid = a_bid()
    bid.adm = '<a href="x">\u00e9\n\\</a>'
    text = encode_response(BidResponse(id="r", seatbid=[SeatBid(bid=[bid], seat="s")], cur="USD"))
    assert msgspec.json.decode(text)["seatbid"][0]["bid"][0]["adm"] == bid.adm


def specified(kind: str) -> set[str]:
    listed = msgspec.json.decode(need("openrtb26_fields.json").read_bytes())["fields"]
    return {entry["field"] for entry in listed if entry["object"] == kind}


@pytest.mark.parametrize(
    ("ours", "theirs"), [(Bid, "Bid"), (SeatBid, "SeatBid"), (BidResponse, "BidResponse")]
)
def test_every_field_is_one_of_the_specification(ours: type[Struct], theirs: str) -> None:
    assert {field.name for field in structs.fields(ours)} <= specified(theirs)


def bids_of_others() -> Iterator[dict[str, object]]:
    for record in records("bid_responses.jsonl"):
        if not record["issues"]:
            for seat in record["body"].get("seatbid") or ():
                yield from seat.get("bid") or ()


def test_others_send_the_same_fields() -> None:
    """Of what real bidders send, our names for required things are there, and no name of ours is never used."""
    seen: dict[str, int] = {}
    bids = 0
    for bid in bids_of_others():
        bids += 1
        for name in bid:
            seen[name] = seen.get(name, 0) + 1
    assert bids > 500
    for name in ("id", "impid", "price"):
        assert seen[name] == bids
    for name in ("adm", "crid", "adomain", "w", "h", "mtype", "nurl", "burl", "cid", "cat"):
        assert seen[name] > 0
