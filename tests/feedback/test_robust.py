"""The detectors: on known anomalies, on clean series, and on real ones."""

from __future__ import annotations

import csv
import gzip
import math
import os
from pathlib import Path

import numpy as np
import pytest

from counterpoint.feedback.robust import LevelRule, LevelWatch, RatioRule, RatioWatch

SHARED = Path(os.environ.get("COUNTERPOINT_SHARED", str(Path(__file__).parents[2] / "../shared")))
HOURLY = LevelRule(season=24, seasons=14, residuals=168, warm_up=24, expectation_min=3, refractory=24)


def test_nothing_is_judged_in_warm_up_and_it_does_not_collapse_the_scale() -> None:
    """The regression: residuals of 0 from warm-up make every later point an alarm."""
    rng = np.random.default_rng(1)
    watch, rule = LevelWatch(), LevelRule(scale_floor=1e-6)
    judged = [watch.judge(float(np.exp(rng.normal(0, 0.2))), rule) for _ in range(400)]
    assert all(math.isnan(j.z) for j in judged[:25])
    assert sum(j.alarm for j in judged) <= 1
    assert all(r != 0.0 for r in watch.residuals)


def test_one_alarm_then_quiet() -> None:
    rng = np.random.default_rng(2)
    watch, rule = LevelWatch(), LevelRule()
    for _ in range(100):
        watch.judge(float(np.exp(rng.normal(0, 0.1))), rule)
    assert [watch.judge(5.0, rule).alarm for _ in range(10)] == [True, *[False] * 9]


def test_what_is_no_positive_number_is_passed_over() -> None:
    watch, rule = LevelWatch(), LevelRule()
    for bad in (0.0, -1.0, float("nan"), float("inf")):
        assert math.isnan(watch.judge(bad, rule).z)
    assert watch.values == []


def test_a_ratio_waits_for_enough_exposure() -> None:
    watch, rule = RatioWatch(), RatioRule()
    for _ in range(12):
        watch.judge(10, 1_000, rule)
    assert math.isnan(watch.judge(0, 700, rule).z), "seven clicks were due: too few to say"
    judged = watch.judge(0, 4_000, rule)
    assert judged.alarm
    assert judged.z < -5


def test_overdispersed_ratios_raise_few_false_alarms() -> None:
    """Beta-binomial clicks with three times the binomial variance: 40 series of 300 chunks."""
    rng = np.random.default_rng(3)
    alarms = judged = 0
    for _ in range(40):
        watch, rule = RatioWatch(), RatioRule()
        for _ in range(300):
            rate = rng.beta(0.05 * 500, 0.95 * 500)
            outcome = watch.judge(int(rng.binomial(1_000, rate)), 1_000, rule)
            judged += not math.isnan(outcome.z)
            alarms += outcome.alarm
    assert judged > 11_000
    assert alarms <= 4, f"{alarms} false alarms in {judged} judged chunks"


def evaluate_nab(folder: Path) -> list[tuple[str, int, int, float]]:
    """(series, windows, windows hit, false alarms a week), after the first 15 % of each."""
    out = []
    for path in sorted(folder.glob("*.csv.gz")):
        with gzip.open(path, "rt") as file:
            rows = list(csv.DictReader(file))
        watch = LevelWatch()
        window, inside = 0, False
        windows: set[int] = set()
        hits: set[int] = set()
        false_alarms = 0
        for i, row in enumerate(rows):
            now_inside = row["in_anomaly_window"] == "1"
            window += now_inside and not inside
            inside = now_inside
            judged = watch.judge(float(row["value"]), HOURLY)
            if i < 0.15 * len(rows):
                continue
            if inside:
                windows.add(window)
            if judged.alarm and inside:
                hits.add(window)
            elif judged.alarm:
                false_alarms += 1
        weeks = 0.85 * len(rows) / 168
        out.append((path.name.removesuffix(".csv.gz"), len(windows), len(hits), false_alarms / weeks))
    return out


def test_real_exchange_prices_with_labelled_anomalies() -> None:
    """Numenta Anomaly Benchmark, exchanges 2 and 3; the rule was fixed beforehand."""
    folder = SHARED / "data" / "nab_adexchange"
    if not folder.is_dir():
        pytest.skip("the Numenta series are not there")
    found = evaluate_nab(folder)
    windows, hits = sum(f[1] for f in found), sum(f[2] for f in found)
    assert hits >= 0.7 * windows, found
    assert max(f[3] for f in found) <= 1.0, found


if __name__ == "__main__":
    for name, windows, hits, weekly in evaluate_nab(SHARED / "data" / "nab_adexchange"):
        print(f"{name:16} {hits} of {windows} windows, {weekly:.2f} false alarms a week")
