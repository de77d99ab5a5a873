"""What the pools should come to: the resolved budget shares, from the same replica everybody else holds."""

from __future__ import annotations

from collections.abc import Sequence

from counterpoint.base.clock import NS_PER_S
from counterpoint.bus.bus import Delivery
from counterpoint.catalog.model import Catalog
from counterpoint.coordination.epochs import EpochBook
from counterpoint.coordination.targets import budget_share
from counterpoint.events.decisions import Resolution
from counterpoint.ledger.books import Ledger
from counterpoint.ledger.outbox import Outgoing
from counterpoint.ledger.split import SplitApplied

RETRY_NS = 5 * NS_PER_S
_KEPT_REASONS = 200  # characters of a reason that travel with the move


class PoolShares:
    """The split each pool is resolved to, and which of it the ledger has applied."""

    def __init__(self, catalog: Catalog, book: EpochBook) -> None:
        self.book = book
        self.refused: dict[str, str] = {}  # pool id -> why its newest split is not applied
        self._applied_ns = 0
        self.set_catalog(catalog)

    def set_catalog(self, catalog: Catalog) -> None:
        self._members: dict[str, list[str]] = {}
        for campaign in catalog.campaigns:
            if campaign.pool_id is not None:
                self._members.setdefault(campaign.pool_id, []).append(campaign.id)
        self.refused.clear()

    def wanted(self, pool_id: str) -> tuple[int, dict[str, int], str] | None:
        """(epoch, share in ppm by campaign, why), or None while nobody's wish was ever resolved."""
        resolved: list[Resolution] = []
        shares: dict[str, int] = {}
        for campaign_id in self._members[pool_id]:
            try:
                current = self.book.current(budget_share(campaign_id))
            except KeyError:
                return None  # the replica has another catalog than we: after the reload
            shares[campaign_id] = current.value
            if current.epoch > 0:
                resolved.append(current)
        if not resolved:
            return None
        newest = max(resolved, key=lambda r: (r.epoch, r.target))
        return newest.epoch, shares, f"{newest.winner}: {newest.why}"[:_KEPT_REASONS]

    def hear(self, deliveries: Sequence[Delivery]) -> list[Resolution]:
        """Feed the replica; what it closed. Anything about shares makes :meth:`due` true at once."""
        for delivery in deliveries:
            self.book.feed(delivery)
        closed = self.book.closed()
        if any("/budget_share" in resolution.target for resolution in closed):
            self._applied_ns = 0
        return closed

    def due(self, now_ns: int) -> bool:
        """Whether to :meth:`apply` now: shares were resolved, or it is time to try again what was refused."""
        return now_ns - self._applied_ns >= RETRY_NS

    def apply(self, ledger: Ledger, now_ns: int) -> list[Outgoing]:
        """Apply what is resolved and not applied yet. What the ledger refuses is tried again at the next call."""
        self._applied_ns = now_ns
        outgoing: list[Outgoing] = []
        for pool_id in sorted(self._members):
            wanted = self.wanted(pool_id)
            if wanted is None:
                continue
            epoch, shares, why = wanted
            if ledger.split_is_applied(pool_id, epoch, now_ns):
                self.refused.pop(pool_id, None)
                continue
            result, said = ledger.apply_split(pool_id, epoch, shares, now_ns, why)
            outgoing += said
            if isinstance(result, SplitApplied):
                self.refused.pop(pool_id, None)
            else:
                self.refused[pool_id] = result.reason
        return outgoing
