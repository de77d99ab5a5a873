"""Part ``paths``: as ``splits``, but an arm is one campaign on one supply path, so that money also moves between channels.

Six campaigns on each path are many arms on the same few outcomes. Only the scenarios' own traffic, and no bars: the issue's
are for campaigns.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np

from counterpoint.bench.bidding.verdict import PartResult, Table, over_seeds
from counterpoint.bench.budget.market import markets_of
from counterpoint.bench.budget.splits import GREEDY, Outcome, judge
from counterpoint.bench.budget.table import Table as Curves
from counterpoint.bench.budget.table import kept
from counterpoint.market.load import scenario_named

SCENARIOS: Final = ("drift-v1", "jumps-v1", "weekend-v1", "delay-v1")  # memory of people is per path already
FAMILIES: Final = (
    "equal",
    "roas",
    "model-free",
    "greedy",
    "greedy hearing margins",
    "agent",
    "agent, no margins",
)


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
                FAMILIES,
            )
        )
    rows = []
    for family in FAMILIES:
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
    best = ", ".join(
        f"{o.scenario} "
        + " and ".join(
            "/".join(f"{c:g}" for c in GREEDY[o.constant[f]]) for f in ("greedy", "greedy hearing margins")
        )
        for o in found
    )
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
        notes=(f"best (memory, prior events) of greedy, without and with margins: {best}",),
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
