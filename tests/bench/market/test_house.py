"""The auction house, one auction at a time, against the driver's arrays: the same bids, the same world, the same truth."""

from __future__ import annotations

import numpy as np
import pytest

from counterpoint.bench.market.baselines.ladder import LADDER
from counterpoint.bench.market.driver import Run, play
from counterpoint.bench.market.facts import Facts, Floats, warm_up_days
from counterpoint.bench.market.policy import CLICK as TOLD_CLICK
from counterpoint.bench.market.policy import Answers, Books, Feedback, Policy, Requests
from counterpoint.market.house import CLICK, CONVERSION, IMPRESSION, SKIP, Happening, House
from counterpoint.market.tally import Tally
from counterpoint.market.world import World
from tests.bench.market.small import world_of


class Overheard:
    """A policy of the ladder, and all it was told."""

    name = "overheard"

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.told: list[Feedback] = []

    def begin(self, facts: Facts, seed: int) -> None:
        self.policy.begin(facts, seed)

    def split(self, day: int) -> Floats | None:
        return self.policy.split(day)

    def decide(self, requests: Requests, books: Books) -> Answers:
        return self.policy.decide(requests, books)

    def learn(self, feedback: Feedback) -> None:
        self.told.append(feedback)
        self.policy.learn(feedback)


def _driven(world: World) -> tuple[Run, list[Feedback]]:
    policy = Overheard(LADDER["manual"](None))
    return play(world, policy), policy.told


def _same_sums(ours: Tally, theirs: Tally) -> None:
    for name in Tally.__struct_fields__:
        if name != "budget":
            assert np.array_equal(getattr(ours, name), getattr(theirs, name)), name


@pytest.mark.parametrize("name", ["stationary-v1", "adversary-v1", "outage-v1", "adstock-v1", "churn-v1"])
def test_the_same_bids_have_the_same_fate_worth_and_consequences_as_in_the_driver(name: str) -> None:
    world = world_of(name)
    run, told = _driven(world)
    house = House(world, warm_up_days(world.scenario.days))
    begin = end = 0
    events: list[Happening] = []
    for step in told:
        index = step.requests.auctions.index
        if int(index[0]) == end:
            begin = end
            end += len(house.batch(begin, 3_000))
        for k in np.flatnonzero(step.bid_micros).tolist():
            bid = (int(step.creative[k]), int(step.bid_micros[k]), int(index[k]))
            worse = (bid[0], bid[1] - 1, -1)
            fate = house.hold(int(index[k]) - begin, [worse, bid])
            assert (fate.made, fate.creative, fate.bid_micros) == (1, bid[0], bid[1])
            assert (fate.won, fate.paid_micros) == (bool(step.won[k]), int(step.paid_micros[k]))
            minimum = int(step.minimum_micros[k])
            assert fate.minimum_micros == (minimum if minimum >= 0 else None)
        house.close(int(index[-1]) + 1 - begin)
        due = house.due(int(step.requests.auctions.t_ns[-1]))
        events += due
        reports = [e for e in due if e.kind in (CLICK, CONVERSION)]
        assert [e.kind == CLICK for e in reports] == [k == TOLD_CLICK for k in step.events.kind.tolist()]
        assert [e.creative for e in reports] == step.events.creative.tolist()
        assert [e.supply for e in reports] == step.events.supply.tolist()
        assert [e.shown_at_ns for e in reports] == step.events.shown_at_ns.tolist()
        assert [e.order_value_micros for e in reports] == step.events.order_value_micros.tolist()
    _same_sums(house.tally(), run.tally)
    assert house.unfit == 0
    assert house.reach == run.reach
    assert np.array_equal(house.reach_by_campaign, run.reach_by_campaign)
    assert all(e.mark == e.index for e in events), "each is of the bid that won"
    impressions = sum(e.kind == IMPRESSION for e in events)
    assert (impressions == run.tally.impressions.sum()) == (name != "outage-v1")
    assert all(0.25 <= e.listened <= 0.5 for e in events if e.kind == SKIP)
    assert sum(e.kind == SKIP for e in events) > 0


def test_answers_out_of_order_change_nothing_and_no_bid_needs_no_word() -> None:
    world = world_of()
    fitting = [int(found[0]) for k in range(400) if (found := world.fitting(world.batch(k, 1), 0)).size]
    assert len(fitting) == 400
    tallies = []
    for order in (range(0, 400, 2), reversed(range(0, 400, 2))):
        house = House(world)
        house.batch(0, 400)
        for row in order:
            house.hold(row, [(fitting[row], 20_000_000, None)])
        house.batch(400, 100)  # closes the first
        tallies.append(house.tally())
    _same_sums(*tallies)
    assert tallies[0].impressions.sum() > 100


def test_an_ad_that_does_not_fit_is_never_shown() -> None:
    world = world_of()
    house = House(world)
    auctions = house.batch(0, 200)
    for row in range(200):
        fits = set(world.fitting(auctions, row).tolist())
        wrong = next(j for j in range(world.design.count) if j not in fits)
        assert not house.hold(row, [(wrong, 20_000_000, None)]).won
    assert house.unfit == 200
    house.close()
    assert house.due(2**62) == []
    assert house.next_due_ns is None


def test_auctions_are_asked_for_in_order_and_held_before_they_are_closed() -> None:
    house = House(world_of("adversary-v1"))
    assert len(house.batch(0, 5_000)) == house.world.scenario.adversary.window, (
        "rivals answer window by window"
    )
    house.close(10)
    with pytest.raises(AssertionError, match="not closed"):
        house.hold(9, [(0, 1, None)])
    with pytest.raises(AssertionError, match="the next auction is"):
        house.batch(0, 10)
