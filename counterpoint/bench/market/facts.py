"""What a bidder may know of a market: its own catalog and the profiles of the exchanges. No truth about people or rivals."""

from __future__ import annotations

from typing import Any

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from counterpoint.catalog.model import Goal
from counterpoint.market.auctions import Auctions, Rows
from counterpoint.market.design import MEDIA, Design
from counterpoint.market.scenario import Scenario
from counterpoint.market.worth import goal_weights

Ints = NDArray[Any]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

NANOS = 1_000_000_000  # per unit of the account currency
SHORTEST_WARM_UP_DAYS = 1


class Facts(Struct, frozen=True, kw_only=True):
    """Arrays by position: campaign, creative, supply path, venue as the scenario declares them.

    A *format* is one (medium, size, country); ``formats(auctions)`` names each auction's by number. Money: nanos of the
    account currency; one micro CPM is one nano per impression, so prices and spending add up without conversion.
    Its arrays are read-only.
    """

    scenario: str
    days: int
    warm_up_days: int  # played, not judged
    auctions_a_day: float  # last month's volume, as any advertiser would know it
    campaign_ids: tuple[str, ...]
    goals: tuple[Goal, ...]
    day_budget_nanos: Ints  # [campaign] as the owner split it
    ceiling_micros: Ints  # [campaign]
    frequency_cap: Ints  # [campaign] impressions per person and UTC day; 0: none
    # [campaign, 4] worth of an impression, click, conversion (micros CPM), and of a unit of order value, at the goal
    worth: Floats
    click_prior: Floats  # [campaign] the owner's guess, per impression
    conversion_prior: Floats  # [campaign] the owner's guess, per click
    order_value: Floats  # [campaign] mean basket, account currency
    creative_campaign: Ints
    creative_line_item: Ints
    creative_media: Ints
    creative_from_ns: Ints
    creative_to_ns: Ints
    supply_venue: Ints
    supply_media: Ints
    minimum_told: Bools  # [venue] tells the least bid that would have won
    sizes: int
    countries: int
    fits: Bools  # [format, creative] media, size and country agree; life is asked per auction

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if isinstance(getattr(self, name), np.ndarray):
                getattr(self, name).setflags(write=False)

    def copied(self) -> Facts:
        """With arrays of its own: a player's, who cannot reach anybody else's."""
        arrays = {name: getattr(self, name) for name in self.__struct_fields__}
        return replace(self, **{k: v.copy() for k, v in arrays.items() if isinstance(v, np.ndarray)})

    @property
    def campaigns(self) -> int:
        return len(self.campaign_ids)

    @property
    def pool_nanos(self) -> int:
        """Budget of a day over all campaigns: the hard limit, however it is split."""
        return int(self.day_budget_nanos.sum())

    def formats(self, auctions: Auctions) -> Rows:
        media = auctions.media.astype(np.int64)
        return np.asarray(
            (media * (self.sizes + 1) + auctions.size + 1) * self.countries + auctions.country, np.int64
        )

    def living(self, t_ns: int) -> Bools:
        """[format, creative]: fits and lives at ``t_ns``."""
        lives = (self.creative_from_ns <= t_ns) & (t_ns < self.creative_to_ns)
        return np.asarray(self.fits & lives)

    def campaigns_open(self, t_ns: int) -> Bools:
        """[format, campaign]: at least one of its creatives fits and lives."""
        firsts = np.searchsorted(self.creative_campaign, np.arange(self.campaigns))
        return np.asarray(np.logical_or.reduceat(self.living(t_ns), firsts, axis=1))


def warm_up_days(days: int) -> int:
    """A seventh of the scenario, rounded up: two days of fourteen."""
    return max(SHORTEST_WARM_UP_DAYS, -(-days // 7)) if days > 1 else 0


def facts_of(scenario: Scenario, design: Design) -> Facts:
    campaigns = scenario.campaign
    sizes, countries = len(scenario.size), len(scenario.users.countries)
    formats = len(MEDIA) * (sizes + 1) * countries
    fits = np.zeros((formats, design.count), dtype=np.bool_)
    for media in range(len(MEDIA)):
        for size in range(-1, sizes):
            for country in range(countries):
                number = (media * (sizes + 1) + size + 1) * countries + country
                fits[number, design.fitting(media, size, country)] = True
    venues = [v.id for v in scenario.venue]
    return Facts(
        scenario=scenario.name,
        days=scenario.days,
        warm_up_days=warm_up_days(scenario.days),
        auctions_a_day=scenario.auctions / scenario.days,
        campaign_ids=tuple(c.id for c in campaigns),
        goals=tuple(c.goal for c in campaigns),
        day_budget_nanos=np.array(
            [int(c.daily_budget * scenario.budget_factor * NANOS) for c in campaigns], dtype=np.int64
        ),
        ceiling_micros=np.array([round(c.bid_ceiling_cpm * 1e6) for c in campaigns], dtype=np.int64),
        frequency_cap=np.array([c.frequency_cap for c in campaigns], dtype=np.int64),
        worth=goal_weights(scenario),
        click_prior=np.array([c.expected_click_rate for c in campaigns]),
        conversion_prior=np.array([c.expected_conversion_rate for c in campaigns]),
        order_value=np.array([c.order_value for c in campaigns]),
        creative_campaign=design.campaign.astype(np.int64),
        creative_line_item=design.line_item.astype(np.int64),
        creative_media=design.media.astype(np.int64),
        creative_from_ns=design.from_ns.copy(),
        creative_to_ns=design.to_ns.copy(),
        supply_venue=np.array([venues.index(p.venue) for p in scenario.supply], dtype=np.int64),
        supply_media=np.array([MEDIA.index(p.media) for p in scenario.supply], dtype=np.int64),
        minimum_told=np.array([v.minimum_bid_to_win for v in scenario.venue]),
        sizes=sizes,
        countries=countries,
        fits=fits,
    )
