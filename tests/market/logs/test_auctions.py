from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.base.errors import ConfigError
from counterpoint.market.logs.auctions import NO_BUDGET, budget_milli_fen, parse_fraction, settle
from counterpoint.market.logs.read import IntArray

PRICES = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)), min_size=1, max_size=60)


def settled(
    bids: list[int], prices: list[int], second: bool, budget: int
) -> tuple[IntArray, IntArray, IntArray, int]:
    n = len(bids)
    bid, won, paid = np.zeros(n, np.int64), np.zeros(n, np.bool_), np.zeros(n, np.int64)
    left = settle(np.array(bids), np.array(prices), second, budget, bid, won, paid)
    return bid, won.astype(np.int64), paid, left


def test_second_price_pays_the_market_and_first_the_bid() -> None:
    bid, won, paid, left = settled([50, 50, 50, 0], [49, 50, 51, 0], True, 1_000)
    assert (bid.tolist(), won.tolist(), paid.tolist(), left) == (
        [50, 50, 50, 0],
        [1, 1, 0, 0],
        [49, 50, 0, 0],
        901,
    )
    _, won, paid, left = settled([50, 50, 50, 0], [49, 50, 51, 0], False, 1_000)
    assert (won.tolist(), paid.tolist(), left) == ([1, 1, 0, 0], [50, 50, 0, 0], 900)


def test_a_bid_is_cut_to_what_is_left() -> None:
    bid, won, paid, left = settled([60, 60, 60], [50, 30, 10], True, 80)
    assert (bid.tolist(), won.tolist(), paid.tolist(), left) == ([60, 30, 0], [1, 1, 0], [50, 30, 0], 0)


@settings(deadline=None, max_examples=200)
@given(rows=PRICES, second=st.booleans(), budget=st.integers(0, 6_000))
def test_no_budget_is_overspent_and_no_price_is_above_its_bid(
    rows: list[tuple[int, int]], second: bool, budget: int
) -> None:
    bids, prices = [row[0] for row in rows], [row[1] for row in rows]
    bid, won, paid, left = settled(bids, prices, second, budget)
    assert left == budget - int(paid.sum()) >= 0
    assert np.all(bid <= bids)
    assert np.all(paid <= bid)
    assert np.all((won == 1) == ((bid > 0) & (bid >= prices)))
    assert np.all(paid[won == 0] == 0)
    expected = np.array(prices) if second else bid
    assert np.all(paid[won == 1] == expected[won == 1])


@settings(deadline=None, max_examples=100)
@given(rows=PRICES, budget=st.integers(0, 6_000), cut=st.integers(0, 60))
def test_blocks_settle_as_the_whole_does(rows: list[tuple[int, int]], budget: int, cut: int) -> None:
    bids, prices = [row[0] for row in rows], [row[1] for row in rows]
    whole = settled(bids, prices, False, budget)
    *first, left = settled(bids[:cut], prices[:cut], False, budget)
    *second, left = settled(bids[cut:], prices[cut:], False, left)
    for a, b, c in zip(whole[:3], first, second, strict=True):
        assert a.tolist() == [*b.tolist(), *c.tolist()]
    assert left == whole[3]


def test_a_budget_is_an_exact_share_rounded_down() -> None:
    prices = np.array([10, 20, 33])
    assert budget_milli_fen(Fraction(1, 16), prices) == 3
    assert budget_milli_fen(Fraction(1), prices) == 63
    assert budget_milli_fen(None, prices) == NO_BUDGET


@pytest.mark.parametrize("text", ["0", "-1/4", "17/16", "a lot", "1/0", "nan", "inf", ""])
def test_a_fraction_that_is_none(text: str) -> None:
    with pytest.raises(ConfigError, match="give 1/16"):
        parse_fraction(text)
