"""What the ledger reads from the catalog: budgets, days, flights, pools, and how long a notice may live."""

from __future__ import annotations

from counterpoint.base.money import micros_to_nanos
from counterpoint.catalog.model import Campaign, Catalog, LineItem
from counterpoint.ledger.config import LedgerConfig

BUDGET_NANOS_MAX = 10**17  # a hundred million units a day; a pool of ninety still sums within 64 bits


class KnownCatalog:
    def __init__(self, catalog: Catalog, config: LedgerConfig) -> None:
        self.currency = catalog.account_currency
        self.campaigns: dict[str, Campaign] = {c.id: c for c in catalog.campaigns}
        self.line_items: dict[str, LineItem] = {item.id: item for item in catalog.line_items}
        self.pools: dict[str, tuple[Campaign, ...]] = {
            pool.id: tuple(
                sorted(
                    (
                        c
                        for c in catalog.campaigns
                        if c.pool_id == pool.id and c.advertiser_id == pool.advertiser_id
                    ),
                    key=lambda c: c.id,
                )
            )
            for pool in catalog.pools
        }
        self.notice_life_ns = max(
            (e.notice_life_ms * 1_000_000 for e in catalog.exchanges), default=config.notice_life_default_ns
        )

    @staticmethod
    def budget_nanos(campaign: Campaign) -> int:
        """Per local day; a declared number beyond what 64 bits can book is cut to ``BUDGET_NANOS_MAX``."""
        return _bounded(campaign.daily_budget_micros)

    def lifetime_nanos(self, campaign_id: str) -> int | None:
        """What the campaign may spend in all; None: no such limit."""
        campaign = self.campaigns.get(campaign_id)
        if campaign is None or campaign.lifetime_budget_micros is None:
            return None
        return _bounded(campaign.lifetime_budget_micros)

    def line_caps_nanos(self, line_item_id: str) -> tuple[int | None, int | None]:
        """(per local day, in all) of a line item; None: no such cap."""
        item = self.line_items.get(line_item_id)
        if item is None:
            return None, None
        daily, lifetime = item.daily_cap_micros, item.lifetime_cap_micros
        return (
            None if daily is None else _bounded(daily),
            None if lifetime is None else _bounded(lifetime),
        )


def _bounded(micros: int) -> int:
    return min(max(micros_to_nanos(micros), 0), BUDGET_NANOS_MAX)
