"""Our own bidding code on a log: the win curves, the shading kernel and the paced multiplier that run live.

Nothing is reimplemented: rows go into :class:`WinCurves`, curves and multiplier into a :class:`BiddingPolicy`, prices
come from its compiled kernel, and :mod:`pacing` moves the multiplier. One line item of one campaign with a goal of
clicks stands for the file's campaign. The account currency is CNY: one fen per 1,000 is 10,000 micros CPM, and a
milli-fen is 10,000 nanos. Kernel prices are rounded down to whole fen.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from counterpoint.base.jit import njit
from counterpoint.base.rng import mix64, mix64_kernel
from counterpoint.bidding import pacing
from counterpoint.bidding.check import validate
from counterpoint.bidding.pacing import Pace
from counterpoint.bidding.policy import (
    LAMBDA_MAX,
    BiddingPolicy,
    CompiledBidding,
    compile_bidding,
    prepare_bidding,
    price,
)
from counterpoint.bidding.price import NO_CONTEXT, NO_EVENTS, class_of
from counterpoint.bidding.state import BiddingConfig
from counterpoint.bidding.win_curve import WinCurves
from counterpoint.catalog.model import Campaign, Goal, LineItem, Media
from counterpoint.market.logs.feedback import NOT_TOLD, BlockView, Outcome, TrainView
from counterpoint.market.logs.policies import BLOCK_ROWS, ReplayPolicy, register
from counterpoint.market.logs.read import FloatArray, IntArray
from counterpoint.market.logs.terms import Auction, Feedback

NANOS_PER_MILLI_FEN = 10_000  # 1 CNY = 100 fen; a price of 1 fen CPM is 10,000 micros CPM
MULTIPLIER_STEPS = 30  # of bisection, for the multiplier the flight begins with
REFRESH_ROWS = 1_000
HOUR_S = 3_600.0


@njit
def price_rows(
    ctr: FloatArray,
    segment: IntArray,
    money: IntArray,
    values: FloatArray,
    ceilings: IntArray,
    tables: FloatArray,
    segment_values: FloatArray,
    places: NDArray[np.uint64],
    place_tables: IntArray,
    names: NDArray[np.uint64],
    segment_hashes: NDArray[np.uint64],
    factors: FloatArray,
    calibrations: FloatArray,
    context: NDArray[np.uint32],
    events: IntArray,
    auction_type: int,
    key: np.uint64,
    first_row: int,
    out_price: IntArray,
    out_cost: FloatArray,
) -> None:
    """One impression per row through the live kernel. Writes prices and, from the kernel's score and win rate, the
    expected cost: v_eff F(b) less the expected surplus, in either auction."""
    li = np.zeros(1, dtype=np.int32)
    out_money = np.zeros((4, 1), dtype=np.int64)
    out_rates = np.zeros((5, 1), dtype=np.float64)
    for i in range(len(ctr)):
        row_key = np.uint64(key ^ mix64_kernel(np.uint64(first_row + i)))
        price(
            1,
            li,
            ctr[i : i + 1],
            money,
            values,
            ceilings,
            tables,
            segment_values,
            places,
            place_tables,
            names,
            segment_hashes,
            factors,
            calibrations,
            context,
            events,
            segment[i],
            auction_type,
            0,
            row_key,
            out_money,
            out_rates,
        )
        out_price[i] = out_money[0, 0]
        out_cost[i] = out_money[2, 0] * out_rates[0, 0] - out_rates[1, 0] if out_money[0, 0] > 0 else 0.0


class Counterpoint(ReplayPolicy):
    """Learns the win curve from what it is told, on the train part and on while it bids; paces where there is a budget."""

    name = "counterpoint"
    block_rows = BLOCK_ROWS
    learns_on = True

    def fit(self, train: TrainView) -> None:
        self._auction = train.auction
        self._paced = train.has_budget
        # with every minimum told, or nothing learned on, there is nothing to explore for
        explores = self.learns_on and train.feedback is not Feedback.FULL
        self._exploration_rate = BiddingConfig().exploration_rate if explores else 0.0
        self._rows_left_from = train.flight_rows
        self._rows_seen = 0
        self._key = np.uint64(mix64(train.seed))
        self._curves = WinCurves(BiddingConfig().curve_half_life_s)
        self._version = 1
        self._mean_click_rate = min(max(float(train.pctr.mean()), 1e-9), 1.0)
        self._pace = Pace()
        self._pace.cost.log_lambda = math.log(self._lowest())  # as much value as the budget buys, at any cost
        self._ceilings = np.array([train.bid_max * NANOS_PER_MILLI_FEN], dtype=np.int64)
        exchanges = [_exchange(number) for number in sorted({int(n) for n in train.exchange if n > 0})]
        mean = float(train.value.mean())
        nanos_per_click = (
            mean * NANOS_PER_MILLI_FEN / float(train.pctr.mean()) if train.pctr.mean() > 0 else 0.0
        )
        self._frame = prepare_bidding(
            [
                Campaign(
                    id="log",
                    advertiser_id="log",
                    name="log",
                    daily_budget_micros=1,  # not read by pricing; the replay holds the money
                    goal=Goal.CLICKS,
                    goal_value_micros=round(nanos_per_click / 1_000.0),
                    bid_ceiling_micros=int(self._ceilings[0]),
                )
            ],
            [LineItem(id="log-li", campaign_id="log")],
            exchanges,
        )
        self._has_clock = train.time_is_hours
        self._hour = int(train.time[0]) if len(train.time) else 0
        self._learn(train.time, train.exchange, train.pctr, train.logged)
        self._compiled = self._compile()
        if self._paced:
            self._budget = float(train.flight_budget * NANOS_PER_MILLI_FEN)
            first = self._first_multiplier(train)
            self._pace.log_budget = math.log(first)
            # stands on the train part's last auctions: as much as the evidence ever holds
            self._pace.share = pacing.BIDS_HALF / math.log(2.0) / train.flight_rows
            self._pace.demand = self._budget * self._pace.share * first**pacing.ELASTICITY
            self._set_multiplier()

    # ---- the policy as published

    def _compile(self) -> CompiledBidding:
        policy = BiddingPolicy(
            version=self._version,
            made_at_ns=0,
            valid_until_ns=2**62,
            curves=self._curves.curves,
            multipliers={"log": self._multiplier()},
            mean_click_rates={"log-li": self._mean_click_rate},
            exploration_rate=self._exploration_rate,
            exploration_span=BiddingConfig().exploration_span,
        )
        if self._version == 1:
            validate(policy)  # as the bidder would, once: it is the slow part
        self._version += 1
        return compile_bidding(policy, self._frame)

    def _multiplier(self) -> float:
        return self._pace.multiplier(self._lowest()) if self._paced else 1.0

    def _lowest(self) -> float:
        """With a budget the owner wants as much value as it buys: reach before cost."""
        return pacing.lowest_multiplier(1, 0)

    def _set_multiplier(self) -> None:
        """Only 1 / lambda differs from the compiled policy."""
        values = self._compiled.values.copy()
        values[:, 2] = 1.0 / self._multiplier()
        self._compiled = replace(self._compiled, values=values)

    def _first_multiplier(self, train: TrainView) -> float:
        """Lambda at which the train part's predictions would spend its budget: at the minima told, where every one
        is told (price and value hang together, which the curve does not know), else on the learned curve."""
        budget = float(train.budget) * NANOS_PER_MILLI_FEN
        segments = self._segments(train.exchange)
        minimum = train.logged.minimum_to_win
        told = bool(np.all(minimum != NOT_TOLD))
        low, high = math.log(self._lowest()), math.log(LAMBDA_MAX)
        for _ in range(MULTIPLIER_STEPS):
            self._pace.log_budget = (low + high) / 2.0
            self._set_multiplier()
            prices, cost = self._price(train.pctr, segments, 0)
            if told:
                bids = prices // NANOS_PER_MILLI_FEN
                paid = minimum if self._auction is Auction.SECOND else bids
                cost = np.where((bids > 0) & (bids >= minimum), paid * float(NANOS_PER_MILLI_FEN), 0.0)
            if float(cost.sum()) > budget:
                low = self._pace.log_budget
            else:
                high = self._pace.log_budget
        return math.exp(high)

    # ---- bidding

    def _segments(self, exchange: IntArray) -> IntArray:
        positions = {
            int(n): self._compiled.segment(_exchange(int(n)) if n > 0 else "", Media.BANNER)
            for n in np.unique(exchange)
        }
        return np.array([positions[int(n)] for n in exchange], dtype=np.int64)

    def _price(self, pctr: FloatArray, segment: IntArray, first_row: int) -> tuple[IntArray, FloatArray]:
        compiled = self._compiled
        prices, cost = np.zeros(len(pctr), dtype=np.int64), np.zeros(len(pctr))
        price_rows(
            pctr,
            segment,
            compiled.money,
            compiled.values,
            self._ceilings,
            *compiled.market,
            *compiled.value_model,
            NO_CONTEXT,
            NO_EVENTS,
            2 if self._auction is Auction.SECOND else 1,
            self._key,
            first_row,
            prices,
            cost,
        )
        return prices, cost

    def bid_block(self, block: BlockView) -> IntArray:
        prices, _ = self._price(block.pctr, self._segments(block.exchange), block.first_row)
        return prices // NANOS_PER_MILLI_FEN

    # ---- learning

    def observe(self, block: BlockView, outcome: Outcome) -> None:
        self._rows_seen += len(block)
        if not self.learns_on:
            return
        if self._learn(block.time, block.exchange, block.pctr, outcome):
            self._compiled = self._compile()
        if not self._paced:
            return
        self._pace.spent = outcome.spent_milli_fen * NANOS_PER_MILLI_FEN
        self._pace.bids = int(np.count_nonzero(outcome.bid))
        self._pace.wins = int(np.count_nonzero(outcome.won))
        pacing.step(
            self._pace,
            phi=len(block) / self._rows_left_from,
            rest=1.0 - self._rows_seen / self._rows_left_from,
            left=float(outcome.left_milli_fen * NANOS_PER_MILLI_FEN),
            budget=self._budget,
            elapsed_s=math.inf,
            lowest=self._lowest(),
            supply=True,
        )
        self._set_multiplier()

    def _learn(self, time: IntArray, exchange: IntArray, pctr: FloatArray, outcome: Outcome) -> bool:
        """True when a curve changed."""
        curves = self._curves
        changed = False
        rows: NDArray[np.int64] = np.flatnonzero(outcome.bid > 0)
        names = {int(n): f"{_exchange(int(n))}/banner" if n > 0 else "*/banner" for n in np.unique(exchange)}
        bids, wins = outcome.bid[rows].tolist(), outcome.won[rows].tolist()
        minima, times = outcome.minimum_to_win[rows].tolist(), time[rows].tolist()
        places, rates = exchange[rows].tolist(), pctr[rows].tolist()
        for number, (bid, won, minimum, now, place, rate) in enumerate(
            zip(bids, wins, minima, times, places, rates, strict=True), 1
        ):
            if now > self._hour and self._has_clock:
                curves.decay((now - self._hour) * HOUR_S)
                self._hour = now
            told = None if minimum == NOT_TOLD else max(minimum * NANOS_PER_MILLI_FEN, 1)
            segment = names[place]
            kind = class_of(rate, self._mean_click_rate)
            curves.add(segment if kind < 0 else f"{segment}/~{kind}", bid * NANOS_PER_MILLI_FEN, won, told)
            if number % REFRESH_ROWS == 0:
                changed |= curves.refresh()
        return curves.refresh() or changed

    def parameters(self) -> dict[str, float]:
        curve = self._curves.curves.get("*")
        return {"lambda_now": self._multiplier(), "curve_rows": curve.rows if curve is not None else 0.0}


class CounterpointFrozen(Counterpoint):
    """The same, fitted on the train part and left as it is: neither curve nor multiplier moves while it is judged."""

    name = "counterpoint-frozen"
    learns_on = False


def _exchange(number: int) -> str:
    return f"ipinyou-{number}"


register(Counterpoint.name, Counterpoint)
register(CounterpointFrozen.name, CounterpointFrozen)
