"""A move of money in words: from whom to whom, how much, at which marginal returns, and how sure."""

from __future__ import annotations

from collections.abc import Sequence

from counterpoint.budget.allocate import Z90, Proposed
from counterpoint.budget.shapes import Array

NANOS = 1e9


def move(
    names: Sequence[str],
    before: Array,
    after: Array,
    marginal: Array,
    proposed: Proposed,
    unit: float,
    currency: str,
) -> str:
    """``before``, ``after``: (K,) nanos a day; ``unit``: nanos of one equal share, in which ``proposed`` counts.

    The largest giver and taker are named; the 90 % interval is of the whole move's gain a day.
    """
    step = after - before
    to, away = int(step.argmax()), int(step.argmin())
    gain, sd = float(proposed.gain) * unit / NANOS, float(proposed.gain_sd) * unit / NANOS
    why = (
        "back to the owner's split, which did better" if bool(proposed.returned) else f"gain {gain:.2f} a day"
    )
    return (
        f"moved {min(step[to], -step[away]) / NANOS:.2f} {currency} from {names[away]} to {names[to]}: marginal return "
        f"{marginal[to]:.2f} against {marginal[away]:.2f}; {why}, 90 % interval {gain - Z90 * sd:.2f} to {gain + Z90 * sd:.2f}"
    )
