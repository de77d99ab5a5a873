"""Who splits: the agent, with and without its learned part, and what it is compared with. All for many markets at once."""

from __future__ import annotations

from typing import Final, Protocol

import numpy as np
from msgspec.structs import replace

from counterpoint.bench.budget.market import Markets, Seen
from counterpoint.bench.market.facts import Floats
from counterpoint.budget.allocate import Safety
from counterpoint.budget.pool import PoolSplit
from counterpoint.budget.residual import Residual
from counterpoint.budget.response import Model

STOCK_KEEP: Final = 0.5 ** (
    1.0 / 12.0
)  # per epoch: what the agent takes for the memory of people, three days

TURN_ABOVE: Final = 0.05  # a move of at least this, after one the other way, is counted as a reversal


class Splitter(Protocol):
    def begin(self, markets: Markets) -> Floats:
        """(B, K) the first split, in equal shares."""

    def next(self, seen: Seen) -> Floats:
        """The split of the next epoch."""


class Equal:
    def begin(self, markets: Markets) -> Floats:
        self.x = np.ones((markets.count, markets.arms))
        return self.x

    def next(self, seen: Seen) -> Floats:
        return self.x


class ByReturn(Equal):
    """In proportion to a power of discounted value per unit of spend, never under 1 % of an equal share. ``shrink``: how much
    an equal share's spend at the pool's mean return is added to each arm's own."""

    def __init__(self, keep: float, shrink: float = 0.0, power: float = 1.0) -> None:
        self.keep, self.shrink, self.power = keep, shrink, power

    def begin(self, markets: Markets) -> Floats:
        self._spend, self._value = np.zeros((2, markets.count, markets.arms))
        return super().begin(markets)

    def next(self, seen: Seen) -> Floats:
        self._spend = self._spend * self.keep + seen.spent
        self._value = self._value * self.keep + seen.value
        prior = self.shrink * self._spend.mean(axis=1, keepdims=True)
        mean = self._value.sum(axis=1, keepdims=True) / np.maximum(
            self._spend.sum(axis=1, keepdims=True), 1e-9
        )
        weight = (self._value + mean * prior + 1e-9) / np.maximum(self._spend + prior, 1e-9)
        weight = weight**self.power
        x = np.maximum(weight / weight.sum(axis=1, keepdims=True) * weight.shape[1], 0.01)
        return np.asarray(x / x.sum(axis=1, keepdims=True) * x.shape[1])


class ModelFree(Equal):
    """REINFORCE from scratch: a softmax of Gaussian logits, their mean moved by the advantage over a running baseline."""

    def __init__(self, rate: float, spread: float) -> None:
        self.rate, self.spread = rate, spread

    def begin(self, markets: Markets) -> Floats:
        self._rngs = [np.random.default_rng([s, 0x7266]) for s in markets.seeds]
        self._mean = np.zeros((markets.count, markets.arms))
        self._base: Floats | None = None
        self._var = np.ones(markets.count)
        return self._act()

    def _act(self) -> Floats:
        noise = np.stack([r.normal(0.0, 1.0, self._mean.shape[1]) for r in self._rngs])
        self._noise = noise
        logits = self._mean + self.spread * noise
        x = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(x / x.sum(axis=1, keepdims=True) * x.shape[1])

    def next(self, seen: Seen) -> Floats:
        reward = seen.value.sum(axis=1) / np.maximum(seen.spent.sum(axis=1), 1e-9)
        if self._base is None:
            self._base = reward
        gap = reward - self._base
        self._base = self._base + 0.1 * gap
        self._var = 0.9 * self._var + 0.1 * gap**2
        advantage = np.clip(gap / np.sqrt(self._var + 1e-9), -3.0, 3.0)
        self._mean = self._mean + self.rate * advantage[:, None] * self._noise / self.spread
        return self._act()


OPEN: Final = Safety(
    trust_factor=1e3, gain_min=0.0, doubt=0.0, reversal=1.0, behind=1e9, evidence_min=0.0, idle_above=0.0
)
LOG_ONLY: Final = Model(pooling=0.0, season_rate=0.0, outlier=1e9, only_log=True)


class Agent:
    """The agent's own code: curves, safety, and the residual policy where one is given.

    ``weights`` (B, F) overrides the residual's, one policy per market: for training.
    """

    def __init__(
        self,
        model: Model,
        safety: Safety,
        keep: float,
        *,
        with_margin: bool = True,
        with_delay: bool = True,
        learned: Residual | None = None,
        weights: Floats | None = None,
    ) -> None:
        self.model, self.safety, self.keep = model, safety, keep
        self._margin, self._delay = with_margin, with_delay
        self._weights = weights if learned is None else np.array(learned.weights)

    def begin(self, markets: Markets) -> Floats:
        m = markets
        self.m = m
        self.unit = m.pool[:, None] / m.arms
        self.pool = PoolSplit(
            m.event / m.traffic / self.unit,
            self.model,
            self.safety,
            self.keep,
            converts=m.converts,
            stock_keep=STOCK_KEEP,
            weights=self._weights,
        )
        self.x = np.ones(m.budget.shape)
        self.fixed = self.x.copy()
        late = np.where(m.converts[..., None], m.delay[:, None, :], np.eye(1, m.delay.shape[1])[None])
        self._late = late if self._delay else None
        self.reversals, self._way = np.zeros(m.budget.shape), np.zeros(m.budget.shape)
        self.returned = np.zeros(m.count)
        return self.x

    def next(self, seen: Seen) -> Floats:
        rate = seen.spent / self.unit / seen.time
        self.pool.observe(
            x=rate,
            value=seen.value / self.unit,
            time=np.broadcast_to(seen.time, rate.shape),
            bucket=seen.bucket,
            margin=seen.margin if self._margin else None,
            delay=self._late,
            shown=seen.shown,
        )
        proposed = self.pool.next(self.x, self.fixed, gone=seen.gone, bucket=seen.next_bucket, spent=rate)
        step = proposed.x - self.x
        way = np.sign(np.where(np.abs(step) > TURN_ABOVE * self.x, step, 0.0))
        self.reversals += way * self._way < 0
        self._way = np.where(way != 0, way, self._way)
        self.returned += proposed.returned
        self.x = proposed.x
        return self.x


def greedy(keep: float, prior_events: float = 2.0, *, margins: bool = False) -> Agent:
    """Discounted greedy: each arm's own logarithmic curve, water-filling at once; no delay, no safety, and no margin unless
    ``margins``."""
    model = replace(LOG_ONLY, prior_events=prior_events)
    return Agent(model, replace(OPEN, floor_share=0.01), keep, with_margin=margins, with_delay=False)
