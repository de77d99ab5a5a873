from __future__ import annotations

from typing import Any

import pytest

from counterpoint.openrtb.identity import (
    IdKind,
    archive_request,
    ids_usable,
    names_a_person,
    restore_request,
    take_identity,
)
from counterpoint.openrtb.request import BidRequest, decode_request
from tests.openrtb.samples import banner_request, encode


def request_with(**fields: Any) -> BidRequest:
    return decode_request(encode({**banner_request(), **fields}))


def test_ids_go_out_and_nothing_of_them_is_archived() -> None:
    request = request_with(
        app=None,
        site={"page": "https://a.example/p?uid=secret-page#x", "domain": "a.example"},
        user={
            "id": "secret-user",
            "buyeruid": "secret-buyer",
            "eids": [{"source": "s", "uids": [{"id": "secret-eid"}]}],
        },
    )
    identity = take_identity(request)
    assert identity.user_id == "secret-user"
    assert identity.ip == "203.0.113.0"
    assert (identity.lat, identity.lon) == (42.4, -71.1)
    assert identity.page_query == "?uid=secret-page#x"
    assert not names_a_person(request)
    archived = archive_request(request)
    for secret in (b"secret", b"203.0.113.0", b"2f9e7a51", b"-71.1"):
        assert secret not in archived
    assert b"https://a.example/p" in archived


def test_an_archived_request_comes_back_equal_and_small() -> None:
    request = decode_request(encode(banner_request()))
    take_identity(request)
    archived = archive_request(request)
    assert restore_request(archived) == request
    assert len(archived) < 0.75 * len(encode(banner_request()))


def test_archiving_ids_is_our_own_mistake() -> None:
    with pytest.raises(AssertionError, match="take_identity"):
        archive_request(decode_request(encode(banner_request())))


def test_the_most_stable_id_first() -> None:
    zeros = {**banner_request()["device"], "ifa": "00000000-0000-0000-0000-000000000000"}
    assert take_identity(request_with()).stable_id() == (IdKind.IFA, "2f9e7a51-0c1d-4f6b-9b3e-5a8c7d6e4f21")
    assert take_identity(request_with(device=zeros)).stable_id() == (IdKind.BUYERUID, "b-5d0a77")
    assert take_identity(request_with(device=zeros, user={"id": "u"})).stable_id() == (IdKind.USER, "u")
    eids = {"eids": [{"source": "s.example", "uids": [{"id": "e"}]}]}
    assert take_identity(request_with(device=zeros, user=eids)).stable_id() == (IdKind.EID, "s.example:e")
    assert take_identity(request_with(device=zeros, user=None)).stable_id() == (IdKind.NONE, "")


@pytest.mark.parametrize(
    "regs",
    [
        {"coppa": 1},
        {"gdpr": 1},
        {"ext": {"gdpr": 1}},
        {"ext": {"gdpr": "yes"}},
        {"us_privacy": "1YYN"},
        {"us_privacy": "1yy-"},
        {"us_privacy": "garbage"},
        {"gpp": "DBABMA"},
        {"gpp": "DBABMA", "gpp_sid": [7]},
        {"gpp_sid": [2]},
        {"ext": {"gpc": "1"}},
    ],
)
def test_signals_that_forbid_ids(regs: dict[str, Any]) -> None:
    assert not ids_usable(request_with(regs=regs))


@pytest.mark.parametrize(
    "regs", [None, {}, {"gdpr": 0}, {"us_privacy": "1---"}, {"us_privacy": "1YNN"}, {"gpp_sid": [-1]}]
)
def test_signals_that_do_not(regs: Any) -> None:
    assert ids_usable(request_with(regs=regs))


@pytest.mark.parametrize("flag", ["dnt", "lmt"])
def test_device_flags_forbid_ids(flag: str) -> None:
    assert not ids_usable(request_with(device={**banner_request()["device"], flag: 1}))


def test_where_gdpr_holds_its_absence_is_unknown() -> None:
    device = {"geo": {"country": "de"}, "ifa": "x"}
    assert not ids_usable(request_with(regs=None, device=device))
    assert ids_usable(request_with(regs={"gdpr": 0}, device=device))
    assert not ids_usable(request_with(regs=None, device=None, user={"consent": "CPx"}))
