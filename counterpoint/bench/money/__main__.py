"""``python -m counterpoint.bench.money --operations 10000000 --seed 1``: see ``counterpoint bench money --help``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from counterpoint.bench.money.run import PARTS, exit_code, run, shown


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", "--part", action="append", help=", ".join(PARTS))
    parser.add_argument("--operations", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--database")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        report = run(
            asked.parts or (),
            asked.operations,
            asked.rounds,
            asked.seed,
            asked.database,
            progress,
            asked.quick,
        )
    if asked.json is not None:
        asked.json.write_bytes(msgspec.json.encode(report))
    print(shown(report))
    return exit_code(report)


if __name__ == "__main__":
    sys.exit(main())
