"""What came of a run, and whether one policy beats another: totals, and paired intervals by block bootstrap.

Auctions close in time are alike, so blocks of time are drawn, not rows: an episode where the log has episodes, else
BLOCK_ROWS consecutive auctions. All policies share each draw (paired); files are strata. The interval is over which
blocks of this log came, for this one run of each policy: its budget path is not run again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from counterpoint.base.rng import mix64
from counterpoint.market.logs.feedback import Part
from counterpoint.market.logs.read import EPISODES, FloatArray, IntArray

BLOCK_ROWS = 1_000
BLOCKS_MIN = 10  # of every file: fewer say nothing of how blocks differ
METRICS = ("value", "surplus", "sum_pctr", "clicks")


class Interval(Struct, frozen=True, kw_only=True):
    """``value`` as measured; ``low`` and ``high``: the 2.5 and 97.5 % points over resampled blocks. None: not defined."""

    value: float | None
    low: float | None
    high: float | None


class PolicyResult(Struct, kw_only=True):
    """Units: milli-fen (a price of p fen per 1,000 impressions is p milli-fen an impression)."""

    policy: str
    looks_ahead: bool
    tuned_on_prices: bool
    auctions: int
    bids: int
    wins: int
    win_rate: float
    clicks: int
    sum_pctr: float  # as logged
    sum_pctr_capped: float
    value: float  # of what was won: capped pctr x 100 / the train part's mean
    spend_milli_fen: int
    budget_milli_fen: int | None
    overspend_milli_fen: int
    ecpc_milli_fen: float | None  # spend per click; None: no click
    surplus: float  # value less spend
    surplus_share: float | None  # of perfect information's; None where that is 0
    stopped_at_row: int | None  # first judged auction that the budget's end cut off
    parameters: dict[str, float] = {}


class Total(Struct, frozen=True, kw_only=True):
    """One policy over all files."""

    policy: str
    wins: int
    clicks: int
    sum_pctr: float
    value: float
    spend_milli_fen: int
    overspend_milli_fen: int
    surplus: float
    surplus_share: float | None


class Comparison(Struct, frozen=True, kw_only=True):
    """``policy`` against ``against``: ratios of totals less 1; surplus: difference as a share of perfect information's."""

    policy: str
    against: str
    value_gain: Interval
    sum_pctr_gain: Interval
    clicks_gain: Interval
    surplus_share_gain: Interval


@dataclass(frozen=True, slots=True)
class Run:
    """One policy over one judged part, row by row."""

    policy: str
    bid: IntArray
    won: NDArray[np.bool_]
    paid: IntArray


def perfect_surplus(part: Part) -> FloatArray:
    """By row: value less the least winning bid where that pays. Who knew every price would gain this, in either auction."""
    return np.maximum(part.value - part.market_price, 0.0)


def blocks_of(part: Part, kind: str) -> IntArray:
    """Block number of each row, from 0."""
    if kind == EPISODES:
        changes: IntArray = np.cumsum(np.diff(part.time, prepend=part.time[0]) != 0)
        return changes
    return np.arange(len(part)) // BLOCK_ROWS


def block_sums(part: Part, run: Run, blocks: IntArray) -> dict[str, FloatArray]:
    n = int(blocks[-1]) + 1
    gained = np.where(run.won, part.value, 0.0)

    def summed(by_row: FloatArray) -> FloatArray:
        return np.bincount(blocks, weights=by_row, minlength=n).astype(np.float64)

    return {
        "value": summed(gained),
        "surplus": summed(gained - run.paid),
        "sum_pctr": summed(np.where(run.won, part.pctr, 0.0)),
        "clicks": summed(np.where(run.won, part.click, 0).astype(np.float64)),
        "perfect": summed(perfect_surplus(part)),
    }


def draws(blocks_by_file: Sequence[int], resamples: int, seed: int) -> list[FloatArray]:
    """How often each block is drawn: [resample, block] per file."""
    generator = np.random.Generator(np.random.Philox(key=[mix64(seed), 0x626F_6F74]))
    return [
        generator.multinomial(n, np.full(n, 1.0 / n), size=resamples).astype(np.float64)
        for n in blocks_by_file
    ]


def compare(
    policy: str,
    against: str,
    ours: Sequence[dict[str, FloatArray]],
    theirs: Sequence[dict[str, FloatArray]],
    drawn: Sequence[FloatArray],
) -> Comparison:
    """Block sums by file, in the same order for both and for ``drawn``. No interval below BLOCKS_MIN blocks in any file."""
    enough = all(d.shape[1] >= BLOCKS_MIN for d in drawn)

    def total(sums: Sequence[dict[str, FloatArray]], metric: str) -> FloatArray:
        """The measured total first, then each resample's."""
        measured = sum(float(s[metric].sum()) for s in sums)
        resampled = np.sum([d @ s[metric] for d, s in zip(drawn, sums, strict=True)], axis=0)
        return np.concatenate([[measured], resampled])

    def ratio(metric: str) -> Interval:
        return _interval(total(ours, metric) - total(theirs, metric), total(theirs, metric), enough)

    return Comparison(
        policy=policy,
        against=against,
        value_gain=ratio("value"),
        sum_pctr_gain=ratio("sum_pctr"),
        clicks_gain=ratio("clicks"),
        surplus_share_gain=_interval(
            total(ours, "surplus") - total(theirs, "surplus"), total(theirs, "perfect"), enough
        ),
    )


def _interval(numerator: FloatArray, denominator: FloatArray, enough: bool) -> Interval:
    if denominator[0] <= 0.0:
        return Interval(value=None, low=None, high=None)
    usable = denominator > 0.0  # few clicks: a resample may hold none
    ratios = numerator[usable] / denominator[usable]
    low, high = np.quantile(ratios[1:], [0.025, 0.975]) if len(ratios) > 1 else (np.nan, np.nan)
    defined = enough and bool(np.isfinite(low)) and bool(np.all(usable))
    return Interval(
        value=float(ratios[0]), low=float(low) if defined else None, high=float(high) if defined else None
    )


def summarise(
    part: Part,
    run: Run,
    budget: int | None,
    stopped_at: int | None,
    *,
    looks_ahead: bool,
    tuned_on_prices: bool,
    parameters: dict[str, float],
) -> PolicyResult:
    wins, spend = int(run.won.sum()), int(run.paid.sum())
    clicks = int(part.click[run.won].sum())
    value = float(part.value[run.won].sum())
    perfect = float(perfect_surplus(part).sum())
    overspend = 0 if budget is None else max(spend - budget, 0)
    return PolicyResult(
        policy=run.policy,
        looks_ahead=looks_ahead,
        tuned_on_prices=tuned_on_prices,
        auctions=len(part),
        bids=int(np.count_nonzero(run.bid)),
        wins=wins,
        win_rate=wins / len(part),
        clicks=clicks,
        sum_pctr=float(part.pctr[run.won].sum()),
        sum_pctr_capped=float(part.capped[run.won].sum()),
        value=value,
        spend_milli_fen=spend,
        budget_milli_fen=budget,
        overspend_milli_fen=overspend,
        ecpc_milli_fen=spend / clicks if clicks else None,
        surplus=value - spend,
        surplus_share=(value - spend) / perfect if perfect > 0 else None,
        stopped_at_row=stopped_at,
        parameters=parameters,
    )


def total(results: Sequence[PolicyResult], perfect: float) -> Total:
    """``results`` of one policy, ``perfect`` the sum of perfect information's surplus."""
    surplus = sum(r.surplus for r in results)
    return Total(
        policy=results[0].policy,
        wins=sum(r.wins for r in results),
        clicks=sum(r.clicks for r in results),
        sum_pctr=sum(r.sum_pctr for r in results),
        value=sum(r.value for r in results),
        spend_milli_fen=sum(r.spend_milli_fen for r in results),
        overspend_milli_fen=sum(r.overspend_milli_fen for r in results),
        surplus=surplus,
        surplus_share=surplus / perfect if perfect > 0 else None,
    )
