"""Curves close to the truth, and worth money against the strongest simple baseline, on auctions they have not seen."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.bidding.policy import BiddingPolicy, validate
from counterpoint.bidding.price import KNOTS_MAX
from counterpoint.bidding.win_curve import PRIOR_ROWS, WinCurves, pool_adjacent_violators
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


def test_minimums_told_of_losses_only_do_not_bend_the_curve() -> None:
    rng = np.random.default_rng(5)
    minimums = LOGNORMAL.minimums(rng, 6_000)
    bids = rng.lognormal(1.2, 0.5, 6_000) * rng.uniform(0.3, 1.0, 6_000)
    told, silent = WinCurves(3_600.0), WinCurves(3_600.0)
    for bid, minimum in zip(
        (bids * UNIT).astype(int).tolist(), (minimums * UNIT).astype(int).tolist(), strict=True
    ):
        won = minimum <= bid
        told.add("adx/banner", bid, won, None if won else minimum)
        silent.add("adx/banner", bid, won, None)
    told.refresh()
    silent.refresh()
    assert told.curves == silent.curves
    assert curve_error(told.curves["adx/banner"], LOGNORMAL) < 0.06


def test_a_minimum_that_contradicts_the_outcome_is_not_believed() -> None:
    lying, silent = WinCurves(3_600.0), WinCurves(3_600.0)
    for i in range(400):
        won = i % 2 == 0
        bid = 1_000_000 + 1_000 * i
        lying.add("a/b", bid, won, 5_000_000 if won else 1)
        silent.add("a/b", bid, won, None)
    lying.refresh()
    silent.refresh()
    assert lying.curves == silent.curves


def test_a_new_segment_starts_from_its_parent_and_leaves_it_with_data() -> None:
    curves = WinCurves(1e9)
    for i in range(4_000):  # half of all auctions are won at any price above 1
        curves.add("old/banner", 2_000_000, i % 2 == 0, None)
    for _ in range(60):
        curves.add("new/banner", 2_000_000, True, None)
    curves.refresh()
    parent, few = (curves.curves[s].win_rates[-1] for s in ("*/banner", "new/banner"))
    assert parent < few < parent + 1.5 * (1 - parent) * 60 / (60 + PRIOR_ROWS)
    for _ in range(5_000):
        curves.add("new/banner", 2_000_000, True, None)
    curves.refresh()
    assert curves.curves["new/banner"].win_rates[-1] > 0.95


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
    after = curves.curves["adx/banner"]
    at = (0, *before.bids_nanos), (0.0, *before.win_rates)
    assert np.interp(2_000_000, *at) < 0.1
    assert np.interp(2_030_000, (0, *after.bids_nanos), (0.0, *after.win_rates)) > 0.8


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
            st.sampled_from(["adx/banner", "adx/video", "other/banner"]),
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


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0.1, 10)), min_size=1, max_size=8))
def test_pooling_is_monotone_keeps_the_mean_and_is_optimal(points: list[tuple[float, float]]) -> None:
    values, weights = (np.array(column) for column in zip(*points, strict=True))
    pooled = pool_adjacent_violators(values, weights)
    assert np.all(np.diff(pooled) >= 0)
    assert float(np.sum(pooled * weights)) == pytest.approx(float(np.sum(values * weights)), abs=1e-9)
    # optimality: the residual is orthogonal to the fit and makes no feasible direction better
    residual = (values - pooled) * weights
    assert float(np.sum(residual * pooled)) == pytest.approx(0.0, abs=1e-6)
    assert np.all(np.cumsum(residual[::-1])[:-1] <= 1e-6)
