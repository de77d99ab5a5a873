"""Bayesian logistic regression on hashed slots: a Gaussian per slot, learned online; how much features say is learned too.

Per expert, assumed-density filtering with a diagonal covariance (as AdPredictor, Graepel et al. 2010, but with the
logistic's curvature): with s the offset plus the sum of the slots' means, V the sum of their variances, p = sigmoid(s),
w = p (1 - p) x the row's weight,

    mean += variance * (y - weight p) / (1 + w V)        variance -= variance**2 * w / (1 + w V)

A slot begins at mean 0 with its template's prior variance: that is the shrinkage. Where labels are rare the right spread
of the prior decides everything, and nobody knows it beforehand. So experts with priors of different scale (0: features
say nothing) learn side by side, and their log-odds are averaged by how well each predicted rows before it learned them
(a Bayes factor, forgotten with time). Forgetting lets variances grow back towards the prior. Every number is a function
of the order of the rows alone.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from counterpoint.base.jit import njit
from counterpoint.bidding.features import PAIRS, PRIOR_VARIANCES, SLOTS, U64, slot_kernel

SCALES: Final = (0.0, 0.25, 0.5, 1.0)  # of the priors' standard deviations, one expert each
START: Final[NDArray[np.float64]] = np.array(
    [0.0, -0.5, -2.0, -4.0]
)  # evidence at first: features earn their say
MEAN_MAX: Final = 3.0  # of one slot's log-odds
SUM_MAX: Final = 3.0  # of all slots together: what features may say against the offset
LOGIT_MAX: Final = 16.0
EVIDENCE_MAX: Final = 12.0  # nats between experts: one that was wrong for long can still come back
TEMPLATES_N: Final = PAIRS.shape[0]

F64 = NDArray[np.float64]


@njit
def _clip(x: float, low: float, high: float) -> float:
    return min(max(x, low), high)


@njit
def sums_kernel(rows: U64, mean: F64, out: F64) -> None:
    """``out[i]``: what the slots of row i say, before any bound."""
    for i in range(rows.shape[0]):
        total = 0.0
        for t in range(TEMPLATES_N):
            total += mean[slot_kernel(t, rows[i, PAIRS[t, 0]], rows[i, PAIRS[t, 1]])]
        out[i] = total


@njit
def learn_kernel(
    rows: U64,
    offsets: F64,
    labels: F64,
    weights: F64,
    mean: F64,
    variance: F64,
    touched: NDArray[np.int8],
    priors: F64,
    evidence: F64,
    out: F64,
) -> None:
    """``mean``, ``variance`` are [expert, slot], ``priors`` [expert, template]; ``evidence`` [expert] in nats, the best
    0; ``out``: the experts' joint p of each row before it was learned."""
    experts = mean.shape[0]
    slots = np.empty(TEMPLATES_N, np.int64)
    for i in range(rows.shape[0]):
        for t in range(TEMPLATES_N):
            at = slot_kernel(t, rows[i, PAIRS[t, 0]], rows[i, PAIRS[t, 1]])
            slots[t] = at
            if touched[at] == 0:
                touched[at] = t + 1
                for e in range(experts):
                    variance[e, at] = priors[e, t]
        joint = 0.0
        shares = 0.0
        best = -np.inf
        for e in range(experts):
            total = 0.0
            spread = 0.0
            for t in range(TEMPLATES_N):
                total += mean[e, slots[t]]
                spread += variance[e, slots[t]]
            share = math.exp(evidence[e])
            joint += share * total
            shares += share
            p = 1.0 / (
                1.0 + math.exp(-_clip(offsets[i] + _clip(total, -SUM_MAX, SUM_MAX), -LOGIT_MAX, LOGIT_MAX))
            )
            evidence[e] += labels[i] * math.log(p) + (weights[i] - labels[i]) * math.log1p(-p)
            best = max(best, evidence[e])
            w = p * (1.0 - p) * weights[i]
            shrink = 1.0 / (1.0 + w * spread)
            gain = (labels[i] - weights[i] * p) * shrink
            for t in range(TEMPLATES_N):
                at = slots[t]
                v = variance[e, at]
                mean[e, at] = _clip(mean[e, at] + v * gain, -MEAN_MAX, MEAN_MAX)
                variance[e, at] = v - v * v * w * shrink
        for e in range(experts):
            evidence[e] = max(evidence[e] - best, -EVIDENCE_MAX)
        together = _clip(joint / shares, -SUM_MAX, SUM_MAX)
        out[i] = 1.0 / (1.0 + math.exp(-_clip(offsets[i] + together, -LOGIT_MAX, LOGIT_MAX)))


class Logistic:
    """``rows`` are uint64 [n, SOURCES], see ``features.sources_of``; ``offsets`` log-odds before any feature."""

    def __init__(self) -> None:
        self.mean: F64 = np.zeros((len(SCALES), SLOTS))
        self.variance: F64 = np.zeros((len(SCALES), SLOTS))
        self.touched: NDArray[np.int8] = np.zeros(SLOTS, np.int8)  # 1 + the template that came first; 0: none
        self.evidence: F64 = START.copy()
        self._priors: F64 = np.array([[scale * scale * v for v in PRIOR_VARIANCES] for scale in SCALES])

    def weights(self) -> F64:
        """[slot] log-odds, the experts' average."""
        share = np.exp(self.evidence)
        return np.asarray((share / share.sum()) @ self.mean)

    def predict(self, rows: U64, offsets: F64) -> F64:
        sums = np.empty(rows.shape[0])
        sums_kernel(rows, self.weights(), sums)
        together = np.clip(offsets + np.clip(sums, -SUM_MAX, SUM_MAX), -LOGIT_MAX, LOGIT_MAX)
        return np.asarray(1.0 / (1.0 + np.exp(-together)))

    def learn(self, rows: U64, offsets: F64, labels: F64, weights: F64) -> F64:
        """Row by row; returns what was predicted of each before it was learned. ``labels`` in {0, 1}, or less than 0
        where an earlier row is taken back; a row is ``weights`` of a trial (its residual is label - weight x p)."""
        out = np.empty(rows.shape[0])
        learn_kernel(
            rows, offsets, labels, weights, self.mean, self.variance, self.touched, self._priors, self.evidence, out
        )  # fmt: skip
        return out

    def forget(self, factor: float) -> None:
        """Variances grow by 1 / ``factor`` up to the prior's, and evidence about the experts fades."""
        assert 0.0 < factor <= 1.0
        at = np.flatnonzero(self.touched)
        prior = self._priors[:, self.touched[at].astype(np.int64) - 1]
        self.variance[:, at] = np.minimum(self.variance[:, at] / factor, prior)
        self.evidence = START + (self.evidence - START) * factor
        self.evidence -= self.evidence.max()

    def dump(self) -> bytes:
        """What was touched: slot numbers, templates, then float64 of evidence, means and variances."""
        at = np.flatnonzero(self.touched)
        floats = np.concatenate(
            [self.evidence, self.mean[:, at].ravel(), self.variance[:, at].ravel()]
        ).astype("<f8")
        return b"".join([at.astype("<u4").tobytes(), self.touched[at].tobytes(), floats.tobytes()])

    def load(self, raw: bytes) -> None:
        """Raises ``ValueError`` where the bytes are none of ours; nothing is changed then."""
        experts = len(SCALES)
        n, rest = divmod(len(raw) - 8 * experts, 5 + 16 * experts)
        if rest or not 0 <= n <= SLOTS:
            raise ValueError(f"a value model of {len(raw)} bytes is none of ours; start without the snapshot")
        at = np.frombuffer(raw, "<u4", n).astype(np.int64)
        template = np.frombuffer(raw, np.int8, n, 4 * n)
        floats = np.frombuffer(raw, "<f8", -1, 5 * n)
        evidence, tables = floats[:experts], floats[experts:].reshape(2, experts, n)
        sane = np.isfinite(floats).all() and evidence.max() <= 0.0
        if n:
            sane = sane and at.max() < SLOTS and template.min() > 0 and template.max() <= TEMPLATES_N
            sane = sane and bool(np.abs(tables[0]).max() <= MEAN_MAX and tables[1].min() >= 0.0)
        if not sane:
            raise ValueError("a value model with numbers out of bounds: start without the snapshot")
        fresh = Logistic()
        fresh.touched[at] = template
        fresh.mean[:, at], fresh.variance[:, at] = tables
        self.mean, self.variance, self.touched = fresh.mean, fresh.variance, fresh.touched
        self.evidence = evidence.copy()


def logit(p: Any) -> F64:
    """Log-odds; chances are kept inside (1e-7, 1 - 1e-7)."""
    kept = np.clip(np.asarray(p, dtype=np.float64), 1e-7, 1.0 - 1e-7)
    return np.asarray(np.log(kept / (1.0 - kept)))
