"""The auction and the hard stop: integers in, integers out, compiled.

The log's market price is the least bid that would have won, so a bid wins when it is at least that (a tie wins: the
log's own floor auctions were won at exactly it). A bid of 0 is no bid. Bids are whole fen per 1,000 like the prices.
A bid is cut to the money that is left, in milli-fen: what cannot be paid is not bid, and no budget is ever overspent.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from counterpoint.base.errors import ConfigError
from counterpoint.base.jit import njit
from counterpoint.market.logs.read import FloatArray, IntArray

NO_BUDGET = 2**62  # milli-fen: more than any log can cost


def parse_fraction(text: str) -> Fraction | None:
    """A budget as a share of what winning everything costs; None: no budget.

    >>> parse_fraction("1/16"), parse_fraction("0.25"), parse_fraction("none")
    (Fraction(1, 16), Fraction(1, 4), None)
    """
    if text.strip().lower() == "none":
        return None
    try:
        fraction = Fraction(text.strip())
    except (ValueError, ZeroDivisionError):
        raise ConfigError(f"budget fraction {text!r} is no number; give 1/16, 0.0625 or none") from None
    if not 0 < fraction <= 1:
        raise ConfigError(f"budget fraction {text} is not in (0, 1]; give 1/16, 0.0625 or none")
    return fraction


def cost_of_everything(market_price: IntArray) -> int:
    """Milli-fen for winning every auction at the least bid that wins it: the same in both auction types."""
    return int(market_price.sum())


def budget_milli_fen(fraction: Fraction | None, market_price: IntArray) -> int:
    """Rounded down."""
    if fraction is None:
        return NO_BUDGET
    return cost_of_everything(market_price) * fraction.numerator // fraction.denominator


@njit
def settle(
    bids: IntArray,
    market_price: IntArray,
    second: bool,
    left: int,
    out_bid: IntArray,
    out_won: NDArray[np.bool_],
    out_paid: IntArray,
) -> int:
    """Run auctions in order and return what is left. Writes the bids as made (cut to what was left), who won, what
    was paid."""
    for i in range(len(bids)):
        bid = min(bids[i], left)
        won = bid > 0 and bid >= market_price[i]
        paid = 0
        if won:
            paid = market_price[i] if second else bid
            left -= paid
        out_bid[i] = bid
        out_won[i] = won
        out_paid[i] = paid
    return left


@njit
def scan_multipliers(
    shaded: FloatArray,
    value: FloatArray,
    market_price: IntArray,
    multipliers: FloatArray,
    second: bool,
    budget: int,
    bid_max: int,
    out: FloatArray,
) -> None:
    """For each multiplier m, run bids ``min(int(m * shaded), bid_max)`` with the hard stop; ``out[k]`` = (value won,
    surplus, spent)."""
    for k in range(len(multipliers)):
        left = budget
        won_value = 0.0
        for i in range(len(shaded)):
            bid = min(int(multipliers[k] * shaded[i]), bid_max, left)
            if bid > 0 and bid >= market_price[i]:
                left -= market_price[i] if second else bid
                won_value += value[i]
                if left <= 0:
                    break
        spent = float(budget - left)
        out[k, 0] = won_value
        out[k, 1] = won_value - spent
        out[k, 2] = spent
