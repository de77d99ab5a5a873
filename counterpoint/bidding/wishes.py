"""Wishes about bid ceilings: proposed where a campaign is dear, renewed before they expire, withdrawn when it is fine again."""

from __future__ import annotations

from collections.abc import Mapping

from counterpoint.base.clock import NS_PER_MS
from counterpoint.bidding.cost_watch import judge
from counterpoint.bidding.rates import Rates
from counterpoint.bidding.state import BiddingConfig, State
from counterpoint.catalog.model import Campaign, Goal
from counterpoint.coordination.proposals import ProposalDesk
from counterpoint.coordination.targets import bid_ceiling
from counterpoint.events.agent import Decision


def wishes(
    state: State,
    campaigns: Mapping[str, Campaign],
    rates: Rates,
    conversion_priors: Mapping[str, float],
    desk: ProposalDesk,
    config: BiddingConfig,
    now_ns: int,
) -> list[Decision]:
    """``conversion_priors``: the owners' mean expected conversions per click, by campaign."""
    decisions = []
    for campaign_id, campaign in campaigns.items():
        cost = state.costs[campaign_id]
        wished_at_ns = state.wished_at_ns.get(campaign_id)
        if wished_at_ns is None and cost.bids_won < 1.0:
            continue
        if wished_at_ns is not None and now_ns - wished_at_ns < config.proposal_every_ms * NS_PER_MS:
            continue
        cost.decay_to(now_ns, config.cost_half_life_s)
        wish = judge(cost, campaign, _click_value_nanos(campaign, rates, conversion_priors.get(campaign_id)))
        if wish is not None:
            state.wished_at_ns[campaign_id] = now_ns
            ceiling = state.ceilings.get(campaign_id, campaign.bid_ceiling_micros)
            state.last = f"wishes bid ceiling {wish.value_micros / 1e6:.2f} CPM for campaign {campaign_id}"
            state.why = f"{wish.reason}; resolved now: {ceiling / 1e6:.2f}"
            decisions.append(
                desk.wish(
                    bid_ceiling(campaign_id),
                    wish.value_micros,
                    "cost",
                    now_ns,
                    reason=wish.reason,
                    strength=wish.strength_ppm,
                    confidence=wish.confidence_ppm,
                    life_ns=config.proposal_life_ms * NS_PER_MS,
                    version=state.version,
                )
            )
        elif wished_at_ns is not None:
            del state.wished_at_ns[campaign_id]
            state.last = f"withdraws its wish about the bid ceiling of campaign {campaign_id}"
            state.why = "its cost is back within the goal"
            decisions.append(desk.withdraw(bid_ceiling(campaign_id), "cost", now_ns, reason=state.why))
    return decisions


def _click_value_nanos(campaign: Campaign, rates: Rates, prior: float | None) -> float:
    if campaign.goal is Goal.CLICKS:
        return campaign.goal_value_micros * 1e3
    counts = rates.state.campaigns.get(campaign.id)
    if counts is None or counts.clicks < 1.0 or prior is None:
        return 0.0  # nothing measured yet: not dear, not fine
    rate = rates.conversion_rate("", campaign.id, prior)
    if campaign.goal is Goal.CONVERSIONS:
        return rate * campaign.goal_value_micros * 1e3
    order = rates.order_value_micros(campaign.id, campaign.expected_order_value_micros)
    return rate * order * 1e3 / (max(campaign.goal_value_micros, 1) / 1e6)
