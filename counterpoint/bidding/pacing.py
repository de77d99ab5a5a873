"""One multiplier per campaign, v_eff = value / lambda: the larger of two duals, each solved for, none integrated.

Value is maximised under a budget and a cost per unit of value (both in the stated value's money). Per auction the
coupled dual bids v_eff = v (1 + nu) / (mu + nu), one number lambda = (mu + nu) / (1 + nu) (mu of the budget, nu of the
cost, in units of the goal). Spend and cost per value both fall as lambda rises, so with one multiplier per campaign only
one of the two binds, and the optimum is the larger of the lambdas at which each would just hold: the min-composition of
Balseiro et al. (2023). Their factors are never multiplied.

**Budget.** The lambda at which the rest of the day would cost what is left. Near where we bid, spend goes as
lambda ** -ELASTICITY; so what was spent says what lambda 1 would have cost, whatever lambda it was spent at::

    demand = sum spent_t lambda_t ** ELASTICITY,   share = sum phi_t          (both fading)
    lambda = (demand / share * rest / left) ** (1 / ELASTICITY)

``phi_t`` is the plan's share of a day in step t, so that demand / share is the price of a whole day, and ``rest`` the share
still to come. It is re-targeted to what is left at every step; a moved budget is answered in the next one; a new day
starts where the one before ended, times the forecast's ratio. Nothing winds up: no error is summed, an hour without
supply adds neither demand nor share. In steady state this is dual mirror descent (Balseiro, Lu, Mirrokni 2020) with a
step that suits the evidence. ELASTICITY needs to be right only within a factor of two: it is divided out where lambda
hardly moves.

**Cost.** The lambda at which what is won costs what it is worth, see :mod:`counterpoint.bidding.target_cost`.
"""

from __future__ import annotations

import math

import msgspec

from counterpoint.bidding.duals import NOT_PACED, Dual
from counterpoint.bidding.policy import LAMBDA_MAX, LAMBDA_MIN
from counterpoint.bidding.target_cost import TargetCost

HOURS = 24
HOUR_NS = 3_600_000_000_000
DAY_NS = HOURS * HOUR_NS
DAY_S = 86_400.0
PPM = 1_000_000
EVEN_PPM: tuple[int, ...] = tuple((PPM * (h + 1)) // HOURS - (PPM * h) // HOURS for h in range(HOURS))
ELASTICITY = 1.5
BIDS_HALF = 2_000.0  # evidence fades by half in so many bids, but
WINS_HALF = 200.0  # not faster than in so many wins
SECONDS_HALF = 300.0  # and so many seconds,
DAYS_HALF = 1.0  # nor slower than in so many days; without a clock:
BIDS_SLOW = 10.0  # times BIDS_HALF
STEP_MAX = 0.5  # of log lambda
RELAX = 0.02  # of log lambda per step, while priced out
TOMORROW = 0.002  # of a day that is planned for beyond midnight, so that the last seconds are not a cliff


class Pace(msgspec.Struct):
    """One campaign's multipliers and what happened since the last step. Money in nanos, of the arms we price in."""

    log_budget: float = 0.0
    demand: float = 0.0  # faded nanos, as they would have been spent at lambda 1
    share: float = 0.0  # of a day's plan, faded alike: what the demand stands on
    usual_demand: float = 0.0  # the same two over days: what a usual day of this campaign is
    usual_share: float = 0.0
    spent: int = 0
    bids: int = 0
    wins: int = 0
    left: float = 0.0  # as of the last step
    rest: float = NOT_PACED
    cost: TargetCost = msgspec.field(default_factory=TargetCost)

    def multiplier(self, lowest: float) -> float:
        return min(max(math.exp(max(self.log_budget, self.cost.log_lambda)), lowest), LAMBDA_MAX)

    def dual(self) -> Dual:
        budget, cost = math.exp(self.log_budget), math.exp(self.cost.log_lambda)
        return Dual(budget, cost, int(self.left), round(self.rest, 6))

    def marginal_value(self, lowest: float) -> float:
        """Value at the goal that one more unit of budget would buy: lambda where the budget holds it, else 0, since the
        cost or the owner's value holds it and more money would not be spent."""
        binds = self.log_budget > max(self.cost.log_lambda, math.log(lowest)) + 1e-9
        return math.exp(self.log_budget) if binds else 0.0


def lowest_multiplier(reach_weight_ppm: int, cost_weight_ppm: int) -> float:
    """LAMBDA_MIN unless the owner prefers cost; 1 (never above the stated value) for cost alone.

    Below 1 the budget is spent as long as the target cost, which has a multiplier of its own, is met on the whole: what a
    value maximiser does (ALGORITHMS 1.3, objective B).

    >>> [round(lowest_multiplier(reach, 4 - reach), 3) for reach in (4, 2, 1, 0)]
    [0.2, 0.2, 0.6, 1.0]
    """
    total = reach_weight_ppm + cost_weight_ppm
    share = reach_weight_ppm / total if total > 0 else 0.5
    return LAMBDA_MIN + (1.0 - LAMBDA_MIN) * (1.0 - min(1.0, 2.0 * share))


def step(
    pace: Pace,
    *,
    phi: float,
    rest: float,
    left: float,
    budget: float,
    elapsed_s: float,
    lowest: float,
    supply: bool,
) -> None:
    """Close one interval. ``phi``: its share of a day's plan, ``rest``: the share still to come today; ``left`` of
    ``budget``: nanos, this day's; ``supply``: requests came, whether or not we bid. ``elapsed_s`` infinite: no clock."""
    used = pace.multiplier(lowest)
    if pace.bids > 0 or pace.spent > 0:
        fade = _fade(pace, elapsed_s)
        pace.demand = pace.demand * fade + pace.spent * used**ELASTICITY
        pace.share = pace.share * fade + max(phi, 0.0)
    elif supply and pace.log_budget > 0.0:
        pace.demand *= math.exp(-RELAX * ELASTICITY)
    pace.spent = pace.bids = pace.wins = 0
    pace.cost.step(used, lowest)
    pace.left, pace.rest = left, max(rest, 0.0)
    if left > 0.0 and pace.share > 0.0:
        wanted = (left + TOMORROW * budget) / (max(rest, 0.0) + TOMORROW)
        solved = math.log(max(pace.demand / pace.share / wanted, 1e-12)) / ELASTICITY
        pace.log_budget += min(max(solved - pace.log_budget, -STEP_MAX), STEP_MAX)
    pace.log_budget = min(max(pace.log_budget, math.log(lowest)), math.log(LAMBDA_MAX))


def unpaced(pace: Pace, lowest: float) -> None:
    """As soon as possible: the budget holds nothing back."""
    used = pace.multiplier(lowest)
    pace.spent = pace.bids = pace.wins = 0
    pace.cost.step(used, lowest)
    pace.rest = NOT_PACED
    pace.log_budget = math.log(lowest)


def _fade(pace: Pace, elapsed_s: float) -> float:
    halves = min(pace.bids / BIDS_HALF, pace.wins / WINS_HALF, elapsed_s / SECONDS_HALF)
    days = elapsed_s / (DAYS_HALF * DAY_S) if math.isfinite(elapsed_s) else pace.bids / BIDS_HALF / BIDS_SLOW
    return float(0.5 ** (halves + days))


def elapsed_share(hourly_ppm: tuple[int, ...], day_ns: int) -> float:
    """Share of the day's money the plan has released ``day_ns`` into the local day, linear inside an hour.

    >>> elapsed_share(EVEN_PPM, 0), round(elapsed_share(EVEN_PPM, DAY_NS // 4), 6), elapsed_share(EVEN_PPM, DAY_NS)
    (0.0, 0.25, 1.0)
    """
    hour, rest_ns = divmod(day_ns, HOUR_NS)
    done = sum(hourly_ppm[:hour])
    return (done if hour >= HOURS else done + hourly_ppm[hour] * rest_ns / HOUR_NS) / PPM
