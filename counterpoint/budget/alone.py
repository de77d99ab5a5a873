"""The Budget agent without the platform: arms with histories in, allocation out.

>>> allocator = Allocator([Arm(name="audio"), Arm(name="video")], budget=100.0)
>>> for _ in range(8):
...     allocator.observe({"audio": 50.0, "video": 50.0}, {"audio": 40.0, "video": 90.0})
>>> sum(allocator.allocate().amounts.values())
100.0
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
import numpy as np
from msgspec import Struct

from counterpoint.base.errors import CounterpointError
from counterpoint.budget import explain
from counterpoint.budget.allocate import Z90, Safety
from counterpoint.budget.pool import PoolSplit
from counterpoint.budget.residual import Residual
from counterpoint.budget.response import BUCKETS, LAGS, Model
from counterpoint.budget.shapes import Array

ARMS_MAX: Final = 10_000


class HistoryError(CounterpointError):
    """Something in a history that no allocation can be made of: what, where, and what to do."""


class Arm(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A campaign or a channel. ``least``, ``most``: its amount per period, in money. ``converts``: its value comes from
    conversions, which may be late and feed on earlier advertising; only the learned tilt asks."""

    name: str
    least: float = 0.0
    most: float | None = None
    converts: bool = False


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    half_life_periods: float = 8.0  # of evidence
    safety: Safety = Safety(trust_factor=1.3, rest_periods=15)
    model: Model = Model()
    value_of_one: float | None = (
        None  # a single outcome's value; None: a hundredth of what an arm first brings, then measured
    )


class Allocation(Struct, frozen=True, kw_only=True):
    """Money per period by arm; sums to the budget. ``gain``: expected, against the last one, with its 90 % interval."""

    amounts: dict[str, float]
    marginal: dict[str, float]  # value per unit of money at the margin, at the last allocation
    gain: float
    gain_low: float
    gain_high: float
    moved: bool
    why: str


class Allocator:
    """Pure state: no I/O, no chance, no clock. One ``observe`` per period, ``allocate`` whenever wanted."""

    def __init__(
        self,
        arms: Sequence[Arm],
        budget: float,
        settings: Settings | None = None,
        learned: Residual | None = None,
        currency: str = "",
    ) -> None:
        """``budget``: per period. It starts from an equal split within the arms' bounds, which is also what it returns to
        when it falls behind it. Raises :class:`HistoryError`."""
        names = [arm.name for arm in arms]
        if not 2 <= len(names) <= ARMS_MAX or len(set(names)) < len(names):
            raise HistoryError(f"{len(names)} arms: give 2 to {ARMS_MAX}, each with a name of its own")
        if not (math.isfinite(budget) and budget > 0):
            raise HistoryError(f"budget {budget}: nothing to split; give a positive amount per period")
        self.settings = settings if settings is not None else Settings()
        self._names, self._currency, self._budget = names, currency, budget
        self._unit = budget / len(names)
        self._least = np.array([arm.least for arm in arms]) / self._unit
        self._most = np.array([math.inf if arm.most is None else arm.most for arm in arms]) / self._unit
        if self._least.min() < 0 or (self._most < self._least).any() or self._least.sum() > len(names):
            raise HistoryError(
                "bounds of the arms: 0 <= least <= most, and all least together within the budget"
            )
        if self._most.sum() < len(names):
            raise HistoryError("bounds of the arms: all most together are under the budget; raise one")
        one = self.settings.value_of_one
        self._pool = PoolSplit(
            np.full(len(names), 0.01 if one is None else one / self._unit),
            self.settings.model,
            self.settings.safety,
            0.5 ** (1.0 / self.settings.half_life_periods),
            converts=np.array([arm.converts for arm in arms]),
            learned=learned,
        )
        fixed = np.clip(np.ones(len(names)), self._least, self._most)
        for _ in range(len(names)):  # what the bounds took or left goes to those with room
            gap = len(names) - fixed.sum()
            room = (self._most - fixed) if gap > 0 else (fixed - self._least)
            if abs(gap) < 1e-12:
                break
            open_arms = room > 0
            share = np.where(open_arms, abs(gap) / max(1, int(open_arms.sum())), 0.0)
            fixed = fixed + np.sign(gap) * np.minimum(share, room)
        self._x = self._fixed = fixed
        self._spent: Array | None = None
        self.periods = 0

    def observe(
        self,
        spend: Mapping[str, float],
        value: Mapping[str, float],
        *,
        season: int | None = None,
        next_season: int | None = None,
        margins: Mapping[str, float] | None = None,
        delays: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        """One period. An arm that is left out did not spend: that is missing news, not bad news.

        ``season``: bucket of the week, 0 to 7 (a weekday, say); ``next_season``: of the period to be allocated.
        ``margins``: marginal return as a bidder knows it (its lambda). ``delays``: shares of an arm's outcomes that come 0, 1,
        ... periods after the spend, at most 29 of them. Raises :class:`HistoryError`; then nothing was learned.
        """
        spent, brought = self._column(spend, "spend"), self._column(value, "value")
        for bucket in (season, next_season):
            if bucket is not None and not 0 <= bucket < BUCKETS:
                raise HistoryError(f"season {bucket}: a bucket of the week is 0 to {BUCKETS - 1}")
        if self.settings.value_of_one is None and not self._pool.evidence.value.any():
            first = np.sort(brought[brought > 0])  # the lower median: one outlier does not set the scale
            if first.size:
                self._pool.evidence.dispersion[:] = 0.01 * max(1e-9, min(1e9, first[(first.size - 1) // 2]))
        margin = None
        if margins is not None:
            told = self._column(margins, "margin", missing=math.nan)
            base = self._pool.posterior().values(spent)
            bend = np.where(base > 0, told * spent * self._unit / np.where(base > 0, base, 1.0), math.nan)
            margin = np.where((bend > 0.02) & (bend < 1.0), bend, math.nan)
        self._pool.observe(
            x=spent,
            value=brought,
            time=np.ones(len(self._names)),
            bucket=season,
            margin=margin,
            delay=None if delays is None else self._delays(delays),
        )
        self._spent, self._next = spent, next_season
        self.periods += 1

    def allocate(self) -> Allocation:
        """The next period's amounts. Without history: the fixed split."""
        if self._spent is None:
            amounts = dict(zip(self._names, (self._fixed * self._unit).tolist(), strict=True))
            zero = dict.fromkeys(self._names, 0.0)
            return Allocation(
                amounts=amounts,
                marginal=zero,
                gain=0.0,
                gain_low=0.0,
                gain_high=0.0,
                moved=False,
                why="no history yet",
            )
        before = self._x
        proposed = self._pool.next(
            before, self._fixed, least=self._least, most=self._most, bucket=self._next, spent=self._spent
        )
        gain, sd = float(proposed.gain) * self._unit, float(proposed.gain_sd) * self._unit
        moved = bool(proposed.moved)
        why = "moving is not worth it yet"
        if moved:
            nanos = self._unit * explain.NANOS
            why = explain.move(
                self._names,
                before * nanos,
                proposed.x * nanos,
                proposed.marginal,
                proposed,
                nanos,
                self._currency,
            )
        self._x = proposed.x
        return Allocation(
            amounts=self._amounts(proposed.x),
            marginal=dict(zip(self._names, proposed.marginal.tolist(), strict=True)),
            gain=gain if moved else 0.0,
            gain_low=gain - Z90 * sd if moved else 0.0,
            gain_high=gain + Z90 * sd if moved else 0.0,
            moved=moved,
            why=why,
        )

    def snapshot(self) -> bytes:
        """JSON; give it to ``restore`` of an allocator made with the same arms, budget and settings."""
        rows, account = self._pool.rows(), self._pool.account()
        spent = None if self._spent is None else self._spent.tolist()
        return msgspec.json.encode(_Kept(self._names, self._x.tolist(), spent, self.periods, rows, account))

    def restore(self, raw: bytes) -> None:
        try:
            kept = msgspec.json.decode(raw, type=_Kept)
        except msgspec.DecodeError as broken:
            raise HistoryError(
                f"not a snapshot of an allocator ({broken}); start from the history"
            ) from broken
        if kept.names != self._names:
            raise HistoryError("the snapshot is of other arms; start from the history")
        self._pool.restore(list(kept.rows), kept.account)
        self._x, self.periods, self._next = np.array(kept.x), kept.periods, None
        self._spent = None if kept.spent is None else np.array(kept.spent)

    _next: int | None = None

    def _amounts(self, x: Array) -> dict[str, float]:
        amounts = (x * self._unit).tolist()
        top = max(range(len(amounts)), key=amounts.__getitem__)
        amounts[top] += self._budget - math.fsum(amounts)  # to the last bit of the budget
        return dict(zip(self._names, amounts, strict=True))

    def _column(self, told: Mapping[str, float], what: str, missing: float = 0.0) -> Array:
        strangers = sorted(set(told) - set(self._names))
        if strangers:
            raise HistoryError(
                f"{what} of {strangers[0]!r}, which is no arm; the arms are {', '.join(self._names[:8])}"
            )
        scale = 1.0 if what == "margin" else self._unit
        out = np.array([told.get(name, missing) for name in self._names], dtype=np.float64)
        bad = [
            n for n, v in zip(self._names, out, strict=True) if v < 0 or (not math.isfinite(v) and n in told)
        ]
        if bad:
            raise HistoryError(
                f"{what} of {bad[0]!r} is {told[bad[0]]}: give a finite number from 0, or leave the arm out"
            )
        return out / scale

    def _delays(self, delays: Mapping[str, Sequence[float]]) -> Array:
        out = np.zeros((len(self._names), LAGS + 1))
        for k, name in enumerate(self._names):
            shares = list(delays.get(name, (1.0,)))
            if len(shares) > LAGS + 1 or min(shares, default=-1.0) < 0 or sum(shares) > 1 + 1e-9:
                raise HistoryError(
                    f"delays of {name!r}: at most {LAGS + 1} shares from 0, together at most 1"
                )
            out[k, : len(shares)] = shares
        return out


class _Kept(Struct):
    names: list[str]
    x: list[float]
    spent: list[float] | None
    periods: int
    rows: list[list[list[float]]]
    account: list[float]
