"""The live learner after a clock that was wrong, an alarm, prices that are none, and a policy nobody may have."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from counterpoint.base.clock import NS_PER_S
from counterpoint.base.errors import PolicyRefused
from counterpoint.bidding import learner as live
from counterpoint.bidding.learner import BiddingLearner
from counterpoint.bidding.policy import BiddingPolicy
from counterpoint.bidding.second_price import SecondPrices
from counterpoint.bidding.win_curve import WinCurves
from counterpoint.coordination.clock import too_far_ahead
from counterpoint.events.decisions import PolicyPublished
from counterpoint.events.money import BudgetMoved
from tests.bidding.test_learner import CATALOG, DAY, World

HOUR_S, DAY_S = 3_600, 86_400


def published(world: World) -> int:
    return sum(isinstance(decision.event, PolicyPublished) for decision in world.decided)


@pytest.mark.parametrize("ahead_s", [HOUR_S, DAY_S, 30 * DAY_S])
@pytest.mark.parametrize("restarted", [False, True])
def test_a_clock_that_was_ahead_is_forgotten(ahead_s: int, restarted: bool) -> None:
    world = World()
    for _ in range(200):
        world.auction(True)
    world.pass_s(10)
    ahead_ns = world.now_ns + ahead_s * NS_PER_S
    world.learner.tick(ahead_ns)
    world.learner._desk.clock.stamp(ahead_ns)
    if restarted:
        raw = world.learner.snapshot()
        world.learner = BiddingLearner(CATALOG)
        world.learner.restore(raw)
    world.decided.clear()
    for _ in range(40):
        world.auction(True, price=800_000)
    world.pass_s(30)
    assert published(world) >= 2
    assert world.learner.refused().clocks == 1
    money = world.learner._state.money["clicks"]
    assert money.day == DAY
    assert not too_far_ahead(world.learner._desk.clock.stamp(world.now_ns), world.now_ns)
    assert money.spent_all >= 40 * 800_000


@pytest.mark.parametrize("back_s", [5, 12 * HOUR_S, 10 * DAY_S])
def test_a_clock_set_back_does_not_grow_the_past(back_s: int) -> None:
    world = World()
    for _ in range(400):
        world.auction(True)
    world.pass_s(10)
    before = world.learner._state.paces["clicks"].share
    world.now_ns -= back_s * NS_PER_S
    moved = {"clicks": 90_000_000_000, "orders": 110_000_000_000}
    world.say(BudgetMoved, pool_id="p", day=DAY, budgets_nanos=moved, epoch=1)
    for _ in range(20):
        world.auction(True)
    world.pass_s(20)
    assert world.learner._state.paces["clicks"].share <= before + 0.01
    assert published(world) > 0


def test_what_faded_is_withdrawn_and_a_restored_learner_agrees() -> None:
    curves, rng = WinCurves(43_200.0), np.random.default_rng(1)

    def market(of: WinCurves, rng: np.random.Generator, n: int, segment: str, level: float) -> None:
        for _ in range(n):
            bid, rival = (int(x) for x in rng.lognormal(14.0, 0.6, 2) * (1.0, level))
            of.add(segment, bid, bid >= rival, max(rival, 1))

    market(curves, rng, 3_000, "adx/banner", 1.0)
    market(curves, rng, 40, "adx/banner/~5", 1.0)
    curves.refresh()
    assert "adx/banner/~5" in curves.curves
    assert curves.doubt("adx", 0.1)
    market(curves, rng, 500, "adx/banner", 3.0)
    curves.refresh()
    assert "adx/banner/~5" not in curves.curves, "4 rows are no curve"

    again = WinCurves(43_200.0)
    again.load(msgspec.Raw(msgspec.msgpack.encode(curves.dump())))
    for one in (curves, again):
        same = np.random.default_rng(4)
        for n in range(30):
            market(one, same, 20, "adx/banner/~5" if n % 5 == 0 else "adx/banner", 3.0)
            one.refresh()
    assert curves.curves == again.curves
    assert curves.dump() == again.dump()


@pytest.mark.parametrize("charges", [1.0, 0.98, 0.9999])
def test_a_first_price_sold_as_a_second_teaches_no_minimum(charges: float) -> None:
    prices, rng = SecondPrices(), np.random.default_rng(2)
    bids = rng.lognormal(14.0, 0.5, 400).astype(int).tolist()
    told = [prices.minimum("adx/banner", bid, int(bid * charges) // 100 * 100) for bid in bids]
    assert sum(price is not None for price in told) <= 15, "until it has been seen often enough"
    assert prices.doubted >= 385


def test_an_honest_second_price_is_believed_again_after_a_turn() -> None:
    prices, rng = SecondPrices(), np.random.default_rng(2)
    for _ in range(200):
        prices.minimum("adx/banner", 1_000_000, 980_000)
    honest = [prices.minimum("adx/banner", 1_000_000, int(1e6 * rng.beta(4, 2))) for _ in range(200)]
    assert all(price is not None for price in honest[20:])
    assert prices.minimum("other/banner", 1_000_000, 980_000) == 980_000


def test_a_policy_that_is_not_valid_is_not_published(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.auction(True)
    world.pass_s(5)
    before = published(world)
    with monkeypatch.context() as patched:

        def refuse(policy: BiddingPolicy) -> None:
            raise PolicyRefused("a test says no")

        patched.setattr(live, "check_bounds", refuse)
        world.auction(True)
        world.pass_s(5)
        assert published(world) == before
        assert world.learner.refused().policies > 0
        assert "a test says no" in world.learner.explain()[0]
    world.auction(True)
    world.pass_s(5)
    assert published(world) > before
