"""Finds the constants of the ladder on tuning seeds: ``python -m counterpoint.bench.market.tune [SCENARIO...]``.

Each player for itself, on the mean penalised value: its constants one after the other, uphill from what is good in
stationary-v1 (found there on the whole grid), until a round moves none of them. A value at the edge of the grid is followed
beyond it, as far as makes sense. The same seeds give the same file.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import typer
from msgspec import Struct
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from counterpoint.base.errors import ConfigError
from counterpoint.base.files import write_atomically
from counterpoint.bench.market.baselines.classic import TUNED
from counterpoint.bench.market.baselines.ladder import LADDER
from counterpoint.bench.market.driver import play
from counterpoint.bench.market.facts import facts_of
from counterpoint.bench.market.scoreboard import parse_seeds
from counterpoint.bench.market.statistics import score
from counterpoint.market.load import NAMES, scenario_named
from counterpoint.market.scenario import Scenario
from counterpoint.market.world import World

FEW: Final = 4
HOPE: Final = 0.02  # a value lower by more than this on the first few seeds is not played on the others
ROUNDS_MAX: Final = 3
FILE: Final = Path(__file__).parent / "baselines" / TUNED


class Constant(Struct, frozen=True):
    """``tried`` ascending, ``start`` one of them; beyond its ends it goes on by the last ratio, inside ``low`` and ``high``."""

    tried: tuple[float, ...]
    start: float
    low: float
    high: float

    def beside(self, value: float) -> list[float]:
        """The neighbours of ``value``, which came from here."""
        lower = [v for v in self.tried if v < value]
        higher = [v for v in self.tried if v > value]
        down = lower[-1] if lower else self._on(value, self.tried[0], self.tried[1])
        up = higher[0] if higher else self._on(value, self.tried[-1], self.tried[-2])
        return [v for v in (down, up) if v is not None]

    def _on(self, value: float, edge: float, inner: float) -> float | None:
        if min(edge, inner) <= 0.0:
            return None
        beyond = float(f"{value * edge / inner:.2g}")
        return beyond if self.low <= beyond <= self.high and beyond != value else None


TRUST: Final = Constant((0.0, 0.25, 0.5, 0.75, 1.0), 1.0, 0.0, 1.0)
FLAT: Final = Constant((1.4, 2.0, 2.8, 4.0, 5.6), 4.0, 0.1, 20.0)
LINEAR: Final = Constant((1.0, 1.4, 2.0, 2.8, 4.0), 2.0, 0.1, 20.0)
STRENGTH: Final = Constant((1.0, 2.0, 4.0, 8.0), 4.0, 0.5, 64.0)
GAIN: Final = Constant((0.1, 0.2, 0.4, 0.8), 0.2, 0.01, 4.0)
TEMPER: Final = Constant((0.1, 0.3, 1.0), 0.3, 0.01, 1.0)


def factor(start: float) -> Constant:
    return Constant((0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8), start, 0.1, 1.5)


def memory(start: float) -> Constant:
    return Constant((0.7, 0.85, 0.95, 1.0), start, 0.3, 1.0)


def top(start: float) -> Constant:
    return Constant((0.0, 0.3, 1.0), start, 0.0, 1.0)


PLAN: Final[dict[str, dict[str, Constant]]] = {
    "naive": {"flat_cpm": FLAT},
    "manual": {"trust": TRUST},
    "shade": {"factor": factor(0.7), "trust": TRUST},
    "linear": {"linear_cpm": LINEAR, "trust": TRUST},
    "pid": {"gain": GAIN, "trust": TRUST, "top": top(0.3)},
    "roas": {"trust": TRUST},
    "greedy": {"memory": memory(0.95), "strength": STRENGTH, "trust": TRUST},
    "thompson": {"memory": memory(1.0), "strength": STRENGTH, "trust": TRUST},
    "tools": {"factor": factor(0.4), "top": top(1.0), "gain": GAIN, "memory": memory(1.0), "temper": TEMPER},
}


class Tuner:
    """One player on one scenario; what was played once is not played again."""

    def __init__(self, player: str, worlds: list[World]) -> None:
        self.player = player
        self._worlds = worlds
        self._facts = facts_of(worlds[0].scenario, worlds[0].design)
        self._played: dict[tuple[tuple[tuple[str, float], ...], int], float] = {}

    def mean(self, constants: dict[str, float], seeds: int) -> float:
        """Over the first ``seeds`` of the worlds."""
        return float(np.mean([self._penalised(constants, k) for k in range(min(seeds, len(self._worlds)))]))

    def _penalised(self, constants: dict[str, float], k: int) -> float:
        key = (tuple(sorted(constants.items())), k)
        if key not in self._played:
            run = play(self._worlds[k], LADDER[self.player](constants), self._facts)
            self._played[key] = score(run).penalised
        return self._played[key]

    def best(self) -> dict[str, float]:
        plan = PLAN[self.player]
        found = {name: constant.start for name, constant in plan.items()}
        for _ in range(ROUNDS_MAX if len(plan) > 1 else 1):
            before = dict(found)
            for name, constant in plan.items():
                found[name] = self._climbed(name, constant, found)
            if found == before:
                break
        return found

    def _climbed(self, name: str, constant: Constant, found: dict[str, float]) -> float:
        """Up from where it is, a neighbour at a time, until both are lower."""
        every, at = len(self._worlds), found[name]
        seen = {at}
        while True:
            here = {k: self.mean(found | {name: at}, k) for k in (FEW, every)}
            better = at
            for value in constant.beside(at):
                if value in seen:
                    continue
                seen.add(value)
                tried = found | {name: value}
                if self.mean(tried, FEW) < here[FEW] * (1.0 - HOPE):
                    continue
                if self.mean(tried, every) > self.mean(found | {name: better}, every):
                    better = value
            if better == at:
                return at
            at = better


def tune(scenario: Scenario, seeds: tuple[int, ...], progress: Progress, task: Any) -> dict[str, Any]:
    """The table of one scenario."""
    worlds = [World(scenario, seed) for seed in seeds]
    table: dict[str, Any] = {"digest": scenario.digest[:16], "seeds": len(seeds)}
    for player in PLAN:
        progress.update(task, description=f"{scenario.name}: {player}")
        table[player] = Tuner(player, worlds).best()
        progress.advance(task)
    return table


def text_of(tables: dict[str, Any]) -> str:
    lines = [
        "# Constants of the ladder, found by `python -m counterpoint.bench.market.tune` on seeds 0 and following (how many: `seeds`);",
        "# the digest is that of the scenario then. A scenario that is not here plays with those of stationary-v1.",
    ]
    for name in sorted(tables, key=NAMES.index):
        table = tables[name]
        lines += ["", f"[{name}]", f'digest = "{table["digest"]}"', f"seeds = {table['seeds']}"]
        for player in PLAN:
            inside = ", ".join(f"{constant} = {value}" for constant, value in table[player].items())
            lines.append(f"{player} = {{ {inside} }}")
    return "\n".join(lines) + "\n"


def main(
    scenarios: Annotated[list[str] | None, typer.Argument(help="Names; none: all of the package.")] = None,
    seeds: Annotated[int, typer.Option(min=FEW, max=100, help="Tune on seeds 0 to this, without it.")] = 12,
    out: Annotated[Path, typer.Option(help="Tables of other scenarios in it stay.")] = FILE,
) -> None:
    """Find the constants of the ladder, and write them after each scenario."""
    names = scenarios or list(NAMES)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)
    done = 0
    try:
        found = [scenario_named(name) for name in names]
        if not out.parent.is_dir():
            raise ConfigError(f"{out}: there is no folder {out.parent}; make it, or name another file")
        tables: dict[str, Any] = tomllib.loads(out.read_text("utf-8")) if out.exists() else {}
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task("tuning", total=len(names) * len(PLAN))
            for scenario in found:
                tables[scenario.name] = tune(scenario, parse_seeds(f"0-{seeds - 1}"), progress, task)
                write_atomically(out, text_of(tables).encode(), 0o644)
                done += 1
    except KeyboardInterrupt:
        rest = " ".join(names[done:])
        console.print(f"stopped: {done} of {len(names)} scenarios are written to {out}; go on with {rest}")
        raise typer.Exit(130) from None
    except ConfigError as error:
        console.print(f"error: {error}")
        raise typer.Exit(2) from None


if __name__ == "__main__":
    typer.run(main)
