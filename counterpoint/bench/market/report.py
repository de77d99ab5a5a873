"""The scoreboard as one HTML file: what may be said, tables, and plots as inline SVG; nothing is loaded from anywhere.

The same bytes for the same scoreboard: no times, no dates, names of SVG parts salted by a constant.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

from counterpoint.bench.market.intervals import Interval
from counterpoint.bench.market.plots import bars, forest
from counterpoint.bench.market.scoreboard import Scoreboard, Summary
from counterpoint.bench.market.statistics import LEVEL, PAIRS_MIN, Comparison

STYLE: Final = """
:root{--ink:#1b1f24;--soft:#59636e;--line:#e3e6ea;--wash:#f5f6f8;--blue:#2f6fde;--amber:#b7791f;--grey:#7d8590;--red:#b3261e;--green:#1a7f37}
*{box-sizing:border-box}
body{font:15px/1.5 system-ui,sans-serif;margin:0 auto;max-width:74rem;padding:2.2rem 1.4rem 4rem;color:var(--ink);background:#fff}
h1{font-size:1.7rem;line-height:1.2;margin:0 0 .3rem}h2{font-size:1.25rem;margin:2.8rem 0 .2rem}
p{margin:.4rem 0;max-width:60rem}small,.soft{color:var(--soft)}
nav{margin:1rem 0 1.4rem;display:flex;flex-wrap:wrap;gap:.35rem .9rem}nav a{color:var(--blue);text-decoration:none}
.facts{display:flex;flex-wrap:wrap;gap:.8rem 2.4rem;padding:0;margin:1.2rem 0}.facts div{min-width:6rem}
.facts b{display:block;font-size:1.35rem;line-height:1.2;font-variant-numeric:tabular-nums}.facts span{color:var(--soft);font-size:.85rem}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;width:100%;font-size:.82rem}
th,td{padding:.3rem .4rem;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
th{font-weight:600;background:var(--wash);position:sticky;top:0}
th:first-child,td:first-child{text-align:left;min-width:11rem}td.what,td:last-child{white-space:normal}td.what small{display:block;line-height:1.25}
tr:hover td{background:#fafbfc}.wide{overflow-x:auto;margin:.6rem 0 1rem}
.grid{width:auto;min-width:26rem}.grid td{min-width:7rem;text-align:center;border:2px solid #fff;padding:.4rem .5rem}.grid td:first-child{text-align:left;border-left:0}.grid th{text-align:center}.grid th:first-child{text-align:left}
.k{display:inline-block;width:.7rem;height:.7rem;border-radius:2px;margin:0 .35rem 0 .9rem;vertical-align:-1px}
.better{color:var(--green);font-weight:600}.worse{color:var(--red);font-weight:600}.refused{color:var(--soft)}
.bad{color:var(--red);font-weight:600}.good{color:var(--green)}svg{max-width:100%;height:auto;display:block}ul{margin:.4rem 0;padding-left:1.2rem}
"""
KINDS: Final = (
    ("var(--blue)", "plays with what a bidder sees"),
    ("var(--amber)", "constant chosen on this very seed"),
    ("var(--grey)", "knows the truth"),
)


def html(board: Scoreboard) -> str:
    s = board.settings
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width,initial-scale=1'>",
        f"<title>Scoreboard of the simulated market</title><style>{STYLE}</style>",
        "<h1>Scoreboard of the simulated market</h1>",
        "<p class=soft>Every policy of a seed meets the same people, rivals and luck. Judged by true probabilities, after the warm-up.</p>",
        _facts(board),
        "<nav>"
        + "".join(f"<a href='#{escape(name)}'>{escape(board.label(name))}</a>" for name in s.scenarios)
        + "<a href='#against'>comparisons</a><a href='#notes'>notes</a></nav>",
        _ordering(board),
        "<h2>Share of what could be earned</h2>",
        "<p class=soft>Value as a share of <i>bound-known</i>, an upper bound for who knows every probability and not the rivals' draws. "
        "Mean over seeds. It ignores the penalty for missed targets: see the tables.</p>",
        _grid(board),
    ]
    for name in s.scenarios:
        rows = [r for r in board.summaries if r.scenario == name]
        parts += [
            f"<h2 id='{escape(name)}'>{escape(board.label(name))}</h2><p class=soft>digest {board.digests[name]}; {board.auctions[name]:,} auctions, "
            f"first {board.warm_up_days[name]} days not judged. Bars: mean penalised value; dots: seeds. {_legend()}</p>",
            bars(board, name, rows),
            _table(rows),
        ]
    parts += [
        f"<h2 id=against>Against {escape(s.against)}</h2>",
        "<p class=soft>Paired by seed: geometric mean of ratios of penalised value, 95 % by Student's and Hall's t, the wider. "
        "Probability of improvement: how many seeds are better. Verdicts: "
        f"two-sided {LEVEL:.0%} after Holm's correction for all {len(board.comparisons)} comparisons below, and none below the sample "
        f"size that the first ten seeds ask for (90 % power at that level, for a gain of at least {s.effect:.0%}). Grey: no verdict.</p>",
        forest(board),
        _compared(board),
        "<h2 id=notes>Notes</h2><ul>",
        *(f"<li>{escape(note)}</li>" for note in (*board.notes, *resized_notes(board))),
        "</ul></html>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _facts(board: Scoreboard) -> str:
    s = board.settings
    judged = [c for c in board.comparisons if not c.verdict.startswith("refused")]
    shown = (
        (f"{len(s.seeds)}", f"seeds: {ranges(s.seeds)}"),
        (f"{len(s.scenarios)}", "scenarios" if len(s.scenarios) > 1 else "scenario"),
        (f"{len(s.policies)}", "policies"),
        (f"{len(judged)} of {len(board.comparisons)}", "comparisons with a verdict"),
        (f"{sum(x.overspend for x in board.scores):g}", "overspent, over all runs"),
    )
    cells = "".join(f"<div><b>{escape(n)}</b><span>{escape(what)}</span></div>" for n, what in shown)
    return f"<div class=facts>{cells}</div>"


def _ordering(board: Scoreboard) -> str:
    if not board.ordering:
        return "<p class=good>Nobody stands above bound-hindsight or the oracle on any seed, nor above bound-known in the mean.</p>"
    lines = "".join(f"<li>{escape(o.line)}</li>" for o in board.ordering[:20])
    return f"<p class=bad>{len(board.ordering)} times somebody stood above a bound or the oracle.</p><ul>{lines}</ul>"


def _legend() -> str:
    return "".join(f"<span class=k style='background:{colour}'></span>{what}" for colour, what in KINDS)


def _grid(board: Scoreboard) -> str:
    s = board.settings
    share = {(r.policy, r.scenario): r.of_known_bound for r in board.summaries}
    rows = []
    for policy in s.policies:
        cells = [f"<td>{escape(policy)}</td>"]
        for scenario in s.scenarios:
            value = share[policy, scenario]
            deep = min(max(value or 0.0, 0.0), 1.0)
            ink = "#fff" if deep > 0.55 else "inherit"
            cells.append(
                f"<td style='background:rgba(47,111,222,{0.06 + 0.9 * deep:.2f});color:{ink}'>{number(value, '.0%')}</td>"
            )
        rows.append(f"<tr>{''.join(cells)}</tr>")
    head = "".join(f"<th>{escape(name)}</th>" for name in ("policy", *map(board.label, s.scenarios)))
    return f"<div class=wide><table class=grid><tr>{head}</tr>{''.join(rows)}</table></div>"


def _table(rows: Sequence[Summary]) -> str:
    head = (
        "policy", "penalised value", "value", "spend", "overspend", "cost / target", "CPA", "CTR",
        "reach", "relevance", "of bound", "regret",
    )  # fmt: skip
    body = [
        (
            f"<b>{escape(r.policy)}</b><small>{escape(r.title)}</small>",
            f"<b>{r.penalised:,.2f}</b>",
            *figures(r),
            number(r.regret, ",.2f"),
        )
        for r in rows
    ]
    return _html_table(head, body)


def _compared(board: Scoreboard) -> str:
    body = [
        (
            f"<b>{escape(c.policy)}</b>",
            escape(board.label(c.scenario)),
            str(c.pairs),
            ratio(c.ratio),
            share(c.improves),
            number(c.p_holm, ".3f"),
            str(c.pairs_needed or "-"),
            f"<span class={c.verdict.split(':')[0].split()[0]}>{escape(verdict(c))}</span>",
        )
        for c in board.comparisons
    ]
    head = ("policy", "scenario", "seeds", "ratio", "better on", "p, Holm", "seeds needed", "verdict")
    return _html_table(head, body)


def _html_table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{name}</th>" for name in head)
    rows = "".join(
        "<tr>"
        + "".join(f"<td{' class=what' if k == 0 else ''}>{cell}</td>" for k, cell in enumerate(row))
        + "</tr>"
        for row in body
    )
    return f"<div class=wide><table><tr>{top}</tr>{rows}</table></div>"


def verdict(c: Comparison) -> str:
    """What a reader needs first: where it is refused, how many seeds it takes."""
    if c.verdict.startswith("refused") and c.ratio is not None:
        return f"needs {c.pairs_needed or PAIRS_MIN:,} seeds, has {c.pairs}: no verdict"
    return c.verdict


def resized_notes(board: Scoreboard) -> list[str]:
    return [
        f"{name} (resized): {board.auctions[name]:,} auctions, not as many as the scenario of that name has; "
        "its figures are not to be set beside that one's."
        for name in board.resized
    ]


def figures(r: Summary) -> tuple[str, ...]:
    """Value, spend, overspend, cost / target, CPA, CTR, reach, relevance, share of the bound."""
    return (
        f"{r.value:,.2f}",
        f"{r.spend:,.2f}",
        f"{r.overspend:g}",
        number(r.cost_to_target, ".2f"),
        number(r.cpa, ".2f"),
        number(r.ctr, ".2%"),
        f"{r.reach:,.0f}",
        number(r.relevance, ".3f"),
        number(r.of_known_bound, ".1%"),
    )


def number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def ratio(interval: Interval | None) -> str:
    return "-" if interval is None else f"{interval.value:.3f} {_ends(interval, '.3f')}"


def share(interval: Interval | None) -> str:
    return "-" if interval is None else f"{interval.value:.0%} {_ends(interval, '.0%')}"


def _ends(interval: Interval, form: str) -> str:
    return f"[{number(interval.low, form)}, {number(interval.high, form)}]"


def ranges(seeds: Sequence[int]) -> str:
    if len(seeds) > 1 and list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]}-{seeds[-1]}"
    return ", ".join(str(s) for s in seeds)
