"""The frame of ``counterpoint bench bidding``: verdicts that say no when it is no."""

from pathlib import Path

import pytest

from counterpoint.base.errors import ConfigError
from counterpoint.bench.bidding import run
from counterpoint.bench.bidding.verdict import Bar, Measured, Verdict


def verdict(kind: Bar, target: float | None, value: float, low: float, high: float) -> Verdict:
    measured = Measured(value=value, low=low, high=high)
    return Verdict(bar="b", kind=kind, target=target, measured=measured, behind="3 seeds")


@pytest.mark.parametrize(
    ("kind", "target", "value", "low", "high", "met", "says"),
    [
        (Bar.AT_LEAST, 0.97, 0.98, 0.975, 0.99, True, "met"),
        (Bar.AT_LEAST, 0.97, 0.98, 0.96, 0.99, True, "met at the point, the interval spans the bar"),
        (Bar.AT_LEAST, 0.97, 0.95, 0.94, 0.98, False, "not met by 0.02"),
        (Bar.AT_MOST, 20.0, 25.0, 24.0, 26.0, False, "not met by 5"),
        (Bar.AT_MOST, 20.0, 15.0, 14.0, 21.0, True, "met at the point, the interval spans the bar"),
        (Bar.ABOVE, 0.0, 0.01, -0.02, 0.04, False, "not met: the interval starts 0.02 below"),
        (Bar.ABOVE, 0.0, 0.03, 0.02, 0.04, True, "met"),
        (Bar.AT_LEAST, 0.9, float("nan"), 0.0, 1.0, False, "not met by nan"),
        (Bar.REPORTED, None, 0.03, 0.02, 0.04, False, "reported"),
    ],
)
def test_a_verdict_says_met_only_of_what_is(
    kind: Bar, target: float | None, value: float, low: float, high: float, met: bool, says: str
) -> None:
    v = verdict(kind, target, value, low, high)
    assert (v.met, v.line()) == (met, says)
    if target is not None:
        assert v.line(quick=True) == "quick run: no verdict"


def test_unknown_parts_and_folders_are_refused_with_a_cure() -> None:
    with pytest.raises(ConfigError, match="did you mean 'budget'"):
        run.chosen(["buget"])
    with pytest.raises(ConfigError, match="is no folder"):
        run.run(["pacing"], (100,), Path("not/there"))


def test_parts_run_in_their_order_whatever_is_asked_first() -> None:
    assert run.chosen(["cost,budget", "shading"]) == ("shading", "budget", "cost")
    assert run.chosen([]) == tuple(run.PARTS)
