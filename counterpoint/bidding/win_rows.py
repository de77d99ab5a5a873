"""What a bid and its outcome say of the market: one row of the win curves, in the regime the exchange gave it."""

from __future__ import annotations

from counterpoint.bidding.features import place_of
from counterpoint.bidding.price import class_of
from counterpoint.bidding.segments import at_place
from counterpoint.bidding.state import MeanRate, OpenBid
from counterpoint.bidding.win_curve import WinCurves
from counterpoint.events.facts import FACTS_PRICE_LOSS_CODES, AuctionLost, AuctionWon

SECOND_PRICE = 2


def learn_won(curves: WinCurves, won: AuctionWon, bid: OpenBid | None) -> None:
    """The minimum is what the exchange says it is, else in second price the price, where it is believed to be one."""
    minimum = won.min_to_win_nanos
    price = won.price_nanos
    if minimum is None and bid is not None and bid.auction_type == SECOND_PRICE and price is not None:
        minimum = curves.second.minimum(won.segment, won.bid_nanos, price)
    _learn(curves, won, True, minimum, bid)


def learn_lost(curves: WinCurves, lost: AuctionLost, bid: OpenBid | None) -> None:
    """Only losses on price are rows."""
    if lost.loss_code in FACTS_PRICE_LOSS_CODES:
        _learn(curves, lost, False, lost.min_to_win_nanos, bid)


def _learn(
    curves: WinCurves, outcome: AuctionWon | AuctionLost, won: bool, minimum: int | None, bid: OpenBid | None
) -> None:
    kind, place = (-1, 0) if bid is None else (bid.kind, place_of(bid.context))
    curves.add(
        outcome.segment if kind < 0 else f"{outcome.segment}/~{kind}",
        outcome.bid_nanos,
        won,
        minimum,
        floor_nanos=0 if bid is None else bid.floor_nanos,
        also=at_place(outcome.segment, place) if place else "",
    )


def kind_of(mean: MeanRate | None, click_rate: float) -> int:
    return -1 if mean is None else class_of(click_rate, mean.known)
