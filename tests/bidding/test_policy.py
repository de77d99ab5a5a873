"""The price of one impression: units, bounds, exact propensities, and two implementations equal to the bit."""

from __future__ import annotations

import math
import zlib
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.base.errors import PolicyRefused
from counterpoint.bidding.chances import ValueWeights, pack_slots
from counterpoint.bidding.check import golden_catalog, golden_frame, validate
from counterpoint.bidding.features import FIELDS, SLOTS
from counterpoint.bidding.policy import (
    BiddingPolicy,
    CompiledBidding,
    PriceSteps,
    WinCurve,
    checksum,
    compile_bidding,
    decode,
    encode,
    explain_price,
    prepare_bidding,
    price,
)
from counterpoint.bidding.price import EXPLORE_LEVELS, NO_CONTEXT, NO_EVENTS
from counterpoint.bidding.segments import at_place

CURVE = WinCurve((500_000, 1_000_000, 3_000_000), (0.1, 0.5, 0.9), 100.0)
POLICY = BiddingPolicy(
    version=3,
    made_at_ns=1,
    valid_until_ns=2,
    curves={"*": CURVE, "adx/video": WinCurve((200_000, 4_000_000), (0.0, 1.0), 60.0)},
    multipliers={"golden-clicks": 1.7, "golden-value": 0.6, "unknown campaign": 2.0},
    ctr_factors={"*": 1.2, "adx/video": 0.8},
    conversion_rates={"golden-conversions-li": 0.05, "unknown item": 0.5},
    order_values_micros={"golden-value": 80_000_000.0},
    exploration_rate=0.05,
    exploration_span=0.3,
)
CEILING = 20_000_000


def _weights(seed: int, spread: float) -> ValueWeights:
    click, conversion = np.random.default_rng(seed).normal(0.0, spread, (2, SLOTS))
    return ValueWeights(
        slots=pack_slots(click, conversion),
        click_calibrations={"*|*": 1.1, "*|adx": 0.9, "golden-clicks|adx": 1.7, "gone|adx": 2.0},
        conversion_calibrations={"golden-value|adx": 0.4},
        click_shares={"*": (0.5, 0.25), "golden-clicks": (0.0, 1.0), "golden-value": (0.0, 0.0)},
        conversion_shares={"golden-value": (0.25, 0.5)},
    )


VALUES = [ValueWeights(), _weights(1, 0.05), _weights(2, 0.5), _weights(3, 5.0)]


def run(
    compiled: CompiledBidding,
    ctr: float,
    *,
    item: int = 0,
    segment: int = 0,
    auction_type: int = 1,
    floor: int = 0,
    ceiling: int = CEILING,
    key: int = 7,
    context: bytes = b"",
    shown: int = 0,
) -> tuple[list[int], list[float]]:
    """(price, value, v_eff, explored), (win rate, score, propensity, click, conversion) of the kernel for one line
    item."""
    out_money, out_rates = np.zeros((4, 1), dtype=np.int64), np.zeros((5, 1), dtype=np.float64)
    price(
        1,
        np.array([item], dtype=np.int32),
        np.array([ctr], dtype=np.float64),
        compiled.money,
        compiled.values,
        np.full(4, ceiling, dtype=np.int64),
        *compiled.market,
        *compiled.value_model,
        np.frombuffer(context, np.uint32) if context else NO_CONTEXT,
        np.array([[int(compiled.names[item, 1].astype(np.int64)), 0, 0, 0]] * shown or NO_EVENTS, np.int64),
        segment,
        auction_type,
        floor,
        np.uint64(key),
        out_money,
        out_rates,
    )
    return out_money[:, 0].tolist(), out_rates[:, 0].tolist()


def explained(compiled: CompiledBidding, ctr: float, **kw: Any) -> PriceSteps:
    kw = {"item": 0, "segment": 0, "auction_type": 1, "floor": 0, "ceiling": CEILING, "key": 7} | kw
    item = kw.pop("item")
    return explain_price(compiled, item, ctr, **kw)


def quiet(**changes: object) -> CompiledBidding:
    policy = msgspec.structs.replace(POLICY, exploration_rate=0.0, multipliers={}, ctr_factors={}, **changes)
    return compile_bidding(policy, golden_frame())


REACH, CLICKS, CONVERSIONS, VALUE = range(4)
PLACE = FIELDS.index("place")


@pytest.mark.parametrize(
    ("item", "ctr", "nanos"),
    [
        (
            REACH,
            0.5,
            4_000_000,
        ),  # 4 units CPM: 4,000,000 micros CPM, 4,000,000 nanos an impression, at any click rate
        (CLICKS, 0.01, 4_000_000),  # 0.4 units a click x 0.01 = 0.004 units
        (CONVERSIONS, 0.01, 10_000_000),  # 20 units x 0.05 learned x 0.01 = 0.01 units
        (VALUE, 0.01, 4_000_000),  # 80 units learned x 0.02 prior x 0.01 / ROAS 4 = 0.004 units
    ],
)
def test_the_value_of_an_impression_by_goal(item: int, ctr: float, nanos: int) -> None:
    money, _ = run(quiet(), ctr, item=item)
    assert money[1] == pytest.approx(nanos, abs=1)
    assert money[2] == money[1]


def test_the_multiplier_divides_and_the_segment_factor_multiplies() -> None:
    policy = msgspec.structs.replace(POLICY, exploration_rate=0.0)
    compiled = compile_bidding(policy, golden_frame())
    (_, value, paced, _), _ = run(compiled, 0.01, item=CLICKS)
    odds = 0.01 / 0.99 * 1.2  # of a click
    assert value == pytest.approx(400_000_000 * odds / (1.0 + odds), abs=1)
    assert paced == pytest.approx(value / 1.7, abs=2)


def test_first_price_bids_the_argmax_of_expected_surplus() -> None:
    compiled = quiet()
    for ctr in (0.003, 0.006, 0.02):
        (bid, _, paced, _), (win_rate, score, *_) = run(compiled, ctr, item=CLICKS)
        tried = np.linspace(0, paced, 20_001)
        rates = np.interp(tried, (0, *CURVE.bids_nanos), (0.0, *CURVE.win_rates))
        assert score == pytest.approx(float(np.max((paced - tried) * rates)), rel=0.002)
        assert win_rate == pytest.approx(
            float(np.interp(bid, (0, *CURVE.bids_nanos), (0.0, *CURVE.win_rates)))
        )


def test_second_price_bids_the_paced_value_and_scores_what_it_expects_to_gain() -> None:
    (bid, _, paced, _), (_, score, propensity, *_) = run(
        quiet(), 0.01, item=CLICKS, auction_type=2, floor=600_000
    )
    assert bid == paced
    tried = np.linspace(600_000, paced, 200_001)
    rates = np.interp(tried, (0, *CURVE.bids_nanos), (0.0, *CURVE.win_rates))
    assert score == pytest.approx(float(np.trapezoid(rates, tried)), rel=1e-4)
    assert propensity == 1.0


def test_without_any_curve_the_stated_share_is_bid() -> None:
    (bid, _, paced, _), _ = run(quiet(curves={}), 0.01, item=CLICKS)
    assert bid == pytest.approx(0.8 * paced, abs=1)


def test_a_segment_without_a_curve_takes_its_parents() -> None:
    frame = prepare_bidding([], [], ("adx", "other"))
    media = WinCurve((1_000,), (0.7,))
    compiled = compile_bidding(
        msgspec.structs.replace(POLICY, curves=POLICY.curves | {"*/audio": media}), frame
    )
    source = {name: compiled.sources[at] for name, at in compiled.segments.items()}
    assert source["adx/video"] == "adx/video"
    assert source["other/video"] == "*"
    assert source["other/audio"] == source["*/audio"] == "*/audio"
    assert compiled.segment("never seen", "audio") == compiled.segments["*/audio"]
    assert compiled.segment("never seen", "hologram") == compiled.segments["*"]


def test_the_fallback_is_a_stated_share_of_the_owners_expectation() -> None:
    compiled = compile_bidding(None, golden_frame())
    assert compiled.fallback
    # 0.4 units x prior 0.002 = 0.0008 units = 800,000 nanos, whatever the creative policy predicts
    for ctr in (0.0, 0.5):
        money, rates = run(compiled, ctr, item=CLICKS)
        assert money[0] == pytest.approx(640_000, abs=1)
        assert money[1:] == [800_000, 800_000, 0]
        assert rates[2] == 1.0
    assert run(compiled, 0.0, item=CLICKS, floor=650_000)[0][0] == 650_000
    assert run(compiled, 0.0, item=CLICKS, floor=800_001)[0][0] == 0


@pytest.mark.parametrize("ctr", [math.nan, math.inf, -0.1, 1.1])
def test_a_broken_click_rate_gives_no_bid(ctr: float) -> None:
    assert run(quiet(), ctr, item=CLICKS)[0] == [0, 0, 0, 0]
    assert explained(quiet(), ctr, item=CLICKS).price == 0


prices = st.integers(0, 30_000_000)


@settings(deadline=None, max_examples=300)
@given(
    item=st.integers(0, 3),
    ctr=st.floats(0, 1),
    floor=prices,
    ceiling=prices,
    auction_type=st.sampled_from([1, 2]),
    segment=st.integers(0, 8),
    key=st.integers(0, 2**64 - 1),
    rate=st.sampled_from([0.0, 0.03, 0.1]),
    span=st.floats(0, 0.5),
    curve=st.lists(
        st.tuples(st.integers(1, 10**10), st.floats(0, 1)), min_size=1, max_size=64, unique_by=lambda p: p[0]
    ),
    context=st.lists(st.integers(0, 2**32 - 1), min_size=len(FIELDS), max_size=len(FIELDS)),
    shown=st.integers(0, 12),
    weights=st.integers(0, 3),
)
def test_kernel_and_explanation_agree_and_no_bound_is_broken(
    item: int,
    ctr: float,
    floor: int,
    ceiling: int,
    auction_type: int,
    segment: int,
    key: int,
    rate: float,
    span: float,
    curve: list[tuple[int, float]],
    context: list[int],
    shown: int,
    weights: int,
) -> None:
    bids = tuple(sorted(p[0] for p in curve))
    drawn = WinCurve(bids, tuple(sorted(p[1] for p in curve)))
    frame = prepare_bidding(*golden_catalog(), ("adx",))
    policy = msgspec.structs.replace(
        POLICY,
        curves={
            "*": CURVE,
            "adx/audio": drawn,
            at_place("adx/audio", context[PLACE]): drawn,
            at_place("*", 1): CURVE,
        }
        if context[PLACE]
        else {"*": CURVE, "adx/audio": drawn},
        exploration_rate=rate,
        exploration_span=span,
        value=VALUES[weights],
    )
    said = np.array(context, "<u4").tobytes()
    shown = shown if context[FIELDS.index("person")] else 0  # nothing is read of who did not consent
    compiled = compile_bidding(policy, frame)
    money, rates = run(
        compiled,
        ctr,
        item=item,
        segment=segment,
        auction_type=auction_type,
        floor=floor,
        ceiling=ceiling,
        key=key,
        context=said,
        shown=shown,
    )
    steps = explained(
        compiled,
        ctr,
        item=item,
        segment=segment,
        auction_type=auction_type,
        floor=floor,
        ceiling=ceiling,
        key=key,
        context=said,
        shown=shown,
    )
    assert money == [steps.price, int(steps.value), int(steps.paced), int(steps.explored)]
    assert rates == [steps.win_rate, steps.score, steps.propensity, steps.click, steps.conversion]
    assert 0.0 <= rates[3] <= 1.0
    assert 0.0 <= rates[4] <= 1.0
    bid = money[0]
    assert bid == 0 or max(floor, 1) <= bid <= min(ceiling, money[2], CEILING)
    assert 0.0 <= rates[0] <= 1.0
    assert 0.0 < rates[2] <= 1.0 + 1e-12
    assert rates[1] >= -1e-6
    assert (bid == 0) == (steps.clip.startswith("no bid"))


def test_the_logged_propensity_is_how_often_the_price_is_bid() -> None:
    compiled = compile_bidding(
        msgspec.structs.replace(POLICY, exploration_rate=0.1, exploration_span=0.3), golden_frame()
    )
    counts: dict[int, int] = {}
    said: dict[int, float] = {}
    draws = 20_000
    for key in range(draws):
        # the floor lies inside the span, so that several levels are clipped to the same price
        (bid, *_), (_, _, propensity, *_) = run(compiled, 0.01, item=CLICKS, floor=1_000_000, key=key * 7919)
        counts[bid] = counts.get(bid, 0) + 1
        assert said.setdefault(bid, propensity) == propensity
    assert sum(said.values()) == pytest.approx(1.0)
    assert 2 < len(said) <= EXPLORE_LEVELS + 1
    for bid, propensity in said.items():
        sd = math.sqrt(propensity * (1 - propensity) / draws)
        assert abs(counts[bid] / draws - propensity) < 5 * sd


def test_encoding_is_exact_and_a_broken_payload_is_refused() -> None:
    payload = encode(POLICY)
    assert decode(payload, checksum(payload)) == POLICY
    assert encode(decode(payload)) == payload
    shuffled = msgspec.structs.replace(POLICY, multipliers=dict(reversed(POLICY.multipliers.items())))
    assert encode(shuffled) == payload
    with pytest.raises(PolicyRefused, match="checksum"):
        decode(payload[:-1] + b"\x00", checksum(payload))
    for raw in (b"", b"\x93", payload[:40], msgspec.msgpack.encode({"version": "one"})):
        with pytest.raises(PolicyRefused):
            decode(raw)


def test_a_sound_policy_is_accepted_and_ids_nobody_knows_are_passed_over() -> None:
    validate(POLICY)
    for value in VALUES:
        validate(msgspec.structs.replace(POLICY, value=value))
    validate(BiddingPolicy(version=1, made_at_ns=0, valid_until_ns=1), ["golden-clicks"])


NAN = math.nan
POISON: dict[str, dict[str, object]] = {
    "version 0": {"version": 0},
    "valid before made": {"valid_until_ns": 0},
    "nan multiplier": {"multipliers": {"c": NAN}},
    "infinite multiplier": {"multipliers": {"c": math.inf}},
    "negative multiplier": {"multipliers": {"c": -1.0}},
    "multiplier that bids 1000 times the value": {"multipliers": {"c": 0.001}},
    "nan factor": {"ctr_factors": {"*": NAN}},
    "factor of 1000": {"ctr_factors": {"*": 1_000.0}},
    "conversion rate above 1": {"conversion_rates": {"li": 1.5}},
    "conversion rate 0": {"conversion_rates": {"li": 0.0}},
    "negative order value": {"order_values_micros": {"c": -5.0}},
    "infinite order value": {"order_values_micros": {"c": math.inf}},
    "explores always": {"exploration_rate": 1.0},
    "nan exploration": {"exploration_rate": NAN},
    "exploration span of 2": {"exploration_span": 2.0},
    "value model that is no zlib": {"value": ValueWeights(slots=b"nonsense")},
    "value model cut short": {"value": ValueWeights(slots=zlib.compress(bytes(10)))},
    "value model without end": {"value": ValueWeights(slots=zlib.compress(bytes(10**7)))},
    "value model of great weight": {"value": ValueWeights(slots=zlib.compress(b"\xff\x7f" * 2 * SLOTS))},
    "nan calibration": {"value": ValueWeights(click_calibrations={"*|*": NAN})},
    "shares above the whole": {"value": ValueWeights(click_shares={"*": (0.7, 0.7)})},
    "negative share": {"value": ValueWeights(conversion_shares={"c": (-0.1, 0.7)})},
    "nan share": {"value": ValueWeights(click_shares={"c": (NAN, 0.1)})},
    "calibration of 100": {"value": ValueWeights(conversion_calibrations={"c|x": 100.0})},
    "curve that falls": {"curves": {"*": WinCurve((1, 2), (0.5, 0.4))}},
    "curve above 1": {"curves": {"*": WinCurve((1, 2), (0.5, 1.4))}},
    "curve below 0": {"curves": {"*": WinCurve((1, 2), (-0.5, 0.4))}},
    "curve of nan": {"curves": {"*": WinCurve((1, 2), (0.1, NAN))}},
    "curve with prices out of order": {"curves": {"*": WinCurve((2, 1), (0.1, 0.4))}},
    "curve at price 0": {"curves": {"*": WinCurve((0, 1), (0.1, 0.4))}},
    "curve of unequal lengths": {"curves": {"*": WinCurve((1, 2, 3), (0.1, 0.4))}},
    "empty curve": {"curves": {"*": WinCurve((), ())}},
    "curve too long": {"curves": {"*": WinCurve(tuple(range(1, 100)), (0.5,) * 99)}},
    "curve with nan rows": {"curves": {"*": WinCurve((1,), (0.5,), NAN)}},
    "curve beyond any price": {"curves": {"*": WinCurve((1, 10**12), (0.1, 0.4))}},
}


@pytest.mark.parametrize("poison", POISON.values(), ids=POISON.keys())
def test_a_poisoned_policy_is_refused(poison: dict[str, object]) -> None:
    with pytest.raises(PolicyRefused):
        validate(msgspec.structs.replace(POLICY, **poison))


def test_a_further_impression_of_a_person_is_worth_what_the_owner_says() -> None:
    compiled = compile_bidding(
        msgspec.structs.replace(POLICY, exploration_rate=0.0), prepare_bidding(*golden_catalog(), ("adx",))
    )
    known, unknown = (np.array([*range(1, len(FIELDS)), person], "<u4").tobytes() for person in (7, 0))
    worth = [run(compiled, 0.01, item=REACH, context=known, shown=n)[0][1] for n in range(4)]
    assert worth == [pytest.approx(4_000_000 * 0.7**n, abs=1) for n in range(4)]
    assert run(compiled, 0.01, item=REACH, context=unknown, shown=3)[0][1] == 4_000_000, "not known: new"
    clicks = {run(compiled, 0.01, item=CLICKS, context=known, shown=n)[0][1] for n in range(4)}
    assert len(clicks) == 1, "it is of reach alone"
