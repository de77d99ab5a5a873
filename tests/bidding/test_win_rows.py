"""What the learner makes of outcomes as exchanges really send them."""

from __future__ import annotations

import numpy as np
import pytest

from counterpoint.bidding.price import class_of
from counterpoint.bidding.state import OpenBid
from counterpoint.bidding.win_curve import WinCurves
from counterpoint.bidding.win_rows import learn_lost, learn_won
from counterpoint.events.decisions import AlarmRaised
from counterpoint.events.facts import AuctionLost, AuctionWon
from tests.bidding.market import LOGNORMAL, UNIT, curve_error
from tests.bidding.test_learner import World


def outcome(
    kind: type[AuctionWon] | type[AuctionLost], bid: int, **fields: object
) -> AuctionWon | AuctionLost:
    ids = {"event_id": "e", "happened_at_ns": 0, "recorded_at_ns": 0, "source": "t", "bid_id": "b"}
    place = {
        "exchange": "adx",
        "segment": "adx/banner",
        "campaign_id": "c",
        "line_item_id": "l",
        "creative_id": "cr",
    }
    return kind(**ids, **place, bid_nanos=bid, **fields)  # type: ignore[arg-type]


def second_price(says: int, priced: bool, seed: int) -> float:
    """Error of the curve from 3,000 auctions whose bid requests say auction type ``says``. ``priced``: a winner pays the
    minimum, else its bid."""
    rng = np.random.default_rng([seed, 6])
    curves = WinCurves(3_600.0)
    bids = rng.lognormal(1.2, 0.5, 3_000) * rng.uniform(0.3, 1.0, 3_000)
    for bid, minimum in zip(
        *((of * UNIT).astype(int).tolist() for of in (bids, LOGNORMAL.minimums(rng, 3_000))), strict=True
    ):
        placed = OpenBid(0.01, 0, auction_type=says)
        if minimum <= bid:
            won = outcome(AuctionWon, bid, price_nanos=minimum if priced else bid)
            assert isinstance(won, AuctionWon)
            learn_won(curves, won, placed)
        else:
            lost = outcome(AuctionLost, bid, loss_code=102)
            assert isinstance(lost, AuctionLost)
            learn_lost(curves, lost, placed)
    curves.refresh()
    return curve_error(curves.curves["adx/banner"], LOGNORMAL)


def test_a_second_price_tells_the_minimum() -> None:
    told = np.mean([second_price(2, True, seed) for seed in range(4)])
    silent = np.mean([second_price(1, True, seed) for seed in range(4)])
    assert told < 0.015
    assert told < silent


def test_an_exchange_that_turns_to_first_price_and_does_not_say_so_is_contained() -> None:
    """Every price is our own bid then: it is not taken for the minimum, and the curve is the win/loss one."""
    assert second_price(2, False, 1) == second_price(1, False, 1)


def test_a_clearing_price_above_the_bid_is_counted_and_our_bid_taken() -> None:
    world = World()
    world.auction(True, price_nanos=10**12)
    world.auction(True, price_nanos=-5)
    state = world.learner._state
    assert state.refused.prices == 2
    assert state.paces["clicks"].cost.paid_now == 2 * 800_000


def test_an_alarm_about_an_exchange_makes_its_curves_doubtful_once() -> None:
    world = World()
    for _ in range(600):
        world.auction(True)
    rows = world.policy().curves["adx/banner"].rows

    def alarm(**fields: str) -> float:
        said = {"metric": "win_rate", "subject": "exchange/adx", "source": "agent/feedback"} | fields
        world.say(AlarmRaised, observed=0.9, expected=0.5, z=9.0, threshold=5.0, **said)
        for _ in range(30):
            world.auction(True)
        return world.policy().curves["adx/banner"].rows

    assert alarm(source="bidder/b1") == pytest.approx(rows + 30, abs=1)
    assert alarm(subject="exchange/other") == pytest.approx(rows + 60, abs=1)
    assert alarm() == pytest.approx((rows + 60) / 10 + 30, abs=1)
    assert alarm() == pytest.approx((rows + 60) / 10 + 60, abs=1)  # not again within ten minutes


def test_impressions_of_higher_predicted_click_rate_have_a_curve_of_their_own() -> None:
    """Rivals want them too. The learner classes an impression as the kernel will."""
    world = World()
    rng = np.random.default_rng(4)
    for _ in range(3_000):
        good = rng.random() < 0.25
        price = int(rng.uniform(200_000, 2_000_000))
        world.auction(
            price >= (1_400_000 if good else 600_000), price=price, click_rate=0.02 if good else 0.005
        )
    policy = world.policy()
    mean = policy.mean_click_rates["li-1"]
    assert mean == pytest.approx(0.25 * 0.02 + 0.75 * 0.005, rel=0.2)
    for rate, rises_at in ((0.02, 1_400_000), (0.005, 600_000)):
        curve = policy.curves[f"adx/banner/~{class_of(rate, mean)}"]
        at = (0, *curve.bids_nanos), (0.0, *curve.win_rates)
        assert np.interp(rises_at * 0.85, *at) < 0.2
        assert np.interp(rises_at * 1.15, *at) > 0.8
