"""A policy is told what the regime tells, when it is told, and nothing else."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import partial

import numpy as np
import pytest

from counterpoint.market.logs.auctions import NO_BUDGET, budget_milli_fen, parse_fraction
from counterpoint.market.logs.feedback import (
    NOT_TOLD,
    BlockView,
    Outcome,
    Part,
    TrainView,
    split,
    told,
    train_view,
)
from counterpoint.market.logs.judge import Run
from counterpoint.market.logs.policies import REGISTRY, ReplayPolicy, make_policy
from counterpoint.market.logs.read import AuctionLog, IntArray
from counterpoint.market.logs.run import live
from counterpoint.market.logs.terms import Auction, Feedback
from tests.market.logs.synthetic import make_log

ROWS = 1_500


def lived(
    policy: ReplayPolicy, log: AuctionLog, auction: Auction, feedback: Feedback, budget: str = "none"
) -> Run:
    train, judged, _ = split(log, ROWS, 0.99)
    money = budget_milli_fen(parse_fraction(budget), judged.market_price)
    policy.fit(
        train_view(
            train, auction, feedback, 300, len(judged), money, 1, policy.tuned_on_prices, time_is_hours=True
        )
    )
    return live(policy, judged, auction, feedback, money)[0]


def with_judged_prices(log: AuctionLog, prices: IntArray) -> AuctionLog:
    return replace(log, market_price=np.concatenate([log.market_price[:ROWS], prices]))


def same_outcomes(log: AuctionLog, run: Run, feedback: Feedback) -> AuctionLog:
    """Another log on which the same bids win and lose the same auctions, and which tells the same under the regime."""
    generator = np.random.default_rng(4)
    hidden = generator.integers(1, 100, len(run.bid))
    lost = run.bid + hidden
    won = np.maximum(run.bid - hidden, 0) if feedback is Feedback.BINARY else log.market_price[ROWS:]
    return with_judged_prices(log, np.where(run.won, won, lost))


def notices(name_or_policy: str | ReplayPolicy, feedback: Feedback) -> bool:
    """Whether a policy bids otherwise when only what it must not know is changed (first price, no budget)."""
    log = make_log(2 * ROWS, seed=11)

    def policy() -> ReplayPolicy:
        return make_policy(name_or_policy) if isinstance(name_or_policy, str) else name_or_policy

    before = lived(policy(), log, Auction.FIRST, feedback)
    other = same_outcomes(log, before, feedback)
    if isinstance(name_or_policy, Peeker):
        name_or_policy.stolen = other.market_price[ROWS:]
    after = lived(policy(), other, Auction.FIRST, feedback)
    return not np.array_equal(before.bid, after.bid)


class Peeker(ReplayPolicy):
    """Has got hold of the prices and moves each bid by the price of the auction before."""

    name = "peeker"
    block_rows = 1

    def __init__(self, log: AuctionLog) -> None:
        self.stolen = log.market_price[ROWS:]

    def fit(self, train: TrainView) -> None:
        self._bid = 50

    def bid_block(self, block: BlockView) -> IntArray:
        seen = int(self.stolen[block.first_row - 1]) if block.first_row else 0
        return np.full(len(block), self._bid + seen % 7, dtype=np.int64)


class Follower(ReplayPolicy):
    """Moves its bid by what it is told: fine under FULL, blind under BINARY."""

    name = "follower"
    block_rows = 1

    def fit(self, train: TrainView) -> None:
        self._bid = 50

    def bid_block(self, block: BlockView) -> IntArray:
        return np.full(len(block), self._bid, dtype=np.int64)

    def observe(self, block: BlockView, outcome: Outcome) -> None:
        self._bid = 50 + int(outcome.minimum_to_win[0]) % 7


@pytest.mark.parametrize("feedback", [Feedback.WIN, Feedback.BINARY])
@pytest.mark.parametrize("name", sorted(set(REGISTRY) - {"linear-hindsight"}))
def test_what_is_hidden_moves_no_bid(name: str, feedback: Feedback) -> None:
    assert not notices(name, feedback)


def test_a_policy_that_peeks_is_caught() -> None:
    assert notices(Peeker(make_log(2 * ROWS, seed=11)), Feedback.BINARY)
    assert notices(Peeker(make_log(2 * ROWS, seed=11)), Feedback.WIN)
    assert not notices(Follower(), Feedback.BINARY)


def test_what_is_told_does_move_bids() -> None:
    """The check above has power: with prices told, ours and the follower react to them."""
    log = make_log(2 * ROWS, seed=11)
    for make in (partial(make_policy, "counterpoint"), Follower):
        before = lived(make(), log, Auction.FIRST, Feedback.FULL)
        after = lived(make(), same_outcomes(log, before, Feedback.BINARY), Auction.FIRST, Feedback.FULL)
        assert not np.array_equal(before.bid, after.bid)


@pytest.mark.parametrize("name", sorted(set(REGISTRY) - {"linear-hindsight"}))
@pytest.mark.parametrize("feedback", list(Feedback))
def test_no_bid_knows_the_future(name: str, feedback: Feedback) -> None:
    log = make_log(2 * ROWS, seed=12)
    now = 500  # a block begins there for every policy
    prices = log.market_price[ROWS:].copy()
    np.random.default_rng(1).shuffle(prices[now:])  # the same sum: the budget is known beforehand, and equal
    before = lived(make_policy(name), log, Auction.SECOND, feedback, "1/4")
    after = lived(make_policy(name), with_judged_prices(log, prices), Auction.SECOND, feedback, "1/4")
    step = make_policy(name).block_rows or now
    assert now % step == 0
    assert before.bid[:now].any()
    assert np.array_equal(before.bid[:now], after.bid[:now])


def test_only_a_declared_baseline_sees_train_prices() -> None:
    train, _, _ = split(make_log(2 * ROWS), ROWS, 0.99)
    for feedback in Feedback:
        view = train_view(train, Auction.FIRST, feedback, 300, ROWS, NO_BUDGET, 1, False, time_is_hours=True)
        assert view.market_price is None
    for name in ("counterpoint", "counterpoint-frozen", "truthful", "random"):
        assert not make_policy(name).tuned_on_prices
    assert [name for name in REGISTRY if make_policy(name).looks_ahead] == ["linear-hindsight"]


def test_each_regime_tells_its_own() -> None:
    bid, won = np.array([50, 50, 0, 60]), np.array([True, False, False, True])
    price = np.array([40, 70, 10, 60])
    assert told(Feedback.FULL, bid, won, price).tolist() == [40, 70, NOT_TOLD, 60]
    assert told(Feedback.WIN, bid, won, price).tolist() == [40, NOT_TOLD, NOT_TOLD, 60]
    assert told(Feedback.BINARY, bid, won, price).tolist() == [NOT_TOLD] * 4


def test_what_is_handed_out_holds_no_way_back_to_the_log() -> None:
    train, judged, _ = split(make_log(2 * ROWS), ROWS, 0.99)
    view = train_view(train, Auction.SECOND, Feedback.WIN, 300, ROWS, 1_000, 1, False, time_is_hours=True)
    for given in (judged.block(0, 100, 1_000), view, view.logged):
        for field in fields(given):
            value = getattr(given, field.name)
            if isinstance(value, np.ndarray):
                assert value.base is None, field.name
    block = judged.block(0, 100, 1_000)
    block.value[:] = 0.0  # a policy that writes into what it was given spoils only its own copy
    assert judged.value[:100].any()


def test_logged_bids_explore_and_tell_as_the_regime_does() -> None:
    train, _, _ = split(make_log(2 * ROWS), ROWS, 0.99)
    view = train_view(train, Auction.SECOND, Feedback.WIN, 300, ROWS, NO_BUDGET, 1, False, time_is_hours=True)
    logged = view.logged
    assert 1 <= int(logged.bid.min()) <= 3
    assert 250 <= int(logged.bid.max()) <= 300
    assert np.array_equal(logged.minimum_to_win != NOT_TOLD, logged.won)
    assert logged.won.any()
    assert not logged.won.all()


def test_the_hard_stop_ends_bids_and_news() -> None:
    class Greedy(Follower):
        name = "greedy"
        block_rows = 10
        told_of = 0

        def bid_block(self, block: BlockView) -> IntArray:
            assert block.left_milli_fen > 0
            return np.full(len(block), 300, dtype=np.int64)

        def observe(self, block: BlockView, outcome: Outcome) -> None:
            Greedy.told_of += len(block)

    log = make_log(2 * ROWS)
    _, judged, _ = split(log, ROWS, 0.99)
    policy = Greedy()
    train, _, _ = split(log, ROWS, 0.99)
    policy.fit(
        train_view(train, Auction.FIRST, Feedback.FULL, 300, ROWS, 3_000, 1, False, time_is_hours=True)
    )
    run, stopped_at = live(policy, judged, Auction.FIRST, Feedback.FULL, 3_000)
    assert int(run.paid.sum()) == 3_000
    assert stopped_at == 10
    assert not run.bid[10:].any()
    assert Greedy.told_of == 10


def test_a_policy_that_bids_nonsense_is_stopped() -> None:
    class Negative(Follower):
        name = "negative"

        def bid_block(self, block: BlockView) -> IntArray:
            return np.full(len(block), -1, dtype=np.int64)

    log = make_log(2 * ROWS)
    _, judged, _ = split(log, ROWS, 0.99)
    with pytest.raises(AssertionError, match="negative bid"):
        live(Negative(), judged, Auction.FIRST, Feedback.FULL, 1_000)


def test_values_are_scaled_and_capped_by_the_train_part_alone() -> None:
    log = make_log(2 * ROWS)
    train, judged, cap = split(log, ROWS, 0.99)
    assert cap == float(np.quantile(log.pctr[:ROWS], 0.99))
    assert float(train.value.mean()) == pytest.approx(100.0)
    assert float(judged.capped.max()) <= cap
    changed = replace(log, pctr=np.concatenate([log.pctr[:ROWS], np.full(ROWS, 0.9)]))
    assert np.array_equal(split(changed, ROWS, 0.99)[0].value, train.value)
    assert isinstance(judged, Part)
