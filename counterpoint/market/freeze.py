"""Scenario names are permanent: recorded digests of what each name means, and how to record a new one.

``python -m counterpoint.market.freeze`` adds the names that are not recorded yet; it changes none that is.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Final

import numpy as np

from counterpoint.base.ids import digest
from counterpoint.market.load import FROZEN, NAMES, Frozen, scenario_named
from counterpoint.market.scenario import Scenario
from counterpoint.market.world import World

AUCTIONS: Final = 2_000
SEED: Final = 0


def measured(scenario: Scenario) -> Frozen:
    """The same of a scenario as it is now."""
    return Frozen(scenario.digest, world_digest(scenario))


def world_digest(scenario: Scenario, seed: int = SEED) -> str:
    """Of auctions spread over the whole scenario, their truths, and what some creative would do in each.

    Fractions count to seven digits, prices to a milli: the last bits of exp and log differ between processors.
    """
    world = World(scenario, seed)
    parts: list[bytes] = []
    blocks = 10
    each = min(AUCTIONS, scenario.auctions) // blocks
    for block in range(blocks):
        auctions = world.batch(block * (scenario.auctions // blocks), each)
        truth = world.truth(auctions)
        rows = np.arange(each)
        creatives = auctions.index % world.design.count
        responses = world.responses(auctions, rows, creatives, (auctions.index % 5).astype(np.float64))
        outcomes = world.outcomes(auctions, rows, creatives, responses)
        for table in (auctions, truth, responses, outcomes):
            for name in table.__struct_fields__:
                column = getattr(table, name)
                exact = column.astype(np.float32) + 0.0 if column.dtype.kind == "f" else column
                if name in (
                    "t_ns",
                    "click_delay_ns",
                    "conversion_delay_ns",
                    "rival_micros",
                    "threshold_micros",
                ):
                    exact = column // 1_000
                parts.append(exact.tobytes())
    return digest(*parts)


def record(path: Path) -> list[str]:
    """Add to ``path`` the names it has not. The names added."""
    known = tomllib.loads(path.read_text("utf-8")) if path.exists() else {}
    new = [name for name in NAMES if name not in known]
    with path.open("a", encoding="utf-8") as out:
        for name in new:
            found = measured(scenario_named(name))
            out.write(f'["{name}"]\nscenario = "{found.scenario}"\nworld = "{found.world}"\n\n')
    return new


if __name__ == "__main__":
    here = Path(__file__).parent / "scenarios" / FROZEN
    print("recorded:", ", ".join(record(here)) or "nothing new")
