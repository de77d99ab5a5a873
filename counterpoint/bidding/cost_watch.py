"""Is a campaign paying more per click, conversion or value than its goal allows? Then a lower bid ceiling is wished.

What was paid and what came of it are counted with decay. At the goal, money ``paid`` should have brought
``paid / goal`` units. The campaign is dear when it paid for at least UNITS_MIN units, costs more than
DEAR_RATIO times its goal, and fewer units came than a Poisson count would show by chance (one-sided, Z_DEAR). It
stays dear until the ratio is back under FINE_RATIO, so that a wish does not flicker.
"""

from __future__ import annotations

import math

import msgspec

from counterpoint.base.clock import NS_PER_S
from counterpoint.catalog.model import Campaign, Goal

UNITS_MIN = 10.0
DEAR_RATIO, FINE_RATIO = 1.15, 1.05
Z_DEAR = 1.28
Z_SURE = 4.0  # at this many deviations the wish is made with full confidence
CEILING_SHARE_MIN = 0.05  # of the owner's ceiling: what bidding may wish at the lowest
PPM = 1_000_000


class Cost(msgspec.Struct):
    """Decayed sums of one campaign, over the arms we price in."""

    paid_nanos: float = 0.0
    clicks: float = 0.0
    bids_won: float = 0.0
    bids_won_nanos: float = 0.0
    at_ns: int = 0
    dear: bool = False

    def decay_to(self, now_ns: int, half_life_s: float) -> None:
        if now_ns > self.at_ns:
            if self.at_ns > 0:
                factor = 0.5 ** ((now_ns - self.at_ns) / NS_PER_S / half_life_s)
                self.paid_nanos *= factor
                self.clicks *= factor
                self.bids_won *= factor
                self.bids_won_nanos *= factor
            self.at_ns = now_ns


class Wish(msgspec.Struct, frozen=True):
    value_micros: int  # CPM
    strength_ppm: int
    confidence_ppm: int
    reason: str


def judge(cost: Cost, campaign: Campaign, click_value_nanos: float) -> Wish | None:
    """``click_value_nanos``: what a click is worth at goal (conversions: rate x target CPA; value: rate x order value /
    target ROAS), with rates that waited for their conversions. Judging by clicks times a mature rate is what keeps
    an order that is still to come from looking like money lost. Reach has no unit to be dear by: its price is its value.
    Sets ``cost.dear``.
    """
    if campaign.goal is Goal.REACH or click_value_nanos <= 0.0 or cost.bids_won < 1.0:
        cost.dear = False
        return None
    expected = cost.paid_nanos / click_value_nanos
    ratio = expected / max(cost.clicks, 0.5)
    z = (expected - cost.clicks) / math.sqrt(max(expected, 1e-9))
    if cost.dear:
        cost.dear = expected >= UNITS_MIN / 2 and ratio > FINE_RATIO
    else:
        cost.dear = expected >= UNITS_MIN and ratio > DEAR_RATIO and z > Z_DEAR
    if not cost.dear:
        return None
    mean_bid = cost.bids_won_nanos / cost.bids_won
    lowest = -(-campaign.bid_ceiling_micros * int(CEILING_SHARE_MIN * 100) // 100)
    wished = min(max(int(mean_bid / ratio), lowest), campaign.bid_ceiling_micros)
    return Wish(
        value_micros=wished,
        strength_ppm=min(max(int((ratio - 1.0) * PPM), 200_000), PPM),
        confidence_ppm=min(max(int(z / Z_SURE * PPM), 200_000), PPM),
        reason=f"a {_unit(campaign.goal)} costs {ratio:.2f} x its goal over {cost.clicks:.0f} clicks",
    )


def _unit(goal: Goal) -> str:
    return {Goal.CLICKS: "click", Goal.CONVERSIONS: "conversion"}.get(goal, "unit of order value")
