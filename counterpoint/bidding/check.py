"""A bidding policy is refused before use unless every number is in bounds and golden requests are priced sanely."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise, product

import msgspec
import numpy as np

from counterpoint.base.errors import PolicyRefused
from counterpoint.base.money import PRICE_MICROS_MAX
from counterpoint.bidding.chances import check_weights
from counterpoint.bidding.compile import (
    CURVES_MAX,
    EXPLORE_RATE_MAX,
    EXPLORE_SPAN_MAX,
    LAMBDA_MAX,
    LAMBDA_MIN,
    BiddingFrame,
    BiddingPolicy,
    WinCurve,
    compile_bidding,
    curve_table,
    prepare_bidding,
)
from counterpoint.bidding.duals import check_duals
from counterpoint.bidding.features import FIELDS
from counterpoint.bidding.price import KNOTS_MAX, price
from counterpoint.bidding.segments import FACTOR_MAX, FACTOR_MIN
from counterpoint.catalog.model import Campaign, Goal, LineItem


def validate(policy: BiddingPolicy, catalog_ids: Collection[str] = ()) -> None:
    """Raise :class:`PolicyRefused` unless it is within :func:`check_bounds` and golden requests are priced sanely.
    ``catalog_ids`` is not read: names the catalog does not know are tolerated, they belong to one that has not been read
    yet."""
    check_bounds(policy)
    _check_golden(policy)


def check_bounds(policy: BiddingPolicy) -> None:
    """Raise :class:`PolicyRefused` unless every number is finite and in bounds and curves are monotone."""
    if policy.version < 1 or policy.made_at_ns < 0 or policy.valid_until_ns <= policy.made_at_ns:
        raise PolicyRefused("bidding policy: version or times out of order")
    if len(policy.curves) > CURVES_MAX:
        raise PolicyRefused(f"bidding policy: {len(policy.curves)} curves, at most {CURVES_MAX}")
    for name, curve in policy.curves.items():
        _check_curve(name, curve)
    _check_all("multiplier", policy.multipliers, LAMBDA_MIN, LAMBDA_MAX)
    _check_all("marginal value", policy.marginal_values, 0.0, LAMBDA_MAX)
    _check_all("click-rate factor", policy.ctr_factors, FACTOR_MIN, FACTOR_MAX)
    _check_all("conversion rate", policy.conversion_rates, 1e-9, 1.0)
    _check_all("mean click rate", policy.mean_click_rates, 1e-9, 1.0)
    _check_all("order value", policy.order_values_micros, 1.0, 1e15)
    _check_all("exploration rate", {"": policy.exploration_rate}, 0.0, EXPLORE_RATE_MAX)
    _check_all("exploration span", {"": policy.exploration_span}, 0.0, EXPLORE_SPAN_MAX)
    check_weights(policy.value)
    check_duals(policy.duals)


def _check_all(what: str, values: Mapping[str, float], low: float, high: float) -> None:
    for name, value in values.items():
        if not (math.isfinite(value) and low <= value <= high):
            raise PolicyRefused(f"bidding policy: {what} of {name!r} is {value}, outside [{low}, {high}]")


_PLACE = re.compile(r".+/@[0-9a-f]{8}")


def _check_curve(name: str, curve: WinCurve) -> None:
    if "/@" in name and not _PLACE.fullmatch(name):
        raise PolicyRefused(f"bidding policy: curve {name!r} names no place")
    bids, rates = curve.bids_nanos, curve.win_rates
    if not 1 <= len(bids) <= KNOTS_MAX or len(bids) != len(rates):
        raise PolicyRefused(f"bidding policy: curve {name!r} has {len(bids)} prices and {len(rates)} rates")
    if not (bids[0] > 0 and bids[-1] <= PRICE_MICROS_MAX and all(a < b for a, b in pairwise(bids))):
        raise PolicyRefused(f"bidding policy: prices of curve {name!r} do not rise from above 0")
    if not all(math.isfinite(r) and 0.0 <= r <= 1.0 for r in rates):
        raise PolicyRefused(f"bidding policy: a win rate of curve {name!r} is not in [0, 1]")
    if not all(a <= b for a, b in pairwise(rates)):
        raise PolicyRefused(f"bidding policy: curve {name!r} falls as the price rises")
    if not (math.isfinite(curve.rows) and curve.rows >= 0.0):
        raise PolicyRefused(f"bidding policy: curve {name!r} has {curve.rows} rows behind it")


GOLDEN_CTR = (0.0005, 0.01, 0.3)
GOLDEN_FLOORS = (0, 400_000, 3_000_000)


def golden_catalog() -> tuple[list[Campaign], list[LineItem]]:
    """One line item per goal, with round numbers: what every policy must be able to price."""
    goals = (
        (Goal.REACH, 4_000_000),
        (Goal.CLICKS, 400_000),
        (Goal.CONVERSIONS, 20_000_000),
        (Goal.VALUE, 4_000_000),
    )
    campaigns = [
        Campaign(
            id=f"golden-{g}",
            advertiser_id="a",
            name="",
            daily_budget_micros=1,
            goal=g,
            goal_value_micros=v,
            repeat_value_ppm=700_000,
        )
        for g, v in goals
    ]
    return campaigns, [LineItem(id=f"{c.id}-li", campaign_id=c.id) for c in campaigns]


def golden_frame() -> BiddingFrame:
    return prepare_bidding(*golden_catalog(), ())


def _check_golden(policy: BiddingPolicy) -> None:
    """Under each of its curves: inside floor, v_eff and ceiling; v_eff within what the multiplier allows; the chances are
    chances."""
    frame = golden_frame()
    n = len(frame.goal)
    ceilings = np.full(n, 20_000_000, dtype=np.int64)
    li = np.arange(n, dtype=np.int32)
    out_money, out_rates = np.zeros((4, n), dtype=np.int64), np.zeros((5, n), dtype=np.float64)
    context = np.arange(1, 1 + len(FIELDS), dtype=np.uint32)
    nobody = np.zeros((0, 4), dtype=np.int64)
    multipliers = dict(
        zip(frame.campaign_position, _cycle(list(policy.multipliers.values()) or [1.0], n), strict=False)
    )
    tried = msgspec.structs.replace(
        policy,
        curves={},
        multipliers=multipliers,
        ctr_factors={},
        mean_click_rates={},
        conversion_rates={},  # of other line items than the golden ones, and already checked
        order_values_micros={},
    )
    compiled = compile_bidding(tried, frame)
    segment_values = compiled.segment_values
    for source in (*policy.curves, ""):
        table = curve_table(policy.curves.get(source))
        segment_values[0, 0] = policy.ctr_factors.get(source, 1.0)
        if np.any(np.diff(table[1]) < 0):
            raise PolicyRefused(f"bidding policy: shaded prices of {source!r} fall as the value rises")
        for ctr, floor, auction_type in product(GOLDEN_CTR, GOLDEN_FLOORS, (1, 2)):
            price(
                n,
                li,
                np.full(n, ctr),
                compiled.money,
                compiled.values,
                ceilings,
                table[None],
                segment_values,
                compiled.places,
                compiled.place_tables,
                *compiled.value_model,
                context,
                nobody,
                0,
                auction_type,
                floor,
                np.uint64(policy.version),
                out_money,
                out_rates,
            )
            bid, value, paced = out_money[0], out_money[1], out_money[2]
            sane = (
                np.all((bid == 0) | ((bid >= max(floor, 1)) & (bid <= paced) & (bid <= ceilings)))
                and np.all((paced >= value / LAMBDA_MAX - 1) & (paced <= value / LAMBDA_MIN + 1))
                and np.all(np.isfinite(out_rates))
                and np.all((out_rates[0] >= 0) & (out_rates[0] <= 1))
                and np.all((out_rates[2] > 0) & (out_rates[2] <= 1 + 1e-12))
                and np.all((out_rates[3:] >= 0) & (out_rates[3:] <= 1))
            )
            if not sane:
                raise PolicyRefused(
                    f"bidding policy: a golden request is priced {bid.tolist()} by {source!r}"
                )


def _cycle(values: Sequence[float], n: int) -> list[float]:
    """The extremes first: they are what a broken policy breaks on."""
    ordered = sorted(values)
    return [ordered[0], ordered[-1], ordered[len(ordered) // 2], ordered[0]][:n]
