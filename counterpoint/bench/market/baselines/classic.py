"""One policy made of parts: what a manual or classic setup is. The named ones: ``ladder.py``; their constants: ``tuned.toml``."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Any, Final

import numpy as np

from counterpoint.bench.market.baselines.parts import CreativeRule, PaceRule, SplitRule, open_for
from counterpoint.bench.market.baselines.rates import Log, as_rows
from counterpoint.bench.market.facts import Facts, Floats
from counterpoint.bench.market.policy import Answers, Books, Feedback, Requests
from counterpoint.market.auctions import Rows

ALTERNATIVES_HERE: Final = 4
UNTUNED: Final = "stationary-v1"
TUNED: Final = "tuned.toml"


@cache
def constants() -> dict[str, Any]:
    """``tuned.toml``: a table per scenario, in it the digest it had then, and a table per player."""
    text = files("counterpoint.bench.market.baselines").joinpath(TUNED).read_text("utf-8")
    return tomllib.loads(text)


def tuned(scenario: str, player: str) -> dict[str, float]:
    """Constants found on tuning seeds (0-99); a scenario of your own plays with those of ``stationary-v1``,
    a player of your own has none."""
    tables = constants()
    found: dict[str, float] = tables.get(scenario, tables[UNTUNED]).get(player, {})
    return found


class Classic:
    """Values from last week's rates; a bid rule; and the parts.

    Bid rules, of the estimated value v (micros CPM, at the goal): ``flat`` bids ``flat_cpm`` everywhere; ``factor`` bids
    factor x v; ``linear`` bids ``linear_cpm`` x v / mean of v (Perlich et al. 2012). All are cut at ceiling.
    """

    def __init__(
        self,
        name: str,
        bid: str,
        creative: Callable[[dict[str, float]], CreativeRule],
        split: SplitRule,
        pace: Callable[[dict[str, float]], PaceRule],
        parameters: dict[str, float] | None = None,
    ) -> None:
        assert bid in ("flat", "value", "factor", "linear"), bid
        self.name = name
        self._bid, self._make_creative, self._split, self._make_pace = bid, creative, split, pace
        self._given = parameters or {}

    def begin(self, facts: Facts, seed: int) -> None:
        self.facts = facts
        self._p = {**tuned(facts.scenario, self.name), **self._given}
        self._log = Log(facts)
        self._creative = self._make_creative(self._p)
        self._creative.begin(facts, np.random.default_rng([seed, 1]))
        self._pace = self._make_pace(self._p)
        self._pace.begin(facts)
        self._rng = np.random.default_rng([seed, 2])
        firsts = np.searchsorted(facts.creative_campaign, np.arange(facts.campaigns + 1))
        self._ranges = list(zip(firsts[:-1].tolist(), firsts[1:].tolist(), strict=True))
        self._value: Floats = np.zeros((facts.campaigns, facts.supply_venue.size))
        self._mean = 1.0

    def split(self, day: int) -> Floats | None:
        log, facts = self._log, self.facts
        when = log.window(day)
        self._know(log, when)
        self._creative.new_day(log, day)
        shown = log.by_campaign(log.impressions[when].sum(axis=(0, 2)))
        clicks = log.by_campaign(log.clicks[when].sum(axis=(0, 2)))
        w = facts.worth
        worth = (
            w[:, 0] * shown
            + w[:, 1] * clicks
            + w[:, 2] * log.conversions[when].sum(axis=0)
            + w[:, 3] * log.revenue[when].sum(axis=0)
        )
        shares = self._split.shares(log, day, worth)
        if shares is None:
            return None
        owner = facts.day_budget_nanos / facts.pool_nanos
        trust = self._p.get("trust", 1.0)
        return np.asarray((1.0 - trust) * owner + trust * shares / shares.sum())

    def _know(self, log: Log, when: slice) -> None:
        """Sets the estimated value [campaign, supply path], and its mean over impressions, from these days' log."""
        self._value = self.facts.worth[:, :1] + log.click_rates(when) * log.worth_of_click(when)[:, None]
        weight = log.by_campaign(log.impressions[when].sum(axis=0)) + 1.0
        self._mean = float((self._value * weight).sum() / weight.sum())

    def values(self, requests: Requests) -> Floats:
        """[auction, campaign] what an impression is thought to be worth, micros CPM."""
        return np.asarray(self._value[:, requests.auctions.supply].T)

    def _bids(self, requests: Requests, books: Books) -> Floats:
        """[auction, campaign] micros CPM."""
        value = self.values(requests)
        if self._bid == "flat":
            bids = np.full(value.shape, self._p["flat_cpm"] * 1e6)
        elif self._bid == "value":
            bids = value
        elif self._bid == "factor":
            bids = value * self._p["factor"]
        else:
            bids = value * (self._p["linear_cpm"] * 1e6 / self._mean)
        return np.asarray(np.minimum(bids * self._pace.factor(books), self.facts.ceiling_micros))

    def decide(self, requests: Requests, books: Books) -> Answers:
        bids = self._bids(requests, books)
        return self.answer(requests, books, bids, bids, self._pace.limit(books))

    def answer(
        self, requests: Requests, books: Books, bids: Floats, scores_of: Floats, limit: Rows | None
    ) -> Answers:
        """``bids`` and ``scores_of``: [auction, campaign]; whose score is highest goes first, among equals, chance."""
        auctions, facts = requests.auctions, self.facts
        money = books.left_nanos if limit is None else np.minimum(limit, books.left_nanos)
        allowed = open_for(requests, money) & (bids >= auctions.floor_micros[:, None]) & (bids >= 1.0)
        rank = np.where(allowed, scores_of * (1.0 + 1e-9 * self._rng.random(bids.shape)), -1.0)
        order = np.argsort(-rank, axis=1, kind="stable")[:, :ALTERNATIVES_HERE]
        creative = np.full(order.shape, -1, dtype=np.int64)
        fits = facts.living(int(auctions.t_ns[0])) & facts.living(int(auctions.t_ns[-1]))
        scores = self._creative.scores(requests)
        for c, (first, end) in enumerate(self._ranges):
            rows, places = np.nonzero((order == c) & allowed[:, c, None])
            if rows.size:
                able = fits[requests.formats[rows], first:end]
                best = np.where(able, scores[rows, first:end], -1.0).argmax(axis=1)
                found = able[np.arange(rows.size), best]
                creative[rows, places] = np.where(found, first + best, -1)
        taken = np.take_along_axis(bids, order, axis=1)
        return Answers(
            creative=creative, bid_micros=np.where(creative >= 0, as_rows(taken), 0), limit_nanos=limit
        )

    def learn(self, feedback: Feedback) -> None:
        self._log.add(feedback)
        self._pace.learn(feedback)
