"""``counterpoint market``: look at simulated markets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from counterpoint.app.options import (
    shown_while,
    stoppable,
    tables_on,
    writable,
    writable_folder,
    write_json,
    write_out,
)

market_app = typer.Typer(
    no_args_is_help=True, help="Simulated markets; scenarios, keys, formulas: docs/market.md."
)

WIDTH_OF_FILES = 140  # where there is no terminal to say how wide

SeedOption = Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Which world of the scenario.")]


def _out() -> Console:
    return tables_on(WIDTH_OF_FILES)


AgentsOption = Annotated[
    str, typer.Option(help="all, none, or some of budget, bidding, creative, feedback with commas between.")
]


@market_app.command("list")
def list_() -> None:
    """The scenarios of the package."""
    from counterpoint.market.load import NAMES, scenario_named

    table = Table()
    for head in ("name", "auctions", "days", "what", "digest"):
        table.add_column(head)
    for name in NAMES:
        s = scenario_named(name)
        table.add_row(name, f"{s.auctions:,}", str(s.days), s.title, s.digest[:12])
    _out().print(table)


@market_app.command()
def describe(
    name: Annotated[str, typer.Argument(help="A scenario's name, or a .toml file of your own.")],
    out: Annotated[Path | None, typer.Option("--out", help="Write pictures (PNG) into this folder.")] = None,
    seed: SeedOption = 0,
) -> None:
    """What a scenario is: its people, prices, worth, changes; with --out also in pictures."""
    from counterpoint.market.describe import survey, tables
    from counterpoint.market.load import find_scenario

    scenario = find_scenario(name)
    writable_folder(out)
    seen = survey(scenario, seed)
    console = _out()
    for table in tables(seen):
        console.print(table)
    if out is not None:
        from counterpoint.market.plots import draw_scenario

        for path in draw_scenario(seen, out):
            console.print(f"wrote {path}", highlight=False, soft_wrap=True)


@market_app.command()
def fit(
    data: Annotated[Path, typer.Option("--data", help="The folder of the real logs: docs/market.md.")],
    out: Annotated[Path | None, typer.Option("--out", help="Write pictures (PNG) into this folder.")] = None,
    show_toml: Annotated[
        bool, typer.Option("--toml", help="Print the fitted figures as scenario keys.")
    ] = False,
) -> None:
    """Fit prices, traffic and delays to real logs, and say how far the simulated market is from them."""
    from counterpoint.market.fit import FIT_AUCTIONS, FIT_SCENARIO, FIT_SEED, fit_all

    writable_folder(out)
    console = _out()
    with stoppable(), console.status("fitting"):
        fits = fit_all(data)
    table = Table(title=f"{FIT_SCENARIO}, seed {FIT_SEED}, {FIT_AUCTIONS:,} auctions, against real logs")
    for head in (
        "what",
        "log",
        "rows",
        "KS",
        "Wasserstein",
        "unit",
        "KS of two real logs",
        "Wasserstein of two",
    ):
        table.add_column(head, justify="left" if head in ("what", "log", "unit") else "right")
    for each in fits:
        logs = each.logs_apart
        table.add_row(
            each.name,
            each.source,
            f"{each.real.size if each.unit == 'hours' else each.apart.n_first:,}",
            f"{each.apart.ks:.3f}",
            f"{each.apart.wasserstein:,.2f}",
            each.unit,
            f"{logs.ks:.3f}" if logs else "",
            f"{logs.wasserstein:,.2f}" if logs else "",
        )
    console.print(table)
    if show_toml:
        for each in fits:
            console.print(
                f"\n# {each.name}: {each.source}\n{each.toml}", markup=False, highlight=False, soft_wrap=True
            )
    if out is not None:
        from counterpoint.market.plots import draw_fits

        for path in draw_fits(fits, out):
            console.print(f"wrote {path}", highlight=False, soft_wrap=True)


@market_app.command()
def speed(
    name: Annotated[
        str, typer.Argument(help="A scenario's name, or a .toml file of your own.")
    ] = "stationary-v1",
    most: Annotated[
        int, typer.Option(min=10_000, max=100_000_000, help="The largest number of auctions.")
    ] = 1_000_000,
    seed: SeedOption = 0,
    live: Annotated[
        bool, typer.Option("--live", help="With a live system that bids in it, instead of the market alone.")
    ] = False,
    agents: AgentsOption = "none",
    step: Annotated[
        int | None, typer.Option(min=1, max=3_600, help="Seconds of a live step. Left out: 1,000 auctions.")
    ] = None,
) -> None:
    """Time and memory of making 10,000 auctions, ten times that, and so on."""
    from counterpoint.market.load import find_scenario
    from counterpoint.market.speed import measure

    scenario = find_scenario(name)
    sizes = [10_000]
    while sizes[-1] * 10 <= most:
        sizes.append(sizes[-1] * 10)
    if live:
        from counterpoint.app.market_live import speed_table
        from counterpoint.market.live.agents import agents_named

        _out().print(speed_table(scenario, sizes, seed, agents_named(agents), step))
        return
    table = Table(title=f"{scenario.name}, seed {seed}, one process")
    for head in ("auctions", "with truths, s", "answered, s", "us per auction", "peak MiB"):
        table.add_column(head, justify="right")
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("making auctions", total=sum(sizes) + sizes[0])
        measure(scenario, sizes[0], seed, lambda n: progress.advance(task, n))  # compiles
        for size in sizes:
            found = measure(scenario, size, seed, lambda n: progress.advance(task, n))
            each_us = (found.made_s + found.answered_s) / size * 1e6
            table.add_row(
                f"{size:,}",
                f"{found.made_s:.2f}",
                f"{found.answered_s:.2f}",
                f"{each_us:.2f}",
                f"{found.peak_mib:.0f}",
            )
    _out().print(table)


@market_app.command()
def play(
    name: Annotated[str, typer.Argument(help="A scenario's name, or a .toml file of your own.")],
    seed: SeedOption = 0,
    auctions: Annotated[
        int | None, typer.Option(min=1, help="Resize the scenario to so many. Left out: its own number.")
    ] = None,
    agents: AgentsOption = "all",
    step: Annotated[
        int, typer.Option(min=1, max=3_600, help="Market seconds that stand for one second of a live system.")
    ] = 60,
    json: Annotated[
        Path | None, typer.Option("--json", help="Write the result as JSON to this file.")
    ] = None,
    log: Annotated[
        Path | None, typer.Option("--log", help="Write the decision log (JSON lines) to this file.")
    ] = None,
) -> None:
    """Play a live system through a scenario in this process, at simulated time."""
    from counterpoint.app.market_live import as_json, bar, play_shown, table_of
    from counterpoint.market.live.agents import agents_named
    from counterpoint.market.load import find_scenario
    from counterpoint.market.scenario import resized

    scenario = find_scenario(name)
    if auctions is not None:
        scenario = resized(scenario, auctions)
    writable(json, log)
    wanted = agents_named(agents)
    with (
        shown_while(bar()) as progress,
        stoppable(lambda: f"{_done(progress)} auctions played; nothing is written"),
    ):
        played, lines = play_shown(scenario, seed, wanted, step, log is not None, progress)
    _out().print(table_of(played))
    if json is not None:
        write_out(json, as_json(played))
    if log is not None:
        write_out(log, lines)


def _done(progress: Progress) -> str:
    return (
        "no"
        if not progress.tasks
        else f"{progress.tasks[0].completed:,.0f} of {progress.tasks[0].total:,.0f}"
    )


RateOption = Annotated[
    float,
    typer.Option(min=0.1, max=20_000, help="Requests per second; also how much faster market time passes."),
]


@market_app.command()
def catalog(
    name: Annotated[str, typer.Argument(help="A scenario's name, or a .toml file of your own.")],
    rate: RateOption = 500.0,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the system. Left out: var/market/NAME.")
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Where the bidder will listen.")] = 8080,
    force: Annotated[bool, typer.Option("--force", help="Write over the files of an earlier call.")] = False,
) -> None:
    """Write the scenario's demand as a catalog with a configuration, to run a real bidder on."""
    from counterpoint.app.market_wire import write_system
    from counterpoint.market.load import find_scenario

    scenario = find_scenario(name)
    folder = out if out is not None else Path("var") / "market" / scenario.name
    config = write_system(scenario, rate, port, folder, force)
    console = _out()
    for line in (
        f"wrote {config}. Next, each in its own terminal:",
        f"  counterpoint up --config {config}",
        f"  counterpoint market exchange {name} --url http://127.0.0.1:{port} --rate {rate:g}",
    ):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


@market_app.command()
def exchange(
    name: Annotated[str, typer.Argument(help="A scenario's name, or a .toml file of your own.")],
    url: Annotated[str, typer.Option(help="The bidder's origin.")] = "http://127.0.0.1:8080",
    rate: RateOption = 500.0,
    seconds: Annotated[
        float, typer.Option(min=1, help="Stop after this long; the end of the scenario stops it too.")
    ] = 60.0,
    seed: SeedOption = 0,
    json: Annotated[
        Path | None, typer.Option("--json", help="Write the result as JSON to this file.")
    ] = None,
) -> None:
    """Play a scenario as an exchange over HTTP against a running bidder: requests, notices, people."""
    import asyncio

    from counterpoint.app.market_wire import bar, play_over_wire
    from counterpoint.market.load import find_scenario
    from counterpoint.market.world_market import times_faster

    scenario = find_scenario(name)
    console = _out()
    writable(json)

    def found() -> None:
        console.print(
            f"{scenario.name}, seed {seed}: {scenario.auctions:,} auctions of {scenario.days} days at {rate:g} a second; "
            f"market time passes {times_faster(scenario, rate):,.0f} times as fast as the wall's, and so do delays.",
            soft_wrap=True,
        )

    with shown_while(bar()) as progress:
        played = asyncio.run(play_over_wire(scenario, seed, url, rate, seconds, progress, found))
    console.print(played.table())
    write_json(json, played.as_json())
