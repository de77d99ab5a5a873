"""The parts ``cpa`` and ``pacing``: how they judge, and a short game of each."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from counterpoint.bench.bidding import pacing
from counterpoint.bench.bidding.cpa import OPPONENTS, Game, Sums, judged
from counterpoint.bench.market.agent_player import PPM, Bidding
from counterpoint.bench.market.baselines.ladder import LADDER
from counterpoint.bench.market.driver import Run, play
from counterpoint.bench.market.facts import Facts, facts_of
from counterpoint.market.load import scenario_named
from counterpoint.market.scenario import resized
from counterpoint.market.world import World


def _sums(spend: float, worth: float) -> Sums:
    return Sums(spend=[spend], worth=[worth], realised=[worth], conversions=1.0, overspend=0.0)


def test_what_is_left_unspent_counts_as_spent() -> None:
    """Half the money for three quarters of the worth is no win at equal spend."""
    pairs = {name: (_sums(10.0, 8.0), _sums(5.0, 6.0)) for name in OPPONENTS}
    result = judged([Game(scenario="drift-v1", seed=s, pairs=pairs) for s in (100, 101)], [])
    verdict = next(v for v in result.verdicts if "manual" in v.bar and "drift" in v.bar)
    assert verdict.measured is not None
    assert verdict.measured.value == pytest.approx(8.0 / 6.0)
    assert not verdict.met


@pytest.fixture(scope="module")
def world() -> World:
    return World(resized(scenario_named("stationary-v1"), 12_000), 3)


@pytest.fixture(scope="module")
def facts(world: World) -> Facts:
    return facts_of(world.scenario, world.design)


@pytest.fixture(scope="module")
def manual(world: World, facts: Facts) -> Run:
    return play(world, LADDER["manual"](None), facts, batch=60)


def _worth(run: Run) -> float:
    return float(run.tally.value[run.warm_up_days :].sum())


def test_the_agents_prices_win_more_for_the_same_money(world: World, facts: Facts, manual: Run) -> None:
    money = manual.tally.spend
    run = play(world, Bidding("ours", LADDER["manual"](None), PPM, money), facts, batch=60)
    assert (run.tally.spend <= money).all(), "not a nano more than it was given, on any day, for any campaign"
    assert run.tally.spend.sum() > 0.7 * money.sum()
    assert _worth(run) > 1.1 * _worth(manual)


def test_same_seed_same_run(world: World, facts: Facts) -> None:
    runs = [play(world, Bidding("ours", LADDER["manual"](None)), facts, batch=60) for _ in range(2)]
    again = [msgspec.msgpack.encode(run.tally.spend.tolist()) for run in runs]
    assert again[0] == again[1]


def test_a_known_curve_is_paced_near_hindsight() -> None:
    s = pacing.stream_of(3, quick=True)
    whole = slice(0, s.t_ns.size)
    paid, _ = pacing.outcome(s, whole, pacing.bids_at(s, whole, s.known, 1.0), np.inf)
    budget = float(paid.sum()) / (int(s.day[-1]) + 1) / 8
    value, cost = pacing.hindsight(s, {"1/8": budget})["1/8"]
    run = pacing.paced(s, budget, learned=False)
    later = slice(pacing.JUDGED_FROM, -1)  # the last day is cut short
    assert max(run.spend) <= budget
    assert sum(run.value[later]) > 0.95 * value[later].sum()
    assert sum(run.spend[later]) == pytest.approx(cost[later].sum(), rel=0.03)


def test_money_that_does_not_suffice_stops_the_bids() -> None:
    s = pacing.stream_of(3, quick=True)
    rows = slice(0, 2_000)
    bids = pacing.bids_at(s, rows, s.known, 1.0)
    paid, value = pacing.outcome(s, rows, bids, 5e7)
    assert 4e7 < paid.sum() <= 5e7
    assert (value > 0).sum() == (paid > 0).sum()
