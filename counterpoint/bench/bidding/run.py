"""Runs the parts and says what came of them: terminal, JSON (the same bytes for the same settings), times beside it."""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct
from rich.console import Group
from rich.progress import Progress
from rich.table import Table as RichTable

from counterpoint.base.errors import ConfigError
from counterpoint.bench.bidding.budget import budget
from counterpoint.bench.bidding.cost import cost
from counterpoint.bench.bidding.cpa import cpa
from counterpoint.bench.bidding.delays import delays
from counterpoint.bench.bidding.learning import learning
from counterpoint.bench.bidding.pacing import pacing
from counterpoint.bench.bidding.shading import shading
from counterpoint.bench.bidding.shock import shock
from counterpoint.bench.bidding.simulated import simulated
from counterpoint.bench.bidding.values import values
from counterpoint.bench.bidding.verdict import Context, PartResult, Table, Verdict

PARTS: Final[dict[str, Callable[[Context], PartResult]]] = {
    "shading": shading,
    "simulated": simulated,
    "learning": learning,
    "shock": shock,
    "values": values,
    "delays": delays,
    "budget": budget,
    "cpa": cpa,
    "pacing": pacing,
    "cost": cost,
}


class Line(Struct, frozen=True, kw_only=True):
    """A verdict in words beside its numbers."""

    part: str
    verdict: Verdict
    says: str


class Settings(Struct, frozen=True, kw_only=True):
    parts: tuple[str, ...]
    seeds: tuple[int, ...]
    data: bool  # whether there was a folder of real logs; its path is nobody's business
    quick: bool


class Report(Struct, frozen=True, kw_only=True):
    settings: Settings
    lines: list[Line]
    parts: list[PartResult]


class Timing(Struct, frozen=True, kw_only=True):
    part: str
    seconds: float


class Times(Struct, frozen=True, kw_only=True):
    """What differs from run to run."""

    lines: list[Line]
    parts: list[PartResult]
    timings: list[Timing]


def chosen(names: Sequence[str]) -> tuple[str, ...]:
    """In the order of :data:`PARTS`, all where none is named. Raises :class:`ConfigError` with a cure."""
    wanted = [name.strip() for given in names for name in given.split(",") if name.strip()]
    for name in wanted:
        if name not in PARTS:
            close = difflib.get_close_matches(name, PARTS, 1)
            cure = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(PARTS)}"
            raise ConfigError(f"bench bidding has no part {name!r}; {cure}")
    return tuple(name for name in PARTS if not wanted or name in wanted)


def run(
    names: Sequence[str],
    seeds: tuple[int, ...],
    data: Path | None = None,
    plots: Path | None = None,
    quick: bool = False,
    progress: Progress | None = None,
) -> tuple[Report, Times]:
    """Every part named, one after the other."""
    if data is not None and not data.is_dir():
        raise ConfigError(
            f"{data} is no folder; --data names the folder of the real logs: docs/benchmarks.md"
        )
    if plots is not None:
        plots.mkdir(parents=True, exist_ok=True)
    parts = chosen(names)
    results: list[PartResult] = []
    timings: list[Timing] = []
    for name in parts:
        context = Context(seeds=seeds, data=data, plots=plots, quick=quick, report=_reporter(progress, name))
        begun = time.perf_counter()
        results.append(PARTS[name](context))
        timings.append(Timing(part=name, seconds=time.perf_counter() - begun))
        context.report("done", 1.0)
    steady = [result for result in results if not result.timed]
    timed = [result for result in results if result.timed]
    report = Report(
        settings=Settings(parts=parts, seeds=seeds, data=data is not None, quick=quick),
        lines=_lines(steady, quick),
        parts=steady,
    )
    return report, Times(lines=_lines(timed, quick), parts=timed, timings=timings)


def _lines(results: Sequence[PartResult], quick: bool) -> list[Line]:
    return [Line(part=r.part, verdict=v, says=v.line(quick)) for r in results for v in r.verdicts]


def _reporter(progress: Progress | None, name: str) -> Callable[[str, float], None]:
    if progress is None:
        return lambda label, share: None
    task = progress.add_task(name, total=1.0)
    return lambda label, share: progress.update(task, completed=share, description=f"{name}: {label}")


def write(report: Report, times: Times, json: Path | None) -> None:
    """The report to ``json``; what differs from run to run beside it (``NAME.timing.json``)."""
    if json is not None:
        for path, value in ((json, report), (json.with_name(f"{json.stem}.timing.json"), times)):
            path.write_bytes(msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n")


def shown(report: Report, times: Times) -> Group:
    out: list[RichTable | str] = []
    for result in (*report.parts, *times.parts):
        out += [f"== {result.part}"]
        out += [_drawn(table) for table in result.tables]
        out += [f"- {note}" for note in result.notes]
        out += [f"- SKIPPED: {reason}" for reason in result.skipped]
        out.append("")
    verdicts = RichTable(title="bars", title_justify="left", box=None)
    for head in ("part", "bar", "target", "measured", "verdict", "behind it"):
        verdicts.add_column(head)
    for line in (*report.lines, *times.lines):
        v = line.verdict
        target = "-" if v.target is None else f"{v.kind} {v.target:g}{' ' + v.unit if v.unit else ''}"
        verdicts.add_row(line.part, v.bar, target, v.figure(), line.says, v.behind)
    return Group(*out, verdicts)


def _drawn(table: Table) -> RichTable:
    drawn = RichTable(title=table.title, title_justify="left", box=None)
    for k, head in enumerate(table.head):
        drawn.add_column(head, justify="right" if k else "left", no_wrap=True)
    for row in table.rows:
        drawn.add_row(*row)
    return drawn
