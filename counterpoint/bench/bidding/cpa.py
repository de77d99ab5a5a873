"""Part ``cpa``: cost per acquisition against the baselines, at equal spend, and against its own target."""

from __future__ import annotations

from counterpoint.bench.bidding.verdict import Context, PartResult


def cpa(context: Context) -> PartResult:
    return PartResult(part="cpa", skipped=("not there yet",))
