"""Money on the bus. Prices in nano-units of the account currency per impression (= micros CPM).

Stream MONEY; never shed. Who may publish: notices, only trackers; commands, only bidders; the rest, only the ledger.
"""

from __future__ import annotations

from counterpoint.events.event import Event

# ---- tracker -> ledger


class SettlementNoticed(Event, frozen=True, kw_only=True, tag="settlement_noticed"):
    """The exchange profile's settling notice arrived for one bid: this is spend. ``event_id`` is ``settle-{bid_id}``
    for the first notice; the ledger's unique key is ``bid_id``, so a repeat books nothing."""

    bid_id: str
    exchange: str
    allowance_id: str
    campaign_id: str
    line_item_id: str
    creative_id: str
    bid_nanos: int  # the signed bid price, account currency
    paid_nanos: int  # what is booked: never more than bid_nanos
    excess_nanos: int = 0  # what the notice claimed above the signed price: held for a person, not booked
    bid_at_ns: int = 0  # when the bid was made: its local day is the day that pays
    reservation_until_ns: int = 0  # signed at bid time: settled after this is late spend
    client_side: bool = False  # from a browser or app: the signed price is booked, not the claimed one
    arm: str = "agents"


# ---- bidder -> ledger


class BidderStarted(Event, frozen=True, kw_only=True, tag="bidder_started"):
    """A bidder came up with a new incarnation: every open allowance of its earlier ones is an orphan."""

    bidder_id: str
    incarnation: str


class AllowanceRequested(Event, frozen=True, kw_only=True, tag="allowance_requested"):
    request_id: str
    bidder_id: str
    incarnation: str
    campaign_id: str
    arm: str
    amount_nanos: int
    line_item_id: str = ""  # for this line item alone, which has a cap of its own; empty: for those without
    currency: str = ""  # the bidder's account currency: another than the ledger's is refused; empty: not said


class AllowanceReturned(Event, frozen=True, kw_only=True, tag="allowance_returned"):
    """The bidder gives back what is neither spent nor reserved. ``event_id`` is the key: a repeat returns nothing."""

    allowance_id: str
    bidder_id: str
    incarnation: str
    amount_nanos: int
    final: bool = False  # the bidder will place no further bid and holds no reservation on it


# ---- ledger -> all


class AllowanceGranted(Event, frozen=True, kw_only=True, tag="allowance_granted"):
    """A slice of a campaign's budget for one bidder incarnation and one arm, for one local day.

    ``granted_nanos`` is reserved in the ledger; only ``usable_nanos`` of it may be bid: the difference is the
    headroom for late settlements."""

    allowance_id: str
    request_id: str
    bidder_id: str
    incarnation: str
    campaign_id: str
    arm: str
    day: str  # local day of the campaign, YYYY-MM-DD
    granted_nanos: int
    usable_nanos: int
    expires_at_ns: int  # no bid after this
    starts_at_ns: int = 0  # no bid before this: where the local day begins
    line_item_id: str = ""  # only this line item may bid on it


class AllowanceRefused(Event, frozen=True, kw_only=True, tag="allowance_refused"):
    request_id: str
    bidder_id: str
    incarnation: str
    campaign_id: str
    arm: str
    reason: str  # "budget_spent" | "stopped" | "flight_over" | "unknown_campaign" | "stale_incarnation" |
    # "not_started" | "paused" | "day_ending" | "bad_amount" | "holds_enough" | "too_old" | "unknown_line_item" |
    # "line_item_cap" | "currency_mismatch"
    retry_after_ns: int = 0  # 0: not before something changes
    line_item_id: str = ""


class SpendBooked(Event, frozen=True, kw_only=True, tag="spend_booked"):
    """One settlement is in the books. Exactly one per bid id."""

    bid_id: str
    allowance_id: str
    campaign_id: str
    line_item_id: str
    creative_id: str
    exchange: str
    arm: str
    day: str
    paid_nanos: int
    late: bool = False
    overspend_nanos: int = 0  # the part of it that no budget covered


class BalanceReported(Event, frozen=True, kw_only=True, tag="balance_reported"):
    """A campaign's account for one local day, after the latest change. Last value per campaign.

    ``spent_on_time_nanos + reserved_nanos <= budget_nanos`` at every step. All that was spent is
    ``spent_on_time_nanos + late_spend_nanos + overspend_nanos``: late spend that the budget covered, and what none
    did. ``budget_nanos`` stays above ``budget_target_nanos`` while money that was cut is still out in allowances."""

    campaign_id: str
    day: str
    budget_nanos: int
    spent_on_time_nanos: int
    late_spend_nanos: int
    reserved_nanos: int
    overspend_nanos: int
    stopped: bool = False
    stop_reason: str = ""
    budget_target_nanos: int = 0
    version: int = 0  # counts the changes of this account: the higher one is the newer one
    held_nanos: int = 0  # set aside by a person: neither free nor spent


class BudgetMoved(Event, frozen=True, kw_only=True, tag="budget_moved"):
    """A resolution about a pool's split was applied: the sum over the pool is unchanged."""

    pool_id: str
    day: str
    epoch: int
    budgets_nanos: dict[str, int]  # by campaign id, after the move
    reason: str = ""
