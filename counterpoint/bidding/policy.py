"""The bidding policy: from an expected click to a price. Pure, replayable, checked before use.

One pass per line item: expected value -> divide by the campaign's multiplier (v_eff) -> shade by expected surplus
on the segment's win curve -> clip to floor, minimum, ceiling -> perhaps explore. :func:`price` is the compiled
kernel, :func:`explain_price` the same arithmetic in plain Python, step by step; a test holds them equal to the bit.

All per-impression values and prices are nano-units of the account currency, which is the same number as micros
CPM (base/money.py). So a reach goal of ``g`` micros CPM is worth ``g`` nanos an impression, and a click worth
``g`` micros is worth ``1000 g`` nanos.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from counterpoint.base.errors import PolicyRefused
from counterpoint.base.ids import digest
from counterpoint.base.money import PRICE_MICROS_MAX
from counterpoint.base.seen import hash_id
from counterpoint.base.unreadable import UNREADABLE
from counterpoint.bidding.chances import (
    NO_WEIGHTS,
    ValueWeights,
    calibration_table,
    check_weights,
    shown_before,
    slot_factors,
)
from counterpoint.bidding.duals import Dual, check_duals
from counterpoint.bidding.features import EXPOSED_MAX, FIELDS, exposure_level, feature
from counterpoint.bidding.price import (
    CLASSES,
    KNOTS_MAX,
    PIECES_MAX,
    SEGMENT_VALUES,
    CompiledBidding,
    FloatArray,
    IntArray,
    PriceSteps,
    envelope,
    explain_price,
    price,
)
from counterpoint.bidding.segments import FACTOR_MAX, FACTOR_MIN, lineage
from counterpoint.catalog.model import Campaign, Goal, LineItem, Media

__all__ = [
    "EXPOSED_MAX",
    "FIELDS",
    "BiddingFrame",
    "BiddingPolicy",
    "CompiledBidding",
    "Dual",
    "PriceSteps",
    "WinCurve",
    "checksum",
    "compile_bidding",
    "decode",
    "encode",
    "explain_price",
    "exposure_level",
    "feature",
    "prepare_bidding",
    "price",
    "shown_before",
    "validate",
]

AGENT = "bidding"
LAMBDA_MIN, LAMBDA_MAX = 0.2, 256.0  # v_eff = value / lambda; 0.2: at most five times the stated value
CURVES_MAX = 512  # each is compiled and tried: milliseconds, during which the bidder makes no other View
EXPLORE_RATE_MAX, EXPLORE_SPAN_MAX = 0.1, 0.5
DEFAULT_WIN_RATE = 0.1  # and assume this, so that scores rank by value

MEDIA = tuple(m.value for m in Media)


# ---- the artefact


class WinCurve(Struct, frozen=True, array_like=True):
    """P(win) at a price: linear between knots, linear to 0 below the first, flat beyond the last."""

    bids_nanos: tuple[int, ...]  # strictly increasing, first > 0, at most KNOTS_MAX
    win_rates: tuple[float, ...]  # in [0, 1], never decreasing
    rows: float = 0.0  # effective number of auctions behind it


class BiddingPolicy(Struct, frozen=True, kw_only=True):
    """What the bidding learner publishes. Ids it does not name take the owner's priors; unknown ids are passed over."""

    version: int
    made_at_ns: int
    valid_until_ns: int
    curves: dict[
        str, WinCurve
    ] = {}  # "{exchange}/{media}", parents "*/{media}" and "*", children ".../~{class}"
    mean_click_rates: dict[
        str, float
    ] = {}  # line item id -> mean prediction, by which impressions are classed
    multipliers: dict[str, float] = {}  # campaign id -> lambda in [LAMBDA_MIN, LAMBDA_MAX]
    duals: dict[str, Dual] = {}  # campaign id -> what made its multiplier
    # line item id -> value at the goal that one more unit of budget would buy; 0: the budget is not what holds it
    marginal_values: dict[str, float] = {}
    ctr_factors: dict[str, float] = {}  # segment -> observed / predicted clicks: what plain counts say
    conversion_rates: dict[str, float] = {}  # line item id -> conversions per click, in (0, 1)
    order_values_micros: dict[str, float] = {}  # campaign id (Goal.VALUE) -> mean order value
    exploration_rate: float = 0.0  # share of bids with a jittered price
    exploration_span: float = 0.0  # jitter is within (1 - span, 1 + span) of the price
    value: ValueWeights = NO_WEIGHTS  # what features do to the chances of clicks and conversions


_ENCODER = msgspec.msgpack.Encoder(order="deterministic")
_DECODER = msgspec.msgpack.Decoder(BiddingPolicy)


def encode(policy: BiddingPolicy) -> bytes:
    """Equal policies give equal bytes."""
    return _ENCODER.encode(policy)


def decode(payload: bytes, checksum: str | None = None) -> BiddingPolicy:
    """Raises :class:`PolicyRefused` on foreign bytes or where ``checksum`` (``digest(payload)``) differs."""
    if checksum is not None and digest(payload) != checksum:
        raise PolicyRefused("bidding policy: checksum does not fit the payload; fetch it again")
    try:
        return _DECODER.decode(payload)
    except UNREADABLE as error:
        raise PolicyRefused(f"bidding policy: cannot be read: {error}") from error


# ---- the catalog's side, prepared once per catalog


@dataclass(frozen=True, slots=True)
class BiddingFrame:
    """What bidding needs of the catalog, by position. Line item and campaign positions are those given."""

    campaign_position: dict[str, int]
    line_item_position: dict[str, int]
    exchanges: tuple[str, ...]
    campaign_of: NDArray[np.int32]  # by line item
    goal: NDArray[np.int8]  # by line item: index in GOALS
    goal_value: FloatArray  # by line item, micros (VALUE: target ROAS in ppm)
    order_value: FloatArray  # by line item, micros: the owner's prior
    click_rate: FloatArray  # by line item: the owner's prior
    conversion_rate: FloatArray  # by line item: the owner's prior
    money: IntArray  # [line item, 3]: campaign position, bid minimum, bid maximum (micros CPM)
    names: NDArray[np.uint64]  # [line item, 2]: hashes of campaign and line item


GOALS = (Goal.REACH, Goal.CLICKS, Goal.CONVERSIONS, Goal.VALUE)


def prepare_bidding(
    campaigns: Sequence[Campaign], line_items: Sequence[LineItem], exchanges: Sequence[str]
) -> BiddingFrame:
    """Every line item's campaign must be among ``campaigns``."""
    position = {campaign.id: i for i, campaign in enumerate(campaigns)}
    owners = [campaigns[position[item.campaign_id]] for item in line_items]
    n = len(line_items)
    money = np.zeros((n, 3), dtype=np.int64)
    for i, (item, owner) in enumerate(zip(line_items, owners, strict=True)):
        bid_max = owner.bid_ceiling_micros if item.bid_max_micros is None else item.bid_max_micros
        money[i, 0] = position[item.campaign_id]
        money[i, 1] = item.bid_min_micros
        money[i, 2] = min(bid_max, owner.bid_ceiling_micros, PRICE_MICROS_MAX)
    return BiddingFrame(
        campaign_position=position,
        line_item_position={item.id: i for i, item in enumerate(line_items)},
        exchanges=tuple(exchanges),
        campaign_of=np.array([position[item.campaign_id] for item in line_items], dtype=np.int32),
        goal=np.array([GOALS.index(owner.goal) for owner in owners], dtype=np.int8),
        goal_value=np.array([owner.goal_value_micros for owner in owners], dtype=np.float64),
        order_value=np.array([owner.expected_order_value_micros for owner in owners], dtype=np.float64),
        click_rate=np.array([item.expected_click_rate for item in line_items], dtype=np.float64),
        conversion_rate=np.array([item.expected_conversion_rate for item in line_items], dtype=np.float64),
        money=money,
        names=np.array(
            [(hash_id(item.campaign_id), hash_id(item.id)) for item in line_items], dtype=np.uint64
        ).reshape(n, 2),
    )


# ---- compiled: what the kernel reads


def compile_bidding(policy: BiddingPolicy | None, frame: BiddingFrame) -> CompiledBidding:
    """``None`` is the stated fallback: DEFAULT_SHADE x the expected value by the owner's priors alone (the creative's
    click rate is not used either), no multiplier, no curve, no exploration. Expects a validated policy."""
    values = np.zeros((len(frame.goal), 6), dtype=np.float64)
    values[:, 0] = np.where(frame.goal == GOALS.index(Goal.REACH), frame.goal_value, 0.0)
    values[:, 1] = np.where(frame.goal == GOALS.index(Goal.CLICKS), frame.goal_value * 1e3, 0.0)
    values[:, 2] = 1.0
    values[:, 4], values[:, 5] = _per_conversion(policy, frame)
    names = ["*", *(f"*/{m}" for m in MEDIA), *(f"{e}/{m}" for e in frame.exchanges for m in MEDIA)]
    weights = NO_WEIGHTS if policy is None else policy.value
    curves: Mapping[str, WinCurve] = {}
    if policy is None:
        values[:, 0] += (values[:, 1] + values[:, 4] * values[:, 5]) * frame.click_rate
        values[:, 1] = values[:, 4] = 0.0
    else:
        curves = policy.curves
        pace = np.ones(len(frame.campaign_position), dtype=np.float64)
        for campaign_id, multiplier in policy.multipliers.items():
            at = frame.campaign_position.get(campaign_id)
            if at is not None:
                pace[at] = 1.0 / multiplier
        if len(values):
            values[:, 2] = pace[frame.campaign_of]
        for item_id, mean in policy.mean_click_rates.items():
            at = frame.line_item_position.get(item_id)
            if at is not None:
                values[at, 3] = 1.0 / mean
    with_classes = {name.rpartition("/~")[0] for name in curves if "/~" in name}
    classed = [name for name in names if name in with_classes]
    every = [*names, *(f"{name}/~{k}" for name in classed for k in range(CLASSES))]
    positions = {name: at for at, name in enumerate(every)}
    segment_values = np.zeros((len(every), SEGMENT_VALUES), dtype=np.float64)
    segment_values[:, 0] = 1.0
    if policy is not None:
        segment_values[:, 1] = policy.exploration_rate
        segment_values[:, 2] = policy.exploration_span
    for name in classed:
        segment_values[positions[name], 3] = 1.0
        segment_values[positions[name], 4:] = [positions[f"{name}/~{k}"] for k in range(CLASSES)]
    tables = np.empty((len(every), 5, PIECES_MAX), dtype=np.float64)
    built: dict[str, FloatArray] = {}
    sources: list[str] = []
    for at, name in enumerate(every):
        source = next((s for s in lineage(name) if s in curves), "")
        if source not in built:
            built[source] = curve_table(curves.get(source))
        tables[at] = built[source]
        sources.append(source)
        if policy is not None and at < len(names):
            factor = next((policy.ctr_factors[s] for s in lineage(name) if s in policy.ctr_factors), 1.0)
            segment_values[at, 0] = factor
    return CompiledBidding(
        version=0 if policy is None else policy.version,
        valid_until_ns=2**62 if policy is None else policy.valid_until_ns,
        fallback=policy is None,
        money=frame.money,
        values=values,
        tables=tables,
        segment_values=segment_values,
        segments={name: at for at, name in enumerate(names)},
        sources=tuple(sources),
        names=frame.names,
        segment_hashes=np.array([hash_id(name) for name in names], dtype=np.uint64),
        factors=slot_factors(weights.slots),
        calibrations=calibration_table(weights, frame.campaign_position, frame.exchanges),
    )


def _per_conversion(
    policy: BiddingPolicy | None, frame: BiddingFrame
) -> tuple[FloatArray, NDArray[np.float64]]:
    """By line item: nanos per conversion (0 where the goal is another), and conversions per click before features."""
    conversion_rate, order_value = frame.conversion_rate, frame.order_value
    if policy is not None:
        conversion_rate = conversion_rate.copy()
        for item_id, rate in policy.conversion_rates.items():
            at = frame.line_item_position.get(item_id)
            if at is not None:
                conversion_rate[at] = rate
        order_value = order_value.copy()
        for campaign_id, micros in policy.order_values_micros.items():
            position = frame.campaign_position.get(campaign_id)
            if position is not None:
                order_value[frame.campaign_of == position] = micros
    roas = np.maximum(frame.goal_value, 1.0) / 1e6
    per_order = np.where(frame.goal_value > 0, order_value * 1e3 / roas, 0.0)
    goals = [frame.goal == GOALS.index(goal) for goal in (Goal.CONVERSIONS, Goal.VALUE)]
    return np.select(goals, [frame.goal_value * 1e3, per_order], 0.0), conversion_rate


def curve_table(curve: WinCurve | None) -> FloatArray:
    """The five rows of one segment. Prices tried are the knots and points between them; ties go to the lower bid; where
    nothing below v can win, the default share of v is bid, so that we can learn that it can."""
    table = np.zeros((5, PIECES_MAX), dtype=np.float64)
    if curve is None:
        bids, rates = np.array([1.0]), np.array([DEFAULT_WIN_RATE])
    else:
        bids = np.array(curve.bids_nanos, dtype=np.float64)
        rates = np.array(curve.win_rates, dtype=np.float64)
    last = len(bids) - 1
    area = np.zeros(len(bids))
    area[0] = bids[0] * rates[0] / 2
    if last:
        area[1:] = area[0] + np.cumsum(np.diff(bids) * (rates[1:] + rates[:-1]) / 2)
    for row, knots in ((2, bids), (3, rates), (4, area)):
        table[row, : last + 1] = knots
        table[row, last + 1 : KNOTS_MAX] = knots[last]
    table[0] = np.inf
    if curve is not None:
        between = (PIECES_MAX - 1) // max(last, 1)
        tried = np.unique(
            np.floor(np.interp(np.arange(last * between + 1) / between, np.arange(last + 1), bids))
        )
        wins = np.interp(tried, bids, rates)
        pieces = envelope(tried, wins, table[0], table[1])
        table[1, pieces:] = table[1, max(pieces - 1, 0)]
    return table


# ---- refused before use


def checksum(payload: bytes) -> str:
    return digest(payload)


def validate(policy: BiddingPolicy, catalog_ids: Collection[str] = ()) -> None:
    """Raise :class:`PolicyRefused` unless every number is finite and in bounds, curves are monotone, and golden requests
    are priced sanely. ``catalog_ids`` is not read: names the catalog does not know are tolerated, they belong to one
    that has not been read yet."""
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
    _check_golden(policy)


def _check_all(what: str, values: Mapping[str, float], low: float, high: float) -> None:
    for name, value in values.items():
        if not (math.isfinite(value) and low <= value <= high):
            raise PolicyRefused(f"bidding policy: {what} of {name!r} is {value}, outside [{low}, {high}]")


def _check_curve(name: str, curve: WinCurve) -> None:
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


def golden_frame() -> BiddingFrame:
    """One line item per goal, with round numbers: what every policy must be able to price."""
    goals = (
        (Goal.REACH, 4_000_000),
        (Goal.CLICKS, 400_000),
        (Goal.CONVERSIONS, 20_000_000),
        (Goal.VALUE, 4_000_000),
    )
    campaigns = [
        Campaign(
            id=f"golden-{g}", advertiser_id="a", name="", daily_budget_micros=1, goal=g, goal_value_micros=v
        )
        for g, v in goals
    ]
    return prepare_bidding(campaigns, [LineItem(id=f"{c.id}-li", campaign_id=c.id) for c in campaigns], ())


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
    for source in (*policy.curves, ""):
        curves = {"*": policy.curves[source]} if source else {}
        multipliers = dict(
            zip(frame.campaign_position, _cycle(list(policy.multipliers.values()) or [1.0], n), strict=False)
        )
        factors = {"*": policy.ctr_factors[source]} if source in policy.ctr_factors else {}
        tried = msgspec.structs.replace(
            policy,
            curves=curves,
            multipliers=multipliers,
            ctr_factors=factors,
            mean_click_rates={},
            conversion_rates={},  # of other line items than the golden ones, and already checked
            order_values_micros={},
        )
        compiled = compile_bidding(tried, frame)
        if np.any(np.diff(compiled.tables[0, 1]) < 0):
            raise PolicyRefused(f"bidding policy: shaded prices of {source!r} fall as the value rises")
        for ctr, floor, auction_type in product(GOLDEN_CTR, GOLDEN_FLOORS, (1, 2)):
            price(
                n,
                li,
                np.full(n, ctr),
                compiled.money,
                compiled.values,
                ceilings,
                compiled.tables,
                compiled.segment_values,
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
