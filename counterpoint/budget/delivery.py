"""Does a campaign get rid of its money, and if not, is it the price? Then Budget wishes a higher bid ceiling.

Delivery is measured over the last few periods against what the rest of the day would need: the budget left when the
window began, times the window's share of the plan's rest. A campaign whose plan began late is not "behind" by that.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

BEHIND = 0.8  # of what the window needed: under-delivery
RECOVERED = 0.95
PRICE_LOSSES_MIN = 30
PRICE_LOSS_SHARE = 0.5  # of auctions that were won or lost on price
PRICE_LOSS_SHARE_OVER = 0.35
PRICES_MAX = 64  # minimum bids to win remembered per campaign
RAISE = 1.25  # the least worth asking for, over the ceiling that holds
RAISE_BLIND = 1.5  # where no exchange told what would have won
PRICE_QUANTILE = 0.75
PRICE_MARGIN = 1.05
PPM = 1_000_000


class Tally(Struct):
    """One campaign, one period. Money in nanos; ``agents`` is the experiment arm where the agents decide."""

    spend: int = 0
    spend_agents: int = 0
    value_agents: float = 0.0
    won: int = 0
    lost_on_price: int = 0

    def add(self, other: Tally) -> None:
        self.spend += other.spend
        self.spend_agents += other.spend_agents
        self.value_agents += other.value_agents
        self.won += other.won
        self.lost_on_price += other.lost_on_price


class Delivery(Struct):
    window: list[Tally] = []
    prices: list[int] = []  # lately: what would have won where we lost on price, micros CPM
    wished: int = 0  # the ceiling wished now; 0: none

    def close(self, tally: Tally, periods: int) -> None:
        self.window = [*self.window, tally][-periods:]

    def remember_price(self, min_to_win: int) -> None:
        self.prices = [*self.prices, min_to_win][-PRICES_MAX:]


class Verdict(Struct, frozen=True):
    behind: bool
    recovered: bool
    share: float  # of what was needed, delivered
    price_loss_share: float
    reason: str


def judge(delivery: Delivery, budget: int, spent: int, released_before: int, released_now: int) -> Verdict:
    """``budget``, ``spent``: nanos, the day so far. ``released_*``: ppm of the day's plan at the window's ends."""
    whole = Tally()
    for tally in delivery.window:
        whole.add(tally)
    left = budget - (spent - whole.spend)
    needed = left * (released_now - released_before) / max(1, PPM - released_before)
    share = whole.spend / needed if needed > 0 else 1.0
    contested = whole.won + whole.lost_on_price
    price_share = whole.lost_on_price / contested if contested else 0.0
    behind = share < BEHIND and whole.lost_on_price >= PRICE_LOSSES_MIN and price_share >= PRICE_LOSS_SHARE
    reason = f"spends {share:.0%} of its plan, loses {price_share:.0%} of {contested} auctions on price"
    return Verdict(
        behind, share >= RECOVERED or price_share < PRICE_LOSS_SHARE_OVER, share, price_share, reason
    )


def ceiling_wish(prices: Sequence[int], holds: int, most: int) -> int:
    """The bid ceiling (micros CPM) that would win three of four lost auctions: at least a quarter above the one that
    holds, never above ``most``, its owner's.

    >>> ceiling_wish([], holds=4_000_000, most=20_000_000)
    6000000
    """
    least = int(holds * RAISE)
    if prices:
        ordered = sorted(prices)
        wished = int(ordered[int(PRICE_QUANTILE * (len(ordered) - 1))] * PRICE_MARGIN)
    else:
        wished = int(holds * RAISE_BLIND)
    return min(most, max(least, wished))
