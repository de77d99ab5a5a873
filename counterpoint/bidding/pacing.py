"""One multiplier per campaign: v_eff = value / lambda. Raised where spend runs ahead of the plan, lowered where behind.

Entropic dual mirror descent (Balseiro, Lu, Mirrokni 2020) against a target shaped by the spend plan and re-targeted
to what is left: in a step the plan gives the share phi of the day out of the rest R, so r = left * phi / R should be
spent, and log lambda moves by eta (spent - r) / r, at most STEP_MAX, eta ~ 1 / sqrt(steps). It rests while nothing was
bid, so that an hour without supply does not wind it up; only where requests came and we priced ourselves out does it
relax, and not beyond 1.

A second dual watches cost against value won, for owners who prefer reach: they let lambda fall below 1 (bids above
the stated value) as long as what was won cost no more than it was worth on average. The larger lambda of the two
holds (Balseiro et al. 2023: the minimum of two independently run multipliers).
"""

from __future__ import annotations

import math

import msgspec

from counterpoint.bidding.policy import LAMBDA_MAX, LAMBDA_MIN

HOURS = 24
HOUR_NS = 3_600_000_000_000
DAY_NS = HOURS * HOUR_NS
PPM = 1_000_000
EVEN_PPM: tuple[int, ...] = tuple((PPM * (h + 1)) // HOURS - (PPM * h) // HOURS for h in range(HOURS))
STEP_MAX = 0.15  # of log lambda
ETA_FIRST, ETA_LAST = 0.15, 0.01
ETA_COST = 0.02
EXCESS_MAX = 3.0  # a burst counts as at most this many targets too much
RELAX = 0.02  # of log lambda per step, while priced out
LAMBDA_COST_MAX = 8.0


class Pace(msgspec.Struct):
    """One campaign's multipliers and what happened since the last step. Money in nanos, of the arms we price in."""

    log_budget: float = 0.0
    log_cost: float = 0.0
    steps: int = 0
    spent: int = 0
    bids: int = 0
    cost_won: float = 0.0
    value_won: float = 0.0

    def multiplier(self, lowest: float) -> float:
        return min(max(math.exp(max(self.log_budget, self.log_cost)), lowest), LAMBDA_MAX)


def lowest_multiplier(reach_weight_ppm: int, cost_weight_ppm: int) -> float:
    """1 (never above the stated value) unless the owner prefers reach; LAMBDA_MIN for reach alone.

    >>> lowest_multiplier(500_000, 500_000), lowest_multiplier(750_000, 250_000), lowest_multiplier(1, 0)
    (1.0, 0.75, 0.5)
    """
    total = reach_weight_ppm + cost_weight_ppm
    share = reach_weight_ppm / total if total > 0 else 0.5
    return max(1.0 - max(0.0, share - 0.5), LAMBDA_MIN)


def elapsed_share(hourly_ppm: tuple[int, ...], day_ns: int) -> float:
    """Share of the day's money the plan has released ``day_ns`` into the local day, linear inside an hour.

    >>> elapsed_share(EVEN_PPM, 0), round(elapsed_share(EVEN_PPM, DAY_NS // 4), 6), elapsed_share(EVEN_PPM, DAY_NS)
    (0.0, 0.25, 1.0)
    """
    hour, rest_ns = divmod(day_ns, HOUR_NS)
    done = sum(hourly_ppm[:hour])
    return (done if hour >= HOURS else done + hourly_ppm[hour] * rest_ns / HOUR_NS) / PPM


def target_nanos(left_nanos: int, elapsed_before: float, elapsed_now: float) -> float:
    """What the plan, re-targeted to what is left, would have spent in between."""
    rest = 1.0 - elapsed_before
    if left_nanos <= 0 or rest <= 1e-9:
        return 0.0
    return left_nanos * min(max(elapsed_now - elapsed_before, 0.0) / rest, 1.0)


def step(pace: Pace, target: float, lowest: float, supply: bool) -> None:
    """Close one interval. ``supply``: requests came in it, whether or not we bid."""
    eta = max(ETA_LAST, ETA_FIRST / math.sqrt(1.0 + pace.steps))
    if pace.bids > 0 or pace.spent > 0:
        if target >= 1.0:
            gap = min(pace.spent / target - 1.0, EXCESS_MAX)
        else:
            gap = EXCESS_MAX if pace.spent > 0 else 0.0  # the plan has nothing for now, or nothing is left
        pace.log_budget += min(max(eta * gap, -STEP_MAX), STEP_MAX)
        pace.steps += 1
    elif supply and pace.log_budget > 0.0:
        pace.log_budget = max(0.0, pace.log_budget - RELAX)
    if pace.value_won > 0.0:
        gap = min(max(pace.cost_won / pace.value_won - 1.0, -EXCESS_MAX), EXCESS_MAX)
        pace.log_cost += min(max(ETA_COST * gap, -STEP_MAX), STEP_MAX)
    pace.log_budget = min(max(pace.log_budget, math.log(lowest)), math.log(LAMBDA_MAX))
    pace.log_cost = min(max(pace.log_cost, math.log(lowest)), math.log(LAMBDA_COST_MAX))
    pace.spent = 0
    pace.bids = 0
    pace.cost_won = 0.0
    pace.value_won = 0.0
