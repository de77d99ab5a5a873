"""Allowances that a frozen run is given instead of asking a ledger."""

from collections.abc import Sequence

from counterpoint.events.money import AllowanceGranted
from counterpoint.market.live.system import BIDDER_ID
from counterpoint.market.scenario import STARTS_AT_NS, Scenario

FOR_GOOD_NS = STARTS_AT_NS + 10**17


def allowances(scenario: Scenario, incarnation: str, nanos: Sequence[int]) -> tuple[AllowanceGranted, ...]:
    """One for each campaign, for the whole run; ``nanos`` by campaign."""
    return tuple(
        AllowanceGranted(
            event_id=f"given-{campaign.id}",
            happened_at_ns=STARTS_AT_NS,
            recorded_at_ns=STARTS_AT_NS,
            source="ledger",
            allowance_id=f"given-{campaign.id}",
            request_id="",
            bidder_id=BIDDER_ID,
            incarnation=incarnation,
            campaign_id=campaign.id,
            arm="agents",
            day="2026-01-05",
            granted_nanos=granted,
            usable_nanos=granted,
            expires_at_ns=FOR_GOOD_NS,
        )
        for campaign, granted in zip(scenario.campaign, nanos, strict=True)
    )
