"""Curves close to the truth, and worth money against the strongest simple baseline, on auctions they have not seen."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.bidding.check import validate
from counterpoint.bidding.policy import BiddingPolicy, WinCurve
from counterpoint.bidding.price import KNOTS_MAX
from counterpoint.bidding.win_curve import PRIOR_ROWS, WinCurves
from tests.bidding.market import LOGNORMAL, MIXTURE, UNIT, Market, curve_error, learn, shading_case

SEEDS = range(6)


@pytest.mark.parametrize(
    ("market", "rows", "full", "mean_error_max"),
    [
        (LOGNORMAL, 3_000, True, 0.02),
        (LOGNORMAL, 3_000, False, 0.06),
        (MIXTURE, 3_000, True, 0.03),
        (MIXTURE, 3_000, False, 0.06),
    ],
)
def test_the_curve_is_close_to_the_truth(
    market: Market, rows: int, full: bool, mean_error_max: float
) -> None:
    errors = [curve_error(learn(market, rows, full, seed), market) for seed in SEEDS]
    assert np.mean(errors) < mean_error_max, errors


@pytest.mark.parametrize("market", [LOGNORMAL, MIXTURE], ids=lambda m: m.name)
@pytest.mark.parametrize(
    ("full", "share_min"), [(True, 0.97), (False, 0.94)], ids=["minimum-told", "win-loss"]
)
def test_shading_beats_the_best_constant_fraction(market: Market, full: bool, share_min: float) -> None:
    """Held-out auctions; the constant is tuned on those very auctions. ALGORITHMS 1.7: >= 97 % of the oracle's surplus
    at 3,000 rows with the minimum told, >= 94 % without."""
    cases = [shading_case(market, 3_000, full, seed) for seed in SEEDS]
    gain = np.array([case["shaded"] - case["constant"] for case in cases])
    half = 2.57 * gain.std(ddof=1) / np.sqrt(len(gain))  # t, 5 degrees of freedom, 95 %
    assert gain.mean() - half > 0, gain
    assert np.mean([case["shaded"] for case in cases]) >= share_min


def learned(market: Market, told: Callable[[bool], bool], rows: int, seed: int) -> WinCurve:
    """``told(won)``: whether the minimum comes back."""
    rng = np.random.default_rng([seed, 5])
    minimums, floors = market.draw(rng, rows)
    bids = rng.lognormal(1.2, 0.5, rows) * rng.uniform(0.3, 1.0, rows)
    curves = WinCurves(3_600.0)
    for bid, minimum, floor in zip(
        *((of * UNIT).astype(int).tolist() for of in (bids, minimums, floors)), strict=True
    ):
        won = minimum <= bid
        curves.add("adx/banner", bid, won, minimum if told(won) else None, floor_nanos=floor)
    curves.refresh()
    return curves.curves["adx/banner"]


@pytest.mark.parametrize("market", [LOGNORMAL, MIXTURE], ids=lambda m: m.name)
@pytest.mark.parametrize("told", [bool, lambda won: not won], ids=["told-on-win", "told-on-loss"])
def test_a_minimum_told_on_one_outcome_only_is_censored_not_biased(
    market: Market, told: Callable[[bool], bool]
) -> None:
    """And it helps: closer to the truth than what winning and losing alone teach."""
    half = np.mean([curve_error(learned(market, told, 3_000, seed), market) for seed in SEEDS])
    none = np.mean([curve_error(learned(market, lambda won: False, 3_000, seed), market) for seed in SEEDS])
    assert half < 0.015
    assert half < none


def test_a_minimum_that_contradicts_the_outcome_is_not_believed() -> None:
    lying, silent = WinCurves(3_600.0), WinCurves(3_600.0)
    n = 400
    for i in range(n):
        won = i % 2 == 0
        bid = 1_000_000 + 1_000 * i
        lying.add("a/b", bid, won, 5_000_000 if won else 1)
        silent.add("a/b", bid, won, None)
    lying.refresh()
    silent.refresh()
    assert lying.curves == silent.curves
    assert lying.unbelieved == n


def test_a_bid_that_is_no_price_is_refused_and_counted() -> None:
    curves = WinCurves(3_600.0)
    for bid in (0, -1, 10**11, float("nan"), float("inf")):
        curves.add("a/b", bid, True)  # type: ignore[arg-type]  # as a library's caller might
    assert curves.refused == 5
    assert not curves.refresh()


def at(curve: WinCurve, price: int) -> float:
    return float(np.interp(price, (0, *curve.bids_nanos), (0.0, *curve.win_rates)))


def test_a_new_segment_starts_from_its_parent_and_leaves_it_with_data() -> None:
    curves = WinCurves(1e9)
    for i in range(4_000):  # half of all auctions go for 1, half for 3
        curves.add("old/banner", 2_000_000, i % 2 == 0, 3_000_000 if i % 2 else 1_000_000)
    for _ in range(60):
        curves.add("new/banner", 2_000_000, True, 1_000_000)
    curves.refresh()
    parent, few = (at(curves.curves[s], 2_000_000) for s in ("*/banner", "new/banner"))
    assert parent == pytest.approx(0.5, abs=0.03)
    assert few == pytest.approx((60 + PRIOR_ROWS * parent) / (60 + PRIOR_ROWS), abs=0.02)
    for _ in range(8_000):
        curves.add("new/banner", 2_000_000, True, 1_000_000)
    curves.refresh()
    assert at(curves.curves["new/banner"], 2_000_000) > 0.95


def test_old_auctions_fade() -> None:
    curves = WinCurves(half_life_s=3_600.0)
    for _ in range(1_000):
        curves.add("adx/banner", 2_000_000, False, None)
        curves.add("adx/banner", 3_000_000, True, None)
    curves.refresh()
    before = curves.curves["adx/banner"]
    curves.decay(10 * 3_600.0)
    for _ in range(1_000):  # the market became cheap
        curves.add("adx/banner", 2_000_000, True, None)
    curves.refresh()
    assert at(before, 2_000_000) < 0.15
    assert at(curves.curves["adx/banner"], 2_030_000) > 0.8


def test_a_market_that_turns_is_followed_within_hundreds_of_rows() -> None:
    """No time passes: the short memories see it, and the scores prefer them. Children move with their segment."""
    rng = np.random.default_rng(8)
    curves = WinCurves(43_200.0)
    for level, rows in ((1.0, 6_000), (1.8, 1_000)):
        for i, minimum in enumerate(rng.lognormal(0.5, 0.3, rows) * level * UNIT):
            child = "adx/banner/~1" if i % 20 == 0 else "adx/banner/~2"
            bid = int(rng.uniform(0.5, 5.0) * UNIT)
            curves.add(child, bid, minimum <= bid, int(minimum))
            if i % 100 == 99:
                curves.refresh()
    median = int(np.exp(0.5) * 1.8 * UNIT)
    for name in ("adx/banner", "adx/banner/~2", "adx/banner/~1"):  # of ~1 only 50 rows were seen since
        assert at(curves.curves[name], median) == pytest.approx(0.5, abs=0.15), name


def test_doubt_makes_new_rows_count_for_more() -> None:
    def half_learned(doubt: bool) -> WinCurve:
        curves = WinCurves(1e9)
        for _ in range(4_000):
            curves.add("adx/banner", 2_000_000, False, 3_000_000)
        if doubt:
            curves.doubt("adx", 0.1)
        for _ in range(400):
            curves.add("adx/banner", 2_000_000, True, 1_000_000)
        curves.refresh()
        return curves.curves["adx/banner"]

    assert at(half_learned(True), 2_000_000) > at(half_learned(False), 2_000_000) + 0.2


@pytest.mark.parametrize("told", [True, False])
def test_a_restored_learner_goes_on_as_if_it_had_not_stopped(told: bool) -> None:
    rng = np.random.default_rng(3)

    def teach(curves: WinCurves, rows: int) -> None:
        for minimum in (rng.lognormal(0.5, 0.6, rows) * UNIT).astype(int).tolist():
            bid = int(rng.uniform(0.5, 5.0) * UNIT)
            curves.add(
                f"adx/banner/~{bid % 3}", bid, minimum <= bid, minimum if told else None, floor_nanos=9
            )
            curves.add("*", bid, minimum <= bid)

    one = WinCurves(3_600.0)
    teach(one, 2_000)
    one.refresh()
    teach(one, 100)
    other = WinCurves(3_600.0)
    other.load(msgspec.Raw(msgspec.msgpack.encode(one.dump())))
    state = rng.bit_generator.state
    for curves in (one, other):
        rng.bit_generator.state = state
        teach(curves, 700)
        curves.decay(60.0)
        curves.refresh()
    assert one.curves == other.curves
    assert msgspec.msgpack.encode(one.dump()) == msgspec.msgpack.encode(other.dump())


def test_nothing_is_published_on_a_handful_of_auctions() -> None:
    curves = WinCurves(3_600.0)
    for _ in range(40):
        curves.add("adx/banner", 1_000_000, True, None)
    assert not curves.refresh()
    assert curves.curves == {}


@settings(deadline=None, max_examples=100)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["adx/banner", "adx/video", "other/banner/~3"]),
            st.integers(-5, 2 * 10**10),
            st.booleans(),
            st.none() | st.integers(-5, 2 * 10**10),
            st.integers(1, 300),
        ),
        max_size=12,
    )
)
def test_whatever_comes_in_the_curves_are_valid(rows: list[tuple[str, int, bool, int | None, int]]) -> None:
    curves = WinCurves(3_600.0)
    for segment, bid, won, minimum, times in rows:
        for _ in range(times):
            curves.add(segment, bid, won, minimum)
    curves.refresh()
    curves.decay(1e6)
    curves.refresh()
    assert all(len(curve.bids_nanos) <= KNOTS_MAX for curve in curves.curves.values())
    validate(BiddingPolicy(version=1, made_at_ns=0, valid_until_ns=1, curves=curves.curves))
