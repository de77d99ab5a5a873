"""The learner's money: which day it is for whom, what share of a budget our prices spend, and the paces of all campaigns."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

from counterpoint.base.clock import NS_PER_S
from counterpoint.bidding import pacing
from counterpoint.bidding.forecast import Week
from counterpoint.bidding.pacing import DAY_NS
from counterpoint.bidding.state import Money, State
from counterpoint.catalog.local_time import offset_minutes
from counterpoint.catalog.model import Campaign, Goal, LineItem, Pacing

AGENT_STOP = "agent/bidding"
SHARE_PRIOR_BIDS = 1_000.0
CLOCK_AHEAD_NS = 60 * NS_PER_S  # beyond it a mark of the future is a clock that was wrong
WORTH_TELLING = 1e-4  # of a multiplier: below, no new policy for it
RICH_DAYS = 3.0  # half-life, in days of plan, of what a campaign's usual day costs


def local_day(campaign: Campaign, now_ns: int) -> int:
    return (now_ns + offset_minutes(campaign, now_ns) * 60 * NS_PER_S) // DAY_NS


def day_name(day_number: int) -> str:
    """Days since 1970-01-01 as YYYY-MM-DD, as the ledger names them."""
    return date.fromordinal(719_163 + day_number).isoformat()


def money_today(state: State, campaign: Campaign | None, day: str, now_ns: int) -> Money | None:
    """A later day than the one we are in opens it (tomorrow at most: clocks differ by little); an earlier one is
    history, and None."""
    money = None if campaign is None else state.money.get(campaign.id)
    if campaign is None or money is None or day < money.day:
        return None
    if day > money.day:
        if day > day_name(local_day(campaign, now_ns) + 1):
            return None
        money.day, money.spent_all, money.spent_governed = day, 0, 0
    return money


def clock_set_back(state: State, campaigns: Mapping[str, Campaign], now_ns: int) -> bool:
    """Whether the clock stood over CLOCK_AHEAD_NS ahead until now. Then what was to wait for it does not: marks of the future are
    now, and a day it opened is closed again, its money unspent until the ledger tells. Smaller steps back are waited out."""
    if max(state.stepped_at_ns, state.decayed_at_ns) <= now_ns + CLOCK_AHEAD_NS:
        return False
    for mark in ("published_at_ns", "stepped_at_ns", "decayed_at_ns", "judged_at_ns"):
        setattr(state, mark, min(getattr(state, mark), now_ns))
    for marks in (state.wished_at_ns, state.doubted_at_ns):
        for name in marks:
            marks[name] = min(marks[name], now_ns)
    for pace in state.paces.values():
        pace.cost.at_ns = min(pace.cost.at_ns, now_ns)
    for cost in state.costs.values():
        cost.at_ns = min(cost.at_ns, now_ns)
    state.forecast.set_back(now_ns)
    for campaign_id, campaign in campaigns.items():
        money, today = state.money[campaign_id], local_day(campaign, now_ns)
        if money.day > day_name(local_day(campaign, now_ns + CLOCK_AHEAD_NS)):
            money.day, money.spent_all, money.spent_governed = day_name(today), 0, 0
    state.dirty = True
    return True


def governed_share(state: State) -> float:
    """Of each budget, what goes to arms we price in: their share of bids, 1 before any were heard."""
    return (state.bids_governed + SHARE_PRIOR_BIDS) / (state.bids_all + SHARE_PRIOR_BIDS)


def least_lambda(campaign: Campaign) -> float:
    """Whoever wants its money spent at once pays what an impression is worth, not more."""
    if campaign.pacing is not Pacing.EVEN:
        return 1.0
    return pacing.lowest_multiplier(campaign.reach_weight_ppm, campaign.cost_weight_ppm)


def pace_campaigns(state: State, campaigns: Mapping[str, Campaign], now_ns: int) -> None:
    """Close the interval since the last call for every campaign. One that is stopped or paused learns nothing."""
    before_ns = min(state.stepped_at_ns, now_ns)
    state.stepped_at_ns = now_ns
    supply, state.supply = state.supply, False
    state.money_moved = False
    plans = state.plans.plans if now_ns <= state.plans.valid_until_ns else {}
    week = Week(state.forecast)
    share = governed_share(state)
    for campaign_id, campaign in campaigns.items():
        pace, money = state.paces[campaign_id], state.money[campaign_id]
        offset_ns = offset_minutes(campaign, now_ns) * 60 * NS_PER_S
        midnight_ns = (now_ns + offset_ns) // DAY_NS * DAY_NS - offset_ns
        money_today(state, campaign, day_name((now_ns + offset_ns) // DAY_NS), now_ns)
        halted = any(t in state.stopped for t in ("all", f"campaign/{campaign_id}", AGENT_STOP))
        if before_ns == 0 or money.stopped or campaign.paused or halted:
            pace.bids = pace.spent = pace.wins = 0
            continue
        lowest = least_lambda(campaign)
        old, spent = pace.multiplier(lowest), pace.spent
        pace.cost.pass_to(now_ns)
        if campaign.pacing is not Pacing.EVEN:
            pacing.unpaced(pace, lowest)
            how = "as soon as possible"
        else:
            plan = plans.get(campaign_id)
            hourly = plan.hourly_ppm if plan is not None else None
            phi = week.between(before_ns, now_ns, midnight_ns, hourly)
            rest = week.between(now_ns, midnight_ns + DAY_NS, midnight_ns, hourly)
            budget = money.budget * share
            left = budget - money.spent_governed
            if phi > 0.0 and pace.bids > 0:
                _learn_hours(state, pace, old, phi / week.rich_at(now_ns), now_ns)
            pacing.step(
                pace,
                phi=phi,
                rest=rest,
                left=left,
                budget=budget,
                elapsed_s=(now_ns - before_ns) / NS_PER_S,
                lowest=lowest,
                supply=supply,
            )
            how = f"spent {spent / 1e9:.4f} in the step, {left / 1e9:.4f} left for {rest:.3f} of a day"
        new = pace.multiplier(lowest)
        if abs(new / old - 1.0) > WORTH_TELLING:
            state.dirty = True
            holds = "cost" if pace.cost.log_lambda >= pace.log_budget else "budget"
            state.why = f"campaign {campaign_id}: lambda {old:.3f} to {new:.3f} by its {holds}; {how}"


def _learn_hours(state: State, pace: pacing.Pace, used: float, phi: float, now_ns: int) -> None:
    """How this hour compares with the campaign's usual one, by what both would cost at lambda 1."""
    fade = 0.5 ** (phi / RICH_DAYS)
    spent_at_one = pace.spent * used**pacing.ELASTICITY
    pace.usual_demand = pace.usual_demand * fade + spent_at_one
    pace.usual_share = pace.usual_share * fade + phi
    if pace.usual_demand > 0.0:
        state.forecast.heard(now_ns, spent_at_one * pace.usual_share / pace.usual_demand, phi)


# ---- what the cost dual hears


def awaits(state: State, campaign: Campaign, value_nanos: int) -> None:
    """An auction won by our prices: worth that will be told at once (clicks), later (orders) or never (reach)."""
    cost = state.paces[campaign.id].cost
    if campaign.goal is Goal.CLICKS:
        cost.waits(value_nanos, campaign.goal_value_micros * 1e3, None)
    elif campaign.goal is Goal.CONVERSIONS:
        cost.waits(value_nanos, campaign.goal_value_micros * 1e3, state.delays)
    elif campaign.goal is Goal.VALUE:
        cost.waits(value_nanos, _worth_of(campaign, campaign.expected_order_value_micros), state.delays)


def click_told(state: State, campaign: Campaign | None) -> None:
    if campaign is not None and campaign.goal is Goal.CLICKS:
        state.paces[campaign.id].cost.told(campaign.goal_value_micros * 1e3)


def order_told(state: State, campaign: Campaign, value_micros: int, delay_ns: int) -> None:
    """An order counts at what the goal says it is worth."""
    if campaign.goal is Goal.CONVERSIONS:
        worth = campaign.goal_value_micros * 1e3
    elif campaign.goal is Goal.VALUE:
        worth = _worth_of(campaign, max(value_micros, 0))
    else:
        return
    state.delays.told(delay_ns / NS_PER_S)
    state.paces[campaign.id].cost.told(worth)


def _worth_of(campaign: Campaign, order_value_micros: int) -> float:
    """Nanos that an order may cost at the target return, which is in ppm."""
    return order_value_micros * 1e9 / max(campaign.goal_value_micros, 1)


def marginal_values(
    state: State, campaigns: Mapping[str, Campaign], items: Mapping[str, LineItem]
) -> dict[str, float]:
    """By line item; those of a campaign share its money, and so its multiplier."""
    by_campaign = {
        name: state.paces[name].marginal_value(least_lambda(campaign)) for name, campaign in campaigns.items()
    }
    return {name: by_campaign[item.campaign_id] for name, item in items.items()}
