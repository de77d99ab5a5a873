"""How well money is moved: against the best possible split, an equal split and one in proportion to returns."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.budget import shapes
from counterpoint.budget.allocate import Safety
from counterpoint.budget.pool import PoolSplit
from counterpoint.budget.response import Evidence, Model, Posterior, observe
from counterpoint.budget.water_filling import water_fill, water_fill_log, widen
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


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 8))
def test_wished_bounds_give_way_to_the_total_and_hard_ones_do_not(seed: int, arms: int) -> None:
    rng = np.random.default_rng(seed)
    least, most = rng.uniform(0, 1, arms), rng.uniform(1, 3, arms)
    total = float(rng.uniform(least.sum(), most.sum()))
    low, high = widen(rng.uniform(0, 4, arms), rng.uniform(0, 4, arms), least, most, total)
    assert (least - 1e-12 <= low).all()
    assert (low <= high + 1e-12).all()
    assert (high <= most + 1e-12).all()
    assert low.sum() <= total * (1 + 1e-9)
    assert high.sum() >= total * (1 - 1e-9)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 6), st.booleans(), st.booleans())
def test_frozen_money_and_the_owners_bounds_hold_whatever_is_moved(
    seed: int, arms: int, rests: bool, outside: bool
) -> None:
    """Both while the agent splits and while the owner's split holds. ``outside``: the owner has just set narrower bounds."""
    rng = np.random.default_rng(seed)
    pool = PoolSplit(np.full(arms, 10.0 ** rng.uniform(-6, 1)), Model(), Safety(trust_factor=1.05), 0.99)
    x = rng.dirichlet(np.ones(arms)) * arms
    for _ in range(rng.integers(1, 5)):
        pool.observe(
            x=x * rng.uniform(0, 2, arms),
            value=10.0 ** rng.uniform(-6, 13, arms) * (rng.random(arms) < 0.7),
            time=np.full(arms, 1 / 5_760),
        )
    pool.standing.resting = np.asarray(9.0 if rests else 0.0)
    frozen = rng.random(arms) < 0.3
    inside = np.where(frozen | (not outside), x, 0.5 * x + 0.5 * rng.permutation(x))
    inside = inside * np.where(frozen, 1.0, (arms - x[frozen].sum()) / max(inside[~frozen].sum(), 1e-12))
    least = inside * rng.uniform(0, 1, arms) * (rng.random(arms) < 0.5)
    most = np.where(rng.random(arms) < 0.5, inside * rng.uniform(1, 2, arms), np.inf)
    new = pool.next(x, rng.dirichlet(np.ones(arms)) * arms, least=least, most=most, frozen=frozen).x
    assert new.sum() == pytest.approx(arms)
    assert new[frozen].tolist() == x[frozen].tolist()
    assert (new >= least - 1e-5 * arms)[~frozen].all()
    assert (new <= most + 1e-5 * arms)[~frozen].all()


def test_bounds_that_cannot_hold_the_sum_move_nothing() -> None:
    pool = PoolSplit(np.full(3, 0.01), Model(), Safety(), 0.99)
    x = np.array([0.5, 1.5, 1.0])
    for _ in range(5):
        pool.observe(x=x, value=np.array([5.0, 1.0, 1.0]), time=np.ones(3))
    proposed = pool.next(x, np.ones(3), most=np.array([0.6, 0.6, 0.6]))
    assert proposed.x.tolist() == x.tolist()
    assert not bool(proposed.moved)


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
    model = Model()
    evidence = Evidence.fresh(np.full(2, 0.01))
    both = np.ones(2)

    def period(x: list[float], value: list[float]) -> None:
        observe(
            evidence,
            Posterior(evidence, model),
            model,
            x=np.array(x),
            value=np.array(value),
            time=both,
            keep=0.92,
        )

    for _ in range(30):
        period([1.0, 1.0], [0.8, 0.8])
    before = Posterior(evidence, model)
    told = evidence.periods[1]
    for _ in range(30):
        period([1.0, 0.0], [0.8, 0.0])
    after = Posterior(evidence, model)
    assert after.marginal(both)[1] == pytest.approx(before.marginal(both)[1], rel=0.25)
    assert evidence.periods[1] < 0.2 * told, "doubt grows again"
    new = np.array([0.9, 1.1])
    assert after.gains(new, both)[1][1] > before.gains(new, both)[1][1]


def test_shapes_are_one_at_an_equal_share_and_their_slopes_are_their_slopes() -> None:
    x = np.geomspace(0.01, 8.0, 40)
    assert shapes.values(np.ones(1))[0] == pytest.approx(np.ones(shapes.COUNT))
    rise = (shapes.values(x * 1.0001) - shapes.values(x * 0.9999)) / (0.0002 * x[:, None])
    assert shapes.slopes(x) == pytest.approx(rise, rel=1e-4)
    assert (np.diff(shapes.slopes(x), axis=0) <= 0).all(), "returns diminish"
    assert shapes.elasticity(x).max() <= 1.0


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
