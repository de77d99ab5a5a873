from __future__ import annotations

import gzip as stdlib_gzip
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.base.errors import InvalidRequest
from counterpoint.openrtb import envelope
from counterpoint.openrtb.envelope import EnvelopeFault, EnvelopeRefused, accepts_gzip, is_json, open_body

JSON = b"application/json"


def fault_of(
    body: bytes, encoding: bytes = b"gzip", content_type: bytes = JSON, bytes_max: int = 10_000
) -> EnvelopeFault:
    with pytest.raises(EnvelopeRefused) as refused:
        open_body(body, content_type, encoding, bytes_max)
    assert isinstance(refused.value, InvalidRequest)
    return refused.value.fault


def test_plain_and_gzipped() -> None:
    assert open_body(b"{}") == b"{}"
    assert open_body(b"{}", JSON, b"identity") == b"{}"
    assert open_body(stdlib_gzip.compress(b"{}"), JSON, b"gzip") == b"{}"
    assert open_body(envelope.gzip(b"{}" * 99), b"application/json;charset=UTF-8", b" X-GZIP ") == b"{}" * 99


def test_members_one_behind_the_other() -> None:
    two = stdlib_gzip.compress(b'{"a":') + stdlib_gzip.compress(b"1}")
    assert open_body(two, JSON, b"gzip") == b'{"a":1}'
    assert fault_of(stdlib_gzip.compress(b"x") * 9) is EnvelopeFault.TRAILING


def test_faults() -> None:
    whole = stdlib_gzip.compress(b"x" * 500)
    assert fault_of(b"{}") is EnvelopeFault.CORRUPT
    assert fault_of(whole[:-9]) is EnvelopeFault.TRUNCATED
    assert fault_of(whole[:3]) is EnvelopeFault.TRUNCATED
    assert fault_of(b"") is EnvelopeFault.TRUNCATED
    assert fault_of(whole[:-1] + bytes([whole[-1] ^ 1])) is EnvelopeFault.CORRUPT
    assert fault_of(whole + b"garbage") is EnvelopeFault.TRAILING
    assert fault_of(b"{}", b"br") is EnvelopeFault.CONTENT_ENCODING
    assert fault_of(b"{}", b"gzip, gzip") is EnvelopeFault.CONTENT_ENCODING
    assert fault_of(b"{}", b"", b"application/x-protobuf") is EnvelopeFault.CONTENT_TYPE
    assert fault_of(b"", b"") is EnvelopeFault.EMPTY
    assert fault_of(b"x" * 10_001, b"") is EnvelopeFault.TOO_LARGE


def test_a_bomb_costs_the_bound_and_no_more() -> None:
    bomb = stdlib_gzip.compress(b"\x00" * 100_000_000, compresslevel=9)
    assert len(bomb) < 100_000
    tracemalloc.start()
    try:
        assert fault_of(bomb, bytes_max=50_000) is EnvelopeFault.TOO_LARGE
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
    assert fault_of(stdlib_gzip.compress(b"x" * 6_000) * 2) is EnvelopeFault.TOO_LARGE  # together


def test_exactly_the_bound_is_let_through() -> None:
    assert len(open_body(stdlib_gzip.compress(b"x" * 10_000), JSON, b"gzip", 10_000)) == 10_000


@given(st.binary(max_size=300))
@settings(deadline=None)
def test_any_bytes_are_opened_or_refused(body: bytes) -> None:
    for encoding in (b"", b"gzip"):
        try:
            open_body(body, JSON, encoding, 1_000)
        except EnvelopeRefused:
            continue


@given(st.binary(max_size=2_000))
@settings(deadline=None)
def test_out_and_in_again(body: bytes) -> None:
    packed = envelope.gzip(body)
    assert envelope.gunzip(packed) == body == stdlib_gzip.decompress(packed)
    assert packed == envelope.gzip(body)


@pytest.mark.parametrize(
    ("header", "json"),
    [
        (b"", True),
        (b"application/json", True),
        (b"Application/JSON; charset=utf-8", True),
        (b"application/openrtb+json", True),
        (b"text/plain", True),
        (b"application/x-protobuf", False),
        (b"avro/binary", False),
        (b"multipart/form-data", False),
    ],
)
def test_content_types(header: bytes, json: bool) -> None:
    assert is_json(header) is json


@pytest.mark.parametrize(
    ("header", "takes"),
    [
        (b"", False),
        (b"gzip", True),
        (b"br, GZIP;q=0.5", True),
        (b"gzip; q=0.0", False),
        (b"gzip;q=x", False),
        (b"br", False),
    ],
)
def test_accept_encoding(header: bytes, takes: bool) -> None:
    assert accepts_gzip(header) is takes
