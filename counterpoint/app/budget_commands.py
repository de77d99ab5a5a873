"""``counterpoint bench budget`` and ``counterpoint train budget``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console

from counterpoint.app.options import (
    bar,
    shown_while,
    stoppable,
    tables_on,
    writable,
    writable_folder,
    write_out,
)
from counterpoint.base.errors import ConfigError, Stopped

if TYPE_CHECKING:
    from counterpoint.bench.bidding.run import Report, Times

ArmOption = Annotated[
    list[str] | None,
    typer.Option(
        help="The table's column that names the arm, several for arms of several. Left out: campaign_number and placement."
    ),
]
SpendOption = Annotated[str, typer.Option(help="The table's column of spend.")]
ValueOption = Annotated[str, typer.Option(help="The table's column of value.")]
DateOption = Annotated[
    str | None,
    typer.Option(
        help="The table's column of days, written 2017-04-01. Left out: date, or month and day (April, 1), or day."
    ),
]
SortOption = Annotated[bool, typer.Option("--sort", help="The table's days may be out of order.")]
train_app = typer.Typer(no_args_is_help=True, help="Training of what is learned beforehand, in simulation.")


def bench_budget(
    json: Annotated[Path | None, typer.Option(help="Write the report to this file.")] = None,
    daily: Annotated[
        Path | None,
        typer.Option(
            help="A table of spend and value by day and arm, CSV or gzipped: walk forward over it alone. "
            "Columns: date,ARM,cost,revenue with --arm ARM."
        ),
    ] = None,
    arm: ArmOption = None,
    spend: SpendOption = "cost",
    value: ValueOption = "revenue",
    date: DateOption = None,
    sort: SortOption = False,
    parts: Annotated[
        list[str] | None,
        typer.Option(
            help="splits, paths, tilt, together, daily; as often as wanted or with commas; default all."
        ),
    ] = None,
    seeds: Annotated[
        str, typer.Option(help="0-99 tune, 100-199 validate, 10000 and above test. Not of --daily.")
    ] = "100-129",
    keep: Annotated[
        Path | None, typer.Option(help="Folder for the markets' true curves: the next run is quicker.")
    ] = None,
    plots: Annotated[Path | None, typer.Option(help="Draw plots (PNG) into this folder.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Small: to see that it runs. No verdicts.")] = False,
) -> None:
    """Bar by bar what the Budget agent must show: against the best split, against simpler ones, with bidding, on a real log.

    Ctrl-C keeps the parts that are finished, and ends with exit code 130."""
    from counterpoint.base.words import names_of
    from counterpoint.bench.budget import run
    from counterpoint.bench.budget.daily import ARM, Columns
    from counterpoint.bench.market.scoreboard import parse_seeds

    writable(json)
    writable_folder(keep, plots)
    named = Columns(arm=names_of(arm or ARM), spend=spend, value=value, date=date)
    with stoppable(), shown_while(bar()) as progress:
        report, times = run.run(
            parts or [],
            parse_seeds(seeds),
            table=daily,
            named=named,
            sort=sort,
            keep=keep,
            plots=plots,
            quick=quick,
            progress=progress,
        )
    finish(report, times, json)


def finish(report: Report, times: Times, json: Path | None) -> None:
    """Shown, written; raises :class:`Stopped` where parts are missing."""
    from counterpoint.bench.bidding.run import shown, write

    out = tables_on()
    if out.is_terminal:
        out.print(shown(report, times))
    else:
        out.print(shown(report, times, plain=True), soft_wrap=True)
    write(report, times, json)
    if report.stopped:
        done, asked = len(report.parts) + len(times.parts), len(report.settings.parts)
        kept = f"they are in {json}" if json is not None else "nothing is written without --json"
        raise Stopped(f"{done} of {asked} parts finished; {kept}")


@train_app.callback()
def _train() -> None:
    """Keeps ``budget`` a subcommand while it is the only one."""


@train_app.command("budget")
def train_budget(
    out: Annotated[Path, typer.Option(help="Write the policy (JSON) here.")],
    report: Annotated[
        Path | None, typer.Option(help="Write the course as JSON here, with a plot beside it.")
    ] = None,
    seeds: Annotated[
        str, typer.Option(help="Tuning seeds of the markets; the last fifth is held out.")
    ] = "0-14",
    markets: Annotated[int, typer.Option(min=2, help="Markets drawn per round.")] = 12,
    rounds: Annotated[int, typer.Option(min=2)] = 28,
    chance: Annotated[int, typer.Option(help="Seed of the training itself.")] = 0,
    keep: Annotated[
        Path | None, typer.Option(help="Folder for the markets' true curves: the next run is quicker.")
    ] = None,
    log: Annotated[
        Path | None,
        typer.Option(
            help="Your own spend and value by day and arm (columns as for 'bench budget --daily'): markets are drawn from what it says."
        ),
    ] = None,
    arm: ArmOption = None,
    spend: SpendOption = "cost",
    value: ValueOption = "revenue",
    date: DateOption = None,
    sort: SortOption = False,
    start: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="Fine-tune this policy: it is replaced only by one that is better on markets held out.",
        ),
    ] = None,
) -> None:
    """The Budget agent's residual policy: evolution strategies over randomised markets, judged on markets held out."""
    from counterpoint.base.words import names_of
    from counterpoint.bench.budget.daily import ARM, Columns, read
    from counterpoint.bench.budget.train import plot, train
    from counterpoint.bench.market.scoreboard import parse_seeds
    from counterpoint.budget.residual import load

    chosen = parse_seeds(seeds)
    if len(chosen) < 2 or max(chosen) > 99:
        raise ConfigError(f"--seeds {seeds}: training takes two or more of the tuning seeds 0-99")
    writable(out, report, report.with_suffix(".png") if report is not None else None)
    writable_folder(keep)
    named = Columns(arm=names_of(arm or ARM), spend=spend, value=value, date=date)
    own = None if log is None else read(log, named, sort)
    begun = None if start is None else load(_read(start), str(start))
    with stoppable(), shown_while(bar()) as progress:
        task = progress.add_task("training", total=1.0)
        course = train(
            chosen,
            rounds,
            markets,
            keep,
            lambda label, share: progress.update(task, completed=share, description=label),
            chance,
            own,
            begun,
        )
    _written(out, msgspec.json.encode(course.residual))
    if report is not None:
        _written(report, msgspec.json.encode(course))
        plot(course, report.with_suffix(".png"))
    Console(markup=False, highlight=False).print(
        f"{out}: digest {course.residual.digest}, {course.residual.gain}"
    )
    if course.over_start is not None:
        m = course.over_start
        end = f"{m.value:+.2f} % [{m.low or 0:+.2f}, {m.high or 0:+.2f}] against {start} on markets held out"
        what = f"{start} is kept" if course.kept_start else "it replaces the one it started from"
        Console(markup=False, highlight=False).print(f"{what}: {end}")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); name a policy's JSON file") from error


def _written(path: Path, raw: bytes) -> None:
    write_out(path, msgspec.json.format(raw, indent=1) + b"\n")
