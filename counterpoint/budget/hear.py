"""What the Budget learner hears, into its state: each fact once, in the period in which it was recorded.

A fact stamped well ahead of our clock does not count, or one broken clock would open periods that time has yet to reach.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from counterpoint.base.clock import NS_PER_S
from counterpoint.base.seen import SeenIds
from counterpoint.budget.delivery import PPM, Delivery, Tally
from counterpoint.budget.response import LAGS
from counterpoint.budget.state import Arm, Balance, BudgetConfig, State
from counterpoint.catalog.model import Campaign, Goal
from counterpoint.events.decisions import PolicyPublished, Resolution
from counterpoint.events.event import Event
from counterpoint.events.facts import (
    FACTS_PRICE_LOSS_CODES,
    AuctionLost,
    AuctionWon,
    ClickSeen,
    ConversionAttributed,
    ImpressionSeen,
    TrafficCounted,
)
from counterpoint.events.money import BalanceReported, BudgetMoved, SpendBooked

NAME = "budget"
BIDDING = "bidding"
AGENTS_ARM = "agents"
LAMBDA_TRUST_MAX = 200.0
ARMS_MAX = 16
SEEN_MAX = 20_000  # ids of other facts remembered, at least; twice as many at most
COUNTED_SEEN_MAX = (
    131_072  # ids of spend and outcomes, in a set of their own: no flood of auctions pushes them out
)
AHEAD_NS = 60 * NS_PER_S  # further ahead of our clock is no skew of clocks
PERIODS_AT_ONCE_MAX = 40  # after a longer sleep, older evidence fades and what was missed is not gone through
LATE_PERIODS_MAX = 4  # a fact that comes later than this after its period does not count
PACED_ABOVE = 1.02  # a lambda at its floor of 1 says that money is not what is short
COUNTED: Final = frozenset({SpendBooked, ImpressionSeen, ClickSeen, ConversionAttributed})
TIMED: Final = COUNTED | {AuctionWon, AuctionLost, TrafficCounted, BalanceReported}


class _Paced(msgspec.Struct, frozen=True):
    """Of the bidding policy, as it is published: what Budget reads of it."""

    multipliers: dict[str, float] = {}


_PACED = msgspec.msgpack.Decoder(_Paced)


class Ears:
    def __init__(self, config: BudgetConfig) -> None:
        self.config = config
        self._seen, self._seen_counted = SeenIds(SEEN_MAX), SeenIds(COUNTED_SEEN_MAX)
        self._handlers: dict[type[Event], Callable[[Any], None]] = {
            SpendBooked: self._spent,
            BalanceReported: self._balance,
            BudgetMoved: self._moved,
            ImpressionSeen: self._impression,
            ClickSeen: self._click,
            ConversionAttributed: self._conversion,
            AuctionWon: self._won,
            AuctionLost: self._lost,
            TrafficCounted: self._traffic,
            Resolution: self._resolved,
            PolicyPublished: self._policy_published,
        }

    def follow(self, state: State, campaigns: dict[str, Campaign]) -> None:
        """From now on into this state, of these campaigns."""
        self._state, self._campaigns = state, campaigns

    def hear(self, event: Event, now_ns: int) -> None:
        kind = type(event)
        handler = self._handlers.get(kind)
        if handler is None or (kind is ImpressionSeen and not self._pays_impressions(event)):
            return
        if not (self._seen_counted if kind in COUNTED else self._seen).add(event.event_id):
            return
        at_ns = event.recorded_at_ns
        if kind is TrafficCounted:  # the plan goes by when it happened
            at_ns = max(at_ns, event.happened_at_ns)
        if kind in TIMED and at_ns > now_ns + AHEAD_NS:
            self._state.too_early += 1
            return
        handler(event)

    def dump(self) -> tuple[tuple[bytes, bytes], tuple[bytes, bytes]]:
        """Ids seen: of other facts, of spend and outcomes."""
        return self._seen.dump(), self._seen_counted.dump()

    def load(self, seen: tuple[bytes, bytes], counted: tuple[bytes, bytes]) -> None:
        self._seen.load(seen)
        self._seen_counted.load(counted)

    def _tally(self, campaign_id: str, recorded_at_ns: int) -> Tally:
        """Where a fact counts: in the period in which it was recorded, so that a learner that catches up sees the same
        periods as one that never slept; in the open one where that is closed; nowhere where that was long ago."""
        s = self._state
        period = recorded_at_ns // (self.config.period_s * NS_PER_S)
        if s.period >= 0:
            if not s.period - LATE_PERIODS_MAX <= period <= s.period + PERIODS_AT_ONCE_MAX:
                s.too_late += 1
                return Tally()
            period = max(period, s.period)
        elif str(period) not in s.open and len(s.open) > PERIODS_AT_ONCE_MAX:
            del s.open[min(s.open, key=int)]
        s.heard_ns = max(s.heard_ns, recorded_at_ns)
        return s.open.setdefault(str(period), {}).setdefault(campaign_id, Tally())

    def _spent(self, event: SpendBooked) -> None:
        if event.campaign_id not in self._campaigns:
            return
        tally = self._tally(event.campaign_id, event.recorded_at_ns)
        tally.spend += event.paid_nanos
        if event.arm == AGENTS_ARM:
            tally.spend_agents += event.paid_nanos
        self._arm(event.arm).spend += event.paid_nanos

    def _balance(self, event: BalanceReported) -> None:
        if event.campaign_id not in self._campaigns:
            return
        held = self._state.balances.get(event.campaign_id)
        if held is not None and (event.day, event.version) < (held.day, held.version):
            return
        budget = event.budget_target_nanos or event.budget_nanos
        spent = event.spent_on_time_nanos + event.late_spend_nanos + event.overspend_nanos
        self._state.balances[event.campaign_id] = Balance(
            event.day, event.version, budget, spent, event.stopped
        )
        self._state.budgets[event.campaign_id] = budget

    def _moved(self, event: BudgetMoved) -> None:
        for campaign_id, budget in event.budgets_nanos.items():
            if campaign_id in self._campaigns:
                self._state.budgets[campaign_id] = budget

    def _pays_impressions(self, event: Any) -> bool:
        campaign = self._campaigns.get(event.campaign_id)
        return campaign is not None and campaign.goal is Goal.REACH

    def _impression(self, event: ImpressionSeen) -> None:
        campaign = self._campaigns[event.campaign_id]
        self._earned(event, float(campaign.goal_value_micros))  # micros CPM are nanos an impression

    def _click(self, event: ClickSeen) -> None:
        campaign = self._campaigns.get(event.campaign_id)
        if campaign is not None and campaign.goal is Goal.CLICKS:
            self._earned(event, campaign.goal_value_micros * 1_000.0)

    def _conversion(self, event: ConversionAttributed) -> None:
        campaign = self._campaigns.get(event.campaign_id)
        if campaign is None:
            return
        if campaign.goal is Goal.CONVERSIONS:
            self._earned(event, campaign.goal_value_micros * 1_000.0)
        elif campaign.goal is Goal.VALUE:
            target_roas = (campaign.goal_value_micros or PPM) / PPM
            self._earned(event, event.value_micros * 1_000.0 / target_roas)

    def _earned(self, event: ImpressionSeen | ClickSeen | ConversionAttributed, worth: float) -> None:
        nanos = max(0.0, worth)  # nothing that people did takes value away
        self._arm(event.arm).value += nanos
        if event.bid_at_ns > 0:
            period_ns = self.config.period_s * NS_PER_S
            lag = max(0, event.recorded_at_ns // period_ns - event.bid_at_ns // period_ns)
            lags = self._state.lags.setdefault(event.campaign_id, [0.0] * (LAGS + 1))
            lags[min(lag, LAGS)] += 1.0  # outcomes, not their worth: one large order is not what is usual
        tally = self._tally(event.campaign_id, event.recorded_at_ns)
        if event.arm == AGENTS_ARM:
            tally.value_agents += nanos

    def _arm(self, name: str) -> Arm:
        if name not in self._state.arms and len(self._state.arms) >= ARMS_MAX:
            name = "other"
        return self._state.arms.setdefault(name, Arm())

    def _won(self, event: AuctionWon) -> None:
        if event.campaign_id in self._campaigns:
            self._tally(event.campaign_id, event.recorded_at_ns).won += 1

    def _lost(self, event: AuctionLost) -> None:
        if event.campaign_id not in self._campaigns or event.loss_code not in FACTS_PRICE_LOSS_CODES:
            return
        self._tally(event.campaign_id, event.recorded_at_ns).lost_on_price += 1
        if event.min_to_win_nanos is not None and event.min_to_win_nanos > 0:
            self._state.deliveries.setdefault(event.campaign_id, Delivery()).remember_price(
                event.min_to_win_nanos
            )

    def _traffic(self, event: TrafficCounted) -> None:
        self._state.heard_ns = max(self._state.heard_ns, event.recorded_at_ns)
        self._state.traffic.hear(event)
        self._state.requests += sum(event.requests.values())

    def _resolved(self, event: Resolution) -> None:
        parts = event.target.split("/")
        if parts[0] == "campaign" and parts[-1] == "bid_ceiling" and not event.provisional:
            campaign_id = "/".join(parts[1:-1])
            if campaign_id in self._campaigns:
                self._state.ceilings[campaign_id] = event.value

    def _policy_published(self, event: PolicyPublished) -> None:
        if event.agent == NAME:  # after a lost snapshot: go on counting where the bus left off
            self._state.version = max(self._state.version, event.policy_version)
        elif event.agent == BIDDING and self.config.hear_margins:
            try:
                told = _PACED.decode(event.payload).multipliers
            except msgspec.DecodeError:
                return  # the bidder refuses it, and says so
            self._state.lambdas = {
                name: value
                for name, value in told.items()
                if name in self._campaigns and PACED_ABOVE < value < LAMBDA_TRUST_MAX
            }
