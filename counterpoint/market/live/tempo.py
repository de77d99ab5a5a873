"""How time passes in process: the days are days, and what is meant in seconds stretches with the step.

A live system ticks several times a second at hundreds of requests a second; a scenario has an auction every few
seconds. So one step of ``step_s`` market seconds stands for one second of a live system: whatever the parts measure in
seconds (pacing, periods, lives of policies and allowances, pauses) takes that many steps here as it takes seconds
there, and sees about as many auctions. What is meant in hours and days (budgets, hourly plans, half-lives of what was
learned, frequency windows, notices) stays as it is, as do the resolver's epochs of a second and the exchanges' delays.
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, Struct

from counterpoint.base.clock import NS_PER_S
from counterpoint.bidder.allowances import AllowanceBookConfig
from counterpoint.bidding.state import BiddingConfig
from counterpoint.budget.state import BudgetConfig
from counterpoint.creative.learner import CreativeConfig
from counterpoint.feedback.state import FeedbackConfig
from counterpoint.ledger.config import LedgerConfig

DAY_S: Final = 86_400
ASK_STEPS: Final = 3  # between two asks for one campaign's money: a step can be a percent of the day
POLICY_STEPS: Final = (
    5  # between two policies of an agent: a View takes longer to compile than a step to play
)
STEP_S_MAX: Final = 3_600
WISH_LIFE_MS_MAX: Final = 599_000  # the resolver takes no wish that lives ten minutes or longer
STEP_S_WISHES_MAX: Final = 100  # a longer step outlives the wishes of Budget and Feedback (two minutes)


class Tempo(Struct, frozen=True, forbid_unknown_fields=True):
    """``step_s``: market seconds between two ticks; steps also end at midnight UTC."""

    step_s: Annotated[int, Meta(ge=1, le=STEP_S_MAX)] = 60

    @property
    def step_ns(self) -> int:
        return self.step_s * NS_PER_S

    def ledger(self) -> LedgerConfig:
        base = LedgerConfig()
        return LedgerConfig(
            allowance_life_ns=base.allowance_life_ns * self.step_s,
            retry_after_ns=base.retry_after_ns * self.step_s,
        )

    def allowances(self) -> AllowanceBookConfig:
        base = AllowanceBookConfig()
        return AllowanceBookConfig(
            request_horizon_ns=base.request_horizon_ns * self.step_s,
            renew_before_ns=base.renew_before_ns * self.step_s,
            request_interval_ns=ASK_STEPS * self.step_ns,
            request_share_ppm=max(base.request_share_ppm, 3 * ASK_STEPS * self.step_s * 1_000_000 // DAY_S),
            backoff_first_ns=base.backoff_first_ns * self.step_s,
            backoff_max_ns=base.backoff_max_ns * self.step_s,
            return_interval_ns=base.return_interval_ns * self.step_s,
        )

    def bidding(self) -> BiddingConfig:
        base = BiddingConfig()
        life_ms = min(base.proposal_life_ms * self.step_s, WISH_LIFE_MS_MAX)
        return BiddingConfig(
            publish_every_ms=POLICY_STEPS * base.publish_every_ms * self.step_s,
            renew_every_ms=base.renew_every_ms * self.step_s,
            valid_ms=base.valid_ms * self.step_s,
            pacing_step_ms=base.pacing_step_ms * self.step_s,
            proposal_life_ms=life_ms,
            proposal_every_ms=life_ms * base.proposal_every_ms // base.proposal_life_ms,
        )

    def creative(self) -> CreativeConfig:
        base = CreativeConfig()
        return CreativeConfig(
            publish_every_ms=POLICY_STEPS * base.publish_every_ms * self.step_s,
            renew_every_ms=base.renew_every_ms * self.step_s,
            valid_ms=base.valid_ms * self.step_s,
        )

    def budget(self) -> BudgetConfig:
        base = BudgetConfig()
        return BudgetConfig(
            period_s=base.period_s * self.step_s,
            policy_s=base.policy_s * self.step_s,
            policy_life_s=base.policy_life_s * self.step_s,
        )

    def feedback(self) -> FeedbackConfig:
        base = FeedbackConfig()
        return FeedbackConfig(
            interval_s=base.interval_s * self.step_s,
            policy_s=base.policy_s * self.step_s,
            policy_life_s=base.policy_life_s * self.step_s,
            exploration_life_s=base.exploration_life_s * self.step_s,
            stale_policy_s=base.stale_policy_s * self.step_s,
        )
