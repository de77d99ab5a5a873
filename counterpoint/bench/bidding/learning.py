"""Part ``learning``: surplus share against auctions lived through, from knowing nothing, on the learner's own bids.

The loop is closed: what is learned next is what the last curve bid, exploring as live. The share is of the surplus of who
knows the curve, on auctions not learned from.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from counterpoint.bench.bidding.closed_loop import CHECK_ROWS, ClosedLoop
from counterpoint.bench.bidding.curve_markets import MARKETS, REGIMES
from counterpoint.bench.bidding.verdict import Bar, Context, PartResult, Table, Verdict, over_seeds

CHECKS = (100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800)


def learning(context: Context) -> PartResult:
    checks = CHECKS[:4] if context.quick else CHECKS
    shares: dict[tuple[str, str, int], list[float]] = {}
    runs = [(market, regime, seed) for market in MARKETS for regime in REGIMES for seed in context.seeds]
    for done, (market, regime, seed) in enumerate(runs):
        context.report(f"{market.name}, {regime}", done / len(runs))
        loop = ClosedLoop(market, regime, seed)
        for rows in range(CHECK_ROWS, checks[-1] + 1, CHECK_ROWS):
            loop.live(CHECK_ROWS)
            if rows in checks:
                shares.setdefault((market.name, regime, rows), []).append(loop.share())
    means = {key: float(np.mean(found)) for key, found in shares.items()}
    table = Table(
        title=f"share of the known curve's surplus by auctions seen, mean over {len(context.seeds)} seeds",
        head=("market", "what comes back", *(f"{rows:,}" for rows in checks)),
        rows=tuple(
            (market.name, regime, *(f"{means[market.name, regime, rows]:.3f}" for rows in checks))
            for market in MARKETS
            for regime in REGIMES
        ),
    )
    verdicts = tuple(
        Verdict(
            bar=f"surplus share after {checks[-1]:,} auctions of its own, {regime}, all markets",
            kind=Bar.REPORTED,
            target=None,
            measured=over_seeds(
                [
                    float(np.mean([shares[market.name, regime, checks[-1]][i] for market in MARKETS]))
                    for i in range(len(context.seeds))
                ]
            ),
            behind=f"{len(context.seeds)} seeds, {len(MARKETS)} markets each",
        )
        for regime in REGIMES
    )
    series = {
        f"{market.name}, {regime}": [means[market.name, regime, rows] for rows in checks]
        for market in MARKETS
        for regime in REGIMES
    }
    if context.plots is not None:
        _plot(context.plots / "learning.png", checks, series)
    return PartResult(
        part="learning",
        verdicts=verdicts,
        tables=(table,),
        series={"auctions": [float(rows) for rows in checks], **series},
    )


def _plot(path: Path, checks: tuple[int, ...], series: dict[str, list[float]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(MARKETS), figsize=(4 * len(MARKETS), 3.6), sharey=True)
    for ax, market in zip(axes, MARKETS, strict=True):
        for regime in REGIMES:
            ax.plot(checks, series[f"{market.name}, {regime}"], marker="o", markersize=3, label=regime)
        ax.set_xscale("log")
        ax.set_title(market.name, fontsize=10)
        ax.set_xlabel("auctions seen")
        ax.grid(alpha=0.3)
    axes[0].set_ylabel("share of the known curve's surplus")
    axes[-1].legend(fontsize=8, loc="lower right")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
