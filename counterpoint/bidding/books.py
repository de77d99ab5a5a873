"""What the ledger, the Budget agent, coordination and people say: budgets, plans, ceilings and stops, taken into the state."""

from __future__ import annotations

from collections.abc import Mapping

from counterpoint.base.ids import digest
from counterpoint.bidding.pacing import PPM
from counterpoint.bidding.state import State, read_spend_plans
from counterpoint.bidding.steering import AGENT_STOP, governed_share, money_today
from counterpoint.catalog.model import Campaign
from counterpoint.events.decisions import PolicyPublished, Resolution, StopChanged
from counterpoint.events.money import BalanceReported, BudgetMoved

BALANCE_GAP_PPM = 10_000  # of the budget: a larger gap to the ledger's books means that we missed bookings

Campaigns = Mapping[str, Campaign]


def on_balance(state: State, campaigns: Campaigns, balance: BalanceReported, now_ns: int) -> None:
    money = money_today(state, campaigns.get(balance.campaign_id), balance.day, now_ns)
    if money is None:
        return
    state.money_moved |= money.budget != balance.budget_nanos
    money.budget = balance.budget_nanos
    money.stopped = balance.stopped
    booked = balance.spent_on_time_nanos + balance.late_spend_nanos
    gap = booked - money.spent_all
    if abs(gap) * PPM > BALANCE_GAP_PPM * max(balance.budget_nanos, 1):
        money.spent_governed = max(0, money.spent_governed + int(gap * governed_share(state)))
        money.spent_all = booked


def on_moved(state: State, campaigns: Campaigns, moved: BudgetMoved, now_ns: int) -> None:
    for campaign_id, budget_nanos in moved.budgets_nanos.items():
        money = money_today(state, campaigns.get(campaign_id), moved.day, now_ns)
        if money is not None:
            money.budget = budget_nanos
            state.money_moved = True


def on_policy(state: State, campaigns: Campaigns, published: PolicyPublished, now_ns: int) -> None:
    """The spend plan, where the Budget agent says so and the bytes are what it said."""
    if published.agent != "budget" or digest(published.payload) != published.checksum:
        return
    plans = read_spend_plans(published.payload)
    if plans is not None:
        state.plans = plans


def on_resolution(state: State, campaigns: Campaigns, resolved: Resolution, now_ns: int) -> None:
    kind, _, rest = resolved.target.partition("/")
    campaign_id, _, setting = rest.rpartition("/")
    if kind == "campaign" and setting == "bid_ceiling" and campaign_id in campaigns:
        state.ceilings[campaign_id] = resolved.value


def on_stop(state: State, campaigns: Campaigns, stop: StopChanged, now_ns: int) -> None:
    known = stop.target in ("all", AGENT_STOP) or stop.target.removeprefix("campaign/") in campaigns
    if stop.stopped and known:
        state.stopped[stop.target] = True
    else:
        state.stopped.pop(stop.target, None)
