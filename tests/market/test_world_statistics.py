"""What is drawn follows what is declared: prices and floors, traffic, people, clicks, delays. Fixed seeds."""

from __future__ import annotations

import numpy as np
import pytest

from counterpoint.market.estimate import distance, fit_mixture
from counterpoint.market.load import scenario_named
from counterpoint.market.quantiles import Quantiles
from counterpoint.market.scenario import Lognormal, Mass, Scenario, resized
from counterpoint.market.world import MICROS, World

AUCTIONS = 200_000


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return resized(scenario_named("stationary-v1"), AUCTIONS)


@pytest.fixture(scope="module")
def world(scenario: Scenario) -> World:
    return World(scenario, seed=8)


def test_a_mixture_is_met_by_its_draws() -> None:
    parts = (Lognormal(weight=3.0, median=20.0, sigma=0.7), Lognormal(weight=1.0, median=150.0, sigma=0.2))
    table = Quantiles(parts, (Mass(weight=1.0, at=101.0), Mass(weight=0.5, at=0.0)))
    z = np.random.default_rng(1).standard_normal(200_000)
    values = table.values(z)
    assert (np.abs(values - 101.0) < 1e-9).mean() == pytest.approx(1.0 / 5.5, abs=0.004)
    assert (values < 1e-5).mean() == pytest.approx(0.5 / 5.5, abs=0.003)
    for x in (5.0, 20.0, 100.9, 101.0, 160.0, 400.0):
        assert table.cdf(np.array([x]))[0] == pytest.approx((values <= x * (1 + 1e-12)).mean(), abs=0.005)
    assert table.cdf(np.array([0.0]))[0] == 0.0
    # partly explained: the marginal stays, and the conditional is exact
    rng = np.random.default_rng(2)
    known = rng.standard_normal(200_000)
    joint = table.values(0.6 * known + 0.8 * rng.standard_normal(200_000))
    assert distance(values, joint).ks < 0.006
    high = known > 1.0
    told = table.cdf(np.full(int(high.sum()), 60.0), known[high], 0.6).mean()
    assert told == pytest.approx((joint[high] <= 60.0).mean(), abs=0.01)


def test_prices_have_the_declared_distribution_in_every_supply_path(scenario: Scenario, world: World) -> None:
    auctions = world.batch(0, AUCTIONS)
    truth = world.truth(auctions)
    z = np.random.default_rng(3).standard_normal(100_000)
    for n, path in enumerate(scenario.supply):
        here = auctions.supply == n
        assert here.mean() == pytest.approx(path.share / sum(p.share for p in scenario.supply), abs=0.005)
        declared = Quantiles(path.prices.components, path.prices.masses).values(z)
        met = truth.rival_micros[here] / (path.prices.unit_cpm * MICROS)
        # people and places are few and unequal, so one world is a little off the declared marginal
        assert distance(np.round(declared, 4), np.round(met, 4)).ks < 0.05, path
        floors = {round(f.at * path.prices.unit_cpm * MICROS): f.weight for f in path.prices.floors} or {
            0: 1.0
        }
        for floor, weight in floors.items():
            share = (auctions.floor_micros[here] == floor).mean()
            assert share == pytest.approx(weight / sum(floors.values()), abs=0.01)
    assert (truth.threshold_micros >= auctions.floor_micros).all()
    assert (truth.threshold_micros >= truth.rival_micros).all()


@pytest.mark.parametrize("name", ["stationary-v1", "jumps-v1", "misspecified-v1"])
def test_win_probability_is_exact(name: str) -> None:
    world = World(resized(scenario_named(name), 60_000), seed=9)
    auctions = world.batch(0, 60_000)
    truth = world.truth(auctions)
    for bid in (200_000.0, 1_500_000.0, 2_020_000.0, 6_000_000.0):
        bids = np.full(len(auctions), bid)
        told = world.win_probability(auctions, truth, bids)
        won = truth.threshold_micros <= bid
        assert told.mean() == pytest.approx(won.mean(), abs=0.006)
        for low, high in ((0.0, 0.2), (0.2, 0.5), (0.5, 0.8), (0.8, 1.0)):
            some = (told > low) & (told <= high)
            if some.sum() > 2_000:
                assert told[some].mean() == pytest.approx(won[some].mean(), abs=0.025)
    assert (world.win_probability(auctions, truth, auctions.floor_micros.astype(np.float64) - 1) == 0).all()


def test_traffic_has_the_shape_of_the_week(scenario: Scenario, world: World) -> None:
    hours = world.batch(0, AUCTIONS).hour_of_week
    shape = np.array(scenario.traffic.hour_of_week)
    counts = np.bincount(hours, minlength=168) / AUCTIONS
    assert counts == pytest.approx(shape / shape.sum(), abs=2e-5)
    assert hours.dtype == np.int16


def test_people_are_as_declared(scenario: Scenario, world: World) -> None:
    u, p = scenario.users, world.people
    for n, country in enumerate(u.countries):
        assert (p.country == n).mean() == pytest.approx(country.share, abs=0.015)
    assert p.phone.mean() == pytest.approx(u.phone_share, abs=0.015)
    assert p.consent.mean() == pytest.approx(u.consent_share, abs=0.01)
    assert p.click_bias.std() == pytest.approx(u.click_bias_sd, rel=0.03)
    assert p.conversion_bias.std() == pytest.approx(u.conversion_bias_sd, rel=0.03)
    assert np.corrcoef(p.value, p.conversion_bias)[0, 1] == pytest.approx(u.rival_value_weight, abs=0.03)
    assert (p.aversion > 0).mean() == pytest.approx(u.aversion_share, abs=0.01)
    assert set(p.os[p.phone].tolist()) == {0, 1}
    assert set(p.os[~p.phone].tolist()) == {2, 3}
    seen = np.bincount(world.batch(0, AUCTIONS).user, minlength=u.count)
    assert seen[: u.count // 4].sum() == pytest.approx(
        AUCTIONS / 2, rel=0.02
    )  # u**2: half to the first quarter


def test_outcomes_have_the_true_probabilities(world: World) -> None:
    auctions = world.batch(0, AUCTIONS)
    rows = np.arange(AUCTIONS)
    creatives = rows % world.design.count
    responses = world.responses(auctions, rows, creatives)
    outcomes = world.outcomes(auctions, rows, creatives, responses)

    def close(what: float, probabilities: float, n: int) -> None:
        assert what == pytest.approx(probabilities, abs=4 * np.sqrt(probabilities / n) + 1e-6)

    close(outcomes.clicked.mean(), responses.click.mean(), AUCTIONS)
    close(outcomes.converted.mean(), (responses.click * responses.conversion).mean(), AUCTIONS)
    timed = np.isin(auctions.media, (1, 2))
    close(outcomes.skipped[timed].mean(), responses.skip[timed].mean(), int(timed.sum()))
    assert not outcomes.skipped[~timed].any()
    assert (outcomes.listened[~outcomes.skipped] == 1).all()
    skipped = outcomes.listened[outcomes.skipped]
    assert skipped.min() >= 0.25
    assert skipped.max() <= 0.5
    assert (outcomes.clicked | ~outcomes.converted).all()
    assert (outcomes.viewed | ~outcomes.clicked).all()
    assert responses.relevance.mean() == pytest.approx(0.5, abs=0.03)  # ads at random
    assert np.ptp(responses.satisfaction) > 0.3
    paid = (
        outcomes.order_value_micros[outcomes.converted] / MICROS / responses.order_value[outcomes.converted]
    )
    assert paid.mean() == pytest.approx(1.0, abs=5 * paid.std() / np.sqrt(paid.size))


def test_values_are_those_of_the_declared_goals(world: World) -> None:
    auctions = world.batch(0, 200)
    scenario, design = world.scenario, world.design
    creatives = np.arange(200) % design.count
    r = world.responses(auctions, np.arange(200), creatives)
    for k in range(200):
        campaign = scenario.campaign[design.campaign[creatives[k]]]
        worth = {
            "reach": campaign.goal_value_micros / 1000 / MICROS,
            "clicks": r.click[k] * campaign.goal_value_micros / MICROS,
            "conversions": r.click[k] * r.conversion[k] * campaign.goal_value_micros / MICROS,
            "value": r.click[k] * r.conversion[k] * campaign.order_value / (campaign.goal_value_micros / 1e6),
        }[campaign.goal.value]  # account currency, of one impression
        assert r.value_micros[k] == pytest.approx(worth * 1e9)


def test_delays_have_the_declared_distribution(world: World) -> None:
    delay = world.scenario.conversion.delay
    rng = np.random.default_rng(4)
    weights = np.array([c.weight for c in delay.components])
    which = rng.choice(len(weights), 100_000, p=weights / weights.sum())
    medians, sigmas = (np.array([getattr(c, f) for c in delay.components]) for f in ("median", "sigma"))
    drawn = medians[which] * np.exp(sigmas[which] * rng.standard_normal(100_000))
    met = world.delays.values(rng.standard_normal(100_000))
    assert distance(drawn[drawn <= delay.window_s], met).ks < 0.01


def test_a_fit_finds_the_mixture_that_made_the_data() -> None:
    rng = np.random.default_rng(6)
    parts = (Lognormal(weight=0.6, median=20.0, sigma=0.6), Lognormal(weight=0.3, median=160.0, sigma=0.15))
    truth = Quantiles(parts, (Mass(weight=0.1, at=101.0),))
    rivals = np.ceil(truth.values(rng.standard_normal(20_000)) - 1e-6)
    floors = rng.choice([5.0, 50.0], 20_000)
    prices = np.maximum(rivals, floors)
    rows, counts = np.unique(np.stack([prices, floors]), axis=1, return_counts=True)
    found = fit_mixture(rows[0], counts.astype(np.float64), rows[1], parts=2)
    refit = np.ceil(Quantiles(found.components, found.masses).values(rng.standard_normal(20_000)) - 1e-6)
    assert distance(rivals[rivals > 5], refit[refit > 5]).ks < 0.02
    assert any(m.at == 101.0 and m.weight == pytest.approx(0.1, abs=0.02) for m in found.masses)


def test_distance_is_the_textbooks() -> None:
    apart = distance(np.array([0.0, 1.0, 2.0]), np.array([1.0, 2.0, 3.0]))
    assert apart.ks == pytest.approx(1 / 3)
    assert apart.wasserstein == pytest.approx(1.0)
    counted = distance(np.array([0.0, 1.0]), np.array([0.0, 1.0]), np.array([1.0, 3.0]), np.array([1.0, 1.0]))
    assert counted.ks == pytest.approx(0.25)
