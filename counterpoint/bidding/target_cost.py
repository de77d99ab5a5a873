"""The multiplier at which what is won costs what it is worth: target CPA, cost per click, return on ad spend.

Worth is value won at the goal (a conversion at its target CPA), as it will be when all of it has been told: predicted at
the bid, times how predictions of this campaign have done so far. That factor compares what has arrived with what was
due by now, never with what was predicted in all: a fresh campaign, whose conversions are all still to come, is neither
dear nor cheap. Delays are a mixture of exponentials (TAUS_S), so that "due by now" is a few numbers; their weights are
learned from the delays told, from a prior.

Cost per value goes as 1 / lambda near where we bid, so ``sum paid x lambda / sum worth`` is the lambda at which it is 1.
What was paid too much or too little before is made up for: the ratio aimed at is moved by the balance of the past
(fading) over the worth of the near future. Held below by the owner's preference (``lowest``), it is 1 or more for those
who never want to pay above value.
"""

from __future__ import annotations

import math

import msgspec

TAUS_S = (60.0, 3_600.0, 28_800.0, 259_200.0)
DELAY_PRIOR = (3.0, 3.0, 2.0, 2.0)  # in conversions told
PRIOR_UNITS = 20.0  # clicks or conversions arrived at which the evidence counts as much as the prediction
FACTOR_MIN, FACTOR_MAX = 0.2, 5.0
WINS_HALF = 500.0
BALANCE_HALF = 20_000.0  # wins
AHEAD = 4.0  # the balance is made up over this many times the worth in sight
AIM_MIN, AIM_MAX = 0.7, 1.3
LAMBDA_COST_MAX = 8.0
RATIO_MIN, RATIO_MAX = 1e-6, 1e6
STEP_MAX = 0.15  # of log lambda


class Delays(msgspec.Struct):
    """Weights of TAUS_S from delays told, of one learner."""

    counts: list[float] = msgspec.field(default_factory=lambda: list(DELAY_PRIOR))

    def told(self, delay_s: float) -> None:
        """A delay teaches the exponential that explains it best; late ones are told late, which the prior bridges."""
        late = max(delay_s, 1.0)
        likely = [
            c / tau * math.exp(-min(late / tau, 700.0)) for c, tau in zip(self.counts, TAUS_S, strict=True)
        ]
        total = sum(likely)
        for k, part in enumerate(likely):
            self.counts[k] += part / total if total > 0.0 else (k == len(likely) - 1)

    def weights(self) -> list[float]:
        total = sum(self.counts)
        return [count / total for count in self.counts]


class TargetCost(msgspec.Struct):
    """One campaign's. Nanos; ``units`` are clicks or conversions."""

    log_lambda: float = 0.0
    paid_now: float = 0.0  # since the last step
    value_now: float = 0.0
    wins_now: float = 0.0
    paid_at_one: float = 0.0  # faded, times the lambda it was paid at
    value: float = 0.0  # faded, as predicted
    paid_all: float = 0.0  # fading slowly: the balance
    value_all: float = 0.0
    arrived: float = 0.0  # worth told
    due: float = 0.0  # worth that should have been told by now, by prediction
    unit: float = 0.0  # worth of one click, conversion or mean order; 0: nothing is ever told (reach)
    pending: list[float] = msgspec.field(default_factory=lambda: [0.0] * len(TAUS_S))
    at_ns: int = 0

    def won(self, paid: float, value: float) -> None:
        self.paid_now += paid
        self.value_now += value
        self.wins_now += 1.0

    def waits(self, value: float, unit: float, delays: Delays | None) -> None:
        """Predicted worth of an impression won, and of a unit of what will be told; ``delays`` None: told at once."""
        self.unit = unit
        if delays is None:
            self.due += value
            return
        for k, weight in enumerate(delays.weights()):
            self.pending[k] += value * weight

    def told(self, worth: float) -> None:
        self.arrived += worth

    def pass_to(self, now_ns: int) -> None:
        """What was pending falls due; called before anything at ``now_ns`` is added. Time never runs back."""
        elapsed_s = (now_ns - self.at_ns) / 1e9 if self.at_ns > 0 else 0.0
        if elapsed_s > 0.0:
            for k, tau in enumerate(TAUS_S):
                due = self.pending[k] * -math.expm1(-elapsed_s / tau)
                self.pending[k] -= due
                self.due += due
        self.at_ns = max(self.at_ns, now_ns)

    def factor(self) -> float:
        """What a unit of predicted worth comes to, shrunk to 1."""
        if self.unit <= 0.0:
            return 1.0
        prior = PRIOR_UNITS * self.unit
        return min(max((self.arrived + prior) / (self.due + prior), FACTOR_MIN), FACTOR_MAX)

    def step(self, used: float, lowest: float) -> None:
        """Solve again; ``used``: the multiplier in force since the last step."""
        if self.wins_now > 0.0:
            fade = 0.5 ** (self.wins_now / WINS_HALF)
            slow = 0.5 ** (self.wins_now / BALANCE_HALF)
            self.paid_at_one = self.paid_at_one * fade + self.paid_now * used
            self.value = self.value * fade + self.value_now
            self.paid_all = self.paid_all * slow + self.paid_now
            self.value_all = self.value_all * slow + self.value_now
            self.arrived *= slow
            self.due *= slow
            self.paid_now = self.value_now = self.wins_now = 0.0
        worth = self.value * self.factor()
        if worth > 0.0 and self.paid_at_one > 0.0:
            balance = self.value_all * self.factor() - self.paid_all
            aim = min(max(1.0 + balance / (AHEAD * worth), AIM_MIN), AIM_MAX)
            solved = math.log(min(max(self.paid_at_one / worth / aim, RATIO_MIN), RATIO_MAX))
            self.log_lambda += min(max(solved - self.log_lambda, -STEP_MAX), STEP_MAX)
        self.log_lambda = min(max(self.log_lambda, math.log(lowest)), math.log(LAMBDA_COST_MAX))
