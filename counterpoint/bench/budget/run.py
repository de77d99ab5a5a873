"""Runs the parts of ``counterpoint bench budget``. The report has no times in it: the same settings give the same bytes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from rich.progress import Progress

from counterpoint.base.errors import ConfigError
from counterpoint.bench.bidding.run import Line, Report, Settings, Times, Timing
from counterpoint.bench.bidding.verdict import PartResult
from counterpoint.bench.budget.daily import ARM, daily
from counterpoint.bench.budget.paths import paths
from counterpoint.bench.budget.splits import splits, tilt
from counterpoint.bench.budget.together import together

PARTS: Final = ("splits", "paths", "tilt", "together", "daily")


def chosen(names: Sequence[str]) -> tuple[str, ...]:
    wanted = [name.strip() for given in names for name in given.split(",") if name.strip()]
    for name in wanted:
        if name not in PARTS:
            raise ConfigError(f"bench budget has no part {name!r}; there are: {', '.join(PARTS)}")
    return tuple(name for name in PARTS if not wanted or name in wanted)


def run(
    names: Sequence[str],
    seeds: tuple[int, ...],
    *,
    table: Path | None = None,
    arm: Sequence[str] = (),
    value: str = "revenue",
    sort: bool = False,
    keep: Path | None = None,
    plots: Path | None = None,
    quick: bool = False,
    progress: Progress | None = None,
) -> tuple[Report, Times]:
    """``table``: the daily log; alone it is the only part run. ``keep``: folder where true curves are kept between runs."""
    if plots is not None:
        plots.mkdir(parents=True, exist_ok=True)
    parts = ("daily",) if table is not None and not names else chosen(names)
    results: list[PartResult] = []
    timings: list[Timing] = []
    for name in parts:
        report = _reporter(progress, name)
        begun = time.perf_counter()
        results.append(_part(name, seeds, table, arm, value, sort, keep, plots, quick, report))
        timings.append(Timing(part=name, seconds=time.perf_counter() - begun))
        report("done", 1.0)
    lines = [Line(part=r.part, verdict=v, says=v.line(quick)) for r in results for v in r.verdicts]
    settings = Settings(parts=parts, seeds=seeds, data=table is not None, quick=quick)
    return (
        Report(settings=settings, lines=lines, parts=results),
        Times(lines=[], parts=[], timings=timings),
    )


def _part(
    name: str,
    seeds: tuple[int, ...],
    table: Path | None,
    arm: Sequence[str],
    value: str,
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
    return daily(table, arm or ARM, value=value, sort=sort)


def _reporter(progress: Progress | None, name: str) -> Callable[[str, float], None]:
    if progress is None:
        return lambda label, share: None
    task = progress.add_task(name, total=1.0)
    return lambda label, share: progress.update(task, completed=share, description=f"{name}: {label}")
