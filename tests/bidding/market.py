"""Small seeded markets to measure bidding in. ``python -m tests.bidding.market`` prints the figures of docs/agents.md.

Prices and values are CPM in units; the learner sees nanos (1 unit CPM = 1,000,000). Nothing measured here was seen in
learning: curves are learned from one stream of auctions, surplus is taken on another.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from counterpoint.bidding import pacing
from counterpoint.bidding.pacing import DAY_NS, EVEN_PPM, Pace
from counterpoint.bidding.policy import (
    BiddingFrame,
    BiddingPolicy,
    CompiledBidding,
    WinCurve,
    compile_bidding,
    prepare_bidding,
    price,
)
from counterpoint.bidding.price import NO_CONTEXT, NO_EVENTS
from counterpoint.bidding.win_curve import WinCurves
from counterpoint.catalog.model import Campaign, Goal, LineItem

FloatArray = NDArray[np.float64]
UNIT = 1_000_000  # nanos per impression of one unit CPM
FLOORS = np.array([0.5, 1.0, 2.0])


@dataclass(frozen=True)
class Market:
    """``draw(rng, n)``: the minimum bid to win and the declared floor (0: none) of n auctions, in units CPM."""

    name: str
    draw: Callable[[np.random.Generator, int], tuple[FloatArray, FloatArray]]

    def minimums(self, rng: np.random.Generator, n: int) -> FloatArray:
        return self.draw(rng, n)[0]


def _lognormal(rng: np.random.Generator, n: int) -> tuple[FloatArray, FloatArray]:
    return rng.lognormal(0.5, 0.6, n), np.zeros(n)


def _mixture_with_floors(rng: np.random.Generator, n: int) -> tuple[FloatArray, FloatArray]:
    cheap, dear = rng.lognormal(0.2, 0.4, n), rng.lognormal(1.4, 0.3, n)
    competitors: FloatArray = np.where(rng.random(n) < 0.6, cheap, dear)
    return np.maximum(competitors, rng.choice(FLOORS, n)), np.zeros(n)


LOGNORMAL = Market("lognormal-v1", _lognormal)
MIXTURE = Market("mixture-floors-v1", _mixture_with_floors)


def learn(market: Market, rows: int, full: bool, seed: int) -> WinCurve:
    """What ``rows`` auctions teach, bid on at values x U(0.3, 1)."""
    rng = np.random.default_rng([seed, 1])
    minimums, floors = market.draw(rng, rows)
    bids = rng.lognormal(1.2, 0.5, rows) * rng.uniform(0.3, 1.0, rows)
    curves = WinCurves(half_life_s=43_200.0)
    for bid, minimum, floor in zip(
        *((of * UNIT).astype(int).tolist() for of in (bids, minimums, floors)), strict=True
    ):
        curves.add("adx/banner", bid, minimum <= bid, minimum if full else None, floor_nanos=floor)
    curves.refresh()
    return curves.curves["adx/banner"]


# ---- shading


PER_CLICK = 10_000.0  # units CPM a click is worth: a click rate of v / PER_CLICK makes an impression worth v


def one_item() -> BiddingFrame:
    campaign = Campaign(
        id="c",
        advertiser_id="a",
        name="",
        daily_budget_micros=1,
        goal=Goal.CLICKS,
        goal_value_micros=int(PER_CLICK * UNIT / 1_000),
        bid_ceiling_micros=1_000 * UNIT,
    )
    return prepare_bidding([campaign], [LineItem(id="li", campaign_id="c")], ("adx",))


def compiled(curve: WinCurve | None) -> CompiledBidding:
    curves = {} if curve is None else {"*": curve}
    policy = BiddingPolicy(version=1, made_at_ns=0, valid_until_ns=1, curves=curves)
    return compile_bidding(policy, one_item())


def bids_for(tables: CompiledBidding, values: FloatArray, multiplier: float = 1.0) -> FloatArray:
    """What the kernel bids for impressions of these values, units CPM."""
    n = len(values)
    out_money, out_rates = np.zeros((4, n), dtype=np.int64), np.zeros((5, n), dtype=np.float64)
    paced = tables.values.copy()
    paced[:, 2] = 1.0 / multiplier
    price(
        n,
        np.zeros(n, dtype=np.int32),
        values / PER_CLICK,
        tables.money,
        paced,
        np.array([1_000 * UNIT], dtype=np.int64),
        *tables.market,
        *tables.value_model,
        NO_CONTEXT,
        NO_EVENTS,
        0,
        1,
        0,
        np.uint64(1),
        out_money,
        out_rates,
    )
    bids: FloatArray = out_money[0] / UNIT
    return bids


def surplus(bids: FloatArray, values: FloatArray, minimums: FloatArray) -> float:
    won = bids >= minimums
    return float(np.sum((values - bids)[won]) / len(values))


def held_out(market: Market, seed: int, n: int = 20_000) -> tuple[FloatArray, FloatArray]:
    rng = np.random.default_rng([seed, 2])
    return rng.lognormal(1.2, 0.5, n), market.minimums(rng, n)


def best_constant(values: FloatArray, minimums: FloatArray) -> float:
    """The surplus of the constant fraction that is best on these very auctions: a favour to the baseline."""
    return max(surplus(values * c, values, minimums) for c in np.linspace(0.2, 1.0, 81))


def true_curve(market: Market) -> WinCurve:
    rng = np.random.default_rng([99, 3])
    minimums = np.sort(market.minimums(rng, 400_000))
    at = np.unique(np.quantile(minimums, np.linspace(0.002, 0.998, 52)))
    at = np.unique(np.concatenate([at, FLOORS, FLOORS - 0.001]))
    rates = np.searchsorted(minimums, at, side="right") / len(minimums)
    return WinCurve(tuple((at * UNIT).astype(int).tolist()), tuple(rates.tolist()))


def curve_error(curve: WinCurve, market: Market) -> float:
    """Mean distance to the truth over the middle of the market (true win rate 0.05 to 0.95). Not the largest: where a
    floor makes the truth jump, a curve that jumps 1 % too late is off by the whole jump there and by nothing in money."""
    rng = np.random.default_rng([98, 3])
    minimums = np.sort(market.minimums(rng, 200_000))
    at = np.unique(np.quantile(minimums, np.linspace(0.05, 0.95, 181)))
    truth = np.searchsorted(minimums, at, side="right") / len(minimums)
    learned = np.interp(at * UNIT, (0, *curve.bids_nanos), (0.0, *curve.win_rates))
    return float(np.mean(np.abs(learned - truth)))


# ---- pacing


@dataclass(frozen=True)
class Day:
    """One simulated day in steps: per step, the auctions' values and minimums."""

    steps: list[tuple[FloatArray, FloatArray]]


STEPS = 1_440
DIURNAL = 1.0 + 0.7 * np.sin((np.arange(24) - 9) / 24 * 2 * math.pi)


def day(seed: int, auctions: int = 60_000) -> Day:
    """diurnal-v1: volume swings by 70 %, prices by 30 %, over the day."""
    rng = np.random.default_rng([seed, 4])
    steps = []
    for at in range(STEPS):
        hour = at * 24 // STEPS
        n = int(rng.poisson(auctions / STEPS * DIURNAL[hour]))
        level = math.exp(0.3 * math.sin((hour - 15) / 24 * 2 * math.pi))
        steps.append((rng.lognormal(1.2, 0.5, n), LOGNORMAL.minimums(rng, n) * level))
    return Day(steps)


def plan_from(earlier: Day) -> tuple[int, ...]:
    """Hourly shares of the day's money by an earlier day's opportunity value."""
    worth = np.zeros(24)
    for at, (values, _) in enumerate(earlier.steps):
        worth[at * 24 // STEPS] += float(values.sum())
    shares = np.floor(worth / worth.sum() * pacing.PPM).astype(int)
    shares[0] += pacing.PPM - int(shares.sum())
    return tuple(shares.tolist())


def run_fixed(world: Day, tables: CompiledBidding, multiplier: float, budget: float) -> tuple[float, float]:
    """(spend, value won) at one multiplier, stopping when the budget is gone."""
    spend = value = 0.0
    for values, minimums in world.steps:
        bids = bids_for(tables, values, multiplier)
        won = bids >= minimums
        cost = np.cumsum(bids[won])
        fits = spend + cost <= budget
        spend += float(bids[won][fits].sum())
        value += float(values[won][fits].sum())
    return spend, value


def run_paced(
    world: Day, tables: CompiledBidding, budget: float, hourly_ppm: tuple[int, ...]
) -> tuple[float, float, list[float]]:
    """(spend, value won, multiplier after each step) with the pacer's steps, starting from lambda 1."""
    spend = value = 0.0
    pace, track = Pace(), []
    step_ns = DAY_NS // STEPS
    for at, (values, minimums) in enumerate(world.steps):
        bids = bids_for(tables, values, pace.multiplier(1.0))
        won = bids >= minimums
        fits = spend + np.cumsum(bids[won]) <= budget
        cost = float(bids[won][fits].sum())
        spend += cost
        value += float(values[won][fits].sum())
        pace.spent, pace.bids, pace.wins = int(cost * UNIT), len(bids), int(fits.sum())
        before, now = (pacing.elapsed_share(hourly_ppm, k * step_ns) for k in (at, at + 1))
        pacing.step(
            pace,
            phi=now - before,
            rest=1.0 - now,
            left=(budget - spend) * UNIT,
            budget=budget * UNIT,
            elapsed_s=step_ns / 1e9,
            lowest=1.0,
            supply=True,
        )
        track.append(pace.multiplier(1.0))
    return spend, value, track


def best_fixed(world: Day, tables: CompiledBidding, budget: float) -> float:
    """Value of the best fixed multiplier in hindsight, found by bisection on the spend it takes."""
    low, high = 0.0, math.log(32.0)
    for _ in range(9):
        middle = (low + high) / 2
        if run_fixed(world, tables, math.exp(middle), 1e18)[0] > budget:
            low = middle
        else:
            high = middle
    return max(run_fixed(world, tables, math.exp(x), budget)[1] for x in (low, (low + high) / 2, high))


def pacing_case(seed: int, budget_share: float = 0.3) -> dict[str, float]:
    """Budget is a share of what lambda 1 would spend; the plan comes from another day."""
    tables = compiled(true_curve(LOGNORMAL))
    world = day(seed)
    budget = budget_share * run_fixed(world, tables, 1.0, 1e18)[0]
    best = best_fixed(world, tables, budget)
    shaped_spend, shaped_value, _ = run_paced(world, tables, budget, plan_from(day(seed + 1_000)))
    even_spend, even_value, _ = run_paced(world, tables, budget, EVEN_PPM)
    return {
        "spent_shaped": shaped_spend / budget,
        "value_shaped": shaped_value / best,
        "spent_even": even_spend / budget,
        "value_even": even_value / best,
    }


def shading_case(market: Market, rows: int, full: bool, seed: int) -> dict[str, float]:
    curve = learn(market, rows, full, seed)
    values, minimums = held_out(market, seed)
    oracle = surplus(bids_for(compiled(true_curve(market)), values), values, minimums)
    return {
        "error": curve_error(curve, market),
        "shaded": surplus(bids_for(compiled(curve), values), values, minimums) / oracle,
        "constant": best_constant(values, minimums) / oracle,
        "unshaded_0.8": surplus(values * 0.8, values, minimums) / oracle,
    }


def _table(name: str, cases: list[dict[str, float]]) -> None:
    figures = []
    for key in cases[0]:
        found = np.array([case[key] for case in cases])
        half = 2.57 * found.std(ddof=1) / math.sqrt(len(found))  # t, 5 degrees of freedom, 95 %
        figures.append(f"{key} {found.mean():.3f} +/- {half:.3f}")
    print(f"{name:36s}", " | ".join(figures))


def main(seeds: int = 6) -> None:
    for market in (LOGNORMAL, MIXTURE):
        for full in (True, False):
            for rows in (300, 3_000, 30_000):
                cases = [shading_case(market, rows, full, seed) for seed in range(seeds)]
                _table(f"{market.name} {rows} {'minimum told' if full else 'win/loss'}", cases)
    for share in (0.1, 0.3, 0.7):
        _table(f"pacing diurnal-v1 budget {share}", [pacing_case(seed, share) for seed in range(seeds)])


if __name__ == "__main__":
    main()
