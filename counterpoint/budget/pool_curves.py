"""The curves of every pool of the catalog: from tallies of periods in, to proposed splits out, and kept in a snapshot."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from counterpoint.base.clock import NS_PER_S
from counterpoint.budget import residual
from counterpoint.budget.allocate import Proposed
from counterpoint.budget.delivery import Tally
from counterpoint.budget.pool import PoolSplit
from counterpoint.budget.response import BUCKETS, LAGS, Model, fade
from counterpoint.budget.shapes import Array
from counterpoint.budget.state import BudgetConfig, State
from counterpoint.catalog.model import Campaign, Goal

DAY_S = 86_400
REMEMBERED_DAYS = 3.0  # half-life of the impressions that people are taken to remember
UNIT_DRIFT_MAX = 4.0  # a pool that grew or shrank by more begins anew
CONVERTING = (Goal.CONVERSIONS, Goal.VALUE)


class PoolCurves:
    def __init__(self, config: BudgetConfig) -> None:
        self.config = config
        self._residual = residual.shipped() if config.residual else None
        self._state = State()
        self.forget()

    def forget(self) -> None:
        self._splits: dict[str, PoolSplit] = {}
        self._pools: dict[str, list[Campaign]] = {}

    def follow(self, state: State, pools: dict[str, list[Campaign]]) -> None:
        """From now on these pools, with what ``state`` knows of their campaigns. ``keep`` what was known before."""
        self._state, self._pools = state, pools
        self._splits = {name: self._split_of(name, pool) for name, pool in pools.items()}

    def keep(self, state: State) -> None:
        """Into the state, for a snapshot."""
        for name, split in self._splits.items():
            state.accounts[name] = split.account()
            for campaign, row in zip(self._pools[name], split.rows(), strict=True):
                state.curves[campaign.id] = row

    def fade(self, periods: int) -> None:
        for split in self._splits.values():
            fade(split.evidence, self.config.keep() ** periods)

    def observe(self, name: str, of: Sequence[Tally], times: Sequence[float], start_ns: int) -> None:
        """The pool's period from ``start_ns``: its tallies, and the shares of a day that the plan put into it."""
        s, unit, split, pool = self._state, self._state.units[name], self._splits[name], self._pools[name]
        time = np.array(times)
        spent = np.array([t.spend_agents for t in of]) / unit
        x = np.where(time > 0, spent / np.where(time > 0, time, 1.0), 0.0)
        brought = split.posterior().values(x)
        # lambda is the marginal return of the campaign's money: over its average return, the curve's elasticity
        told = np.array([s.lambdas.get(c.id, np.nan) for c in pool])
        margin = np.where(brought > 0, told * x / np.where(brought > 0, brought, 1.0), np.nan)
        split.observe(
            x=x,
            value=np.array([t.value_agents for t in of]) / unit,
            time=time,
            bucket=self._bucket(start_ns),
            margin=np.where((margin > 0.02) & (margin < 1.0), margin, np.nan),
            delay=np.array([self._lateness(c.id) for c in pool]),
            shown=np.array([t.won for t in of]) / max(1.0, s.requests_a_day),
        )

    def _lateness(self, campaign_id: str) -> list[float]:
        """Shares of a campaign's outcomes by periods since their bid."""
        lags = self._state.lags.get(campaign_id)
        whole = sum(lags) if lags is not None else 0.0
        if lags is None or whole <= 0:
            return [1.0] + [0.0] * LAGS
        return [x / whole for x in lags]

    def _bucket(self, at_ns: int) -> int:
        """Of the day where periods are short, of the week where they are days."""
        if self.config.period_s >= DAY_S:
            return int(at_ns // (DAY_S * NS_PER_S) % 7)
        return int(at_ns % (DAY_S * NS_PER_S) * BUCKETS // (DAY_S * NS_PER_S))

    def propose(self, name: str, now: Array, frozen: Sequence[bool], now_ns: int) -> Proposed | None:
        """``now``: nanos a day by campaign. None: too little is known, or there is nothing to split."""
        split, pool, unit = self._splits[name], self._pools[name], self._state.units[name]
        total = float(now.sum())
        if total <= 0 or int((split.evidence.periods >= 1).sum()) < 2:
            return None
        owners = np.array([c.daily_budget_micros * 1_000.0 for c in pool])
        most = [total if c.budget_max_micros is None else c.budget_max_micros * 1_000.0 for c in pool]
        return split.next(
            now / unit,
            owners * (total / unit / max(1.0, float(owners.sum()))),
            gone=_gone(pool, now_ns),
            bucket=self._bucket(now_ns),
            least=np.array([c.budget_min_micros * 1_000.0 for c in pool]) / unit,
            most=np.array(most) / unit,
            frozen=np.array(frozen),
        )

    def _split_of(self, name: str, pool: list[Campaign]) -> PoolSplit:
        """What is known of the pool; a campaign not yet measured, or a pool grown beyond comparison, begins anew."""
        s = self._state
        equal = max(1.0, sum(c.daily_budget_micros * 1_000 for c in pool) / len(pool))
        unit = s.units.get(name, equal)
        anew = not 1 / UNIT_DRIFT_MAX < equal / unit < UNIT_DRIFT_MAX
        unit = s.units[name] = equal if anew else unit
        split = PoolSplit(
            np.array([_worth_of_one(c) for c in pool]) / unit,
            Model(),
            self.config.safety(),
            self.config.keep(),
            converts=np.array([c.goal in CONVERTING for c in pool]),
            stock_keep=0.5 ** (self.config.period_s / DAY_S / REMEMBERED_DAYS),
            learned=self._residual,
        )
        known = [None if anew else s.curves.get(c.id) for c in pool]
        split.restore(known, None if anew else s.accounts.get(name))
        return split


def _gone(pool: list[Campaign], now_ns: int) -> float:
    """Share of the flights gone that end, 0 where none does."""
    ends = [(c.starts_at_ns, c.ends_at_ns) for c in pool if c.ends_at_ns is not None]
    done = [(now_ns - a) / max(1, b - a) for a, b in ends]
    return min(1.0, max(0.0, sum(done) / len(done))) if done else 0.0


def _worth_of_one(campaign: Campaign) -> float:
    """Of a single outcome, nanos: what value is lumpy in, until it is measured."""
    if campaign.goal is Goal.VALUE:
        return max(1.0, campaign.expected_order_value_micros * 1_000.0)
    return max(1.0, campaign.goal_value_micros * (1.0 if campaign.goal is Goal.REACH else 1_000.0))
