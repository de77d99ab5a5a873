"""Win curves of places: learned from what a bid logs, priced by in the kernel, kept within bounds."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from counterpoint.base.errors import PolicyRefused
from counterpoint.bidding import win_curve
from counterpoint.bidding.check import golden_frame, validate
from counterpoint.bidding.compile import prepare_bidding
from counterpoint.bidding.features import FIELDS, feature
from counterpoint.bidding.policy import BiddingPolicy, WinCurve, compile_bidding
from counterpoint.bidding.segments import at_place
from counterpoint.bidding.win_curve import WinCurves, is_place
from tests.bidding.test_learner import CATALOG, World
from tests.bidding.test_policy import explained, run

CHEAP, DEAR = feature("place", "cheap.example"), feature("place", "dear.example")


def context(place: int) -> bytes:
    return np.array([place, *range(2, 1 + len(FIELDS))], np.uint32).tobytes()


def test_a_place_is_bid_at_its_own_prices_and_an_unknown_one_at_its_segments() -> None:
    world = World()
    rng = np.random.default_rng(5)
    for n in range(1_500):
        place, level = ((CHEAP, 300_000), (DEAR, 900_000))[n % 2]
        rival = int(level * rng.lognormal(0.0, 0.2))
        bid = int(rng.integers(100_000, 1_500_000))
        world.auction(bid >= rival, price=bid, min_to_win_nanos=rival, context=context(place))
        if n % 300 == 299:
            world.pass_s(2)
    policy = world.policy()
    validate(policy)
    assert {at_place("adx/banner", CHEAP), at_place("adx/banner", DEAR)} <= set(policy.curves)

    frame = prepare_bidding(CATALOG.campaigns, CATALOG.line_items, ("adx",))
    compiled = compile_bidding(policy, frame)
    segment = compiled.segment("adx", "banner")
    bids = {}
    for place in (CHEAP, DEAR, feature("place", "new.example")):
        money, rates = run(compiled, 0.01, segment=segment, context=context(place))
        steps = explained(compiled, 0.01, segment=segment, context=context(place))
        assert (steps.price, steps.win_rate, steps.score) == (money[0], rates[0], rates[1])
        bids[place] = money[0], rates[0], steps.curve
    assert bids[CHEAP][2] == at_place("adx/banner", CHEAP)
    assert "@" not in bids[feature("place", "new.example")][2]
    assert bids[CHEAP][0] < 0.7 * bids[DEAR][0], "the dear place asks for more"
    assert bids[CHEAP][1] > 0.85, "and a little wins the cheap one"


def test_another_exchange_of_the_same_place_has_its_own_prices() -> None:
    curve, other = WinCurve((100_000, 200_000), (0.0, 1.0)), WinCurve((900_000, 990_000), (0.0, 1.0))
    policy = BiddingPolicy(
        version=1,
        made_at_ns=0,
        valid_until_ns=1,
        curves={
            at_place("a/video", CHEAP): curve,
            at_place("b/video", CHEAP): other,
            at_place("gone/video", CHEAP): other,
        },
    )
    validate(policy)
    compiled = compile_bidding(policy, prepare_bidding(CATALOG.campaigns, CATALOG.line_items, ("a", "b")))
    assert len(compiled.places) == 2, "an exchange the bidder does not have is passed over"
    bids = [
        run(compiled, 0.01, segment=compiled.segment(name, "video"), context=context(CHEAP))[0][0]
        for name in "ab"
    ]
    assert bids == [200_000, 990_000]


def test_a_curve_that_names_no_place_is_refused() -> None:
    curve = WinCurve((100_000,), (0.5,))
    for name in ("adx/video/@xyz", "adx/video/@", "/@00000001", "adx/video/@00000001/~2"):
        with pytest.raises(PolicyRefused, match="names no place"):
            validate(BiddingPolicy(version=1, made_at_ns=0, valid_until_ns=1, curves={name: curve}))
    compile_bidding(None, golden_frame())


def test_a_place_prices_only_where_it_has_more_to_say_than_classes() -> None:
    """Prices follow the class alone at one exchange, the place alone at the other."""
    curves = WinCurves(43_200.0)
    rng = np.random.default_rng(3)
    for n in range(8_000):
        kind, place = int(rng.integers(0, 8)), int(rng.integers(1, 5))
        for exchange, what in (("classes", kind), ("places", 2 * place)):
            rival = int(200_000 * 1.4**what * rng.lognormal(0.0, 0.15))
            bid = int(rng.integers(100_000, 3_000_000))
            segment = f"{exchange}/banner"
            curves.add(f"{segment}/~{kind}", bid, bid >= rival, rival, also=at_place(segment, place))
        if n % 500 == 499:
            curves.refresh()
    found = {name.partition("/")[0] for name in curves.published() if is_place(name)}
    assert found == {"places"}
    assert any(name.startswith("classes/banner/@") for name in curves.curves), "it was learned all the same"


def test_more_places_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(win_curve, "NODES_MAX", 40)
    monkeypatch.setattr(win_curve, "PLACES_MAX", 12)
    monkeypatch.setattr(win_curve, "ROOM_ROWS", 100)
    curves = WinCurves(43_200.0)
    for n in range(6_000):
        place = 1 if n % 3 == 0 else 2 + n // 120  # one that stays, and 49 that come and go
        curves.add("adx/banner", 100_000 + n, n % 2 == 0, also=at_place("adx/banner", place))
        if n % 200 == 0:
            curves.refresh()
            curves.decay(600.0)
        assert len(curves._nodes) <= 40
    curves.refresh()
    assert at_place("adx/banner", 1) in curves.published(), "the busiest is kept"
    assert at_place("adx/banner", 2 + 5_999 // 120) in curves.curves, "and a new one finds room"
    assert sum(map(is_place, curves.published())) <= 12
    assert "adx/banner" in curves.curves

    again = WinCurves(43_200.0)
    again.load(msgspec.Raw(msgspec.msgpack.encode(curves.dump())))
    for one in (curves, again):
        for n in range(300):
            one.add("adx/banner", 200_000 + n, n % 3 == 0, also=at_place("adx/banner", n % 9))
        one.refresh()
    assert curves.dump() == again.dump()


def test_places_that_are_gone_make_room_for_a_closed_set_of_new_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(win_curve, "NODES_MAX", 60)
    monkeypatch.setattr(win_curve, "ROOM_ROWS", 1_000)
    curves = WinCurves(43_200.0)
    for n in range(1_500):
        curves.add("adx/banner", 100_000 + n, n % 2 == 0, also=at_place("adx/banner", 1 + n // 15))
    curves.refresh()
    copy = WinCurves(43_200.0)
    copy.load(msgspec.Raw(msgspec.msgpack.encode(curves.dump())))
    for one in (curves, copy):
        for n in range(8_000):
            one.add("adx/banner", 100_000 + n, n % 2 == 0, also=at_place("adx/banner", 1_000 + n % 5))
            if n % 2_000 == 0:
                one.decay(86_400.0)
        one.refresh()
    assert {at_place("adx/banner", 1_000 + k) for k in range(5)} <= set(curves.curves)
    assert curves.dump() == copy.dump()
