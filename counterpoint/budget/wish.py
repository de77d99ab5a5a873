"""What Budget wishes and takes back: shares of pools, bid ceilings. What stands is in the state, and so outlives a restart."""

from __future__ import annotations

from counterpoint.budget.delivery import PPM, Verdict
from counterpoint.budget.hear import NAME
from counterpoint.budget.state import State
from counterpoint.catalog.model import Campaign
from counterpoint.coordination.clock import HybridClock
from counterpoint.coordination.proposals import ProposalDesk
from counterpoint.coordination.targets import bid_ceiling, budget_share
from counterpoint.events.agent import Decision

REASON_MAX = 280
SHARE, CEILING = "budget", "reach"  # intents


class Wishes:
    def __init__(self, clock: HybridClock) -> None:
        self._desk = ProposalDesk(NAME, clock)
        self.clock = clock

    def follow(self, state: State, pools: dict[str, list[Campaign]], campaigns: dict[str, Campaign]) -> None:
        """From now on what stands in this state, of these campaigns. A split wished for other members than a pool has now
        is no split of it: it is dropped whole. What is out of the catalog cannot be wished about, nor taken back."""
        self._state = s = state
        members = {name: {c.id for c in pool} for name, pool in pools.items()}
        wished: dict[str, set[str]] = {}
        for campaign_id, pool_id in s.wished_in.items():
            wished.setdefault(pool_id, set()).add(campaign_id)
        holds = {name for name, of in wished.items() if members.get(name) == of}
        pooled = set().union(*members.values())
        for campaign_id in [c for c in s.wished if s.wished_in.get(c) not in holds]:
            self._drop_share(campaign_id)
        targets = {budget_share(c) for c in pooled} | {bid_ceiling(c) for c in campaigns}
        s.taken_back = {target: intent for target, intent in s.taken_back.items() if target in targets}

    def keep_time(self, now_ns: int) -> None:
        self.clock.keep_time(now_ns)

    def share(self, pool_id: str, shares: dict[str, int]) -> None:
        """To be said from now on, ppm of the pool by campaign."""
        self._state.wished.update(shares)
        self._state.wished_in.update(dict.fromkeys(shares, pool_id))
        for campaign_id in shares:
            self._state.taken_back.pop(budget_share(campaign_id), None)

    def say_shares(self, now_ns: int) -> list[Decision]:
        """The wished splits, again and again, so that they hold as long as we live, and not much longer."""
        s = self._state
        return [
            self._desk.wish(
                budget_share(campaign_id),
                s.wished[campaign_id],
                SHARE,
                now_ns,
                reason=f"marginal return {s.marginal.get(campaign_id, 0.0):.2f}; {s.why}"[:REASON_MAX],
                version=s.version,
            )
            for campaign_id in sorted(s.wished)
        ]

    def ceiling(self, campaign_id: str, micros: int, verdict: Verdict, now_ns: int) -> Decision:
        return self._desk.wish(
            bid_ceiling(campaign_id),
            micros,
            CEILING,
            now_ns,
            reason=verdict.reason,
            strength=round(PPM * min(1.0, max(0.1, 1.0 - verdict.share))),
            version=self._state.version,
        )

    def no_ceiling(self, campaign_id: str, verdict: Verdict, now_ns: int) -> Decision:
        return self._desk.withdraw(
            bid_ceiling(campaign_id), CEILING, now_ns, reason=f"no longer: {verdict.reason}"
        )

    def drop_all(self) -> None:
        """In shadow nothing stands."""
        for campaign_id in list(self._state.wished):
            self._drop_share(campaign_id)
        for campaign_id, delivery in self._state.deliveries.items():
            if delivery.wished:
                delivery.wished = 0
                self._state.taken_back[bid_ceiling(campaign_id)] = CEILING

    def take_back(self, now_ns: int) -> list[Decision]:
        """Withdrawals of what was dropped."""
        dropped, self._state.taken_back = self._state.taken_back, {}
        return [
            self._desk.withdraw(target, dropped[target], now_ns, reason="no longer wished")
            for target in sorted(dropped)
        ]

    def _drop_share(self, campaign_id: str) -> None:
        s = self._state
        del s.wished[campaign_id]
        s.wished_in.pop(campaign_id, None)
        s.taken_back[budget_share(campaign_id)] = SHARE
