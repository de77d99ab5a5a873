"""Training markets drawn from what one's own log says: the response curves' posterior, not a simulated scenario's.

The log is a table of spend and value by day and arm (``daily.py``). The agent's own curves learn it day by day; a market is then
one draw of their posterior: per arm a shape by its weight, a level from its Gamma posterior, and the arm's week.
What such a log does not tell stays a prior: how levels wander from day to day (WANDER), carry-over and delays (``train.drawn``).
Impressions are taken in proportion to spend, the pool's day being SHOWN_A_DAY of a day's traffic.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from msgspec import Struct

from counterpoint.bench.budget.daily import Log
from counterpoint.bench.budget.table import EPOCHS_A_DAY, LAGS, Table
from counterpoint.bench.market.facts import Floats
from counterpoint.budget import shapes
from counterpoint.budget.response import BUCKETS, Evidence, Posterior, factors, observe
from counterpoint.budget.state import DAILY_MODEL

KEEP: Final = 0.92  # of a day's evidence, a day later: half-life of 8 days, as Allocator's
DAYS: Final = 28
SHOWN_A_DAY: Final = 0.3
GRID: Final = np.geomspace(0.003, 12.0, 48)  # spends whose value is tabled, in equal shares
WEEK: Final = 7
WANDER: Final = (
    0.005,
    0.05,
)  # standard deviation of the log level, a day; drawn log-uniformly for each market


class Learned(Struct, frozen=True, kw_only=True):
    """Of K arms. Spend in equal shares of the pool, value in the log's money."""

    arms: tuple[str, ...]
    unit: float  # an equal share of a day, money
    budget: Floats  # [K] mean spend a day
    weight: Floats  # [K, J] of shapes
    rate: Floats  # [K, J]
    shape: Floats  # [K] of the level's Gamma posterior, in events
    dispersion: Floats  # [K] value of an event
    week: Floats  # [K, 7] factor of the weekday


def learned(log: Log) -> Learned:
    """What the agent's curves know at the end of the log."""
    days, arms = log.spend.shape
    unit = float(log.spend.sum()) / days / arms
    event = float(log.value.sum()) / days / arms / 100.0
    evidence = Evidence.fresh(np.full(arms, max(event, 1e-9)))
    for day in range(days):
        before = Posterior(evidence, DAILY_MODEL)
        x = log.spend[day] / unit
        observe(
            evidence,
            before,
            DAILY_MODEL,
            x=x,
            value=log.value[day],
            time=np.ones(arms),
            keep=KEEP,
            bucket=log.days[day] % WEEK,
        )
    posterior = Posterior(evidence, DAILY_MODEL)
    week = np.stack([factors(evidence, bucket) for bucket in range(BUCKETS)][:WEEK], axis=1)
    return Learned(
        arms=log.arms,
        unit=unit,
        budget=log.spend.mean(axis=0),
        weight=posterior.weight,
        rate=posterior.rate,
        shape=posterior.shape,
        dispersion=evidence.dispersion,
        week=week,
    )


def table(of: Learned, seed: int, days: int = DAYS) -> Table:
    """One draw of the posterior. The same seed gives the same market."""
    rng = np.random.default_rng([seed, 0x6C6F67])
    arms = len(of.arms)
    chosen = np.array([rng.choice(shapes.COUNT, p=w / w.sum()) for w in of.weight])
    every = np.arange(arms)
    level = of.dispersion * rng.gamma(of.shape) / of.rate[every, chosen]
    epochs = days * EPOCHS_A_DAY
    day = np.arange(epochs) // EPOCHS_A_DAY
    step = np.exp(rng.uniform(*np.log(WANDER)))
    walk = np.cumsum(rng.normal(0.0, step, (days, arms)), axis=0)
    start = int(rng.integers(0, WEEK))
    level = level * np.exp(walk - walk[:1])[day] * of.week[:, (start + day) % WEEK].T  # [e, K]
    brings = shapes.values(GRID)[:, chosen].T  # [K, l]
    spend = np.broadcast_to(GRID * of.unit / EPOCHS_A_DAY, (epochs, arms, GRID.size))
    value = level[..., None] * brings / EPOCHS_A_DAY
    shown = spend / (of.unit * arms) * SHOWN_A_DAY
    return Table(
        spend=spend.copy(),
        value=value[..., None],
        shown=shown[..., None],
        auctions=np.ones(epochs),
        event=of.dispersion,
        converts=np.ones(arms, dtype=np.bool_),
        delay=np.eye(1, LAGS + 1)[0],
        budget=of.budget,
    )
