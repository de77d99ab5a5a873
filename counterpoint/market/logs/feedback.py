"""What a policy is told, and no more: views for fitting and bidding without prices, and outcomes by feedback regime.

Every array handed out is a copy of exactly the rows it is about: a view of the log would hold, one attribute away, the
prices of the future.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from counterpoint.base.rng import mix64
from counterpoint.market.logs.auctions import NO_BUDGET, settle
from counterpoint.market.logs.read import AuctionLog, FloatArray, IntArray
from counterpoint.market.logs.terms import Auction, Feedback

NOT_TOLD = -1


@dataclass(frozen=True, slots=True)
class BlockView:
    """Consecutive auctions about to be bid on: what a bid request and our own model say."""

    first_row: int  # position in the part being lived
    pctr: FloatArray  # capped at the train part's quantile
    value: FloatArray  # fen per 1,000 = milli-fen an impression
    time: IntArray
    exchange: IntArray
    left_milli_fen: int

    def __len__(self) -> int:
        return len(self.pctr)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The same auctions afterwards."""

    bid: IntArray  # as made: cut to what was left, 0 for none
    won: NDArray[np.bool_]
    minimum_to_win: IntArray  # NOT_TOLD where the regime does not tell
    spent_milli_fen: int  # of the block: an account's balance is known under every regime
    left_milli_fen: int


@dataclass(frozen=True, slots=True)
class TrainView:
    """The earlier part. Money in milli-fen."""

    auction: Auction
    feedback: Feedback
    pctr: FloatArray
    value: FloatArray
    time: IntArray
    time_is_hours: bool  # else the number of an episode: no clock
    exchange: IntArray
    logged: Outcome  # of bids drawn log-uniformly over 1..bid_max, told as the regime tells
    market_price: IntArray | None  # only for policies that declare ``tuned_on_prices``
    bid_max: int
    flight_rows: int  # auctions the budget has to last for
    flight_budget: int  # NO_BUDGET: none
    seed: int

    @property
    def budget(self) -> int:
        """The flight's budget at the same money per auction as the flight's."""
        if self.flight_budget == NO_BUDGET:
            return NO_BUDGET
        return self.flight_budget * len(self.pctr) // max(self.flight_rows, 1)

    @property
    def has_budget(self) -> bool:
        return self.flight_budget != NO_BUDGET


def told(
    feedback: Feedback,
    bid: IntArray,
    won: NDArray[np.bool_],
    market_price: IntArray,
) -> IntArray:
    """Minimum bids to win as the regime tells them. Nobody is told about an auction without a bid."""
    if feedback is Feedback.FULL:
        known = bid > 0
    elif feedback is Feedback.WIN:
        known = won
    else:
        known = np.zeros(len(bid), dtype=np.bool_)
    return np.where(known, market_price, NOT_TOLD)


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of a log that are lived through, with everything the engine knows of them."""

    market_price: IntArray
    click: IntArray
    pctr: FloatArray  # as logged
    capped: FloatArray
    value: FloatArray
    time: IntArray
    exchange: IntArray

    def __len__(self) -> int:
        return len(self.pctr)

    def block(self, first: int, last: int, left: int) -> BlockView:
        rows = slice(first, last)
        return BlockView(
            first,
            self.capped[rows].copy(),
            self.value[rows].copy(),
            self.time[rows].copy(),
            self.exchange[rows].copy(),
            left,
        )


VALUE_OF_MEAN = 100.0  # fen per 1,000 impressions that the average impression of the train part is worth


def split(log: AuctionLog, first_test_row: int, cap_quantile: float) -> tuple[Part, Part, float]:
    """(train, judged, pctr cap). Value = capped pctr x 100 / the train part's mean capped pctr."""
    cap = float(np.quantile(log.pctr[:first_test_row], cap_quantile))
    capped = np.minimum(log.pctr, cap)
    mean = float(capped[:first_test_row].mean())
    value = capped * (VALUE_OF_MEAN / mean) if mean > 0 else np.zeros_like(capped)

    def part(rows: slice) -> Part:
        return Part(
            market_price=log.market_price[rows],
            click=log.click[rows],
            pctr=log.pctr[rows],
            capped=capped[rows],
            value=value[rows],
            time=log.time[rows],
            exchange=log.exchange[rows],
        )

    return part(slice(0, first_test_row)), part(slice(first_test_row, None)), cap


def train_view(
    train: Part,
    auction: Auction,
    feedback: Feedback,
    bid_max: int,
    flight_rows: int,
    flight_budget: int,
    seed: int,
    with_prices: bool,
    time_is_hours: bool,
) -> TrainView:
    """The train part as the regime tells it of exploring bids: without them, a log won throughout teaches nothing of
    losing. They cost no budget."""
    n = len(train)
    draws = np.random.Generator(np.random.Philox(key=[mix64(seed), 0x7472_6169_6E])).random(n)
    bids = np.exp(draws * np.log(bid_max + 1.0)).astype(np.int64)
    bid, won, paid = np.zeros(n, np.int64), np.zeros(n, np.bool_), np.zeros(n, np.int64)
    left = settle(bids, train.market_price, auction.second, NO_BUDGET, bid, won, paid)
    return TrainView(
        auction=auction,
        feedback=feedback,
        pctr=train.capped.copy(),
        value=train.value.copy(),
        time=train.time.copy(),
        time_is_hours=time_is_hours,
        exchange=train.exchange.copy(),
        logged=Outcome(bid, won, told(feedback, bid, won, train.market_price), NO_BUDGET - left, left),
        market_price=train.market_price.copy() if with_prices else None,
        bid_max=bid_max,
        flight_rows=flight_rows,
        flight_budget=flight_budget,
        seed=seed,
    )
