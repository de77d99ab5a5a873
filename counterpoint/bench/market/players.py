"""Everybody who can be put on the scoreboard, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec
import numpy as np

from counterpoint.base.errors import ConfigError
from counterpoint.base.words import instead_of
from counterpoint.bench.market import own
from counterpoint.bench.market.agent_player import Bidding
from counterpoint.bench.market.baselines.classic import tuned
from counterpoint.bench.market.baselines.ladder import LADDER, constant_split
from counterpoint.bench.market.driver import Run, play
from counterpoint.bench.market.facts import Facts, Floats
from counterpoint.bench.market.live_player import LIVE, play_live
from counterpoint.bench.market.oracles import JointOracle
from counterpoint.bench.market.part_oracles import BidsOracle, CreativesOracle, SplitOracle
from counterpoint.bench.market.policy import Policy
from counterpoint.bench.market.statistics import score
from counterpoint.market.world import World

HINDSIGHT_STEPS: Final = (0.4, 0.55, 0.75, 1.0, 1.35, 1.8, 2.5)  # times the tuned constant

ORACLES: Final[dict[str, Callable[[], Policy]]] = {
    "oracle": JointOracle,
    "oracle-uniform": lambda: JointOracle("oracle-uniform", best_creative=False),
    "oracle-bids": BidsOracle,
    "oracle-split": SplitOracle,
    "oracle-creatives": CreativesOracle,
}
AGENTS: Final[dict[str, Callable[[], Policy]]] = {
    "bidding": lambda: Bidding("bidding", LADDER["manual"](None)),
    "bidding-cost": lambda: Bidding("bidding-cost", LADDER["manual"](None), 0),
}
# name -> (of the ladder, its constant): the best constant of the seed it is judged on, so best in its class alone
CONSTANTS: Final = {"hindsight-flat": ("naive", "flat_cpm"), "hindsight-shade": ("shade", "factor")}
SPLIT: Final = "hindsight-split"
SPLIT_STEPS: Final = (
    2.0,
    1.4,
)  # each campaign's share times and over these, one after the other, kept where better
HINDSIGHT: Final = (*CONSTANTS, SPLIT)
NAMES: Final = (*LADDER, *AGENTS, *LIVE, *HINDSIGHT, *ORACLES)
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
    "tools": "shaded first prices, one pace for the pool, shrunk Thompson, values by path and format",
    "bidding": "B1 with the Bidding agent's curves, shading, pacing and target cost; never bids above value",
    "bidding-cost": "as bidding, for owners who want low cost alone: never bids above value",
    "live": "the live system with all its agents, in simulated time",
    "live-fallback": "the live system without agents: the bidder's stated fallback",
    "hindsight-flat": "B0 with the best flat bid of this very seed",
    "hindsight-shade": "B1 with the best shading factor of this very seed",
    "hindsight-split": "PID with the best constant split of this very seed that a search finds",
    "oracle": "knows all parameters, not the rivals' draws",
    "oracle-uniform": "as oracle, with uniform creatives",
    "oracle-bids": "knows worth and win rates; owner's split, creatives of tools",
    "oracle-split": "knows what each campaign's bids would bring; bids, pace and creatives of pid",
    "oracle-creatives": "knows each person's best creative; bids, pace and split of tools",
}


def title_of(name: str) -> str:
    return own.title(name) if own.known(name) else TITLES[name]


def register(name: str, make: Callable[[], Policy]) -> None:
    """A player of one's own, by a name of its own: see :func:`own.register`."""
    if name in NAMES:
        raise ConfigError(f"policy {name!r} is one of the package's; take another name")
    own.register(name, make)


def check_names(names: tuple[str, ...]) -> None:
    """Raises :class:`ConfigError` with a cure."""
    for name in names:
        if name not in NAMES:
            if not own.known(name):
                raise ConfigError(f"no policy is called {name!r}; {instead_of(name, NAMES)}")
            own.make(name)
        if names.count(name) > 1:
            raise ConfigError(f"policy {name!r} is named twice; take one out")


def play_named(name: str, world: World, facts: Facts, progress: Callable[[int], None] | None = None) -> Run:
    """A run of the player called ``name`` (one of :data:`NAMES`, or from outside: ``own``)."""
    if own.known(name):
        return msgspec.structs.replace(play(world, own.make(name), facts, progress), policy=name)
    if name in LIVE:
        return play_live(name, world, facts, progress)
    if name not in HINDSIGHT:
        policy: Policy = LADDER[name](None) if name in LADDER else {**AGENTS, **ORACLES}[name]()
        return play(world, policy, facts, progress)
    best, seconds = _best_split(world, facts) if name == SPLIT else _best_constant(name, world, facts)
    if progress is not None:
        progress(world.scenario.auctions)
    return msgspec.structs.replace(best, policy=name, seconds=seconds)


def _best_constant(name: str, world: World, facts: Facts) -> tuple[Run, float]:
    base, constant = CONSTANTS[name]
    parameters = tuned(facts.scenario, base)
    tried = [{**parameters, constant: parameters[constant] * k} for k in HINDSIGHT_STEPS]
    runs = [play(world, LADDER[base](each), facts) for each in tried]
    return max(runs, key=lambda run: score(run).penalised), sum(run.seconds for run in runs)


def with_split(shares: Floats, facts: Facts) -> Policy:
    """``pid`` with these shares on every day."""
    return constant_split(shares, tuned(facts.scenario, "pid"))


def _best_split(world: World, facts: Facts) -> tuple[Run, float]:
    """From the better of the owner's and the equal split, one campaign's share at a time (:data:`SPLIT_STEPS`)."""
    seconds = 0.0

    def earns(shares: Floats) -> tuple[float, Run]:
        nonlocal seconds
        run = play(world, with_split(shares, facts), facts)
        seconds += run.seconds
        return score(run).penalised, run

    owner = facts.day_budget_nanos / facts.pool_nanos
    starts = [owner, np.full(facts.campaigns, 1.0 / facts.campaigns)]
    found = [earns(shares) for shares in starts]
    first = 0 if found[0][0] >= found[1][0] else 1
    shares, (best, run) = starts[first], found[first]
    for step in SPLIT_STEPS:
        for c in range(facts.campaigns):
            for factor in (step, 1.0 / step):
                tried = shares.copy()
                tried[c] *= factor
                tried /= tried.sum()
                value, its_run = earns(tried)
                if value > best:
                    shares, best, run = tried, value, its_run
                    break
    return run, seconds
