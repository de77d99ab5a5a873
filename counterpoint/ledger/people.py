"""What a person does to the books: credit, debit, refund, hold, release; accept or reject what was held for them.

Each order names its author, its reason and a key; the key is kept for ever, so an order that is sent twice is done
once. Whatever it changes goes through the same movements as everything else, two legs in the journal each.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from sqlalchemy import select, update

from counterpoint.events.codec import decode_batch
from counterpoint.events.money import SettlementNoticed
from counterpoint.ledger.door import ID_CHARS_MAX, shown, usable
from counterpoint.ledger.known import BUDGET_NANOS_MAX
from counterpoint.ledger.rows import Account
from counterpoint.ledger.settle import book, pay_late
from counterpoint.ledger.tables import ADJUSTMENTS, FINDINGS, SETTLEMENTS
from counterpoint.ledger.work import Work, units_text

KINDS = ("credit", "debit", "refund", "hold", "release")
EXCESS = ("excess_held", "bad_amount")  # more was claimed than booked: accepting books the rest
BOOKED = (
    "unknown_campaign",
    "unknown_allowance",
    "allowance_of_another",
)  # booked already: rejecting takes it back
OF_LINE = "line:"  # begins the ref of a day's refund that names a line item
UNBOOKED = ("older_than_keys",)  # nothing is booked: accepting does it


class Order(Struct, frozen=True, kw_only=True):
    """``amount_nanos`` of the account currency, above 0. ``bid_id``: the settlement a refund is for; without it a
    refund is for the campaign's day as a whole."""

    key: str
    kind: str  # one of KINDS
    campaign_id: str
    day: str
    amount_nanos: int
    author: str
    reason: str
    bid_id: str = ""
    line_item_id: str = ""


class Outcome(Struct, frozen=True):
    """``done``: the books say what was ordered (now, or since the first time: ``repeated``). ``text`` for people."""

    done: bool
    text: str
    repeated: bool = False


def adjust(work: Work, order: Order) -> Outcome:
    """Carry out one order, once per key, or say why not."""
    wrong = _unusable(order)
    if wrong:
        return Outcome(False, wrong)
    first = _earlier(work, order.key)
    if first is not None:
        same = (first.kind, first.campaign_id, first.day, first.ref, first.amount_nanos) == (
            order.kind, order.campaign_id, order.day, _ref(order), order.amount_nanos,
        )  # fmt: skip
        what = f"{first.kind} of {units_text(first.amount_nanos)} to {first.campaign_id} {first.day} by {first.author}"
        if same:
            return Outcome(True, f"done before, nothing changed: {what}", repeated=True)
        return Outcome(False, f"the key {order.key} was used for another order: {what}; choose a new key")
    account = _account(work, order)
    if isinstance(account, Outcome):
        return account
    outcome = _DO[order.kind](work, account, order)
    if outcome.done:
        _record(
            work, order.key, order.kind, account, _ref(order), order.amount_nanos, order.author, order.reason
        )
        work.count(f"people_{order.kind}")
    return outcome


def decide(work: Work, finding_id: int, accept: bool, author: str, reason: str) -> Outcome:
    """Close a finding, once. Accepting books what was claimed and is not booked; rejecting takes back what was booked
    though nobody knew the bid; where neither is in question it is noted."""
    if not author.strip() or not reason.strip():
        return Outcome(False, "say who decides and why: --author and --reason")
    row = work.connection.execute(select(FINDINGS).where(FINDINGS.c.id == finding_id)).one_or_none()
    if row is None:
        return Outcome(False, f"there is no finding {finding_id}; see counterpoint ledger findings")
    verdict = "accepted" if accept else "rejected"
    if row.state != "open":
        return Outcome(row.state == verdict, f"was {row.state} before, nothing changed", repeated=True)
    if accept and row.kind in EXCESS:
        outcome, moved = _book_excess(work, row)
    elif accept and row.kind in UNBOOKED:
        outcome, moved = _book_held(work, row)
    elif not accept and row.kind in BOOKED:
        outcome, moved = _take_back(work, row, finding_id)
    else:
        outcome, moved = Outcome(True, f"{verdict}; the books stay as they are"), 0
    if not outcome.done:
        return outcome
    work.connection.execute(update(FINDINGS).where(FINDINGS.c.id == finding_id).values(state=verdict))
    work.record_adjustment(
        {
            "key": f"finding-{finding_id}",
            "kind": "accept" if accept else "reject",
            "campaign_id": row.campaign_id,
            "day": "",
            "ref": row.ref,
            "amount_nanos": moved,
            "author": author,
            "reason": reason,
        }
    )
    work.count(f"findings_{verdict}")
    return outcome


def _earlier(work: Work, key: str) -> Any:
    return work.connection.execute(select(ADJUSTMENTS).where(ADJUSTMENTS.c.key == key)).one_or_none()


def _record(
    work: Work, key: str, kind: str, account: Account, ref: str, nanos: int, author: str, reason: str
) -> None:
    work.record_adjustment(
        {
            "key": key,
            "kind": kind,
            "campaign_id": account.campaign_id,
            "day": account.day,
            "ref": ref,
            "amount_nanos": nanos,
            "author": author,
            "reason": reason,
        }
    )


def _ref(order: Order) -> str:
    """What a refund is for, besides its campaign's day: a bid, or a line item."""
    return order.bid_id or (f"{OF_LINE}{order.line_item_id}" if order.line_item_id else "")


def _unusable(order: Order) -> str:
    if order.kind not in KINDS:
        return f"there is no order {order.kind}; choose one of {', '.join(KINDS)}"
    if not 0 < order.amount_nanos <= BUDGET_NANOS_MAX:
        return f"the amount must be above 0 and at most {units_text(BUDGET_NANOS_MAX)}"
    if not order.key.strip() or order.key.startswith("finding-"):
        return 'the key must not be empty nor begin with "finding-": it makes sure that this is done once'
    if order.line_item_id and (order.kind != "refund" or order.bid_id):
        return "a line item is named by the refund of a day alone: a bid has its own"
    for name in (order.key, order.campaign_id, order.day, order.bid_id, order.line_item_id):
        if not usable(name):
            return f"a name ends at {ID_CHARS_MAX} characters and has no control characters: {shown(name)}"
    if not order.author.strip() or not order.reason.strip():
        return "say who orders it and why: --author and --reason"
    return ""


def _account(work: Work, order: Order) -> Account | Outcome:
    account = work.account_if_open(order.campaign_id, order.day)
    if account is not None:
        return account
    campaign = work.catalog.campaigns.get(order.campaign_id)
    if campaign is None:
        return Outcome(False, f"nobody knows campaign {order.campaign_id}: not in the catalog, no account")
    if order.day != work.day_of(campaign, work.now_ns):
        return Outcome(
            False, f"{order.campaign_id} has no account for {order.day}; name a day it was open, or today"
        )
    return work.account(order.campaign_id, order.day)


def _credit(work: Work, account: Account, order: Order) -> Outcome:
    if abs(account.adjusted + order.amount_nanos) > BUDGET_NANOS_MAX:
        return Outcome(False, f"credits of a day end at {units_text(BUDGET_NANOS_MAX)}")
    campaign = work.catalog.campaigns.get(account.campaign_id)
    over = campaign is not None and account.day < work.day_of(campaign, work.now_ns)
    lifetime = work.catalog.lifetime_nanos(account.campaign_id) is not None
    if over and not lifetime and order.amount_nanos > account.overspend:
        return Outcome(
            False,
            f"{account.day} is over and {account.campaign_id} has no lifetime budget: nobody could spend it. "
            f"{units_text(account.overspend)} of overspend can be covered; credit today for more",
        )
    account.adjusted += order.amount_nanos
    account.target = work.target_of(account) if over and lifetime else account.target + order.amount_nanos
    covers = min(order.amount_nanos, account.overspend)  # before any cut that waits
    raised = max(account.target, account.committed + covers) - account.budget
    if raised > 0:
        work.fund(account, raised, "credit", order.key)
    work.change(account)
    work.freed(account)
    if account.stop_reason.startswith("overspend") and account.overspend == 0:
        account.stopped, account.stop_reason = False, ""
    return Outcome(True, f"credited {units_text(order.amount_nanos)}; {_shown(account)}")


def _debit(work: Work, account: Account, order: Order) -> Outcome:
    if order.amount_nanos > max(account.target, 0):
        return Outcome(False, f"only {units_text(max(account.target, 0))} can be taken; {_shown(account)}")
    account.adjusted -= order.amount_nanos
    account.target -= order.amount_nanos
    cut = account.budget - max(account.target, account.committed)
    if cut > 0:
        work.fund(account, -cut, "debit", order.key)
    work.change(account)
    waits = account.budget - account.target
    text = f"debited {units_text(order.amount_nanos)}"
    if waits > 0:
        text += f", {units_text(waits)} of it when money that is spent or promised comes back"
    return Outcome(True, f"{text}; {_shown(account)}")


def _hold(work: Work, account: Account, order: Order) -> Outcome:
    if order.amount_nanos > account.free:
        return Outcome(
            False,
            f"only {units_text(account.free)} is free ({units_text(account.reserved)} is with the bidders and returns "
            "within a minute or is spent); hold less, or stop the campaign and try again",
        )
    account.held += order.amount_nanos
    work.move("hold", account, "free", "held", order.amount_nanos, target_ref=order.key)
    return Outcome(True, f"held {units_text(order.amount_nanos)}; {_shown(account)}")


def _release(work: Work, account: Account, order: Order) -> Outcome:
    if order.amount_nanos > account.held:
        return Outcome(False, f"only {units_text(account.held)} is held")
    account.held -= order.amount_nanos
    work.move("release", account, "held", "free", order.amount_nanos, source_ref=order.key)
    work.freed(account)
    return Outcome(True, f"released {units_text(order.amount_nanos)}; {_shown(account)}")


def _refund(work: Work, account: Account, order: Order) -> Outcome:
    if order.bid_id:
        row = _settlement(work, order.bid_id)
        if row is None:
            return Outcome(
                False,
                f"no settlement of bid {order.bid_id} is kept: not booked yet, or older than keep_days; try again in a moment",
            )
        if (row.campaign_id, row.day) != (account.campaign_id, account.day):
            return Outcome(False, f"bid {order.bid_id} was booked for {row.campaign_id} {row.day}")
        left = _refundable(work, account, row)
        if order.amount_nanos > left:
            return Outcome(
                False, f"{units_text(_booked(row))} was booked and {units_text(left)} is left to refund"
            )
        _refund_bid(work, account, row, order.amount_nanos)
    else:
        if order.amount_nanos > account.spent:
            return Outcome(False, f"only {units_text(account.spent)} was spent; {_shown(account)}")
        if order.line_item_id:
            line = work.line(order.line_item_id, account.day, account.campaign_id)
            if line.campaign_id != account.campaign_id:
                return Outcome(False, f"line item {order.line_item_id} is of campaign {line.campaign_id}")
            if order.amount_nanos > line.spent:
                return Outcome(
                    False, f"line item {order.line_item_id} spent {units_text(line.spent)} that day"
                )
            _less_spent(work, account, order.line_item_id, order.amount_nanos)
        _give_back(work, account, order.amount_nanos, account.spent, "")
    return Outcome(True, f"refunded {units_text(order.amount_nanos)}; {_shown(account)}")


def _refund_bid(work: Work, account: Account, row: Any, nanos: int) -> None:
    late_left = max(row.late_nanos + row.overspend_nanos - row.refunded_nanos, 0)
    work.connection.execute(
        update(SETTLEMENTS)
        .where(SETTLEMENTS.c.bid_id == row.bid_id)
        .values(refunded_nanos=row.refunded_nanos + nanos)
    )
    _give_back(work, account, nanos, late_left, row.bid_id)
    if row.line_item_id:
        _less_spent(work, account, row.line_item_id, nanos)


def _give_back(work: Work, account: Account, nanos: int, late_max: int, ref: str) -> None:
    """Spend becomes free again: what no budget covered first, then late spend (at most ``late_max`` of both, as far
    as it is there), then what was on time."""
    from_over = min(nanos, late_max, account.overspend)
    from_late = min(nanos - from_over, late_max - from_over, account.late)
    from_on_time = min(nanos - from_over - from_late, account.spent_on_time)
    rest = (
        nanos - from_over - from_late - from_on_time
    )  # other refunds of the day took the kind this one was booked as
    more_late = min(rest, account.late - from_late)
    more_over = rest - more_late
    account.overspend -= from_over + more_over
    account.late -= from_late + more_late
    account.spent_on_time -= from_on_time
    work.move("refund", account, "overspend", "uncovered", from_over + more_over, source_ref=ref)
    work.move("refund", account, "late", "free", from_late + more_late, source_ref=ref)
    work.move("refund", account, "on_time", "free", from_on_time, source_ref=ref)
    work.freed(account)


def _less_spent(work: Work, account: Account, line_item_id: str, nanos: int) -> None:
    line = work.line(line_item_id, account.day, account.campaign_id)
    line.spent -= nanos
    work.change_line(line)


def _settlement(work: Work, bid_id: str) -> Any:
    return work.connection.execute(select(SETTLEMENTS).where(SETTLEMENTS.c.bid_id == bid_id)).one_or_none()


def _booked(row: Any) -> int:
    return int(row.on_time_nanos + row.late_nanos + row.overspend_nanos)


def _refundable(work: Work, account: Account, row: Any) -> int:
    """Refunds of the day as a whole may have taken some of it, from the account or from the line item."""
    left = min(_booked(row) - int(row.refunded_nanos), account.spent)
    if row.line_item_id:
        left = min(left, work.line(row.line_item_id, account.day, account.campaign_id).spent)
    return left


def _book_excess(work: Work, finding: Any) -> tuple[Outcome, int]:
    nanos: int = finding.amount_nanos
    row = _settlement(work, finding.ref)
    account = work.account_if_open(row.campaign_id, row.day) if row is not None else None
    if row is None or account is None:
        return Outcome(
            False, f"no settlement of bid {finding.ref} is kept: reject this, and debit by hand"
        ), 0
    if nanos > BUDGET_NANOS_MAX:
        return Outcome(False, f"{nanos} nanos is no price; reject this, and debit by hand what is owed"), 0
    late, overspend = pay_late(work, account, None, nanos, row.line_item_id)
    work.connection.execute(
        update(SETTLEMENTS)
        .where(SETTLEMENTS.c.bid_id == row.bid_id)
        .values(late_nanos=row.late_nanos + late, overspend_nanos=row.overspend_nanos + overspend)
    )
    if row.line_item_id:
        _less_spent(work, account, row.line_item_id, -nanos)
    return Outcome(True, f"booked {units_text(nanos)} more for bid {row.bid_id}; {_shown(account)}"), nanos


def _book_held(work: Work, finding: Any) -> tuple[Outcome, int]:
    event = _about(finding)
    if event is None:
        return Outcome(False, "it was found by an earlier version, without its notice: debit by hand"), 0
    if work.settled(event.bid_id):
        return Outcome(False, f"bid {event.bid_id} is booked already; reject this one"), 0
    account = work.account(event.campaign_id, work.day_of_bid(event))
    book(work, event, account, finding.amount_nanos)
    return Outcome(
        True, f"booked {units_text(finding.amount_nanos)}; {_shown(account)}"
    ), finding.amount_nanos


def _take_back(work: Work, finding: Any, finding_id: int) -> tuple[Outcome, int]:
    row = _settlement(work, finding.ref)
    account = work.account_if_open(row.campaign_id, row.day) if row is not None else None
    if row is None or account is None:
        return Outcome(
            False, f"no settlement of bid {finding.ref} is kept; refund its campaign's day instead"
        ), 0
    left = _refundable(work, account, row)
    if left > 0:
        _refund_bid(work, account, row, left)
    return Outcome(True, f"took back {units_text(left)} of bid {row.bid_id}; {_shown(account)}"), left


def _about(finding: Any) -> SettlementNoticed | None:
    if finding.payload is None:
        return None
    events, _ = decode_batch(finding.payload)
    return events[0] if events and isinstance(events[0], SettlementNoticed) else None


def _shown(account: Account) -> str:
    parts = (
        f"{account.campaign_id} {account.day}: budget {units_text(account.budget)}",
        f"spent {units_text(account.spent)}",
        f"reserved {units_text(account.reserved)}",
        f"held {units_text(account.held)}",
        f"free {units_text(account.free)}",
    )
    return ", ".join(parts) + (f", stopped: {account.stop_reason}" if account.stopped else "")


_DO = {"credit": _credit, "debit": _debit, "refund": _refund, "hold": _hold, "release": _release}
