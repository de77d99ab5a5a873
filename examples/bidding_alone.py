"""The Bidding agent in your own loop, on made-up first-price auctions: python examples/bidding_alone.py

Two loops. In the first you say what an impression is worth, and it learns the market and the budget. In the second you
only say what a click is worth, and it learns as well where people click. Each is printed beside the best fixed price that
hindsight finds; the clicks also beside fixed prices in proportion to what nobody knows beforehand: each place's click rate.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from counterpoint.bidding.alone import AloneBidder, Buys, Goal, Shown

AUCTIONS, BATCH, UNIT = 20_000, 50, 1_000_000  # micros CPM in a unit CPM
PLACES, CLICK_MICROS, CLICK_RATE = 20, 40_000, 0.1  # a click is worth 0.04; the rate is what is known before
RATES = CLICK_RATE * np.geomspace(0.2, 5.0, PLACES) * 0.6  # by place: what is to be found out
SHARES = np.linspace(0.1, 0.9, 33)


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


def run_clicks(
    bidder: AloneBidder | None, budget: int, known: NDArray[np.float64] | float = 0.0
) -> tuple[float, int]:
    """(clicks to be expected of what was won, spent); without the bidder a click is bid for at the rates ``known``, of all
    places or of each."""
    rng = np.random.default_rng(8)
    fixed = np.full(PLACES, known) * CLICK_MICROS * 1_000
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
        clicks = rng.random(BATCH) < RATES[at]
        now_s = 15.0 * (batch + 1)
        shown = [places[k] for k in at]
        if bidder is None:
            bids = fixed[at].astype(np.int64)
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
        expected += float(RATES[at[won]].sum())
        spent += int(bids[won].sum())
    return expected, spent


def main() -> tuple[float, float, float]:
    """By how much ours is ahead of the best fixed price in hindsight: values given; clicks learned, of one price for all
    places and of one for each in proportion to its true click rate."""
    budget = 4_000 * UNIT
    bidder = AloneBidder(budget, AUCTIONS)
    value, spent = run(bidder, budget)
    best = max(run(None, budget, share)[0] for share in SHARES)
    print(
        f"value for {spent / UNIT:,.0f} of {budget / UNIT:,.0f}: {value:,.0f}, lambda {bidder.multiplier:.2f}; best constant share "
        f"of the value in hindsight {best:,.0f}: ours is {value / best - 1:+.1%}"
    )
    bidder = AloneBidder(budget, AUCTIONS, goal=Goal(buys=Buys.CLICKS, worth_micros=CLICK_MICROS))
    clicks, spent = run_clicks(bidder, budget)
    for_all = max(run_clicks(None, budget, share * CLICK_RATE)[0] for share in SHARES)
    for_each = max(run_clicks(None, budget, share * RATES)[0] for share in SHARES)
    print(
        f"clicks for {spent / UNIT:,.0f} of {budget / UNIT:,.0f}: {clicks:,.0f}, lambda {bidder.multiplier:.2f}; in hindsight the "
        f"best fixed price for all places {for_all:,.0f}: ours is {clicks / for_all - 1:+.1%}; the best in proportion to each place's "
        f"true click rate {for_each:,.0f}: ours is {clicks / for_each - 1:+.1%}"
    )
    return value / best - 1, clicks / for_all - 1, clicks / for_each - 1


if __name__ == "__main__":
    main()
