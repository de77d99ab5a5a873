"""The auction house of a world: holds each auction with our bids, and says what comes of what we won.

One auction at a time, for whoever bids one at a time: the bidder in process or over the wire. Bids are held at once;
what people do with the ads is drawn for all wins of a step together (:meth:`House.close`), because the world answers
arrays. It has no opinion on budgets, ceilings and caps: keeping them is the bidder's part, and the ledger's to judge.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from counterpoint.market.auctions import Auctions, Outcomes, Rows, Truth
from counterpoint.market.catalogue import DURATIONS_S
from counterpoint.market.scenario import DAY_NS, STARTS_AT_NS
from counterpoint.market.state import Exposures, Pressure, Stock
from counterpoint.market.tally import Sums, Tally
from counterpoint.market.world import World

IMPRESSION, SKIP, CLICK, CONVERSION = "impression", "skip", "click", "conversion"
SECOND_PRICE: Final = 2

Bid = tuple[int, int, Any]  # creative (position), micros CPM, the caller's own mark


class Fate(Struct, frozen=True, gc=False):
    """What became of our bids on one auction. The highest that fits stands, the first of equals."""

    made: int  # which of the bids stood; -1: none fitted
    creative: int  # -1: none
    bid_micros: int
    won: bool
    paid_micros: int  # CPM, that is nanos for this impression; 0: lost
    minimum_micros: int | None  # the least bid that wins, where the exchange or the price tells it


class Happening(Struct, frozen=True):
    """Something a person did that is reported: what an outage swallows never becomes one."""

    at_ns: int
    kind: str  # IMPRESSION, SKIP, CLICK, CONVERSION
    index: int  # number of the auction
    creative: int
    supply: int
    shown_at_ns: int
    mark: Any  # of the bid that won
    order_value_micros: int = 0  # account currency, conversions
    listened: float = 1.0  # share of a video or audio ad that was played, skips


NOTHING: Final = Fate(-1, -1, 0, False, 0, None)


class House:
    """Draw a batch, hold its auctions in any order, close what is over; :meth:`due` tells what happened meanwhile.

    ``warm_up_days``: people met on these do not count as reached.
    """

    def __init__(self, world: World, warm_up_days: int = 0) -> None:
        s = world.scenario
        self.world = world
        self.exposures = Exposures(s)
        self.stock = Stock(s)
        self.sums = Sums(s.days, world.goal_weights)
        carry, a = s.carry_over, s.adversary
        self._carries = carry.gain > 0.0 or carry.saturates_at is not None
        self.pressure = Pressure(s) if a.rival_gain > 0.0 or a.floor_follows > 0.0 else None
        self.unfit = 0  # bids with a creative that does not fit, or not at that time
        self._warm_up_days = warm_up_days
        self._met = np.zeros((s.users.count, len(s.campaign)), dtype=np.bool_)
        self._told = np.array([v.minimum_bid_to_win for v in s.venue])
        self._campaign = world.design.campaign.astype(np.int64)
        self._from_ns, self._to_ns = world.design.from_ns.tolist(), world.design.to_ns.tolist()
        self._lives = s.churn.generations > 1
        self._duration_ns = np.array(
            [DURATIONS_S[spec.slot % 2] * 1_000_000_000 for spec in world.design.creatives], dtype=np.int64
        )
        self._fits: dict[int, frozenset[int]] = {}
        self._next = 0
        self._closed = 0  # row of the batch: before it everything is drawn
        self._auctions = world.batch(0, 0)
        self._threshold: list[int] = []
        self._bid_on = bytearray()  # by row
        self._held: list[tuple[int, int, int, int, Any]] = []  # row, creative, bid, paid or -1, mark
        self._waiting: list[tuple[int, int, Happening]] = []  # a heap
        self._tie = 0

    # ---- auctions

    def batch(self, start: int, n: int) -> Auctions:
        """Auctions ``start`` to at most ``start + n - 1``, in the order of time; closes the batch before, on whose end
        it has to begin. The caller's copy. Fewer at the end of the scenario, and where rivals answer us at the end of their window."""
        assert start == self._next, f"the next auction is {self._next}"
        assert n > 0, "at least one auction"
        self.close()
        n = min(n, self.world.scenario.auctions - start)
        if self.pressure is not None:
            window = self.pressure.window
            n = min(n, window - start % window)
        self._auctions = auctions = self.world.batch(start, n, self.pressure)
        truth: Truth = self.world.truth(auctions, self.pressure)
        self._next = start + n
        self._closed = 0
        self._bid_on = bytearray(n)
        self._t_ns: list[int] = auctions.t_ns.tolist()
        self._threshold = truth.threshold_micros.tolist()
        self._second: list[bool] = (auctions.auction_type == SECOND_PRICE).tolist()
        self._says: list[bool] = self._told[auctions.venue].tolist()
        s = self.world.scenario
        sizes, countries = len(s.size) + 1, len(s.users.countries)
        formats = (auctions.media.astype(np.int64) * sizes + auctions.size + 1) * countries + auctions.country
        self._formats: list[int] = formats.tolist()
        numbers, rows = np.unique(formats, return_index=True)
        for number, row in zip(numbers.tolist(), rows.tolist(), strict=True):
            if number not in self._fits:
                key = (int(auctions.media[row]), int(auctions.size[row]), int(auctions.country[row]))
                self._fits[number] = frozenset(self.world.design.fitting(*key).tolist())
        return auctions.copied()

    def hold(self, row: int, bids: Sequence[Bid]) -> Fate:
        """The auction of this row of the batch, which is not closed yet; once, and not at all where we do not bid."""
        assert self._closed <= row < len(self._threshold), "of this batch, and not closed"
        assert not self._bid_on[row], "an auction is held once"
        self._bid_on[row] = 1
        fits = self._fits[self._formats[row]]
        made = creative = -1
        price = 0
        for k, (j, micros, _) in enumerate(bids):
            lives = not self._lives or self._from_ns[j] <= self._t_ns[row] < self._to_ns[j]
            if j not in fits or not lives:
                self.unfit += 1
            elif micros > price:
                made, creative, price = k, j, micros
        if made < 0:
            return NOTHING
        threshold = self._threshold[row]
        won = price >= threshold
        paid = 0
        if won:
            paid = threshold if self._second[row] else price
        self._held.append((row, creative, price, paid if won else -1, bids[made][2]))
        told = self._says[row] or (won and self._second[row])
        return Fate(made, creative, price, won, paid, threshold if told else None)

    def close(self, until_row: int | None = None) -> None:
        """A step ends: draws what comes of the wins since the last one, in the order of auctions.

        Rows before ``until_row`` (None: the whole batch) are over, bid on or not. People remember what they saw in
        earlier steps and earlier in this one; advertising stock counts from step to step.
        """
        end = len(self._threshold) if until_row is None else until_row
        assert end <= len(self._threshold), "of this batch"
        if end <= self._closed:
            return
        first, self._closed = self._closed, end
        ends_now = [held for held in self._held if held[0] < end]
        self._held = [held for held in self._held if held[0] >= end]
        ends_now.sort(key=_row)
        rows, creatives, bids, paid = (
            np.array([held[column] for held in ends_now], dtype=np.int64) for column in range(4)
        )
        won = paid >= 0
        auctions = self._auctions
        if self.pressure is not None:
            self._press(first, end, rows, bids, won)
        if not rows.size:
            return
        day = (auctions.t_ns[rows] - STARTS_AT_NS) // DAY_NS
        for each in np.unique(day).tolist():
            self.sums.bids(each, self._campaign[creatives[day == each]])
        if won.any():
            marks = [held[4] for held in ends_now if held[3] >= 0]
            span = int(auctions.t_ns[first]), int(auctions.t_ns[end - 1])
            self._show(rows[won], creatives[won], paid[won], day[won], marks, span)

    def _press(self, first: int, end: int, rows: Rows, bids: Rows, won: NDArray[np.bool_]) -> None:
        assert self.pressure is not None
        every, wins = np.zeros(end - first, dtype=np.int64), np.zeros(end - first, dtype=np.bool_)
        every[rows - first] = bids
        wins[rows - first] = won
        span = slice(first, end)
        supply = self._auctions.supply[span].astype(np.int64)
        self.pressure.record(self._auctions.index[span], supply, every, wins)

    def _show(
        self, rows: Rows, creatives: Rows, paid: Rows, day: Rows, marks: list[Any], span: tuple[int, int]
    ) -> None:
        shown = self._auctions.take(rows)
        campaign, supply = self._campaign[creatives], shown.supply.astype(np.int64)
        seen = self.exposures.show_all(shown.user, campaign, shown.t_ns)
        stock = self.stock.at(span[0]) if self._carries else None
        every = np.arange(rows.size)
        responses = self.world.responses(shown, every, creatives, seen, stock)
        outcomes = self.world.outcomes(shown, every, creatives, responses)
        if self._carries:
            self.stock.add(campaign, supply, span[1])
        judged = day >= self._warm_up_days
        self._met[shown.user[judged], campaign[judged]] = True
        for each in np.unique(day).tolist():
            of = np.flatnonzero(day == each)
            self.sums.shown(each, campaign[of], paid[of], responses.take(of), outcomes.take(of))
        self._report(shown, creatives, outcomes, marks)

    # ---- what people do

    def _report(self, shown: Auctions, creatives: Rows, outcomes: Outcomes, marks: list[Any]) -> None:
        o = outcomes
        played_ns = (self._duration_ns[creatives] * o.listened).astype(np.int64)
        nothing, whole = np.zeros(len(shown), dtype=np.int64), np.ones(len(shown))
        for kind, told, after_ns, value, listened in (
            (IMPRESSION, o.impression_told, nothing, nothing, whole),
            (SKIP, o.skipped & o.impression_told, played_ns, nothing, o.listened),
            (CLICK, o.click_told, o.click_delay_ns, nothing, whole),
            (CONVERSION, o.conversion_told, o.conversion_delay_ns, o.order_value_micros, whole),
        ):
            at = np.flatnonzero(told)
            columns = (
                (shown.t_ns + after_ns)[at].tolist(),
                shown.index[at].tolist(),
                creatives[at].tolist(),
                shown.supply[at].tolist(),
                shown.t_ns[at].tolist(),
                at.tolist(),
                value[at].tolist(),
                listened[at].tolist(),
            )
            for at_ns, index, creative, supply, shown_ns, k, worth, share in zip(*columns, strict=True):
                self._tie += 1
                event = Happening(at_ns, kind, index, creative, supply, shown_ns, marks[k], worth, share)
                heapq.heappush(self._waiting, (at_ns, self._tie, event))

    def due(self, now_ns: int) -> list[Happening]:
        """What was reported up to ``now_ns`` and not told before, in the order of time: of closed steps only."""
        out: list[Happening] = []
        waiting = self._waiting
        while waiting and waiting[0][0] <= now_ns:
            out.append(heapq.heappop(waiting)[2])
        return out

    @property
    def next_due_ns(self) -> int | None:
        """When the next thing is due; None: nothing waits."""
        return self._waiting[0][0] if self._waiting else None

    # ---- the truth

    def tally(self) -> Tally:
        """Of closed steps. ``budget`` is zero: what was split how is the caller's to say (``sums["budget"]``)."""
        return self.sums.tally()

    @property
    def reach(self) -> int:
        """Different people who saw anything of ours, after the warm-up."""
        return int(self._met.any(axis=1).sum())

    @property
    def reach_by_campaign(self) -> Rows:
        return np.asarray(self._met.sum(axis=0))


def _row(held: tuple[int, int, int, int, Any]) -> int:
    return held[0]
