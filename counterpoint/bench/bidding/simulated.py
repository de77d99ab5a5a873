"""Part ``simulated``: share of the surplus of who knows the true win curve, by what comes back, on auctions not learned from.

Learned from bids at value x U(0.3, 1), raised to the floor where the request has one. Judged on 10,000 other auctions of the same market.
"""

from __future__ import annotations

import numpy as np

from counterpoint.bench.bidding.curve_markets import (
    MARKETS,
    REGIMES,
    SEGMENT,
    Market,
    best_on_known_curve,
    bids_for,
    compiled,
    surplus,
    teach,
    values_of,
)
from counterpoint.bench.bidding.verdict import Bar, Context, PartResult, Table, Verdict, over_seeds
from counterpoint.bidding.win_curve import WinCurves

ROWS = (300, 3_000)
TARGETS = {"told always": 0.97, "win/loss only": 0.94}
JUDGED, DRAWN = 10_000, 400_000


def simulated(context: Context) -> PartResult:
    rows_of = (300,) if context.quick else ROWS
    found: dict[tuple[str, str, int], list[float]] = {}
    constants: dict[str, list[float]] = {}
    runs = [(market, seed) for market in MARKETS for seed in context.seeds]
    for done, (market, seed) in enumerate(runs):
        context.report(market.name, done / len(runs))
        rng = np.random.default_rng([seed, 2])
        values, (rivals, floors) = values_of(rng, JUDGED), market.draw(rng, JUDGED)
        known = best_on_known_curve(values, rivals, floors, market.draw(rng, DRAWN)[0])
        best = max(
            surplus(np.where(values > floors, np.maximum(values * c, floors), 0.0), values, rivals, floors)
            for c in np.linspace(0.2, 1.0, 81)
        )
        constants.setdefault(market.name, []).append(best / known)
        for regime in REGIMES:
            for rows in rows_of:
                tables = compiled({SEGMENT: learned(market, regime, rows, seed).curves[SEGMENT]})
                share = surplus(bids_for(tables, values, floors), values, rivals, floors) / known
                found.setdefault((market.name, regime, rows), []).append(share)
    behind = f"{len(context.seeds)} seeds"
    verdicts = tuple(
        Verdict(
            bar=f"surplus of the known curve, {regime}, {rows_of[-1]:,} rows, {market.name}",
            kind=Bar.AT_LEAST,
            target=target,
            measured=over_seeds(found[market.name, regime, rows_of[-1]]),
            behind=behind,
        )
        for regime, target in TARGETS.items()
        for market in MARKETS
    )
    table = Table(
        title=f"share of the known curve's surplus, mean over {behind}",
        head=("market", "rows", *REGIMES, "best constant fraction, tuned on the judged auctions"),
        rows=tuple(
            (
                market.name,
                f"{rows:,}",
                *(f"{np.mean(found[market.name, regime, rows]):.3f}" for regime in REGIMES),
                f"{np.mean(constants[market.name]):.3f}",
            )
            for market in MARKETS
            for rows in rows_of
        ),
    )
    return PartResult(part="simulated", verdicts=verdicts, tables=(table,))


def learned(market: Market, regime: str, rows: int, seed: int) -> WinCurves:
    rng = np.random.default_rng([seed, 1])
    rivals, floors = market.draw(rng, rows)
    values = values_of(rng, rows)
    bids = np.where(values > floors, np.maximum(values * rng.uniform(0.3, 1.0, rows), floors), 0.0)
    curves = WinCurves(half_life_s=43_200.0)
    teach(curves, bids, rivals, floors, REGIMES[regime])
    curves.refresh()
    return curves
