"""The Bidding agent without bus, server or catalog: one budget, in somebody else's loop, as it runs live.

``price`` and ``learn`` in turns, one auction or thousands at a time. Either the caller says what an impression is worth, or a
:class:`Goal` does (clicks, conversions at a target CPA, orders at a target return, reach) and learns it from what came of
the impressions won. Money is the caller's account currency: prices and values in integer micros CPM (a millionth of a unit
per thousand impressions, the same number as nanos per impression). See ``docs/library.md`` and ``examples/bidding_alone.py``.

>>> bidder = AloneBidder(budget_nanos=4_000_000_000, auctions=1_000)  # 4.00 units
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
from numbers import Real

import msgspec
import numpy as np
from msgspec import Struct
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray

from counterpoint.base.clock import NS_PER_S
from counterpoint.base.errors import ConfigError
from counterpoint.base.money import PRICE_MICROS_MAX
from counterpoint.base.seen import SeenIds
from counterpoint.bidding import pacing, quote, told
from counterpoint.bidding.goal import Buys, Goal, GoalLearner
from counterpoint.bidding.outcomes import Counts
from counterpoint.bidding.pacing import Pace
from counterpoint.bidding.policy import LAMBDA_MAX, LAMBDA_MIN, curve_table
from counterpoint.bidding.risk import Risk, doubted, raised
from counterpoint.bidding.segments import lineage
from counterpoint.bidding.state import BiddingConfig
from counterpoint.bidding.told import FIXED_PRICE, NOT_TOLD, SECOND_PRICE, Refused, Rows, RowsRefused
from counterpoint.bidding.value_model import Shown
from counterpoint.bidding.win_curve import WinCurves

__all__ = ["NOT_TOLD", "AloneBidder", "Buys", "Goal", "Refused", "RowsRefused", "Shown"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
REFRESH_ROWS = 25  # auctions told, after which curves are looked at again
DECAY_EVERY_S = 60.0
CLOCK_S_MAX = 1e10
MONEY_MAX = 2**63 - 1
_KEPT_VERSION = 2


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
    auctions: int = 0  # that the pace's shares are of; 0: those of the bidder it is restored into
    risk: Risk = msgspec.field(default_factory=Risk)


class AloneBidder:
    """Not thread-safe. No I/O, no clock, no chance of its own.

    ``budget_nanos`` > 0 for ``auctions`` >= 1 expected in all (needed with a budget), until :meth:`new_period`; None: no budget.
    ``lowest`` in [0.2, 1]: 1 never bids above value; below lets it, where a budget or a target cost asks for more value than it
    would win.
    ``goal``: None: the caller brings values. Of clicks, conversions and return it also holds the mean cost at the goal.
    ``refused`` and ``contained`` count what was not used, by why. Raises :class:`ConfigError`.
    """

    def __init__(
        self,
        budget_nanos: int | None = None,
        auctions: int | None = None,
        lowest: float = 1.0,
        goal: Goal | None = None,
    ) -> None:
        self._budget = None if budget_nanos is None else _setting("budget_nanos", budget_nanos)
        if auctions is None and budget_nanos is not None:
            raise ConfigError("auctions is None; with budget_nanos, say how many auctions it is for")
        self._auctions = 1 if auctions is None else _setting("auctions", auctions)
        self._lowest = _lowest("lowest", lowest)
        if goal is not None and not isinstance(goal, Goal):
            raise ConfigError(f"goal is {goal!r}; it is a Goal, or None where you bring values")
        self.refused = Refused()
        self._spent = self._seen = self._rows = 0
        self._risk = Risk()
        self._now_s = self._decayed_s = 0.0
        self._pace = Pace()
        self._goal = None if goal is None else GoalLearner(goal, self.refused)
        if not self._holds_cost:
            self._pace.cost.log_lambda = math.log(self._lowest)
        self._ids = SeenIds()
        self._curves = WinCurves(BiddingConfig().curve_half_life_s)
        self._tables: dict[str, FloatArray] = {}

    @property
    def _holds_cost(self) -> bool:
        return self._goal is not None and self._goal.goal.buys is not Buys.REACH

    def new_period(self, budget_nanos: int, auctions: int) -> None:
        """A new budget, nothing spent and no auction seen of it; what was learned stays. lambda starts where the last period's
        spend says that this budget would just last. Outcomes told from here on are booked in this period. Raises
        :class:`ConfigError`, and then nothing has changed."""
        budget, expected = _setting("budget_nanos", budget_nanos), _setting("auctions", auctions)
        self._count_pace_of(expected, self._auctions)
        self._budget, self._auctions = budget, expected
        self._spent = self._seen = 0
        self._risk.told(0)
        pace = self._pace
        if pace.share > 0.0 and pace.demand > 0.0:
            lasts = math.log(pace.demand / pace.share / budget) / pacing.ELASTICITY
            pace.log_budget = min(max(lasts, math.log(self._lowest)), math.log(LAMBDA_MAX))

    def _count_pace_of(self, auctions: int, before: int) -> None:
        """Shares of the plan were of ``before`` auctions."""
        self._pace.share *= before / auctions

    @property
    def spent_nanos(self) -> int:
        """In this period."""
        return self._spent

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
        :class:`ConfigError` without a goal, :class:`RowsRefused` for what is no :class:`Shown`.

        >>> bidder = AloneBidder(goal=Goal(buys=Buys.REACH, worth_micros=4_000_000))
        >>> new, known = (Shown(exchange="x", media="video", campaign="c", line_item="l", click_rate=0.01,
        ...                     person_shown=n, exposed=n) for n in (0, 2))
        >>> bidder.values([new, known]).tolist()
        [4000000.0, 1000000.0]
        """
        if self._goal is None:
            raise ConfigError("values are asked of a bidder with a goal; without one, hand them to price")
        return self._goal.values(told.impressions(shown))

    def price(
        self,
        values: ArrayLike,
        segment: str = "own/banner",
        auction_type: int = 1,
        floor_micros: int | ArrayLike = 0,
        explores: Generator | None = None,
    ) -> IntArray:
        """Bids for impressions worth ``values`` (micros CPM, [n] or one number), [n]; 0: none. Never above v_eff, under the
        floor or above what is left, and while few wins are known not for more than a few times what the plan has released
        (:mod:`counterpoint.bidding.risk`), which also counts what was priced since the last ``learn``.

        ``segment`` "{exchange}/{media}" picks the win curve, its parents where it has none; a child "{exchange}/{media}/{x}" may be
        named. ``auction_type`` 2: second price, v_eff is bid; 3: the floor is the price of a deal, and it is bid or nothing (so
        nothing with a floor of 0). ``floor_micros``, one or [n], is whole: round a fraction up. ``explores``: 3 % of
        bids are moved by up to 20 %, so that an exchange that tells nothing but wins and losses still teaches a curve.
        Raises :class:`RowsRefused` for arguments that are none of these; what is no value is counted and not bid for."""
        segment, kind = told.segment_of(segment), told.auction_type_of(auction_type)
        worth = told.numbers("values", values)
        floors = told.floors_of(floor_micros, len(worth)).astype(np.float64)
        if explores is not None and not isinstance(explores, Generator):
            raise RowsRefused(f"explores is {explores!r}; hand in numpy.random.default_rng(seed), or None")
        good = np.isfinite(worth) & (worth >= 0.0) & (worth <= PRICE_MICROS_MAX)
        self.refused.values += int((~good).sum())
        table, rows = self._table(segment)
        paced = np.where(good, worth, 0.0) / self.multiplier

        def bids_at(over: float, explores: Generator | None = None) -> FloatArray:
            return quote.bids_of(table, paced / over, floors, kind, explores)

        def costs_of(bids: FloatArray) -> FloatArray:
            return bids * doubted(quote.rates_of(table, bids), 0.0 if kind == FIXED_PRICE else rows)

        if self._budget is None:
            return np.asarray(bids_at(1.0, explores), dtype=np.int64)
        allowed = self._risk.allowed(len(worth), self._budget, self._spent, self._seen, self._auctions)
        held = allowed < math.inf
        over = raised(lambda over: float(costs_of(bids_at(over)).sum()), allowed) if held else 1.0
        bids = bids_at(over, explores)
        costs = costs_of(bids) if held else bids
        bid_for = (np.cumsum(costs) <= allowed) & (bids <= self._budget - self._spent)
        self._risk.made(bids, costs, bid_for, over)
        return np.where(bid_for, bids, 0.0).astype(np.int64)

    def win_rate(self, bids: ArrayLike, segment: str = "own/banner") -> FloatArray:
        """The chance to win at each of ``bids`` (micros CPM, [n] or one number) as learned of ``segment`` or its parents, [n]. NaN
        where no curve is known yet (50 auctions make one) and for what is no bid."""
        table, rows = self._table(told.segment_of(segment))
        asked = told.numbers("bids", bids)
        known = (rows > 0.0) & (asked >= 0.0)
        return np.where(known, quote.rates_of(table, np.where(known, asked, 0.0)), math.nan)

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
        floor_micros: int | ArrayLike = 0,
        ids: Sequence[str] | None = None,
        values: ArrayLike | None = None,
        shown: Sequence[Shown] | None = None,
        now_s: float | None = None,
    ) -> None:
        """What came of ``bids`` (micros CPM, [n]) in the order of time; 0 was no bid, and a loss about something else than
        price is told as 0 too.

        ``won``: 1 or 0. ``minimum_micros``: the least bid that would have won, ``paid_micros``: the price of a win; NOT_TOLD
        where nobody says, None: nobody ever does. Unpriced wins cost their bid. In second price a price below the bid is a minimum;
        of fixed prices (``auction_type`` 3) money is booked, and no curve learns.
        ``ids``: of the auctions; one heard before is left out, and where all were, nothing changes but their count. ``values``,
        ``shown``, ``ids`` and ``now_s`` (seconds of any one clock, never back) are what a goal learns from, and needed with one.
        Raises :class:`RowsRefused` where lengths or kinds differ or a goal lacks what it needs; then nothing was learned or
        booked and no id was marked as heard, so that the same rows can be told again once they are put right."""
        segment, kind = told.segment_of(segment), told.auction_type_of(auction_type)
        rows = told.rows_of(bids, won, minimum_micros, paid_micros, floor_micros, values, ids, shown)
        clock = None if now_s is None else told.number("now_s", now_s)
        goal = self._goal
        if goal is not None and (ids is None or values is None or shown is None or clock is None):
            raise RowsRefused("with a goal, learn needs ids, values, shown and now_s")

        new = self._new(rows)
        if len(rows) and not len(new):
            return
        made, wins, minima, paid = self._settled(segment, new, kind)
        self._spent += int(paid.sum())  # next to the ids: no auction is marked as heard and not paid for
        self._pass_to(clock)
        if kind != FIXED_PRICE:
            self._learn_market(segment, made, wins, minima, new.floors)
        if goal is not None:
            self._learn_goal(goal, new, wins, paid)
        self._step(len(new), made, wins, paid)

    def _new(self, rows: Rows) -> Rows:
        """Those with an id not heard before, or with none."""
        if rows.ids is None:
            return rows
        new = np.fromiter((self._ids.add(name) for name in rows.ids), np.bool_, len(rows))
        self.refused.repeats += int((~new).sum())
        return rows.at(np.flatnonzero(new))

    def _settled(
        self, segment: str, rows: Rows, kind: int
    ) -> tuple[IntArray, NDArray[np.bool_], IntArray, IntArray]:
        """(bid or 0, won, minimum or NOT_TOLD, paid or 0), [n] each, as far as they can be believed."""
        sound = (rows.bids >= 0) & (rows.bids <= PRICE_MICROS_MAX)
        decided = (rows.outcomes == 0.0) | (rows.outcomes == 1.0)
        self.refused.bids += int((~sound).sum())
        self.refused.outcomes += int((~decided).sum())
        made = np.where(sound & decided, rows.bids, 0)
        wins = rows.outcomes == 1.0
        self.refused.wins_without_bid += int((wins & sound & (made == 0)).sum())
        wins &= made > 0
        prices, minima = rows.prices, rows.minima
        wrong = wins & (prices != NOT_TOLD) & ((prices > made) | (prices < 0))
        self.refused.prices += int(wrong.sum())
        priced = wins & (prices != NOT_TOLD) & ~wrong
        paid = np.where(wins, np.where(priced, prices, made), 0)
        if kind == SECOND_PRICE:
            minima = minima.copy()
            for k in np.flatnonzero((minima == NOT_TOLD) & priced).tolist():
                told_by = self._curves.second.minimum(segment, int(made[k]), int(prices[k]))
                minima[k] = NOT_TOLD if told_by is None else told_by
        return made, wins, minima, paid

    def _learn_goal(self, goal: GoalLearner, rows: Rows, wins: NDArray[np.bool_], paid: IntArray) -> None:
        assert rows.ids is not None
        assert rows.values is not None
        assert rows.shown is not None
        at = np.flatnonzero(wins)
        of_wins = at.tolist()
        goal.won(
            self._pace.cost,
            [rows.ids[k] for k in of_wins],
            [rows.shown[k] for k in of_wins],
            rows.values[at],
            paid[at],
        )

    def clicked(self, ids: Sequence[str], at_s: ArrayLike) -> None:
        """Clicks on auctions won, at ``at_s`` (seconds; one time or [n]). One that overtakes its win waits for it; a second one
        of the same impression is counted and left out. Raises :class:`RowsRefused`, and then none was learned."""
        goal = self._needs_goal()
        clicks = told.names("ids", ids)
        for name, at_ns in zip(clicks, self._times(told.numbers_for("at_s", at_s, len(clicks))), strict=True):
            goal.clicked(self._pace.cost, name, at_ns)

    def converted(self, ids: Sequence[str], at_s: ArrayLike, orders_micros: ArrayLike = 0.0) -> int:
        """Conversions of clicks at ``at_s`` (seconds; one time or [n]), and what each brought (micros; of a return). How many
        counted: ``contained`` says why the others did not (before their click, after the window, a second one, of no click),
        ``refused.orders`` how many brought no sum. Raises :class:`RowsRefused`, and then none was learned."""
        goal = self._needs_goal()
        clicks = told.names("ids", ids)
        seconds = told.numbers_for("at_s", at_s, len(clicks))
        brought = told.numbers_for("orders_micros", orders_micros, len(clicks)).tolist()
        return sum(
            goal.converted(self._pace.cost, name, at_ns, micros)
            for name, at_ns, micros in zip(clicks, self._times(seconds), brought, strict=True)
        )

    def _needs_goal(self) -> GoalLearner:
        if self._goal is None:
            raise ConfigError("clicks and conversions are told to a bidder with a goal")
        return self._goal

    def _times(self, seconds: FloatArray) -> list[int]:
        good = np.isfinite(seconds) & (seconds >= 0.0) & (seconds < CLOCK_S_MAX)
        self.refused.clocks += int((~good).sum())
        return [int(s * NS_PER_S) for s in np.where(good, seconds, self._now_s).tolist()]

    def _pass_to(self, now_s: float | None) -> None:
        if now_s is None:
            return
        if not self._now_s <= now_s < CLOCK_S_MAX:
            self.refused.clocks += 1
            return
        self._now_s = now_s
        if now_s - self._decayed_s >= DECAY_EVERY_S:
            before_s, self._decayed_s = self._decayed_s, now_s
            if before_s > 0.0:
                self._curves.decay(now_s - before_s)
        if self._goal is not None:
            self._goal.pass_to(self._pace.cost, int(now_s * NS_PER_S))

    def _learn_market(
        self, segment: str, made: IntArray, wins: NDArray[np.bool_], minima: IntArray, floors: IntArray
    ) -> None:
        disbelieved = self._curves.unbelieved
        columns = (made.tolist(), wins.tolist(), minima.tolist(), floors.tolist())
        for bid, was_won, minimum, floor in zip(*columns, strict=True):
            if bid > 0:
                least = None if minimum == NOT_TOLD else minimum
                self._curves.add(segment, bid, was_won, least, floor_nanos=floor)
        self.refused.minimums += self._curves.unbelieved - disbelieved
        self._rows += len(made)
        if self._rows >= REFRESH_ROWS:
            self._rows = 0
            if self._curves.refresh():
                self._tables.clear()

    def _step(self, n: int, made: IntArray, wins: NDArray[np.bool_], paid: IntArray) -> None:
        self._seen += n
        if self._budget is None:
            self._risk.told(int(wins.sum()))
            pacing.unpaced(self._pace, self._lowest)
            return
        pace, risk, left = self._pace, self._risk, self._budget - self._spent
        if risk.log_raised > 0.0:  # the bids were made at it, and the next are found from there
            pace.log_budget = math.log(self.multiplier) + risk.log_raised
        pace.spent, pace.bids, pace.wins = int(paid.sum()), int((made > 0).sum()), int(wins.sum())
        pacing.step(
            pace,
            phi=n / self._auctions * risk.share_bid_for,
            rest=max(1.0 - self._seen / self._auctions, 0.0),
            left=float(left),
            budget=float(self._budget),
            elapsed_s=math.inf,
            lowest=self._lowest,
            supply=n > 0
            and left > 0
            and risk.share_bid_for > 0.0,  # without money there is nothing to find out
        )
        risk.told(int(wins.sum()))

    def _table(self, segment: str) -> tuple[FloatArray, float]:
        """The curve to price with, and the rows it stands on; 0: none is known."""
        curves = self._curves.curves
        source = next((name for name in lineage(segment) if name in curves), "")
        if source not in self._tables:
            self._tables[source] = curve_table(curves.get(source))
        return self._tables[source], curves[source].rows if source else 0.0

    # ---- kept over a restart

    def snapshot(self) -> bytes:
        """All that was learned and spent, but not the settings: ``restore`` into a bidder made with the same ones (of the running
        period) decides alike."""
        return msgspec.msgpack.encode(
            _Kept(
                _KEPT_VERSION,
                self._spent,
                self._seen,
                self._now_s,
                self._decayed_s,
                self._rows,
                self._pace,
                self.refused,
                self._ids.dump(),
                msgspec.Raw(msgspec.msgpack.encode(self._curves.dump())),
                None if self._goal is None else self._goal.dump(),
                self._auctions,
                self._risk,
            )
        )

    def restore(self, raw: bytes) -> None:
        """Raises :class:`ConfigError` on bytes that are no snapshot, or one of a bidder whose goal buys something else, or with
        a goal where there is none (or the other way round); then nothing has changed."""
        ids, curves = SeenIds(), WinCurves(BiddingConfig().curve_half_life_s)
        try:
            kept = msgspec.msgpack.decode(raw, type=_Kept)
            goal = None if self._goal is None else GoalLearner(self._goal.goal, kept.refused)
            ids.load(kept.ids)
            curves.load(kept.curves)
            if (kept.goal is None) != (goal is None) or kept.version != _KEPT_VERSION:
                raise ValueError("it is of another goal or version")
            if goal is not None and kept.goal is not None:
                goal.load(kept.goal)
            if not math.isfinite(_sum_of(kept.pace, kept.risk)) or min(kept.spent_nanos, kept.auctions) < 0:
                raise ValueError("it holds numbers that cannot be")
        except (msgspec.DecodeError, ValueError) as error:
            raise ConfigError(f"this is no snapshot of such a bidder: {error}; start without it") from error
        self._spent, self._seen, self._rows = kept.spent_nanos, kept.seen, kept.rows
        self._now_s, self._decayed_s = kept.now_s, kept.decayed_s
        self._pace, self._risk, self.refused = kept.pace, kept.risk, kept.refused
        self._ids, self._curves, self._goal = ids, curves, goal
        self._count_pace_of(self._auctions, kept.auctions or self._auctions)
        self._tables.clear()


def _sum_of(pace: Pace, risk: Risk) -> float:
    cost = pace.cost
    of_pace = pace.log_budget + pace.demand + pace.share
    of_cost = cost.log_lambda + cost.paid_at_one + cost.value + cost.due
    return of_pace + of_cost + risk.out_nanos + risk.bid_nanos + risk.raised_nanos


def _lowest(what: str, given: object) -> float:
    if not isinstance(given, Real) or not LAMBDA_MIN <= float(given) <= 1.0:
        raise ConfigError(f"{what} is {given!r}; it is a number in {LAMBDA_MIN}..1")
    return float(given)


def _setting(what: str, given: object) -> int:
    if not told.is_whole(given, 1, MONEY_MAX):
        units = " of nanos (4_000_000_000: 4.00 units)" if what == "budget_nanos" else ""
        raise ConfigError(f"{what} is {given!r}; it is a whole number{units} above 0")
    return int(given)  # type: ignore[call-overload, no-any-return]
