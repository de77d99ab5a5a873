"""How long the market takes to make, and how much memory: it must grow with the auctions and no faster."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from typing import Final

import numpy as np
from msgspec import Struct

from counterpoint.market.scenario import Scenario, resized
from counterpoint.market.world import World

BATCH: Final = 50_000


class Speed(Struct, frozen=True):
    auctions: int
    made_s: float  # auctions and their truths
    answered_s: float  # a response and an outcome for each
    peak_mib: float  # of the process so far


def measure(scenario: Scenario, auctions: int, seed: int, step: Callable[[int], None]) -> Speed:
    """Every auction once, in batches; ``step`` hears how many are done."""
    world = World(resized(scenario, auctions), seed)
    made = answered = 0.0
    for start in range(0, auctions, BATCH):
        n = min(BATCH, auctions - start)
        began = time.perf_counter()
        batch = world.batch(start, n)
        world.truth(batch)
        middle = time.perf_counter()
        rows = np.arange(n)
        creatives = rows % world.design.count
        world.outcomes(batch, rows, creatives, world.responses(batch, rows, creatives))
        made += middle - began
        answered += time.perf_counter() - middle
        step(n)
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    return Speed(auctions, made, answered, peak)
