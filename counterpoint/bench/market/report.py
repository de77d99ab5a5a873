"""The scoreboard as one HTML file: tables, and plots as inline SVG; nothing is loaded from anywhere."""

from __future__ import annotations

import io
from collections.abc import Sequence
from html import escape
from typing import Any, Final

from matplotlib.figure import Figure

from counterpoint.bench.market.scoreboard import Scoreboard, Summary, Timing
from counterpoint.bench.market.statistics import Comparison

STYLE: Final = """
body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;color:#1b1f24;background:#fff}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2.2rem}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;width:100%}
th,td{padding:.25rem .6rem;text-align:right;border-bottom:1px solid #e3e6ea}th{font-weight:600;background:#f5f6f8}
th:first-child,td:first-child{text-align:left}small{color:#59636e}.wide{overflow-x:auto}.bad{color:#b3261e}svg{max-width:100%;height:auto}
"""


def html(board: Scoreboard, timings: Sequence[Timing]) -> str:
    s = board.settings
    seeds = f"{len(s.seeds)} seeds: {_ranges(s.seeds)}"
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width,initial-scale=1'>",
        f"<title>Scoreboard</title><style>{STYLE}</style>",
        f"<h1>Scoreboard of the simulated market</h1><p>{escape(seeds)}.</p><ul>",
        *(f"<li>{escape(note)}</li>" for note in board.notes),
        "</ul>",
    ]
    if board.ordering:
        parts.append(
            f"<p class=bad>{len(board.ordering)} times somebody stood above a bound or the oracle; see the JSON.</p>"
        )
    for name in s.scenarios:
        rows = [r for r in board.summaries if r.scenario == name]
        parts.append(
            f"<h2>{escape(name)}</h2><p><small>digest {board.digests[name]}; {board.auctions[name]:,} auctions, "
            f"first {board.warm_up_days[name]} days not judged</small></p>"
        )
        parts += [_bars(board, name, rows), _table(rows)]
    parts.append(f"<h2>Against {escape(s.against)}</h2>")
    parts.append(
        f"<p>Paired by seed, geometric mean of ratios of penalised value, 95 % bootstrap. "
        f"Sample size: from the first ten seeds, for the gain they show (at least {s.effect:.0%}), 5 % one-sided, 90 % power.</p>"
    )
    parts += [
        _forest(board.comparisons),
        _compared(board.comparisons),
        "<h2>Time</h2>",
        _times(timings),
        "</html>",
    ]
    return "\n".join(parts)


def _table(rows: Sequence[Summary]) -> str:
    head = (
        "policy", "penalised value", "value", "spend", "overspend", "cost / target", "CPA", "CTR",
        "reach", "relevance", "of known bound", "regret",
    )  # fmt: skip
    body = [
        (
            f"<b>{escape(r.policy)}</b> <small>{escape(r.title)}</small>",
            f"{r.penalised:,.2f}",
            f"{r.value:,.2f}",
            f"{r.spend:,.2f}",
            f"{r.overspend:g}",
            number(r.cost_to_target, ".2f"),
            number(r.cpa, ".2f"),
            number(r.ctr, ".2%"),
            f"{r.reach:,.0f}",
            number(r.relevance, ".3f"),
            number(r.of_known_bound, ".1%"),
            number(r.regret, ",.2f"),
        )
        for r in rows
    ]
    return _html_table(head, body)


def _compared(comparisons: Sequence[Comparison]) -> str:
    body = [
        (
            escape(c.policy),
            escape(c.scenario),
            str(c.pairs),
            ratio(c),
            str(c.pairs_needed or "-"),
            escape(c.verdict),
        )
        for c in comparisons
    ]
    return _html_table(("policy", "scenario", "seeds", "ratio", "seeds needed", "verdict"), body)


def _times(timings: Sequence[Timing]) -> str:
    names = dict.fromkeys((t.scenario, t.policy) for t in timings)
    body = []
    for scenario, policy in names:
        here = [t for t in timings if (t.scenario, t.policy) == (scenario, policy)]
        seconds = sum(t.seconds for t in here)
        rate = sum(t.auctions for t in here) / seconds if seconds > 0 else 0.0
        body.append((escape(policy), escape(scenario), f"{seconds / len(here):.2f}", f"{rate:,.0f}"))
    return _html_table(("policy", "scenario", "seconds a seed", "auctions per second"), body)


def _html_table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{name}</th>" for name in head)
    rows = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in body)
    return f"<div class=wide><table><tr>{top}</tr>{rows}</table></div>"


def _bars(board: Scoreboard, scenario: str, rows: Sequence[Summary]) -> str:
    figure = Figure(figsize=(9, 0.34 * len(rows) + 1.0))
    axes: Any = figure.subplots()
    names = [r.policy for r in rows][::-1]
    colours = ["#7d8590" if r.oracle else "#d29922" if r.hindsight else "#2f6fde" for r in rows][::-1]
    axes.barh(names, [r.penalised for r in rows][::-1], color=colours, height=0.62)
    for k, name in enumerate(names):
        points = [s.penalised for s in board.scores if (s.scenario, s.policy) == (scenario, name)]
        axes.plot(points, [k] * len(points), "|", color="#1b1f24", markersize=7)
    known = [b.known for b in board.bounds if b.scenario == scenario]
    axes.axvline(sum(known) / len(known), color="#b3261e", linestyle="--", linewidth=1)
    axes.set_xlabel("penalised value, account currency; ticks: seeds; dashed: bound-known, mean")
    return _svg(figure)


def _forest(comparisons: Sequence[Comparison]) -> str:
    shown = [c for c in comparisons if c.ratio is not None][::-1]
    if not shown:
        return ""
    figure = Figure(figsize=(9, 0.26 * len(shown) + 1.0))
    axes: Any = figure.subplots()
    for k, c in enumerate(shown):
        assert c.ratio is not None
        sure = not c.verdict.startswith("refused")
        axes.plot([c.ratio.low, c.ratio.high], [k, k], color="#2f6fde" if sure else "#9aa4af")
        axes.plot([c.ratio.value], [k], "o", color="#2f6fde" if sure else "#9aa4af", markersize=4)
    axes.set_yticks(range(len(shown)), [f"{c.policy}, {c.scenario}" for c in shown])
    axes.axvline(1.0, color="#1b1f24", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xlabel("ratio of penalised value; grey: no verdict at this number of seeds")
    return _svg(figure)


def _svg(figure: Figure) -> str:
    figure.set_layout_engine("tight")
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue()
    return text[text.index("<svg") :]


def number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def ratio(c: Comparison) -> str:
    return "-" if c.ratio is None else f"{c.ratio.value:.3f} [{c.ratio.low:.3f}, {c.ratio.high:.3f}]"


def _ranges(seeds: Sequence[int]) -> str:
    if len(seeds) > 1 and list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]}-{seeds[-1]}"
    return ", ".join(str(s) for s in seeds)
