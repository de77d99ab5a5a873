from __future__ import annotations

from decimal import ROUND_CEILING, Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterpoint.base.errors import InvalidRequest
from counterpoint.base.money import price_up
from counterpoint.openrtb.request import BidRequest, decode_request, floor_micros
from tests.openrtb.samples import banner_request, encode


def one_imp(**fields: Any) -> dict[str, Any]:
    return {"id": "r", "imp": [{"id": "1", "banner": {"w": 300, "h": 250}, **fields}]}


def decode(plain: Any) -> BidRequest:
    return decode_request(encode(plain))


def test_a_usual_request_is_read() -> None:
    request = decode(banner_request())
    imp = request.imp[0]
    assert (request.id, request.at, request.tmax, request.cur) == (banner_request()["id"], 1, 120, ("USD",))
    assert imp.banner is not None
    assert [(f.w, f.h) for f in imp.banner.format] == [(320, 50), (300, 50)]
    assert imp.floor_micros == 420_000
    assert imp.bidfloorcur == "USD"
    assert request.device is not None
    assert request.device.geo is not None
    assert request.device.geo.country == "USA"
    assert request.app is not None
    assert request.app.bundle == "com.example.weather"
    assert request.imps_unsound == 0
    assert request.unreadable == ""


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"null",
        b"[]",
        b'"x"',
        b"7",
        b"{}",
        b'{"id":"1"}',
        b'{"id":"1","imp":[]}',
        b'{"id":"1","imp":null}',
        b'{"id":"1","imp":[{}]}',
        b'{"id":"1","imp":[{"id":""}]}',
        b'{"id":"1","imp":[7,null,"x"]}',
        b'{"id":"","imp":[{"id":"1"}]}',
        b'{"id":null,"imp":[{"id":"1"}]}',
        b'{"id":true,"imp":[{"id":"1"}]}',
        b'{"id":{},"imp":[{"id":"1"}]}',
        b'{"id":"1","imp":[{"id":"1"}]',
        b'{"id":"1","imp":[{"id":"1"}]} trailing',
        b'{"id":"\xff\xfe","imp":[{"id":"1"}]}',
        b'{"id":"\\ud800","imp":[{"id":"1"}]}',
        b'{"id":"1","imp":[{"id":"1","bidfloor":NaN}]}',
        b'{"id":"1","tmax":1e999,"imp":[{"id":"1"}]}',
        b'{"id":"1","x":' + b"[" * 200_000,
        b'{"id":"1","imp":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"id":"1","device":{"w":' + b"[" * 5_000 + b"]" * 5_000 + b'},"imp":[{"id":"1"}]}',
        b"\x1f\x8b\x08\x00",
        b"\x00" * 64,
    ],
)
def test_what_is_no_request_is_refused_by_name(body: bytes) -> None:
    with pytest.raises(InvalidRequest) as refused:
        decode_request(body)
    assert str(refused.value)


def test_numbers_as_ids_become_strings() -> None:
    request = decode({"id": 12345678901234567890, "imp": [{"id": 7, "banner": {}}]})
    assert request.id == "12345678901234567890"
    assert request.imp[0].id == "7"


def test_a_byte_order_mark_is_no_reason_to_refuse() -> None:
    assert decode_request(b"\xef\xbb\xbf" + encode(one_imp())).id == "r"


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ("100", 100),
        (100.0, 100),
        ("100.0", 100),
        (99.9, 99),
        (True, 1),
        ([120], 120),
        ("${TMAX}", 0),
        ({}, 0),
    ],
)
def test_tmax_however_it_is_written(sent: Any, read: int) -> None:
    assert decode({**one_imp(), "tmax": sent}).tmax == read


def test_numbers_beyond_32_bits_are_bounded() -> None:
    request = decode({**one_imp(), "tmax": 10**30, "device": {"w": -(10**25), "h": "99999999999"}})
    assert request.tmax == 2**31 - 1
    assert request.device is not None
    assert request.device.w == -(2**31)
    assert request.device.h == 2**31 - 1


def test_unknown_fields_and_enum_values_are_tolerated() -> None:
    request = decode(
        {**one_imp(instl=77, banner={"w": 1, "h": 1, "battr": [999], "pos": 4711}), "at": 512, "zz": {}}
    )
    assert request.at == 512
    assert request.imp[0].banner is not None
    assert request.imp[0].banner.battr == (999,)


def test_broken_optional_objects_are_dropped_and_the_rest_kept() -> None:
    request = decode(
        {
            "id": "r",
            "site": {"page": "https://a.example/", "ext": "omitted-for-privacy", "cat": None},
            "user": 5,
            "device": "none",
            "imp": [
                {"id": "1", "banner": {"w": "300", "h": 250.0}, "video": "yes", "ext": "omitted-for-privacy"},
                {"banner": {"w": 1, "h": 1}},
                "imp",
            ],
        }
    )
    assert request.user is None
    assert request.device is None
    assert request.site is not None
    assert request.site.page == "https://a.example/"
    assert [imp.id for imp in request.imp] == ["1"]
    assert request.imp[0].video is None
    assert request.imp[0].banner is not None
    assert (request.imp[0].banner.w, request.imp[0].banner.h) == (300, 250)
    assert request.imps_unsound == 2


def test_one_value_where_a_list_belongs() -> None:
    request = decode({**one_imp(), "badv": "bad.example", "cur": "EUR", "bcat": 70})
    assert (request.badv, request.cur, request.bcat) == (("bad.example",), ("EUR",), ("70",))


class TestFloors:
    @pytest.mark.parametrize(
        ("sent", "micros"),
        [(0, 0), (0.1, 100_000), ("0.5", 500_000), ("1,5", 1_500_000), (1e-7, 1), (3, 3_000_000)],
    )
    def test_floor_in_micros(self, sent: Any, micros: int) -> None:
        assert decode(one_imp(bidfloor=sent)).imp[0].floor_micros == micros

    @pytest.mark.parametrize(
        "sent", [-0.01, "-1", "nan", "inf", "lots", {}, [], True, 1e300, 10_000.01, 10**400]
    )
    def test_a_floor_that_is_no_money_makes_the_imp_unsound(self, sent: Any) -> None:
        sound = {"id": "2", "banner": {"w": 300, "h": 250}}
        body = one_imp(bidfloor=sent)
        request = decode({**body, "imp": [*body["imp"], sound]})
        assert [imp.id for imp in request.imp] == ["2"]
        assert request.imps_unsound == 1
        alone = decode(body)
        assert alone.imp == ()
        assert alone.imps_unsound == 1

    @given(st.floats(min_value=0, max_value=10_000, allow_nan=False))
    def test_the_short_way_is_the_exact_one(self, units: float) -> None:
        assert floor_micros(units) == price_up(units)

    @given(st.decimals(min_value=0, max_value=10_000, places=6))
    def test_a_decimal_of_six_places_is_exact(self, units: Decimal) -> None:
        assert floor_micros(float(units)) == int((units * 1_000_000).to_integral_value(ROUND_CEILING))


class TestImpIds:
    def test_equal_copies_count_as_one(self) -> None:
        imp = {"id": "1", "banner": {"w": 300, "h": 250}}
        request = decode({"id": "r", "imp": [imp, imp, {"id": "2", "banner": {}}]})
        assert [i.id for i in request.imp] == ["1", "2"]
        assert request.imps_unsound == 1

    def test_different_imps_of_one_id_are_all_unsound(self) -> None:
        request = decode(
            {
                "id": "r",
                "imp": [
                    {"id": "1", "banner": {"w": 300, "h": 250}},
                    {"id": "2", "banner": {"w": 300, "h": 250}},
                    {"id": "1", "banner": {"w": 728, "h": 90}},
                ],
            }
        )
        assert [i.id for i in request.imp] == ["2"]
        assert request.imps_unsound == 2


class TestPromotedFields:
    def test_from_ext(self) -> None:
        request = decode(
            {
                **one_imp(video={"mimes": ["video/mp4"], "protocol": 3, "ext": {"rewarded": 1, "plcmt": 2}}),
                "regs": {"ext": {"gdpr": 1, "us_privacy": "1YYN", "gpp": "DBA", "gpp_sid": [7], "gpc": "1"}},
                "user": {"ext": {"consent": "CO", "eids": [{"source": "s.example", "uids": [{"id": "e"}]}]}},
                "source": {"ext": {"schain": {"complete": 1, "nodes": []}}},
            }
        )
        assert request.regs is not None
        assert request.regs.ext is None
        assert (request.regs.gdpr, request.regs.us_privacy, request.regs.gpp) == (1, "1YYN", "DBA")
        assert (request.regs.gpp_sid, request.regs.gpc) == ((7,), 1)
        assert request.user is not None
        assert request.user.ext is None
        assert request.user.consent == "CO"
        assert request.user.eids[0].uids[0].id == "e"
        assert request.source is not None
        assert request.source.schain is not None
        assert request.source.schain.complete == 1
        imp = request.imp[0]
        assert imp.rwdd == 1
        assert imp.video is not None
        assert (imp.video.protocols, imp.video.plcmt) == ((3,), 2)

    def test_the_place_of_2_6_wins_and_of_protection_the_stricter(self) -> None:
        request = decode(
            {
                **one_imp(),
                "regs": {
                    "gdpr": 0,
                    "us_privacy": "1NNN",
                    "coppa": 1,
                    "ext": {"gdpr": 1, "us_privacy": "1YYN"},
                },
                "user": {"consent": "new", "ext": {"consent": "old"}},
            }
        )
        assert request.regs is not None
        assert (request.regs.gdpr, request.regs.us_privacy, request.regs.coppa) == (1, "1NNN", 1)
        assert request.user is not None
        assert request.user.consent == "new"

    def test_absent_is_unknown_not_false(self) -> None:
        request = decode({**one_imp(), "regs": {"ext": {}}})
        assert request.regs is not None
        assert request.regs.gdpr is None


class TestUnreadableLimits:
    def test_protecting_flags_count_as_set(self) -> None:
        request = decode(
            {**one_imp(secure="maybe", pmp={"private_auction": "?"}), "test": [], "regs": {"coppa": {}}}
        )
        assert request.test == 1
        assert request.imp[0].secure == 1
        assert request.imp[0].pmp is not None
        assert request.imp[0].pmp.private_auction == 1
        assert request.regs is not None
        assert request.regs.coppa == 1

    @pytest.mark.parametrize("name", ["bcat", "badv", "wseat", "bseat", "cur"])
    def test_a_list_that_can_not_be_read_is_named(self, name: str) -> None:
        assert decode({**one_imp(), name: {"a": 1}}).unreadable == name

    def test_nobody_outside_can_set_what_is_ours(self) -> None:
        request = decode({**one_imp(), "unreadable": "x", "imps_unsound": 9})
        assert (request.unreadable, request.imps_unsound) == ("", 0)

    def test_terms_of_sale_that_can_not_be_read_make_the_imp_unsound(self) -> None:
        assert decode(one_imp(pmp="deal")).imp == ()

    def test_media_whose_block_list_can_not_be_read_is_not_offered(self) -> None:
        assert decode(one_imp(banner={"w": 300, "h": 250, "battr": {"x": 1}})).imp[0].banner is None


def test_native_request_as_an_object_becomes_text() -> None:
    imp = decode(one_imp(native={"request": {"assets": [{"id": 1}]}})).imp[0]
    assert imp.native is not None
    assert imp.native.request_text == '{"assets":[{"id":1}]}'
