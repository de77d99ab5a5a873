"""Bounds above oracle above policies, on every scenario; and the parts they are made of, against brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from counterpoint.bench.market.driver import play
from counterpoint.bench.market.known import (
    best_stock,
    dual_of,
    grid_micros,
    respond_to,
    true_values,
    win_table,
)
from counterpoint.bench.market.oracles import JointOracle, bounds, knapsack
from counterpoint.bench.market.players import CONSTANTS, play_named, with_split
from counterpoint.bench.market.scoreboard import check_ordering
from counterpoint.bench.market.statistics import score
from counterpoint.market.load import NAMES
from counterpoint.market.state import Exposures
from tests.bench.market.small import facts, small, world_of

FEW = ("manual", "shade", "pid", "tools", "oracle-uniform", "oracle-bids", "oracle-split", "oracle-creatives")


@pytest.mark.parametrize("name", NAMES)
def test_bounds_stand_above_the_oracle_and_the_oracle_above_everybody(name: str) -> None:
    """The same on 100 seeds of full length: ``counterpoint bench market --check-ordering``."""
    scenario = small(name)
    assert check_ordering([scenario], FEW, [0, 1]).ordering == []


def test_the_oracle_spends_its_day_and_stays_near_the_known_bound() -> None:
    world = world_of(auctions=20_000)
    every = facts(world)
    run = play(world, JointOracle(), every)
    bound = bounds(world, every)
    assert run.oracle
    assert run.tally.spend.sum() > 0.9 * every.pool_nanos * every.days
    value = run.tally.value[every.warm_up_days :].sum()
    assert 0.8 * bound.known < value < bound.known < bound.hindsight


def test_hindsight_constants_win_in_their_own_class() -> None:
    world = world_of()
    every = facts(world)
    for name, (base, _) in CONSTANTS.items():
        best = score(play_named(name, world, every)).penalised
        assert best >= score(play_named(base, world, every)).penalised


def test_the_best_constant_split_wins_among_constant_splits() -> None:
    world = world_of(auctions=3_000)
    every = facts(world)
    found = play_named("hindsight-split", world, every)
    rng = np.random.default_rng(0)
    owner = every.day_budget_nanos / every.pool_nanos
    assert score(found).penalised >= score(play(world, with_split(owner, every), every)).penalised
    others = [
        score(play(world, with_split(rng.dirichlet(np.ones(every.campaigns)), every), every)).penalised
        for _ in range(5)
    ]
    assert score(found).penalised > np.mean(others)
    shares = found.tally.budget / found.tally.budget.sum(axis=1, keepdims=True)
    assert np.abs(shares - shares[0]).max() < 1e-6


@pytest.mark.parametrize(
    ("oracle", "base"),
    [("oracle-bids", "tools"), ("oracle-split", "pid"), ("oracle-creatives", "tools")],
)
def test_knowing_one_part_earns_more_than_its_base(oracle: str, base: str) -> None:
    gains = []
    for seed in range(3):
        world = world_of(seed=seed, auctions=20_000)
        every = facts(world)
        runs = {name: play_named(name, world, every) for name in (oracle, base)}
        assert runs[oracle].oracle
        assert runs[oracle].policy == oracle
        gains.append(np.log(score(runs[oracle]).penalised / score(runs[base]).penalised))
    assert np.mean(gains) > 0.0


def test_an_oracle_of_bids_leaves_the_owners_split_alone() -> None:
    world = world_of()
    every = facts(world)
    run = play_named("oracle-bids", world, every)
    assert (run.tally.budget == every.day_budget_nanos).all()


@settings(deadline=None, max_examples=80)
@given(
    items=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=8),
    budget=st.integers(0, 80),
)
def test_the_relaxed_knapsack_is_above_every_choice_and_tight(
    items: list[tuple[int, int]], budget: int
) -> None:
    worth, price = np.array([float(w) for w, _ in items]), np.array([float(p) for _, p in items])
    best = max(
        sum(items[k][0] for k in chosen)
        for size in range(len(items) + 1)
        for chosen in itertools.combinations(range(len(items)), size)
        if sum(items[k][1] for k in chosen) <= budget
    )
    relaxed = knapsack(worth, price, float(budget))
    assert best - 1e-9 <= relaxed <= best + worth.max() + 1e-9


def _table(
    seed: int, n: int, steps: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    random = np.random.default_rng(seed)
    grid = grid_micros(20_000_000, 1.06)
    odds = np.sort(random.random((n, grid.size)), axis=1)
    return grid, odds, random.random(n) * 1e7, random.random(n) < 0.5


@pytest.mark.parametrize("price", [0.2, 1.0, 3.0])
def test_the_dual_is_above_what_the_best_response_gains(price: float) -> None:
    n = 200
    grid, odds, value, second = _table(1, n, 5)
    floor = np.zeros(n)
    bid, cost, gain = np.empty(n), np.empty(n), np.empty(n)
    respond_to(value, price, floor, second, grid, odds, bid, cost, gain)
    bound = dual_of(value, price, floor, second, grid, odds, np.full(n, 2e7))
    assert (gain - price * cost).sum() <= bound
    assert (gain - price * cost)[~second].min() >= 0.0
    at = np.searchsorted(grid, bid)
    for row in np.flatnonzero(~second)[:50].tolist():
        surplus = (value[row] - price * grid) * odds[row]
        assert gain[row] - price * cost[row] == pytest.approx(max(surplus.max(), 0.0))
        assert bid[row] == 0.0 or bid[row] == grid[at[row]]


def test_odds_of_winning_agree_with_the_rivals_drawn() -> None:
    world = world_of(auctions=20_000)
    auctions = world.batch(0, 20_000)
    truth = world.truth(auctions)
    grid = np.array([5e5, 2e6, 6e6])
    odds = win_table(world, auctions, truth, grid)
    for k, bid in enumerate(grid):
        won = truth.threshold_micros <= bid
        assert abs(odds[:, k].mean() - won.mean()) < 0.012


@pytest.mark.parametrize("name", ["stationary-v1", "misspecified-v1", "adstock-v1"])
def test_favourable_exposure_and_stock_are_the_most_favourable(name: str) -> None:
    world = world_of(name)
    every = facts(world)
    auctions = world.batch(0, 400)
    carried = best_stock(world)
    top = true_values(world, every, auctions, None, None if carried is None else carried.stock)
    slack = 1.0 if carried is None else carried.slack
    exposures = Exposures(world.scenario)
    rng = np.random.default_rng(0)
    for shown in range(4):
        if shown:
            users = np.repeat(auctions.user, every.campaigns)
            campaigns = np.tile(np.arange(every.campaigns), 400)
            exposures.show_all(users, campaigns, np.repeat(auctions.t_ns, every.campaigns))
        stock = None
        if carried is not None:
            stock = rng.random((every.campaigns, len(world.scenario.supply)))
        here = true_values(world, every, auctions, exposures, stock)
        assert (here.best <= top.best * slack * (1.0 + 1e-12)).all()
        assert ((here.creative >= 0) == (here.best > 0)).all()
