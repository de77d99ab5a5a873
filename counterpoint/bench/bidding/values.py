"""Part ``values``: what the value model predicts, calibration on won traffic."""

from __future__ import annotations

from counterpoint.bench.bidding.verdict import Context, PartResult


def values(context: Context) -> PartResult:
    return PartResult(part="values", skipped=("not there yet",))
