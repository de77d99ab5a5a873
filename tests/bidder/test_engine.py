"""The engine: bytes in, bytes out, every no-bid counted, nothing learned of who must not be known."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.base.clock import NS_PER_MS, NS_PER_S
from counterpoint.base.ids import IdSource
from counterpoint.bidder.answers import AnswerFormat, AnswerFormats
from counterpoint.bidder.commit import LineItemFailed
from counterpoint.bidder.decide import Candidates, decide, left_of
from counterpoint.bidder.engine import QUARANTINE_AFTER, SAMPLES_MAX, deadline_after_ns
from counterpoint.bidder.experiment import ARMS, Experiment
from counterpoint.bidder.outgoing import unpack_input
from counterpoint.bidder.part import ExchangePart
from counterpoint.bidder.respond import Form, Markups, make_bid, make_response
from counterpoint.bidder.signing import NoticeKind, NoticeTokens, SignedBid
from counterpoint.bidder.view import compile_view, read_policy
from counterpoint.catalog.model import Catalog, FrequencyCap
from counterpoint.events.facts import BidPlaced
from counterpoint.openrtb.identity import restore_request
from counterpoint.openrtb.nobid import NoBidReason
from counterpoint.openrtb.objects import Imp
from tests.bidder.hot import (
    NOW_NS,
    Bidder,
    banner_request,
    bidding_published,
    body_of,
    creative_published,
    random_catalog,
    random_request,
    small_catalog,
    view_of,
)

PERSONAL = "0e1b7a52-3c4d-4e5f-8a9b-0c1d2e3f4a5b"


def capped() -> Catalog:
    catalog = small_catalog()
    lines = tuple(
        msgspec.structs.replace(item, frequency_cap=FrequencyCap(impressions=1, window_s=3_600))
        for item in catalog.line_items
    )
    return msgspec.structs.replace(catalog, line_items=lines, digest="capped")


def signed_of(bidder: Bidder, bid: dict[str, Any]) -> SignedBid:
    path = bid["nurl"].partition("?")[0]
    assert path.startswith("https://track.example/n/win/")
    made = bidder.signer.verify(NoticeKind.WIN, path.rpartition("/")[2].encode())
    assert isinstance(made, SignedBid)
    return made


def test_a_bid_carries_what_an_exchange_must_have() -> None:
    bidder = Bidder(view_of(small_catalog()))
    made = bidder.ask(banner_request())
    assert isinstance(made, dict)
    assert (made["id"], made["cur"], made["seatbid"][0]["seat"]) == ("r1", "USD", "s1")
    bid = made["seatbid"][0]["bid"][0]
    assert (bid["impid"], bid["mtype"], bid["cid"], bid["adomain"]) == ("1", 1, "c1", ["adv1.example"])
    assert bid["crid"].startswith("cr-banner")
    assert (bid["w"], bid["h"]) == (300, 250)
    assert "${AUCTION_PRICE}" in bid["nurl"]
    assert "/n/bill/" in bid["burl"]
    assert "/t/click/" in bid["adm"]
    assert "/t/imp/" in bid["adm"]
    signed = signed_of(bidder, bid)
    assert signed.bid_nanos == round(bid["price"] * 1e6)
    assert (signed.currency, signed.rate_micros, signed.arm, signed.settles) == (
        "USD",
        1_000_000,
        "agents",
        "billing",
    )
    assert signed.reservation_until_ns == NOW_NS + 10 * NS_PER_S
    assert bidder.book.reservations == 1


@pytest.mark.parametrize(
    ("media", "mtype", "settles"),
    [
        ({"video": {"mimes": ["video/mp4"], "protocols": [2, 3]}}, 2, "impression"),
        ({"audio": {"mimes": ["audio/mpeg"], "protocols": [3]}}, 3, "impression"),
        ({"native": {"request": '{"assets":[{"id":5,"required":1,"title":{"len":50}}]}'}}, 4, "billing"),
    ],
)
def test_each_medium_is_answered_in_its_own_way(media: dict[str, Any], mtype: int, settles: str) -> None:
    bidder = Bidder(view_of(small_catalog()))
    bid = bidder.bids(banner_request(imp=[{"id": "1"} | media]))[0]
    assert bid["mtype"] == mtype
    assert signed_of(bidder, bid).settles == settles
    assert ("burl" in bid) == (settles == "billing")
    if mtype in (2, 3):
        assert bid["adm"].startswith("<?xml")
        assert bid["dur"] in (15, 20)
        assert bid["protocol"] == 3
    else:
        assert msgspec.json.decode(bid["adm"])["assets"][0]["id"] == 5


def test_a_price_in_another_currency_is_rounded_down_and_booked_in_ours() -> None:
    bidder = Bidder(view_of(small_catalog()))
    made = bidder.ask(banner_request(cur=["EUR", "USD"]), "x2")
    assert isinstance(made, dict)
    assert made["cur"] == "EUR"
    bid = made["seatbid"][0]["bid"][0]
    signed = signed_of(bidder, bid)
    assert (signed.currency, signed.rate_micros) == ("EUR", 1_100_000)
    assert round(bid["price"] * 1e6) == signed.bid_nanos * 1_000_000 // 1_100_000


class Structs(AnswerFormats):
    """Answers made the long way."""

    def of(
        self, form: Form, creative_at: int, imp: Imp, place: ExchangePart, signed: SignedBid, made: Candidates
    ) -> AnswerFormat:
        part, urls = self._part, self._urls

        class Long(AnswerFormat):
            def render(
                self, request_id: str, imp_id: str, price_micros: int, bid_id: str, tokens: NoticeTokens
            ) -> bytes:
                bid = make_bid(part, place, urls, signed, tokens, form, creative_at, imp, price_micros)
                return make_response(made, place, [bid])

        return Long(form, "")


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 12), st.integers(0, 10**6), st.text(min_size=1, max_size=8), st.sampled_from(["x1", "x2"])
)
def test_answers_with_gaps_are_the_answers_of_the_structs(
    seed: int, ask: int, name: str, exchange: str
) -> None:
    """Whatever ids look like, for every medium, byte for byte, and again from the memo."""
    view = view_of(random_catalog(seed))
    short, long = Bidder(view), Bidder(view)
    for bidder in (short, long):
        bidder.engine.ids = IdSource("same")
    long.engine._formats = Structs(view.part, long.engine.urls)
    request = random_request(ask)
    request |= {"id": name, "imp": [request["imp"][0] | {"id": name[::-1]}]}
    body = body_of(request)
    for _ in range(2):
        one, other = (bidder.engine.answer(exchange, body, NOW_NS) for bidder in (short, long))
        assert one == other


# ---- no-bids


def test_forms_of_a_no_bid() -> None:
    bidder = Bidder(view_of(small_catalog()))
    nothing = banner_request(imp=[{"id": "1"}])
    short = bidder.engine.answer("x1", body_of(nothing), NOW_NS)
    assert (short.status, short.body, short.reason) == (204, b"", NoBidReason.NO_MEDIA)
    long = bidder.engine.answer("x2", body_of(nothing), NOW_NS)
    assert long.status == 200
    assert msgspec.json.decode(long.body) == {"id": "r1", "seatbid": [], "nbr": 0}
    assert bidder.engine.counts["x1"].no_bids == {NoBidReason.NO_MEDIA: 1}


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"id":"1"}', b"\xff\xfe", b'{"imp":[{"id":"1"}]}'])
def test_what_is_no_request_is_400_without_content(body: bytes) -> None:
    bidder = Bidder(view_of(small_catalog()))
    answer = bidder.engine.answer("x1", body, NOW_NS)
    assert (answer.status, answer.body) == (400, b"")
    assert bidder.engine.invalid_requests == 1


def test_an_unknown_exchange_is_refused() -> None:
    bidder = Bidder(view_of(small_catalog()))
    assert bidder.engine.answer("nobody", body_of(banner_request()), NOW_NS).status == 404
    assert bidder.engine.unknown_exchange == 1


@pytest.mark.parametrize(
    ("tmax", "waited_ms", "late"),
    [
        (0, 99, False),
        (0, 101, True),
        (100, 79, False),
        (100, 81, True),
        (10, 0, True),
        (10**9, 101, True),
        (-5, 99, False),
    ],
)
def test_past_its_own_deadline_a_request_is_not_answered_with_a_bid(
    tmax: int, waited_ms: int, late: bool
) -> None:
    bidder = Bidder(view_of(small_catalog()))
    answer = bidder.engine.answer("x1", body_of(banner_request(tmax=tmax)), NOW_NS - waited_ms * NS_PER_MS)
    assert (answer.reason is NoBidReason.LATE) == late


def test_the_deadline_takes_the_round_trip_off() -> None:
    place = view_of(small_catalog()).part.exchanges["x1"]
    assert deadline_after_ns(50, place) == 30 * NS_PER_MS


# ---- people


@pytest.mark.parametrize(
    "change",
    [
        {"regs": {"coppa": 1, "gdpr": 0}},
        {"device": {"ifa": PERSONAL, "lmt": 1}},
        {"regs": {"gdpr": 0, "ext": {"us_privacy": "1YYN"}}},
        {"device": {"ifa": "00000000-0000-0000-0000-000000000000"}},
    ],
)
def test_of_who_must_not_be_known_nothing_is_read_or_kept(change: dict[str, Any]) -> None:
    bidder = Bidder(view_of(capped()))
    for n in range(3):  # the cap of one does not bite: nobody is counted
        assert len(bidder.bids(banner_request(id=str(n)) | change)) == 1
    assert len(bidder.frequency) == 0
    for event in bidder.heard.events:
        assert isinstance(event, BidPlaced)
        assert (event.user_key, event.unit) == ("", "request")
        assert PERSONAL.encode() not in event.decision_input


def test_a_consented_person_is_counted_under_a_pseudonym_and_stays_in_one_arm() -> None:
    experiment = Experiment(shares={"no_agents": 0.3, "no_creative": 0.3})
    bidder = Bidder(view_of(small_catalog(), experiment=experiment))
    for n in range(20):
        bidder.bids(banner_request(id=str(n), user={"id": "u-77"}))
    events = [event for event in bidder.heard.events if isinstance(event, BidPlaced)]
    assert len({(event.arm, event.bucket, event.user_key, event.unit) for event in events}) == 1
    assert events[0].unit == "user"
    raw = b"".join(event.decision_input for event in events) + msgspec.msgpack.encode(events)
    assert PERSONAL.encode() not in raw
    assert b"u-77" not in raw


def test_an_exchanges_own_user_ids_mean_something_only_with_it() -> None:
    bidder = Bidder(view_of(capped()))
    request = banner_request(device={"ua": "x"}, user={"id": "u-77"})
    assert len(bidder.bids(request, "x1")) == 1
    assert bidder.ask(request, "x1") == "frequency_capped"
    assert len(bidder.bids(request, "x2")) == 1


# ---- what is told


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 12), st.integers(0, 10**6))
def test_every_bid_can_be_made_again_from_what_was_told(seed: int, ask: int) -> None:
    catalog = random_catalog(seed)
    held = [read_policy(bidding_published(), catalog), read_policy(creative_published(catalog), catalog)]
    view = view_of(
        catalog,
        policies={policy.agent: policy for policy in held},
        experiment=Experiment(shares=dict.fromkeys(ARMS[1:], 0.15)),
    )
    bidder = Bidder(view, nanos=5_000_000)
    for n in range(3):
        request = random_request(ask + n)
        request["device"] = request["device"] | {"ifa": PERSONAL}
        bidder.ask(request)
    again = compile_view(view.inputs)
    for event in bidder.heard.events:
        assert isinstance(event, BidPlaced)
        given = unpack_input(event.decision_input)
        assert given.view_digest == again.digest
        made = decide(
            restore_request(given.request),
            given.exchange,
            again,
            given.user,
            left_of(again, given.arm, given.limited),
            given.now_ns,
            given.rng_key,
        )
        assert isinstance(made, Candidates)
        assert (ARMS[made.arm], made.bucket, made.unit) == (event.arm, event.bucket, event.unit)
        assert (made.bidding_version, made.creative_version) == (
            event.bidding_version,
            event.creative_version,
        )
        offered = [
            (
                again.part.line_items[bid.line_item].id,
                again.part.creatives[bid.creative].id,
                bid.price,
                bid.win_rate,
                bid.creative_propensity,
                bid.price_propensity,
            )
            for imp in made.imps
            for bid in imp.candidates
        ]
        assert (
            event.line_item_id,
            event.creative_id,
            event.price_nanos,
            event.win_rate,
            event.creative_propensity,
            event.price_propensity,
        ) in offered


# ---- what we did wrong


class Failing(Markups):
    """Markup of a catalog in which one line item cannot be answered without breaking a rule of ours."""

    def __init__(self, bidder: Bidder, line_item: str) -> None:
        super().__init__(bidder.engine.view.part)
        self.engine = bidder.engine
        self.name = line_item

    def form(self, at: int, imp: Imp, secure: bool) -> Form | None:
        if self.name not in self.engine.view.inputs.quarantined:
            raise LineItemFailed(self.engine.view.part.line_item_positions[self.name], "made to fail")
        return super().form(at, imp, secure)


def test_a_failed_assertion_ends_that_request_alone_and_the_line_item_after_some() -> None:
    catalog = small_catalog()
    second = msgspec.structs.replace(catalog.line_items[0], id="sound", expected_click_rate=0.0001)
    catalog = msgspec.structs.replace(catalog, line_items=(*catalog.line_items, second), digest="poisoned")
    bidder = Bidder(view_of(catalog))
    bidder.engine._markups = Failing(bidder, "li-banner")
    for n in range(QUARANTINE_AFTER):
        assert bidder.ask(banner_request(id=str(n))) == "internal_error"
    assert bidder.engine.view.inputs.quarantined == {"li-banner"}
    assert bidder.bids(banner_request(id="after"))
    assert bidder.book.reservations == 1
    assert bidder.engine.failed_assertions == QUARANTINE_AFTER
    assert len(bidder.engine.failures) == QUARANTINE_AFTER <= SAMPLES_MAX
    assert b"news.example" in bidder.engine.failures[0].body
    assert bidder.engine.counts["x1"].no_bids[NoBidReason.INTERNAL_ERROR] == QUARANTINE_AFTER


def test_a_new_catalog_keeps_money_and_counts() -> None:
    bidder = Bidder(view_of(capped()))
    assert len(bidder.bids(banner_request())) == 1
    left = int(bidder.book.left[0, 0])
    catalog = capped()
    more = msgspec.structs.replace(catalog.campaigns[0], id="c0")
    swapped = msgspec.structs.replace(catalog, campaigns=(more, *catalog.campaigns), digest="more")
    bidder.engine.swap(compile_view(msgspec.structs.replace(bidder.engine.view.inputs, catalog=swapped)))
    assert bidder.book.left[1, 0] == left
    assert bidder.ask(banner_request(id="r2")) == "frequency_capped"
