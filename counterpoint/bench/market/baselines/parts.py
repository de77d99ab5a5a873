"""Exchangeable parts of a manual or classic setup: which creative, how the pool is split, how it is paced."""

from __future__ import annotations

from typing import Final, Protocol

import numpy as np

from counterpoint.bench.market.baselines.rates import WEEK_DAYS, Log
from counterpoint.bench.market.facts import Bools, Facts, Floats
from counterpoint.bench.market.policy import Books, Feedback, Requests
from counterpoint.market.auctions import Rows

EXPLORED: Final = 0.05  # share of impressions that greedy rules give to chance
SPLIT_FLOOR: Final = 0.1  # of an equal share: nobody is starved for want of news


# ---- creatives


class CreativeRule(Protocol):
    def begin(self, facts: Facts, rng: np.random.Generator) -> None: ...

    def new_day(self, log: Log, day: int) -> None: ...

    def scores(self, requests: Requests) -> Floats:
        """[auction, creative]: among those that fit, the highest is shown. New draws each batch."""


class Uniform:
    """Every fitting creative alike."""

    def begin(self, facts: Facts, rng: np.random.Generator) -> None:
        self._rng, self._count = rng, facts.creative_campaign.size

    def new_day(self, log: Log, day: int) -> None:
        pass

    def scores(self, requests: Requests) -> Floats:
        return self._rng.random((len(requests.auctions), self._count))


class _Counting:
    """Discounted clicks and impressions per creative, by a factor a day."""

    def __init__(self, memory: float) -> None:
        self.memory = memory

    def begin(self, facts: Facts, rng: np.random.Generator) -> None:
        self._facts, self._rng = facts, rng
        self._wins = np.zeros(facts.creative_campaign.size)
        self._losses = np.zeros(facts.creative_campaign.size)
        self._prior = facts.click_prior[facts.creative_campaign]
        self._strength = 2.0 / self._prior  # two clicks' worth of impressions

    def new_day(self, log: Log, day: int) -> None:
        age = self.memory ** np.arange(day - 1, -1, -1)
        clicks = (log.clicks[:day].sum(axis=2) * age[:, None]).sum(axis=0)
        shown = (log.impressions[:day].sum(axis=2) * age[:, None]).sum(axis=0)
        # the prior: what the line item's creatives do on the whole
        line = self._facts.creative_line_item
        of_line = np.bincount(line, clicks) + 2.0
        shown_line = np.bincount(line, shown) + np.bincount(line, self._strength) / np.bincount(line)
        self._prior = (of_line / shown_line)[line]
        self._wins, self._losses = clicks, np.maximum(shown - clicks, 0.0)

    def _rates(self) -> Floats:
        strength = 2.0 / self._prior
        return np.asarray((self._wins + 2.0) / (self._wins + self._losses + strength))


class Best(_Counting):
    """Last week's best creative; before there is news, all alike."""

    def __init__(self) -> None:
        super().__init__(1.0)

    def new_day(self, log: Log, day: int) -> None:
        when = log.window(day)
        self._wins = log.clicks[when].sum(axis=(0, 2))
        shown = log.impressions[when].sum(axis=(0, 2))
        self._losses = np.maximum(shown - self._wins, 0.0)

    def scores(self, requests: Requests) -> Floats:
        n = len(requests.auctions)
        if not self._losses.any():
            return self._rng.random((n, self._wins.size))
        scores = np.broadcast_to(self._rates(), (n, self._wins.size))
        return np.where(self._rng.random((n, 1)) < EXPLORED, self._rng.random(scores.shape), scores)


class DiscountedGreedy(_Counting):
    def scores(self, requests: Requests) -> Floats:
        n = len(requests.auctions)
        scores = np.broadcast_to(self._rates(), (n, self._wins.size))
        return np.where(self._rng.random((n, 1)) < EXPLORED, self._rng.random(scores.shape), scores)


class BetaThompson(_Counting):
    """A draw per auction from each creative's Beta posterior (16 shared sets of draws a batch)."""

    DRAWS: Final = 16

    def scores(self, requests: Requests) -> Floats:
        strength = 2.0 / self._prior
        draws = self._rng.beta(
            self._wins + 2.0,
            np.maximum(self._losses + strength - 2.0, 1.0),
            (self.DRAWS, self._wins.size),
        )
        return np.asarray(draws[self._rng.integers(0, self.DRAWS, len(requests.auctions))])


# ---- split of the pool


class SplitRule(Protocol):
    trust: str  # name of the parameter: how far this rule replaces the owner's split

    def shares(self, log: Log, day: int, worth: Floats) -> Floats | None:
        """``worth``: [campaign] nanos told to be earned in the last period."""


class Equal:
    trust = "trust"

    def shares(self, log: Log, day: int, worth: Floats) -> Floats | None:
        return np.ones(log.facts.campaigns)


class ByConversions:
    """Budgets by last period's results (conversions, or what the goal counts), each in units of its worth."""

    trust = "trust"

    def shares(self, log: Log, day: int, worth: Floats) -> Floats | None:
        if day < WEEK_DAYS // 3 or not worth.any():
            return None
        return np.asarray(np.maximum(worth, SPLIT_FLOOR * worth.mean()))


class ByReturn:
    """Return on ad spend of the last period times spend's fair share: money goes where a unit of it earned most."""

    trust = "trust_return"

    def shares(self, log: Log, day: int, worth: Floats) -> Floats | None:
        spend = log.spend[log.window(day)].sum(axis=0)
        if not (spend > 0).any() or not worth.any():
            return None
        fair = spend.sum() / spend.size
        # a campaign without spend is taken to earn what all do
        mean = worth.sum() / spend.sum()
        returns = (worth + mean * 0.1 * fair) / (spend + 0.1 * fair)
        return np.asarray(np.maximum(returns, SPLIT_FLOOR * returns.mean()))


# ---- pacing


class PaceRule(Protocol):
    def begin(self, facts: Facts) -> None: ...

    def factor(self, books: Books) -> Floats:
        """[campaign] what bids are multiplied by."""

    def limit(self, books: Books) -> Rows | None:
        """[campaign] nanos this batch may spend at most."""

    def learn(self, feedback: Feedback) -> None: ...


class AsSoonAsPossible:
    def begin(self, facts: Facts) -> None:
        self._one = np.ones(facts.campaigns)

    def factor(self, books: Books) -> Floats:
        return self._one

    def limit(self, books: Books) -> Rows | None:
        return None

    def learn(self, feedback: Feedback) -> None:
        pass


class Even(AsSoonAsPossible):
    """No more than the share of the day that has gone by the batch's end."""

    def limit(self, books: Books) -> Rows | None:
        spent = books.budget_nanos - books.left_nanos
        return np.asarray(
            np.maximum(np.floor(books.budget_nanos * books.day_share_end).astype(np.int64) - spent, 0)
        )


class Pid(AsSoonAsPossible):
    """Bids x exp(u), u a PID of the relative gap to the plan (Zhang et al. 2016), with anti-windup.

    The plan follows the traffic of the hours as seen on earlier days; on the first day it is even.
    """

    BOUNDS: Final = (-4.0, 1.0)

    def __init__(self, gain: float) -> None:
        self.gain = gain

    def begin(self, facts: Facts) -> None:
        super().begin(facts)
        self._sum = np.zeros(facts.campaigns)
        self._last = np.zeros(facts.campaigns)
        self._u = np.zeros(facts.campaigns)
        self._traffic = np.full(24, facts.auctions_a_day / 24.0)

    def factor(self, books: Books) -> Floats:
        budget = np.maximum(books.budget_nanos, 1).astype(np.float64)
        spent = 1.0 - books.left_nanos / budget
        hours = np.concatenate([[0.0], np.cumsum(self._traffic)]) / self._traffic.sum()
        plan = float(np.interp(24.0 * books.day_share, np.arange(25), hours))
        error = plan - spent
        step = self.gain * (error + 2.0 * (error - self._last))
        low, high = self.BOUNDS
        self._sum = np.clip(self._sum + step, low, high)  # clipped: no wind-up
        self._last = error
        if books.day_share <= 0.02:
            self._last = np.zeros_like(self._last)
        self._u = np.clip(self._sum, low, high)
        return np.asarray(np.exp(self._u))

    def learn(self, feedback: Feedback) -> None:
        hour = feedback.requests.auctions.hour_of_week % 24
        counts = np.bincount(hour, minlength=24)[:24]
        self._traffic = self._traffic * (1.0 - (counts > 0) * 0.02) + 0.14 * counts


def closed(scores: Floats, allowed: Bools) -> Floats:
    return np.where(allowed, scores, -np.inf)


def open_for(requests: Requests, money: Rows) -> Bools:
    return np.asarray(requests.open & (money > 0))
