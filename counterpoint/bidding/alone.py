"""The Bidding agent without bus, server or catalog: one budget, in somebody else's loop, as it runs live.

``price`` and ``learn`` in turns, one auction or thousands at a time. Either the caller says what an impression is worth, or a
:class:`Goal` does (clicks, conversions at a target CPA, orders at a target return, reach) and learns it from what came of
the impressions won. Money is the caller's account currency: prices and values in integer micros CPM (a millionth of a unit
per thousand impressions, the same number as nanos per impression). See ``docs/library.md`` and ``examples/bidding_alone.py``.

>>> bidder = AloneBidder(budget_nanos=10_000_000, auctions=1_000)
>>> bids = bidder.price(np.array([2e6, 4e6]), floor_micros=1_000_000)
>>> bids.tolist()
[1600000, 3200000]
>>> bidder.learn(bids, won=[True, False], minimum_micros=[1_200_000, 3_500_000])
>>> bidder.spent_nanos
1600000
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
from msgspec import Struct
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray

from counterpoint.base.clock import NS_PER_S
from counterpoint.base.errors import ConfigError, CounterpointError
from counterpoint.base.jit import njit
from counterpoint.base.money import PRICE_MICROS_MAX
from counterpoint.base.seen import SeenIds
from counterpoint.bidding import pacing
from counterpoint.bidding.goal import Buys, Goal, GoalLearner
from counterpoint.bidding.outcomes import Counts
from counterpoint.bidding.pacing import Pace
from counterpoint.bidding.policy import LAMBDA_MIN, curve_table
from counterpoint.bidding.price import best_price
from counterpoint.bidding.segments import lineage
from counterpoint.bidding.state import BiddingConfig
from counterpoint.bidding.value_model import Shown
from counterpoint.bidding.win_curve import WinCurves

__all__ = ["NOT_TOLD", "AloneBidder", "Buys", "Goal", "RowsRefused", "Shown"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
NOT_TOLD = -1
_NO_NUMBER = -2
SECOND_PRICE = 2
REFRESH_ROWS = 25  # auctions told, after which curves are looked at again
DECAY_EVERY_S = 60.0
_KEPT_VERSION = 1


class RowsRefused(CounterpointError):
    """Arguments that do not belong together: nothing was learned of them, nothing has changed."""


class Refused(Struct):
    """Rows and numbers that were not used, by why. What was known before stays."""

    values: int = 0  # NaN, infinite, negative or beyond any price: no bid
    bids: int = 0  # told back as NaN, negative or beyond any price: as if there had been no bid
    prices: int = 0  # paid above the bid, below 0 or NaN: the bid is taken for the price
    minimums: int = 0  # that contradict the outcome, or are none: the row counts without
    wins_without_bid: int = 0
    repeats: int = 0  # auctions with an id that was heard before
    clocks: int = 0  # times that ran back, or are none: the latest one stands


class _Kept(Struct):
    version: int
    spent_nanos: int
    seen: int
    now_s: float
    decayed_s: float
    rows: int
    pace: Pace
    refused: Refused
    ids: tuple[bytes, bytes]
    curves: msgspec.Raw
    goal: bytes | None


class AloneBidder:
    """Not thread-safe. No I/O, no clock, no chance of its own.

    ``budget_nanos`` > 0 for ``auctions`` >= 1 expected in all; None: no budget. ``lowest`` in [0.2, 1]: 1 never bids above
    value; below lets it, where a budget or a target cost asks for more value than it would win.
    ``goal``: None: the caller brings values. Of clicks, conversions and return it also holds the mean cost at the goal.
    ``refused`` and ``contained`` count what was not used. Raises :class:`ConfigError`.
    """

    def __init__(
        self,
        budget_nanos: int | None = None,
        auctions: int = 1,
        lowest: float = 1.0,
        goal: Goal | None = None,
    ) -> None:
        if (
            auctions < 1
            or (budget_nanos is not None and budget_nanos <= 0)
            or not LAMBDA_MIN <= lowest <= 1.0
        ):
            raise ConfigError("a budget and a number of auctions above 0, and lowest in 0.2..1")
        self.refused = Refused()
        self.spent_nanos = 0
        self._budget, self._auctions, self._lowest = budget_nanos, auctions, lowest
        self._seen = self._rows = 0
        self._now_s = self._decayed_s = 0.0
        self._pace = Pace()
        self._goal = None if goal is None else GoalLearner(goal)
        if not self._holds_cost:
            self._pace.cost.log_lambda = math.log(lowest)
        self._ids = SeenIds()
        self._curves = WinCurves(BiddingConfig().curve_half_life_s)
        self._tables: dict[str, FloatArray] = {}

    @property
    def _holds_cost(self) -> bool:
        return self._goal is not None and self._goal.goal.buys is not Buys.REACH

    @property
    def multiplier(self) -> float:
        """lambda: v_eff = value / lambda, the larger of what the budget and the target cost ask for."""
        if self._budget is None and not self._holds_cost:
            return 1.0
        return self._pace.multiplier(self._lowest)

    @property
    def contained(self) -> Counts:
        """Clicks and conversions that could not be, by why."""
        return Counts() if self._goal is None else self._goal.contained

    # ---- asking

    def values(self, shown: Sequence[Shown]) -> FloatArray:
        """What each is worth at the goal, micros CPM, [n]. 0 where a rate that was handed in is no chance. Raises
        :class:`ConfigError` without a goal.

        >>> bidder = AloneBidder(goal=Goal(buys=Buys.REACH, worth_micros=4_000_000))
        >>> new, known = (Shown(exchange="x", media="video", campaign="c", line_item="l", click_rate=0.01,
        ...                     person_shown=n, exposed=n) for n in (0, 2))
        >>> bidder.values([new, known]).tolist()
        [4000000.0, 1000000.0]
        """
        if self._goal is None:
            raise ConfigError("values are asked of a bidder with a goal; without one, hand them to price")
        return self._goal.values(shown)

    def price(
        self,
        values: ArrayLike,
        segment: str = "own/banner",
        auction_type: int = 1,
        floor_micros: int = 0,
        explores: Generator | None = None,
    ) -> IntArray:
        """Bids for impressions worth ``values`` (micros CPM, [n] or one number), [n]; 0: none. Never above v_eff, under the
        floor or above what is left.

        ``segment`` "{exchange}/{media}" picks the win curve, its parents where it has none; a child "{exchange}/{media}/{x}" may be
        named. ``auction_type`` 2: second price, v_eff is bid. ``explores``: 3 % of bids are moved by up to 20 %, so that an exchange
        that tells nothing but wins and losses still teaches a curve.
        Raises :class:`RowsRefused` for a segment or floor that is none."""
        _check_segment(segment)
        if not 0 <= floor_micros <= PRICE_MICROS_MAX:
            raise RowsRefused(f"floor_micros is {floor_micros}; it is in 0..{PRICE_MICROS_MAX}")
        worth = np.atleast_1d(np.asarray(values, dtype=np.float64))
        good = np.isfinite(worth) & (worth >= 0.0) & (worth <= PRICE_MICROS_MAX)
        self.refused.values += int((~good).sum())
        paced = np.where(good, worth, 0.0) / self.multiplier
        wished = paced
        if auction_type != SECOND_PRICE:
            wished = np.zeros(len(worth))
            _shade(self._table(segment), paced, float(floor_micros), wished)
        if explores is not None:
            config = BiddingConfig()
            moved = 1.0 + config.exploration_span * (2.0 * explores.random(len(worth)) - 1.0)
            wished = np.where(explores.random(len(worth)) < config.exploration_rate, wished * moved, wished)
        bids = np.minimum(np.maximum(np.minimum(wished, paced), float(floor_micros)), PRICE_MICROS_MAX)
        bids = np.where((paced >= floor_micros) & (bids >= 1.0), bids, 0.0)
        left = math.inf if self._budget is None else self._budget - self.spent_nanos
        return np.asarray(np.where(bids <= left, bids, 0.0), dtype=np.int64)

    # ---- hearing

    def learn(
        self,
        bids: ArrayLike,
        won: ArrayLike,
        minimum_micros: ArrayLike | None = None,
        paid_micros: ArrayLike | None = None,
        segment: str = "own/banner",
        *,
        auction_type: int = 1,
        floor_micros: int = 0,
        ids: Sequence[str] | None = None,
        values: ArrayLike | None = None,
        shown: Sequence[Shown] | None = None,
        now_s: float | None = None,
    ) -> None:
        """What came of ``bids`` (micros CPM, [n]) in the order of time; 0 was no bid, and a loss about something else than
        price is told as 0 too.

        ``minimum_micros``: the least bid that would have won, ``paid_micros``: the price of a win; NOT_TOLD where nobody says, None:
        nobody ever does. Unpriced wins cost their bid. In second price a price below the bid is a minimum.
        ``ids``: of the auctions; one heard before is left out. ``values``, ``shown``, ``ids`` and ``now_s`` (seconds of any one
        clock, never back) are what a goal learns from, and needed with one.
        Raises :class:`RowsRefused` where lengths differ or a goal lacks what it needs; then nothing was learned."""
        _check_segment(segment)
        raw_bids = _column("bids", bids, None)
        n = len(raw_bids)
        wins = _column("won", won, n) == 1
        minima = _column("minimum_micros", minimum_micros, n)
        prices = _column("paid_micros", paid_micros, n)
        worth = None if values is None else np.atleast_1d(np.asarray(values, dtype=np.float64))
        goal = self._goal
        if goal is not None and (ids is None or worth is None or shown is None or now_s is None):
            raise RowsRefused("with a goal, learn needs ids, values, shown and now_s")
        for what, given in (("ids", ids), ("values", worth), ("shown", shown)):
            if given is not None and len(given) != n:
                raise RowsRefused(f"{what} has {len(given)} rows, bids {n}")
        self._pass_to(now_s)

        usable = (raw_bids >= 0) & (raw_bids <= PRICE_MICROS_MAX)
        self.refused.bids += int((~usable).sum())
        if ids is not None:
            new = np.fromiter((self._ids.add(name) for name in ids), np.bool_, n)
            self.refused.repeats += int((~new).sum())
            usable &= new
        made = np.where(usable, raw_bids, 0)
        self.refused.wins_without_bid += int((wins & usable & (made == 0)).sum())
        wins &= made > 0
        wrong = wins & (prices != NOT_TOLD) & ((prices > made) | (prices < 0))
        self.refused.prices += int(wrong.sum())
        told = wins & (prices != NOT_TOLD) & ~wrong
        paid = np.where(wins, np.where(told, prices, made), 0)
        if auction_type == SECOND_PRICE:
            minima = np.where((minima == NOT_TOLD) & told & (prices > 0) & (prices < made), prices, minima)
        self._learn_market(segment, made, wins, minima, floor_micros)
        if goal is not None:
            assert ids is not None
            assert shown is not None
            assert worth is not None
            at = np.flatnonzero(wins)
            sound = at[np.isfinite(worth[at]) & (worth[at] > 0.0)]
            for k in sound.tolist():
                self._pace.cost.won(float(paid[k]), float(worth[k]))
            goal.won(
                self._pace.cost,
                [ids[k] for k in at.tolist()],
                [shown[k] for k in at.tolist()],
                worth[at],
                segment,
            )
        self._step(n, made, wins, paid)

    def clicked(self, ids: Sequence[str], at_s: ArrayLike) -> None:
        """Clicks on auctions won, at ``at_s`` (one time or [n]). One that overtakes its win waits for it; a second one of the
        same impression is counted and left out."""
        goal = self._needs_goal()
        for name, at_ns in zip(ids, self._times(at_s, len(ids)), strict=True):
            goal.clicked(self._pace.cost, name, at_ns)

    def converted(self, ids: Sequence[str], at_s: ArrayLike, orders_micros: ArrayLike = 0.0) -> int:
        """Conversions of clicks, and what each brought (micros; of a return). How many counted: ``contained`` says why the
        others did not (before their click, after the window, a second one, of no click)."""
        goal = self._needs_goal()
        brought = np.broadcast_to(np.asarray(orders_micros, dtype=np.float64), len(ids)).tolist()
        return sum(
            goal.converted(self._pace.cost, name, at_ns, micros)
            for name, at_ns, micros in zip(ids, self._times(at_s, len(ids)), brought, strict=True)
        )

    def _needs_goal(self) -> GoalLearner:
        if self._goal is None:
            raise ConfigError("clicks and conversions are told to a bidder with a goal")
        return self._goal

    def _times(self, at_s: ArrayLike, n: int) -> list[int]:
        seconds = np.broadcast_to(np.asarray(at_s, dtype=np.float64), n)
        good = np.isfinite(seconds) & (seconds >= 0.0) & (seconds < 1e10)
        self.refused.clocks += int((~good).sum())
        return [int(s * NS_PER_S) for s in np.where(good, seconds, self._now_s).tolist()]

    def _pass_to(self, now_s: float | None) -> None:
        if now_s is None:
            return
        if not self._now_s <= now_s < 1e10:
            self.refused.clocks += 1
            return
        self._now_s = now_s
        if now_s - self._decayed_s >= DECAY_EVERY_S:
            if self._decayed_s > 0.0:
                self._curves.decay(now_s - self._decayed_s)
            self._decayed_s = now_s
        if self._goal is not None:
            self._goal.pass_to(self._pace.cost, int(now_s * NS_PER_S))

    def _learn_market(
        self, segment: str, made: IntArray, wins: NDArray[np.bool_], minima: IntArray, floor: int
    ) -> None:
        disbelieved = self._curves.unbelieved
        for bid, was_won, minimum in zip(made.tolist(), wins.tolist(), minima.tolist(), strict=True):
            if bid > 0:
                told = None if minimum == NOT_TOLD else minimum
                self._curves.add(segment, bid, was_won, told, floor_nanos=floor)
        self.refused.minimums += self._curves.unbelieved - disbelieved
        self._rows += len(made)
        if self._rows >= REFRESH_ROWS:
            self._rows = 0
            if self._curves.refresh():
                self._tables.clear()

    def _step(self, n: int, made: IntArray, wins: NDArray[np.bool_], paid: IntArray) -> None:
        spent = int(paid.sum())
        self.spent_nanos += spent
        self._seen += n
        if self._budget is None:
            pacing.unpaced(self._pace, self._lowest)
            return
        self._pace.spent, self._pace.bids = spent, int((made > 0).sum())
        self._pace.wins = int(wins.sum())
        pacing.step(
            self._pace,
            phi=n / self._auctions,
            rest=max(1.0 - self._seen / self._auctions, 0.0),
            left=float(self._budget - self.spent_nanos),
            budget=float(self._budget),
            elapsed_s=math.inf,
            lowest=self._lowest,
            supply=True,
        )

    def _table(self, segment: str) -> FloatArray:
        curves = self._curves.curves
        source = next((name for name in lineage(segment) if name in curves), "")
        if source not in self._tables:
            self._tables[source] = curve_table(curves.get(source))
        return self._tables[source]

    # ---- kept over a restart

    def snapshot(self) -> bytes:
        """All that was learned and spent, but not the settings: ``restore`` into a bidder made with the same ones decides alike."""
        return msgspec.msgpack.encode(
            _Kept(
                _KEPT_VERSION,
                self.spent_nanos,
                self._seen,
                self._now_s,
                self._decayed_s,
                self._rows,
                self._pace,
                self.refused,
                self._ids.dump(),
                msgspec.Raw(msgspec.msgpack.encode(self._curves.dump())),
                None if self._goal is None else self._goal.dump(),
            )
        )

    def restore(self, raw: bytes) -> None:
        """Raises :class:`ConfigError` on bytes that are no snapshot, or one of a bidder with a goal where there is none (or
        the other way round); then nothing has changed."""
        ids, curves = SeenIds(), WinCurves(BiddingConfig().curve_half_life_s)
        goal = None if self._goal is None else GoalLearner(self._goal.goal)
        try:
            kept = msgspec.msgpack.decode(raw, type=_Kept)
            ids.load(kept.ids)
            curves.load(kept.curves)
            if (kept.goal is None) != (goal is None) or kept.version != _KEPT_VERSION:
                raise ValueError("it is of another goal or version")
            if goal is not None and kept.goal is not None:
                goal.load(kept.goal)
            if not math.isfinite(self._pace_sum(kept.pace)) or kept.spent_nanos < 0:
                raise ValueError("it holds numbers that cannot be")
        except (msgspec.DecodeError, ValueError) as error:
            raise ConfigError(f"this is no snapshot of such a bidder: {error}; start without it") from error
        self.spent_nanos, self._seen, self._rows = kept.spent_nanos, kept.seen, kept.rows
        self._now_s, self._decayed_s = kept.now_s, kept.decayed_s
        self._pace, self.refused, self._ids, self._curves, self._goal = (
            kept.pace,
            kept.refused,
            ids,
            curves,
            goal,
        )
        self._tables.clear()

    def _pace_sum(self, pace: Pace) -> float:
        cost = pace.cost
        return sum(
            (
                pace.log_budget,
                pace.demand,
                pace.share,
                cost.log_lambda,
                cost.paid_at_one,
                cost.value,
                cost.due,
            )
        )


def _check_segment(segment: str) -> None:
    if not all(segment.split("/")[:2]) or "/" not in segment:
        raise RowsRefused(f'segment is {segment!r}; it is named "{{exchange}}/{{media}}"')


def _column(what: str, given: ArrayLike | None, n: int | None) -> IntArray:
    """As int64 [n]; NOT_TOLD everywhere for None, _NO_NUMBER for what is none."""
    if given is None:
        assert n is not None
        return np.full(n, NOT_TOLD, dtype=np.int64)
    array = np.atleast_1d(np.asarray(given))
    if array.ndim != 1 or (n is not None and len(array) != n):
        raise RowsRefused(f"{what} has the shape {array.shape}, bids {(n,)}")
    if array.dtype.kind not in "biuf":
        raise RowsRefused(f"{what} are no numbers: {array.dtype}")
    if array.dtype.kind == "f":
        array = np.where(np.isfinite(array) & (np.abs(array) < 2.0**62), array, _NO_NUMBER)
    return array.astype(np.int64)


@njit
def _shade(table: FloatArray, paced: FloatArray, floor: float, out: FloatArray) -> None:
    for i in range(len(paced)):
        if paced[i] >= floor:
            out[i] = best_price(table, paced[i], floor)
