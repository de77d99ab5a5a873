"""The Bidding agent without the system: the example learns, and whatever it is told is contained and counted."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.base.errors import ConfigError
from counterpoint.base.money import PRICE_MICROS_MAX
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
    ],
)
def test_rows_that_do_not_belong_together_are_refused_whole(wrong: dict[str, Any]) -> None:
    bidder = AloneBidder(10**9, 100)
    before = bidder.snapshot()
    with pytest.raises(RowsRefused):
        bidder.learn(**wrong)
    assert bidder.snapshot() == before


def test_a_goal_says_what_it_needs() -> None:
    with pytest.raises(RowsRefused, match="now_s"):
        AloneBidder(goal=CLICKS).learn([1], [True])
    with pytest.raises(ConfigError, match="goal"):
        AloneBidder().clicked(["b"], 1.0)
    for broken in ({"worth_micros": math.nan}, {"worth_micros": 0}, {"worth_micros": 1, "window_s": 1e9}):
        with pytest.raises(ConfigError):
            Goal(buys=Buys.CLICKS, **broken)


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


numbers = st.one_of(st.floats(), st.integers(-(2**62), 2**62), st.integers(0, 5_000_000), st.just(NOT_TOLD))
calls = st.lists(
    st.tuples(
        st.lists(st.tuples(numbers, st.booleans(), numbers, numbers, numbers), min_size=1, max_size=4),
        st.floats(),
        st.sampled_from((1, 2)),
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
    before = bidder.snapshot()
    for raw in (b"", b"\x80", before[: len(before) // 2], AloneBidder().snapshot()):
        with pytest.raises(ConfigError, match="snapshot"):
            bidder.restore(raw)
    assert bidder.snapshot() == before
