"""The bidding parts in your own loop, on made-up first-price auctions: python examples/bidding_alone.py"""

from __future__ import annotations

import numpy as np

from counterpoint.bidding.alone import AloneBidder

AUCTIONS, BATCH, UNIT = 20_000, 200, 1_000_000  # micros CPM in a unit CPM


def run(bidder: AloneBidder | None, budget: int, share: float = 0.0) -> tuple[float, int]:
    """(value won, spent) with the bidder, or with a constant ``share`` of the value."""
    rng = np.random.default_rng(7)
    won_value, spent = 0.0, 0
    for _ in range(AUCTIONS // BATCH):
        values = rng.lognormal(1.2, 0.5, BATCH) * UNIT
        minimum = (rng.lognormal(0.5, 0.6, BATCH) * UNIT).astype(np.int64)
        bids = (values * share).astype(np.int64) if bidder is None else bidder.price(values)
        affordable = spent + np.cumsum(np.where(bids >= minimum, bids, 0)) <= budget
        bids = np.where(affordable, bids, 0)
        won = (bids > 0) & (bids >= minimum)
        if bidder is not None:
            bidder.learn(bids, won, minimum)
        won_value += float(values[won].sum())
        spent += int(bids[won].sum())
    return won_value / UNIT, spent


def main() -> tuple[float, float]:
    budget = 4_000 * UNIT
    bidder = AloneBidder(budget, AUCTIONS)
    ours, spent = run(bidder, budget)
    best, at = max((run(None, budget, share)[0], share) for share in np.linspace(0.1, 0.9, 17))
    print(
        f"ours: value {ours:,.0f} for {spent / UNIT:,.0f} of {budget / UNIT:,.0f}; lambda {bidder.multiplier:.2f}"
    )
    print(
        f"best constant in hindsight ({at:.2f} of the value): value {best:,.0f}; ours is {ours / best - 1:+.1%}"
    )
    return ours, best


if __name__ == "__main__":
    main()
