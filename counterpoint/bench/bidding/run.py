"""Runs the parts and says what came of them: terminal, JSON (the same bytes for the same settings), times beside it.

Ctrl-C keeps the parts that are finished: they are shown and written, marked as stopped."""

from __future__ import annotations

import re
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
from counterpoint.base.plain import columns
from counterpoint.base.words import instead_of, names_of
from counterpoint.bench.bidding.budget import FILES as BUDGET_FILES
from counterpoint.bench.bidding.budget import budget
from counterpoint.bench.bidding.cost import cost
from counterpoint.bench.bidding.cpa import cpa
from counterpoint.bench.bidding.delays import delays
from counterpoint.bench.bidding.learning import learning
from counterpoint.bench.bidding.pacing import pacing
from counterpoint.bench.bidding.shading import FILES as SHADING_FILES
from counterpoint.bench.bidding.shading import RAW_FILES, shading
from counterpoint.bench.bidding.shock import shock
from counterpoint.bench.bidding.simulated import simulated
from counterpoint.bench.bidding.values import values
from counterpoint.bench.bidding.verdict import Context, PartResult, Table, Verdict
from counterpoint.market.fit import DELAYS

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
LOGS: Final[dict[str, tuple[str, ...]]] = {
    "shading": (*SHADING_FILES, *RAW_FILES),
    "delays": (DELAYS,),
    "budget": BUDGET_FILES,
}
VERDICT_WIDTH: Final = 42  # of a terminal's 100 columns


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
    stopped: bool = False  # Ctrl-C: parts of the settings are missing here
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
    wanted = names_of(names)
    for name in wanted:
        if name not in PARTS:
            raise ConfigError(f"bench bidding has no part {name!r}; {instead_of(name, PARTS)}")
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
    parts = chosen(names)
    _check_logs(parts, data, bool(names_of(names)))
    if plots is not None:
        plots.mkdir(parents=True, exist_ok=True)

    def one(name: str, report: Callable[[str, float], None]) -> PartResult:
        return PARTS[name](Context(seeds=seeds, data=data, plots=plots, quick=quick, report=report))

    results, timings, stopped = one_by_one(parts, one, progress)
    steady = [result for result in results if not result.timed]
    timed = [result for result in results if result.timed]
    report = Report(
        settings=Settings(parts=parts, seeds=seeds, data=data is not None, quick=quick),
        stopped=stopped,
        lines=_lines(steady, quick),
        parts=steady,
    )
    return report, Times(lines=_lines(timed, quick), parts=timed, timings=timings)


def _check_logs(parts: Sequence[str], data: Path | None, named: bool) -> None:
    """Skipping is for who asked for everything and named no folder. Raises :class:`ConfigError` with the files expected."""
    if data is None and not named:
        return
    missing = [
        f"{part}: {file}"
        for part in parts
        for file in LOGS.get(part, ())
        if data is None or not (data / file).is_file()
    ]
    if missing:
        head = "real logs are needed; name their folder with --data" if data is None else f"not in {data}"
        cure = "what lies where: docs/benchmarks.md; --parts leaves a part out"
        raise ConfigError("\n  ".join([f"{head}:", *missing, cure]))


def one_by_one(
    parts: Sequence[str],
    run_part: Callable[[str, Callable[[str, float], None]], PartResult],
    progress: Progress | None,
) -> tuple[list[PartResult], list[Timing], bool]:
    """What is finished of ``parts``, and whether Ctrl-C came before the last was."""
    results: list[PartResult] = []
    timings: list[Timing] = []
    for name in parts:
        told = _Told(progress, name)
        begun = time.perf_counter()
        try:
            results.append(run_part(name, told.report))
        except KeyboardInterrupt:
            return results, timings, True
        timings.append(Timing(part=name, seconds=time.perf_counter() - begun))
        told.done()
    return results, timings, False


class _Told:
    """A bar on a terminal; in a file a line for each part and scenario that is finished."""

    def __init__(self, progress: Progress | None, name: str) -> None:
        self._progress, self._name = progress, name
        self._now = ""
        self._begun = time.perf_counter()
        self._task = progress.add_task(name, total=1.0) if progress is not None else None

    def report(self, label: str, share: float) -> None:
        if self._progress is None or self._task is None:
            return
        self._progress.update(self._task, completed=share, description=f"{self._name}: {label}")
        what = re.split(r",? seed |[,:] ", label)[0]
        if self._now and what != self._now:
            self._line(f"{self._name}: {self._now}")
        self._now = what

    def done(self) -> None:
        self.report("done", 1.0)
        self._line(self._name)

    def _line(self, what: str) -> None:
        if self._progress is not None and not self._progress.console.is_terminal:
            self._progress.console.print(f"{what} finished, {time.perf_counter() - self._begun:.0f} s")


def _lines(results: Sequence[PartResult], quick: bool) -> list[Line]:
    return [Line(part=r.part, verdict=v, says=v.line(quick)) for r in results for v in r.verdicts]


def write(report: Report, times: Times, json: Path | None) -> None:
    """The report to ``json``; what differs from run to run beside it (``NAME.timing.json``)."""
    if json is not None:
        for path, value in ((json, report), (json.with_name(f"{json.stem}.timing.json"), times)):
            path.write_bytes(msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n")


def shown(report: Report, times: Times, plain: bool = False) -> Group:
    """``plain``: for a pipe, a line a row and nothing cut; else folded into the terminal's width."""
    out: list[RichTable | str] = []
    for result in (*report.parts, *times.parts):
        out += [f"== {result.part}"]
        out += [_drawn(table, plain) for table in result.tables]
        out += [f"- {note}" for note in result.notes]
        out += [f"- SKIPPED: {reason}" for reason in result.skipped]
        out.append("")
    # a part without a bar says everything in its tables
    barred = {r.part for r in (*report.parts, *times.parts) if any(v.target is not None for v in r.verdicts)}
    lines = [line for line in (*report.lines, *times.lines) if line.part in barred]
    if lines:
        out.append(_bars_plain(lines) if plain else _bars(lines))
    return Group(*out)


def _target(v: Verdict) -> str:
    return "-" if v.target is None else f"{v.kind} {v.target:g}{' ' + v.unit if v.unit else ''}"


def _bars_plain(lines: Sequence[Line]) -> str:
    rows = [
        (each.part, v.bar, _target(v), v.figure(), each.says, v.behind)
        for each in lines
        for v in [each.verdict]
    ]
    return "\n".join(
        ["bars", *columns([("part", "bar", "target", "measured", "verdict", "behind it"), *rows])]
    )


def _bars(lines: Sequence[Line]) -> RichTable:
    """Figures and verdicts in one piece; the bar's text is wrapped into what is left."""
    table = RichTable(title="bars", title_justify="left", box=None)
    table.add_column("part", no_wrap=True)
    table.add_column("bar (behind it)", ratio=1)
    table.add_column("measured; target: verdict", max_width=VERDICT_WIDTH)
    for line in lines:
        v = line.verdict
        target = "" if v.target is None else f"{_target(v)}: "
        table.add_row(line.part, f"{v.bar} ({v.behind})", f"{v.figure()}\n{target}{line.says}")
    return table


def _drawn(table: Table, plain: bool) -> RichTable | str:
    if plain:
        rows = columns([table.head, *table.rows], right=range(1, len(table.head)))
        return "\n".join([table.title, *rows])
    drawn = RichTable(title=table.title, title_justify="left", box=None)
    for k, head in enumerate(table.head):
        drawn.add_column(head, justify="right" if k else "left", no_wrap=not k)
    for row in table.rows:
        drawn.add_row(*row)
    return drawn
