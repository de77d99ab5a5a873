"""What a stranger on the bidder's port may send: an answer each, counted, and nobody else waits for it."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec
import pytest

from counterpoint.base.errors import InvalidRequest
from counterpoint.bidder.attribution import Attribution, Order
from counterpoint.bidder.conversions import ConversionAnswer
from counterpoint.bidder.message import header
from counterpoint.catalog.fields import Bad
from counterpoint.catalog.fields import url as read_url
from counterpoint.openrtb.request import TOLERANT_BYTES_MAX, decode_request
from counterpoint.openrtb.tolerant import IMPS_MAX
from tests.bidder.test_http import running as serving
from tests.bidder.test_http import talk
from tests.bidder.world import TOKEN, World, running


async def test_a_length_with_thousands_of_zeros_is_answered_without_a_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The parser takes them, ``int`` does not: each such request cost an error in the log and its connection."""
    async with serving() as (server, app):
        raw = b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"0" * 5_000 + b"2\r\n\r\n{}"
        with caplog.at_level(logging.ERROR):
            assert (await talk(server, raw)).startswith(b"HTTP/1.1 400 ")
        assert not caplog.records
        assert server.counters.refused_requests == {400: 1}
        few = b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 0002\r\n\r\n{}"
        assert (await talk(server, few)).startswith(b"HTTP/1.1 200 ")
        assert [request.body for request in app.seen] == [b"{}"]


# ---- conversions


@pytest.mark.parametrize(
    "body",
    [
        b'{"order_id": "\xff"}',
        b'{"order_id": "\\ud800"}',
        b"[" * 100_000,
        b'{"order_id": "1", "user": ' + b"[" * 100_000,
        '{"order_id": "1", "value": "٣"}'.encode(),
        b'{"order_id": "1", "value": "1_0"}',
        b'{"order_id": "1", "value": ' + b"9" * 5_000 + b"}",
        b'{"order_id": "1", "happened_at": ' + b"9" * 5_000 + b"}",
    ],
)
async def test_a_conversion_that_cannot_be_read_is_invalid(tmp_path: Path, body: bytes) -> None:
    async with running(World(tmp_path)) as world:
        answer = world.desk.report("shop", b"Bearer " + TOKEN.encode(), body)
        assert isinstance(answer, ConversionAnswer)
        assert (answer.status, bool(answer.error)) == ("invalid", True)
        assert world.desk.counters == {"invalid": 1}


def test_orders_of_two_advertisers_never_share_an_event() -> None:
    """Consumers drop a repeated event id: one advertiser could have made another's orders disappear."""

    def event_id(advertiser_id: str, order_id: str) -> str:
        order = Order(advertiser_id=advertiser_id, order_id=order_id, value_micros=1, happened_at_ns=1)
        return Attribution().attribute(order, {}, 1, "bidder/b1").event_id

    assert event_id("a", "b-c") != event_id("a-b", "c")
    assert event_id("a", "b") == event_id("a", "b")


# ---- bid requests


def test_what_only_the_tolerant_reader_takes_is_bounded() -> None:
    """A megabyte of odd objects took two seconds, in which nobody else was answered."""
    imp = {"id": "1", "banner": {"format": [{"w": "x"}] * 80_000}}
    body = msgspec.json.encode({"id": "1", "tmax": "x", "imp": [imp]})
    assert len(body) > TOLERANT_BYTES_MAX
    with pytest.raises(InvalidRequest, match="too large"):
        decode_request(body)
    many = msgspec.json.encode({"id": "1", "tmax": "x", "imp": [{"id": "1"}] + [{}] * (2 * IMPS_MAX)})
    assert len(many) <= TOLERANT_BYTES_MAX
    request = decode_request(many)
    assert (len(request.imp), request.imps_unsound) == (1, 2 * IMPS_MAX)


# ---- clicks


@pytest.mark.parametrize(
    "url",
    [
        "https://ex\u00e4mple.de/",
        "https://x.de/\u00fc",
        "https://x.de/\u202e",
        "https://x.de/\x7f",
        "https://x.de/\r\nA: b",
    ],
)
def test_a_click_target_that_no_location_header_holds_is_refused_in_the_catalog(url: str) -> None:
    with pytest.raises(ValueError, match="no header may hold"):
        header(b"Location", url.encode())
    with pytest.raises(Bad, match="percent-encode"):
        read_url()(url)
    assert read_url()("https://xn--exmple-cua.de/%C3%BC?a='1'&{click_id}") is not None
