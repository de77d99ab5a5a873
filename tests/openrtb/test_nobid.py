from __future__ import annotations

from typing import Any

import msgspec
import pytest

from counterpoint.openrtb.nobid import NoBidReason, Offered, WhenPrivate, no_bid_body, screen, screen_imp
from counterpoint.openrtb.request import BidRequest, Imp, decode_request
from tests.openrtb.samples import banner_request, encode

VIDEO = {"mimes": ["video/mp4"], "protocols": [3]}


def request_with(**fields: Any) -> BidRequest:
    return decode_request(encode({**banner_request(), **fields}))


def imp_with(**fields: Any) -> Imp:
    return decode_request(encode({"id": "r", "imp": [{"id": "1", **fields}]})).imp[0]


def test_a_usual_request_passes() -> None:
    request = request_with()
    assert screen(request, "seat") is None
    assert screen_imp(request.imp[0]) == Offered.BANNER


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"imp": [{"id": "1", "bidfloor": -1}]}, NoBidReason.NO_SOUND_IMP),
        ({"bcat": {}}, NoBidReason.UNREADABLE_LIMIT),
        ({"dooh": {"id": "d"}, "app": None}, NoBidReason.NEEDS_DOOH),
        ({"site": {"id": "s"}}, NoBidReason.AMBIGUOUS_CHANNEL),
        ({"wseat": ["other"]}, NoBidReason.SEAT_NOT_ALLOWED),
        ({"bseat": ["seat"]}, NoBidReason.SEAT_NOT_ALLOWED),
        ({"regs": {"gdpr": 1}}, NoBidReason.NEEDS_CONSENT),
        ({"regs": {"ext": {"gdpr": "1"}}}, NoBidReason.NEEDS_CONSENT),
        ({"regs": {"gpp_sid": [2]}}, NoBidReason.NEEDS_CONSENT),
        ({"regs": {"ext": {"dsa": {"dsarequired": 3}}}}, NoBidReason.NEEDS_DSA),
        ({"cattax": 7, "bcat": ["53"]}, NoBidReason.NEEDS_CATEGORY_MAPPING),
    ],
)
def test_what_is_not_answered(fields: dict[str, Any], reason: NoBidReason) -> None:
    assert screen(request_with(**fields), "seat") is reason


@pytest.mark.parametrize(
    "fields",
    [
        {"wseat": ["seat", "other"]},
        {"bseat": ["other"]},
        {"regs": {"gdpr": 0}},
        {"regs": {"us_privacy": "1YYN"}},
        {"regs": {"gpp": "DBA", "gpp_sid": [7]}},
        {"regs": {"ext": {"dsa": {"dsarequired": 1}}}},
        {"cattax": 7, "bcat": ["IAB7"]},
    ],
)
def test_what_is(fields: dict[str, Any]) -> None:
    assert screen(request_with(**fields), "seat") is None


def test_privacy_strings_by_setting() -> None:
    gdpr = request_with(regs={"gdpr": 1})
    assert screen(gdpr, gdpr=WhenPrivate.CONTEXTUAL) is None
    gpp = request_with(regs={"gpp": "DBA", "gpp_sid": [8]})
    assert screen(gpp, gpp=WhenPrivate.NO_BID) is NoBidReason.NEEDS_CONSENT


@pytest.mark.parametrize(
    ("fields", "answer"),
    [
        ({}, NoBidReason.NO_MEDIA),
        ({"video": {"protocols": [3]}}, NoBidReason.NO_MEDIA),
        ({"native": {}}, NoBidReason.NO_MEDIA),
        ({"video": VIDEO}, Offered.VIDEO),
        ({"audio": {"mimes": ["audio/mpeg"]}}, Offered.AUDIO),
        (
            {"banner": {}, "video": VIDEO, "native": {"request": "{}"}},
            Offered.BANNER | Offered.VIDEO | Offered.NATIVE,
        ),
        ({"video": {**VIDEO, "podid": "p"}}, NoBidReason.NEEDS_POD),
        ({"video": {**VIDEO, "poddur": 60, "maxseq": 3}}, NoBidReason.NEEDS_POD),
        ({"audio": {"mimes": ["audio/mpeg"], "rqddurs": [15, 30]}}, NoBidReason.NEEDS_POD),
        ({"video": {**VIDEO, "mincpmpersec": 0.5}}, NoBidReason.NEEDS_DURATION_FLOOR),
        ({"video": {**VIDEO, "durfloors": [{"mindur": 1, "bidfloor": 5}]}}, NoBidReason.NEEDS_DURATION_FLOOR),
        ({"video": {**VIDEO, "podid": "p"}, "banner": {}}, Offered.BANNER),
        ({"banner": {}, "qty": {"multiplier": 12.5}}, NoBidReason.NEEDS_DOOH),
        ({"banner": {}, "pmp": {"private_auction": 1, "deals": [{"id": "d"}]}}, NoBidReason.NEEDS_DEAL),
        (
            {"banner": {}, "pmp": {"private_auction": 0, "deals": [{"id": "d", "bidfloor": 9}]}},
            Offered.BANNER,
        ),
    ],
)
def test_imps(fields: dict[str, Any], answer: Offered | NoBidReason) -> None:
    assert screen_imp(imp_with(**fields)) == answer


def test_every_reason_has_a_code_of_the_list_and_a_label() -> None:
    for reason in NoBidReason:
        assert 0 <= reason.nbr <= 17
        assert str(reason) == reason.value == reason.value.lower()
        assert NoBidReason(reason.value) is reason
    assert NoBidReason.LATE.nbr == 15
    assert NoBidReason.INVALID_REQUEST.nbr == 2


def test_the_long_form_of_a_no_bid() -> None:
    assert msgspec.json.decode(no_bid_body('a"b\u00e9', 15)) == {"id": 'a"b\u00e9', "seatbid": [], "nbr": 15}
