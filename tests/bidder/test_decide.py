"""The pure decision: the same arguments give the same bytes; floors, caps, ceilings, currency and money are kept."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.base.clock import NS_PER_S
from counterpoint.base.money import MICROS_PER_UNIT
from counterpoint.bidder import kernels
from counterpoint.bidder.decide import (
    AllowancesLeft,
    Candidates,
    NoBid,
    bid_currency,
    decide,
    left_of,
    price_in_bid_currency,
)
from counterpoint.bidder.experiment import Experiment
from counterpoint.bidder.frequency import NOBODY, FrequencyBook, UserState, line_item_key
from counterpoint.bidder.scratch import Scratch
from counterpoint.bidder.view import View, compile_view, read_policy
from counterpoint.bidder.watching import StageClock
from counterpoint.catalog.model import FrequencyCap, Goal, UnknownUser
from counterpoint.openrtb.nobid import NoBidReason
from counterpoint.openrtb.objects import floor_micros
from counterpoint.openrtb.request import decode_request
from tests.bidder.hot import (
    NOW_NS,
    PLENTY,
    banner_request,
    bidding_published,
    body_of,
    creative_published,
    left_everywhere,
    random_catalog,
    random_request,
    small_catalog,
    view_of,
)

_VIEWS: dict[int, View] = {}


def view_of_seed(seed: int) -> View:
    """Some with policies, some on the fallbacks; arms in all of them."""
    found = _VIEWS.get(seed)
    if found is None:
        catalog = random_catalog(seed)
        policies = {}
        if seed % 3:
            held = [
                read_policy(bidding_published(), catalog),
                read_policy(creative_published(catalog), catalog),
            ]
            policies = {policy.agent: policy for policy in held}
        found = _VIEWS[seed] = view_of(
            catalog, policies=policies, experiment=Experiment(shares={"no_agents": 0.2, "no_bidding": 0.2})
        )
    return found


def run(
    view: View,
    request: dict[str, Any],
    *,
    user: UserState = NOBODY,
    left: AllowancesLeft | None = None,
    rng_key: int = 1,
    scratch: Scratch | None = None,
) -> Candidates | NoBid:
    money = left_everywhere(view) if left is None else left
    return decide(decode_request(body_of(request)), "x1", view, user, money, NOW_NS, rng_key, scratch=scratch)


def reason_of(made: Candidates | NoBid) -> NoBidReason | None:
    return made.reason if isinstance(made, NoBid) else None


@settings(deadline=None, max_examples=150)
@given(
    st.integers(0, 15),
    st.integers(0, 10**6),
    st.integers(0, 2**64 - 1),
    st.sampled_from([0, 1, 200_000, 900_000, 5_000_000, PLENTY]),
)
def test_whatever_comes_a_price_keeps_every_bound(seed: int, ask: int, key: int, money: int) -> None:
    view = view_of_seed(seed)
    part = view.part
    body = random_request(ask)
    request = decode_request(body_of(body))
    left = np.random.default_rng(ask).integers(0, money + 1, (len(part.campaigns), 6), dtype=np.int64)
    made = decide(request, "x1", view, NOBODY, left, NOW_NS, key)
    if isinstance(made, NoBid):
        return
    assert made.currency in body["cur"]
    for choice in made.imps:
        imp = request.imp[choice.imp]
        for bid in choice.candidates:
            item = part.line_items[bid.line_item]
            campaign = part.campaigns[part.campaign_positions[item.campaign_id]]
            assert bid.price <= left[part.campaign_positions[item.campaign_id], made.arm]
            assert item.bid_min_micros <= bid.price <= campaign.bid_ceiling_micros
            assert item.bid_max_micros is None or bid.price <= item.bid_max_micros
            assert bid.price <= bid.paced
            assert not item.paused
            assert not campaign.paused
            assert part.creatives[bid.creative].id in item.creative_ids
            if body["badv"]:
                assert part.creatives[bid.creative].advertiser_id != "adv2"
            # the floor, exactly, in the currencies as they were named
            sent = price_in_bid_currency(bid.price, made.rate_micros)
            in_account = Fraction(sent) * made.rate_micros
            assert in_account >= Fraction(floor_micros(imp.bidfloor)) * part.rates[imp.bidfloorcur]
            assert in_account <= bid.price * MICROS_PER_UNIT


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 15), st.integers(0, 10**6), st.integers(0, 2**64 - 1))
def test_the_same_arguments_give_the_same_bytes(seed: int, ask: int, key: int) -> None:
    """Whatever the scratch was used for before, and on a View made anew from the same inputs."""
    view = view_of_seed(seed)
    body = random_request(ask)
    used = Scratch(view.part)
    for other in range(3):
        run(view, random_request(ask + other + 1), rng_key=key ^ other, scratch=used)
    again = compile_view(view.inputs)
    first = msgspec.msgpack.encode(run(view, body, rng_key=key))
    assert first == msgspec.msgpack.encode(run(view, body, rng_key=key, scratch=used))
    assert first == msgspec.msgpack.encode(run(again, body, rng_key=key))
    assert view.digest == again.digest


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 15), st.integers(0, 10**6), st.integers(0, 20_000_000))
def test_what_was_noted_of_the_money_is_enough_to_decide_again(seed: int, ask: int, money: int) -> None:
    view = view_of_seed(seed)
    left = np.random.default_rng(ask).integers(0, money + 1, (len(view.part.campaigns), 6), dtype=np.int64)
    made = run(view, random_request(ask), left=left)
    if isinstance(made, Candidates):
        again = run(view, random_request(ask), left=left_of(view, made.arm, made.limited))
        assert msgspec.msgpack.encode(made) == msgspec.msgpack.encode(again)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 15), st.integers(0, 10**6), st.integers(0, 2**64 - 1))
def test_step_by_step_it_comes_out_the_same(seed: int, ask: int, key: int) -> None:
    """The joined kernels against one call a step (as the benchmark times them)."""
    view = view_of_seed(seed)
    body = body_of(random_request(ask))
    left = np.random.default_rng(ask).integers(0, 9_000_000, (len(view.part.campaigns), 6), dtype=np.int64)
    joined = decide(decode_request(body), "x1", view, NOBODY, left, NOW_NS, key)
    stages = StageClock()
    stages.start()
    stepped = decide(decode_request(body), "x1", view, NOBODY, left, NOW_NS, key, stages=stages)
    assert msgspec.msgpack.encode(joined) == msgspec.msgpack.encode(stepped)


def test_a_decision_changes_nothing_it_was_given() -> None:
    view = view_of_seed(1)
    left = left_everywhere(view)
    left.flags.writeable = False
    request = decode_request(body_of(random_request(4)))
    before = msgspec.msgpack.encode(request)
    decide(request, "x1", view, NOBODY, left, NOW_NS, 3)
    assert msgspec.msgpack.encode(request) == before


# ---- reasons


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"cur": ["CHF"]}, NoBidReason.CURRENCY_UNKNOWN),
        ({"imp": [{"id": "1", "banner": {"w": 1, "h": 1}}]}, NoBidReason.NO_ELIGIBLE_LINE_ITEM),
        ({"imp": [{"id": "1"}]}, NoBidReason.NO_MEDIA),
        ({"wseat": ["other"]}, NoBidReason.SEAT_NOT_ALLOWED),
        ({"regs": {"gdpr": 1}}, NoBidReason.NEEDS_CONSENT),
        ({"badv": ["adv1.example"]}, NoBidReason.NO_FITTING_CREATIVE),
        ({"bcat": ["IAB1"]}, NoBidReason.NO_FITTING_CREATIVE),
        ({"bcat": ["IAB1"], "cattax": 7}, NoBidReason.UNREADABLE_LIMIT),
        (
            {"imp": [{"id": "1", "banner": {"w": 300, "h": 250}, "bidfloor": 900.0}]},
            NoBidReason.BELOW_FLOOR,
        ),
        (
            {"imp": [{"id": "1", "banner": {"w": 300, "h": 250}, "bidfloor": 1.0, "bidfloorcur": "XXX"}]},
            NoBidReason.CURRENCY_UNKNOWN,
        ),
    ],
)
def test_a_no_bid_says_why(change: dict[str, Any], reason: NoBidReason) -> None:
    assert reason_of(run(view_of(small_catalog()), banner_request(**change))) is reason


def test_without_money_in_its_arm_a_campaign_does_not_bid() -> None:
    view = view_of(small_catalog())
    assert reason_of(run(view, banner_request(), left=left_everywhere(view, 0))) is NoBidReason.NO_ALLOWANCE
    # and with less than one bid costs
    assert (
        reason_of(run(view, banner_request(), left=left_everywhere(view, 1_000))) is NoBidReason.NO_ALLOWANCE
    )


def test_worth_nothing_is_not_bid_on() -> None:
    view = view_of(small_catalog(goal=Goal.VALUE, goal_value_micros=1_000_000, expected_order_value_micros=0))
    assert reason_of(run(view, banner_request())) is NoBidReason.NO_POSITIVE_VALUE


def test_of_several_imps_the_furthest_reason_is_told() -> None:
    imps = [
        {"id": "1", "banner": {"w": 300, "h": 250}, "bidfloor": 900.0},
        {"id": "2", "banner": {"w": 1, "h": 1}},
        {"id": "3"},
    ]
    assert reason_of(run(view_of(small_catalog()), banner_request(imp=imps))) is NoBidReason.BELOW_FLOOR


def test_only_so_many_imps_are_answered() -> None:
    imps = [{"id": str(n), "banner": {"w": 300, "h": 250}} for n in range(100)]
    made = run(view_of(small_catalog()), banner_request(imp=imps))
    assert isinstance(made, Candidates)
    assert [choice.imp for choice in made.imps] == list(range(20))


# ---- people


def _capped(**more: Any) -> View:
    catalog = small_catalog()
    lines = [
        msgspec.structs.replace(item, frequency_cap=FrequencyCap(impressions=2, window_s=3_600), **more)
        for item in catalog.line_items
    ]
    return view_of(msgspec.structs.replace(catalog, line_items=tuple(lines), digest="capped" + repr(more)))


def _seen(*ages_s: int, line_item: str = "li-banner", since: int = 0) -> UserState:
    book = FrequencyBook(b"k" * 32)
    key = book.user_key("ifa", "someone")
    for n, age in enumerate(ages_s):
        book.confirm(key, line_item_key(line_item), n, NOW_NS - age * NS_PER_S, NOW_NS)
    return msgspec.structs.replace(book.state(key), known_since_ns=since)


def test_a_cap_counts_what_was_shown_in_its_window() -> None:
    view = _capped()
    assert isinstance(run(view, banner_request(), user=_seen(10)), Candidates)
    assert reason_of(run(view, banner_request(), user=_seen(10, 20))) is NoBidReason.FREQUENCY_CAPPED
    assert isinstance(run(view, banner_request(), user=_seen(10, 4_000)), Candidates)
    assert isinstance(run(view, banner_request(), user=_seen(10, 20, line_item="li-video")), Candidates)


def test_who_cannot_be_counted_follows_the_line_items_rule() -> None:
    bids, does_not = _capped(unknown_user=UnknownUser.BID), _capped(unknown_user=UnknownUser.NO_BID)
    assert isinstance(run(bids, banner_request(), user=NOBODY), Candidates)
    assert reason_of(run(does_not, banner_request(), user=NOBODY)) is NoBidReason.UNKNOWN_USER
    # known, but not for the whole window
    lately = _seen(10, since=NOW_NS - 60 * NS_PER_S)
    assert reason_of(run(does_not, banner_request(), user=lately)) is NoBidReason.UNKNOWN_USER
    assert isinstance(run(does_not, banner_request(), user=_seen(10)), Candidates)


# ---- money and currency


def test_the_bid_currency_is_the_profiles_where_allowed_and_convertible() -> None:
    part = view_of(small_catalog()).part
    x2 = part.exchanges["x2"]
    assert bid_currency(decode_request(body_of(banner_request(cur=["USD", "EUR"]))), x2, part) == (
        "EUR",
        1_100_000,
    )
    assert bid_currency(decode_request(body_of(banner_request(cur=["CHF", "JPY"]))), x2, part) == (
        "JPY",
        6_700,
    )
    assert bid_currency(decode_request(body_of(banner_request())), x2, part) == ("USD", 1_000_000)
    assert bid_currency(decode_request(body_of(banner_request(cur=["CHF"]))), x2, part) is None


def test_ties_are_shared_not_always_won_by_the_same() -> None:
    catalog = small_catalog()
    banner = catalog.line_items[0]
    twins = tuple(msgspec.structs.replace(banner, id=f"twin{n}") for n in range(3))
    view = view_of(msgspec.structs.replace(catalog, line_items=twins, digest="twins"))
    first = set()
    for key in range(40):
        made = run(view, banner_request(), rng_key=key)
        assert isinstance(made, Candidates)
        first.add(made.imps[0].candidates[0].line_item)
    assert first == {0, 1, 2}


def test_the_best_come_first_and_no_more_than_four() -> None:
    catalog = small_catalog()
    banner = catalog.line_items[0]
    lines = tuple(
        msgspec.structs.replace(banner, id=f"li{n}", expected_click_rate=0.001 * (n + 1)) for n in range(9)
    )
    view = view_of(msgspec.structs.replace(catalog, line_items=lines, digest="nine"))
    made = run(view, banner_request())
    assert isinstance(made, Candidates)
    assert [bid.line_item for bid in made.imps[0].candidates] == [8, 7, 6, 5]


def test_verdicts_name_everything_admit_can_say() -> None:
    assert {kernels.ADMITTED, kernels.NO_MONEY, kernels.CAPPED, kernels.UNKNOWN} == set(
        range(kernels.VERDICTS)
    )
