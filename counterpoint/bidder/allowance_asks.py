"""What a bidder asks of the ledger: enough for the bids it is likely to make, little at a time, never while refused."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from counterpoint.base.clock import NS_PER_S
from counterpoint.bidder.allowance_cells import AllowanceBookConfig, Cell
from counterpoint.events.money import AllowanceRequested

HOT_MAX: Final = 2_000  # cells looked at per call for being in use; the others take turns
COLD_PER_CALL: Final = 256


class Asking:
    """``hot``: cells that reserved money lately; who reserves appends. ``currency``: the account currency, checked by
    the ledger; empty: not said."""

    def __init__(self, bidder_id: str, incarnation: str, config: AllowanceBookConfig) -> None:
        self.hot: deque[Cell] = deque()
        self.sent = 0
        self.currency = ""
        self._bidder_id = bidder_id
        self._incarnation = incarnation
        self._config = config
        self._cold_at = 0

    def start_over(self) -> None:
        """The cells changed their places."""
        self._cold_at = 0

    def due(
        self, cells: Sequence[Cell], n_arms: int, now_ns: int, cap_nanos: NDArray[np.int64] | None
    ) -> list[AllowanceRequested]:
        """See :meth:`counterpoint.bidder.allowances.AllowanceBook.requests_due`."""
        events: list[AllowanceRequested] = []
        for _ in range(min(len(self.hot), HOT_MAX)):
            if len(events) >= self._config.requests_per_call:
                return events
            cell = self.hot.popleft()
            _measure(cell, now_ns)
            if cell.index < 0 or (cell.rate_per_s == 0 and cell.reserved_since == 0):
                cell.hot = False
                continue
            self.hot.append(cell)
            self._ask(cell, n_arms, now_ns, cap_nanos, events)
        for _ in range(min(len(cells), COLD_PER_CALL)):
            if len(events) >= self._config.requests_per_call:
                return events
            self._cold_at = (self._cold_at + 1) % len(cells)
            cell = cells[self._cold_at]
            if not cell.hot:
                self._ask(cell, n_arms, now_ns, cap_nanos, events)
        return events

    def _ask(
        self,
        cell: Cell,
        n_arms: int,
        now_ns: int,
        cap_nanos: NDArray[np.int64] | None,
        events: list[AllowanceRequested],
    ) -> None:
        config = self._config
        waited_ns = now_ns - cell.asked_at_ns
        if now_ns < cell.blocked_until_ns or waited_ns < config.request_interval_ns:
            return
        if cell.pending_request and waited_ns < config.request_timeout_ns:
            return
        lasting = sum(held.left for held in cell.open if held.expires_at_ns > now_ns + config.renew_before_ns)
        need = cell.rate_per_s * config.request_horizon_ns // NS_PER_S
        need = max(need, config.request_bids_min * cell.dearest or config.request_first_nanos)
        cap = None
        if cap_nanos is not None:
            cap = int(cap_nanos[cell.index // n_arms, cell.index % n_arms])
            need = max(need, cap * config.request_share_ppm // 1_000_000)
        if 2 * lasting >= need:
            return
        amount = need - lasting if cap is None else min(need - lasting, cap)
        if amount <= 0:
            return
        self.sent += 1
        cell.asked_at_ns = now_ns
        cell.pending_request = f"{self._bidder_id}-{self._incarnation}-{self.sent}"
        events.append(
            AllowanceRequested(
                event_id=f"request-{cell.pending_request}",
                happened_at_ns=now_ns,
                recorded_at_ns=now_ns,
                source=f"bidder/{self._bidder_id}",
                request_id=cell.pending_request,
                bidder_id=self._bidder_id,
                incarnation=self._incarnation,
                campaign_id=cell.campaign_id,
                arm=cell.arm,
                amount_nanos=amount,
                line_item_id=cell.line_item_id,
                currency=self.currency,
            )
        )


def _measure(cell: Cell, now_ns: int) -> None:
    """Reservation throughput, smoothed: half of the newest second, half of what was."""
    passed_ns = now_ns - cell.measured_at_ns
    if passed_ns < NS_PER_S:
        return
    newest_per_s = cell.reserved_since * NS_PER_S // min(passed_ns, 2 * NS_PER_S)
    cell.rate_per_s = (cell.rate_per_s + newest_per_s) // 2
    cell.dearest -= cell.dearest // 64
    cell.reserved_since = 0
    cell.measured_at_ns = now_ns
