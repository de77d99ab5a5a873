"""Tables of the truth for a set of auctions: what each campaign's best creative is worth, and the odds of winning."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from counterpoint.base.jit import njit
from counterpoint.bench.market.facts import Facts, Floats
from counterpoint.market.auctions import Auctions, Rows, Truth
from counterpoint.market.state import Exposures
from counterpoint.market.world import World

LEAST_CPM: Final = 0.01
STOCK_POINTS: Final = 4_001
STOCK_ZOOMS: Final = 5


class BestStock(Struct, frozen=True, kw_only=True):
    stock: Floats  # [campaign, supply path]
    slack: float  # >= 1: no stock that can be lifts conversions more than this times as much


class Values(Struct, frozen=True, kw_only=True):
    """[auction, campaign]; 0 and -1 where no creative fits."""

    best: Floats  # worth of the best creative, micros CPM
    mean: Floats  # of all that fit, alike
    creative: Rows  # the best


def true_values(
    world: World, facts: Facts, auctions: Auctions, exposures: Exposures | None, stock: Floats | None
) -> Values:
    """At the given exposures; None: the most favourable ones there can be (for bounds)."""
    formats = facts.formats(auctions)
    living = facts.fits[formats]
    t_ns = auctions.t_ns[:, None]
    if world.scenario.churn.generations > 1:
        living = living & (facts.creative_from_ns <= t_ns) & (t_ns < facts.creative_to_ns)
    rows, creatives = np.nonzero(living)
    campaign = facts.creative_campaign[creatives]
    if exposures is None:
        seen = np.full(rows.size, world.scenario.click.wear_in)
    else:
        seen = exposures.of(auctions.user[rows], campaign, auctions.t_ns[rows])
    worth = world.responses(auctions, rows, creatives, seen, stock).value_micros
    shape = (len(auctions), facts.campaigns)
    best, mean = np.zeros(shape), np.zeros(shape)
    creative = np.full(shape, -1, dtype=np.int64)
    if rows.size:
        key = rows * facts.campaigns + campaign
        starts = np.concatenate([[0], np.flatnonzero(np.diff(key)) + 1])
        counts = np.diff(np.concatenate([starts, [rows.size]]))
        top = np.maximum.reduceat(worth, starts)
        is_top = np.flatnonzero(worth >= np.repeat(top, counts))
        best.ravel()[key[starts]] = top
        mean.ravel()[key[starts]] = np.add.reduceat(worth, starts) / counts
        creative.ravel()[key[is_top[::-1]]] = creatives[is_top[::-1]]  # ties: the first
    return Values(best=best, mean=mean, creative=creative)


def shown_values(
    world: World,
    facts: Facts,
    auctions: Auctions,
    creatives: Rows,
    exposures: Exposures,
    stock: Floats | None,
) -> Floats:
    """[auction, campaign] worth of showing ``creatives`` [auction, campaign] (-1: none, worth 0), micros CPM."""
    rows, campaign = np.nonzero(creatives >= 0)
    which = creatives[rows, campaign]
    seen = exposures.of(auctions.user[rows], campaign, auctions.t_ns[rows])
    out = np.zeros(creatives.shape)
    out[rows, campaign] = world.values(auctions, rows, which, seen, stock)
    return out


def best_stock(world: World) -> BestStock | None:
    """Where conversions are likeliest, and what it may have missed. None: nothing carries over.

    Searched up to :func:`most_stock`. Between neighbours a < b of a grid the lift is at most its rising part at b over
    its falling part at a; stretches that cannot beat the best point are dropped, the rest is searched again, finer.
    """
    c = world.scenario.carry_over
    if c.gain == 0.0 and c.saturates_at is None:
        return None
    sinks = 0.0 if c.saturates_at is None else 1.0 / c.saturates_at
    one = world.scenario.days / world.scenario.auctions
    grid = np.concatenate([[0.0], np.geomspace(one, max(most_stock(world), one), STOCK_POINTS)])
    for _ in range(STOCK_ZOOMS):
        lift = world.lift(grid)
        best = int(np.argmax(lift))
        above = lift[1:] * (1.0 + sinks * grid[1:]) / (1.0 + sinks * grid[:-1])
        slack = max(1.0, float(above.max() / lift[best]))
        at = float(grid[best])
        open_ = np.flatnonzero(above > lift[best])
        if not open_.size:
            break
        grid = np.linspace(grid[open_[0]], grid[open_[-1] + 1], STOCK_POINTS)
    shape = (len(world.scenario.campaign), len(world.scenario.supply))
    return BestStock(stock=np.full(shape, at), slack=slack)


def most_stock(world: World) -> float:
    """No stock of one campaign and supply path can pass this: every auction of every day won, each counted in full until its day ends.

    >>> from counterpoint.market.load import scenario_named
    >>> most_stock(World(scenario_named("adstock-v1"), 0)) < scenario_named("adstock-v1").days
    True
    """
    s = world.scenario
    fade = 0.5 ** (1.0 / s.carry_over.half_life_days)
    before = most = 0.0
    for first, end in world.day_auctions():
        most = max(most, before + end - first)
        before = (before + end - first) * fade
    return most * s.days / s.auctions


def grid_micros(ceiling: int, ratio: float) -> Floats:
    """Bids up to the ceiling, each ``ratio`` times the one before, from one cent CPM or, below a ceiling of 1 CPM, a hundredth of it.

    >>> grid_micros(1, 1.1).tolist(), grid_micros(1_000, 10.0).tolist()
    ([1.0], [10.0, 100.0, 1000.0])
    """
    least = max(1.0, min(LEAST_CPM * 1e6, ceiling / 100))
    steps = max(0, int(np.ceil(np.log(ceiling / least) / np.log(ratio))))
    return np.asarray(ceiling * ratio ** -np.arange(steps, -1, -1.0))


def win_table(world: World, auctions: Auctions, truth: Truth, grid: Floats) -> Floats:
    """[auction, grid] P(rivals' best <= bid, bid >= floor)."""
    out = np.empty((len(auctions), grid.size))
    for k, bid in enumerate(np.floor(grid)):
        out[:, k] = world.win_probability(auctions, truth, np.full(len(auctions), bid))
    return out


@njit
def respond_to(
    value: Any,
    price_of_money: float,
    floor: Any,
    second: Any,
    grid: Any,
    odds: Any,
    bid: Any,
    cost: Any,
    gain: Any,
) -> None:
    """Best response of each auction to a price of money: argmax of (value - price x bid) x P(win).

    Fills the bid (0: none), the expected cost and the expected value. Second price: bid value / price of money.
    """
    for i in range(value.shape[0]):
        bid[i], cost[i], gain[i] = 0.0, 0.0, 0.0
        v = value[i]
        if v <= 0.0:
            continue
        if second[i]:
            most = v / price_of_money if price_of_money > 0.0 else grid[-1]
            before = 0.0
            for k in range(grid.shape[0]):
                if grid[k] > most:
                    break
                if odds[i, k] > before:
                    low = grid[k - 1] if k > 0 else 0.0
                    paid = max(floor[i], 0.5 * (low + grid[k]))
                    cost[i] += (odds[i, k] - before) * paid
                    before = odds[i, k]
            if before > 0.0:
                bid[i] = min(most, grid[-1])
                gain[i] = v * before
            continue
        best = 0.0
        for k in range(grid.shape[0]):
            if price_of_money * grid[k] >= v:
                break
            surplus = (v - price_of_money * grid[k]) * odds[i, k]
            if surplus > best:
                best = surplus
                bid[i] = grid[k]
                cost[i] = grid[k] * odds[i, k]
                gain[i] = v * odds[i, k]


@njit
def dual_of(
    value: Any, price_of_money: float, floor: Any, second: Any, grid: Any, odds: Any, most: Any
) -> float:
    """Upper bound on the sum of max E[(value - price x paid) 1{won}]: between grid points, the best of both ends.

    ``most``: ceiling per auction. The result is above the true maximum whatever the distribution does between points.
    """
    total = 0.0
    for i in range(value.shape[0]):
        v = value[i]
        if v <= 0.0:
            continue
        best, summed, before = 0.0, 0.0, 0.0
        for k in range(grid.shape[0]):
            low = max(grid[k - 1] if k > 0 else 0.0, floor[i])
            if low > most[i]:
                break
            left = v - price_of_money * low
            if left <= 0.0:
                break
            best = max(best, left * odds[i, k])
            summed += left * (odds[i, k] - before)
            before = odds[i, k]
        total += summed if second[i] else best
    return total


def as_int(values: Floats) -> NDArray[np.int64]:
    return np.asarray(np.floor(values), dtype=np.int64)
