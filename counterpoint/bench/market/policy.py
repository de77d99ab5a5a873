"""The interface of everything that plays: baselines, oracles, later monoliths and the live system.

A policy hears what a bidder hears and no more: the request (no user id where the person gave none), its own money, won or
lost, prices as far as the exchange tells them, and clicks and conversions when they are reported. What may not be
known is not in the arguments. An oracle is told the truth through :class:`Reveals`, and is marked as one in every report.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from msgspec import Struct

from counterpoint.bench.market.facts import Bools, Facts, Floats, Ints
from counterpoint.market.auctions import Auctions, Rows
from counterpoint.market.state import Exposures, Pressure, Stock
from counterpoint.market.world import World


class Requests(Struct, frozen=True, kw_only=True):
    """One batch, time ascending, all of one UTC day. ``auctions.user`` is -1 where the person is not known."""

    auctions: Auctions
    formats: Rows  # number of each auction's (medium, size, country): row of ``Facts.fits``
    open: Bools  # [auction, campaign]: a living creative fits, the cap is not met, money is left


class Books(Struct, frozen=True, kw_only=True):
    """Our own money when the batch begins."""

    day: int  # of the scenario, 0 first
    day_share: float  # of the day gone when the batch begins, and
    day_share_end: float  # when it ends
    budget_nanos: Rows  # [campaign] of today
    left_nanos: Rows  # [campaign] of today


class Answers(Struct, frozen=True, kw_only=True):
    """One row per auction of the batch, with up to :data:`ALTERNATIVES` columns in order of preference.

    The first alternative that may still stand when its auction comes (campaign's money, cap) is the bid: a campaign
    whose money runs out inside the batch makes way for the next.
    """

    creative: Rows  # [auction, alternative] position, or -1: none
    bid_micros: Rows  # [auction, alternative] CPM
    limit_nanos: Rows | None = None  # [campaign] own stop for this batch, besides the budget
    split: Floats | None = None  # [campaign] shares of the pool's money left today, from this batch on


class Feedback(Struct, frozen=True, kw_only=True):
    """What is told of a batch after it, and the events reported since the last one (of any earlier impression)."""

    requests: Requests
    creative: Rows  # what was bid with; -1: no bid stood
    bid_micros: Rows  # 0: no bid stood
    won: Bools
    paid_micros: Rows  # 0 where lost
    minimum_micros: Rows  # least bid that would have won; -1 where nobody tells
    events: Events


class Events(Struct, frozen=True, kw_only=True):
    """Parallel arrays, by time of report."""

    kind: Ints  # CLICK or CONVERSION
    creative: Rows
    supply: Rows
    shown_at_ns: Rows
    order_value_micros: Rows  # conversions; clicks: 0


CLICK, CONVERSION = 1, 2
ALTERNATIVES = 8


class Policy(Protocol):
    """Deterministic given its arguments: chance only from the seed given to ``begin``."""

    name: str

    def begin(self, facts: Facts, seed: int) -> None:
        """A new market. Forget everything."""

    def split(self, day: int) -> Floats | None:
        """Shares of the day's pooled budget by campaign (scaled to sum 1), asked once before each day.
        None: as the owner split it."""

    def decide(self, requests: Requests, books: Books) -> Answers: ...

    def learn(self, feedback: Feedback) -> None: ...


@runtime_checkable
class Reveals(Protocol):
    """Marks a policy that is told the truth: an oracle, never a contender."""

    def reveal(self, world: World, exposures: Exposures, stock: Stock, pressure: Pressure | None) -> None:
        """After ``begin``. All but the world are the run's own and change as it goes."""
