"""The judge of the value model: ceilings that are ceilings, delays told from half a log, few seeds."""

from __future__ import annotations

import numpy as np
import pytest

from counterpoint.bench.bidding.ceiling import Observed
from counterpoint.bench.bidding.delays import predicted
from counterpoint.bench.bidding.value_market import judge
from counterpoint.bench.bidding.verdict import over_few_seeds, over_seeds
from counterpoint.market.load import scenario_named
from counterpoint.market.scenario import resized
from counterpoint.market.world import World


def test_what_can_be_known_averages_to_the_truth() -> None:
    world = World(resized(scenario_named("stationary-v1"), 20_000), 3)
    auctions = world.batch(0, 20_000)
    rows = np.array([row for row in range(20_000) if len(world.fitting(auctions, row))], dtype=np.int64)
    creatives = np.array([world.fitting(auctions, row)[0] for row in rows.tolist()], dtype=np.int64)
    nobody = np.zeros(len(rows))
    true = world.responses(auctions, rows, creatives, nobody)
    known = Observed(world).of(auctions, rows, creatives, nobody)
    assert known.click.mean() == pytest.approx(true.click.mean(), rel=0.05)
    assert (known.click * known.order).mean() == pytest.approx(
        (true.click * true.conversion).mean(), rel=0.15
    )

    def error(said: np.ndarray) -> float:
        return float(np.mean((said - true.click) ** 2))

    assert (
        error(known.person_click)
        < 0.5 * error(known.click)
        < 0.5 * error(np.full(len(rows), true.click.mean()))
    )


def test_a_model_on_few_labels_buys_what_its_counts_buy() -> None:
    judged = judge("stationary-v1", 5, 12_000)
    assert judged.clicks < 60
    assert abs(judged.worth) < 0.02
    assert abs(judged.worth_each) < 0.01
    assert judged.model_click == pytest.approx(judged.counts_click, rel=0.03)
    assert judged.worth_known > judged.person_each > judged.observable_each > 0.0


def test_conversions_to_come_are_told_better_with_those_that_wait() -> None:
    rng = np.random.default_rng(7)
    clicked = rng.uniform(0.0, 12 * 3_600.0, 60_000)
    delay = np.where(rng.random(60_000) < 0.05, rng.exponential(6 * 3_600.0, 60_000), np.inf)
    age = 12 * 3_600.0 - clicked
    true = (delay <= age).sum() / np.isfinite(delay).sum()
    limit, plain = predicted(age, delay, np.ones(60_000))
    assert limit == pytest.approx(true, abs=0.12)
    assert plain > true + 0.12


def test_few_seeds_get_a_wider_interval_than_the_bootstrap() -> None:
    figures = [0.1, -0.2, 0.3, 0.05, 0.0, 0.12, -0.07, 0.2]
    few, many = over_few_seeds(figures), over_seeds(figures)
    assert few.value == many.value
    assert few.low is not None
    assert many.low is not None
    assert few.low < many.low
    expected = np.mean(figures) - 2.365 * np.std(figures, ddof=1) / np.sqrt(8)
    assert few.low == pytest.approx(expected)
