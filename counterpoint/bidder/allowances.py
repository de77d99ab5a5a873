"""The money a bidder holds: allowances from the ledger, reserved bid by bid, in memory, without waiting.

One writer: the bidder's event loop. Nothing here awaits, reads a clock or does I/O; the shell calls ``grant`` and
``refuse`` when the ledger answers, ``expire``, ``returns_due`` and ``requests_due`` from a timer (about every 50 ms),
and publishes what the last two return on ``money.command.<bidder>`` until the bus has accepted it.

The life of one bid's money (docs/ledger.md)::

    reserve --- lost / expire --------------> back to the allowance (bid-able again, or returned after its expiry)
       |--- won --- expire (billing delay) --> back
       |     `----- settled --> spent, the difference to the price back
       `----------- settled --> spent

An allowance dies with its incarnation: the book starts empty, ignores grants of other incarnations, and the ledger
closes what an earlier incarnation held.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from counterpoint.base.clock import NS_PER_MS, NS_PER_S
from counterpoint.bidder.allowance_asks import Asking
from counterpoint.bidder.allowance_cells import Allowance, AllowanceBookConfig, Cell, Expired
from counterpoint.events.money import (
    AllowanceGranted,
    AllowanceRefused,
    AllowanceRequested,
    AllowanceReturned,
    BalanceReported,
    BidderStarted,
)

__all__ = ["AllowanceBook", "AllowanceBookConfig", "Expired"]

SLOT_NS = 50 * NS_PER_MS  # reservations end up to this much after their time, never before
GRANT_MEMORY_NS = 600 * NS_PER_S  # a repeat of a grant is recognised this long after the allowance expired


_Reservation = tuple[Allowance, int, int, object]  # allowance, nanos, until_ns, context


class AllowanceBook:
    """``left[purse, arm]``: nanos that may be bid now, int64, what the pure ``decide`` reads. The first purses are the
    campaigns, in the catalog's order; behind them come the line items with caps of their own (``lines``: campaign and
    line item), which bid on their own allowances and no others.

    ``left`` is replaced by ``remap``: read it anew for every request. Time (``now_ns``) must not go back.
    """

    def __init__(
        self,
        bidder_id: str,
        incarnation: str,
        campaign_ids: Sequence[str],
        arms: Sequence[str],
        config: AllowanceBookConfig | None = None,
        lines: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.bidder_id = bidder_id
        self.incarnation = incarnation
        self.arms = tuple(arms)
        self.config = config or AllowanceBookConfig()
        self.refused_no_money = 0
        self.refused_full = 0
        self.grants_ignored = 0
        self.wins_expired = 0  # won, and never billed within the billing delay
        self._arm_of = {name: i for i, name in enumerate(self.arms)}
        self._n_arms = len(self.arms)
        self._bids: dict[str, _Reservation] = {}
        self._wins: dict[str, _Reservation] = {}
        self._wheel: dict[int, list[str]] = {}
        self._wheel_next: int | None = None  # the first slot not yet emptied
        self._allowances: dict[str, Allowance] = {}
        self._closing: dict[str, Allowance] = {}
        self._expiries: list[tuple[int, str]] = []  # heap: expires_at_ns, allowance id
        self._seen: set[str] = set()
        self._seen_until: list[tuple[int, str]] = []  # heap: when an allowance id may be forgotten
        self._asking = Asking(bidder_id, incarnation, self.config)
        self._hot = self._asking.hot
        self._cells: list[Cell] = []
        self.left: NDArray[np.int64] = np.zeros((0, self._n_arms), dtype=np.int64)
        self._flat = self.left.reshape(-1).data
        self.campaign_ids: tuple[str, ...] = ()
        self.lines: tuple[tuple[str, str], ...] = ()
        self.remap(campaign_ids, lines)

    # ---- one bid

    def reserve(
        self,
        purse: int,
        arm: int,
        nanos: int,
        bid_id: str,
        now_ns: int,
        until_ns: int,
        context: object = None,
    ) -> str | None:
        """Hold ``nanos`` for one bid until ``until_ns`` and return the allowance that pays, or None: no money.

        None also when ``bid_id`` is already reserved or the book is full (``refused_full``).
        """
        cell = self._cells[purse * self._n_arms + arm]
        if not cell.hot:
            cell.hot = True
            self._hot.append(cell)
        for held in cell.open:
            if held.left >= nanos and held.starts_at_ns <= now_ns < held.expires_at_ns:
                break
        else:
            self.refused_no_money += 1
            if nanos > cell.dearest:
                cell.dearest = nanos
            return None
        bids = self._bids
        if len(bids) + len(self._wins) >= self.config.reservations_max or bid_id in bids:
            self.refused_full += 1
            return None
        assert nanos > 0
        held.left -= nanos
        held.reserved += nanos
        self._flat[cell.index] -= nanos
        cell.reserved_since += nanos
        if nanos > cell.dearest:
            cell.dearest = nanos
        bids[bid_id] = (held, nanos, until_ns, context)
        slot = until_ns // SLOT_NS
        due = self._wheel.get(slot)
        if due is None:
            self._schedule(slot, bid_id)
        else:
            due.append(bid_id)
        return held.allowance_id

    def won(self, bid_id: str, until_ns: int) -> object | None:
        """A win notice: hold the money until ``until_ns`` (the billing delay). Returns the context, or None when the
        reservation is gone (the notice is late) or was already won."""
        found = self._bids.pop(bid_id, None)
        if found is None:
            return None
        held, nanos, until_before_ns, context = found
        until_ns = max(until_ns, until_before_ns)
        self._wins[bid_id] = (held, nanos, until_ns, context)
        self._schedule(until_ns // SLOT_NS, bid_id)
        return context if context is not None else True

    def settled(self, bid_id: str, paid_nanos: int) -> int:
        """The settling notice: spend ``paid_nanos``, release the rest. Returns until when the money was held, or 0
        when no reservation is left (late, or settled before).

        The tracker publishes ``SettlementNoticed.reservation_until_ns = max(signed, this)``: a win notice has
        prolonged the reservation beyond what was signed at bid time.
        """
        found = self._wins.pop(bid_id, None) or self._bids.pop(bid_id, None)
        if found is None:
            return 0
        held, nanos, until_ns, _ = found
        assert 0 <= paid_nanos <= nanos, "never charged above the signed bid price"
        held.reserved -= nanos
        held.spent += paid_nanos
        self._give_back(held, nanos - paid_nanos)
        return until_ns

    def lost(self, bid_id: str) -> object | None:
        """A loss notice, or a bid that was not sent after all: release. Returns the context, None when unknown.

        A win that a loss notice contradicts stays a win: its money is held until the billing delay is over."""
        found = self._bids.pop(bid_id, None)
        if found is None:
            return None
        held, nanos, _, context = found
        held.reserved -= nanos
        self._give_back(held, nanos)
        return context if context is not None else True

    released = lost

    def context(self, bid_id: str) -> object | None:
        """What ``reserve`` was given for a bid that still holds money."""
        found = self._bids.get(bid_id) or self._wins.get(bid_id)
        return found[3] if found is not None else None

    # ---- time

    def expire(self, now_ns: int, bids_max: int = 20_000) -> list[Expired]:
        """End what is over: allowances past their expiry, reservations past their time.

        Returns the bids that heard nothing until the end of their reservation, at most about ``bids_max`` a call
        (what is left comes next time). Cost: proportional to what ends.
        """
        self._close_expired(now_ns)
        expired: list[Expired] = []
        slot_now = now_ns // SLOT_NS
        if self._wheel_next is None:
            self._wheel_next = min(self._wheel, default=slot_now)
        sparse = slot_now - self._wheel_next > 4 * len(
            self._wheel
        )  # then the slots that there are, not all there were
        slots = sorted(slot for slot in self._wheel if slot < slot_now) if sparse else None
        for slot in range(self._wheel_next, slot_now) if slots is None else slots:
            if len(expired) >= bids_max:
                self._wheel_next = slot
                return expired
            due = self._wheel.pop(slot, ())
            for bid_id in due:
                bid = self._bids.get(bid_id)
                if bid is not None:
                    if bid[2] < now_ns:
                        del self._bids[bid_id]
                        bid[0].reserved -= bid[1]
                        self._give_back(bid[0], bid[1])
                        expired.append(Expired(bid_id, bid[1], bid[3]))
                    continue
                win = self._wins.get(bid_id)
                if win is not None and win[2] < now_ns:
                    del self._wins[bid_id]
                    win[0].reserved -= win[1]
                    self._give_back(win[0], win[1])
                    self.wins_expired += 1
        self._wheel_next = max(self._wheel_next, slot_now)
        return expired

    def returns_due(self, now_ns: int) -> list[AllowanceReturned]:
        """Give back what closing allowances no longer need. It is deducted here first: publish every one of these
        until the bus takes it (a repeat returns nothing twice)."""
        self._close_expired(now_ns)
        events: list[AllowanceReturned] = []
        done: list[str] = []
        for held in self._closing.values():
            if len(events) >= self.config.returns_per_call:
                break
            final = held.reserved == 0
            if not final and (
                held.left == 0 or now_ns - held.returned_at_ns < self.config.return_interval_ns
            ):
                continue
            held.returns += 1
            held.returned_at_ns = now_ns
            amount, held.left = held.left, 0
            events.append(
                AllowanceReturned(
                    event_id=f"return-{held.allowance_id}-{held.returns}",
                    happened_at_ns=now_ns,
                    recorded_at_ns=now_ns,
                    source=f"bidder/{self.bidder_id}",
                    allowance_id=held.allowance_id,
                    bidder_id=self.bidder_id,
                    incarnation=self.incarnation,
                    amount_nanos=amount,
                    final=final,
                )
            )
            if final:
                done.append(held.allowance_id)
        for allowance_id in done:
            del self._closing[allowance_id]
            del self._allowances[allowance_id]
        return events

    def requests_due(
        self, now_ns: int, cap_nanos: NDArray[np.int64] | None = None
    ) -> list[AllowanceRequested]:
        """Ask the ledger for what the cells in use will need, and for a first allowance of the others.

        ``cap_nanos[purse, arm]``: at most this much now (pacing, arm shares); 0: ask nothing. One open request per
        cell, ``requests_per_call`` a call, none while a refusal backs off.
        """
        self._close_expired(now_ns)
        return self._asking.due(self._cells, self._n_arms, now_ns, cap_nanos)

    def started(self, now_ns: int) -> BidderStarted:
        """The first command of this incarnation: everything held by earlier ones is an orphan from here on."""
        return BidderStarted(
            event_id=f"started-{self.bidder_id}-{self.incarnation}",
            happened_at_ns=now_ns,
            recorded_at_ns=now_ns,
            source=f"bidder/{self.bidder_id}",
            bidder_id=self.bidder_id,
            incarnation=self.incarnation,
        )

    # ---- what the ledger says

    def grant(self, event: AllowanceGranted, now_ns: int) -> bool:
        """Take an allowance. False when it is a repeat or another incarnation's: nothing changes.

        One that is already over, or of a campaign that left the catalog, takes no bid and is returned."""
        if (
            event.bidder_id != self.bidder_id
            or event.incarnation != self.incarnation
            or event.allowance_id in self._seen
            or now_ns > event.expires_at_ns + GRANT_MEMORY_NS // 2
        ):
            self.grants_ignored += 1
            return False
        self._remember(event.allowance_id, event.expires_at_ns + GRANT_MEMORY_NS, now_ns)
        held = Allowance(event)
        assert 0 <= event.usable_nanos <= event.granted_nanos
        self._allowances[held.allowance_id] = held
        cell = self._cell(event.campaign_id, event.line_item_id, event.arm)
        if cell is not None:
            cell.pending_request = ""
            cell.backoff_ns = 0
            cell.blocked_until_ns = 0
        if cell is None or now_ns >= event.expires_at_ns or cell.stopped_day == event.day:
            self._closing[held.allowance_id] = held
            return True
        held.cell = cell
        cell.open.append(held)
        cell.open.sort(key=lambda a: a.expires_at_ns)
        heapq.heappush(self._expiries, (held.expires_at_ns, held.allowance_id))
        self._flat[cell.index] += held.left
        return True

    def refuse(self, event: AllowanceRefused, now_ns: int) -> None:
        """No allowance: ask again after the ledger's own term, or with a growing pause."""
        cell = self._cell(event.campaign_id, event.line_item_id, event.arm)
        if cell is None or event.incarnation != self.incarnation or event.bidder_id != self.bidder_id:
            return
        if cell.pending_request != event.request_id:
            return
        cell.pending_request = ""
        if event.retry_after_ns == 0:
            cell.backoff_ns = self.config.backoff_max_ns
        else:
            cell.backoff_ns = min(
                max(2 * cell.backoff_ns, self.config.backoff_first_ns), self.config.backoff_max_ns
            )
        cell.blocked_until_ns = now_ns + max(event.retry_after_ns, cell.backoff_ns)

    def balance(self, event: BalanceReported, now_ns: int) -> None:
        """The campaign's account of one day changed: stop bidding that day's money when it is stopped, bid again when a
        person lifted the stop, ask again when a refusal has become pointless (there is free money now)."""
        committed = (
            event.spent_on_time_nanos + event.late_spend_nanos + event.reserved_nanos + event.held_nanos
        )
        free = event.budget_nanos - committed
        for cell in self._cells_of.get(event.campaign_id, ()):
            if event.stopped:
                cell.stopped_day = max(cell.stopped_day, event.day)
                for held in [a for a in cell.open if a.day == event.day]:
                    self._close(held)
                continue
            if cell.stopped_day == event.day:
                cell.stopped_day = ""
                cell.backoff_ns = cell.blocked_until_ns = 0
            if free >= max(self.config.request_first_nanos, event.budget_nanos // 100):
                cell.blocked_until_ns = min(
                    cell.blocked_until_ns, cell.asked_at_ns + 2 * self.config.backoff_first_ns
                )

    def remap(self, campaign_ids: Sequence[str], lines: Sequence[tuple[str, str]] = ()) -> None:
        """A new catalog: positions change, money and reservations stay. What left the catalog is returned; so is what
        a line item holds that has no cap any more."""
        before = {(cell.campaign_id, cell.line_item_id, cell.arm): cell for cell in self._cells}
        purses = [*((campaign_id, "") for campaign_id in campaign_ids), *lines]
        left = np.zeros((len(purses), self._n_arms), dtype=np.int64)
        flat = left.reshape(-1).data
        cells: list[Cell] = []
        cells_of: dict[str, list[Cell]] = {}
        for campaign_id, line_item_id in purses:
            for arm in self.arms:
                index = len(cells)
                cell = before.pop((campaign_id, line_item_id, arm), None)
                cell = cell or Cell(campaign_id, arm, index, line_item_id)
                cell.index = index
                flat[index] = sum(held.left for held in cell.open)
                cells.append(cell)
                cells_of.setdefault(campaign_id, []).append(cell)
        self.campaign_ids, self.lines = tuple(campaign_ids), tuple(lines)
        self._positions = {purse: i for i, purse in enumerate(purses)}
        gone = list(before.values())
        for cell in gone:
            for held in list(cell.open):
                self._close(held)
            cell.index = -1
        self.left, self._flat, self._cells, self._cells_of = left, flat, cells, cells_of
        self._asking.start_over()

    @property
    def currency(self) -> str:
        """The account currency, which every request names; empty: not said."""
        return self._asking.currency

    @currency.setter
    def currency(self, currency: str) -> None:
        self._asking.currency = currency

    # ---- figures

    @property
    def reservations(self) -> int:
        """Bids and wins that hold money."""
        return len(self._bids) + len(self._wins)

    def figures(self) -> Mapping[str, int]:
        """Counters and sums for metrics: nanos for ``*_nanos``."""
        held = self._allowances.values()
        return {
            "bids_reserved": len(self._bids),
            "wins_reserved": len(self._wins),
            "allowances": len(self._allowances),
            "left_nanos": sum(a.left for a in held),
            "reserved_nanos": sum(a.reserved for a in held),
            "refused_no_money": self.refused_no_money,
            "refused_full": self.refused_full,
            "grants_ignored": self.grants_ignored,
            "wins_expired": self.wins_expired,
            "requests_sent": self._asking.sent,
        }

    # ---- inside

    def _cell(self, campaign_id: str, line_item_id: str, arm: str) -> Cell | None:
        position = self._positions.get((campaign_id, line_item_id))
        number = self._arm_of.get(arm)
        if position is None or number is None:
            return None
        return self._cells[position * self._n_arms + number]

    def _schedule(self, slot: int, bid_id: str) -> None:
        self._wheel.setdefault(slot, []).append(bid_id)
        if self._wheel_next is not None and slot < self._wheel_next:
            self._wheel_next = slot

    def _give_back(self, held: Allowance, nanos: int) -> None:
        held.left += nanos
        if held.cell is not None:
            self._flat[held.cell.index] += nanos

    def _close(self, held: Allowance) -> None:
        cell = held.cell
        assert cell is not None
        cell.open.remove(held)
        if cell.index >= 0:
            self._flat[cell.index] -= held.left
        held.cell = None
        self._closing[held.allowance_id] = held

    def _close_expired(self, now_ns: int) -> None:
        while self._expiries and self._expiries[0][0] <= now_ns:
            held = self._allowances.get(heapq.heappop(self._expiries)[1])
            if held is not None and held.cell is not None:
                self._close(held)

    def _remember(self, allowance_id: str, until_ns: int, now_ns: int) -> None:
        self._seen.add(allowance_id)
        heapq.heappush(self._seen_until, (until_ns, allowance_id))
        while self._seen_until[0][0] < now_ns:
            self._seen.discard(heapq.heappop(self._seen_until)[1])
