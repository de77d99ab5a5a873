"""Whatever comes in: a BidRequest that keeps its promises, or InvalidRequest. Nothing else, ever."""

from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from counterpoint.base.errors import InvalidRequest
from counterpoint.openrtb.devices import device_os
from counterpoint.openrtb.identity import (
    archive_request,
    ids_usable,
    names_a_person,
    restore_request,
    take_identity,
)
from counterpoint.openrtb.nobid import NoBidReason, screen, screen_imp
from counterpoint.openrtb.objects import Wire
from counterpoint.openrtb.request import BidRequest, decode_request
from counterpoint.openrtb.sizes import banner_sizes, size_range
from tests.openrtb.samples import banner_request

FIELDS = sorted({name for kind in Wire.__subclasses__() for name in (f.name for f in structs.fields(kind))})
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(
        ["", "0", "1", "-1", "1.0", "nan", "true", "300x250", "IAB7", "omitted", "\x00", "²", "1e400"]
    )
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=5),
    max_leaves=12,
)


def check(body: bytes) -> None:
    try:
        request = decode_request(body)
    except InvalidRequest:
        return
    assert isinstance(request, BidRequest)
    assert request.id
    assert request.imp or request.imps_unsound
    ids = [imp.id for imp in request.imp]
    assert all(ids)
    assert len(set(ids)) == len(ids)
    for imp in request.imp:
        assert math.isfinite(imp.bidfloor)
        assert 0 <= imp.floor_micros <= 10_000_000_000
        found = screen_imp(imp)
        assert isinstance(found, NoBidReason) or 0 < found < 16
        if imp.banner is not None:
            assert all(w > 0 and h > 0 for w, h in banner_sizes(imp.banner))
        size_range(imp, request.device)
        if imp.native is not None:
            assert isinstance(imp.native.request_text, str)
    assert_integers_are_small(request)
    screen(request, "seat")
    ids_usable(request)
    device_os(request.device)
    identity = take_identity(request)
    identity.stable_id()
    assert not names_a_person(request)
    archived = archive_request(request)
    assert archive_request(restore_request(archived)) == archived


def assert_integers_are_small(value: object) -> None:
    if isinstance(value, int):
        assert -(2**31) <= value < 2**31
    elif isinstance(value, tuple):
        for item in value:
            assert_integers_are_small(item)
    elif isinstance(value, Wire):
        for field in structs.fields(value):
            assert_integers_are_small(getattr(value, field.name))


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_bytes(body: bytes) -> None:
    check(body)


@given(ANYTHING)
@settings(max_examples=200, deadline=None)
def test_json(plain: Any) -> None:
    check(json.dumps(plain).encode())


@given(
    st.fixed_dictionaries(
        {
            "id": st.just("r") | SCALARS,
            "imp": st.lists(st.fixed_dictionaries({"id": SCALARS}) | ANYTHING, max_size=4),
        },
        optional=dict.fromkeys(("site", "app", "device", "user", "regs", "source", "bcat", "tmax"), ANYTHING),
    )
)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_json_of_about_the_right_shape(plain: Any) -> None:
    check(json.dumps(plain).encode())


def paths(plain: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [here] if here else []
    items = plain.items() if isinstance(plain, dict) else enumerate(plain) if isinstance(plain, list) else ()
    for key, value in items:
        found += paths(value, (*here, key))
    return found


@given(st.lists(st.tuples(st.integers(0, 10_000), ANYTHING), min_size=1, max_size=4))
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_real_request_with_anything_put_somewhere(changes: list[tuple[int, Any]]) -> None:
    plain = banner_request()
    plain["imp"].append(
        {"id": "2", "video": {"mimes": ["video/mp4"], "protocols": [2, 3]}, "native": {"request": "{}"}}
    )
    for pick, value in changes:
        where = paths(plain)
        if not where:
            break
        path = where[pick % len(where)]
        holder: Any = plain
        for key in path[:-1]:
            holder = holder[key]
        holder[path[-1]] = value
    check(json.dumps(plain).encode())


@given(st.integers(0, 10_000), st.integers(0, 255), st.integers(0, 3))
@settings(max_examples=300, deadline=None)
def test_a_real_request_with_a_byte_changed_or_cut(at: int, byte: int, how: int) -> None:
    body = json.dumps(banner_request()).encode()
    at %= len(body)
    check(
        [
            body[:at] + bytes([byte]) + body[at + 1 :],
            body[:at],
            body[:at] + bytes([byte]) + body[at:],
            body[:at] + body[at + 1 :],
        ][how]
    )
