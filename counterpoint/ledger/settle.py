"""Settlements: what a settling notice does to the books. Each bid id is booked once, whatever arrives.

On time (recorded before its reservation ended, and the allowance has the money): paid from the allowance. Everything
else is late spend, paid in this order, so that money withheld for late spend is used first and money that a bidder
may have bid again is used last:

1. the headroom of its own allowance,
2. headroom of the other allowances of the same account (kept headroom of finished ones included),
3. free budget,
4. what its own allowance still has in the bidder's hands,
5. nothing: overspend. The account stops for the day.
"""

from __future__ import annotations

from counterpoint.base.money import PRICE_MICROS_MAX
from counterpoint.events import subjects
from counterpoint.events.money import SettlementNoticed, SpendBooked
from counterpoint.ledger.rows import Account, Allowance
from counterpoint.ledger.work import SOURCE, Work, micros_text


def settle(work: Work, event: SettlementNoticed) -> None:
    """Book one settlement, or nothing when its bid id is booked already."""
    if work.settled(event.bid_id):
        work.count("settlements_repeated")
        return
    paid = _payable(work, event)
    day = work.day_of_bid(event)
    account = work.account(event.campaign_id, day)
    if account.pruned:
        # Its key may be among those that were deleted: booking it could book it twice.
        work.find("older_than_keys", event.bid_id, event.campaign_id, paid, f"bid of {day}", event)
        return
    book(work, event, account, paid)


def book(work: Work, event: SettlementNoticed, account: Account, paid: int) -> None:
    """Pay it, record it under its key, and say so."""
    day = account.day
    allowance = _own_allowance(work, event, account, paid)
    in_time = event.recorded_at_ns <= event.reservation_until_ns
    if allowance is not None and in_time and allowance.rest >= paid:
        _pay_on_time(work, account, allowance, paid)
        late = overspend = 0
    else:
        late, overspend = pay_late(work, account, allowance, paid, event.line_item_id)
    if event.line_item_id:
        line = work.line(event.line_item_id, day, account.campaign_id)
        line.spent += paid
        work.change_line(line)
    on_time = paid - late - overspend
    if not account.suspense:
        work.measure(event.campaign_id, paid, 0 if in_time else paid)
    work.record_settlement(
        {
            "bid_id": event.bid_id,
            "campaign_id": event.campaign_id,
            "day": day,
            "allowance_id": event.allowance_id,
            "exchange": event.exchange,
            "line_item_id": event.line_item_id,
            "creative_id": event.creative_id,
            "arm": event.arm,
            "on_time_nanos": on_time,
            "late_nanos": late,
            "overspend_nanos": overspend,
            "booked_at_ns": work.now_ns,
            "refunded_nanos": 0,
        }
    )
    work.count("settlements")
    work.say(
        subjects.booked(event.campaign_id),
        SpendBooked(
            event_id=f"booked-{event.bid_id}",
            happened_at_ns=event.happened_at_ns,
            recorded_at_ns=work.now_ns,
            source=SOURCE,
            bid_id=event.bid_id,
            allowance_id=event.allowance_id,
            campaign_id=event.campaign_id,
            line_item_id=event.line_item_id,
            creative_id=event.creative_id,
            exchange=event.exchange,
            arm=event.arm,
            day=day,
            paid_nanos=paid,
            late=late + overspend > 0,
            overspend_nanos=overspend,
        ),
    )


def _payable(work: Work, event: SettlementNoticed) -> int:
    """What is booked: never above the signed price. What was claimed above it is held for a person."""
    signed = min(max(event.bid_nanos, 0), PRICE_MICROS_MAX)
    paid = min(max(event.paid_nanos, 0), signed)
    if paid != event.paid_nanos:
        work.find(
            "bad_amount",
            event.bid_id,
            event.campaign_id,
            max(event.paid_nanos - paid, 0),
            f"notice says paid {event.paid_nanos} of signed {event.bid_nanos} nanos; booked {paid}",
            event,
        )
    if event.excess_nanos > 0:
        work.find(
            "excess_held",
            event.bid_id,
            event.campaign_id,
            event.excess_nanos,
            f"{event.exchange} claims {micros_text(event.excess_nanos)} CPM above the signed price",
            event,
        )
    return paid


def _own_allowance(work: Work, event: SettlementNoticed, account: Account, paid: int) -> Allowance | None:
    if account.suspense:
        work.find("unknown_campaign", event.bid_id, event.campaign_id, paid, f"day {account.day}", event)
        return None
    allowance = work.allowance(event.allowance_id)
    if allowance is None:
        work.find("unknown_allowance", event.bid_id, event.campaign_id, paid, event.allowance_id, event)
        return None
    if (allowance.campaign_id, allowance.day) != (account.campaign_id, account.day):
        work.find(
            "allowance_of_another",
            event.bid_id,
            event.campaign_id,
            paid,
            f"bid of {account.day}, allowance {event.allowance_id} of {allowance.campaign_id} {allowance.day}",
            event,
        )
        return None
    return allowance


def _pay_on_time(work: Work, account: Account, allowance: Allowance, paid: int) -> None:
    from_out = min(allowance.out, paid)
    allowance.out -= from_out
    allowance.headroom -= paid - from_out
    allowance.spent += paid
    work.change_allowance(allowance)
    account.reserved -= paid
    account.spent_on_time += paid
    work.move("settle", account, "reserved", "on_time", paid, source_ref=allowance.allowance_id)


def pay_late(
    work: Work, account: Account, own: Allowance | None, paid: int, line_item_id: str
) -> tuple[int, int]:
    """Return (covered, overspend). Of other allowances those of the same line item pay first: its caps count them."""
    unpaid = paid
    if own is not None:
        unpaid -= _draw_headroom(work, account, own, unpaid)
    if unpaid > 0 and account.reserved > 0:
        others = work.allowances_of(account)
        for other in sorted(others, key=lambda a: (a.line_item_id != line_item_id, a.line_item_id != "")):
            unpaid -= _draw_headroom(work, account, other, unpaid)
            if unpaid == 0:
                break
    if unpaid > account.free:
        work.lend(account, unpaid - account.free)
    from_free = min(account.free, unpaid)
    if from_free > 0:
        account.late += from_free
        work.move("late", account, "free", "late", from_free)
        unpaid -= from_free
    if own is not None and unpaid > 0 and own.out > 0:
        from_out = min(own.out, unpaid)
        own.out -= from_out
        own.late += from_out
        work.change_allowance(own)
        _late_from_reserved(work, account, own, from_out)
        unpaid -= from_out
    if unpaid > 0:
        account.overspend += unpaid
        work.move("overspend", account, "uncovered", "overspend", unpaid)
        work.count("overspend_nanos", unpaid)
        work.stop(
            account,
            "unknown campaign: held in suspense"
            if account.suspense
            else f"overspend: {micros_text(unpaid)} of late spend found neither headroom nor free budget",
        )
    return paid - unpaid, unpaid


def _draw_headroom(work: Work, account: Account, allowance: Allowance, wanted: int) -> int:
    drawn = min(allowance.headroom, wanted)
    if drawn > 0:
        allowance.headroom -= drawn
        allowance.late += drawn
        work.change_allowance(allowance)
        _late_from_reserved(work, account, allowance, drawn)
    return drawn


def _late_from_reserved(work: Work, account: Account, allowance: Allowance, nanos: int) -> None:
    account.reserved -= nanos
    account.late += nanos
    work.move("late", account, "reserved", "late", nanos, source_ref=allowance.allowance_id)
