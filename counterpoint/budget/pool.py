"""One pool's curves, safety and learned tilt together: periods in, the next split out. The learner, the benchmark and
``alone.Allocator`` all use this very object.

Everything is in equal shares ("units") of the pool, arrays (..., K) over arms with any leading axes.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from counterpoint.budget import residual, response
from counterpoint.budget.allocate import Proposed, Safety, Standing, propose
from counterpoint.budget.residual import Residual
from counterpoint.budget.response import Evidence, Model, Posterior
from counterpoint.budget.shapes import Array, Bools

SHORT_KEEP: Final = 0.5  # per period, of the mean surprise
LONG_KEEP: Final = 0.9
CARRY_KEEP: Final = 0.98  # per period, of what shows that outcomes follow the stock
CARRY_PRIOR: Final = 4.0  # precision of "they do not"
CARRY_EVENTS_MAX: Final = 50.0  # a period counts no more than so many outcomes
STOCK_LEAST: Final = 0.01  # of a day's traffic


class PoolSplit:
    """``dispersion``: (..., K) a single outcome's worth in units, until it is measured. ``keep``: of evidence, per period.
    ``stock_keep``: of the impressions that people remember, per period. ``weights``: overrides those of ``learned``."""

    def __init__(
        self,
        dispersion: Array,
        model: Model,
        safety: Safety,
        keep: float,
        *,
        converts: Bools | None = None,
        stock_keep: float = 1.0,
        learned: Residual | None = None,
        weights: Array | None = None,
    ) -> None:
        self.model, self.safety, self.keep, self.stock_keep = model, safety, keep, stock_keep
        self.weights = np.array(learned.weights) if weights is None and learned is not None else weights
        shape = dispersion.shape
        self.converts = np.zeros(shape) if converts is None else converts.astype(np.float64)
        self.evidence = Evidence.fresh(np.maximum(dispersion, 1e-9))
        self.standing = Standing.fresh(shape)
        self.stock, self.short, self.long = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        self.usual = np.full(shape, np.log(STOCK_LEAST))  # log stock, as the curve's level has seen it
        self.carried, self.swung = np.zeros(shape[:-1]), np.zeros(shape[:-1])  # sums of x y and x x

    def observe(
        self,
        *,
        x: Array,
        value: Array,
        time: Array,
        bucket: int | None = None,
        margin: Array | None = None,
        delay: Array | None = None,
        shown: Array | None = None,
    ) -> None:
        """As :func:`response.observe`; ``shown``: impressions of the period in shares of a day's traffic."""
        x, value = response.sane(x), response.sane(value)
        before = self.posterior()
        z, expected = response.observe(
            self.evidence, before, self.model,
            x=x, value=value, time=time, keep=self.keep, bucket=bucket, margin=margin, delay=delay,
        )  # fmt: skip
        self.short = SHORT_KEEP * self.short + (1.0 - SHORT_KEEP) * z
        self.long = LONG_KEEP * self.long + (1.0 - LONG_KEEP) * z
        if shown is not None:
            self._carry(value, expected, keep=self.keep)
            self.stock = self.stock * self.stock_keep + shown

    def _carry(self, value: Array, expected: Array, keep: float) -> None:
        """Do outcomes follow the stock? Least squares over converting arms together, of what was not expected on how far the
        stock is from where the curve learned its level."""
        log_stock = np.log(self.stock + STOCK_LEAST)
        off = log_stock - self.usual
        self.usual = keep * self.usual + (1.0 - keep) * log_stock
        known = (expected > 0) & (self.evidence.periods >= 2) & (self.converts > 0)
        safe = np.where(known, expected, 1.0)
        events = np.where(known, np.minimum(safe / self.evidence.dispersion, CARRY_EVENTS_MAX), 0.0)
        miss = np.clip(value / safe - 1.0, -1.0, 3.0)
        self.carried = CARRY_KEEP * self.carried + (events * off * miss).sum(axis=-1)
        self.swung = CARRY_KEEP * self.swung + (events * off * off).sum(axis=-1)

    def follows(self) -> Array:
        """(...) elasticity of outcomes to the stock, shrunk to none."""
        return np.asarray(self.carried / (self.swung + CARRY_PRIOR))

    def posterior(self) -> Posterior:
        return Posterior(self.evidence, self.model)

    def next(
        self,
        x: Array,
        fixed: Array,
        *,
        gone: float = 0.0,
        bucket: int | None = None,
        least: Array | float = 0.0,
        most: Array | float = np.inf,
        frozen: Bools | None = None,
        spent: Array | None = None,
    ) -> Proposed:
        """The split after ``x``; arguments as :func:`allocate.propose`. ``bucket``: of the coming period."""
        posterior = self.posterior()
        tilt = None
        if self.weights is not None:
            brought = posterior.values(x)
            bend = np.clip(x * posterior.marginal(x) / np.where(brought > 0, brought, 1.0), 0.1, 1.0)
            carry = np.clip(self.follows()[..., None] / bend, -residual.CARRY_MAX, residual.CARRY_MAX)
            tilt = residual.tilt(
                self.weights,
                residual.features(
                    share=x * x.shape[-1] / np.maximum(x.sum(axis=-1, keepdims=True), 1e-12),
                    doubt=posterior.doubt(),
                    surprise=self.short,
                    trend=self.long,
                    converts=self.converts,
                    stock=self.stock,
                    carry=carry,
                    gone=gone,
                ),
            )
        seasonal = bucket is not None and self.model.season_rate > 0
        return propose(
            posterior,
            self.standing,
            self.safety,
            x,
            fixed,
            least=least,
            most=most,
            frozen=frozen,
            spent=spent,
            season=response.factors(self.evidence, bucket) if seasonal and bucket is not None else None,
            tilt=tilt,
            alarmed=self.evidence.jumping > 0,
        )

    # ---- a single pool's memory, arm by arm

    def rows(self) -> list[list[list[float]]]:
        """Per arm: evidence, then what safety and the tilt remember of it."""
        more = (self.standing.step, self.standing.went, self.stock, self.short, self.long, self.usual)
        return [[*row, [float(a[k]) for a in more]] for k, row in enumerate(self.evidence.rows())]

    def account(self) -> list[float]:
        """The pool's standing against the fixed split, and how outcomes follow the stock."""
        s = self.standing
        return [float(a) for a in (s.lead, s.lead_variance, s.worth, s.resting, self.carried, self.swung)]

    def restore(self, rows: list[list[list[float]] | None], account: list[float] | None) -> None:
        """An arm without a row keeps what it began with."""
        fresh = self.rows()
        full = [fresh[k] if row is None else row for k, row in enumerate(rows)]
        self.evidence = Evidence.of_rows([row[:-1] for row in full])
        last = np.array([row[-1] for row in full])
        self.standing.step, self.standing.went = last[:, 0], last[:, 1]
        self.stock, self.short, self.long, self.usual = last[:, 2], last[:, 3], last[:, 4], last[:, 5]
        if account is not None:
            s = self.standing
            s.lead, s.lead_variance, s.worth, s.resting = (np.asarray(a) for a in account[:4])
            self.carried, self.swung = np.asarray(account[4]), np.asarray(account[5])
