"""What an owner is ready to pay for what a campaign is after: the unit in which everybody is judged."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from counterpoint.catalog.model import Goal
from counterpoint.market.scenario import Scenario


def worth_at_goal(goal: Goal, value_micros: int) -> tuple[float, float, float, float]:
    """What the owner is ready to pay, nanos: per impression, click, conversion, unit of order value.

    Paying exactly this is meeting the target: CPM, CPC, CPA, or return on ad spend (``value_micros`` / 1e6).
    Per impression, nanos are micros CPM.

    >>> worth_at_goal(Goal.CLICKS, 150_000)
    (0.0, 150000000.0, 0.0, 0.0)
    """
    if goal is Goal.REACH:
        return (float(value_micros), 0.0, 0.0, 0.0)
    if goal is Goal.CLICKS:
        return (0.0, value_micros * 1e3, 0.0, 0.0)
    if goal is Goal.CONVERSIONS:
        return (0.0, 0.0, value_micros * 1e3, 0.0)
    return (0.0, 0.0, 0.0, 1e15 / value_micros)


def goal_weights(scenario: Scenario) -> NDArray[np.float64]:
    """[campaign, 4] :func:`worth_at_goal` of each campaign."""
    return np.array([worth_at_goal(c.goal, c.goal_value_micros) for c in scenario.campaign])
