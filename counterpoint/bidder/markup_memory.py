"""Markup that an exchange fetches with its win notice (OpenRTB 2.6, 4.3): kept from the bid until its win may come.

Bound: ``bytes_max`` of markup; past it the oldest go. A win whose markup is gone, or that reaches another bidder, is
booked all the same and answered 200 without a body: the exchange shows nothing and no impression follows.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

BYTES_MAX: Final = 64 << 20
ENTRY_BYTES: Final = 250  # ids, tuple and table slot of one entry, measured generously


class MarkupMemory:
    def __init__(self, bytes_max: int = BYTES_MAX) -> None:
        assert bytes_max > 0
        self._bytes_max = bytes_max
        self._held: OrderedDict[str, tuple[int, str]] = OrderedDict()
        self._bytes = 0
        self.evicted = 0  # before their time

    def keep(self, bid_id: str, markup: str, now_ns: int, until_ns: int) -> None:
        self._held[bid_id] = (until_ns, markup)
        self._bytes += len(markup) + ENTRY_BYTES
        while self._held:
            oldest, (ends_ns, text) = next(iter(self._held.items()))
            over = self._bytes > self._bytes_max
            if not over and ends_ns >= now_ns:
                return
            self.evicted += ends_ns >= now_ns
            del self._held[oldest]
            self._bytes -= len(text) + ENTRY_BYTES

    def of(self, bid_id: str) -> str:
        """The markup of a bid, as often as its notice is repeated; "" where none is held."""
        found = self._held.get(bid_id)
        return found[1] if found is not None else ""

    def __len__(self) -> int:
        return len(self._held)
