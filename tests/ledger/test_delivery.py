"""Delivery and overspend, with the real ledger and the real allowance book in simulated time (issue: >= 95 %)."""

from __future__ import annotations

from pathlib import Path

import msgspec

from counterpoint.bench.delivery import SCENARIOS, DeliveryScenario, simulate

BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}


def smaller(scenario: DeliveryScenario) -> DeliveryScenario:
    """A tenth of the money at a tenth of the traffic: the same ratios, sooner done."""
    return msgspec.structs.replace(
        scenario, budget_units=scenario.budget_units // 10, bids_per_s=scenario.bids_per_s // 10
    )


def test_a_hundred_units_at_five_thousand_bids_a_second_are_delivered(tmp_path: Path) -> None:
    result = simulate(BY_NAME["delivery-honest-v1"], 1, tmp_path / "ledger.db")
    assert result.problems == ()
    assert result.delivered >= 0.95
    assert result.overspend_peak_nanos == 0
    assert result.settled == result.wins
    assert not result.stopped


def test_lateness_beyond_the_reservation_is_withheld_for(tmp_path: Path) -> None:
    result = simulate(smaller(BY_NAME["delivery-late-v1"]), 2, tmp_path / "ledger.db")
    assert result.problems == ()
    assert result.late_share > 0.15
    assert result.delivered >= 0.95
    assert result.bound_held
    assert result.settled == result.wins


def test_sudden_lateness_overspends_no_more_than_the_stated_bound(tmp_path: Path) -> None:
    result = simulate(smaller(BY_NAME["delivery-jump-v1"]), 3, tmp_path / "ledger.db")
    assert result.problems == ()
    assert result.bound_held
    assert 0 < result.overspend_peak_nanos <= result.overspend_bound_nanos
    assert result.stopped  # and it says so
    assert result.settled == result.wins
    assert result.spent_nanos <= result.budget_nanos + result.overspend_nanos
