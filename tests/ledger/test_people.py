"""What people do to the books, once each, on both engines; and what is held for them."""

from __future__ import annotations

import pytest

from counterpoint.events.money import BalanceReported
from counterpoint.ledger import look
from counterpoint.ledger.books import Ledger
from counterpoint.ledger.people import Order
from tests.ledger.build import DAY, NOW, UNIT, Desk, S, campaign, catalog, line_item, notice, request

CENT = UNIT // 100


def test_a_credit_is_money_once_whatever_is_sent_again(engine_url: str) -> None:
    desk = Desk(engine_url)
    assert desk.order("credit", 20 * UNIT, "k1").done
    again = desk.order("credit", 20 * UNIT, "k1")
    assert (again.done, again.repeated) == (True, True)
    other = desk.order("credit", 30 * UNIT, "k1")
    assert not other.done
    assert "used for another order" in other.text
    assert (desk.account().budget, desk.account().adjusted) == (120 * UNIT, 20 * UNIT)
    desk.hear(desk.ledger.set_catalog(catalog(campaign(units=50)), NOW))
    assert desk.account().budget == 70 * UNIT, "a reload keeps the credit"


def test_a_debit_waits_for_money_that_is_promised(engine_url: str) -> None:
    desk = Desk(engine_url)
    granted = desk.grant(nanos=40 * UNIT)
    outcome = desk.order("debit", 90 * UNIT, "k1")
    assert outcome.done
    assert "when money that is spent or promised comes back" in outcome.text
    account = desk.account()
    assert (account.budget, account.target) == (granted.granted_nanos, 10 * UNIT)
    assert desk.refusal(2) == "budget_spent"
    assert not desk.order("debit", 11 * UNIT, "k2").done


def test_a_credit_while_a_debit_waits_is_kept(engine_url: str) -> None:
    desk = Desk(engine_url)
    desk.grant(nanos=40 * UNIT)
    assert desk.order("debit", 90 * UNIT, "k1").done
    assert desk.order("credit", 5 * UNIT, "k2").done
    account = desk.account()
    assert (account.adjusted, account.target) == (-85 * UNIT, 15 * UNIT)


def test_a_refund_frees_what_a_bid_cost_and_never_more(engine_url: str) -> None:
    desk = Desk(engine_url)
    granted = desk.grant(nanos=10 * UNIT)
    desk.tell(notice("bid1", granted.allowance_id, paid=2 * UNIT), at=NOW + S)
    free = desk.account().free
    assert desk.order("refund", UNIT, "k1", bid_id="bid1").done
    assert desk.order("refund", UNIT, "k1", bid_id="bid1").repeated
    too_much = desk.order("refund", UNIT + 1, "k2", bid_id="bid1")
    assert not too_much.done
    assert "1.00 is left to refund" in too_much.text
    assert desk.order("refund", UNIT, "k3", bid_id="bid1").done
    assert (desk.account().spent_on_time, desk.account().free) == (0, free + 2 * UNIT)
    assert not desk.order("refund", 1, "k4", bid_id="bid1").done
    assert not desk.order("refund", 1, "k5", bid_id="nobody").done
    desk.tell(notice("bid1", granted.allowance_id, paid=2 * UNIT, copy=2), at=NOW + S)
    assert desk.account().spent == 0, "what was refunded is not booked again by a repeat"


def test_a_refund_of_a_day_pays_overspend_first(engine_url: str) -> None:
    desk = Desk(engine_url, campaign(units=1))
    desk.tell(notice("bid1", "nobodys", paid=3 * UNIT, at=NOW + 60 * S), at=NOW + 60 * S)
    assert desk.account().overspend == 2 * UNIT
    assert desk.account().stopped
    assert not desk.order("refund", 3 * UNIT + 1, "k0").done
    assert desk.order("refund", 5 * UNIT // 2, "k1").done
    account = desk.account()
    assert (account.overspend, account.late, account.free) == (0, UNIT // 2, UNIT // 2)


def test_a_credit_that_covers_the_overspend_lifts_the_stop(engine_url: str) -> None:
    desk = Desk(engine_url, campaign(units=1))
    desk.tell(notice("bid1", "nobodys", paid=3 * UNIT, at=NOW + 60 * S), at=NOW + 60 * S)
    assert desk.refusal(1) == "stopped"
    assert desk.order("credit", UNIT, "k1").done
    assert desk.account().stopped, "there is still overspend"
    assert desk.order("credit", 5 * UNIT, "k2").done
    assert not desk.account().stopped
    assert desk.grant(2, nanos=UNIT).usable_nanos > 0


def test_held_money_is_nobodys_until_released(engine_url: str) -> None:
    desk = Desk(engine_url, campaign(units=10))
    refused = desk.order("hold", 11 * UNIT, "k0")
    assert not refused.done
    assert "only 10.00 is free" in refused.text
    assert desk.order("hold", 10 * UNIT, "k1").done
    assert desk.refusal(1) == "budget_spent"
    assert not desk.order("release", 10 * UNIT + 1, "k2").done
    assert desk.order("release", 10 * UNIT, "k3").done
    assert desk.grant(2, nanos=UNIT).granted_nanos > 0


def test_a_line_item_is_never_refunded_more_than_it_spent(engine_url: str) -> None:
    """Else its cap would count less than what it spent, and it would bid beyond it."""
    desk = Desk(engine_url, lines=(line_item("l1", daily=10), line_item("l2")))
    granted, other = desk.grant(1, nanos=4 * UNIT, line="l1"), desk.grant(2, nanos=20 * UNIT)
    desk.tell(
        notice("bid1", granted.allowance_id, paid=4 * UNIT),
        notice("bid2", other.allowance_id, paid=10 * UNIT, line="l2"),
        at=NOW + S,
    )
    assert desk.order("refund", 3 * UNIT, "k1", line_item_id="l1").done
    again = desk.order("refund", 4 * UNIT, "k2", bid_id="bid1")
    assert not again.done
    assert "1.00 is left to refund" in again.text
    assert desk.order("refund", UNIT, "k3", bid_id="bid1").done
    assert not desk.order("refund", 1, "k4", line_item_id="l1").done
    with desk.ledger.engine.connect() as connection:
        spent = {line.line_item_id: line.spent for line in look.balances(connection)[1]}
    assert spent == {"l1": 0, "l2": 10 * UNIT}


def test_a_key_is_for_one_line_item(engine_url: str) -> None:
    desk = Desk(engine_url, lines=(line_item("l1"), line_item("l2")))
    desk.tell(notice("bid1", "none", line="l1"), notice("bid2", "none", line="l2"))
    assert desk.order("refund", UNIT, "k1", line_item_id="l1").done
    assert desk.order("refund", UNIT, "k1", line_item_id="l1").repeated
    for fields in ({"line_item_id": "l2"}, {}, {"bid_id": "bid2"}):
        other = desk.order("refund", UNIT, "k1", **fields)
        assert not other.done
        assert "used for another order" in other.text
    assert not desk.order("refund", UNIT, "k2", line_item_id="l2", bid_id="bid2").done
    assert not desk.order("credit", UNIT, "k2", line_item_id="l2").done


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"kind": "gift"}, "there is no order gift"),
        ({"amount": 0}, "above 0"),
        ({"amount": 2**63}, "at most"),
        ({"key": " "}, "key must not be empty"),
        ({"author": ""}, "--author"),
        ({"reason": " "}, "--reason"),
        ({"campaign_id": "nobody"}, "nobody knows campaign nobody"),
        ({"day": "2001-01-01"}, "no account for 2001-01-01"),
    ],
)
def test_an_order_that_cannot_be_carried_out_says_why(
    sqlite: str, change: dict[str, object], says: str
) -> None:
    desk = Desk(sqlite)
    order = {"kind": "credit", "amount": UNIT, "key": "k", **change}
    kind, amount, key = order.pop("kind"), order.pop("amount"), order.pop("key")
    outcome = desk.order(kind, amount, key, **order)  # type: ignore[arg-type]
    assert not outcome.done
    assert says in outcome.text
    assert desk.account().budget == 100 * UNIT


def test_a_price_a_thousand_times_the_bid_is_held_and_decided_once(engine_url: str) -> None:
    desk = Desk(engine_url)
    granted = desk.grant(nanos=10 * UNIT)
    excess = 999 * CENT
    desk.tell(notice("bid1", granted.allowance_id, paid=CENT, excess=excess), at=NOW + S)
    assert desk.account().spent == CENT, "never above the signed price"
    assert desk.decide("excess_held", True).done
    assert desk.account().spent == CENT + excess
    again = desk.decide("excess_held", True)
    assert (again.done, again.repeated) == (True, True)
    assert not desk.decide("excess_held", False).done, "a decision is not turned round"
    assert desk.account().spent == CENT + excess
    row = desk.ledger.settlement("bid1")
    assert row is not None
    assert row.on_time_nanos + row.late_nanos + row.overspend_nanos == CENT + excess
    assert desk.order("refund", excess, "k1", bid_id="bid1").done, "and it can be refunded"


def test_a_rejected_excess_costs_nothing(engine_url: str) -> None:
    desk = Desk(engine_url)
    granted = desk.grant(nanos=10 * UNIT)
    desk.tell(notice("bid1", granted.allowance_id, paid=CENT, excess=CENT), at=NOW + S)
    assert desk.decide("excess_held", False).done
    assert not desk.decide("excess_held", True).done
    assert desk.account().spent == CENT


def test_a_win_nobody_granted_money_for_is_booked_until_a_person_rejects_it(engine_url: str) -> None:
    desk = Desk(engine_url)
    desk.tell(notice("bid1", "nobodys", paid=UNIT), at=NOW + S)
    desk.tell(notice("bid2", "nobodys", paid=UNIT), at=NOW + S)
    assert desk.account().late == 2 * UNIT
    assert desk.decide("unknown_allowance", False).done
    assert desk.account().late == UNIT
    assert desk.decide("unknown_allowance", True).done
    assert desk.account().late == UNIT
    assert [f.state for f in desk.ledger.findings()].count("open") == 0


def test_a_win_for_an_unknown_campaign_waits_in_suspense(engine_url: str) -> None:
    desk = Desk(engine_url)
    desk.tell(notice("bid1", "a", paid=UNIT, campaign_id="ghost"), at=NOW + S)
    assert desk.account("ghost").overspend == UNIT
    assert desk.decide("unknown_campaign", False).done
    assert desk.account("ghost").spent == 0


def test_amounts_beyond_64_bits_are_held_and_end_nothing(engine_url: str) -> None:
    desk = Desk(engine_url)
    granted = desk.grant(nanos=10 * UNIT)
    desk.tell(notice("bid1", granted.allowance_id, paid=2**64 - 1, bid=CENT, excess=2**64 - 1), at=NOW + S)
    assert desk.account().spent == CENT
    assert not desk.decide("excess_held", True).done, "that is no price"
    assert desk.decide("excess_held", False).done


def test_a_notice_older_than_its_keys_is_booked_when_accepted(engine_url: str) -> None:
    desk = Desk(engine_url)
    granted = desk.grant(nanos=10 * UNIT)
    desk.tell(notice("bid1", granted.allowance_id, paid=UNIT), at=NOW + S)
    later = NOW + 40 * 86_400 * S
    desk.tell(request(9, bidder="b9", at=later), at=later)
    for minute in (0, 2):  # closes what is out, then carries the day
        desk.hear(desk.ledger.tick(later + minute * 60 * S))
    assert desk.account().pruned
    desk.tell(notice("bid2", granted.allowance_id, paid=UNIT), at=later)
    desk.tell(notice("bid2", granted.allowance_id, paid=UNIT, copy=2), at=later)
    assert desk.account().spent == UNIT
    assert desk.decide("older_than_keys", True).done
    assert desk.account().spent == 2 * UNIT
    assert not desk.decide("older_than_keys", True).done, "the other copy is the same bid"
    assert desk.decide("older_than_keys", False).done
    assert desk.account().spent == 2 * UNIT


def test_what_another_process_ordered_is_said_by_the_running_one(engine_url: str) -> None:
    desk = Desk(engine_url)
    assert desk.ledger.unsent_of_others() == []
    beside = Ledger(engine_url, catalog())
    waiting = desk.ledger.apply(desk.stream.of(request(1)), NOW)  # its own, on its way
    assert desk.ledger.unsent_of_others() == []
    desk.hear(waiting)
    order = {"campaign_id": "c1", "day": DAY, "author": "ann", "reason": "because"}
    assert beside.adjust(Order(key="k1", kind="credit", amount_nanos=UNIT, **order), NOW).done
    beside.close()
    (batch,) = desk.ledger.unsent_of_others()
    (said,) = batch.events
    assert isinstance(said, BalanceReported)
    assert said.budget_nanos == 101 * UNIT
    desk.ledger.mark_sent([batch])
    assert desk.ledger.unsent_of_others() == []
    desk.ledger.forget_sent()
    assert desk.ledger.outbox_size() == 0
