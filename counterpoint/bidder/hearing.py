"""What a bidder hears on DECISIONS, and what of it goes into the next View. No I/O: the service feeds it from the bus."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from counterpoint.bidder.holder import ViewHolder
from counterpoint.bus.bus import Delivery
from counterpoint.catalog.model import Catalog
from counterpoint.coordination.epochs import EpochBook
from counterpoint.events import subjects
from counterpoint.events.decisions import CatalogChanged, PolicyPublished, Resolution

PAYLOADS_KEPT: Final = 32  # the newest policies, until their View is archived
POLICY_SUBJECTS: Final = ("decisions.policy.>", subjects.CATALOG)


class Hearing:
    """``begin`` first; then every delivery of ``epochs.SUBJECTS`` to ``resolved``, of POLICY_SUBJECTS to ``policies``."""

    def __init__(self, holder: ViewHolder) -> None:
        self.holder = holder
        self.epochs: EpochBook | None = None
        self._payloads: OrderedDict[str, bytes] = OrderedDict()  # of the newest policies, by checksum

    def begin(self, catalog: Catalog, published: Iterable[Resolution], since_ns: int) -> None:
        """Take part in the resolving, from the last published resolutions on; see :class:`EpochBook`."""
        self.epochs = EpochBook(catalog, resolutions=published, since_ns=since_ns)
        self._settle_settings()

    def resolved(self, delivery: Delivery) -> list[Resolution]:
        """What this message closed; its settings are in the next View."""
        assert self.epochs is not None, "begin comes first"
        self.epochs.feed(delivery)
        closed = self.epochs.closed()
        if closed:
            self._settle_settings()
        return closed

    def _settle_settings(self) -> None:
        assert self.epochs is not None
        for target, value in self.epochs.settings().items():
            self.holder.setting(target, value)

    def policies(self, delivery: Delivery) -> bool:
        """True: the catalog changed."""
        catalog_changed = False
        for event in delivery.events:
            if isinstance(event, CatalogChanged):
                catalog_changed = True
            elif isinstance(event, PolicyPublished) and delivery.subject == subjects.policy(event.agent):
                self._take_policy(event)
        return catalog_changed

    def _take_policy(self, event: PolicyPublished) -> None:
        held = self.holder.latest().inputs.policies.get(event.agent)
        if held is not None and held.checksum == event.checksum:
            return
        self._payloads[event.checksum] = event.payload
        while len(self._payloads) > PAYLOADS_KEPT:
            self._payloads.popitem(last=False)
        self.holder.policy(event)

    def payloads(self) -> dict[str, bytes]:
        return dict(self._payloads)

    def set_catalog(self, catalog: Catalog) -> None:
        if self.epochs is not None:
            self.epochs.set_catalog(catalog)
        self.holder.catalog(catalog)
