"""Tuning climbs, stops at a top, and writes what it can read."""

from __future__ import annotations

import tomllib

from counterpoint.bench.market.baselines.classic import constants
from counterpoint.bench.market.tune import FEW, PLAN, Constant, Tuner, text_of
from tests.bench.market.small import world_of


def test_neighbours_go_on_beyond_the_grid_until_it_makes_no_sense() -> None:
    constant = Constant((1.0, 2.0, 4.0), 2.0, 0.5, 7.0)
    assert constant.beside(2.0) == [1.0, 4.0]
    assert constant.beside(1.0) == [0.5, 2.0]
    assert constant.beside(0.5) == [1.0]
    assert constant.beside(4.0) == [2.0]
    assert Constant((0.0, 0.5, 1.0), 1.0, 0.0, 1.0).beside(0.0) == [0.5]


def test_what_is_found_is_a_top_and_the_same_twice() -> None:
    worlds = [world_of(seed=seed, auctions=2_000) for seed in range(FEW)]
    found = Tuner("naive", worlds).best()
    assert found == Tuner("naive", worlds).best()
    judge = Tuner("naive", worlds)
    best = judge.mean(found, FEW)
    for value in PLAN["naive"]["flat_cpm"].beside(found["flat_cpm"]):
        assert judge.mean({"flat_cpm": value}, FEW) <= best


def test_what_is_written_is_what_is_read() -> None:
    text = text_of(constants())
    assert tomllib.loads(text) == constants()
