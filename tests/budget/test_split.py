"""How well money is moved: against the best possible split, an equal split and one in proportion to returns."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.budget.response import GRID, Curve, Posterior, observe
from counterpoint.budget.water_filling import make_feasible, water_fill, water_fill_log
from tests.budget.market import NANOS, Learned, Market, compare, share_of_oracle


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 12))
def test_water_filling_keeps_sum_and_bounds_and_is_near_the_exact_answer(seed: int, arms: int) -> None:
    rng = np.random.default_rng(seed)
    a, c = rng.uniform(0.1, 5, arms), rng.uniform(0.05, 5, arms)
    low, high = rng.uniform(0, 0.5, arms), rng.uniform(0.6, 4, arms)
    total = float(rng.uniform(low.sum(), high.sum()))
    exact, _ = water_fill_log(a, c, low, high, total)
    filled = water_fill(lambda x: a[:, None] / (c[:, None] + x), low, high, total)
    assert filled.sum() == pytest.approx(total)
    assert (filled >= low - 1e-9).all()
    assert (filled <= high + 1e-9).all()
    best = (a * np.log1p(exact / c)).sum()
    assert (a * np.log1p(filled / c)).sum() >= best - 1e-3 * abs(best)


@given(
    st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), min_size=1, max_size=8), st.floats(0.1, 1000)
)
def test_bounds_that_cannot_hold_the_total_give_way(bounds: list[tuple[float, float]], total: float) -> None:
    low, high = make_feasible(np.array([b[0] for b in bounds]), np.array([b[1] for b in bounds]), total)
    assert (low <= high).all()
    assert low.sum() <= total * (1 + 1e-9)
    assert high.sum() >= total * (1 - 1e-9)


def test_beats_an_equal_split_on_curves_it_does_not_know() -> None:
    """Paired over seeds, 95 % interval. ``python -m tests.budget.market`` prints the figures of docs/agents.md."""
    found = compare(range(24))
    gain, width = found["learned - equal"]
    assert gain - width > 0, found
    gain, width = found["learned - roas"]
    assert gain + width > 0, f"significantly worse than a split in proportion to returns: {found}"
    assert found["learned"][0] > 0.87, found


def test_recovers_from_a_jump_within_ten_days() -> None:
    """Back to 95 % of what it had, on average over 8 seeds."""
    ratios = np.array([share_of_oracle(s, Learned(8), days=56) for s in range(8)]).mean(axis=0)
    before = ratios[30:40].mean()
    assert ratios[46:51].mean() >= 0.95 * before


def test_a_campaign_without_money_is_missing_not_worthless() -> None:
    """The regression: no spend and no value, read as evidence, starves a campaign for good."""
    unit = 1e9
    curves = [Curve(dispersion=1e7), Curve(dispersion=1e7)]
    for _ in range(30):
        for row, curve in enumerate(curves):
            observe(curve, Posterior(curves, unit), row, spend=unit, value=8e8, time=1.0, keep=0.92)
    before = Posterior(curves, unit)
    told = curves[1].periods
    for _ in range(30):
        observe(curves[0], Posterior(curves, unit), 0, spend=unit, value=8e8, time=1.0, keep=0.92)
        observe(curves[1], Posterior(curves, unit), 1, spend=0.0, value=0.0, time=1.0, keep=0.92)
    after = Posterior(curves, unit)
    x = np.full(2, unit)
    assert after.marginal(x)[1] == pytest.approx(before.marginal(x)[1], rel=0.25)
    assert curves[1].periods < 0.2 * told, "doubt grows again"
    assert after.gain(np.array([0.9, 1.1]) * unit, x)[1] > before.gain(np.array([0.9, 1.1]) * unit, x)[1]
    assert len(GRID) == len(curves[0].exposure)


def test_a_starved_campaign_comes_back_when_it_becomes_the_best() -> None:
    market = Market(3, 4, noise_cv=0.2, drift=0.0)
    market.level[0] *= 0.02
    learned = Learned(4)
    x = np.full(4, NANOS / 4)
    for day in range(40):
        x = learned(day, x, market.observe(x))
    assert x[0] < 0.3 * NANOS / 4
    assert x[0] >= 0.025 * NANOS / 4, "the exploration floor"
    market.level[0] *= 1_000
    for day in range(40, 80):
        x = learned(day, x, market.observe(x))
    assert x[0] > NANOS / 4
