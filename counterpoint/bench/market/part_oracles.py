"""Oracles of one part: one part of the work is done by the truth, the others as well as ``tools`` or ``pid`` can.

What each knows, and what is given, so that the gain over its base says what that part alone could earn:

* ``oracle-bids`` (base ``tools``): the true worth of the creative it is about to show to this very person, and the
  distribution of the rivals' best bid. The owner's split is given and never moved: one price of money per campaign and
  day. Creatives are those of ``tools``, learned from its own log.
* ``oracle-split`` (base ``pid``): how much true worth and cost the competent bids of ``pid`` bring each campaign today at
  any height of theirs, hence the split that earns most; three tenths of the way there a day, since PID follows slowly.
  A campaign's response is taken over the auctions where its estimate is highest, so what campaigns take from each other
  when budgets move is left out: near the best split, not it.
* ``oracle-creatives`` (base ``tools``): which creative of a campaign is worth most to this very person. Which campaign
  bids, and how much, is left to ``tools``, whose estimates hear of better creatives only through its own log.

None of them is a bound, and none stands above players that are strong in another part. Like ``oracle`` they do not weigh
what showing now takes from later.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from counterpoint.bench.market.baselines.chest import CREATIVE_CLICKS, ByFormat, Chest
from counterpoint.bench.market.baselines.classic import Classic, tuned
from counterpoint.bench.market.baselines.parts import Best, ByConversions, Pid
from counterpoint.bench.market.baselines.rates import Log
from counterpoint.bench.market.facts import Bools, Facts, Floats
from counterpoint.bench.market.known import (
    as_int,
    grid_micros,
    respond_to,
    shown_values,
    true_values,
    win_table,
)
from counterpoint.bench.market.policy import Answers, Books, Feedback, Requests
from counterpoint.market.auctions import Auctions, Rows
from counterpoint.market.scenario import DAY_NS, STARTS_AT_NS
from counterpoint.market.state import Exposures, Pressure, Stock
from counterpoint.market.world import World

PLAYED_RATIO: Final = 1.1  # grid of bids
ROUNDS_OF_A_DAY: Final = 30  # steps towards the campaigns' prices of money, at a day's begin
ROUNDS_OF_A_BATCH: Final = 4
ALTERNATIVES_HERE: Final = 3
HEIGHTS: Final = np.exp(np.linspace(-4.0, 1.0, 31))  # of the competent bids, as PID may set them
LEAST_SHARE: Final = 0.02
NEW_SHARE: Final = 0.3  # how far a day's split moves to that day's best, since PID follows slowly


class Truths:
    """What a run reveals, and the questions that the oracles ask of it."""

    def __init__(
        self, world: World, facts: Facts, exposures: Exposures, stock: Stock, pressure: Pressure | None
    ) -> None:
        self._world, self._facts, self._exposures = world, facts, exposures
        self._stock, self._pressure = stock, pressure
        self._days = world.day_auctions()
        self.grid = grid_micros(int(facts.ceiling_micros.max()), PLAYED_RATIO)
        c = world.scenario.carry_over
        self._carries = c.gain > 0.0 or c.saturates_at is not None
        self.answers = pressure is not None

    def day(self, day: int) -> Auctions:
        first, end = self._days[day]
        return self._world.batch(first, end - first, self._pressure)

    def batch(self, requests: Requests) -> Auctions:
        """The same auctions with everybody known."""
        index = requests.auctions.index
        return self._world.batch(int(index[0]), index.shape[0], self._pressure)

    def first_of(self, day: int) -> int:
        return self._days[day][0]

    def odds(self, auctions: Auctions) -> Floats:
        """[auction, grid] of winning."""
        truth = self._world.truth(auctions, self._pressure)
        return win_table(self._world, auctions, truth, self.grid)

    def worth(self, auctions: Auctions, creatives: Rows) -> Floats:
        """[auction, campaign] true worth of showing these creatives now; 0 where nobody may be shown it."""
        worth = shown_values(
            self._world, self._facts, auctions, creatives, self._exposures, self._stock_at(auctions)
        )
        worth[np.ix_(~auctions.known_user, self._facts.frequency_cap > 0)] = 0.0
        return worth

    def best_creatives(self, auctions: Auctions) -> Rows:
        """[auction, campaign] worth most to this very person; -1: none fits."""
        stock = self._stock_at(auctions)
        return true_values(self._world, self._facts, auctions, self._exposures, stock).creative

    def _stock_at(self, auctions: Auctions) -> Floats | None:
        return self._stock.at(int(auctions.t_ns[0])) if self._carries and len(auctions) else None


def chosen(scores: Floats, able: Bools, facts: Facts) -> Rows:
    """[auction, campaign] the creative of highest score among those that fit; -1: none."""
    ranked = np.where(able, scores, -1.0)
    out = np.full((scores.shape[0], facts.campaigns), -1, dtype=np.int64)
    edges = np.searchsorted(facts.creative_campaign, np.arange(facts.campaigns + 1)).tolist()
    rows = np.arange(scores.shape[0])
    for c in range(facts.campaigns):
        mine = ranked[:, edges[c] : edges[c + 1]]
        best = mine.argmax(axis=1)
        out[:, c] = np.where(mine[rows, best] >= 0.0, edges[c] + best, -1)
    return out


class BidsOracle:
    name = "oracle-bids"

    def begin(self, facts: Facts, seed: int) -> None:
        self.facts = facts
        self._log = Log(facts)
        p = tuned(facts.scenario, "tools")
        self._rule = ByFormat(p["memory"], CREATIVE_CLICKS, p["temper"])
        self._rule.begin(facts, np.random.default_rng([seed, 1]))
        self._prices = np.ones(facts.campaigns)

    def reveal(self, world: World, exposures: Exposures, stock: Stock, pressure: Pressure | None) -> None:
        self._truths = Truths(world, self.facts, exposures, stock, pressure)

    def split(self, day: int) -> Floats | None:
        self._rule.new_day(self._log, day)
        auctions = self._truths.day(day)
        self._first = self._truths.first_of(day)
        every = Requests(
            auctions=auctions,
            formats=self.facts.formats(auctions),
            open=np.ones((len(auctions), self.facts.campaigns), dtype=np.bool_),
        )
        facts, t_ns = self.facts, auctions.t_ns[:, None]
        able = facts.fits[every.formats] & (facts.creative_from_ns <= t_ns) & (t_ns < facts.creative_to_ns)
        self._shown = chosen(self._rule.scores(every), able, facts)
        self._worth = self._truths.worth(auctions, self._shown)
        self._floor = auctions.floor_micros.astype(np.float64)
        self._second = auctions.auction_type == 2
        self._odds = self._truths.odds(auctions)
        self._plan(0, facts.day_budget_nanos.astype(np.float64), ROUNDS_OF_A_DAY)
        return None

    def _plan(self, start: int, money: Floats, rounds: int) -> None:
        """Moves the campaigns' prices of money towards those at which the rest of the day costs each what it has."""
        rows = slice(start, None)
        worth = self._worth[rows]
        n = worth.shape[0]
        bid, cost, gain = np.empty(n), np.empty(n), np.empty(n)
        for k in range(rounds):
            aims = worth / self._prices
            campaign = aims.argmax(axis=1)
            top = aims[np.arange(n), campaign]
            floor, second, odds = self._floor[rows], self._second[rows], self._odds[rows]
            respond_to(top, 1.0, floor, second, self._truths.grid, odds, bid, cost, gain)
            spend = np.bincount(campaign, weights=cost, minlength=self.facts.campaigns)
            step = np.clip(np.log((spend + 1.0) / (money + 1.0)), -1.0, 1.0)
            self._prices = np.clip(self._prices * np.exp(step * 0.6 / (1.0 + 0.1 * k)), 1e-3, 1e3)

    def decide(self, requests: Requests, books: Books) -> Answers:
        facts, truths = self.facts, self._truths
        auctions = truths.batch(requests)
        n = len(auctions)
        start = int(auctions.index[0]) - self._first
        self._plan(start, books.left_nanos.astype(np.float64), ROUNDS_OF_A_BATCH)
        creatives = self._shown[start : start + n]
        worth = np.where(requests.open, truths.worth(auctions, creatives), 0.0)
        odds = truths.odds(auctions) if truths.answers else self._odds[start : start + n]
        aims = worth / self._prices
        order = np.argsort(-aims, axis=1, kind="stable")[:, :ALTERNATIVES_HERE]
        bids = np.zeros(order.shape)
        out, cost, gain = np.empty(n), np.empty(n), np.empty(n)
        floor, second = auctions.floor_micros.astype(np.float64), auctions.auction_type == 2
        for k in range(order.shape[1]):
            aim = np.ascontiguousarray(np.take_along_axis(aims, order[:, k : k + 1], axis=1)[:, 0])
            respond_to(aim, 1.0, floor, second, truths.grid, odds, out, cost, gain)
            bids[:, k] = np.minimum(out, facts.ceiling_micros[order[:, k]])
        bid = as_int(bids)
        return Answers(
            creative=np.where(bid > 0, np.take_along_axis(creatives, order, axis=1), -1), bid_micros=bid
        )

    def learn(self, feedback: Feedback) -> None:
        self._log.add(feedback)


class SplitOracle(Classic):
    def __init__(self) -> None:
        super().__init__(
            "pid", "value", lambda p: Best(), ByConversions(), lambda p: Pid(p["gain"], p["top"])
        )

    def begin(self, facts: Facts, seed: int) -> None:
        super().begin(facts, seed)
        self.name = "oracle-split"
        self._shares: Floats | None = None

    def reveal(self, world: World, exposures: Exposures, stock: Stock, pressure: Pressure | None) -> None:
        self._truths = Truths(world, self.facts, exposures, stock, pressure)

    def split(self, day: int) -> Floats | None:
        super().split(day)  # for what it learns from its log
        facts, truths = self.facts, self._truths
        auctions = truths.day(day)
        formats = facts.formats(auctions)
        able = facts.living(STARTS_AT_NS + day * DAY_NS + DAY_NS // 2)[formats]
        every = Requests(auctions=auctions, formats=formats, open=np.ones((0, 0), dtype=np.bool_))
        creatives = chosen(self._creative.scores(every), able, facts)
        worth = truths.worth(auctions, creatives)
        value = np.where(creatives >= 0, self._value[:, auctions.supply].T, 0.0)
        mine = value.argmax(axis=1)
        rows = np.arange(len(auctions))
        worth, value = worth[rows, mine], value[rows, mine]
        costs, gains = self._responses(auctions, mine, worth, value)
        best = _best_split(costs, gains, float(facts.pool_nanos))
        best /= best.sum()
        if self._shares is not None:
            best = self._shares + NEW_SHARE * (best - self._shares)
        self._shares = best
        return best

    def _responses(
        self, auctions: Auctions, mine: Rows, worth: Floats, value: Floats
    ) -> tuple[Floats, Floats]:
        """[height, campaign] expected cost and true worth of today's competent bids, each auction at its one campaign."""
        facts, grid = self.facts, self._truths.grid
        odds = self._truths.odds(auctions)
        steps = np.diff(odds, axis=1, prepend=0.0)
        middle = 0.5 * (grid + np.concatenate([[0.0], grid[:-1]]))
        paid = np.cumsum(steps * np.maximum(middle, auctions.floor_micros[:, None]), axis=1)
        second, rows = auctions.auction_type == 2, np.arange(len(auctions))
        costs = np.zeros((HEIGHTS.size, facts.campaigns))
        gains = np.zeros_like(costs)
        for k, height in enumerate(HEIGHTS):
            bids = np.minimum(value * height, facts.ceiling_micros[mine])
            at = np.searchsorted(grid, bids, side="right") - 1
            bidding = (at >= 0) & (bids >= auctions.floor_micros)
            won = np.where(bidding, odds[rows, at], 0.0)
            cost = np.where(second, np.where(bidding, paid[rows, at], 0.0), bids * won)
            costs[k] = np.bincount(mine, weights=cost, minlength=facts.campaigns)
            gains[k] = np.bincount(mine, weights=worth * won, minlength=facts.campaigns)
        return costs, gains


def _best_split(costs: Floats, gains: Floats, pool: float) -> Floats:
    """Shares that earn the most penalised worth for ``pool``, heights chosen at one price of money (bisection)."""
    ratio = np.divide(gains, costs, out=np.full(costs.shape, np.inf), where=costs > 0)
    judged = gains * np.minimum(1.0, ratio * ratio)
    every = np.arange(costs.shape[1])

    def spend(price: float) -> Floats:
        return np.asarray(costs[(judged - price * costs).argmax(axis=0), every])

    low, high = 0.0, 1e3
    for _ in range(40):
        middle = 0.5 * (low + high)
        if spend(middle).sum() > pool:
            low = middle
        else:
            high = middle
    wanted = spend(high)
    return np.asarray(wanted + LEAST_SHARE * (wanted.sum() + 1.0) / wanted.size)


class Knowing(ByFormat):
    """The creative worth most to this very person."""

    truths: Truths | None = None

    def scores(self, requests: Requests) -> Floats:
        assert self.truths is not None, "revealed before the first auction"
        best = self.truths.best_creatives(self.truths.batch(requests))
        scores = np.zeros((best.shape[0], self._wins.size))
        rows, campaigns = np.nonzero(best >= 0)
        scores[rows, best[rows, campaigns]] = 1.0
        return scores


class CreativesOracle(Chest):
    def __init__(self) -> None:
        super().__init__("tools")

    def begin(self, facts: Facts, seed: int) -> None:
        super().begin(facts, seed)
        self.name = "oracle-creatives"

    def reveal(self, world: World, exposures: Exposures, stock: Stock, pressure: Pressure | None) -> None:
        known = Knowing(1.0)
        known.begin(self.facts, self._rng)
        known.truths = Truths(world, self.facts, exposures, stock, pressure)
        self._creative = known
