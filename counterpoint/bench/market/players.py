"""Everybody who can be put on the scoreboard, by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Final

import msgspec

from counterpoint.base.errors import ConfigError
from counterpoint.bench.market.baselines.classic import LADDER, tuned
from counterpoint.bench.market.driver import Run, play
from counterpoint.bench.market.facts import Facts
from counterpoint.bench.market.oracles import JointOracle
from counterpoint.bench.market.policy import Policy
from counterpoint.bench.market.statistics import score
from counterpoint.market.world import World

HINDSIGHT_STEPS: Final = (0.4, 0.55, 0.75, 1.0, 1.35, 1.8, 2.5)  # times the tuned constant

ORACLES: Final[dict[str, Callable[[], Policy]]] = {
    "oracle": JointOracle,
    "oracle-uniform": lambda: JointOracle("oracle-uniform", best_creative=False),
}
# name -> (of the ladder, its constant): the best constant of the seed it is judged on, so best in its class alone
HINDSIGHT: Final = {"hindsight-flat": ("naive", "flat_cpm"), "hindsight-shade": ("shade", "factor")}
NAMES: Final = (*LADDER, *HINDSIGHT, *ORACLES)
DEFAULT: Final = (
    "naive",
    "manual",
    "shade",
    "linear",
    "pid",
    "roas",
    "greedy",
    "thompson",
    "tools",
    "oracle",
)

TITLES: Final = {
    "naive": "B0: flat bid, uniform creatives, equal split, as soon as possible",
    "manual": "B1: bid = predicted value, last week's best creatives and results, even pacing",
    "shade": "B1 with the best constant shading factor",
    "linear": "B1 with linear bidding",
    "pid": "B1 with PID pacing",
    "roas": "B1 with a split by return on ad spend",
    "greedy": "B1 with discounted greedy creatives",
    "thompson": "B1 with Beta-Thompson creatives",
    "tools": "PID pacing, split by return, Beta-Thompson together",
    "hindsight-flat": "B0 with the best flat bid of this very seed",
    "hindsight-shade": "B1 with the best shading factor of this very seed",
    "oracle": "knows all parameters, not the rivals' draws",
    "oracle-uniform": "as oracle, with uniform creatives",
}


def check_names(names: tuple[str, ...]) -> None:
    """Raises :class:`ConfigError` with a cure."""
    for name in names:
        if name not in NAMES:
            close = difflib.get_close_matches(name, NAMES, 1)
            cure = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(NAMES)}"
            raise ConfigError(f"no policy is called {name!r}; {cure}")
        if names.count(name) > 1:
            raise ConfigError(f"policy {name!r} is named twice; take one out")


def play_named(name: str, world: World, facts: Facts, progress: Callable[[int], None] | None = None) -> Run:
    """A run of the player called ``name`` (one of :data:`NAMES`)."""
    if name in HINDSIGHT:
        base, constant = HINDSIGHT[name]
        middle = tuned(facts.scenario)[constant]
        runs = [play(world, LADDER[base]({constant: middle * k}), facts) for k in HINDSIGHT_STEPS]
        best = max(runs, key=lambda run: score(run).penalised)
        seconds = sum(run.seconds for run in runs)
        if progress is not None:
            progress(world.scenario.auctions)
        return msgspec.structs.replace(best, policy=name, seconds=seconds)
    policy: Policy = LADDER[name](None) if name in LADDER else ORACLES[name]()
    return play(world, policy, facts, progress)
