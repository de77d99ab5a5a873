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

from counterpoint.base.errors import ConfigError
from counterpoint.bench.money import kills, speed, world
from counterpoint.ledger.tables import connect
from counterpoint.ledger.work import units_text

PARTS: Final = ("simulation", "kills", "speed")
SETTLEMENTS: Final = 100_000


class MoneyReport(Struct, frozen=True):
    database: str  # sqlite | postgresql
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
    engine = connect(database)
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


def run(
    parts: Sequence[str], operations: int, rounds: int, seed: int, database: str | None, progress: Progress
) -> MoneyReport:
    """Raises :class:`counterpoint.bench.money.invariants.InvariantBroken` at the first wrong step, with its seed."""
    unknown = sorted(set(parts) - set(PARTS))
    if unknown:
        raise ConfigError(f"there is no part {unknown[0]}; choose of {', '.join(PARTS)}")
    simulated: world.MoneyResult | None = None
    killed: kills.KillsResult | None = None
    speeds: tuple[speed.SpeedResult, ...] = ()
    interrupted = _first_interrupt()
    if "simulation" in parts:
        bar = progress.add_task("random operations", total=operations)
        with own_database(database) as url:
            simulated = world.run(
                url,
                operations,
                seed,
                enough=interrupted,
                progress=lambda done: progress.update(bar, completed=min(done, operations)),
            )
    if "kills" in parts:
        bar_kills = progress.add_task("kill -9", total=rounds)
        with own_database(database) as url:
            killed = kills.run(
                url, rounds, seed, progress=lambda done: progress.update(bar_kills, completed=done)
            )
    if "speed" in parts:
        bar_speed = progress.add_task("settlements", total=None)
        with own_database(database) as url:
            speeds = tuple(
                speed.run(url, SETTLEMENTS, lambda done: progress.update(bar_speed, completed=done))
            )
    return MoneyReport("postgresql" if database else "sqlite", simulated, killed, speeds)


def _first_interrupt() -> Callable[[], bool]:
    """The first ctrl-C ends the simulation early, with its verdict on what was done; the next one ends everything."""
    heard: list[int] = []

    def hear(number: int, _frame: object) -> None:
        heard.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGINT, hear)
    return lambda: bool(heard)


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
    return "\n".join(lines)
