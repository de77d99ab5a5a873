"""``counterpoint bench money`` (``python -m counterpoint.bench.money`` takes the same options)."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from uuid import uuid4

from msgspec import Struct
from rich.progress import Progress
from sqlalchemy import text

from counterpoint.base.database import with_driver
from counterpoint.base.errors import ConfigError
from counterpoint.base.words import instead_of, names_of
from counterpoint.bench.money import kills, speed, world
from counterpoint.ledger.tables import connect
from counterpoint.ledger.work import units_text

PARTS: Final = ("simulation", "kills", "speed")
SETTLEMENTS: Final = 100_000


QUICK_OPERATIONS: Final = 20_000
QUICK_ROUNDS: Final = 3
QUICK_SETTLEMENTS: Final = 1_600


class Asked(Struct, frozen=True):
    parts: tuple[str, ...]
    operations: int
    rounds: int
    seed: int
    quick: bool


class MoneyReport(Struct, frozen=True):
    database: str  # sqlite | postgresql
    asked: Asked
    stopped: bool = False  # Ctrl-C: less was done than asked for
    simulation: world.MoneyResult | None = None
    kills: kills.KillsResult | None = None
    speed: tuple[speed.SpeedResult, ...] = ()

    @property
    def right(self) -> bool:
        return not (self.simulation and self.simulation.problems) and not (self.kills and self.kills.problems)


@contextmanager
def own_database(database: str | None) -> Iterator[str]:
    """An empty ledger of its own: a SQLite file, or a schema on a PostgreSQL server; gone afterwards."""
    if database is None:
        with tempfile.TemporaryDirectory() as folder:
            yield f"sqlite:///{Path(folder) / 'ledger.db'}"
        return
    engine = connect(with_driver(database))
    if engine.dialect.name != "postgresql" or "?" in database:
        raise ConfigError(f"{database}: write postgresql://HOST/DATABASE, or leave it out for SQLite")
    schema = f"counterpoint_bench_{uuid4().hex[:12]}"
    with engine.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {schema}"))
    try:
        yield f"{database}?options=-csearch_path%3D{schema}"
    finally:
        with engine.begin() as connection:
            connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))
        engine.dispose()


def chosen(names: Sequence[str]) -> tuple[str, ...]:
    """In the order of :data:`PARTS`, all where none is named. Raises :class:`ConfigError` with a cure."""
    wanted = names_of(names)
    for name in wanted:
        if name not in PARTS:
            raise ConfigError(f"bench money has no part {name!r}; {instead_of(name, PARTS)}")
    return tuple(name for name in PARTS if not wanted or name in wanted)


def run(
    parts: Sequence[str],
    operations: int,
    rounds: int,
    seed: int,
    database: str | None,
    progress: Progress,
    quick: bool = False,
) -> MoneyReport:
    """``quick``: small, to see that it runs. The first Ctrl-C ends it early, with a verdict on what was done. Raises
    :class:`counterpoint.bench.money.invariants.InvariantBroken` at the first wrong step, with its seed."""
    if quick:
        operations, rounds = min(operations, QUICK_OPERATIONS), min(rounds, QUICK_ROUNDS)
    asked = Asked(chosen(parts), operations, rounds, seed, quick)
    simulated: world.MoneyResult | None = None
    killed: kills.KillsResult | None = None
    speeds: tuple[speed.SpeedResult, ...] = ()
    with _first_interrupt() as interrupted:
        if "simulation" in asked.parts:
            bar = progress.add_task("random operations", total=operations)
            with own_database(database) as url:
                simulated = world.run(
                    url,
                    operations,
                    seed,
                    enough=interrupted,
                    progress=lambda done: progress.update(bar, completed=min(done, operations)),
                )
        if "kills" in asked.parts and not interrupted():
            bar_kills = progress.add_task("kill -9", total=rounds)
            with own_database(database) as url:
                killed = kills.run(
                    url,
                    rounds,
                    seed,
                    progress=lambda done: progress.update(bar_kills, completed=done),
                    enough=interrupted,
                )
        if "speed" in asked.parts and not interrupted():
            bar_speed = progress.add_task("settlements", total=None)
            with own_database(database) as url:
                speeds = tuple(
                    speed.run(
                        url,
                        QUICK_SETTLEMENTS if quick else SETTLEMENTS,
                        lambda done: progress.update(bar_speed, completed=done),
                    )
                )
        stopped = interrupted()
    return MoneyReport("postgresql" if database else "sqlite", asked, stopped, simulated, killed, speeds)


@contextmanager
def _first_interrupt() -> Iterator[Callable[[], bool]]:
    """The first Ctrl-C is heard between two steps, and what was done gets its verdict; the next one ends everything."""
    heard: list[int] = []
    before = signal.getsignal(signal.SIGINT)

    def hear(number: int, _frame: object) -> None:
        heard.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGINT, hear)
    try:
        yield lambda: bool(heard)
    finally:
        signal.signal(signal.SIGINT, before)


def exit_code(report: MoneyReport) -> int:
    """130 is how shells say Ctrl-C: a run that was stopped has not passed."""
    return 1 if not report.right else 130 if report.stopped else 0


def told(report: MoneyReport) -> str:
    """How far a stopped run came; empty where all that was asked for was done."""
    if not report.stopped:
        return ""
    done = {
        "simulation": (report.simulation.operations if report.simulation else 0, report.asked.operations),
        "kills": (report.kills.rounds if report.kills else 0, report.asked.rounds),
    }
    units = {"simulation": "operations", "kills": "kills"}
    said = [
        f"{min(n, of):,} of {of:,} {units[part]}"
        for part, (n, of) in done.items()
        if part in report.asked.parts
    ]
    if "speed" in report.asked.parts and not report.speed:
        said.append("no speed")
    verdict = "what ran held" if report.right else "what ran is BROKEN"
    return f"stopped after {', '.join(said) or 'its last part'}; {verdict}"


def shown(report: MoneyReport) -> str:
    lines = [f"database: {report.database}"]
    s = report.simulation
    if s is not None:
        lines.append(
            f"simulation, seed {s.seed}: {s.operations:,} operations in {s.transactions:,} transactions and "
            f"{s.simulated_s / 86_400:.1f} simulated days, {s.settlements:,} bids settled, books rebuilt from the journal "
            f"{s.verifications} times; {s.exhausted:,} of {s.accounts:,} daily budgets used up, spent "
            f"{units_text(s.spent_nanos)}, late {units_text(s.late_nanos)}, overspend {units_text(s.overspend_nanos)} "
            f"({s.stopped:,} days stopped): "
            + ("every invariant held" if not s.problems else f"BROKEN: {s.problems[:5]}")
        )
        lines.append("  " + ", ".join(f"{number:,} {what}" for what, number in s.by_kind.items()))
    k = report.kills
    if k is not None:
        lines.append(
            f"kill -9: {k.rounds} rounds ({k.killed} killed at work), {k.messages:,} messages, {k.settlements:,} bids "
            f"settled, {k.seconds} s: "
            + ("every invariant held" if not k.problems else f"BROKEN: {k.problems[:5]}")
        )
    lines += [
        f"batches of {r.batch:,}: {r.per_s:,} settlements/s ({r.wall_us} us), {r.per_cpu_s:,} per second of CPU ({r.cpu_us} us)"
        for r in report.speed
    ]
    if report.stopped:
        lines.append(told(report))
    return "\n".join(lines)
