"""Bounds where a market is built to break them: stock heaped up by uneven traffic, tiny ceilings, budgets that do not bind."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.bench.market.baselines.ladder import LADDER
from counterpoint.bench.market.driver import play
from counterpoint.bench.market.facts import NANOS
from counterpoint.bench.market.known import best_stock, grid_micros, most_stock
from counterpoint.bench.market.oracles import JointOracle, bounds
from counterpoint.bench.market.statistics import score
from counterpoint.market.load import load_scenario
from counterpoint.market.scenario import CarryOver
from counterpoint.market.world import World
from tests.bench.market.small import facts, small

ONE_CAMPAIGN = """
base = "stationary-v1"
name = "mine"
title = "one campaign, one supply path"
auctions = {auctions}
days = 14
budget_factor = {budget}
place = [ {{ id = "site.example", media = ["native"], category = "IAB3" }} ]
supply = [ {{ venue = "northstar", media = "native", share = 1.0, prices = {{ unit_cpm = 0.0001, components = [ {{ weight = 1.0, median = 1.0, sigma = 0.5 }} ] }} }} ]
advertiser = [ {{ id = "a", category = "IAB3" }} ]
campaign = [ {{ id = "c", advertiser = "a", goal = "conversions", goal_value_micros = 20000000, daily_budget = 10.0, media = ["native"], bid_ceiling_cpm = {ceiling}, conversion_rate = 0.01 }} ]
"""
S_SHAPED = "[carry_over]\nhalf_life_days = 2.0\ngain = 100.0\nhalf_at = 20.0\nshape = 3.0\n"
SHOCK = "[[shock]]\nfrom_day = 6\nto_day = 7\nvolume = 1000.0\n"
GROWTH = "[traffic]\ngrowth_per_day = 0.5\n"


def world_of(
    folder: Path, extra: str = "", budget: float = 1000.0, ceiling: float = 20.0, auctions: int = 7_000
) -> World:
    path = folder / "mine.toml"
    path.write_text(ONE_CAMPAIGN.format(auctions=auctions, budget=budget, ceiling=ceiling) + extra)
    return World(load_scenario(path), 100)


@pytest.mark.parametrize("uneven", [SHOCK, GROWTH])
def test_no_policy_passes_hindsight_where_uneven_traffic_heaps_up_stock(tmp_path: Path, uneven: str) -> None:
    """Of old the stock was bounded as if traffic were level: the oracle earned up to three times the bound."""
    world = world_of(tmp_path, S_SHAPED + uneven)
    every = facts(world)
    bound = bounds(world, every)
    for player in (JointOracle(), LADDER["tools"](None)):
        assert score(play(world, player, every), bound).value < bound.hindsight / NANOS


def test_stock_of_every_impression_won_stays_below_the_most_there_can_be(tmp_path: Path) -> None:
    for extra in (S_SHAPED, S_SHAPED + SHOCK, S_SHAPED + GROWTH):
        world = world_of(tmp_path, extra)
        s = world.scenario
        stock = 0.0
        seen = 0.0
        for first, end in world.day_auctions():
            seen = max(seen, stock + (end - first) * s.days / s.auctions)
            stock = (stock + (end - first) * s.days / s.auctions) * 0.5 ** (1 / s.carry_over.half_life_days)
        assert seen <= most_stock(world) * (1 + 1e-12) <= s.days * (1 + 1e-9)


@settings(deadline=None, max_examples=40)
@given(
    gain=st.floats(0.1, 1e4),
    half_at=st.floats(1e-4, 30.0),
    shape=st.floats(0.2, 10.0),
    saturates_at=st.one_of(st.none(), st.floats(1e-4, 30.0)),
    half_life=st.floats(0.05, 365.0),
)
def test_no_stock_lifts_more_than_the_best_one_and_its_slack(
    gain: float, half_at: float, shape: float, saturates_at: float | None, half_life: float
) -> None:
    carry = CarryOver(
        gain=gain, half_at=half_at, shape=shape, saturates_at=saturates_at, half_life_days=half_life
    )
    world = World(msgspec.structs.replace(small("stationary-v1", 1_000), carry_over=carry), 0)
    found = best_stock(world)
    assert found is not None
    most = most_stock(world)
    tried = np.concatenate([np.linspace(0.0, most, 30_001), np.geomspace(1e-6, most, 30_001)])
    best = float(world.lift(found.stock).max()) * found.slack
    assert world.lift(tried).max() <= best * (1.0 + 1e-9)
    assert 1.0 <= found.slack < 1.0001


@pytest.mark.parametrize("ceiling", [1, 2, 99, 100, 9_999, 10_000, 999_999, 20_000_000])
def test_the_grid_of_bids_reaches_from_a_micro_or_more_to_the_ceiling(ceiling: int) -> None:
    grid = grid_micros(ceiling, 1.06)
    assert grid[-1] == ceiling
    assert grid[0] >= 0.9
    assert (np.diff(grid) > 0).all()


def test_a_ceiling_below_a_cent_cpm_is_played_and_bounded(tmp_path: Path) -> None:
    world = world_of(tmp_path, budget=1.0, ceiling=0.001)
    every = facts(world)
    bound = bounds(world, every)
    value = score(play(world, JointOracle(), every), bound).value
    assert 0.8 * bound.known / NANOS < value < bound.hindsight / NANOS


def test_money_that_does_not_bind_costs_the_known_bound_nothing(tmp_path: Path) -> None:
    """Of old the price of money ended at e^-5, and the bound was nine times what there is."""
    bound = bounds(world_of(tmp_path))
    assert bound.known <= bound.hindsight * 1.001
