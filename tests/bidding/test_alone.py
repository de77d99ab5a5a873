"""The Bidding agent without the system: the example learns, and whatever it is told is contained and counted."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.base.errors import ConfigError
from counterpoint.base.money import PRICE_MICROS_MAX
from counterpoint.bidding import goal as goals
from counterpoint.bidding.alone import NOT_TOLD, AloneBidder, Buys, Goal, RowsRefused, Shown

CLICKS = Goal(buys=Buys.CLICKS, worth_micros=400_000)
TARGET_CPA = Goal(buys=Buys.CONVERSIONS, worth_micros=10_000_000)
SEGMENT = "x/banner"


def shown(**said: Any) -> Shown:
    usual: dict[str, Any] = {
        "exchange": "x",
        "media": "banner",
        "campaign": "c",
        "line_item": "l",
        "click_rate": 0.01,
    }
    return Shown(**(usual | said))


def buy(bidder: AloneBidder, name: str, now_s: float, won: bool = True, **said: Any) -> float:
    """One auction, its price a sixth of what it is worth; its value is returned."""
    values = bidder.values([shown(**said)])
    bids = np.asarray(values / 6.0, dtype=np.int64)
    bidder.learn(bids, [won], segment=SEGMENT, ids=[name], values=values, shown=[shown(**said)], now_s=now_s)
    return float(values[0])


def test_the_example_beats_the_best_constant_share_with_given_and_with_learned_values() -> None:
    path = Path(__file__).parents[2] / "examples" / "bidding_alone.py"
    spec = importlib.util.spec_from_file_location("bidding_alone", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    given_values, learned, of_known_rates = module.main()
    assert given_values > 0.0
    assert learned > 0.05
    assert -0.3 < of_known_rates < 0.0  # nobody who has yet to find out beats who knows


# ---- what is learned


def test_the_value_of_a_click_is_learned_where_people_click() -> None:
    bidder = AloneBidder(goal=CLICKS)
    before = bidder.values([shown(place="good")])[0]
    assert before == pytest.approx(0.01 * 400_000 * 1_000)
    for i in range(3_000):
        buy(bidder, f"b{i}", float(i + 1), place="good" if i % 2 else "bad")
        if i % 20 == 1:
            bidder.clicked([f"b{i}"], float(i + 1))
    good, bad = bidder.values([shown(place="good"), shown(place="bad")])
    assert good > 3 * bad
    assert good > 2 * before


def test_conversions_that_do_not_come_raise_the_multiplier_and_those_still_due_do_not() -> None:
    bidder = AloneBidder(goal=TARGET_CPA)
    for i in range(400):
        values = bidder.values([shown(conversion_rate=0.2)])
        bidder.learn(
            np.asarray(values, dtype=np.int64),  # pays all that it thinks it is worth
            [True],
            segment=SEGMENT,
            ids=[f"b{i}"],
            values=values,
            shown=[shown(conversion_rate=0.2)],
            now_s=float(i + 1),
        )
    fresh = bidder.multiplier
    assert fresh < 1.1
    for i in range(400, 40_000, 100):
        values = np.full(100, 20_000_000.0)
        bidder.learn(
            np.full(100, 20_000_000),
            np.ones(100, bool),
            segment=SEGMENT,
            ids=[f"b{i + k}" for k in range(100)],
            values=values,
            shown=[shown(conversion_rate=0.2)] * 100,
            now_s=float(i * 30),
        )
    assert bidder.multiplier > 2.0


def test_an_order_is_worth_its_value_over_the_target_return() -> None:
    bidder = AloneBidder(goal=Goal(buys=Buys.RETURN, worth_micros=30_000_000, target_return=3.0))
    before = buy(bidder, "b", 1.0)
    assert before == pytest.approx(0.01 * 0.02 * 10_000_000 * 1_000)
    for i in range(200):
        buy(bidder, f"b{i}", 10.0 + i)
        bidder.clicked([f"b{i}"], 10.0 + i)
        assert bidder.converted([f"b{i}"], 10.5 + i, 90_000_000) == (1 if i < 200 else 0)
    assert bidder.values([shown()])[0] > 2 * before


def test_a_new_person_is_worth_more_than_one_who_has_seen_it() -> None:
    bidder = AloneBidder(goal=Goal(buys=Buys.REACH, worth_micros=4_000_000, repeat=0.25))
    seen = [shown(exposed=n, person_shown=n) for n in range(3)]
    assert bidder.values(seen).tolist() == [4_000_000, 1_000_000, 250_000]


@pytest.mark.parametrize("told", ["minimum", "paid in second price", "wins"])
def test_every_regime_teaches_what_wins(told: str) -> None:
    rng, bidder = np.random.default_rng(3), AloneBidder()
    for _ in range(40):
        bids = rng.integers(200_000, 3_000_000, 50)
        minimum = np.full(50, 1_000_000)
        won = bids >= minimum
        second = told == "paid in second price"
        bidder.learn(
            bids,
            won,
            minimum if told == "minimum" else None,
            np.where(won, minimum, NOT_TOLD) if second else None,
            auction_type=2 if second else 1,
        )
    assert bidder.price(3_000_000.0)[0] == pytest.approx(1_000_000, rel=0.15)
    assert bidder.price(3_000_000.0, auction_type=2)[0] == 3_000_000


def test_an_exchange_that_turns_to_first_price_unsaid_is_not_taken_for_a_dear_one() -> None:
    """It goes on saying second price, and returns our own bid as the price: that is a win, and no minimum."""
    rng, bidder = np.random.default_rng(4), AloneBidder()
    for turned in (False, True):
        for _ in range(40):
            bids = rng.integers(200_000, 3_000_000, 50)
            won = bids >= 1_000_000
            paid = bids if turned else np.full(50, 1_000_000)
            bidder.learn(bids, won, None, np.where(won, paid, NOT_TOLD), auction_type=2)
    assert bidder.price(3_000_000.0)[0] == pytest.approx(1_000_000, rel=0.2)
    assert bidder.refused.prices == 0


# ---- what cannot be


def test_bad_numbers_are_refused_counted_and_change_nothing() -> None:
    bidder = AloneBidder(1_000_000_000, 1_000)
    bids = bidder.price([np.nan, -1.0, np.inf, 2e6])
    assert (bids[:3] == 0).all()
    assert 0 < bids[3] <= 2_000_000
    assert bidder.refused.values == 3
    bidder.learn(bids, [False, False, False, True], paid_micros=[0, 0, 0, 10**15])
    assert bidder.refused.prices == 1
    assert bidder.spent_nanos == bids[3]
    bidder.learn([np.nan, -5, 2**60], [True, True, True])
    assert bidder.refused.bids == 3
    assert bidder.spent_nanos == bids[3]
    bidder.learn([0], [True])
    assert bidder.refused.wins_without_bid == 1
    bidder.learn([1_000_000, 1_000_000], [True, False], [1_500_000, 500_000])
    assert bidder.refused.minimums == 2
    assert math.isfinite(bidder.multiplier)


@pytest.mark.parametrize(
    "wrong",
    [
        {"bids": [1, 2], "won": [True]},
        {"bids": [1], "won": [True], "minimum_micros": [1, 2]},
        {"bids": [[1]], "won": [True]},
        {"bids": ["a"], "won": [True]},
        {"bids": [1], "won": [True], "ids": []},
        {"bids": [1], "won": [True], "segment": "adx"},
        {"bids": [[1], [1, 2]], "won": [True, True]},
        {"bids": [1], "won": [True], "segment": 7},
        {"bids": [1], "won": [True], "segment": "x/\ud800"},
        {"bids": [1], "won": [True], "floor_micros": "1"},
        {"bids": [1], "won": [True], "floor_micros": 0.5},
        {"bids": [1], "won": [True], "floor_micros": None},
        {"bids": [1], "won": [True], "auction_type": 4},
        {"bids": [1], "won": [True], "auction_type": "first"},
        {"bids": [1], "won": [True], "values": [[1.0]]},
        {"bids": [1], "won": [True], "values": ["dear"]},
        {"bids": [1], "won": [True], "values": [None]},
        {"bids": [1], "won": [True], "ids": [7]},
        {"bids": [1], "won": [True], "ids": ["\ud800"]},
        {"bids": [1], "won": [True], "ids": "a"},
        {"bids": [1], "won": [True], "ids": 7},
        {"bids": [1, 1], "won": [True, True], "ids": ["a", None]},
        {"bids": [1], "won": [True], "now_s": "noon"},
        {"bids": [1], "won": [True], "shown": [None]},
        {"bids": [1], "won": [True], "shown": [shown(place="\ud800")]},
        {"bids": [1], "won": [True], "shown": [shown(place=7)]},
        {"bids": [1], "won": [True], "shown": [shown(click_rate="1 %")]},
        {"bids": [1], "won": [True], "shown": [shown(exposed=-1)]},
        {"bids": [1], "won": [True], "shown": [shown(person_shown="twice")]},
        {"bids": [1], "won": [True], "shown": [shown(hour_of_week=None)]},
    ],
)
@pytest.mark.parametrize("goal", [None, CLICKS])
def test_rows_that_do_not_belong_together_are_refused_whole(wrong: dict[str, Any], goal: Goal | None) -> None:
    bidder = AloneBidder(10**9, 100, goal=goal)
    n = len(wrong["bids"])
    usual: dict[str, Any] = {
        "ids": [f"b{k}" for k in range(n)],
        "values": [2.0] * n,
        "shown": [shown()] * n,
        "now_s": 1.0,
    }
    before = bidder.snapshot()
    with pytest.raises(RowsRefused):
        bidder.learn(**((usual if goal is not None else {}) | wrong))
    assert bidder.snapshot() == before


@pytest.mark.parametrize("bad", [None, shown(place="\ud800"), shown(line_item=7)])
def test_rows_put_right_after_a_refusal_are_all_learned(bad: Any) -> None:
    bidder, once = AloneBidder(10**9, 100, goal=CLICKS), AloneBidder(10**9, 100, goal=CLICKS)
    rows: dict[str, Any] = {"bids": [100_000] * 2, "won": [True] * 2, "ids": ["a", "b"], "values": [4e6] * 2}
    with pytest.raises(RowsRefused, match=r"shown\[1\]"):
        bidder.learn(**rows, shown=[shown(), bad], now_s=1.0)
    for one in (bidder, once):
        one.learn(**rows, shown=[shown()] * 2, now_s=1.0)
    assert bidder.spent_nanos == 200_000
    assert bidder.snapshot() == once.snapshot()


@pytest.mark.parametrize(
    "wrong",
    [
        {"values": [[1.0, 2.0]]},
        {"values": [[1.0], [1.0, 2.0]]},
        {"values": "dear"},
        {"values": [None]},
        {"segment": None},
        {"floor_micros": "1"},
        {"floor_micros": 999_999.5},
        {"auction_type": 0},
        {"auction_type": None},
        {"explores": 3},
    ],
)
def test_what_cannot_be_priced_is_refused(wrong: dict[str, Any]) -> None:
    bidder = AloneBidder()
    before = bidder.snapshot()
    with pytest.raises(RowsRefused):
        bidder.price(**({"values": [1e6]} | wrong))
    assert bidder.snapshot() == before


def test_clicks_and_orders_of_another_length_or_kind_are_refused_whole() -> None:
    bidder = AloneBidder(goal=TARGET_CPA)
    buy(bidder, "a", 1.0)
    buy(bidder, "b", 2.0)
    bidder.clicked(["b"], 2.0)
    before = bidder.snapshot()
    for ids, at_s in ((["a"], [1.0, 2.0]), (["a", None], 1.0), ("a", 1.0), (["a"], "noon"), (7, 1.0)):
        with pytest.raises(RowsRefused):
            bidder.clicked(ids, at_s)  # type: ignore[arg-type]
        with pytest.raises(RowsRefused):
            bidder.converted(ids, at_s)  # type: ignore[arg-type]
    with pytest.raises(RowsRefused):
        bidder.converted(["b"], 2.0, [1.0, 2.0])
    with pytest.raises(RowsRefused):
        bidder.values([None])  # type: ignore[list-item]
    assert bidder.snapshot() == before


def test_numbers_of_numpy_are_kept_over_a_restart() -> None:
    bidder = AloneBidder(goal=CLICKS)
    whole: Any = np.int64(5)
    said = shown(
        click_rate=np.float64(0.01), exposed=np.int64(1), person_shown=np.int64(1), place=np.str_("p")
    )
    bidder.learn(
        np.array([100_000], np.uint64), np.array([1]), segment=np.str_(SEGMENT), ids=np.array(["a"]).tolist(),
        values=np.array([4e6], np.float32), shown=[said], now_s=np.float64(1.0), floor_micros=whole,
    )  # fmt: skip
    again = AloneBidder(goal=CLICKS)
    again.restore(bidder.snapshot())
    assert again.snapshot() == bidder.snapshot()


def test_a_repeat_moves_nothing_but_its_count() -> None:
    bidder, once = (AloneBidder(10**7, 1_000, goal=CLICKS) for _ in range(2))
    for batch, now_s in enumerate((100.0, 200.0)):
        rows: dict[str, Any] = {
            "bids": [200_000] * 40,
            "won": [True, False] * 20,
            "minimum_micros": [100_000, 300_000] * 20,
            "segment": SEGMENT,
            "ids": [f"{batch}-{k}" for k in range(40)],
            "values": [4e6] * 40,
            "shown": [shown()] * 40,
        }
        once.learn(**rows, now_s=now_s)
        bidder.learn(**rows, now_s=now_s)
        bidder.learn(**rows, now_s=now_s + 90.0)
        assert bidder.refused.repeats == 40 * (batch + 1)
    bidder.refused.repeats = 0
    assert bidder.snapshot() == once.snapshot()
    more: dict[str, Any] = {"values": [4e6] * 3, "shown": [shown()] * 3, "now_s": 500.0}
    bidder.learn([200_000] * 3, [True] * 3, ids=["0-1", "new", "new"], **more)
    once.learn([200_000], [True], ids=["new"], values=[4e6], shown=[shown()], now_s=500.0)
    assert bidder.refused.repeats == 2
    bidder.refused.repeats = 0
    assert bidder.snapshot() == once.snapshot()


def test_a_deal_is_bid_at_its_price_or_not_at_all_and_teaches_no_curve() -> None:
    bidder = AloneBidder(10_000_000, 4)
    rng = np.random.default_rng(1)
    bids = bidder.price([3e6, 2e6, 1e6, np.nan], auction_type=3, floor_micros=2_000_000, explores=rng)
    assert bids.tolist() == [2_000_000, 2_000_000, 0, 0]
    assert bidder.price([3e6], auction_type=3).tolist() == [0]
    before = bidder.price([3e6])[0]
    bidder.learn([2_000] * 400, [True] * 400, auction_type=3, floor_micros=2_000)
    assert bidder.spent_nanos == 800_000
    unlearned = AloneBidder(10_000_000, 4)
    assert msgpack_curves(bidder) == msgpack_curves(unlearned)
    assert bidder.price([3e6 * bidder.multiplier])[0] == pytest.approx(before)
    assert bidder.price([3e6 * bidder.multiplier], auction_type=3, floor_micros=9_300_000).tolist() == [0]


def msgpack_curves(bidder: AloneBidder) -> bytes:
    return bytes(msgspec.msgpack.decode(bidder.snapshot(), type=dict[str, msgspec.Raw])["curves"])


def test_a_goal_says_what_it_needs() -> None:
    with pytest.raises(RowsRefused, match="now_s"):
        AloneBidder(goal=CLICKS).learn([1], [True])
    with pytest.raises(ConfigError, match="goal"):
        AloneBidder().clicked(["b"], 1.0)
    for broken in ({"worth_micros": math.nan}, {"worth_micros": 0}, {"worth_micros": 1, "window_s": 1e9}):
        with pytest.raises(ConfigError):
            Goal(buys=Buys.CLICKS, **broken)
    with pytest.raises(ConfigError, match="buys"):
        Goal(buys="clicks", worth_micros=1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "settled", [(math.nan, math.nan), (1.5, 10), (10, math.inf), (0, 10), (10, 0), (10, 10, math.nan)]
)
def test_settings_that_cannot_be(settled: tuple[Any, ...]) -> None:
    with pytest.raises(ConfigError):
        AloneBidder(*settled)


def test_notices_out_of_order_and_twice() -> None:
    bidder = AloneBidder(goal=CLICKS)
    bidder.clicked(["late", "never-won"], 0.5)  # before their wins
    buy(bidder, "late", 1.0)
    buy(bidder, "late", 1.0)
    assert bidder.refused.repeats == 1
    spent = bidder.spent_nanos
    bidder.clicked(["late"], 2.0)
    bidder.learn(
        [100_000], [False], ids=["late"], values=[1.0], shown=[shown()], now_s=3.0
    )  # lost after it was won
    assert bidder.spent_nanos == spent
    assert bidder.refused.repeats == 2
    once = AloneBidder(goal=CLICKS)
    buy(once, "late", 1.0)
    once.clicked(["late"], 1.0)
    for one in (bidder, once):
        buy(one, "other", 200.0)
        buy(one, "third", 300.0)
    assert bidder.values([shown()]).tolist() == once.values([shown()]).tolist()


def test_conversions_that_cannot_be_are_counted_by_why() -> None:
    bidder = AloneBidder(goal=TARGET_CPA)
    buy(bidder, "b", 100_000.0)
    assert bidder.converted(["b"], 100_001.0) == 0  # before its click
    bidder.clicked(["b"], 100_010.0)
    buy(bidder, "c", 200_000.0)
    assert bidder.converted(["b"], 50_000.0) == 0
    assert bidder.converted(["b"], 100_020.0, math.nan) == 0
    assert bidder.converted(["b", "b"], 100_020.0) == 1
    buy(bidder, "d", 200_000.0 + 90 * 86_400)
    bidder.clicked(["c"], 200_001.0)  # months late itself
    assert bidder.converted(["c", "b"], 200_000.0 + 90 * 86_400) == 0
    counts = bidder.contained
    assert counts.orders_without_click >= 1
    assert counts.orders_before_click == 1
    assert counts.orders_repeated == 1
    assert counts.orders_too_late + counts.orders_without_click >= 3


def test_time_does_not_run_back() -> None:
    bidder = AloneBidder(goal=CLICKS)
    buy(bidder, "a", 100.0)
    buy(bidder, "b", 50.0)
    buy(bidder, "c", math.nan)
    bidder.clicked(["a"], math.inf)
    assert bidder.refused.clocks == 3


@pytest.mark.parametrize("far_s", [1.7e9, 9.9e9])
@pytest.mark.parametrize("goal", [None, CLICKS, TARGET_CPA])
def test_a_clock_that_leaps_stops_nobody(goal: Goal | None, far_s: float) -> None:
    """Seconds since the start, then those of the epoch."""
    bidder = AloneBidder(goal=goal)
    for k, now_s in enumerate((10.0, 100.0, 200.0, far_s, far_s + 100.0, far_s + 200.0)):
        if goal is None:
            bidder.learn([100_000], [True], now_s=now_s)
        else:
            buy(bidder, f"b{k}", now_s)
            bidder.clicked([f"b{k}"], now_s)
    assert bidder.refused.clocks == 0
    again = AloneBidder(goal=goal)
    again.restore(bidder.snapshot())
    assert again.snapshot() == bidder.snapshot()
    if goal is not None:
        assert 0.0 < bidder.values([shown()])[0] < math.inf


# ---- what is not used is counted


def test_whatever_is_not_used_is_counted() -> None:
    bidder = AloneBidder(goal=TARGET_CPA)
    buy(bidder, "a", 1.0)
    bidder.clicked(["a", "a"], 1.0)
    bidder.converted(["a", "a", "a"], 1.0, [math.nan, -1.0, 1e15])
    assert (bidder.refused.clicks, bidder.refused.orders) == (1, 3)
    unlearnable: list[tuple[float, dict[str, Any]]] = [
        (math.nan, {}),
        (0.0, {}),
        (1e300, {}),
        (5.0, {"click_rate": math.nan}),
        (5.0, {"conversion_rate": 0.0, "line_item": "new"}),
    ]
    for k, (value, said) in enumerate(unlearnable):
        bidder.learn([5], [True], ids=[f"n{k}"], values=[value], shown=[shown(**said)], now_s=2.0)
    assert bidder.refused.impressions == 5
    assert bidder.multiplier < 1.1


@pytest.mark.parametrize("won", [math.nan, 2, -1, 0.5, math.inf])
def test_a_row_neither_won_nor_lost_is_no_bid_and_counted(won: float) -> None:
    bidder, no_bid = AloneBidder(10**9, 100), AloneBidder(10**9, 100)
    bidder.learn([1_000_000], [won], [500_000])
    no_bid.learn([0], [0], [500_000])
    assert bidder.refused.outcomes == 1
    assert bidder.spent_nanos == 0
    bidder.refused.outcomes = 0
    assert bidder.snapshot() == no_bid.snapshot()


def test_names_past_their_bound_learn_nothing_and_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(goals, "NAMES_MAX", 3)
    bidder = AloneBidder(goal=CLICKS)
    for k in range(5):
        buy(bidder, f"c{k}", 1.0 + k, campaign=f"c{k}")
        buy(bidder, f"l{k}", 1.0 + k, campaign="c0", line_item=f"l{k}")
    assert bidder.refused.names == 2 + 3  # l itself is one
    again = AloneBidder(goal=CLICKS)
    again.restore(bidder.snapshot())
    buy(again, "more", 10.0, campaign="c4")
    assert again.refused.names == 6


@pytest.mark.parametrize("rate", [0.0, 1.0, math.nan])
def test_a_goal_of_clicks_needs_no_rate_of_orders(rate: float) -> None:
    bidder, usual = AloneBidder(goal=CLICKS), AloneBidder(goal=CLICKS)
    for i in range(600):
        for one, said in ((bidder, rate), (usual, 0.02)):
            buy(one, f"b{i}", 1.0 + i, conversion_rate=said)
            if i % 5 == 0:
                one.clicked([f"b{i}"], 1.0 + i)
    assert bidder.refused.impressions == 0
    assert bidder.values([shown()]) == usual.values([shown()])
    assert bidder.values([shown()])[0] > 2 * AloneBidder(goal=CLICKS).values([shown()])[0]


def test_features_are_learned_of_the_segment_they_are_predicted_for() -> None:
    """``segment`` names the win curve: a child of its own, or another exchange's, moves no click rate elsewhere."""
    bidder, plain = AloneBidder(goal=CLICKS), AloneBidder(goal=CLICKS)
    for i in range(600):
        for one, segment in ((bidder, "other/video/x"), (plain, SEGMENT)):
            one.learn(
                [100_000],
                [True],
                segment=segment,
                ids=[f"b{i}"],
                values=[4e6],
                shown=[shown()],
                now_s=1.0 + i,
            )
            if i % 5 == 0:
                one.clicked([f"b{i}"], 1.0 + i)
    for asked in (shown(), shown(exchange="other", media="video")):
        assert bidder.values([asked]) == plain.values([asked])


def test_without_consent_no_exposure_is_read() -> None:
    reach = AloneBidder(goal=Goal(buys=Buys.REACH, worth_micros=4_000_000))
    assert reach.values([shown(exposed=3), shown(exposed=3, person_shown=3)]).tolist() == [4_000_000, 500_000]


numbers = st.one_of(st.floats(), st.integers(-(2**62), 2**62), st.integers(0, 5_000_000), st.just(NOT_TOLD))
calls = st.lists(
    st.tuples(
        st.lists(st.tuples(numbers, st.booleans(), numbers, numbers, numbers), min_size=1, max_size=4),
        st.floats(),
        st.sampled_from((1, 2, 3)),
    ),
    max_size=8,
)


@settings(max_examples=60, deadline=None)
@given(calls, st.sampled_from((None, CLICKS, TARGET_CPA)))
def test_whatever_it_is_told_it_bids_within_value_and_money(calls: Any, goal: Goal | None) -> None:
    bidder = AloneBidder(50_000_000, 1_000, goal=goal)
    for at, (rows, now_s, auction_type) in enumerate(calls):
        bids, won, minima, paid, values = (list(column) for column in zip(*rows, strict=True))
        ids = [f"{at}-{k}" for k in range(len(rows))]
        bidder.learn(
            bids,
            won,
            minima,
            paid,
            ids=ids,
            values=[float(v) for v in values],
            shown=[shown()] * len(rows),
            now_s=now_s,
            auction_type=auction_type,
        )
        if goal is not None:
            bidder.clicked(ids, [float(p) for p in paid])
            bidder.converted(ids, now_s, [float(v) for v in values])
        assert 1.0 <= bidder.multiplier <= 256.0
        asked = np.array([float(v) for v in values])
        made = bidder.price(asked, auction_type=auction_type, floor_micros=1_000)
        left = max(50_000_000 - bidder.spent_nanos, 0)
        believed = np.where(np.isfinite(asked) & (asked <= PRICE_MICROS_MAX), asked, 0.0)
        assert np.all((made == 0) | ((made >= 1_000) & (made <= believed) & (made <= left)))


# ---- kept


@pytest.mark.parametrize("goal", [None, CLICKS])
def test_restored_it_decides_alike(goal: Goal | None) -> None:
    first, second = (AloneBidder(10**9, 10_000, goal=goal) for _ in range(2))
    rng = np.random.default_rng(5)

    def live(bidder: AloneBidder, at: int, rng: np.random.Generator) -> list[int]:
        seen = [shown(place=f"p{k}") for k in rng.integers(5, size=50)]
        values = rng.lognormal(14.5, 0.5, 50) if goal is None else bidder.values(seen)
        bids = bidder.price(values)
        minimum = rng.integers(500_000, 3_000_000, 50)
        won = (bids >= minimum) & (bids > 0)
        ids = [f"{at}-{k}" for k in range(50)]
        bidder.learn(bids, won, minimum, ids=ids, values=values, shown=seen, now_s=30.0 * (at + 1))
        if goal is not None:
            bidder.clicked([ids[k] for k in np.flatnonzero(won)[::7]], 30.0 * (at + 1))
        return [int(b) for b in bids]

    for at in range(30):
        live(first, at, rng)
    second.restore(first.snapshot())
    assert second.snapshot() == first.snapshot()
    for at in range(30, 40):
        seed = np.random.default_rng(at), np.random.default_rng(at)
        assert live(first, at, seed[0]) == live(second, at, seed[1])
    assert second.snapshot() == first.snapshot()


def test_a_foreign_snapshot_is_refused_and_changes_nothing() -> None:
    bidder = AloneBidder(goal=CLICKS)
    buy(bidder, "b", 1.0)
    before, other = bidder.snapshot(), AloneBidder(goal=TARGET_CPA).snapshot()
    for raw in (b"", b"\x80", before[: len(before) // 2], AloneBidder().snapshot(), other):
        with pytest.raises(ConfigError, match="snapshot"):
            bidder.restore(raw)
    assert bidder.snapshot() == before
