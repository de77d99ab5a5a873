"""Plots of the scoreboard as SVG text: the same bytes for the same figures."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, Final

import matplotlib as mpl
import matplotlib.ticker
import numpy as np
from matplotlib.figure import Figure

from counterpoint.bench.market.scoreboard import Scoreboard, Summary, known_bound

SALT: Final = "counterpoint-scoreboard"  # without one, names of SVG parts are drawn anew each time
BLUE, AMBER, GREY, RED, INK, PALE = "#2f6fde", "#b7791f", "#7d8590", "#b3261e", "#1b1f24", "#b8c0c9"


def bars(board: Scoreboard, scenario: str, rows: Sequence[Summary]) -> str:
    """Penalised value of each policy, seed by seed, and the bound."""
    figure = Figure(figsize=(10.5, 0.36 * len(rows) + 1.0))
    axes: Any = figure.subplots()
    shown = list(rows)[::-1]
    colours = [GREY if r.oracle else AMBER if r.hindsight else BLUE for r in shown]
    axes.barh(range(len(shown)), [r.penalised for r in shown], color=colours, height=0.66, alpha=0.85)
    for k, row in enumerate(shown):
        points = [s.penalised for s in board.scores if (s.scenario, s.policy) == (scenario, row.policy)]
        spread = np.linspace(-0.2, 0.2, len(points)) if len(points) > 1 else [0.0]
        axes.plot(points, k + np.asarray(spread), ".", color=INK, markersize=2.5, alpha=0.45)
        axes.annotate(
            f"{row.penalised:,.1f}", (0, k), xytext=(5, 0), textcoords="offset points",
            va="center", color="white", fontsize=8.5, fontweight="bold",
        )  # fmt: skip
    mean = known_bound(board.bounds, scenario)
    axes.axvline(mean, color=RED, linestyle="--", linewidth=1)
    axes.annotate(
        "bound-known", (mean, len(shown) - 0.4), xytext=(-4, 0), textcoords="offset points",
        ha="right", va="bottom", color=RED, fontsize=8.5,
    )  # fmt: skip
    axes.set_yticks(range(len(shown)), [r.policy for r in shown])
    axes.set_ylim(-0.6, len(shown) + 0.1)
    axes.set_xlim(left=0.0)
    axes.set_xlabel("penalised value, account currency")
    _bare(axes)
    return _svg(figure)


def forest(board: Scoreboard) -> str:
    """Ratios with their intervals, a panel per scenario."""
    comparisons = board.comparisons
    scenarios = list(dict.fromkeys(c.scenario for c in comparisons if c.ratio is not None))
    if not scenarios:
        return ""
    policies = list(dict.fromkeys(c.policy for c in comparisons))[::-1]
    columns = min(len(scenarios), 4)
    lines = -(-len(scenarios) // columns)
    size = (10.5, lines * (0.24 * len(policies) + 0.7) + 0.4)
    figure = Figure(figsize=size)
    panels: Any = figure.subplots(lines, columns, sharey=True, sharex=True, squeeze=False)
    for at, axes in enumerate(panels.ravel()):
        if at >= len(scenarios):
            axes.set_visible(False)
            continue
        for c in comparisons:
            if c.scenario != scenarios[at] or c.ratio is None:
                continue
            k = policies.index(c.policy)
            sure = c.verdict in ("better", "worse")
            colour = BLUE if c.verdict == "better" else RED if sure else PALE
            if c.ratio.low is not None and c.ratio.high is not None:
                axes.plot(
                    [c.ratio.low, c.ratio.high], [k, k], color=colour, linewidth=2, solid_capstyle="round"
                )
            axes.plot([c.ratio.value], [k], "o", color=colour, markersize=4.5)
        axes.axvline(1.0, color=INK, linewidth=0.8)
        axes.set_xscale("log")
        axes.set_title(board.label(scenarios[at]), fontsize=9.5, loc="left")
        axes.set_yticks(range(len(policies)), policies, fontsize=8.5)
        axes.xaxis.set_major_locator(mpl.ticker.FixedLocator([0.25, 0.5, 1.0, 2.0, 4.0, 8.0]))
        axes.xaxis.set_major_formatter(mpl.ticker.FormatStrFormatter("%g"))
        axes.xaxis.set_minor_locator(mpl.ticker.NullLocator())
        axes.tick_params(labelbottom=True)
        axes.set_ylim(-0.6, len(policies) - 0.4)
        _bare(axes)
    return _svg(figure)


def _bare(axes: Any) -> None:
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(PALE)
    axes.tick_params(length=0)
    axes.grid(axis="x", color="#e3e6ea", linewidth=0.7)
    axes.set_axisbelow(True)


def _svg(figure: Figure) -> str:
    figure.set_layout_engine("tight")
    out = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": SALT}):
        figure.savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue()
    return text[text.index("<svg") :]
