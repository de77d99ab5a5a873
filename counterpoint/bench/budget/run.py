"""Runs the parts of ``counterpoint bench budget``. The report has no times in it: the same settings give the same bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from rich.progress import Progress

from counterpoint.base.errors import ConfigError
from counterpoint.base.words import instead_of, names_of
from counterpoint.bench.bidding.run import Line, Report, Settings, Times, one_by_one
from counterpoint.bench.bidding.verdict import PartResult
from counterpoint.bench.budget.daily import Columns, daily
from counterpoint.bench.budget.paths import paths
from counterpoint.bench.budget.splits import splits, tilt
from counterpoint.bench.budget.together import together

PARTS: Final = ("splits", "paths", "tilt", "together", "daily")


def chosen(names: Sequence[str]) -> tuple[str, ...]:
    """In the order of :data:`PARTS`, all where none is named. Raises :class:`ConfigError` with a cure."""
    wanted = names_of(names)
    for name in wanted:
        if name not in PARTS:
            raise ConfigError(f"bench budget has no part {name!r}; {instead_of(name, PARTS)}")
    return tuple(name for name in PARTS if not wanted or name in wanted)


def run(
    names: Sequence[str],
    seeds: tuple[int, ...],
    *,
    table: Path | None = None,
    named: Columns | None = None,
    sort: bool = False,
    keep: Path | None = None,
    plots: Path | None = None,
    quick: bool = False,
    progress: Progress | None = None,
) -> tuple[Report, Times]:
    """``table``: the daily log, its columns ``named``; alone it is the only part run. ``keep``: folder where true curves are
    kept between runs."""
    parts = ("daily",) if table is not None and not names else chosen(names)
    if table is None and "daily" in names_of(names):
        raise ConfigError("part daily needs a table: --daily FILE; its columns are in docs/benchmarks.md")
    if plots is not None:
        plots.mkdir(parents=True, exist_ok=True)

    def one(name: str, report: Callable[[str, float], None]) -> PartResult:
        return _part(name, seeds, table, named or Columns(), sort, keep, plots, quick, report)

    results, timings, stopped = one_by_one(parts, one, progress)
    lines = [Line(part=r.part, verdict=v, says=v.line(quick)) for r in results for v in r.verdicts]
    seeded = seeds if parts != ("daily",) else ()  # a log is played once
    settings = Settings(parts=parts, seeds=seeded, data=table is not None, quick=quick)
    return (
        Report(settings=settings, stopped=stopped, lines=lines, parts=results),
        Times(lines=[], parts=[], timings=timings),
    )


def _part(
    name: str,
    seeds: tuple[int, ...],
    table: Path | None,
    named: Columns,
    sort: bool,
    keep: Path | None,
    plots: Path | None,
    quick: bool,
    report: Callable[[str, float], None],
) -> PartResult:
    if name == "splits":
        if quick:
            return splits(seeds, keep, plots, report, traffics=(1.0,))
        return splits(seeds, keep, plots, report)
    if name == "paths":
        return paths(seeds, keep, report)
    if name == "tilt":
        return tilt(seeds, keep, report, *([(1.0,)] if quick else []))
    if name == "together":
        return together(seeds, report)
    if table is None:
        return PartResult(part=name, skipped=("no table; --daily FILE names one: docs/benchmarks.md",))
    return daily(table, named, sort, plots)
