"""The Bidding agent in your own loop, on made-up first-price auctions: python examples/bidding_alone.py

Two loops. In the first you say what an impression is worth, and it learns the market and the budget. In the second you
only say what a click is worth, and it learns as well where people click.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from counterpoint.bidding.alone import AloneBidder, Buys, Goal, Shown

AUCTIONS, BATCH, UNIT = 20_000, 50, 1_000_000  # micros CPM in a unit CPM
PLACES, CLICK_MICROS, CLICK_RATE = (
    20,
    40_000,
    0.1,
)  # a click is worth 0.04 units; the rate is what is known before


def rivals(rng: np.random.Generator) -> NDArray[np.int64]:
    """The least bid that wins, of a batch."""
    return (rng.lognormal(0.5, 0.6, BATCH) * UNIT).astype(np.int64)


def affordable(bids: NDArray[np.int64], minimum: NDArray[np.int64], left: int) -> NDArray[np.int64]:
    """Your loop holds the money: no bid where the batch's wins before it, and it, come to more than is left."""
    return np.where(np.cumsum(np.where(bids >= minimum, bids, 0)) <= left, bids, 0)


def run(bidder: AloneBidder | None, budget: int, share: float = 0.0) -> tuple[float, int]:
    """(value won, spent) with the bidder, or with a constant ``share`` of the value."""
    rng = np.random.default_rng(7)
    won_value, spent = 0.0, 0
    for _ in range(AUCTIONS // BATCH):
        values = rng.lognormal(1.2, 0.5, BATCH) * UNIT
        minimum = rivals(rng)
        bids = (values * share).astype(np.int64) if bidder is None else bidder.price(values)
        bids = affordable(bids, minimum, budget - spent)
        won = (bids > 0) & (bids >= minimum)
        if bidder is not None:
            bidder.learn(bids, won, minimum)
        won_value += float(values[won].sum())
        spent += int(bids[won].sum())
    return won_value / UNIT, spent


def run_clicks(bidder: AloneBidder | None, budget: int, share: float = 0.0) -> tuple[float, int]:
    """(clicks to be expected of what was won, spent); without the bidder a ``share`` of what is known before is bid."""
    rng = np.random.default_rng(8)
    rates = CLICK_RATE * np.geomspace(0.2, 5.0, PLACES) * 0.6  # by place: what is to be found out
    places = [
        Shown(
            exchange="x",
            media="banner",
            campaign="c",
            line_item="l",
            click_rate=CLICK_RATE,
            place=f"p{k}.example",
        )
        for k in range(PLACES)
    ]
    expected, spent = 0.0, 0
    for batch in range(AUCTIONS // BATCH):
        at, minimum = rng.integers(PLACES, size=BATCH), rivals(rng)
        clicks = rng.random(BATCH) < rates[at]
        now_s = 15.0 * (batch + 1)
        shown = [places[k] for k in at]
        if bidder is None:
            bids = np.full(BATCH, round(share * CLICK_RATE * CLICK_MICROS * 1_000))
        else:
            values = bidder.values(shown)
            bids = bidder.price(values, "x/banner")
        bids = affordable(bids, minimum, budget - spent)
        won = (bids > 0) & (bids >= minimum)
        if bidder is not None:
            ids = [f"{batch}-{k}" for k in range(BATCH)]
            bidder.learn(
                bids, won, minimum, segment="x/banner", ids=ids, values=values, shown=shown, now_s=now_s
            )
            bidder.clicked([ids[k] for k in np.flatnonzero(won & clicks)], now_s)
        expected += float(rates[at[won]].sum())
        spent += int(bids[won].sum())
    return expected, spent


def main() -> tuple[float, float]:
    """By how much ours is ahead of the best constant share in hindsight: values given, clicks learned."""
    budget = 4_000 * UNIT
    ahead = []
    for what, loop, bidder in (
        ("value", run, AloneBidder(budget, AUCTIONS)),
        (
            "clicks",
            run_clicks,
            AloneBidder(budget, AUCTIONS, goal=Goal(buys=Buys.CLICKS, worth_micros=CLICK_MICROS)),
        ),
    ):
        ours, spent = loop(bidder, budget)
        best, at = max((loop(None, budget, share)[0], share) for share in np.linspace(0.1, 0.9, 33))
        print(
            f"{what} for {spent / UNIT:,.0f} of {budget / UNIT:,.0f}: {ours:,.0f}, lambda {bidder.multiplier:.2f}; best "
            f"constant in hindsight ({at:.2f} of what is known before): {best:,.0f}; ours is {ours / best - 1:+.1%}"
        )
        ahead.append(ours / best - 1)
    return ahead[0], ahead[1]


if __name__ == "__main__":
    main()
