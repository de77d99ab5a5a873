"""What a player may not do: know the world by its seed, write into what is settled, change the facts, answer nonsense."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from counterpoint.base.errors import AnswerRefused
from counterpoint.bench.market.answers import BID_MICROS_MAX, checked
from counterpoint.bench.market.baselines.ladder import LADDER
from counterpoint.bench.market.driver import Game, Run, play, policy_seed
from counterpoint.bench.market.facts import Facts, Floats
from counterpoint.bench.market.policy import Answers, Books, Feedback, Requests
from counterpoint.bench.market.statistics import score
from counterpoint.market.house import House
from counterpoint.market.world import World
from tests.bench.market.small import facts, small, world_of


class Honest:
    name = "honest"

    def __init__(self) -> None:
        self.policy = LADDER["tools"](None)

    def begin(self, facts: Facts, seed: int) -> None:
        self.facts, self.seed = facts, seed
        self.policy.begin(facts, seed)

    def split(self, day: int) -> Floats | None:
        return self.policy.split(day)

    def decide(self, requests: Requests, books: Books) -> Answers:
        return self.policy.decide(requests, books)

    def learn(self, feedback: Feedback) -> None:
        self.policy.learn(feedback)


def _same(one: Run, other: Run) -> None:
    for name in one.tally.__struct_fields__:
        assert np.array_equal(getattr(one.tally, name), getattr(other.tally, name)), name
    assert (one.reach, one.refused, one.out_of_money) == (other.reach, other.refused, other.out_of_money)


def test_the_seed_a_policy_gets_makes_another_world() -> None:
    policy = Honest()
    play(world_of(seed=3), policy)
    assert policy.seed == policy_seed(3) != 3
    rebuilt, world = World(small(), policy.seed), world_of(seed=3)
    assert not np.array_equal(rebuilt.batch(0, 50).user, world.batch(0, 50).user)
    seeds = {policy_seed(k) for k in range(1_000)}
    assert len(seeds) == 1_000
    assert min(seeds) > 10**9, "none can be taken for a scenario's seed"
    assert max(seeds) < 2**63


def test_writing_into_the_request_changes_nothing() -> None:
    class Scribbler(Honest):
        def decide(self, requests: Requests, books: Books) -> Answers:
            answers = super().decide(requests, books)
            kept = [getattr(requests.auctions, name) for name in requests.auctions.__struct_fields__]
            for column in (*kept, requests.formats, requests.open, books.left_nanos, books.budget_nanos):
                column[:] = 1
            return answers

        def learn(self, feedback: Feedback) -> None:
            pass  # it would learn from what it wrote

    class Deaf(Honest):
        def learn(self, feedback: Feedback) -> None:
            pass

    _same(play(world_of(), Deaf()), play(world_of(), Scribbler()))


def test_no_array_of_a_request_or_feedback_shows_more_than_its_batch() -> None:
    class Looker(Honest):
        def decide(self, requests: Requests, books: Books) -> Answers:
            for part in (requests.auctions, requests, books):
                _look(part)
            return super().decide(requests, books)

        def learn(self, feedback: Feedback) -> None:
            _look(feedback)
            _look(feedback.events)
            super().learn(feedback)

    def _look(part: msgspec.Struct) -> None:
        for name in part.__struct_fields__:
            column = getattr(part, name)
            if isinstance(column, np.ndarray):
                assert column.base is None, name

    play(world_of(), Looker())


def test_facts_are_read_only_and_each_policy_has_its_own() -> None:
    world = world_of()
    given = facts(world)

    class Richer(Honest):
        """Makes its own writable again, and gives itself ten times the budget and no ceiling."""

        def begin(self, facts: Facts, seed: int) -> None:
            with pytest.raises(ValueError, match="read-only"):
                facts.day_budget_nanos[:] = 1
            for name in facts.__struct_fields__:
                if isinstance(getattr(facts, name), np.ndarray):
                    assert not np.shares_memory(getattr(facts, name), getattr(given, name)), name
            for array in (facts.day_budget_nanos, facts.ceiling_micros):
                array.setflags(write=True)
                array *= 10
            super().begin(facts, seed)

    before = given.day_budget_nanos.copy()
    run = play(world, Richer(), given)
    assert np.array_equal(given.day_budget_nanos, before)
    assert (run.tally.budget.sum(axis=1) <= given.pool_nanos).all()
    assert score(run).overspend == 0.0
    assert not np.shares_memory(given.creative_from_ns, world.design.from_ns)
    _same(play(world, Honest(), given), play(world, Honest()))


def test_who_was_told_the_truth_stays_marked() -> None:
    class Hider(Honest):
        reveal: Any = lambda self, *truth: delattr(Hider, "reveal")

    assert play(world_of(), Hider()).oracle


# ---- answers

N, CREATIVES, CAMPAIGNS = 3, 5, 2


def answers(**change: Any) -> Answers:
    one = Answers(creative=np.array([[0], [4], [-1]]), bid_micros=np.array([[10], [20], [0]]))
    return msgspec.structs.replace(one, **change)


WRONG: dict[str, tuple[Any, str]] = {
    "nothing": (None, "NoneType; return Answers"),
    "lists": (answers(creative=[[0], [1], [2]]), "creative is a list"),
    "fractions": (answers(bid_micros=np.full((3, 1), 1.5)), "bid_micros is an array of float64"),
    "no numbers": (answers(bid_micros=np.full((3, 1), np.nan)), "whole numbers"),
    "yes and no": (answers(bid_micros=np.ones((3, 1), dtype=np.bool_)), "bid_micros is an array of bool"),
    "too long for int64": (
        answers(bid_micros=np.full((3, 1), 2**63 + 1, dtype=np.uint64)),
        "more than int64 can",
    ),
    "a bid beyond every ceiling": (answers(bid_micros=np.full((3, 1), 2**62)), f"from 0 to {BID_MICROS_MAX}"),
    "a bid below 0": (answers(bid_micros=np.full((3, 1), -1)), "bid_micros holds -1"),
    "no such creative": (answers(creative=np.full((3, 1), 5)), "creative holds 5; give numbers from -1 to 4"),
    "a creative far away": (answers(creative=np.full((3, 1), 10**12)), "creative holds 1000000000000"),
    "a creative below -1": (answers(creative=np.full((3, 1), -2)), "creative holds -2"),
    "flat": (answers(creative=np.zeros(3, dtype=int)), r"creative has the shape \(3,\)"),
    "a row too few": (answers(creative=np.zeros((2, 1), dtype=int)), "each of the 3 auctions"),
    "no alternative": (answers(creative=np.zeros((3, 0), dtype=int)), "1 to 8 alternatives"),
    "nine alternatives": (answers(creative=np.zeros((3, 9), dtype=int)), "1 to 8 alternatives"),
    "other shapes": (answers(bid_micros=np.ones((3, 2), dtype=int)), "each alternative a bid"),
    "a short limit": (answers(limit_nanos=np.array([1])), "one for each of 2 campaigns"),
    "no limit": (answers(limit_nanos=np.full(2, np.nan)), "limit_nanos is an array of float64"),
    "a flat split": (answers(split=np.ones((2, 1))), r"float64 of shape \(2, 1\)"),
    "an endless split": (answers(split=np.full(2, 1e308)), "sum of it, is not finite"),
    "a split of nothing": (answers(split=np.zeros(2)), "sums to 0"),
    "a split with a debt": (answers(split=np.array([2.0, -1.0])), "from -1"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_an_answer_that_cannot_be_settled_is_refused_by_name(wrong: str) -> None:
    given, told = WRONG[wrong]
    with pytest.raises(AnswerRefused, match=f"policy 'guest'.*{told}"):
        checked(given, "guest", N, CREATIVES, CAMPAIGNS)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint64, np.int64])
def test_any_whole_numbers_will_do_and_are_copied(dtype: Any) -> None:
    creative, bid = np.array([[0, 1], [2, 3], [4, 0]], dtype=dtype), np.full((2, 3), 9, dtype=dtype).T
    limit, split = np.array([7, 8], dtype=dtype), np.array([1, 3], dtype=dtype)
    given = Answers(creative=creative, bid_micros=bid, limit_nanos=limit, split=split)
    made = checked(given, "guest", N, CREATIVES, CAMPAIGNS)
    for name in ("creative", "bid_micros", "limit_nanos"):
        column = getattr(made, name)
        assert column.dtype == np.int64
        assert column.flags.c_contiguous
        assert not np.shares_memory(column, getattr(given, name))
        assert np.array_equal(column, getattr(given, name))
    assert made.split is not None
    assert made.split.tolist() == [0.25, 0.75]


def test_a_run_ends_with_the_name_of_who_answered_nonsense() -> None:
    class Beyond(Honest):
        name = "beyond"

        def decide(self, requests: Requests, books: Books) -> Answers:
            n, count = len(requests.auctions), self.facts.creative_campaign.size
            return Answers(creative=np.full((n, 1), count), bid_micros=np.ones((n, 1), dtype=np.int64))

    with pytest.raises(AnswerRefused, match="policy 'beyond': creative holds"):
        play(world_of(), Beyond())


def test_the_arrays_of_an_answer_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever keeps what it answered cannot change it after the money is counted."""

    class Keeper(Honest):
        def decide(self, requests: Requests, books: Books) -> Answers:
            self.kept = super().decide(requests, books)
            return self.kept

    policy = Keeper()
    game = Game(world_of(), policy)
    auctions = game.world.batch(0, 200)
    change: Callable[..., Any] = game._settle

    def settled(*arguments: Any) -> Any:
        out = change(*arguments)
        policy.kept.creative[:] = -1
        policy.kept.bid_micros[:] = 0
        return out

    monkeypatch.setattr(game, "_settle", settled)
    game.step(auctions, game.world.truth(auctions))
    assert game.total("bids").sum() > 0


# ---- the auction house


def test_the_house_holds_an_auction_once_and_hands_out_copies() -> None:
    house = House(world_of())
    auctions = house.batch(0, 50)
    auctions.auction_type[:] = 0
    auctions.user[:] = 0
    fresh = world_of().batch(0, 50)
    assert np.array_equal(house._auctions.user, fresh.user)
    house.hold(7, [(0, 1_000_000, None)])
    with pytest.raises(AssertionError, match="held once"):
        house.hold(7, [(0, 2_000_000, None)])
    house.close()
    house.batch(50, 50)
    house.hold(7, [(0, 1_000_000, None)])
