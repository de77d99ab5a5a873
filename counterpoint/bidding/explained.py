"""How one price came about: the arithmetic of ``price.py`` in plain Python, step by step. A test holds them equal to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
from msgspec import Struct

from counterpoint.base.rng import mix64, uniform
from counterpoint.bidding.chances import FACTOR_MAX, FACTOR_MIN, corrected, explain_factors
from counterpoint.bidding.features import FIELDS
from counterpoint.bidding.price import (
    EXPLORE_LEVELS,
    EXPLORE_SALT,
    MEDIA_N,
    PLACE_FIELD,
    SEGMENTS_OF_ALL,
    VALUE_NANOS_MAX,
    CompiledBidding,
    area_at,
    best_price,
    rate_at,
    shade_at,
    table_at,
    table_of,
)


class PriceSteps(Struct, frozen=True, kw_only=True):
    """How one price came about; nanos of the account currency per impression."""

    curve: str  # whose win curve, "" for the stated default
    value: float  # expected value of the impression
    multiplier: float  # lambda
    paced: float  # v_eff
    shaded: float  # the bid that maximises expected surplus (second price: v_eff)
    low: int  # max of floor, minimum, 1
    high: int  # min of v_eff, resolved ceiling, maximum
    clip: str  # "" | "raised to the floor" | "raised to the minimum" | "held at ..." | why there is no bid
    explored: bool
    price: int  # 0: no bid
    win_rate: float
    score: float
    propensity: float
    click: float = 0.0  # chance of a click, and
    conversion: float = 0.0  # of a conversion per click, after features and calibration
    impression: float = 0.0  # of the value, what being seen is worth, however often this person saw it
    features: dict[str, tuple[float, float]] = {}  # what each does to the odds of click and conversion
    # what the features' odds of (click, conversion) and the counts' are taken times before they are added up
    calibration: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)


def explain_price(
    compiled: CompiledBidding,
    item: int,
    ctr: float,
    *,
    ceiling: int,
    segment: int,
    auction_type: int,
    floor: int,
    key: int,
    context: bytes = b"",
    shown: int = 0,
) -> PriceSteps:
    """What :func:`price` does for one line item; equal to it in every number it writes. ``shown``: how often this person
    was shown the line item, by their records (0 where nobody may be known); ``context`` empty: of nothing."""
    factor, rate, span = (float(x) for x in compiled.segment_values[segment, :3])
    base_value, per_click, pace, per_mean, per_conversion, conversion_rate, repeat = (
        float(x) for x in compiled.values[item]
    )
    minimum, maximum = int(compiled.money[item, 1]), int(compiled.money[item, 2])
    steps: dict[str, Any] = {
        "curve": compiled.sources[segment],
        "value": 0.0,
        "multiplier": 1.0 / pace,
        "paced": 0.0,
        "shaded": 0.0,
        "low": max(floor, minimum, 1),
        "high": 0,
        "clip": "",
        "explored": False,
        "price": 0,
        "win_rate": 0.0,
        "score": 0.0,
        "propensity": 1.0,
    }
    if not 0.0 <= ctr <= 1.0:
        return PriceSteps(**{**steps, "clip": "no bid: the click rate is not in [0, 1]"})
    context = context or bytes(4 * len(FIELDS))
    campaign, line_item = compiled.names[item].tolist()
    features = explain_factors(
        context, compiled.segment_hashes.item(segment), campaign, line_item, shown, compiled.factors
    )
    more_clicks = more_conversions = 1.0
    for on_click, on_conversion in features.values():
        more_clicks *= on_click
        more_conversions *= on_conversion
    if features:
        more_clicks = min(max(more_clicks, FACTOR_MIN), FACTOR_MAX)
        more_conversions = min(max(more_conversions, FACTOR_MIN), FACTOR_MAX)
    exchange = 0 if segment < SEGMENTS_OF_ALL else 1 + (segment - SEGMENTS_OF_ALL) // MEDIA_N
    calibration = compiled.calibrations[exchange, compiled.money[item, 0]].tolist()
    click = _python(corrected)(ctr, factor * (calibration[2] + more_clicks * calibration[0]))
    conversion = _python(corrected)(conversion_rate, calibration[3] + more_conversions * calibration[1])
    place = np.frombuffer(context, np.uint32)[PLACE_FIELD]
    at = int(_python(table_at)(compiled.places, compiled.place_tables, segment, place))
    if at < 0:
        at = int(_python(table_of)(compiled.segment_values, segment, click * per_mean))
    table = compiled.tables[at]
    steps |= {
        "curve": compiled.sources[at],
        "click": click,
        "conversion": conversion,
        "features": features,
        "calibration": tuple(calibration),
    }
    for _ in range(shown if repeat < 1.0 else 0):
        base_value *= repeat
    value = base_value + click * (per_click + conversion * per_conversion)
    steps["impression"] = base_value
    if not 0.0 < value < VALUE_NANOS_MAX:
        return PriceSteps(**{**steps, "clip": "no bid: worth nothing, or beyond belief"})
    paced = value * pace
    low, high = max(floor, minimum, 1), min(int(paced), ceiling, maximum)
    steps |= {"value": value, "paced": paced, "high": high}
    if low > high:
        bound = "the floor" if low == floor else "the minimum"
        return PriceSteps(**{**steps, "clip": f"no bid: {bound} is above what it may pay"})
    shaded = paced if auction_type == 2 else _python(shade_at)(table, paced)
    wished = paced if auction_type == 2 else _python(best_price)(table, paced, float(low))
    wished = min(max(wished, float(low)), float(high))
    base = min(max(int(wished), low), high)
    levels = [
        min(max(int(wished * (1.0 + span * ((2 * k + 1) / EXPLORE_LEVELS - 1.0))), low), high)
        for k in range(EXPLORE_LEVELS)
    ]
    chosen, propensity = base, 1.0
    if rate > 0.0:
        u = uniform(key ^ mix64(EXPLORE_SALT), item)
        if u < rate:
            chosen = levels[min(int(u / rate * EXPLORE_LEVELS), EXPLORE_LEVELS - 1)]
            steps["explored"] = True
        propensity = rate / EXPLORE_LEVELS * levels.count(chosen)
        if chosen == base:
            propensity += 1.0 - rate
    win_rate = _python(rate_at)(table, float(chosen))
    score = (paced - float(chosen)) * win_rate
    if auction_type == 2:
        score += _python(area_at)(table, float(chosen)) - _python(area_at)(table, float(floor))
    clip = ""
    if shaded < low:
        clip = "raised to the floor" if low == floor else "raised to the minimum"
    elif shaded > high:
        clip = (
            f"held at the {'ceiling' if high == ceiling else 'maximum' if high == maximum else 'paced value'}"
        )
    return PriceSteps(
        **{
            **steps,
            "shaded": float(shaded),
            "clip": clip,
            "price": chosen,
            "win_rate": float(win_rate),
            "score": float(score),
            "propensity": propensity,
        }
    )


def _python(kernel: Any) -> Any:
    """The kernel's own Python source, run uncompiled."""
    return kernel.py_func
