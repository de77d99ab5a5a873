"""Small markets: the permanent scenarios with less traffic, so that a test takes a second."""

from __future__ import annotations

from functools import cache

from counterpoint.bench.market.facts import Facts, facts_of
from counterpoint.market.load import scenario_named
from counterpoint.market.scenario import Scenario, resized
from counterpoint.market.world import World

AUCTIONS = 6_000


@cache
def small(name: str = "stationary-v1", auctions: int = AUCTIONS) -> Scenario:
    return resized(scenario_named(name), auctions)


@cache
def world_of(name: str = "stationary-v1", seed: int = 0, auctions: int = AUCTIONS) -> World:
    return World(small(name, auctions), seed)


def facts(world: World) -> Facts:
    return facts_of(world.scenario, world.design)
