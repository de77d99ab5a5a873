"""The live system is judged by the same score as everybody."""

from __future__ import annotations

import msgspec

from counterpoint.bench.market.live_player import LIVE, play_live
from counterpoint.bench.market.oracles import bounds
from counterpoint.bench.market.statistics import score
from counterpoint.market.live.tempo import Tempo
from counterpoint.market.world import World
from tests.bench.market.small import facts, small


def test_it_spends_within_its_budget_and_stays_below_the_bound() -> None:
    """Without agents, and with long steps: a whole fortnight in short ones takes minutes."""
    world = World(msgspec.structs.replace(small(auctions=1_000), days=2), 0)
    every = facts(world)
    heard: list[int] = []
    run = play_live("live-fallback", world, every, heard.append, Tempo(step_s=3_600))
    assert LIVE["live-fallback"] == ()
    assert sum(heard) == 1_000
    assert (run.policy, run.scenario, run.seed, run.oracle) == ("live-fallback", "stationary-v1", 0, False)
    bound = bounds(world, every)
    told = score(run, bound)
    assert 0.0 < told.value < bound.known / 1e9
    assert 0.0 < told.spend <= told.budget
    assert told.overspend == 0.0
    assert told.refused == 0
    assert 0 < told.reach <= told.impressions
