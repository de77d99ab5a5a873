"""``counterpoint``: the command line."""

from __future__ import annotations

import asyncio
import getpass
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from counterpoint.app.bench import bench_app
from counterpoint.app.budget_commands import train_app
from counterpoint.app.config import load_settings
from counterpoint.app.ledger import ledger_app
from counterpoint.app.market import market_app
from counterpoint.app.options import (
    ConfigOption,
    JsonOption,
    bar,
    console,
    settings_of,
    shown_while,
    stoppable,
    tables_on,
    writable,
    write_json,
)
from counterpoint.base.clock import SystemClock
from counterpoint.base.errors import ConfigError, CounterpointError, Stopped
from counterpoint.base.words import names_of
from counterpoint.market.logs.terms import Auction, Feedback

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A self-hosted, multi-agent ad delivery platform. Start with: counterpoint up --demo",
)
replay_app = typer.Typer(
    no_args_is_help=True, help="Replay what was recorded: requests to a bidder, auction logs."
)
convert_app = typer.Typer(no_args_is_help=True, help="Make OpenRTB requests of other logs.")
catalog_app = typer.Typer(no_args_is_help=True, help="Check and load catalogs.")
keys_app = typer.Typer(no_args_is_help=True, help="The HMAC keys of notice and tracking URLs.")
part_app = typer.Typer(
    no_args_is_help=True, help="Run one part by itself; the supervisor does this.", hidden=True
)
for name, sub in (
    ("replay", replay_app),
    ("convert", convert_app),
    ("catalog", catalog_app),
    ("keys", keys_app),
    ("bench", bench_app),
    ("market", market_app),
    ("ledger", ledger_app),
    ("train", train_app),
    ("part", part_app),
):
    app.add_typer(sub, name=name)

EXIT_STOPPED = 130  # as shells say it of Ctrl-C

PartConfig = Annotated[Path, typer.Option("--config")]


CatalogFile = Annotated[Path, typer.Argument(help="A catalog, TOML or JSON: docs/catalog.md.")]


def demo_config() -> Path:
    """The demo's configuration in ./var, written on first use."""
    from counterpoint.app.demo import write_demo_config

    return write_demo_config(Path.cwd())


# ---- running


@app.command()
def up(
    demo: Annotated[
        bool, typer.Option("--demo", help="Play an exchange against it, with the demo catalog.")
    ] = False,
    config: ConfigOption = None,
    seconds: Annotated[float | None, typer.Option(min=1, help="Stop by itself after this long.")] = None,
    json: JsonOption = None,
    rate: Annotated[float | None, typer.Option(min=0.1, max=20_000, help="Demo requests per second.")] = None,
    plain: Annotated[bool, typer.Option("--plain", help="Lines instead of the live view.")] = False,
) -> None:
    """Start everything: bus, ledger, agents, recorder, bidder; with --demo also an exchange with traffic."""
    from counterpoint.app.up import run_up

    if not demo and config is None:
        raise ConfigError("say what to run: 'counterpoint up --demo', or 'counterpoint up --config FILE'")
    path = (config or demo_config()).resolve()
    settings = load_settings(path)
    plain = plain or not sys.stdout.isatty()
    code = asyncio.run(
        run_up(settings, path, demo=demo, seconds=seconds, json_out=json, rate=rate, plain=plain)
    )
    raise typer.Exit(code)


@app.command()
def status(config: ConfigOption = None) -> None:
    """Show once what happens and who is alive. Exit code 1 where a part is not."""
    from counterpoint.app.status import show_status

    raise typer.Exit(0 if asyncio.run(show_status(settings_of(config))) else 1)


@app.command()
def stop(
    target: Annotated[
        str, typer.Argument(help="A campaign id, an agent (budget, bidding, creative, feedback), or all.")
    ],
    reason: Annotated[str, typer.Option(help="Kept with the stop, shown to everybody.")] = "",
    config: ConfigOption = None,
) -> None:
    """Stop a campaign, an agent or everything: within a second, with the bus down too."""
    _switch(target, True, reason, config)


@app.command()
def resume(
    target: Annotated[str, typer.Argument(help="What was stopped: a campaign id, an agent, or all.")],
    reason: Annotated[str, typer.Option(help="Kept with it, shown to everybody.")] = "",
    config: ConfigOption = None,
) -> None:
    """Take a stop back."""
    _switch(target, False, reason, config)


def _switch(target: str, stopped: bool, reason: str, config: Path | None) -> None:
    from counterpoint.app.switch import switch

    for line in asyncio.run(switch(settings_of(config), target, stopped, getpass.getuser(), reason)):
        console.print(line, highlight=False)


@app.command()
def bids(
    won: Annotated[bool, typer.Option("--won", help="Only bids that won.")] = False,
    campaign: Annotated[str | None, typer.Option(help="Only bids of this campaign.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many.")] = 20,
    config: ConfigOption = None,
    json: JsonOption = None,
) -> None:
    """List the newest bids of the decision log, with the ids that explain takes."""
    from counterpoint.app.bids import lines, recent

    settings = settings_of(config)
    found = recent(settings.data.decisions, limit, won=won, campaign=campaign)
    write_json(json, found)
    if not found:
        console.print(
            f"no such bid in {settings.data.decisions} yet: every win is written a few seconds after it was heard of, "
            "a sample of the rest after 15 minutes"
        )
        raise typer.Exit(1)
    Console().print("\n".join(lines(found)), highlight=False, markup=False, soft_wrap=True)


@app.command()
def explain(
    bid_id: Annotated[
        str, typer.Argument(help="As in the response's bid.id; 'counterpoint bids' lists some.")
    ],
    config: ConfigOption = None,
    json: JsonOption = None,
) -> None:
    """Tell the story of a bid by running the same pure function again on the archived View."""
    from counterpoint.app.story import tell

    story = tell(settings_of(config), bid_id)
    write_json(json, story)
    Console().print(story.text(), highlight=False, markup=False, soft_wrap=True)
    raise typer.Exit(0 if story.agrees else 1)


# ---- replay


@replay_app.command("openrtb")
def replay_openrtb(
    files: Annotated[
        list[Path], typer.Argument(help="JSON lines: a request, or a record with its request in 'body'.")
    ],
    url: Annotated[
        str | None, typer.Option(help="A running bidder; left out: one is started for the replay.")
    ] = None,
    exchange: Annotated[str, typer.Option(help="Exchange id to post as.")] = "corpus",
    catalog: Annotated[Path | None, typer.Option(help="Catalog for the bidder that is started.")] = None,
    json: JsonOption = None,
) -> None:
    """Post real requests to a bidder; print status, bids, no-bids by reason, invalid answers, latency."""
    from counterpoint.app.replay import replay_files, show

    missing = [str(file) for file in files if not file.is_file()]
    if missing:
        raise ConfigError(f"no such file: {', '.join(missing)}")
    writable(json)
    with stoppable(), shown_while(bar(counts=True)) as progress:
        report = asyncio.run(replay_files(files, url, exchange, catalog, progress))
    tables_on().print(show(report))
    write_json(json, report)
    raise typer.Exit(1 if report.invalid or report.unreachable else 0)


@replay_app.command("auctions")
def replay_auctions(
    files: Annotated[
        list[Path], typer.Argument(help="Auction logs, CSV or gzipped CSV: docs/replay.md has the columns.")
    ],
    auction: Annotated[
        Auction, typer.Option(help="first: counterfactual, rivals unchanged.")
    ] = Auction.SECOND,
    budget_fraction: Annotated[
        str, typer.Option(help="Of what winning every judged auction costs; or none.")
    ] = "1/16",
    feedback: Annotated[Feedback, typer.Option(help="What a policy is told of an auction.")] = Feedback.FULL,
    policy: Annotated[
        list[str] | None,
        typer.Option(help="By name, as often as wanted or with commas. Left out: constant and linear."),
    ] = None,
    train_fraction: Annotated[str, typer.Option(help="Of each file, the earlier part: tunes.")] = "1/2",
    pctr_cap: Annotated[
        float, typer.Option(help="Quantile of train pctr above which it is cut; 1: none.")
    ] = 0.99,
    bid_max: Annotated[int, typer.Option(help="Largest bid, fen per 1,000.")] = 300,
    seed: int = 1,
    resamples: Annotated[int, typer.Option(help="Of the block bootstrap.")] = 2_000,
    json: JsonOption = None,
) -> None:
    """Replay auction logs under one or several bidding policies, with budget, feedback as lived, and paired intervals."""
    from counterpoint.app.log_replay import replay_logs, show
    from counterpoint.market.logs.run import ReplaySettings

    settings = ReplaySettings(
        auction=auction,
        feedback=feedback,
        policies=names_of(policy or ("constant", "linear")),
        budget_fraction=budget_fraction,
        train_fraction=train_fraction,
        pctr_cap_quantile=pctr_cap,
        bid_max=bid_max,
        resamples=resamples,
        seed=seed,
    )
    writable(json)
    with stoppable(), shown_while(bar(counts=True)) as progress:
        report = replay_logs(files, settings, progress)
    Console(markup=False, highlight=False).print(show(report))
    write_json(json, report)


@convert_app.command("ipinyou-raw")
def convert_ipinyou(
    file: Annotated[Path, typer.Argument(help="Raw iPinYou log lines, CSV or gzipped CSV with a header.")],
    out: Annotated[Path | None, typer.Option(help="Left out: FILE.jsonl in this folder.")] = None,
) -> None:
    """Make real OpenRTB 2.6 requests of raw log lines: JSON lines that 'replay openrtb' posts to a bidder."""
    from counterpoint.app.log_replay import convert_ipinyou_raw, show_converted

    with stoppable(), shown_while(bar(counts=True)) as progress:
        report, target = convert_ipinyou_raw(file, out, progress)
    Console(markup=False, highlight=False).print(show_converted(report, target))


# ---- catalog


@catalog_app.command("check")
def catalog_check(file: CatalogFile) -> None:
    """Name every mistake with its line and its cure."""
    from counterpoint.catalog.load import check_catalog

    loaded = check_catalog(file, SystemClock().now_ns())
    for warning in loaded.warnings:
        console.print(f"warning: {warning}", highlight=False)
    catalog = loaded.catalog
    console.print(
        f"{file}: fine. {len(catalog.campaigns)} campaigns, {len(catalog.line_items)} line items, "
        f"{len(catalog.creatives)} creatives, {len(catalog.exchanges)} exchanges",
        highlight=False,
    )


@catalog_app.command("load")
def catalog_load(file: CatalogFile, config: ConfigOption = None) -> None:
    """Check a catalog and put it in place; running parts take it up without a restart."""
    from counterpoint.app.switch import load_into

    for line in asyncio.run(load_into(settings_of(config), file)):
        console.print(line, highlight=False)


# ---- keys


@keys_app.command("new")
def keys_new(config: ConfigOption = None) -> None:
    """Make the first key. Refuses where there is one."""
    from counterpoint.bidder.keys import new_keys

    settings = settings_of(config)
    ring = new_keys(settings.data.make().hmac_keys)
    console.print(f"key {ring.signs} signs from now on: {settings.data.hmac_keys}", highlight=False)


@keys_app.command("rotate")
def keys_rotate(config: ConfigOption = None) -> None:
    """Make another key that signs; the older ones stay accepted. The bidder takes it at its next start."""
    from counterpoint.bidder.keys import rotate

    settings = settings_of(config)
    ring = rotate(settings.data.hmac_keys)
    accepted = ", ".join(str(number) for number in sorted(ring.keys))
    console.print(
        f"key {ring.signs} signs from the bidder's next start; accepted: {accepted}", highlight=False
    )


# ---- parts


@part_app.command("ledger")
def part_ledger(config: PartConfig) -> None:
    from counterpoint.app import money_part, parts

    parts.run(partial(money_part.ledger, load_settings(config)))


@part_app.command("agent")
def part_agent(name: str, config: PartConfig) -> None:
    from counterpoint.app import parts

    parts.run(partial(parts.agent, load_settings(config), name))


@part_app.command("recorder")
def part_recorder(config: PartConfig) -> None:
    from counterpoint.app import parts

    parts.run(partial(parts.recorder, load_settings(config)))


@part_app.command("bidder")
def part_bidder(config: PartConfig) -> None:
    from counterpoint.app import bidder_part, parts

    parts.run(partial(bidder_part.bidder, load_settings(config)))


@part_app.command("exchange")
def part_exchange(config: PartConfig, rate: float = 250.0, seed: int = 1) -> None:
    from counterpoint.app import parts

    parts.run(partial(parts.exchange, load_settings(config), rate, seed))


def main() -> None:
    """The command line; what the world did wrong is one line on stderr, not a traceback."""
    try:
        app()
    except Stopped as stopped:
        console.print(f"stopped: {stopped}")
        sys.exit(EXIT_STOPPED)
    except CounterpointError as error:
        console.print(Text.assemble(("error: ", "red"), str(error)))
        sys.exit(2)


if __name__ == "__main__":
    main()
