"""``counterpoint bench budget`` and ``counterpoint train budget``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from counterpoint.app.options import (
    WIDTH_OF_FILES,
    bar,
    shown_while,
    stoppable,
    tables_on,
    writable,
    writable_folder,
    write_out,
)

WIDTH = 2 * WIDTH_OF_FILES
train_app = typer.Typer(no_args_is_help=True, help="Training of what is learned beforehand, in simulation.")


def bench_budget(
    json: Annotated[Path | None, typer.Option(help="Write the report to this file.")] = None,
    daily: Annotated[
        Path | None,
        typer.Option(help="A table of spend and value by day and arm: walk forward over it alone."),
    ] = None,
    arm: Annotated[list[str] | None, typer.Option(help="Its columns that name an arm.")] = None,
    value: Annotated[str, typer.Option(help="Its column of value.")] = "revenue",
    sort: Annotated[bool, typer.Option("--sort", help="Its days may be out of order.")] = False,
    parts: Annotated[
        list[str] | None,
        typer.Option(help="splits, paths, tilt, together, daily; by commas or again and again."),
    ] = None,
    seeds: Annotated[
        str, typer.Option(help="0-99 tune, 100-199 validate, 10000 and above test.")
    ] = "100-129",
    keep: Annotated[
        Path | None, typer.Option(help="Folder for the markets' true curves: the next run is quicker.")
    ] = None,
    plots: Annotated[Path | None, typer.Option(help="Draw plots (PNG) into this folder.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Small: to see that it runs. No verdicts.")] = False,
) -> None:
    """Bar by bar what the Budget agent must show: against the best split, against simpler ones, with bidding, on a real log."""
    from counterpoint.bench.bidding.run import shown, write
    from counterpoint.bench.budget import run
    from counterpoint.bench.market.scoreboard import parse_seeds

    writable(json)
    writable_folder(keep, plots)
    with stoppable(), shown_while(bar()) as progress:
        report, times = run.run(
            parts or [],
            parse_seeds(seeds),
            table=daily,
            arm=arm or (),
            value=value,
            sort=sort,
            keep=keep,
            plots=plots,
            quick=quick,
            progress=progress,
        )
    tables_on(WIDTH).print(shown(report, times))
    write(report, times, json)


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
) -> None:
    """The Budget agent's residual policy: evolution strategies over randomised markets, judged on markets held out."""
    from counterpoint.base.errors import ConfigError
    from counterpoint.bench.budget.train import plot, train
    from counterpoint.bench.market.scoreboard import parse_seeds

    chosen = parse_seeds(seeds)
    if len(chosen) < 2 or max(chosen) > 99:
        raise ConfigError(f"--seeds {seeds}: training takes two or more of the tuning seeds 0-99")
    writable_folder(out.parent, report.parent if report is not None else None, keep)
    writable(out, report)
    with stoppable(), shown_while(bar()) as progress:
        task = progress.add_task("training", total=1.0)
        course = train(
            chosen,
            rounds,
            markets,
            keep,
            lambda label, share: progress.update(task, completed=share, description=label),
            chance,
        )
    _written(out, msgspec.json.encode(course.residual))
    if report is not None:
        _written(report, msgspec.json.encode(course))
        plot(course, report.with_suffix(".png"))
    Console(markup=False, highlight=False).print(
        f"{out}: digest {course.residual.digest}, {course.residual.gain}"
    )


def _written(path: Path, raw: bytes) -> None:
    write_out(path, msgspec.json.format(raw, indent=1) + b"\n")
