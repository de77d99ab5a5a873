"""Part ``pacing``: value and spend of the paced multiplier against the best fixed one in hindsight."""

from __future__ import annotations

from counterpoint.bench.bidding.verdict import Context, PartResult


def pacing(context: Context) -> PartResult:
    return PartResult(part="pacing", skipped=("not there yet",))
