"""Part ``shock``: competitors bid otherwise from one auction to the next; auctions until the new optimum is nearly recovered.

Competitors turn to 1.6 or 0.6 times their bids after 10,000 auctions. No alarm is given and no time passes: only what
the curves see for themselves. Recovered: twice in a row, 100 auctions apart, the curve earns RECOVERED of the surplus of
who knows the new curve, or of what the curve earned before the shock where that was less.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from counterpoint.bench.bidding.closed_loop import CHECK_ROWS, ClosedLoop
from counterpoint.bench.bidding.curve_markets import MARKETS, REGIMES
from counterpoint.bench.bidding.verdict import Bar, Context, PartResult, Table, Verdict, over_seeds

RECOVERED = 0.95
LEVELS = (1.6, 0.6)
BEFORE, AFTER = 10_000, 6_000
SHOCKED = tuple(market for market in MARKETS if market.name in ("lognormal-v1", "mixture-floors-v1"))


def shock(context: Context) -> PartResult:
    before, after = (1_000, 500) if context.quick else (BEFORE, AFTER)
    steps = after // CHECK_ROWS
    paths: dict[tuple[str, str, float], list[list[float]]] = {}
    needed: dict[tuple[str, str, float], list[float]] = {}
    runs = [
        (m, regime, level, seed)
        for m in SHOCKED
        for regime in REGIMES
        for level in LEVELS
        for seed in context.seeds
    ]
    for done, (market, regime, level, seed) in enumerate(runs):
        context.report(f"{market.name}, {regime}, x{level}", done / len(runs))
        loop = ClosedLoop(market, regime, seed)
        for _ in range(before // CHECK_ROWS):
            loop.live(CHECK_ROWS)
        wanted = RECOVERED * min(loop.share(), 1.0)
        loop.change(level)
        path = [loop.share()]
        for _ in range(steps):
            loop.live(CHECK_ROWS)
            path.append(loop.share())
        key = (market.name, regime, level)
        paths.setdefault(key, []).append(path)
        needed.setdefault(key, []).append(auctions_until(path, wanted))
    behind = f"{len(context.seeds)} seeds"
    verdicts = tuple(
        Verdict(
            bar=f"auctions until {RECOVERED:.0%} is recovered, {market}, {regime}, x{level:g}",
            kind=Bar.REPORTED,
            target=None,
            measured=over_seeds(found),
            behind=f"{behind}; {sum(n >= after for n in found)} not within {after:,}, counted as {after:,}",
            unit="auctions",
        )
        for (market, regime, level), found in needed.items()
    )
    table = Table(
        title=f"surplus share of the new optimum after the shock, mean over {behind}",
        head=("market, what comes back, level", "at once", "500", "1,000", "2,000", f"{after:,}"),
        rows=tuple(
            (
                f"{market}, {regime}, x{level:g}",
                *(f"{np.mean([p[min(k, steps)] for p in found]):.3f}" for k in (0, 5, 10, 20, steps)),
            )
            for (market, regime, level), found in paths.items()
        ),
    )
    if context.plots is not None:
        _plot(context.plots / "shock.png", paths)
    series = {
        f"{market}, {regime}, x{level:g}": np.mean(found, axis=0).tolist()
        for (market, regime, level), found in paths.items()
    }
    return PartResult(part="shock", verdicts=verdicts, tables=(table,), series=series)


def auctions_until(path: list[float], wanted: float) -> float:
    """Auctions until two checks in a row reach ``wanted``; all of them where none do.

    >>> auctions_until([0.2, 0.96, 0.5, 0.97, 0.98], 0.95), auctions_until([0.2, 0.3], 0.95)
    (300.0, 100.0)
    """
    for k in range(len(path) - 1):
        if path[k] >= wanted and path[k + 1] >= wanted:
            return float(k * CHECK_ROWS)
    return float((len(path) - 1) * CHECK_ROWS)


def _plot(path: Path, paths: dict[tuple[str, str, float], list[list[float]]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(len(SHOCKED), len(LEVELS), figsize=(10, 6), sharex=True, sharey=True)
    for row, market in enumerate(SHOCKED):
        for column, level in enumerate(LEVELS):
            ax = axes[row][column]
            for regime in REGIMES:
                mean = np.mean(paths[market.name, regime, level], axis=0)
                ax.plot(np.arange(len(mean)) * CHECK_ROWS, mean, label=regime)
            ax.set_title(f"{market.name}, competitors x{level:g}", fontsize=10)
            ax.axhline(RECOVERED, color="grey", linewidth=0.7)
            ax.grid(alpha=0.3)
    axes[-1][0].set_xlabel("auctions after the shock")
    axes[0][0].set_ylabel("share of the new optimum")
    axes[0][-1].legend(fontsize=8, loc="lower right")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
