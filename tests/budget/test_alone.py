"""The agent without the platform: bounds, bad histories, snapshots, and how it behaves when it is wrong."""

from __future__ import annotations

import math
import runpy
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.base.errors import PolicyRefused
from counterpoint.budget import residual
from counterpoint.budget.allocate import Safety
from counterpoint.budget.alone import Allocator, Arm, HistoryError, Settings

ARMS = [Arm(name="audio", least=10.0), Arm(name="video", most=60.0), Arm(name="banner")]


def fed(
    allocator: Allocator, days: int, seed: int = 0, level: dict[str, float] | None = None
) -> list[dict[str, float]]:
    """Logarithmic curves with gamma noise; returns the amounts of each day."""
    rng = np.random.default_rng(seed)
    level = level or {"audio": 30.0, "video": 90.0, "banner": 20.0}
    spend, out = allocator.allocate().amounts, []
    for _ in range(days):
        value = {n: level[n] * math.log1p(x / 20.0) * rng.gamma(10, 0.1) for n, x in spend.items()}
        allocator.observe(spend, value)
        spend = allocator.allocate().amounts
        out.append(spend)
    return out


def test_the_example_runs_and_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(Path(__file__).parents[2] / "examples" / "budget_alone.py"), run_name="__main__")
    said = capsys.readouterr().out
    assert "EUR from" in said
    assert "90 % interval" in said


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_amounts_keep_the_budget_and_the_bounds(seed: int) -> None:
    for amounts in fed(Allocator(ARMS, 100.0), 12, seed):
        assert math.fsum(amounts.values()) == 100.0
        assert amounts["audio"] >= 10.0 - 1e-9
        assert amounts["video"] <= 60.0 + 1e-9


def test_a_restored_allocator_goes_on_the_same() -> None:
    one, other = Allocator(ARMS, 100.0), Allocator(ARMS, 100.0)
    fed(one, 9)
    other.restore(one.snapshot())
    spend = {"audio": 30.0, "video": 40.0, "banner": 30.0}
    for a in (one, other):
        a.observe(spend, {"audio": 9.0, "video": 80.0, "banner": 7.0})
    assert one.allocate() == other.allocate()


@pytest.mark.parametrize(
    ("spend", "value", "says"),
    [
        ({"audio": -1.0}, {}, "spend of 'audio' is -1.0"),
        ({"audio": math.nan}, {}, "finite number"),
        ({"audio": 1.0}, {"radio": 3.0}, "'radio', which is no arm"),
    ],
)
def test_a_bad_period_is_named_and_not_learned(
    spend: dict[str, float], value: dict[str, float], says: str
) -> None:
    allocator = Allocator(ARMS, 100.0)
    before = allocator.snapshot()
    with pytest.raises(HistoryError, match=says):
        allocator.observe(spend, value)
    assert allocator.snapshot() == before


def test_bounds_that_cannot_be_are_refused() -> None:
    with pytest.raises(HistoryError, match="most together are under the budget"):
        Allocator([Arm(name="a", most=1.0), Arm(name="b", most=1.0)], 100.0)
    with pytest.raises(HistoryError, match="nothing to split"):
        Allocator(ARMS, 0.0)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_in_whatever_unit_value_is_told_the_split_is_the_same(scale: float) -> None:
    level = {"audio": 30.0, "video": 90.0, "banner": 20.0}
    usual = fed(Allocator(ARMS, 100.0), 12, level=level)
    scaled = fed(Allocator(ARMS, 100.0), 12, level={n: x * scale for n, x in level.items()})
    assert usual[-1] != usual[0]
    for one, other in zip(usual, scaled, strict=True):
        assert one == pytest.approx(other)


def test_a_first_period_that_was_an_outlier_is_forgotten() -> None:
    allocator = Allocator([Arm(name="a"), Arm(name="b")], 100.0)
    allocator.observe({"a": 50.0, "b": 50.0}, {"a": 1e12, "b": 90.0})
    amounts = allocator.allocate().amounts
    for _ in range(90):
        allocator.observe(amounts, {"a": 4.0 * amounts["a"] ** 0.5, "b": 12.0 * amounts["b"] ** 0.5})
        amounts = allocator.allocate().amounts
    assert amounts["b"] > 60.0


def test_it_does_not_swing() -> None:
    """Noise alone, all arms alike: reversals of moves above 5 % stay rare."""
    level = dict.fromkeys(("audio", "video", "banner"), 50.0)
    moves = fed(Allocator([Arm(name=n) for n in level], 100.0), 60, 3, level)
    turns = 0
    for name in level:
        way = 0.0
        for before, after in pairwise(moves):
            step = after[name] / before[name] - 1.0
            if abs(step) > 0.05:
                turns += way * step < 0
                way = step
    assert turns <= 3 * 60 / 10, "one in ten periods and arm"


def test_it_returns_to_the_fixed_split_when_it_falls_behind() -> None:
    allocator = Allocator(
        [Arm(name=n) for n in ("a", "b")],
        100.0,
        Settings(safety=Safety(trust_factor=1.1, rest_periods=5, behind_keep=0.5)),
    )
    amounts = allocator.allocate().amounts

    def day(a: float, b: float) -> str:
        nonlocal amounts
        allocator.observe(amounts, {"a": amounts["a"] ** 0.5 * a, "b": amounts["b"] ** 0.5 * b})
        allocation = allocator.allocate()
        amounts = allocation.amounts
        return allocation.why

    for _ in range(20):
        day(9.0, 1.0)
    assert amounts["a"] > 70.0
    said = [day(0.1, 20.0) for _ in range(12)]  # now b is the good one, and a brings nothing
    back = next(i for i, why in enumerate(said) if "back to the owner's split" in why)
    assert back < 8


def test_a_residual_policy_is_checked_before_it_is_used() -> None:
    shipped = residual.shipped()
    assert len(shipped.weights) == len(residual.FEATURES)
    for raw, says in (
        (b"{}", "no residual policy"),
        (b'{"name":"x","features":["a"],"weights":[1]}', "other features"),
    ):
        with pytest.raises(PolicyRefused, match=says):
            residual.load(raw, "file.json")
    wild = np.full(len(residual.FEATURES), 20.0)
    of = np.random.default_rng(0).normal(size=(5, len(residual.FEATURES)))
    assert np.abs(residual.tilt(wild, of)).max() <= 2 * residual.TILT_MAX
    order = [3, 1, 0, 4, 2]
    assert residual.tilt(wild, of)[order] == pytest.approx(residual.tilt(wild, of[order])), (
        "arms have no order"
    )
