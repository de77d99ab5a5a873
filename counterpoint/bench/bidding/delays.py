"""Part ``delays``: how much of what will convert has converted, told from half a log and held against the rest of it.

Real clicks and installs (TalkingData). At each cut only what had happened by then is known; the share of conversions that
have come by then, of all that the log shows for the same clicks, is predicted by the product limit of ``bidding.delays``,
by the plain distribution of the delays seen so far (which forgets the clicks that still wait), and by counting each click
after two minutes (nothing is missing). Intervals: Poisson bootstrap of clicks, the cuts of one log being one sample.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

from counterpoint.bench.bidding.verdict import Bar, Context, Measured, PartResult, Table, Verdict
from counterpoint.bidding.delays import EDGES_S, EVERYBODY, Ages, Delays, DelaysState
from counterpoint.market.fit import DELAYS, read

CUTS_H: Final = (8.0, 12.0, 18.0, 24.0, 30.0, 36.0)
RESAMPLES: Final = 300

F64 = NDArray[np.float64]


def delays(context: Context) -> PartResult:
    file = None if context.data is None else context.data / DELAYS
    if file is None or not file.is_file():
        return PartResult(part="delays", skipped=(f"TalkingData: needs --data with {DELAYS}",))
    clicked, converted = clicks_of([*read(file)])
    errors = _errors(clicked, converted, np.ones(clicked.shape))
    chance = np.random.Generator(np.random.Philox(key=[0, 0x64656C6179]))
    drawn = []
    for n in range(20 if context.quick else RESAMPLES):
        context.report("TalkingData", n / RESAMPLES)
        drawn.append(_errors(clicked, converted, chance.poisson(1.0, clicked.shape).astype(np.float64)))
    spread = np.array(drawn)  # [resample, cut, (product limit, plain, none)]
    behind = f"{int(np.isfinite(converted).sum())} installs of {len(clicked)} clicks, {len(CUTS_H)} cuts"

    def over(of: F64, among: F64) -> Measured:
        low, high = np.quantile(among, [0.025, 0.975])
        return Measured(value=float(of), low=float(low), high=float(high))

    size, sizes = np.nanmean(np.abs(errors), axis=0), np.nanmean(np.abs(spread), axis=1)
    verdicts = [
        Verdict(
            bar=f"share of conversions arrived, mean |predicted - true|: {other}, less that of the product limit",
            kind=Bar.ABOVE,
            target=0.0,
            measured=over(size[k] - size[0], sizes[:, k] - sizes[:, 0]),
            behind=behind,
        )
        for k, other in ((1, "plain delays"), (2, "clicks count whole after two minutes"))
    ]
    rows = tuple(
        (
            f"{cut:.0f} h",
            f"{-errors[k, 2] + 1.0:.3f}",
            *(f"{1.0 - errors[k, 2] + error:.3f}" for error in errors[k]),
        )
        for k, cut in enumerate(CUTS_H)
    )
    table = Table(
        title="share of conversions arrived, of all that the log shows for the same clicks",
        head=("known up to", "true", "product limit", "plain delays seen", "nothing missing"),
        rows=rows,
    )
    return PartResult(part="delays", verdicts=tuple(verdicts), tables=(table,))


def clicks_of(rows: list[dict[str, str]]) -> tuple[F64, F64]:
    """Seconds since the first click: of each click, and of its conversion (inf: none in the log)."""

    def seconds(text: str) -> float:
        if not text:
            return np.inf
        return datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC).timestamp()

    clicked = np.array([seconds(row["click_time"]) for row in rows])
    converted = np.array([seconds(row["attributed_time"]) for row in rows])
    return clicked - clicked.min(), converted - clicked.min()


def _errors(clicked: F64, converted: F64, weights: F64) -> F64:
    """[cut, 3] predicted less true share arrived; NaN where no click so far converts in the log."""
    out = np.zeros((len(CUTS_H), 3))
    for n, cut in enumerate(CUTS_H):
        now = cut * 3_600.0
        known = clicked <= now
        age, delay, w = now - clicked[known], converted[known] - clicked[known], weights[known]
        told = delay <= age
        ever = float(w[np.isfinite(delay)].sum())
        true = float(w[told].sum()) / ever if ever > 0.0 else np.nan
        out[n] = np.array([*predicted(age, delay, w), 1.0]) - true
    return out


def predicted(age: F64, delay: F64, weights: F64) -> tuple[float, float]:
    """(by the product limit, by the delays seen): mean over clicks of the share that has come at their age."""
    edges = np.array(EDGES_S)
    bins = len(edges)
    told = delay <= age
    lived = np.searchsorted(edges, np.where(told, delay, age), side="right") - 1  # the last bin it entered
    last = np.bincount(lived, weights, bins)
    entered = np.cumsum(last[::-1])[::-1]
    ages = Ages(entered.tolist(), np.bincount(lived[told], weights[told], bins).tolist())
    curve = Delays(DelaysState(ages={EVERYBODY: ages})).curve(EVERYBODY)
    at = np.searchsorted(edges, age, side="right") - 1
    before = np.concatenate([[0.0], curve[:-1]])
    share = (curve[at] + before[at]) / 2.0  # as Delays.share_at
    order = np.argsort(delay[told])
    seen, mass = delay[told][order], np.cumsum(weights[told][order])
    place = np.searchsorted(seen, age, side="right")
    plain = np.where(place > 0, mass[np.maximum(place - 1, 0)] / max(float(mass[-1]), 1e-12), 0.0)
    return float(np.average(share, weights=weights)), float(np.average(plain, weights=weights))
