"""The scoreboard on a terminal, and its files: JSON (the same bytes for the same seeds), times, HTML."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct
from rich.console import Group
from rich.progress import Progress
from rich.table import Table

from counterpoint.base.errors import ConfigError
from counterpoint.base.words import names_of
from counterpoint.bench.market.players import check_names
from counterpoint.bench.market.report import figures, html, number, ratio, resized_notes, share, verdict
from counterpoint.bench.market.rounds import Timing
from counterpoint.bench.market.scoreboard import (
    Checked,
    Ordering,
    Scoreboard,
    check_game,
    check_ordering,
    parse_seeds,
    run,
    work_of,
)
from counterpoint.market.load import NAMES, find_scenario, of_length
from counterpoint.market.scenario import Scenario

EVERY = "all"
MANUAL = "manual"


def scenarios_of(given: Sequence[str], auctions: int | None) -> list[Scenario]:
    """By name or path; ``all`` is every permanent one. ``auctions``: another length, which changes the digest. Raises
    :class:`ConfigError`."""
    names = names_of(given)
    if EVERY in names:
        names = NAMES
    found = [find_scenario(name) for name in names]
    return found if auctions is None else [of_length(s, auctions) for s in found]


class Game(Struct, frozen=True, kw_only=True):
    """What is asked for, checked before anything is played."""

    scenarios: tuple[Scenario, ...]
    players: tuple[str, ...]
    seeds: tuple[int, ...]
    against: str
    effect: float
    resized: tuple[str, ...] = ()  # names of scenarios played in another length than they have


def game_of(
    scenarios: Sequence[str],
    players: Sequence[str],
    seeds: str,
    against: str | None,
    effect: float,
    auctions: int | None,
) -> Game:
    """Words of a command line. ``against`` None: manual where it plays, else the first. Raises :class:`ConfigError`."""
    names = names_of(players)
    if not names:
        raise ConfigError("no policy is named; give --policies naive,manual")
    check_names(names)
    numbers, found = parse_seeds(seeds), scenarios_of(scenarios, auctions)
    if not found:
        raise ConfigError("no scenario is named; give --scenario stationary-v1, or all")
    if against is None:
        against = MANUAL if MANUAL in names else names[0]
    check_game(found, names, against, effect)
    usual = found if auctions is None else scenarios_of(scenarios, None)
    return Game(
        scenarios=tuple(found),
        players=names,
        seeds=numbers,
        against=against,
        effect=effect,
        resized=tuple(s.name for s in usual if auctions is not None and s.auctions != auctions),
    )


def played(
    game: Game, progress: Progress | None, jobs: int = 1, keep: Path | None = None
) -> tuple[Scoreboard, list[Timing]]:
    with_bar = _bar(progress, work_of(game.scenarios, len(game.players), len(game.seeds)))
    return run(
        game.scenarios,
        game.players,
        game.seeds,
        game.against,
        game.effect,
        with_bar,
        jobs,
        keep,
        game.resized,
    )


def ordered(game: Game, progress: Progress | None, jobs: int = 1, keep: Path | None = None) -> Checked:
    players = len({*game.players, "oracle"})
    with_bar = _bar(progress, work_of(game.scenarios, players, len(game.seeds)))
    return check_ordering(game.scenarios, game.players, game.seeds, with_bar, jobs, keep)


def checked_shown(checked: Checked) -> str:
    """One line where the order holds; how much was looked at."""
    c = checked
    counts = f"{len(c.seeds)} seeds x {len(c.scenarios)} scenarios x {len(c.policies)} policies checked"
    if c.ordering:
        return "\n".join([*ordering_lines(c.ordering), counts])
    return f"oracle and bounds stand above everybody: {counts}"


class _Bar:
    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task("auctions", total=total)

    def __call__(self, label: str, auctions: int) -> None:
        self._progress.update(self._task, advance=auctions, description=label)


def _bar(progress: Progress | None, total: int) -> _Bar | None:
    return None if progress is None else _Bar(progress, total)


def write(board: Scoreboard, timings: Sequence[Timing], json: Path | None, page: Path | None) -> None:
    """JSON to ``json`` and the times beside it (``NAME.timing.json``); HTML to ``page``."""
    if json is not None:
        json.write_bytes(msgspec.json.format(msgspec.json.encode(board), indent=1) + b"\n")
        beside = json.with_name(f"{json.stem}.timing.json")
        beside.write_bytes(msgspec.json.format(msgspec.json.encode(list(timings)), indent=1) + b"\n")
    if page is not None:
        page.write_text(html(board), encoding="utf-8")


def shown(board: Scoreboard) -> Group:
    parts: list[Table | str] = []
    seeds = len(board.settings.seeds)
    for name in board.settings.scenarios:
        table = Table(
            title=f"{board.label(name)}: mean of {seeds} seeds, judged after day {board.warm_up_days[name]}",
            title_justify="left",
            box=None,
        )
        table.add_column("policy", no_wrap=True)
        for head in (
            "penalised", "value", "spend", "over", "cost/target", "CPA", "CTR", "reach", "relev.", "of bound",
        ):  # fmt: skip
            table.add_column(head, justify="right", no_wrap=True)
        for r in board.summaries:
            if r.scenario == name:
                table.add_row(
                    r.policy + ("*" if r.oracle else " +" if r.hindsight else ""),
                    f"{r.penalised:,.2f}",
                    *figures(r),
                )
        parts += [table, ""]
    table = Table(
        title=f"penalised value over that of {board.settings.against}, paired by seed, 95 %",
        title_justify="left",
        box=None,
    )
    table.add_column("policy", no_wrap=True)
    for head in ("scenario", "ratio", "better on", "p, Holm", "verdict"):
        table.add_column(head, overflow="fold")
    for c in board.comparisons:
        table.add_row(
            c.policy,
            board.label(c.scenario),
            ratio(c.ratio),
            share(c.improves),
            number(c.p_holm, ".3f"),
            verdict(c),
        )
    parts += [
        table,
        "",
        "* knows the truth   + best constant of this very seed: first in its own class alone",
    ]
    parts += [f"- {note}" for note in (*board.notes, *resized_notes(board))]
    parts += ordering_lines(board.ordering)
    return Group(*parts)


def ordering_lines(found: Sequence[Ordering]) -> list[str]:
    return [f"ORDER BROKEN: {o.line}" for o in found]
