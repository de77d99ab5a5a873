"""Finds the constants of the baselines on tuning seeds: ``python -m counterpoint.bench.market.tune [SCENARIO...]``.

Coordinate by coordinate, on the mean penalised value over ``SEEDS``; prints the tables of ``baselines/tuned.toml``.
"""

from __future__ import annotations

import sys
from typing import Final

import numpy as np

from counterpoint.bench.market.baselines.classic import LADDER
from counterpoint.bench.market.driver import play
from counterpoint.bench.market.facts import facts_of
from counterpoint.bench.market.statistics import score
from counterpoint.market.load import NAMES, scenario_named
from counterpoint.market.scenario import Scenario
from counterpoint.market.world import World

SEEDS: Final = (0, 1, 2, 3)  # of the tuning seeds 0-99

# who is played, which constant, what is tried; in this order, each with what was found before it
PLAN: Final = (
    ("manual", "trust", (0.0, 0.25, 0.5, 0.8, 1.0)),
    ("roas", "trust_return", (0.25, 0.5, 0.8, 1.0)),
    ("naive", "flat_cpm", (1.4, 2.0, 2.8, 4.0, 5.6, 8.0)),
    ("shade", "factor", (0.25, 0.35, 0.45, 0.55, 0.7, 0.85)),
    ("linear", "linear_cpm", (1.0, 1.4, 2.0, 2.8, 4.0)),
    ("pid", "gain", (0.05, 0.1, 0.25, 0.5, 1.0, 2.0)),
    ("greedy", "memory", (0.7, 0.85, 0.95, 1.0)),
)


def tune(scenario: Scenario) -> dict[str, float]:
    worlds = [World(scenario, seed) for seed in SEEDS]
    facts = facts_of(scenario, worlds[0].design)
    found: dict[str, float] = {}
    for policy, constant, tried in PLAN:
        means = [
            np.mean(
                [
                    score(play(world, LADDER[policy]({**found, constant: value}), facts)).penalised
                    for world in worlds
                ]
            )
            for value in tried
        ]
        found[constant] = tried[int(np.argmax(means))]
    return found


def main(names: list[str]) -> None:
    for name in names or list(NAMES):
        scenario = scenario_named(name)
        lines = [f"{constant} = {value}" for constant, value in tune(scenario).items()]
        print("\n".join([f"[parameters.{name}] # digest {scenario.digest[:16]}", *lines, ""]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
