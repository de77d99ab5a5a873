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


class Counting:
    """Discounted clicks and impressions per creative, by a factor a day."""

    def __init__(self, memory: float, strength: float = 2.0) -> None:
        """``strength``: clicks that the prior counts as."""
        self.memory, self.strength = memory, strength

    def begin(self, facts: Facts, rng: np.random.Generator) -> None:
        self._facts, self._rng = facts, rng
        self._wins = np.zeros(facts.creative_campaign.size)
        self._losses = np.zeros(facts.creative_campaign.size)
        self._prior = facts.click_prior[facts.creative_campaign]

    def new_day(self, log: Log, day: int) -> None:
        age = self.memory ** np.arange(day - 1, -1, -1)
        clicks = (log.clicks[:day].sum(axis=2) * age[:, None]).sum(axis=0)
        shown = (log.impressions[:day].sum(axis=2) * age[:, None]).sum(axis=0)
        self._prior = self._pooled(clicks, shown)
        self._wins, self._losses = clicks, np.maximum(shown - clicks, 0.0)

    def _groups(self) -> Rows:
        """Whose creatives are each other's prior: the line item's."""
        return self._facts.creative_line_item

    def _pooled(self, clicks: Floats, shown: Floats) -> Floats:
        """[creative] rate of its group, with the owner's guess as prior."""
        group = self._groups()
        guess = self._facts.click_prior[self._facts.creative_campaign]
        members = np.maximum(np.bincount(group), 1)
        of_group = np.bincount(group, clicks) + self.strength
        shown_group = np.bincount(group, shown) + np.bincount(group, self.strength / guess) / members
        return np.asarray((of_group / shown_group)[group])

    def _rates(self) -> Floats:
        seen = self._wins + self._losses + self.strength / self._prior
        return np.asarray((self._wins + self.strength) / seen)


class Best(Counting):
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


class DiscountedGreedy(Counting):
    def scores(self, requests: Requests) -> Floats:
        n = len(requests.auctions)
        scores = np.broadcast_to(self._rates(), (n, self._wins.size))
        return np.where(self._rng.random((n, 1)) < EXPLORED, self._rng.random(scores.shape), scores)


class BetaThompson(Counting):
    """A draw per auction from each creative's Beta posterior (16 shared sets of draws a batch).

    ``temper`` below 1 draws from a posterior as narrow as if there were 1 / temper times the news: less exploring.
    """

    DRAWS: Final = 16

    def __init__(self, memory: float, strength: float = 2.0, temper: float = 1.0) -> None:
        super().__init__(memory, strength)
        self.temper = temper

    def scores(self, requests: Requests) -> Floats:
        k = self.strength
        draws = self._rng.beta(
            (self._wins + k) / self.temper,
            np.maximum(self._losses + k / self._prior - k, 1.0) / self.temper,
            (self.DRAWS, self._wins.size),
        )
        return np.asarray(draws[self._rng.integers(0, self.DRAWS, len(requests.auctions))])


# ---- split of the pool


class SplitRule(Protocol):
    def shares(self, log: Log, day: int, worth: Floats) -> Floats | None:
        """``worth``: [campaign] nanos told to be earned in the last period."""


class Equal:
    def shares(self, log: Log, day: int, worth: Floats) -> Floats | None:
        return np.ones(log.facts.campaigns)


class ByConversions:
    """Budgets by last period's results (conversions, or what the goal counts), each in units of its worth."""

    def shares(self, log: Log, day: int, worth: Floats) -> Floats | None:
        if day < WEEK_DAYS // 3 or not worth.any():
            return None
        return np.asarray(np.maximum(worth, SPLIT_FLOOR * worth.mean()))


class Fixed:
    """The same shares on every day."""

    def __init__(self, shares: Floats) -> None:
        self._shares = shares

    def shares(self, log: Log, day: int, worth: Floats) -> Floats | None:
        return self._shares


class ByReturn:
    """Return on ad spend of the last period times spend's fair share: money goes where a unit of it earned most."""

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


class Hours:
    """How a day's traffic falls on its hours, as seen so far; even before there is news."""

    def __init__(self, facts: Facts) -> None:
        self._traffic = np.full(24, facts.auctions_a_day / 24.0)

    def gone(self, day_share: float) -> float:
        """Share of the day's traffic that has come when this share of its time has gone."""
        hours = np.concatenate([[0.0], np.cumsum(self._traffic)]) / self._traffic.sum()
        return float(np.interp(24.0 * day_share, np.arange(25), hours))

    def learn(self, feedback: Feedback) -> None:
        hour = feedback.requests.auctions.hour_of_week % 24
        counts = np.bincount(hour, minlength=24)[:24]
        self._traffic = self._traffic * (1.0 - (counts > 0) * 0.02) + 0.14 * counts


class Pid(AsSoonAsPossible):
    """Bids x exp(u), u a PID of the relative gap to the plan (Zhang et al. 2016), with anti-windup.

    The plan follows the traffic of the hours as seen on earlier days; on the first day it is even.
    """

    LOW: Final = -4.0

    def __init__(self, gain: float, top: float = 1.0) -> None:
        """Bids never above exp(``top``) times what they would be."""
        self.gain, self.top = gain, top

    def begin(self, facts: Facts) -> None:
        super().begin(facts)
        self._sum = np.zeros(facts.campaigns)
        self._last = np.zeros(facts.campaigns)
        self._hours = Hours(facts)

    def factor(self, books: Books) -> Floats:
        budget = np.maximum(books.budget_nanos, 1).astype(np.float64)
        spent = 1.0 - books.left_nanos / budget
        error = self._hours.gone(books.day_share) - spent
        step = self.gain * (error + 2.0 * (error - self._last))
        self._sum = np.clip(self._sum + step, self.LOW, self.top)  # clipped: no wind-up
        self._last = error
        if books.day_share <= 0.02:
            self._last = np.zeros_like(self._last)
        return np.asarray(np.exp(self._sum))

    def learn(self, feedback: Feedback) -> None:
        self._hours.learn(feedback)


def closed(scores: Floats, allowed: Bools) -> Floats:
    return np.where(allowed, scores, -np.inf)


def open_for(requests: Requests, money: Rows) -> Bools:
    return np.asarray(requests.open & (money > 0))
