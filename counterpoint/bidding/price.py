"""The price of one impression: the compiled kernel. ``explained.py`` has the same arithmetic in plain Python.

Nothing here takes a logarithm or a power: libraries round those differently, and a price must replay to the bit.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from counterpoint.base.jit import njit
from counterpoint.base.rng import mix64_kernel, uniform_kernel
from counterpoint.bidding.chances import (
    candidate_part,
    corrected,
    request_part,
    shown_to,
)
from counterpoint.bidding.features import FIELDS, SOURCES

EXPLORE_LEVELS = 8  # price multipliers spread evenly over (1 - span, 1 + span), none of them 1
KNOTS_MAX = 96
PIECES_MAX = 256  # of the function from value to shaded price
DEFAULT_SHADE = 0.8  # no curve at all, or nothing below v_eff wins: bid this share of v_eff
CLASSES = 8  # of an impression, by its predicted click rate over the line item's mean: CLASS_EDGES part them
CLASS_EDGES = (0.2, 0.35, 0.6, 1.0, 1.7, 3.0, 5.0)
SEGMENT_VALUES = 4 + CLASSES  # columns of CompiledBidding.segment_values
VALUE_NANOS_MAX = 1e13
MEDIA_N = 4
SEGMENTS_OF_ALL = 1 + MEDIA_N  # segments "*" and "*/{media}" stand before those of the exchanges
PERSON_FIELD = FIELDS.index("person")
PLACE_FIELD = FIELDS.index("place")
EXPLORE_SALT = 0x6269_6464_696E_6700  # keeps our draws apart from the creative's on the same request key

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
NO_CONTEXT: NDArray[np.uint32] = np.zeros(len(FIELDS), np.uint32)  # of a request that says nothing
NO_EVENTS: IntArray = np.zeros((0, 4), np.int64)  # records of nobody


@dataclass(frozen=True, slots=True)
class CompiledBidding:
    """Arrays for :func:`price`. Swapped whole, never written to.

    ``values[line item]`` = (nanos per impression, nanos per click, 1 / lambda, 1 / mean click rate or 0, nanos per
    conversion, conversions per click before features, worth of an impression over the person's last one).
    ``tables[segment]`` rows: value from which a price is the best (rising, infinite past the last), that price; knot
    prices, rates and areas (first KNOTS_MAX).
    ``segment_values[segment]`` = (click-rate factor, exploration rate, exploration span, 1 where it has tables by class,
    then the position of each class's table).
    ``places``: segment << 32 | place of every place with a curve of its own, rising; ``place_tables``: position of its table.
    ``names[line item]`` = hashes of (campaign, line item), ``segment_hashes[segment]``: what features are made of;
    ``factors`` and ``calibrations``: see chances.py.
    """

    version: int
    valid_until_ns: int
    fallback: bool
    money: IntArray
    values: FloatArray
    tables: FloatArray
    segment_values: FloatArray
    places: NDArray[np.uint64]
    place_tables: IntArray
    segments: dict[str, int]
    sources: tuple[str, ...]  # by segment: whose curve it is, "" for the stated default
    names: NDArray[np.uint64]
    segment_hashes: NDArray[np.uint64]
    factors: FloatArray
    calibrations: FloatArray

    @property
    def market(self) -> tuple[FloatArray, FloatArray, NDArray[np.uint64], IntArray]:
        """The arguments of :func:`price` from ``tables`` to ``place_tables``."""
        return self.tables, self.segment_values, self.places, self.place_tables

    @property
    def value_model(self) -> tuple[NDArray[np.uint64], NDArray[np.uint64], FloatArray, FloatArray]:
        """The arguments of :func:`price` from ``names`` to ``calibrations``."""
        return self.names, self.segment_hashes, self.factors, self.calibrations

    def segment(self, exchange: str, media: str) -> int:
        """Position of "{exchange}/{media}", of its parent where the exchange is unknown."""
        at = self.segments.get(f"{exchange}/{media}")
        return at if at is not None else self.segments.get(f"*/{media}", 0)


def class_of(click_rate: float, mean_click_rate: float) -> int:
    """The class of an impression; -1 where there is none to tell.

    >>> class_of(0.002, 0.001), class_of(0.0, 0.001), class_of(0.002, 0.0)
    (5, -1, -1)
    """
    if not (0.0 < click_rate <= 1.0 and 0.0 < mean_click_rate <= 1.0):
        return -1
    return bisect_right(CLASS_EDGES, click_rate * (1.0 / mean_click_rate))


# ---- the kernel


@njit
def _at_or_below(knots: NDArray[Any], last: int, x: Any) -> int:
    """Largest i in [0, last) with knots[i] <= x (0 where there is none). No logarithm: libraries round it differently."""
    low, high = 0, last
    while high - low > 1:
        middle = (low + high) >> 1
        if knots[middle] <= x:
            low = middle
        else:
            high = middle
    return low


@njit
def rate_at(table: FloatArray, b: float) -> float:
    if b <= table[2, 0]:
        return float(table[3, 0] * (b / table[2, 0]))
    if b >= table[2, KNOTS_MAX - 1]:
        return float(table[3, KNOTS_MAX - 1])
    i = _at_or_below(table[2], KNOTS_MAX - 1, b)
    share = (b - table[2, i]) / (table[2, i + 1] - table[2, i])
    return float(table[3, i] + share * (table[3, i + 1] - table[3, i]))


@njit
def area_at(table: FloatArray, b: float) -> float:
    """Integral of the win rate from 0 to b: what a truthful second-price bid expects to gain."""
    rate = rate_at(table, b)
    if b <= table[2, 0]:
        return float(b * rate / 2.0)
    if b >= table[2, KNOTS_MAX - 1]:
        return float(table[4, KNOTS_MAX - 1] + (b - table[2, KNOTS_MAX - 1]) * rate)
    i = _at_or_below(table[2], KNOTS_MAX - 1, b)
    return float(table[4, i] + (b - table[2, i]) * (table[3, i] + rate) / 2.0)


@njit
def shade_at(table: FloatArray, v: float) -> float:
    """argmax over the prices tried of (v - b) F(b): exact for every v, since that maximum is an envelope of lines in v."""
    if v < table[0, 0]:
        return float(v * DEFAULT_SHADE)
    return float(table[1, _at_or_below(table[0], PIECES_MAX, v)])


@njit
def _best_from(table: FloatArray, v: float, low: float) -> float:
    """argmax of (v - b) F(b) over b >= ``low``, of ``low`` and the knots above it: past its best price a curve may well
    have another hill."""
    best, most = low, (v - low) * rate_at(table, low)
    for k in range(_at_or_below(table[2], KNOTS_MAX - 1, low), KNOTS_MAX):
        b = table[2, k]
        if b >= v:
            break
        if b > low and (v - b) * table[3, k] > most:
            best, most = b, (v - b) * table[3, k]
    return float(best)


@njit
def best_price(table: FloatArray, v: float, low: float) -> float:
    """The price with the highest expected surplus at or above ``low``; ``table``: :func:`policy.curve_table`."""
    shaded = shade_at(table, v)
    return shaded if shaded >= low else _best_from(table, v, low)


@njit
def envelope(bids: FloatArray, rates: FloatArray, values: FloatArray, best: FloatArray) -> int:
    """Which of ``bids`` (rising) has the highest (v - b) F(b), by v: ``best[k]`` from ``values[k]`` on. How many pieces.

    (v - b) F(b) is a line in v with slope F(b), so the best one by v is the upper envelope of lines whose slopes rise.
    Bids that win nothing are no candidates.
    """
    pieces = 0
    kept = np.empty(len(bids), np.int64)
    for j in range(len(bids)):
        if rates[j] <= 0.0:
            continue
        while True:
            if pieces == 0:
                start = bids[j]  # below it, it only loses
                break
            i = kept[pieces - 1]
            if rates[j] <= rates[i]:
                start = np.inf
                break
            start = (bids[j] * rates[j] - bids[i] * rates[i]) / (rates[j] - rates[i])
            if start > values[pieces - 1]:
                break
            pieces -= 1
        if start < np.inf:
            kept[pieces] = j
            values[pieces] = start
            best[pieces] = bids[j]
            pieces += 1
    return pieces


@njit
def table_at(places: NDArray[np.uint64], place_tables: IntArray, segment: int, place: np.uint32) -> int:
    """Position of the table of a place; -1 where it has none of its own, or the request names no place."""
    if place == np.uint32(0) or len(places) == 0:
        return -1
    wanted = (np.uint64(segment) << np.uint64(32)) | np.uint64(place)
    at = _at_or_below(places, len(places), wanted)
    return int(place_tables[at]) if places[at] == wanted else -1


@njit
def table_of(segment_values: FloatArray, segment: int, relative_click_rate: float) -> int:
    """Position of the table to price by; ``relative_click_rate`` 0 where the line item's mean is not known."""
    if segment_values[segment, 3] <= 0.0 or relative_click_rate <= 0.0:
        return segment
    k = 0
    while k < CLASSES - 1 and relative_click_rate >= CLASS_EDGES[k]:
        k += 1
    return int(segment_values[segment, 4 + k])


@njit
def _clip(b: float, low: int, high: int) -> int:
    return min(max(int(b), low), high)


@njit
def price(
    n: int,
    li: NDArray[np.int32],
    ctr: FloatArray,
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
    segment: int,
    auction_type: int,
    floor: int,
    key: np.uint64,
    out_money: IntArray,
    out_rates: FloatArray,
) -> int:
    """Price ``n`` line items of one impression and return how many have a bid.

    ``li`` line item positions and ``ctr`` predicted click rates, parallel, first ``n`` used. ``ceilings`` resolved
    bid ceiling by campaign position, ``floor`` in nanos of the account currency (0: none), ``auction_type`` 2 for second
    price, anything else first. ``key`` the request's (np.uint64). ``context`` of the imp (features.FIELDS), ``events`` the
    person's records.

    Writes ``out_money[4, N]``: price (0: no bid), value, v_eff, explored (0/1); ``out_rates[5, N]``: win rate,
    score (expected surplus in nanos), propensity of exactly this price, chance of a click, of a conversion per click.

    A price is never under the floor or the line item's minimum, never over v_eff, the resolved ceiling or the line item's
    maximum. Second price: v_eff. A click rate outside [0, 1] gives no bid.
    """
    factor, rate, span = segment_values[segment, 0], segment_values[segment, 1], segment_values[segment, 2]
    draws = np.uint64(key ^ mix64_kernel(np.uint64(EXPLORE_SALT)))
    sources = np.empty(SOURCES, np.uint64)
    request_click, request_conversion = request_part(context, segment_hashes[segment], factors, sources)
    known = np.uint64(context[PERSON_FIELD])
    at_place = table_at(places, place_tables, segment, context[PLACE_FIELD])
    exchange = 0 if segment < SEGMENTS_OF_ALL else 1 + (segment - SEGMENTS_OF_ALL) // MEDIA_N
    bids = 0
    for j in range(n):
        item = li[j]
        out_money[0, j] = 0
        out_money[1, j] = 0
        out_money[2, j] = 0
        out_money[3, j] = 0
        out_rates[0, j] = 0.0
        out_rates[1, j] = 0.0
        out_rates[2, j] = 1.0
        out_rates[3, j] = 0.0
        out_rates[4, j] = 0.0
        if not (ctr[j] >= 0.0 and ctr[j] <= 1.0):
            continue
        more_clicks, more_conversions = candidate_part(
            request_click, request_conversion, names[item, 0], names[item, 1], events, known, factors, sources
        )
        campaign = money[item, 0]
        mixed = calibrations[exchange, campaign]
        click = corrected(ctr[j], factor * (mixed[2] + more_clicks * mixed[0]))
        conversion = corrected(values[item, 5], mixed[3] + more_conversions * mixed[1])
        out_rates[3, j] = click
        out_rates[4, j] = conversion
        value = values[item, 0]
        if values[item, 6] < 1.0:
            for _ in range(shown_to(events, known, names[item, 1])):
                value *= values[item, 6]
        value += click * (values[item, 1] + conversion * values[item, 4])
        if not (value > 0.0 and value < VALUE_NANOS_MAX):
            continue
        paced = value * values[item, 2]
        out_money[1, j] = int(value)
        out_money[2, j] = int(paced)
        low = max(floor, money[item, 1], 1)
        high = min(int(paced), ceilings[money[item, 0]], money[item, 2])
        if low > high:
            continue
        at = at_place if at_place >= 0 else table_of(segment_values, segment, click * values[item, 3])
        table = tables[at]
        wished = paced if auction_type == 2 else best_price(table, paced, float(low))
        wished = min(max(wished, float(low)), float(high))
        base = _clip(wished, low, high)
        chosen = base
        propensity = 1.0
        if rate > 0.0:
            u = uniform_kernel(draws, np.uint64(item))
            level = 0
            if u < rate:
                level = min(int(u / rate * EXPLORE_LEVELS), EXPLORE_LEVELS - 1)
                chosen = _clip(wished * (1.0 + span * ((2 * level + 1) / EXPLORE_LEVELS - 1.0)), low, high)
                out_money[3, j] = 1
            same = 0
            for k in range(EXPLORE_LEVELS):
                other = _clip(wished * (1.0 + span * ((2 * k + 1) / EXPLORE_LEVELS - 1.0)), low, high)
                if other == chosen:
                    same += 1
            propensity = rate / EXPLORE_LEVELS * same
            if chosen == base:
                propensity += 1.0 - rate
        b = float(chosen)
        win_rate = rate_at(table, b)
        score = (paced - b) * win_rate
        if auction_type == 2:
            score += area_at(table, b) - area_at(table, float(floor))
        out_money[0, j] = chosen
        out_rates[0, j] = win_rate
        out_rates[1, j] = score
        out_rates[2, j] = propensity
        bids += 1
    return bids
