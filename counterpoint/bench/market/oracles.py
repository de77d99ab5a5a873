"""What is possible: players who know the market's parameters, and bounds that no player can pass.

* ``oracle`` knows every probability and the distribution of the rivals' best bid, not its draw. Each auction it bids
  argmax (v - l b) P(win at b), v its best campaign's true worth, with one price of money l a day, found by bisection so
  that the money planned for the rest of the day is the money left (ALGORITHMS 1.3). For independent auctions and a
  budget in expectation that is the optimum (Lagrangian, below); with fatigue, carry-over, caps or rivals that answer
  it is greedy: it does not weigh what showing now takes from later. So it is an oracle of parameters, not *the* optimum.
* ``bound-hindsight`` H: knows every rival's bid. Per day: the linear relaxation of the knapsack over (auction, campaign)
  with the pooled budget, each auction worth the most it can be to any campaign at the most favourable exposure and
  stock (``known.best_stock``), at the least price that wins. A valid bound on every policy on every seed: each relaxation
  only adds (rivals' answers and floors' answers only raise prices; caps and integrality only forbid). Solved exactly by
  worth per cost, since one constraint is left (Dantzig 1957). Unreachable: never read it as regret.
* ``bound-known`` K: weak Lagrangian duality for players who do not know the rivals' draws: per day, for any l >= 0,
  E[value] <= l budget + sum_i max_b E[(v_i - l paid) 1{won}], from above on a grid of bids. Holds in expectation over
  the rivals' draws given people and pages, so a lucky seed may pass it; regret is reported against it.

What is a valid bound. Let V be a policy's value, P people and pages. V <= H on every seed, so one seed above H is a bug.
E[V | P] <= K(P), so V - K has a mean <= 0 and any sign on one seed: it is judged on the mean over seeds, with an
interval. Hence E V <= E K and E V <= E H, so min(E K, E H) is valid, and the board reports min(mean K, mean H) over its
seeds. The mean of each seed's min(K, H) is *not* valid (V = H, K = E H: E min(K, H) < E V). Nor need K <= H hold on a
seed, or in the mean: K keeps one price of money for all draws, H has the best one of each.

Exact up to a day's last auction only where auctions do not touch each other (no fatigue, carry-over, caps, answering
rivals): the dual is then met by the oracle's own plan. No permanent scenario is of that kind, so both are called bounds.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from msgspec import Struct

from counterpoint.bench.market.facts import Facts, Floats, facts_of
from counterpoint.bench.market.known import (
    as_int,
    best_stock,
    dual_of,
    grid_micros,
    respond_to,
    true_values,
    win_table,
)
from counterpoint.bench.market.policy import Answers, Books, Feedback, Requests
from counterpoint.market.auctions import Auctions, Rows
from counterpoint.market.scenario import DAY_NS, STARTS_AT_NS
from counterpoint.market.state import Exposures, Pressure, Stock
from counterpoint.market.world import World

PLAYED_RATIO: Final = 1.1  # grid of the oracle's bids
BOUND_RATIO: Final = 1.06  # grid of the bound: the finer, the tighter
ALTERNATIVES_HERE: Final = 3
BISECTIONS: Final = 25


class Bounds(Struct, frozen=True, kw_only=True):
    """Upper bounds on the expected value of the judged days, nanos."""

    hindsight: float
    known: float


class JointOracle:
    """``best_creative`` False: creatives are drawn alike, so the rest of what it knows is judged alone."""

    def __init__(self, name: str = "oracle", best_creative: bool = True) -> None:
        self.name = name
        self._best_creative = best_creative

    def begin(self, facts: Facts, seed: int) -> None:
        self.facts = facts
        self._rng = np.random.default_rng([seed, 3])

    def reveal(self, world: World, exposures: Exposures, stock: Stock, pressure: Pressure | None) -> None:
        self._world, self._exposures, self._stock, self._pressure = world, exposures, stock, pressure
        self._days = world.day_auctions()
        self._grid = grid_micros(int(self.facts.ceiling_micros.max()), PLAYED_RATIO)
        c = world.scenario.carry_over
        self._carries = c.gain > 0.0 or c.saturates_at is not None

    def split(self, day: int) -> Floats | None:
        first, end = self._days[day]
        world = self._world
        self._first = first
        auctions = world.batch(first, end - first, self._pressure)
        at_ns = STARTS_AT_NS + day * DAY_NS
        stock = self._stock.at(at_ns) if self._carries else None
        values = self._worth(auctions, stock)[0]
        self._top = values.max(axis=1)
        self._campaign = values.argmax(axis=1)
        self._floor = auctions.floor_micros.astype(np.float64)
        self._second = auctions.auction_type == 2
        self._odds = win_table(world, auctions, world.truth(auctions, self._pressure), self._grid)
        return self._plan(0, float(self.facts.pool_nanos))[1]

    def _worth(self, auctions: Auctions, stock: Floats | None) -> tuple[Floats, Rows]:
        values = true_values(self._world, self.facts, auctions, self._exposures, stock)
        worth = values.best if self._best_creative else values.mean
        # somebody who cannot be counted is not shown what has a cap
        unknown = ~auctions.known_user
        worth[np.ix_(unknown, self.facts.frequency_cap > 0)] = 0.0
        return worth, values.creative

    def _plan(self, start: int, money: float) -> tuple[float, Floats]:
        """Price of money at which the rest of the day costs ``money``, and who then spends what."""
        rows = slice(start, None)
        n = self._top[rows].shape[0]
        bid, cost, gain = np.empty(n), np.empty(n), np.empty(n)

        def spend(price: float) -> float:
            respond_to(
                self._top[rows], price, self._floor[rows], self._second[rows],
                self._grid, self._odds[rows], bid, cost, gain,
            )  # fmt: skip
            return float(cost.sum())

        low, high = 1e-3, 1e3
        for _ in range(BISECTIONS):
            middle = float(np.sqrt(low * high))
            if spend(middle) > money:
                low = middle
            else:
                high = middle
        spend(high)
        by_campaign = np.bincount(self._campaign[rows], weights=cost, minlength=self.facts.campaigns)
        return high, by_campaign + 1e-3 * (by_campaign.sum() + 1.0) / self.facts.campaigns

    def decide(self, requests: Requests, books: Books) -> Answers:
        world, facts = self._world, self.facts
        index = requests.auctions.index
        n = index.shape[0]
        # the truth knows everybody; only floors that answer us differ from what a fresh draw tells
        auctions = world.batch(int(index[0]), n, self._pressure)
        start = int(index[0]) - self._first
        price, split = self._plan(start, float(books.left_nanos.sum()))
        stock = self._stock.at(int(auctions.t_ns[0])) if self._carries else None
        worth, creatives = self._worth(auctions, stock)
        worth = np.where(requests.open, worth, 0.0)
        odds = (
            self._odds[start : start + n]
            if self._pressure is None
            else win_table(world, auctions, world.truth(auctions, self._pressure), self._grid)
        )
        if not self._best_creative:
            creatives = self._any(requests)
        order = np.argsort(-worth, axis=1, kind="stable")[:, :ALTERNATIVES_HERE]
        floor = auctions.floor_micros.astype(np.float64)
        bids = np.zeros(order.shape)
        cost, gain = np.empty(n), np.empty(n)
        for k in range(order.shape[1]):
            column = np.ascontiguousarray(np.take_along_axis(worth, order[:, k : k + 1], axis=1)[:, 0])
            out = np.empty(n)
            respond_to(column, price, floor, auctions.auction_type == 2, self._grid, odds, out, cost, gain)
            bids[:, k] = np.minimum(out, facts.ceiling_micros[order[:, k]])
        bid = as_int(bids)
        creative = np.where(bid > 0, np.take_along_axis(creatives, order, axis=1), -1)
        return Answers(creative=creative, bid_micros=bid, split=split)

    def _any(self, requests: Requests) -> Rows:
        facts = self.facts
        auctions = requests.auctions
        able = facts.living(int(auctions.t_ns[0])) & facts.living(int(auctions.t_ns[-1]))
        scores = np.where(able[requests.formats], self._rng.random((len(auctions), able.shape[1])), -1.0)
        out = np.full((len(auctions), facts.campaigns), -1, dtype=np.int64)
        firsts = np.searchsorted(facts.creative_campaign, np.arange(facts.campaigns + 1)).tolist()
        for c in range(facts.campaigns):
            mine = scores[:, firsts[c] : firsts[c + 1]]
            best = mine.argmax(axis=1)
            out[:, c] = np.where(mine[np.arange(mine.shape[0]), best] >= 0.0, firsts[c] + best, -1)
        return out

    def learn(self, feedback: Feedback) -> None:
        pass


def bounds(world: World, facts: Facts | None = None) -> Bounds:
    """Of the judged days (after the warm-up) of one seed."""
    facts = facts if facts is not None else facts_of(world.scenario, world.design)
    grid = grid_micros(int(facts.ceiling_micros.max()), BOUND_RATIO)
    carried = best_stock(world)
    stock, slack = (None, 1.0) if carried is None else (carried.stock, carried.slack)
    hindsight = known = 0.0
    for day, (first, end) in enumerate(world.day_auctions()):
        if day < facts.warm_up_days or first == end:
            continue
        auctions = world.batch(first, end - first)
        truth = world.truth(auctions)
        worth = true_values(world, facts, auctions, None, stock).best * slack
        able = truth.threshold_micros[:, None] <= facts.ceiling_micros
        hindsight += knapsack(
            np.where(able, worth, 0.0).max(axis=1),
            truth.threshold_micros.astype(np.float64),
            float(facts.pool_nanos),
        )
        known += _dual(world, facts, auctions, worth.max(axis=1), grid)
    return Bounds(hindsight=hindsight, known=known)


def knapsack(worth: Floats, price: Floats, budget: float) -> float:
    """Largest worth for the budget when parts of items may be had: the linear relaxation, exactly.

    >>> knapsack(np.array([6.0, 10.0, 12.0]), np.array([1.0, 2.0, 3.0]), 5.0)
    24.0
    """
    useful = np.flatnonzero(worth > 0.0)
    worth, price = worth[useful], np.maximum(price[useful], 0.0)
    order = np.argsort(-(worth / np.maximum(price, 1e-9)), kind="stable")
    spent = np.cumsum(price[order])
    whole = int(np.searchsorted(spent, budget, side="right"))
    total = float(worth[order[:whole]].sum())
    if whole < order.size:
        left = budget - (float(spent[whole - 1]) if whole else 0.0)
        total += float(worth[order[whole]]) * left / float(price[order[whole]])
    return total


def _dual(world: World, facts: Facts, auctions: Auctions, worth: Floats, grid: Floats) -> float:
    truth = world.truth(auctions)
    odds = win_table(world, auctions, truth, grid)
    floor = auctions.floor_micros.astype(np.float64)
    most = np.full(len(auctions), float(facts.ceiling_micros.max()))
    budget = float(facts.pool_nanos)

    def at_price(price: float) -> float:
        return price * budget + dual_of(worth, price, floor, auctions.auction_type == 2, grid, odds, most)

    def dual(log_price: float) -> float:
        return at_price(float(np.exp(log_price)))

    # convex in the price: golden section; every point is a valid bound, so how near it comes only tightens it
    low, high, ratio = -5.0, 5.0, 0.6180339887498949
    a, b = high - ratio * (high - low), low + ratio * (high - low)
    at_a, at_b = dual(a), dual(b)
    for _ in range(18):
        if at_a < at_b:
            high, b, at_b = b, a, at_a
            a = high - ratio * (high - low)
            at_a = dual(a)
        else:
            low, a, at_a = a, b, at_b
            b = low + ratio * (high - low)
            at_b = dual(b)
    return min(at_price(0.0), at_a, at_b)  # 0: where the budget does not bind
