"""The compiled heart of the driver: auctions of a batch held in order, with a hard stop that is exact inside the batch."""

from __future__ import annotations

from typing import Any

from counterpoint.base.jit import njit
from counterpoint.market.kernels import show_one

# what became of an answer
SILENT, LOST, WON, UNFIT, CAPPED, NO_MONEY, ABOVE_CEILING = 0, 1, 2, 3, 4, 5, 6


@njit
def settle(
    creative: Any,
    bid: Any,
    threshold: Any,
    second_price: Any,
    t_ns: Any,
    user: Any,
    known: Any,
    fits: Any,
    formats: Any,
    from_ns: Any,
    to_ns: Any,
    campaign_of: Any,
    ceiling: Any,
    cap: Any,
    left: Any,
    limit: Any,
    shown_today: Any,
    count: Any,
    at_ns: Any,
    tau_ns: float,
    fate: Any,
    made: Any,
    paid: Any,
    seen: Any,
) -> None:
    """Changes ``left``, ``limit`` (nanos), ``shown_today``, ``count``, ``at_ns``; fills the last four.

    Of an auction's alternatives the first that may stand and is paid for is the one bid (``made``: which; -1 none). A bid stands only while the whole bid is covered, so no order of prices can overspend. Ties win.
    """
    for i in range(creative.shape[0]):
        paid[i] = 0
        seen[i] = 0.0
        made[i] = -1
        fate[i] = SILENT
        u = user[i]
        for k in range(creative.shape[1]):
            j, price = creative[i, k], bid[i, k]
            if j < 0 or price <= 0:
                continue
            if j >= campaign_of.shape[0]:
                fate[i] = UNFIT
                continue
            c = campaign_of[j]
            if not fits[formats[i], j] or t_ns[i] < from_ns[j] or t_ns[i] >= to_ns[j]:
                fate[i] = UNFIT
                continue
            if price > ceiling[c]:
                fate[i] = ABOVE_CEILING
                continue
            # somebody who cannot be known again cannot be counted either
            if cap[c] > 0 and (not known[i] or shown_today[u, c] >= cap[c]):
                fate[i] = CAPPED
                continue
            if price > left[c] or price > limit[c]:
                fate[i] = NO_MONEY
                continue
            made[i] = k
            if price < threshold[i]:
                fate[i] = LOST
                break
            fate[i] = WON
            if second_price[i]:
                price = threshold[i]
            paid[i] = price
            left[c] -= price
            limit[c] -= price
            shown_today[u, c] += 1
            seen[i] = show_one(count, at_ns, u, c, t_ns[i], tau_ns)
            break
