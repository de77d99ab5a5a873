"""Part ``paths``: as ``splits``, but an arm is one campaign on one supply path, so that money also moves between channels.

That is many arms on the same few outcomes. Only the scenarios' own traffic, and no bars: those are for campaigns.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Final

import numpy as np

from counterpoint.bench.bidding.verdict import PartResult, Table, over_seeds
from counterpoint.bench.budget.market import markets_of
from counterpoint.bench.budget.splits import FAMILIES, Outcome, judge
from counterpoint.bench.budget.splitters import ByReturn, Splitter, greedy
from counterpoint.bench.budget.table import Table as Curves
from counterpoint.bench.budget.table import kept
from counterpoint.market.load import scenario_named

SCENARIOS: Final = ("drift-v1", "jumps-v1", "weekend-v1", "delay-v1")  # memory of people is per path already
PLAYED: Final = (
    "equal",
    "roas",
    "model-free",
    "greedy",
    "greedy hearing margins",
    "agent",
    "agent, no margins",
)
GREEDY: Final = tuple(product((0.9, 0.95, 0.98, 0.99, 1.0), (3.0, 10.0, 30.0)))
ROAS: Final = ((0.97, 0.0, 1.0), *product((0.97, 1.0), (0.3, 1.0, 3.0), (1.0, 2.0, 4.0)))
MADE: Final[
    dict[str, tuple[Callable[[], Splitter], ...]]
] = {  # fewer constants than in ``splits``: three times the arms
    **FAMILIES,
    "roas": tuple(partial(ByReturn, *c) for c in ROAS),
    "greedy": tuple(partial(greedy, *c) for c in GREEDY),
    "greedy hearing margins": tuple(partial(greedy, *c, margins=True) for c in GREEDY),
}


def paths(
    seeds: tuple[int, ...],
    folder: Path | None,
    report: Callable[[str, float], None] = lambda label, share: None,
) -> PartResult:
    found: list[Outcome] = []
    arms: list[int] = []
    for i, name in enumerate(SCENARIOS):
        scenario = scenario_named(name)
        tables = able([kept(scenario, seed, folder, paths=True) for seed in seeds])
        arms.append(tables[0].budget.size)
        markets = markets_of(scenario, tables, list(seeds), 1.0)
        found.append(
            judge(
                scenario,
                markets,
                lambda label, share, done=i: report(label, (done + share) / len(SCENARIOS)),  # type: ignore[misc]
                PLAYED,
                MADE,
            )
        )
    rows = []
    for family in PLAYED:
        of = [over_seeds(o.shares[family].tolist()) for o in found]
        rows.append(
            (family, *(f"{m.value:.4f} [{m.low or m.value:.4f}, {m.high or m.value:.4f}]" for m in of))
        )
    for against in ("equal", "greedy", "greedy hearing margins"):
        gaps = [over_seeds((100.0 * (o.shares["agent"] / o.shares[against] - 1.0)).tolist()) for o in found]
        rows.append(
            (
                f"agent against {against}, %",
                *(f"{m.value:+.2f} [{m.low or m.value:+.2f}, {m.high or m.value:+.2f}]" for m in gaps),
            )
        )
    notes = []
    for family, grid in (("roas", ROAS), ("greedy", GREEDY), ("greedy hearing margins", GREEDY)):
        best = (f"{o.scenario} " + "/".join(f"{c:g}" for c in grid[o.constant[family]]) for o in found)
        notes.append(f"best of {len(grid)} constants of {family}: {', '.join(best)}")
    return PartResult(
        part="paths",
        verdicts=(),
        tables=(
            Table(
                title="share of the dynamic oracle, arms are campaigns on one supply path",
                head=("splitter", *(f"{o.scenario} ({n} arms)" for o, n in zip(found, arms, strict=True))),
                rows=tuple(rows),
            ),
        ),
        notes=tuple(notes),
    )


def able(tables: list[Curves]) -> list[Curves]:
    """Without arms that can never spend, in any of the markets: a campaign may have no creative for a path's format."""
    can = np.any([t.spend[..., -1].sum(axis=0) > 0 for t in tables], axis=0)
    return [
        Curves(
            spend=t.spend[:, can],
            value=t.value[:, can],
            shown=t.shown[:, can],
            auctions=t.auctions,
            event=t.event[can],
            converts=t.converts[can],
            delay=t.delay,
            budget=t.budget[can] * t.budget.sum() / t.budget[can].sum(),
        )
        for t in tables
    ]
