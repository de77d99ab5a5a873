"""What the ledger reads from the catalog: budgets, days, flights, pools, and how long a notice may live."""

from __future__ import annotations

from counterpoint.base.money import micros_to_nanos
from counterpoint.catalog.model import Campaign, Catalog
from counterpoint.ledger.config import LedgerConfig

BUDGET_NANOS_MAX = 10**17  # a hundred million units a day; a pool of ninety still sums within 64 bits


class KnownCatalog:
    def __init__(self, catalog: Catalog, config: LedgerConfig) -> None:
        self.campaigns: dict[str, Campaign] = {c.id: c for c in catalog.campaigns}
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
        return min(max(micros_to_nanos(campaign.daily_budget_micros), 0), BUDGET_NANOS_MAX)
