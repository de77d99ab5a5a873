"""Markets whose true win curve is known, and one line item priced on a learned curve by the live kernel.

Prices and values are CPM in units; the learner sees nanos (1 unit CPM = 1,000,000). Names are permanent: a changed market
gets a new one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from counterpoint.bidding.policy import (
    BiddingPolicy,
    CompiledBidding,
    WinCurve,
    compile_bidding,
    prepare_bidding,
)
from counterpoint.bidding.price import NO_CONTEXT, NO_EVENTS, price
from counterpoint.bidding.win_curve import WinCurves
from counterpoint.catalog.model import Campaign, Goal, LineItem

FloatArray = NDArray[np.float64]
UNIT: Final = 1_000_000  # nanos per impression of one unit CPM
PER_CLICK: Final = (
    10_000.0  # units CPM a click is worth: a click rate of v / PER_CLICK makes an impression worth v
)
SEGMENT: Final = "adx/banner"
FLOORS: Final = np.array([0.5, 1.0, 2.0])


@dataclass(frozen=True)
class Market:
    """``draw(rng, n)``: what the highest rival bids and the floor the request declares (0: none) of n auctions, in units
    CPM; the minimum bid to win is the higher of the two. A floor that is not declared is a rival to the bidder."""

    name: str
    draw: Callable[[np.random.Generator, int], tuple[FloatArray, FloatArray]]


def _lognormal(rng: np.random.Generator, n: int) -> tuple[FloatArray, FloatArray]:
    return rng.lognormal(0.5, 0.6, n), np.zeros(n)


def _mixture(rng: np.random.Generator, n: int) -> tuple[FloatArray, FloatArray]:
    cheap, dear = rng.lognormal(0.2, 0.4, n), rng.lognormal(1.4, 0.3, n)
    return np.where(rng.random(n) < 0.6, cheap, dear), np.zeros(n)


def _mixture_with_hidden_floors(rng: np.random.Generator, n: int) -> tuple[FloatArray, FloatArray]:
    return np.maximum(_mixture(rng, n)[0], rng.choice(FLOORS, n)), np.zeros(n)


def _mixture_with_floors(rng: np.random.Generator, n: int) -> tuple[FloatArray, FloatArray]:
    return _mixture(rng, n)[0], rng.choice(FLOORS, n)


def _skewed(rng: np.random.Generator, n: int) -> tuple[FloatArray, FloatArray]:
    """A heavy tail, a third of the auctions with hardly a rival, and a floor in a third of them."""
    rivals = np.where(rng.random(n) < 1 / 3, 0.05, rng.gamma(1.3, 1.6, n))
    return rivals, np.where(rng.random(n) < 1 / 3, 0.8, 0.0)


MARKETS: Final = (
    Market("lognormal-v1", _lognormal),
    Market("mixture-v1", _mixture),
    Market("mixture-hidden-floors-v1", _mixture_with_hidden_floors),
    Market("mixture-floors-v1", _mixture_with_floors),
    Market("gamma-floor-v1", _skewed),
)

REGIMES: Final[dict[str, Callable[[bool], bool]]] = {  # whether the minimum comes back, by whether we won
    "told always": lambda won: True,
    "told on loss": lambda won: not won,
    "told on win": lambda won: won,
    "win/loss only": lambda won: False,
}


def values_of(rng: np.random.Generator, n: int) -> FloatArray:
    return rng.lognormal(1.2, 0.5, n)


def teach(
    curves: WinCurves,
    bids: FloatArray,
    rivals: FloatArray,
    floors: FloatArray,
    told: Callable[[bool], bool],
) -> None:
    """Outcomes of ``bids`` (0: none was made)."""
    minimums = np.maximum(rivals, floors)
    for bid, minimum, floor in zip(
        *((of * UNIT).astype(np.int64).tolist() for of in (bids, minimums, floors)), strict=True
    ):
        if bid > 0:
            won = minimum <= bid
            curves.add(SEGMENT, bid, won, max(minimum, 1) if told(won) else None, floor_nanos=floor)


def compiled(
    curves: dict[str, WinCurve], exploration_rate: float = 0.0, span: float = 0.0
) -> CompiledBidding:
    frame = prepare_bidding(
        [
            Campaign(
                id="c",
                advertiser_id="a",
                name="",
                daily_budget_micros=1,
                goal=Goal.CLICKS,
                goal_value_micros=int(PER_CLICK * UNIT / 1_000),
                bid_ceiling_micros=1_000 * UNIT,
            )
        ],
        [LineItem(id="li", campaign_id="c")],
        ("adx",),
    )
    policy = BiddingPolicy(
        version=1,
        made_at_ns=0,
        valid_until_ns=1,
        curves=curves,
        exploration_rate=exploration_rate,
        exploration_span=span,
    )
    return compile_bidding(policy, frame)


def bids_for(tables: CompiledBidding, values: FloatArray, floors: FloatArray, key: int = 1) -> FloatArray:
    """What the live kernel bids for impressions of these values under these floors, units CPM; 0: no bid."""
    out_money, out_rates = np.zeros((4, 1), dtype=np.int64), np.zeros((8, 1), dtype=np.float64)
    item, segment = np.zeros(1, dtype=np.int32), tables.segment("adx", "banner")
    ceilings = np.array([1_000 * UNIT], dtype=np.int64)
    rates, floors_nanos = values / PER_CLICK, (floors * UNIT).astype(np.int64).tolist()
    bids = np.zeros(len(values))
    for at, floor in enumerate(floors_nanos):
        price(
            1,
            item,
            rates[at : at + 1],
            tables.money,
            tables.values,
            ceilings,
            *tables.market,
            *tables.value_model,
            NO_CONTEXT,
            NO_EVENTS,
            segment,
            1,
            floor,
            np.uint64(key + at),
            out_money,
            out_rates,
        )
        bids[at] = out_money[0, 0] / UNIT
    return bids


def surplus(bids: FloatArray, values: FloatArray, rivals: FloatArray, floors: FloatArray) -> float:
    won = (bids >= rivals) & (bids >= floors) & (bids > 0)
    return float(np.sum((values - bids)[won]) / len(values))


def best_on_known_curve(
    values: FloatArray, rivals: FloatArray, floors: FloatArray, drawn: FloatArray
) -> float:
    """The surplus of who knows the true curve, of very many ``drawn`` rivals."""
    drawn = np.sort(drawn)
    picked = drawn[np.linspace(0, len(drawn) - 1, 1_500).astype(int)]
    prices = np.unique(np.concatenate([picked, FLOORS, [0.8, 0.05]]))
    rates = np.searchsorted(drawn, prices, side="right") / len(drawn)
    bids = np.empty(len(values))
    for first in range(0, len(values), 1_000):
        rows = slice(first, first + 1_000)
        allowed = prices[None, :] >= floors[rows, None]
        gains = np.where(allowed, (values[rows, None] - prices[None, :]) * rates[None, :], 0.0)
        best = np.argmax(gains, axis=1)
        bids[rows] = np.where(gains[np.arange(len(best)), best] > 0, prices[best], 0.0)
    return surplus(bids, values, rivals, floors)
