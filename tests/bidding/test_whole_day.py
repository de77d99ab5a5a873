"""The whole learner for a day, from knowing nothing at midnight."""

from __future__ import annotations

from tests.bidding.whole_day import run_learner


def test_a_day_from_nothing_ends_on_budget_near_the_best_fixed_multiplier() -> None:
    for seed in (11, 12):
        case = run_learner(seed, 20_000)
        assert 0.96 < case["spent"] <= 1.0, (seed, case)
        assert case["value"] > 0.90, (seed, case)
        assert case["value"] > case["fallback_value"], (seed, case)
