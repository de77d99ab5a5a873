"""The Bidding agent alone and its money: what the first calls may cost, one period after another, floors, curves to ask for."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from counterpoint.base.errors import ConfigError
from counterpoint.bidding.alone import AloneBidder, RowsRefused

UNIT = 1_000_000  # micros CPM in a unit CPM, and nanos of one impression at it


def played(
    bidder: AloneBidder,
    budget: int,
    auctions: int,
    batch: int,
    seed: int,
    scale: int = 1,
    batches: int | None = None,
) -> tuple[float, int, int]:
    """(value won, spent, spent in the first batch), rivals lognormal, in the units of ``scale``."""
    rng, value, spent, first = np.random.default_rng(seed), 0.0, 0, -1
    for _ in range(auctions // batch if batches is None else batches):
        values = rng.lognormal(1.2, 0.5, batch) * UNIT * scale
        minimum = (rng.lognormal(0.5, 0.6, batch) * UNIT * scale).astype(np.int64)
        bids = bidder.price(values)
        bids = np.where(np.cumsum(np.where(bids >= minimum, bids, 0)) <= budget - spent, bids, 0)
        won = (bids > 0) & (bids >= minimum)
        bidder.learn(bids, won, minimum)
        value += float(values[won].sum()) / UNIT / scale
        spent += int(bids[won].sum())
        first = spent if first < 0 else first
    return value, spent, first


# ---- the first calls


@pytest.mark.parametrize("seed", range(3))
def test_a_large_first_batch_does_not_burn_the_money(seed: int) -> None:
    budget = 20_000 * UNIT
    bidder = AloneBidder(budget, 100_000)
    value, spent, first = played(bidder, budget, 100_000, 5_000, seed)
    assert first < 0.15 * budget
    assert spent > 0.97 * budget
    assert value > 85_000  # 91,500 in batches of 50


@pytest.mark.parametrize("batch", [1, 50, 500])
def test_prices_beyond_any_share_of_the_budget_are_paid_one_by_one(batch: int) -> None:
    budget = 4_000 * UNIT
    value, spent, first = played(AloneBidder(budget, 20_000), budget, 20_000, batch, seed=0, scale=100)
    assert first < 0.15 * budget
    assert spent > 0.9 * budget
    assert value > 450  # of about 630; 54 when the first batch took it all


def test_calls_before_the_first_outcome_share_one_allowance() -> None:
    budget = 20_000 * UNIT
    bidder = AloneBidder(budget, 100_000)
    bids = [bidder.price(np.full(10, 4.0 * UNIT)).sum() for _ in range(500)]
    assert 0 < sum(bids) <= 3 * budget * 5_000 // 100_000
    whole = AloneBidder(budget, 100_000)
    again = AloneBidder(budget, 100_000)
    whole.price(np.full(1_000, 4.0 * UNIT))
    again.restore(whole.snapshot())
    assert again.price(np.full(9, 4.0 * UNIT)).tolist() == whole.price(np.full(9, 4.0 * UNIT)).tolist()


def test_one_bid_a_deal_is_made_when_the_plan_has_released_it() -> None:
    bidder, made = AloneBidder(10 * UNIT, 1_000), 0
    while bidder.price(3e6, auction_type=3, floor_micros=2 * UNIT)[0] == 0:
        made += 1
    assert made == 66  # a third of its 200 rows, and no outcome was told


def test_without_a_budget_nothing_is_held() -> None:
    assert (AloneBidder().price(np.full(5_000, 4e6)) == 3_200_000).all()


def test_past_its_auctions_it_spends_what_is_left() -> None:
    """As if another 0.2 % of them were to come: at lambda 1 in the end."""
    budget = 4_000 * UNIT
    bidder = AloneBidder(budget, 1_000)
    spent = played(bidder, budget, 1_000, 50, seed=2)[1]
    assert spent < 0.5 * budget  # there was not more to buy at lambda 1
    more = played(bidder, budget - spent, 1_000, 50, seed=3, batches=100)[1]
    assert bidder.multiplier == 1.0
    assert 0.99 * budget < spent + more == bidder.spent_nanos <= budget


# ---- one period after another


def test_a_second_period_has_its_own_money_and_all_that_was_learned() -> None:
    budget, auctions = 4_000 * UNIT, 20_000
    bidder = AloneBidder(budget, auctions)
    first = played(bidder, budget, auctions, 50, seed=1)[0]
    assert bidder.spent_nanos > 0.99 * budget
    before = bidder.win_rate([1e6, 2e6])
    again = AloneBidder(budget, auctions)
    again.restore(bidder.snapshot())
    for one in (bidder, again):
        one.new_period(budget, auctions)
        assert one.spent_nanos == 0
    assert again.multiplier == bidder.multiplier
    assert 2.2 < bidder.multiplier < 4.5  # 2.6 to 3.4 in steady state
    assert bidder.win_rate([1e6, 2e6]).tolist() == before.tolist()
    values = [
        played(one, budget, auctions, 50, seed=2) for one in (bidder, again, AloneBidder(budget, auctions))
    ]
    assert values[0] == values[1]
    assert values[0][0] > 0.99 * values[2][0]
    assert values[0][0] > 0.95 * first
    assert bidder.spent_nanos == values[0][1] > 0.97 * budget


@pytest.mark.parametrize(("factor", "share"), [(4.0, 1.0), (0.25, 1.0), (1.0, 0.5), (1.0, 3.0)])
def test_lambda_starts_a_period_at_its_budget_per_auction(factor: float, share: float) -> None:
    budget, auctions = 4_000 * UNIT, 20_000
    bidder = AloneBidder(budget, auctions)
    played(bidder, budget, auctions, 50, seed=1, batches=300)
    bidder.new_period(budget, auctions)
    usual = bidder.multiplier
    bidder.new_period(round(budget * factor * share), round(auctions * share))
    assert bidder.multiplier == pytest.approx(max(usual * factor ** (-1 / 1.5), 1.0), rel=1e-6)


def test_a_snapshot_of_a_longer_period_goes_on_in_a_shorter_one() -> None:
    budget, auctions = 4_000 * UNIT, 20_000
    bidder, shorter = AloneBidder(budget, auctions), AloneBidder(budget // 4, auctions // 4)
    played(bidder, budget, auctions, 50, seed=1, batches=300)
    shorter.restore(bidder.snapshot())
    for one in (bidder, shorter):
        one.new_period(budget // 4, auctions // 4)
    assert shorter.multiplier == pytest.approx(bidder.multiplier)


@pytest.mark.parametrize("wrong", [(0, 10), (10, 0), (1.5, 10), ("4", 10), (None, 10), (10, None)])
def test_a_period_that_cannot_be_changes_nothing(wrong: tuple[Any, Any]) -> None:
    bidder = AloneBidder(10**9, 100)
    bidder.learn([10**6], [True])
    before = bidder.snapshot()
    with pytest.raises(ConfigError):
        bidder.new_period(*wrong)
    assert bidder.snapshot() == before
    with pytest.raises(AttributeError):
        bidder.spent_nanos = 0  # type: ignore[misc]


# ---- settings


@pytest.mark.parametrize(
    ("said", "named"),
    [
        ({"budget_nanos": 10**9}, "auctions is None"),
        ({"budget_nanos": "4"}, "budget_nanos is '4'"),
        ({"budget_nanos": 4e9, "auctions": 10}, "budget_nanos is 4000000000.0"),
        ({"budget_nanos": 10**9, "auctions": 0.5}, "auctions is 0.5"),
        ({"auctions": "many"}, "auctions is 'many'"),
        ({"lowest": "1"}, "lowest is '1'"),
        ({"lowest": math.nan}, "lowest is nan"),
        ({"goal": "clicks"}, "goal is 'clicks'"),
    ],
)
def test_the_constructor_names_what_cannot_be(said: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        AloneBidder(**said)


def test_explores_is_a_generator() -> None:
    with pytest.raises(RowsRefused, match="default_rng"):
        AloneBidder().price(1e6, explores=7)  # type: ignore[arg-type]


# ---- floors by row, curves to ask for


def test_floors_may_be_one_a_row() -> None:
    floors = np.array([0, 1_700_000, 1_900_000, 2_100_000])
    bidder, one = AloneBidder(), AloneBidder()
    assert bidder.price(np.full(4, 2e6), floor_micros=floors).tolist() == [1_600_000, 1_700_000, 1_900_000, 0]
    assert bidder.price([3e6, 3e6], auction_type=3, floor_micros=[1_000_000, 4_000_000]).tolist() == [
        1_000_000,
        0,
    ]
    for _ in range(30):
        bidder.learn([2_000_000] * 4, [True] * 4, [1_000_000] * 4, floor_micros=np.array([0, 10, 0, 10]))
        for k in range(4):
            one.learn([2_000_000], [True], [1_000_000], floor_micros=(0, 10, 0, 10)[k])
    assert bidder.win_rate([1_100_000]) == pytest.approx(one.win_rate([1_100_000]), abs=0.02)
    bidder.learn([], [], floor_micros=[])


@pytest.mark.parametrize(
    "floors", [[1], [1, 2, 3], [1.0, 2.0], [-1, 0], [0, 10**18], ["a", "b"], [[1, 2]], [None, 1]]
)
def test_floors_that_cannot_be_are_refused_whole(floors: Any) -> None:
    bidder = AloneBidder(10**9, 100)
    before = bidder.snapshot()
    with pytest.raises(RowsRefused, match="floor_micros"):
        bidder.price([1e6, 1e6], floor_micros=floors)
    with pytest.raises(RowsRefused, match="floor_micros"):
        bidder.learn([10**6] * 2, [True] * 2, ids=["a", "b"], floor_micros=floors)
    assert bidder.snapshot() == before


def test_the_chance_to_win_can_be_asked_for() -> None:
    bidder, rng = AloneBidder(), np.random.default_rng(2)
    assert np.isnan(bidder.win_rate([1e6, 2e6])).all()
    for _ in range(100):
        minimum = (rng.lognormal(0.5, 0.6, 50) * UNIT).astype(np.int64)
        bids = rng.integers(500_000, 4_000_000, 50)
        bidder.learn(bids, bids >= minimum, minimum, segment="x/banner")
    rates = bidder.win_rate([0, 1e6, math.exp(0.5) * 1e6, 4e6, 1e12, -1, math.nan], "x/banner")
    assert rates[:5] == pytest.approx([0.0, 0.202, 0.5, 0.93, 1.0], abs=0.03)
    assert np.isnan(rates[5:]).all()
    assert bidder.win_rate(1e6, "other/banner") == pytest.approx(rates[1:2], abs=0.03)  # by their parent
    with pytest.raises(RowsRefused, match="segment"):
        bidder.win_rate([1e6], "banner")


def test_a_period_may_bring_a_budget_where_there_was_none() -> None:
    bidder = AloneBidder()
    bidder.new_period(10**9, 100)
    assert bidder.multiplier == 1.0
    assert bidder.price(1e6).tolist() == [800_000]


@pytest.mark.parametrize("charges", [1.0, 0.98])
def test_a_first_price_sold_as_a_second_teaches_the_lone_bidder_no_minimum(charges: float) -> None:
    bidder, rng = AloneBidder(), np.random.default_rng(2)
    for _ in range(60):
        bids = (rng.lognormal(14.0, 0.5, 20)).astype(int)
        paid = (bids * charges).astype(int) // 100 * 100
        bidder.learn(bids, np.ones(20), paid_micros=paid, auction_type=2)
    assert bidder._curves.second.doubted >= 1_180
