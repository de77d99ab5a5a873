"""The market for outside learners: a Gymnasium environment (one agent sets all bids) and a PettingZoo one (an agent per campaign).

Needs the extra ``rl``. A step is one batch of auctions (at most 1,000). The action is the log of a factor on each campaign's bid, in
[-3, 1.5]; everything else is B1 without pacing (values, creatives, split from the log). Reward: expected value of what was
won, account currency. An episode is the scenario once; ``reset(seed=k)`` is the world of seed k.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from types import ModuleType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from counterpoint.base.errors import ConfigError
from counterpoint.bench.market.baselines.classic import Classic
from counterpoint.bench.market.baselines.parts import AsSoonAsPossible, Best, ByConversions
from counterpoint.bench.market.driver import Game, batches_of, cut, cut_truth, cuts_of
from counterpoint.bench.market.facts import NANOS, Floats
from counterpoint.bench.market.policy import Books
from counterpoint.market.scenario import Scenario
from counterpoint.market.world import World

LOG_FACTOR: Final = (-3.0, 1.5)
OF_CAMPAIGN: Final = (
    4  # money left and spent (shares of today's budget), wins, bids (shares of the last batch)
)
OF_DAY: Final = 2  # share of the day and of the scenario gone
TUNING_SEEDS: Final = 100  # a reset without a seed draws one of these: outside learners tune where ours do


class Dial(AsSoonAsPossible):
    """Bids times what somebody outside says."""

    def __init__(self) -> None:
        self.log_factor: Floats = np.zeros(0)

    def factor(self, books: Books) -> Floats:
        return np.exp(self.log_factor) if self.log_factor.size else super().factor(books)


class Session:
    """One episode, a batch at a time; knows neither Gymnasium nor PettingZoo."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self.dial = Dial()
        self.game = Game(
            World(scenario, seed),
            Classic("dial", "value", lambda p: Best(), ByConversions(), lambda p: self.dial),
        )
        self._steps = self._played()
        self._totals = {name: self._now(name) for name in ("value", "spend", "impressions", "bids")}
        self.last = {name: np.zeros_like(total) for name, total in self._totals.items()}
        self.over = False
        self._share = 0.0

    def _played(self) -> Iterator[None]:
        game = self.game
        done, total = 0, game.world.scenario.auctions
        for start, n in batches_of(game.world, game.pressure):
            chunk = game.world.batch(start, n, game.pressure)
            truth = game.world.truth(chunk, game.pressure)
            for first, end in cuts_of(chunk):
                game.step(cut(chunk, slice(first, end)), cut_truth(truth, slice(first, end)))
                done += end - first
                self._share = done / total
                self.over = done == total
                yield

    def _now(self, name: str) -> Floats:
        return self.game.total(name)

    def step(self, log_factor: NDArray[Any]) -> Floats:
        """Play a batch; expected value by campaign, account currency. ``over`` when it was the last."""
        self.dial.log_factor = np.clip(np.asarray(log_factor, dtype=np.float64), *LOG_FACTOR)
        next(self._steps)
        for name, before in self._totals.items():
            now = self._now(name)
            self.last[name] = now - before
            self._totals[name] = now
        return np.asarray(self.last["value"] / NANOS)

    def seen(self) -> NDArray[np.float32]:
        """[campaign, OF_CAMPAIGN + OF_DAY], each in [0, 1]."""
        game = self.game
        budget = np.maximum(game.budget if game.day >= 0 else game.facts.day_budget_nanos, 1)
        left = game.left / budget if game.day >= 0 else np.ones(budget.size)
        bids = self.last["bids"]
        rows = np.stack(
            [
                left,
                self.last["spend"] / budget,
                self.last["impressions"] / np.maximum(bids, 1.0),
                bids / max(float(bids.sum()), 1.0),
                np.full(budget.size, self._share * game.facts.days % 1.0),
                np.full(budget.size, self._share),
            ],
            axis=1,
        )
        clipped: NDArray[np.float32] = np.clip(rows, 0.0, 1.0).astype(np.float32)
        return clipped


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(f"{name} is not installed; install counterpoint[rl]") from error


def gymnasium_environment(scenario: Scenario) -> Any:
    """A ``gymnasium.Env``: observation and action over all campaigns at once."""
    gymnasium: Any = _module("gymnasium")
    campaigns = len(scenario.campaign)

    class MarketEnvironment(gymnasium.Env):  # type: ignore[misc]  # the extra may not be installed
        metadata: Final[dict[str, Any]] = {"render_modes": []}

        def __init__(self) -> None:
            box = gymnasium.spaces.Box
            self.observation_space = box(0.0, 1.0, (campaigns * (OF_CAMPAIGN + OF_DAY),), np.float32)
            self.action_space = box(*LOG_FACTOR, (campaigns,), np.float32)
            self.session: Session | None = None

        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
            super().reset(seed=seed)
            chosen = int(self.np_random.integers(TUNING_SEEDS)) if seed is None else seed
            self.session = Session(scenario, chosen)
            return self.session.seen().ravel(), {"seed": chosen}

        def step(self, action: NDArray[Any]) -> Any:
            assert self.session is not None, "reset first"
            value = self.session.step(action)
            info = {"spend": float(self.session.last["spend"].sum() / NANOS)}
            return self.session.seen().ravel(), float(value.sum()), self.session.over, False, info

    return MarketEnvironment()


def pettingzoo_environment(scenario: Scenario) -> Any:
    """A ``pettingzoo.ParallelEnv``: one agent per campaign, each with its own observation, bid factor and reward."""
    pettingzoo: Any = _module("pettingzoo")
    box: Any = _module("gymnasium").spaces.Box
    names = [c.id for c in scenario.campaign]

    class CampaignsEnvironment(pettingzoo.ParallelEnv):  # type: ignore[misc]  # the extra may not be installed
        metadata: Final[dict[str, Any]] = {"render_modes": [], "name": "counterpoint_market_v1"}

        def __init__(self) -> None:
            self.possible_agents = list(names)
            self.agents: list[str] = []
            self.session: Session | None = None
            self._seed = 0
            self._observed = {name: box(0.0, 1.0, (OF_CAMPAIGN + OF_DAY,), np.float32) for name in names}
            self._acted = {name: box(*LOG_FACTOR, (1,), np.float32) for name in names}

        def observation_space(self, agent: str) -> Any:
            return self._observed[agent]

        def action_space(self, agent: str) -> Any:
            return self._acted[agent]

        def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
            self._seed = (self._seed + 1) % TUNING_SEEDS if seed is None else seed
            self.session = Session(scenario, self._seed)
            self.agents = list(names)
            return self._all(), {name: {} for name in names}

        def _all(self) -> dict[str, NDArray[np.float32]]:
            assert self.session is not None
            return dict(zip(names, self.session.seen(), strict=True))

        def step(self, actions: dict[str, NDArray[Any]]) -> Any:
            assert self.session is not None, "reset first"
            factors = np.array([float(np.ravel(actions[name])[0]) for name in names])
            value = self.session.step(factors)
            over = self.session.over
            if over:
                self.agents = []
            return (
                self._all(),
                {name: float(v) for name, v in zip(names, value, strict=True)},
                dict.fromkeys(names, over),
                dict.fromkeys(names, False),
                {name: {} for name in names},
            )

    return CampaignsEnvironment()
