"""The policy the bidding learner publishes, what bidding needs of the catalog, and both compiled into the kernel's arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
    slot_factors,
)
from counterpoint.bidding.duals import Dual
from counterpoint.bidding.price import (
    CLASSES,
    KNOTS_MAX,
    PIECES_MAX,
    SEGMENT_VALUES,
    CompiledBidding,
    FloatArray,
    IntArray,
    envelope,
)
from counterpoint.bidding.segments import lineage
from counterpoint.catalog.model import Campaign, Goal, LineItem, Media

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
    ] = {}  # "{exchange}/{media}", parents "*/{media}" and "*", children ".../~{class}" and ".../@{place}"
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


def checksum(payload: bytes) -> str:
    return digest(payload)


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
    repeat: FloatArray  # by line item: worth of an impression over that of the person's last one
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
        repeat=np.array(
            [o.repeat_value_ppm / 1e6 if o.goal is Goal.REACH else 1.0 for o in owners], dtype=np.float64
        ),
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
    values = np.zeros((len(frame.goal), 7), dtype=np.float64)
    values[:, 0] = np.where(frame.goal == GOALS.index(Goal.REACH), frame.goal_value, 0.0)
    values[:, 1] = np.where(frame.goal == GOALS.index(Goal.CLICKS), frame.goal_value * 1e3, 0.0)
    values[:, 2] = 1.0
    values[:, 6] = frame.repeat
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
    placed = sorted(
        ((positions[segment] << 32) | int(place, 16), f"{segment}/@{place}")
        for segment, at, place in (name.rpartition("/@") for name in curves)
        if at and segment in positions
    )
    first_place = len(every)
    every += [name for _, name in placed]
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
        places=np.array([key for key, _ in placed], dtype=np.uint64),
        place_tables=np.arange(first_place, len(every), dtype=np.int64),
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
