"""Overspend only while nothing is free: whatever raises a budget covers first what was overspent."""

from __future__ import annotations

from sqlalchemy import text

from counterpoint.ledger.books import Ledger
from counterpoint.ledger.people import Order
from counterpoint.ledger.split import SplitApplied
from tests.ledger.build import DAY, NOW, UNIT, Desk, S, campaign, catalog, notice

NEXT = "2023-11-15"
TOMORROW = NOW + 86_400 * S


def overspend(desk: Desk, bids: int, *, at: int = NOW, campaign_id: str = "c1") -> None:
    desk.tell(
        *(
            notice(f"{at}-{campaign_id}-{i}", "none", campaign_id=campaign_id, line="", bid_at=at, at=at)
            for i in range(bids)
        ),
        at=at,
    )


def test_a_pool_move_covers_what_was_overspent(engine_url: str) -> None:
    desk = Desk(engine_url, *(campaign(f"c{i}", units=10, pool="p") for i in (1, 2, 3)))
    overspend(desk, 12)
    assert (desk.account().overspend, desk.account().stopped) == (2 * UNIT, True)
    result, outgoing = desk.ledger.apply_split("p", 5, {"c1": 8, "c2": 1, "c3": 1}, NOW)
    desk.hear(outgoing)
    assert isinstance(result, SplitApplied)
    account = desk.account()
    assert (account.budget, account.late, account.overspend, account.free) == (
        24 * UNIT,
        12 * UNIT,
        0,
        12 * UNIT,
    )
    assert account.stopped, "a person lifts it"


def test_what_an_earlier_day_gives_back_covers_today(engine_url: str) -> None:
    desk = Desk(engine_url, campaign(units=10, lifetime=12))
    overspend(desk, 5)
    desk.hear(desk.ledger.tick(TOMORROW))
    overspend(desk, 9, at=TOMORROW)
    assert desk.account(day=NEXT).overspend == 2 * UNIT
    refund = {
        "key": "k1",
        "kind": "refund",
        "campaign_id": "c1",
        "day": DAY,
        "author": "ann",
        "reason": "because",
    }
    assert desk.ledger.adjust(order(refund, 4 * UNIT), TOMORROW).done
    today = desk.account(day=NEXT)
    assert (today.overspend, today.late, today.free) == (0, 9 * UNIT, UNIT)
    assert sum(a.budget for a in desk.ledger.accounts()) == 11 * UNIT, "1 spent, and what a day takes"


def test_a_raise_covers_what_was_overspent(engine_url: str) -> None:
    desk = Desk(engine_url, campaign(units=10))
    overspend(desk, 14)
    desk.hear(desk.ledger.set_catalog(catalog(campaign(units=12)), NOW))
    assert (desk.account().overspend, desk.account().free) == (2 * UNIT, 0)
    desk.hear(desk.ledger.set_catalog(catalog(campaign(units=15)), NOW))
    assert (desk.account().overspend, desk.account().free) == (0, UNIT)


def test_a_past_day_is_credited_what_it_overspent_and_no_more(engine_url: str) -> None:
    desk = Desk(engine_url, campaign("c1", units=10), campaign("c2", units=10, lifetime=15))
    overspend(desk, 12)
    overspend(desk, 12, campaign_id="c2")
    desk.hear(desk.ledger.tick(TOMORROW))
    ordered = {
        "key": "k1",
        "kind": "credit",
        "campaign_id": "c1",
        "day": DAY,
        "author": "ann",
        "reason": "because",
    }
    refused = desk.ledger.adjust(order(ordered, 3 * UNIT), TOMORROW)
    assert not refused.done
    assert "2.00 of overspend can be covered" in refused.text
    assert desk.ledger.adjust(order(ordered, 2 * UNIT), TOMORROW).done
    assert (desk.account().overspend, desk.account().free, desk.account().stopped) == (0, 0, False)
    lifetime = {**ordered, "key": "k2", "campaign_id": "c2"}
    assert desk.ledger.adjust(order(lifetime, 4 * UNIT), TOMORROW).done
    assert (desk.account("c2").overspend, desk.account("c2").free) == (0, 0)
    assert desk.account("c2", NEXT).budget == 7 * UNIT, "of 19 in all 12 are spent: the rest is today's"
    assert desk.ledger.verify().problems == ()


def order(fields: dict[str, str], nanos: int) -> Order:
    return Order(amount_nanos=nanos, **fields)


def test_what_an_earlier_version_left_uncovered_is_covered_at_the_start(engine_url: str) -> None:
    desk = Desk(engine_url, campaign(units=10))
    overspend(desk, 12)
    with (
        desk.ledger.engine.begin() as connection
    ):  # as a pool move once left it: both in accounts and journal
        connection.execute(text("UPDATE accounts SET budget_nanos = 15000000000, target_nanos = 15000000000"))
        connection.execute(
            text("UPDATE journal SET amount_nanos = amount_nanos / 10 * 15 WHERE kind = 'budget'")
        )
    desk.ledger.close()
    again = Ledger(engine_url, catalog(campaign(units=15)))
    again.set_catalog(catalog(campaign(units=15)), NOW)
    account = again.account("c1", DAY)
    assert account is not None
    assert (account.overspend, account.late, account.free) == (0, 12 * UNIT, 3 * UNIT)
    assert again.verify().problems == ()
    again.close()
