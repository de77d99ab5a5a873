"""From runs to scores, from scores to comparisons, and no verdict from too few seeds.

Constraint-penalised value, per campaign and summed: value x min(1, (target / CPA)^2) - 10 x overspend (the CPA score of
AuctionNet, Su et al. 2024, with this project's price of overspending). Worth is counted at the goal's target, so
target / CPA = worth / spend for every goal: cost per click, per action, per thousand, or return on ad spend.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Final

import msgspec
import numpy as np
from msgspec import Struct

from counterpoint.bench.market.driver import Run
from counterpoint.bench.market.facts import NANOS, Floats
from counterpoint.bench.market.intervals import Interval, Mean, mean_of, share_of, t_quantile
from counterpoint.bench.market.oracles import Bounds

OVERSPEND_PRICE: Final = 10.0
PAIRS_MIN: Final = 30
PILOT_PAIRS: Final = 10
POWER: Final = 0.9
SPREAD_CONFIDENCE: Final = 0.8  # of the pilot's upper limit of the spread (Browne 1995)
GAIN_CONFIDENCE: Final = 0.95  # of the pilot's lower limit of the gain
LOG_MAX: Final = 700.0  # above, an end of an interval is no number
LEVEL: Final = 0.05  # two-sided, after the correction


class Score(Struct, frozen=True, kw_only=True):
    """One policy, scenario and seed, judged days. Money in account currency; rates are expected ones (true
    probabilities of the won impressions), ``*_realised`` what happened. None: nothing to divide by."""

    policy: str
    oracle: bool
    scenario: str
    seed: int
    penalised: float
    value: float
    value_realised: float
    spend: float
    budget: float
    overspend: float
    impressions: int
    reach: int  # people
    ctr: float | None
    cpa: float | None  # spend of all campaigns / all conversions, whatever the goal
    cost_to_target: float | None  # spend / worth at target: 1 is on target, below is better
    campaigns_off_target: int
    relevance: float | None  # mean share of people to whom the ad means less than to who saw it; chance: 0.5
    satisfaction: float | None
    regret: float | None  # bound-known - value; None: bound not computed
    refused: int


class Comparison(Struct, frozen=True, kw_only=True):
    """Paired by seed: penalised value of ``policy`` over ``against``. None: a side earned nothing on some seed."""

    scenario: str  # "all": geometric mean over scenarios, each alike
    policy: str
    against: str
    pairs: int
    ratio: Interval | None  # of geometric means
    improves: Interval | None  # probability that a seed is better, ties half
    p: float | None  # two-sided, of ratio 1, by the interval's own tails; this comparison alone
    p_holm: float | None  # corrected for every comparison of the board
    pairs_needed: int | None  # see :func:`pairs_needed`; None: no pilot yet
    verdict: str


def penalised(value: Floats, spend: Floats, overspend: float) -> float:
    """[campaign] of whole judged time, one currency.

    >>> penalised(np.array([10.0, 4.0]), np.array([5.0, 8.0]), 0.0)
    11.0
    """
    ratio = np.divide(value, spend, out=np.full(value.shape, np.inf), where=spend > 0)
    return float((value * np.minimum(1.0, ratio * ratio)).sum()) - OVERSPEND_PRICE * overspend


def score(run: Run, bound: Bounds | None = None) -> Score:
    judged = slice(run.warm_up_days, None)
    t = run.tally
    value, spend = t.value[judged].sum(axis=0) / NANOS, t.spend[judged].sum(axis=0) / NANOS
    over = np.maximum(t.spend[judged].sum(axis=1) - t.budget[judged].sum(axis=1), 0).sum() / NANOS
    impressions = int(t.impressions[judged].sum())
    conversions = float(t.conversions[judged].sum())

    def per_impression(total: Floats) -> float | None:
        return float(total[judged].sum()) / impressions if impressions else None

    return Score(
        policy=run.policy,
        oracle=run.oracle,
        scenario=run.scenario,
        seed=run.seed,
        penalised=penalised(value, spend, float(over)),
        value=float(value.sum()),
        value_realised=float(t.value_realised[judged].sum()) / NANOS,
        spend=float(spend.sum()),
        budget=float(t.budget[judged].sum()) / NANOS,
        overspend=float(over),
        impressions=impressions,
        reach=run.reach,
        ctr=per_impression(t.clicks),
        cpa=float(spend.sum()) / conversions if conversions > 0 else None,
        cost_to_target=float(spend.sum() / value.sum()) if value.sum() > 0 else None,
        campaigns_off_target=int((spend > value).sum()),
        relevance=per_impression(t.relevance),
        satisfaction=per_impression(t.satisfaction),
        regret=None if bound is None else bound.known / NANOS - float(value.sum()),
        refused=run.refused,
    )


def pairs_needed(log_ratios: Sequence[float], effect: float, comparisons: int = 1) -> int | None:
    """Seeds needed to tell the two apart; the first :data:`PILOT_PAIRS` are the pilot. None below three: no spread.

    n = ((z + 1.282) s / d)^2 + z^2 / 2, at least :data:`PAIRS_MIN`: 90 % power for a two-sided 5 % that holds for all of the
    board's ``comparisons`` (Bonferroni, which Holm never falls behind), z the normal quantile at 1 - 0.05 / (2 comparisons),
    z^2 / 2 for Student's t (Guenther 1981). s: upper 80 % limit of the spread, by the pilot. d: the gain to expect, the
    lower 95 % limit of the pilot's mean, but no smaller than ``effect`` (0.05: 5 %).

    >>> [pairs_needed([0.1, 0.3, -0.1, 0.0], 0.05, m) for m in (1, 14)]
    [383, 642]
    """
    pilot = np.array(log_ratios[:PILOT_PAIRS])
    if pilot.size < 3:
        return None
    sd = float(pilot.std(ddof=1))
    surely = abs(float(pilot.mean())) - t_quantile(GAIN_CONFIDENCE, pilot.size - 1) * sd / math.sqrt(
        pilot.size
    )
    gain = max(math.log1p(effect), surely)
    normal = NormalDist()
    z = normal.inv_cdf(1.0 - LEVEL / (2 * comparisons))
    spread = sd * math.sqrt((pilot.size - 1) / _chi_square(1.0 - SPREAD_CONFIDENCE, pilot.size - 1))
    pairs = ((z + normal.inv_cdf(POWER)) * spread / gain) ** 2 + z * z / 2
    return max(PAIRS_MIN, math.ceil(pairs))


def _chi_square(level: float, freedom: int) -> float:
    """Quantile, within 1 % (Wilson and Hilferty 1931)."""
    ninth = 2.0 / (9.0 * freedom)
    return float(freedom * (1.0 - ninth + NormalDist().inv_cdf(level) * math.sqrt(ninth)) ** 3)


def compare(
    scores: Sequence[Score], policies: Sequence[str], against: str, effect: float
) -> list[Comparison]:
    """Each of ``policies`` with ``against``: one comparison per scenario, and one of all where there are several.

    Intervals and p: :mod:`intervals` of the log ratios, strata are scenarios. Verdicts are at 5 % after Holm's correction
    for all these comparisons, refused ones too.
    """
    names = len({s.scenario for s in scores})
    board = len(policies) * (names + (names > 1))
    raw = [c for policy in policies for c in _compared(scores, policy, against, effect, board)]
    corrected = holm([1.0 if c.p is None else c.p for c in raw])
    out = []
    for c, value in zip(raw, corrected, strict=True):
        p_holm = None if c.p is None else value
        out.append(msgspec.structs.replace(c, p_holm=p_holm, verdict=_verdict(c, p_holm)))
    return out


def holm(values: Sequence[float]) -> list[float]:
    """Adjusted p-values (Holm 1979), in the order given.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    out = [0.0] * len(values)
    so_far = 0.0
    for rank, k in enumerate(sorted(range(len(values)), key=lambda k: values[k])):
        so_far = max(so_far, min(1.0, values[k] * (len(values) - rank)))
        out[k] = so_far
    return out


def _compared(
    scores: Sequence[Score], policy: str, against: str, effect: float, board: int
) -> list[Comparison]:
    names = list(dict.fromkeys(s.scenario for s in scores))
    by = {(s.scenario, s.seed, s.policy): s.penalised for s in scores}
    logs: list[Floats | None] = []
    out: list[Comparison] = []
    for name in names:
        seeds = sorted({s.seed for s in scores if s.scenario == name})
        pairs = [
            (by[name, k, policy], by[name, k, against])
            for k in seeds
            if (name, k, policy) in by and (name, k, against) in by
        ]
        good = bool(pairs) and all(a > 0.0 and b > 0.0 for a, b in pairs)
        ratios = np.array([math.log(a / b) for a, b in pairs]) if good else None
        logs.append(ratios)
        out.append(_measured(name, policy, against, len(pairs), [ratios], effect, board))
    if len(names) > 1:
        out.append(_measured("all", policy, against, min(c.pairs for c in out), logs, effect, board))
    return out


def _measured(
    scenario: str,
    policy: str,
    against: str,
    pairs: int,
    logs: Sequence[Floats | None],
    effect: float,
    board: int,
) -> Comparison:
    strata = [part for part in logs if part is not None]
    whole = len(strata) == len(logs) and pairs > 0
    ratio = improves = p = needed = None
    if whole:
        mean = mean_of(strata)
        ratio = _ratio(mean)
        improves = share_of([(part > 0.0) + 0.5 * (part == 0.0) for part in strata])
        p = mean.p()
        sizes = [pairs_needed(part.tolist(), effect, board) for part in strata]
        needed = None if None in sizes else max(n for n in sizes if n is not None)
    return Comparison(
        scenario=scenario,
        policy=policy,
        against=against,
        pairs=pairs,
        ratio=ratio,
        improves=improves,
        p=p,
        p_holm=None,
        pairs_needed=needed,
        verdict="",
    )


def _verdict(c: Comparison, p_holm: float | None) -> str:
    if c.ratio is None or p_holm is None:
        return "refused: on some seed one of them earned nothing, so there is no ratio"
    if c.pairs_needed is None:
        return f"refused: {c.pairs} seeds are no pilot; run at least {PAIRS_MIN}"
    if c.pairs < c.pairs_needed:
        return f"refused: {c.pairs} seeds; needs {c.pairs_needed}"
    if p_holm < LEVEL:
        return "better" if c.ratio.value > 1.0 else "worse"
    return "no difference shown"


def _ratio(mean: Mean) -> Interval:
    known = math.isfinite(mean.error)
    low, high = mean.interval()
    return Interval(
        value=math.exp(mean.value),
        low=math.exp(low) if known else None,
        high=math.exp(high) if known and high < LOG_MAX else None,
    )
