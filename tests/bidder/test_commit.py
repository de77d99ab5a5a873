"""Commit: two imps of one request can't spend or count the same thing; a refusal moves on to the next candidate."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.base.clock import NS_PER_S
from counterpoint.bidder.commit import TEST_ALLOWANCE, LineItemFailed, commit
from counterpoint.bidder.decide import Candidates, decide
from counterpoint.bidder.view import View
from counterpoint.catalog.model import Catalog, FrequencyCap
from counterpoint.openrtb.request import decode_request
from tests.bidder.hot import (
    NOW_NS,
    Bidder,
    banner_request,
    body_of,
    random_catalog,
    random_request,
    small_catalog,
    view_of,
)


def imps(count: int) -> list[dict[str, Any]]:
    return [{"id": str(n), "banner": {"w": 300, "h": 250}} for n in range(count)]


def two_lines(**first: Any) -> Catalog:
    """Two banner line items, the first worth more."""
    catalog = small_catalog()
    banner = catalog.line_items[0]
    lines = (
        msgspec.structs.replace(banner, id="dear", expected_click_rate=0.004, **first),
        msgspec.structs.replace(banner, id="cheap", expected_click_rate=0.002),
    )
    return msgspec.structs.replace(catalog, line_items=lines, digest="two" + repr(first))


def lines_of(bids: list[dict[str, Any]], bidder: Bidder) -> list[str]:
    return (
        [str(getattr(event, "line_item_id", "")) for event in bidder.heard.events[-len(bids) :]]
        if bids
        else []
    )


def test_imps_of_one_request_do_not_spend_the_same_money() -> None:
    view = view_of(small_catalog())
    price = Bidder(view).bids(banner_request())[0]["price"]
    nanos = round(price * 1e6)
    bidder = Bidder(view, nanos=nanos * 2 + nanos // 2, arms=("agents",))
    assert len(bidder.bids(banner_request(imp=imps(5)))) == 2
    assert bidder.book.left[0, 0] == nanos // 2
    assert bidder.engine.refusals.no_money > 0
    assert bidder.ask(banner_request()) == "no_allowance"


def test_imps_of_one_request_do_not_count_the_same_person_past_the_cap() -> None:
    bidder = Bidder(view_of(two_lines(frequency_cap=FrequencyCap(impressions=2, window_s=3_600))))
    made = bidder.bids(banner_request(imp=imps(4)))
    assert lines_of(made, bidder) == ["dear", "dear", "cheap", "cheap"]
    # and the next request of the same person knows
    assert lines_of(bidder.bids(banner_request(id="r2")), bidder) == ["cheap"]


def test_a_person_who_cannot_be_counted_meets_the_cap_within_one_request() -> None:
    bidder = Bidder(view_of(two_lines(frequency_cap=FrequencyCap(impressions=1, window_s=3_600))))
    made = bidder.bids(banner_request(imp=imps(3), device={"ua": "x", "lmt": 1, "ifa": "a-b-c"}))
    assert lines_of(made, bidder) == ["dear", "cheap", "cheap"]
    assert len(bidder.frequency) == 0


def test_a_count_ends_with_the_reservation_of_its_money() -> None:
    bidder = Bidder(view_of(two_lines(frequency_cap=FrequencyCap(impressions=1, window_s=3_600))))
    assert lines_of(bidder.bids(banner_request(id="r1")), bidder) == ["dear"]
    assert lines_of(bidder.bids(banner_request(id="r2")), bidder) == ["cheap"]
    bidder.now_ns += 11 * NS_PER_S  # the profile's win notice delay is 10 s
    assert {expired.bid_id for expired in bidder.book.expire(bidder.now_ns)}
    assert lines_of(bidder.bids(banner_request(id="r3")), bidder) == ["dear"]


def test_a_test_request_reserves_and_counts_nothing() -> None:
    bidder = Bidder(view_of(two_lines(frequency_cap=FrequencyCap(impressions=1, window_s=3_600))))
    left = bidder.book.left.copy()
    for n in range(3):
        assert len(bidder.bids(banner_request(id=str(n), test=1))) == 1
    assert (bidder.book.left == left).all()
    assert len(bidder.frequency) == 0
    assert bidder.heard.events == []
    assert bidder.book.reservations == 0


def test_test_bids_stay_within_the_money_too() -> None:
    view = view_of(small_catalog())
    nanos = round(Bidder(view).bids(banner_request())[0]["price"] * 1e6)
    bidder = Bidder(view, nanos=nanos * 2, arms=("agents",))
    assert len(bidder.bids(banner_request(imp=imps(5), test=1))) == 2


def _commit(view: View, bidder: Bidder, made: Candidates, request: dict[str, Any]) -> Any:
    engine = bidder.engine
    decoded = decode_request(body_of(request))
    place = view.part.exchanges["x1"]
    return commit(
        made, decoded, view, place, engine._user(decoded, "x1"), bidder.book, bidder.frequency,
        engine._markups, engine.ids, engine.refusals, NOW_NS,
    )  # fmt: skip


def _decide(view: View, bidder: Bidder, request: dict[str, Any]) -> Candidates:
    decoded = decode_request(body_of(request))
    user = bidder.engine._user(decoded, "x1")
    made = decide(decoded, "x1", view, user, bidder.book.left, NOW_NS, 3)
    assert isinstance(made, Candidates)
    return made


@pytest.mark.parametrize(("field", "value"), [("price", 10**9), ("price", 0), ("price", -5), ("paced", 1)])
def test_a_price_out_of_bounds_is_an_assertion_against_its_line_item(field: str, value: int) -> None:
    view = view_of(small_catalog())
    bidder = Bidder(view)
    made = _decide(view, bidder, banner_request())
    broken = msgspec.structs.replace(made.imps[0].candidates[0], **{field: value})
    choice = msgspec.structs.replace(made.imps[0], candidates=(broken,))
    with pytest.raises(LineItemFailed) as failed:
        _commit(view, bidder, msgspec.structs.replace(made, imps=(choice,)), banner_request())
    assert failed.value.line_item == broken.line_item
    assert bidder.book.reservations == 0


def test_the_same_decision_committed_twice_holds_its_money_twice() -> None:
    """Stale candidates are harmless: what is left decides, not what was left."""
    view = view_of(small_catalog())
    bidder = Bidder(view)
    made = _decide(view, bidder, banner_request())
    price = made.imps[0].candidates[0].price
    bidder = Bidder(view, nanos=price, arms=("agents",))
    assert [bid.allowance_id for bid in _commit(view, bidder, made, banner_request())] == ["al-c1-agents"]
    assert str(_commit(view, bidder, made, banner_request())) == "no_allowance"


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 30), st.lists(st.integers(0, 10**6), min_size=1, max_size=12), st.integers(1, 6_000_000)
)
def test_no_sequence_of_requests_overspends_or_overcounts(seed: int, asks: list[int], nanos: int) -> None:
    catalog = random_catalog(seed)
    view = view_of(catalog)
    bidder = Bidder(view, nanos=nanos)
    caps = {item.id: item.frequency_cap.impressions for item in catalog.line_items if item.frequency_cap}
    shown: dict[str, int] = {}
    for n, ask in enumerate(asks):
        request = random_request(ask) | {"id": f"r{n}"}
        request["device"] = request["device"] | {"ifa": "0e1b7a52-3c4d"}
        bidder.ask(request)
    spent: dict[tuple[str, str], int] = {}
    for event in bidder.heard.events:
        made: Any = event
        spent[made.campaign_id, made.arm] = spent.get((made.campaign_id, made.arm), 0) + made.price_nanos
        shown[made.line_item_id] = shown.get(made.line_item_id, 0) + 1
        assert made.allowance_id != TEST_ALLOWANCE
    for (campaign, arm), total in spent.items():
        assert total <= nanos
        at = view.part.campaign_positions[campaign]
        assert bidder.book.left[at, bidder.book.arms.index(arm)] == nanos - total
    assert all(count <= caps[name] for name, count in shown.items() if name in caps)
    assert bidder.engine.failed_assertions == 0
