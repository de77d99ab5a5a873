"""The bidder's own compiled loops: who may bid on this person with this money, and which bids are best."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from counterpoint.base.jit import njit
from counterpoint.base.rng import mix64_kernel
from counterpoint.bidder.part import R_CAMPAIGN, R_CAP, R_KEY, R_PURSE, R_UNKNOWN_NO_BID, R_WINDOW

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
F64 = NDArray[np.float64]

# why a line item is not admitted; also the positions of ``counts``
ADMITTED: Final = 0
NO_MONEY: Final = 1  # no allowance left for its campaign (or for itself, where capped) in this arm
CAPPED: Final = 2
UNKNOWN: Final = 3  # capped, the person can't be counted, and its rule says no
VERDICTS: Final = 4
COUNTS: Final = 8  # length of ``counts``: the verdicts, and what auction.py counts behind them

# columns of ``top_ints`` and ``top_floats``: one row a candidate, best first
T_LINE_ITEM: Final = 0
T_CREATIVE: Final = 1
T_PRICE: Final = 2
T_VALUE: Final = 3
T_PACED: Final = 4
T_EXPLORED: Final = 5
TOP_INTS: Final = 6
T_CLICK_RATE: Final = 0
T_CHOICE_PROPENSITY: Final = 1
T_WIN_RATE: Final = 2
T_SCORE: Final = 3
T_PRICE_PROPENSITY: Final = 4
T_CLICK: Final = 5
T_CONVERSION: Final = 6
TOP_FLOATS: Final = 7

TIE_SALT: Final = 0x7261_6E6B_7469_6573


@njit
def admit(
    n: int,
    line_items: I32,
    rules: I64,
    left: I64,
    arm: int,
    ceilings: I64,
    events: I64,
    known_since_ns: int,
    now_ns: int,
    verdicts: NDArray[np.int8],
    counts: I64,
    limited: I64,
) -> int:
    """Keep, in place and in order, those of ``line_items[:n]`` that may bid, and return how many.

    ``left[purse, arm]`` nanos; ``events[k]`` = (line item key, at, until, bid key), all in ns. Writes the verdict of
    each of the ``n``, ``counts`` by verdict, and ``limited``: at 0 how many, then the purses (repeats possible)
    whose money is less than their ceiling, so that it may decide something.
    """
    for i in range(VERDICTS):
        counts[i] = 0
    limited[0] = 0
    kept = 0
    for i in range(n):
        li = line_items[i]
        campaign = rules[li, R_CAMPAIGN]
        purse = rules[li, R_PURSE]
        money = left[purse, arm]
        if money < ceilings[campaign]:
            last = limited[0]
            if last == 0 or limited[last] != purse:
                limited[0] = last + 1
                limited[last + 1] = purse
        verdict = ADMITTED
        if money <= 0:
            verdict = NO_MONEY
        elif rules[li, R_CAP] > 0:
            since = now_ns - rules[li, R_WINDOW]
            if since < known_since_ns and rules[li, R_UNKNOWN_NO_BID] != 0:
                verdict = UNKNOWN
            else:
                shown = 0
                key = rules[li, R_KEY]
                for k in range(events.shape[0]):
                    if events[k, 0] == key and events[k, 1] > since and events[k, 2] > now_ns:
                        shown += 1
                if shown >= rules[li, R_CAP]:
                    verdict = CAPPED
        verdicts[i] = verdict
        counts[verdict] += 1
        if verdict == ADMITTED:
            line_items[kept] = li
            kept += 1
    return kept


@njit
def of_media(
    n: int,
    mtype: int,
    creative_mtype: I64,
    li: I32,
    cr: I32,
    ctr: F64,
    out_at: I32,
    out_li: I32,
    out_ctr: F64,
) -> int:
    """Pick out the choices of one media type: where they stand, their line items and click rates."""
    k = 0
    for i in range(n):
        if creative_mtype[cr[i]] == mtype:
            out_at[k] = i
            out_li[k] = li[i]
            out_ctr[k] = ctr[i]
            k += 1
    return k


@njit
def put_back(k: int, at: I32, money: I64, rates: F64, out_money: I64, out_rates: F64) -> None:
    """Prices of one media type to the places :func:`of_media` took them from."""
    for j in range(k):
        for row in range(out_money.shape[0]):
            out_money[row, at[j]] = money[row, j]
        for row in range(out_rates.shape[0]):
            out_rates[row, at[j]] = rates[row, j]


@njit
def rank(
    n: int,
    li: I32,
    cr: I32,
    ctr: F64,
    propensity: F64,
    money: I64,
    rates: F64,
    rules: I64,
    left: I64,
    arm: int,
    key: np.uint64,
    top_ints: I64,
    top_floats: F64,
    counts: I64,
) -> int:
    """The best priced choices by expected surplus, best first, as many as ``top_ints`` has rows; returns how many.

    Ties are drawn by the request's key, so that equals share. A price above the money left is passed over.
    ``counts`` = (priced, of these too dear for the money left, worth something).
    """
    room = top_ints.shape[0]
    kept = 0
    counts[0] = 0
    counts[1] = 0
    counts[2] = 0
    draws = np.uint64(key ^ mix64_kernel(np.uint64(TIE_SALT)))
    for i in range(n):
        if money[1, i] > 0:
            counts[2] += 1
        price = money[0, i]
        if price <= 0:
            continue
        counts[0] += 1
        if price > left[rules[li[i], R_PURSE], arm]:
            counts[1] += 1
            continue
        score = rates[1, i]
        at = kept
        while at > 0:
            above = top_floats[at - 1, T_SCORE]
            if score < above:
                break
            if score == above and mix64_kernel(draws ^ np.uint64(li[i])) < mix64_kernel(
                draws ^ np.uint64(top_ints[at - 1, T_LINE_ITEM])
            ):
                break
            at -= 1
        if at >= room:
            continue
        for k in range(min(kept, room - 1), at, -1):
            for column in range(TOP_INTS):
                top_ints[k, column] = top_ints[k - 1, column]
            for column in range(TOP_FLOATS):
                top_floats[k, column] = top_floats[k - 1, column]
        top_ints[at, T_LINE_ITEM] = li[i]
        top_ints[at, T_CREATIVE] = cr[i]
        top_ints[at, T_PRICE] = price
        top_ints[at, T_VALUE] = money[1, i]
        top_ints[at, T_PACED] = money[2, i]
        top_ints[at, T_EXPLORED] = money[3, i]
        top_floats[at, T_CLICK_RATE] = ctr[i]
        top_floats[at, T_CHOICE_PROPENSITY] = propensity[i]
        top_floats[at, T_WIN_RATE] = rates[0, i]
        top_floats[at, T_SCORE] = score
        top_floats[at, T_PRICE_PROPENSITY] = rates[2, i]
        top_floats[at, T_CLICK] = rates[3, i]
        top_floats[at, T_CONVERSION] = rates[4, i]
        kept = min(kept + 1, room)
    return kept
