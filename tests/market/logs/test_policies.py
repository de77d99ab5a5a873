"""Each policy on markets where the best is known."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.base.errors import ConfigError
from counterpoint.market.logs.auctions import parse_fraction
from counterpoint.market.logs.feedback import split
from counterpoint.market.logs.judge import PolicyResult
from counterpoint.market.logs.policies import REGISTRY, make_policy
from counterpoint.market.logs.read import AuctionLog
from counterpoint.market.logs.run import ReplayReport, ReplaySettings, replay
from counterpoint.market.logs.terms import Auction, Feedback
from tests.market.logs.synthetic import EPISODES, make_log, shared

HALF = Fraction(1, 2)


def run(log: AuctionLog, *policies: str, seed: int = 1, **words: object) -> dict[str, PolicyResult]:
    return {result.policy: result for result in report(log, *policies, seed=seed, **words).files[0].policies}


def report(log: AuctionLog, *policies: str, seed: int = 1, **words: object) -> ReplayReport:
    budget = str(words.pop("budget", "none"))
    chosen = ReplaySettings(policies=policies, budget_fraction=budget, resamples=200, seed=seed, **words)  # type: ignore[arg-type]
    return replay([log], chosen, parse_fraction(budget), HALF)


def knapsack_bound(log: AuctionLog, fraction: Fraction) -> float:
    """Most value any bidder can win of the judged half for its budget, auctions divisible: an upper bound."""
    _, judged, _ = split(log, len(log) // 2, 0.99)
    order = np.argsort(-judged.value / judged.market_price)
    cost = np.cumsum(judged.market_price[order])
    budget = int(judged.market_price.sum()) * fraction.numerator // fraction.denominator
    last = int(np.searchsorted(cost, budget, side="right"))
    value = float(judged.value[order][:last].sum())
    rest = budget - (int(cost[last - 1]) if last else 0)
    if last < len(order):
        value += float(judged.value[order][last] * rest / judged.market_price[order][last])
    return value


@pytest.mark.parametrize("budget", ["1/4", "1/16", "1/64"])
def test_linear_is_the_optimum_of_second_price_under_budget(budget: str) -> None:
    log = make_log(20_000, seed=3)
    results = run(log, "linear-hindsight", "linear", "linear-pid", "constant", "random", budget=budget)
    bound = knapsack_bound(log, Fraction(budget))
    assert 0.97 * bound <= results["linear-hindsight"].value <= bound
    assert results["linear"].value >= 0.90 * bound
    assert results["linear-pid"].value >= 0.90 * bound
    assert results["constant"].value < 0.9 * results["linear"].value
    assert results["random"].value < results["linear"].value
    for result in results.values():
        assert result.value <= bound
        assert result.budget_milli_fen is not None
        assert result.spend_milli_fen <= result.budget_milli_fen
        assert result.overspend_milli_fen == 0


def test_repacing_finds_the_pace_when_the_market_has_moved() -> None:
    log = make_log(40_000, seed=5)
    log.market_price[20_000:] = log.market_price[20_000:] * 8 // 5  # dearer than the train part was
    results = run(log, "linear", "linear-pid", "linear-hindsight", "counterpoint", budget="1/16", bid_max=600)
    for name in ("linear-pid", "counterpoint"):
        assert results[name].value >= 1.02 * results["linear"].value
        assert results[name].value >= 0.94 * results["linear-hindsight"].value


def test_truthful_is_perfect_in_second_price_without_a_budget() -> None:
    result = run(make_log(4_000), "truthful", bid_max=100_000)["truthful"]
    assert result.surplus_share == pytest.approx(1.0)


def test_half_the_value_is_best_against_uniform_prices_in_first_price() -> None:
    log = make_log(40_000, seed=7, shape=0.4)
    results = run(
        log,
        "truthful",
        "constant-shade",
        "unconditional-shade",
        "counterpoint",
        "counterpoint-frozen",
        auction=Auction.FIRST,
    )
    assert results["constant-shade"].parameters["bid_per_value"] == pytest.approx(0.5, abs=0.03)
    best = results["constant-shade"].surplus
    assert results["truthful"].surplus < 0.05 * best  # only what rounding bids down leaves
    for name in ("unconditional-shade", "counterpoint", "counterpoint-frozen"):
        assert results[name].surplus >= 0.98 * best


def test_without_prices_ours_still_learns_to_shade() -> None:
    log = make_log(30_000, seed=8, shape=0.4)
    for feedback in (Feedback.WIN, Feedback.BINARY):
        results = run(log, "constant-shade", "counterpoint", auction=Auction.FIRST, feedback=feedback)
        assert results["counterpoint"].surplus >= 0.94 * results["constant-shade"].surplus


def test_a_constant_bid_is_the_best_one_of_the_train_part() -> None:
    log = make_log(2_000)
    log.pctr[:] = 0.01
    log.market_price[:] = 40
    result = run(log, "constant")["constant"]
    assert 40 <= result.parameters["bid_fen_cpm"] <= 100
    assert result.win_rate == 1.0
    result = run(log, "constant", auction=Auction.FIRST)["constant"]
    assert result.parameters["bid_fen_cpm"] == 40.0
    assert result.surplus_share == pytest.approx(1.0)


@settings(deadline=None, max_examples=12)
@given(
    seed=st.integers(0, 10_000),
    name=st.sampled_from(sorted(REGISTRY)),
    auction=st.sampled_from(Auction),
    feedback=st.sampled_from(Feedback),
    budget=st.sampled_from(["none", "1/4", "1/64"]),
    kind=st.sampled_from(["timed", EPISODES]),
)
def test_whatever_is_replayed_the_books_balance(
    seed: int, name: str, auction: Auction, feedback: Feedback, budget: str, kind: str
) -> None:
    log = make_log(1_000, seed=seed, kind=kind)
    result = run(log, name, auction=auction, feedback=feedback, budget=budget, seed=seed)[name]
    assert result.overspend_milli_fen == 0
    if result.budget_milli_fen is not None:
        assert result.spend_milli_fen <= result.budget_milli_fen
    assert result.wins <= result.bids <= result.auctions == 500
    assert result.clicks <= result.wins
    assert result.surplus == pytest.approx(result.value - result.spend_milli_fen)
    assert result.surplus_share is not None
    assert result.surplus_share <= 1.0 + 1e-12
    again = run(log, name, auction=auction, feedback=feedback, budget=budget, seed=seed)[name]
    assert again == result  # the same seed, the same figures


def test_one_auction_at_a_time_is_bid_as_the_block_is() -> None:
    log = make_log(2_000)
    train, judged, _ = split(log, 1_000, 0.99)
    from counterpoint.market.logs.feedback import train_view

    for name in sorted(set(REGISTRY) - {"random"}):
        policy = make_policy(name)
        policy.fit(
            train_view(
                train,
                Auction.FIRST,
                Feedback.FULL,
                300,
                1_000,
                5_000,
                1,
                policy.tuned_on_prices,
                time_is_hours=True,
            )
        )
        if policy.looks_ahead:
            policy.look_ahead(judged)
        block = judged.block(0, 20, 5_000)
        bids = policy.bid_block(block)
        for i in range(20):
            one = judged.block(i, i + 1, 5_000)
            assert policy.bid(float(judged.capped[i]), one) == bids[i], name


def test_an_unknown_policy_is_named_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match="no replay policy 'greedy'; there are: constant, "):
        make_policy("greedy")


@pytest.mark.parametrize("auction", list(Auction))
def test_linear_beats_constant_on_the_real_log(auction: Auction) -> None:
    from counterpoint.market.logs.read import read_log

    log = read_log(shared("ipinyou_timed", "1458_first220k.csv.gz"))
    told = report(log, "constant", "linear", budget="1/16", auction=auction)
    gain = told.files[0].comparisons[0].value_gain
    assert gain.low is not None
    assert gain.low > 0.2
    assert all(result.overspend_milli_fen == 0 for result in told.files[0].policies)


@pytest.mark.parametrize("auction", list(Auction))
def test_linear_beats_constant_on_the_real_episodes(auction: Auction) -> None:
    from counterpoint.market.logs.read import read_logs

    logs = read_logs([shared("ipinyou_episodes", f"{n}_episodes.csv.gz") for n in (2821, 2997, 3358, 3427)])
    chosen = ReplaySettings(policies=("constant", "linear"), auction=auction, resamples=500)
    told = replay(logs, chosen, Fraction(1, 16), HALF)
    gain = told.pooled[0].value_gain
    assert gain.low is not None
    assert gain.low > 0.0
