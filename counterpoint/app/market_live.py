"""``counterpoint market play`` and ``speed --live``: how they are shown."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec import Struct
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from counterpoint.market.live.play import Game, Line, Played, encode_lines
from counterpoint.market.live.tempo import Tempo
from counterpoint.market.scenario import Scenario, resized

SPEED_AUCTIONS_PER_STEP: Final = 1_000
WARM_UP: Final = 2_000  # auctions: compiles, and fills what is remembered


def bar() -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )


def play_shown(
    scenario: Scenario,
    seed: int,
    agents: tuple[str, ...],
    step_s: int,
    logged: bool,
    progress: Progress,
) -> tuple[Played, bytes]:
    """And where ``logged`` the decision log, JSON lines."""
    task = progress.add_task(f"{scenario.name}, seed {seed}", total=scenario.auctions)
    lines: list[Line] = []
    game = Game(
        scenario,
        seed,
        agents=agents,
        tempo=Tempo(step_s=step_s),
        log=lines.append if logged else None,
    )
    try:
        played = game.play(lambda n: progress.advance(task, n))
    finally:
        game.system.close()
    return played, encode_lines(lines)


def table_of(played: Played) -> Table:
    rows: list[tuple[str, str]] = [
        ("agents", ", ".join(played.agents) or "none: the stated fallback"),
        ("auctions", f"{played.auctions:,} in {played.steps:,} steps of at most {played.step_s} s"),
        ("auctions a second of CPU", f"{played.auctions / max(played.cpu_s, 1e-9):,.0f}"),
        ("bids, wins", f"{played.bids:,}, {played.wins:,}"),
        ("no bid because", ", ".join(f"{why} {n:,}" for why, n in played.no_bids.items())),
        ("expected value", f"{played.value:,.4f}"),
        ("spent, by the auction house", f"{played.spend:,.9f}"),
        ("booked, by the ledger", _units(played.booked_nanos)),
        ("overspend", _units(played.overspend_nanos)),
        ("the ledger's audit", "; ".join(played.problems[:3]) or "nothing found"),
        ("expected CPA", "no conversions" if played.cpa is None else f"{played.cpa:,.4f}"),
        ("expected CTR", "nothing won" if played.ctr is None else f"{played.ctr:.3%}"),
        ("people reached", f"{played.reach:,}"),
        ("policies refused", f"{played.refused:,}"),
    ]
    table = Table("what", "figure", title=f"{played.scenario}, seed {played.seed}, in process")
    for row in rows:
        table.add_row(*row)
    return table


def _units(nanos: int | None) -> str:
    return "no ledger" if nanos is None else f"{nanos / 1e9:,.9f}"


def as_json(played: Played) -> bytes:
    """Without times, so that one seed gives the same bytes: they are shown, not kept."""
    kept: dict[str, Any] = {
        name: getattr(played, name)
        for name in Played.__struct_fields__
        if name not in ("tally", "reach_by_campaign", "cpu_s", "seconds")
    }
    kept |= {"value": played.value, "spend": played.spend, "cpa": played.cpa, "ctr": played.ctr}
    kept["reach_by_campaign"] = played.reach_by_campaign.tolist()
    kept["by_day_and_campaign"] = {
        name: getattr(played.tally, name).tolist() for name in played.tally.__struct_fields__
    }
    return msgspec.json.format(msgspec.json.encode(kept), indent=2) + b"\n"


class LiveSpeed(Struct, frozen=True):
    auctions: int
    cpu_s: float
    wall_s: float
    peak_mib: float  # of the process so far
    exact: bool  # ledger = house, no overspend, nothing found


def measure_live(
    scenario: Scenario,
    auctions: int,
    most: int,
    seed: int,
    agents: tuple[str, ...],
    step_s: int | None,
    step: Callable[[int], None],
) -> LiveSpeed:
    """The first ``auctions`` of the scenario at ``most``: as dense whatever their number. ``step_s`` None: as many
    seconds as make SPEED_AUCTIONS_PER_STEP."""
    market = resized(scenario, most)
    if step_s is None:
        step_s = max(1, round(SPEED_AUCTIONS_PER_STEP * scenario.days * 86_400 / most))
    game = Game(market, seed, agents=agents, tempo=Tempo(step_s=min(step_s, 3_600)))
    try:
        played = game.play(step, auctions)
    finally:
        game.system.close()
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return LiveSpeed(
        auctions,
        played.cpu_s,
        played.seconds,
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit,
        played.booked_nanos == played.house_paid_nanos and not played.overspend_nanos and not played.problems,
    )


def speed_table(
    scenario: Scenario, sizes: list[int], seed: int, agents: tuple[str, ...], step_s: int | None
) -> Table:
    table = Table(
        title=f"the live system on {scenario.name}, seed {seed}, agents: {', '.join(agents) or 'none'}"
    )
    for head in (
        "auctions",
        "CPU s",
        "wall s",
        "us of CPU each",
        "a second of CPU",
        "peak MiB",
        "ledger = house",
    ):
        table.add_column(head, justify="right")
    with bar() as progress:
        task = progress.add_task("playing", total=sum(sizes) + WARM_UP)
        for size in (WARM_UP, *sizes):
            found = measure_live(
                scenario, size, max(sizes), seed, agents, step_s, lambda n: progress.advance(task, n)
            )
            if size == WARM_UP:
                continue
            table.add_row(
                f"{size:,}",
                f"{found.cpu_s:.2f}",
                f"{found.wall_s:.2f}",
                f"{found.cpu_s / size * 1e6:.1f}",
                f"{size / found.cpu_s:,.0f}",
                f"{found.peak_mib:.0f}",
                "to the nano" if found.exact else "NO",
            )
    return table
