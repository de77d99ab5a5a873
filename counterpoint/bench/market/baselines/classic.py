"""The ladder: one policy made of parts, and the named combinations. What is tuned, and on which seeds: ``tuned.toml``."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Any, Final

import numpy as np

from counterpoint.bench.market.baselines.parts import (
    AsSoonAsPossible,
    Best,
    BetaThompson,
    ByConversions,
    ByReturn,
    CreativeRule,
    DiscountedGreedy,
    Equal,
    Even,
    PaceRule,
    Pid,
    SplitRule,
    Uniform,
    open_for,
)
from counterpoint.bench.market.baselines.rates import Log, as_rows
from counterpoint.bench.market.facts import Facts, Floats
from counterpoint.bench.market.policy import Answers, Books, Feedback, Requests

ALTERNATIVES_HERE: Final = 4
DEFAULTS: Final = {
    "flat_cpm": 2.0,
    "factor": 0.5,
    "linear_cpm": 2.0,
    "gain": 0.1,
    "memory": 0.9,
    "trust": 0.5,
    "trust_return": 0.5,
}


@cache
def tuned(scenario: str) -> dict[str, float]:
    """Parameters found on tuning seeds (0-99) of a scenario; for one never tuned, those of ``default``."""
    text = files("counterpoint.bench.market.baselines").joinpath("tuned.toml").read_text("utf-8")
    found: dict[str, Any] = tomllib.loads(text)
    table = found["parameters"]
    return {**DEFAULTS, **table.get("default", {}), **table.get(scenario, {})}


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
        self._p = {**tuned(facts.scenario), **self._given}
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
        click_worth = log.worth_of_click(when)
        self._value = facts.worth[:, :1] + log.click_rates(when) * click_worth[:, None]
        shown = log.by_campaign(log.impressions[when].sum(axis=0))
        weight = shown + 1.0
        self._mean = float((self._value * weight).sum() / weight.sum())
        self._creative.new_day(log, day)
        clicks = log.by_campaign(log.clicks[when].sum(axis=(0, 2)))
        w = facts.worth
        worth = (
            w[:, 0] * shown.sum(axis=1)
            + w[:, 1] * clicks
            + w[:, 2] * log.conversions[when].sum(axis=0)
            + w[:, 3] * log.revenue[when].sum(axis=0)
        )
        shares = self._split.shares(log, day, worth)
        if shares is None:
            return None
        owner = facts.day_budget_nanos / facts.pool_nanos
        trust = self._p[self._split.trust]
        return np.asarray((1.0 - trust) * owner + trust * shares / shares.sum())

    def decide(self, requests: Requests, books: Books) -> Answers:
        auctions, facts = requests.auctions, self.facts
        n = len(auctions)
        value = self._value[:, auctions.supply].T  # [auction, campaign]
        if self._bid == "flat":
            bids = np.full(value.shape, self._p["flat_cpm"] * 1e6)
        elif self._bid == "value":
            bids = value
        elif self._bid == "factor":
            bids = value * self._p["factor"]
        else:
            bids = value * (self._p["linear_cpm"] * 1e6 / self._mean)
        bids = np.minimum(bids * self._pace.factor(books), facts.ceiling_micros)
        limit = self._pace.limit(books)
        money = books.left_nanos if limit is None else np.minimum(limit, books.left_nanos)
        allowed = open_for(requests, money) & (bids >= auctions.floor_micros[:, None]) & (bids >= 1.0)
        # whose bid is highest; among equals, chance
        rank = np.where(allowed, bids * (1.0 + 1e-9 * self._rng.random(bids.shape)), -1.0)
        order = np.argsort(-rank, axis=1, kind="stable")[:, :ALTERNATIVES_HERE]
        creative = np.full((n, order.shape[1]), -1, dtype=np.int64)
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


Parts = dict[str, float]


def _classic(
    name: str,
    bid: str = "value",
    creative: Callable[[Parts], CreativeRule] = lambda p: Best(),
    split: SplitRule | None = None,
    pace: Callable[[Parts], PaceRule] = lambda p: Even(),
) -> Callable[[Parts | None], Classic]:
    def make(parameters: Parts | None) -> Classic:
        return Classic(name, bid, creative, split or ByConversions(), pace, parameters)

    return make


# all but the first two: B1 with the named part replaced
LADDER: Final[dict[str, Callable[[Parts | None], Classic]]] = {
    "naive": _classic("naive", "flat", lambda p: Uniform(), Equal(), lambda p: AsSoonAsPossible()),
    "manual": _classic("manual"),
    "shade": _classic("shade", "factor"),
    "linear": _classic("linear", "linear"),
    "pid": _classic("pid", "value", pace=lambda p: Pid(p["gain"])),
    "roas": _classic("roas", split=ByReturn()),
    "greedy": _classic("greedy", creative=lambda p: DiscountedGreedy(p["memory"])),
    "thompson": _classic("thompson", creative=lambda p: BetaThompson(p["memory"])),
    # what a skilled team would put together of these
    "tools": _classic(
        "tools", "value", lambda p: BetaThompson(p["memory"]), ByReturn(), lambda p: Pid(p["gain"])
    ),
}
