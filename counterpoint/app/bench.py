"""``counterpoint bench``: the benchmarks of the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from counterpoint.app.budget_commands import bench_budget, finish
from counterpoint.app.options import (
    JsonOption,
    bar,
    console,
    shown_while,
    stoppable,
    tables_on,
    writable,
    writable_folder,
    write_json,
)
from counterpoint.base.errors import ConfigError

bench_app = typer.Typer(no_args_is_help=True, help="Benchmarks; figures and commands: docs/benchmarks.md.")


@bench_app.command("latency")
def bench_latency(
    json: JsonOption = None,
    line_items: Annotated[
        list[int] | None, typer.Option(help="Sizes of the catalog; default all three.")
    ] = None,
    seconds: Annotated[float | None, typer.Option(min=1, help="Length of each measurement.")] = None,
) -> None:
    """CPU, throughput and latency of the bidder over HTTP, as ratios to a bare server and to nginx in the same run."""
    from counterpoint.bench import latency

    config = latency.LatencyConfig()
    if line_items:
        config = msgspec.structs.replace(config, line_items=tuple(line_items))
    if seconds is not None:
        config = msgspec.structs.replace(config, seconds=seconds)
    writable(json)
    with stoppable(), console.status("measuring: a few minutes for each size of the catalog"):
        report = latency.run(json, config)
    Console().print_json(data={key: value for key, value in report.items() if key != "by_line_items"})


@bench_app.command("delivery")
def bench_delivery(json: JsonOption = None, seed: int = 1) -> None:
    """How much of a budget is delivered, and how much overspent, with the real ledger in simulated time."""
    from counterpoint.bench import delivery

    writable(json)
    results = []
    with stoppable():
        for result in delivery.run(seed):
            Console().print(result.line(), highlight=False, markup=False)
            results.append(result)
    write_json(json, results)


@bench_app.command("parity")
def bench_parity(
    scenario: Annotated[
        list[str] | None, typer.Option(help="By name or path, as often as wanted; default stationary-v1.")
    ] = None,
    seeds: Annotated[
        str, typer.Option(help="0-99 tune, 100-199 validate, 10000 and above test.")
    ] = "100-104",
    auctions: Annotated[int, typer.Option(min=100, help="Of each scenario, from its beginning.")] = 2_000,
    agents: Annotated[str, typer.Option(help="Live learners: all, none, or names with commas.")] = "all",
    step_s: Annotated[int, typer.Option(min=1, max=100, help="Market seconds between two ticks.")] = 60,
    json: JsonOption = None,
) -> None:
    """The market driven in process and over HTTP: same bytes, and paired differences of outcomes."""
    from counterpoint.bench import parity
    from counterpoint.bench.market.scoreboard import parse_seeds
    from counterpoint.market.live.agents import agents_named
    from counterpoint.market.load import find_scenario

    scenarios = [find_scenario(name) for name in scenario or ["stationary-v1"]]
    wanted, chosen = agents_named(agents), parse_seeds(seeds)
    pairs: list[parity.Pair] = []
    writable(json)
    with (
        stoppable(lambda: f"{len(pairs)} of {len(scenarios) * len(chosen)} pairs played; nothing is written"),
        shown_while(bar(counts=True)) as progress,
    ):
        task = progress.add_task("both ways", total=len(scenarios) * len(chosen))
        for each in scenarios:
            for seed in chosen:
                pairs.append(parity.pair(each, seed, auctions, wanted, step_s))
                progress.advance(task)
    for table in parity.tables(pairs):
        tables_on().print(table)
    write_json(json, {"pairs": pairs, "differences": parity.differences(pairs)})
    if not all(d.agrees for d in parity.differences(pairs)):
        raise typer.Exit(1)


@bench_app.command("money")
def bench_money(
    parts: Annotated[
        list[str] | None,
        typer.Option(
            "--parts",
            "--part",
            help="simulation, kills, speed; as often as wanted or with commas; default all.",
        ),
    ] = None,
    operations: Annotated[int, typer.Option(min=1_000, help="Of the simulation.")] = 10_000_000,
    rounds: Annotated[int, typer.Option(min=1, help="How often a process is killed.")] = 100,
    seed: int = 1,
    database: Annotated[
        str | None, typer.Option(help="postgresql://...; left out: SQLite in a folder of its own.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Small: to see that it runs.")] = False,
    json: JsonOption = None,
) -> None:
    """Random operations by 16 bidders over the real books, kill -9 of real processes, settlements a second.

    Ctrl-C ends it with a verdict on what was done, and exit code 130."""
    from counterpoint.bench.money import run

    writable(json)
    with stoppable(), shown_while(bar(counts=True)) as progress:
        report = run.run(parts or (), operations, rounds, seed, database, progress, quick)
    Console(markup=False, highlight=False, soft_wrap=True).print(run.shown(report))
    write_json(json, report)
    raise typer.Exit(run.exit_code(report))


@bench_app.command("bidding")
def bench_bidding(
    json: JsonOption = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the real logs. Without it they are skipped where no --parts names their part."
        ),
    ] = None,
    parts: Annotated[
        list[str] | None,
        typer.Option(
            help="shading, simulated, learning, shock, values, delays, budget, cpa, pacing, cost; "
            "as often as wanted or with commas; default all."
        ),
    ] = None,
    seeds: Annotated[
        str, typer.Option(help="0-99 tune, 100-199 validate, 10000 and above test.")
    ] = "100-129",
    plots: Annotated[Path | None, typer.Option(help="Draw plots (PNG) into this folder.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Small: to see that it runs. No verdicts.")] = False,
) -> None:
    """Bar by bar what the Bidding agent must show: shading, budgets, cost per acquisition, pacing, cost.

    Ctrl-C keeps the parts that are finished, and ends with exit code 130."""
    from counterpoint.bench.bidding import run
    from counterpoint.bench.market.scoreboard import parse_seeds

    writable(json)
    writable_folder(plots)
    with stoppable(), shown_while(bar()) as progress:
        report, times = run.run(parts or [], parse_seeds(seeds), data, plots, quick, progress)
    finish(report, times, json)


bench_app.command("budget")(bench_budget)


@bench_app.command("market")
def bench_market(
    scenario: Annotated[
        list[str], typer.Option(help="By name or path, as often as wanted or with commas; or all.")
    ],
    policies: Annotated[
        list[str] | None, typer.Option(help="By name, as often as wanted or with commas.")
    ] = None,
    player: Annotated[
        list[str] | None,
        typer.Option(
            help="Your own, beside the policies: MODULE:CLASS, importable from here. docs/scoreboard.md"
        ),
    ] = None,
    seeds: Annotated[
        str, typer.Option(help="0-99 tune, 100-199 validate, 10000 and above test.")
    ] = "100-129",
    against: Annotated[
        str | None,
        typer.Option(
            help="Whom the others are compared with. Left out: manual where it plays, else the first."
        ),
    ] = None,
    effect: Annotated[float, typer.Option(help="Least gain worth telling: sets the sample size.")] = 0.05,
    auctions: Annotated[int | None, typer.Option(min=100, help="Another length of every scenario.")] = None,
    check_ordering: Annotated[
        bool,
        typer.Option(
            "--check-ordering",
            help="Only: do oracle and bounds stand above everybody? 'oracle' plays besides.",
        ),
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Processes; seeds are shared out among them.")] = 1,
    keep: Annotated[
        Path | None, typer.Option(help="Keep finished seeds in this file, and go on from it: of one code.")
    ] = None,
    json: JsonOption = None,
    html: Annotated[Path | None, typer.Option(help="Write a report with plots to this file.")] = None,
) -> None:
    """The scoreboard of the simulated market: baselines, oracles and bounds, compared by paired seeds."""
    from counterpoint.bench.market import players, show

    if check_ordering and html is not None:
        raise ConfigError("--check-ordering draws no page; leave --html out, or take --json")
    writable(json, html, keep)
    game = show.game_of(
        scenario, [*(policies or players.DEFAULT), *(player or ())], seeds, against, effect, auctions
    )
    with shown_while(bar()) as progress:
        if check_ordering:
            checked = show.ordered(game, progress, jobs, keep)
        else:
            board, timings = show.played(game, progress, jobs, keep)
    out = tables_on()
    if check_ordering:
        out.print(show.checked_shown(checked), soft_wrap=True)
        write_json(json, checked)
        raise typer.Exit(1 if checked.ordering else 0)
    out.print(show.shown(board))
    show.write(board, timings, json, html)
    raise typer.Exit(1 if board.ordering else 0)
