"""Lifetime budgets, line item caps, zones and currencies, on both engines."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from counterpoint.catalog.local_time import day_bounds_ns, local_day
from counterpoint.events.money import AllowanceGranted
from counterpoint.ledger.books import Ledger
from counterpoint.ledger.split import SplitApplied
from counterpoint.ledger.tables import LedgerDatabaseError
from tests.ledger.build import (
    DAY,
    NOTICE_LIFE_S,
    NOW,
    UNIT,
    Desk,
    S,
    back,
    campaign,
    catalog,
    line_item,
    notice,
    request,
)

HOUR = 3_600 * S
NEXT = "2023-11-15"
MORNING = NOW + 8 * HOUR  # of the next day
CLOSED = MORNING + 60 * S + NOTICE_LIFE_S * S + HOUR  # all that was granted in the morning is closed


def _spend(desk: Desk, number: int, nanos: int, at: int) -> AllowanceGranted:
    granted = desk.grant(number, nanos=nanos, at=at)
    pieces = 10  # no single price is above 10 units
    desk.tell(
        *(
            notice(
                f"bid{number}-{piece}",
                granted.allowance_id,
                paid=nanos // pieces,
                bid_at=at,
                until=at + 10 * S,
                at=at + S,
            )
            for piece in range(pieces)
        ),
        back(granted, granted.usable_nanos, final=True),
        at=at + S,
    )
    return granted


def test_the_days_of_a_campaign_share_its_lifetime_budget(engine_url: str) -> None:
    desk = Desk(engine_url, campaign(units=100, lifetime=150))
    assert desk.account().budget == 100 * UNIT
    _spend(desk, 1, 30 * UNIT, NOW)
    desk.hear(desk.ledger.tick(MORNING))
    assert desk.account(day=NEXT).budget == 100 * UNIT, "120 are left, a day takes 100 of it"
    assert desk.account().free == 0, "the day before holds what it spent, and what late wins may still need"
    spent = 30 * UNIT
    for number in range(2, 6):
        _spend(desk, number, 24 * UNIT, MORNING + number * 10 * S)
        spent += 24 * UNIT
    third = MORNING + 86_400 * S
    desk.hear(desk.ledger.tick(third))
    assert desk.account(day="2023-11-16").budget <= 150 * UNIT - spent
    assert sum(a.budget + a.overspend for a in desk.ledger.accounts()) <= 150 * UNIT
    desk.hear(desk.ledger.tick(third + S))
    assert desk.account(day="2023-11-16").budget == 150 * UNIT - spent, "when all is closed, to the nano"


def test_a_late_win_of_yesterday_is_paid_from_the_lifetime_budget_before_today_bids_it(
    engine_url: str,
) -> None:
    desk = Desk(engine_url, campaign(units=100, lifetime=100))
    desk.hear(desk.ledger.tick(MORNING))
    assert (desk.account().budget, desk.account(day=NEXT).budget) == (0, 100 * UNIT)
    desk.tell(notice("bid1", "gone", paid=5 * UNIT, at=MORNING), at=MORNING)
    assert (desk.account().late, desk.account().overspend) == (5 * UNIT, 0)
    assert desk.account(day=NEXT).budget == 95 * UNIT
    assert not desk.account().stopped


def test_a_lifetime_budget_that_is_cut_below_what_is_spent_grants_nothing_more(engine_url: str) -> None:
    desk = Desk(engine_url, campaign(units=100, lifetime=150))
    granted = _spend(desk, 1, 30 * UNIT, NOW)
    desk.hear(desk.ledger.set_catalog(catalog(campaign(units=100, lifetime=20)), NOW + 2 * S))
    account = desk.account()
    assert (account.spent_on_time, account.target) == (30 * UNIT, 20 * UNIT)
    assert account.free == 0
    assert desk.refusal(2, at=NOW + 3 * S) == "budget_spent"
    assert granted.granted_nanos >= 30 * UNIT
    desk.hear(desk.ledger.set_catalog(catalog(campaign(units=100, lifetime=60)), NOW + 4 * S))
    assert desk.account().budget == 60 * UNIT


def test_a_pool_moves_no_more_than_a_lifetime_budget_leaves(engine_url: str) -> None:
    desk = Desk(
        engine_url, campaign("c1", units=100, lifetime=120, pool="p"), campaign("c2", units=100, pool="p")
    )
    result, outgoing = desk.ledger.apply_split("p", 1, {"c1": 900_000, "c2": 100_000}, NOW)
    desk.hear(outgoing)
    assert isinstance(result, SplitApplied)
    assert result.budgets_nanos == {"c1": 120 * UNIT, "c2": 80 * UNIT}
    assert [a.budget for a in desk.ledger.accounts()] == [120 * UNIT, 80 * UNIT]
    desk.hear(desk.ledger.set_catalog(desk.catalog, NOW + S))
    assert [a.budget for a in desk.ledger.accounts()] == [120 * UNIT, 80 * UNIT], "and it stays"


def test_a_line_item_is_granted_no_more_than_its_caps(engine_url: str) -> None:
    desk = Desk(engine_url, lines=(line_item(daily=10, lifetime=15), line_item("l2")))
    total = 0
    for number in range(60):
        said = desk.tell(request(number, nanos=3 * UNIT, line="l1", bidder=f"b{number % 3}"))
        total += sum(e.granted_nanos for e in said if isinstance(e, AllowanceGranted))
        assert total <= 10 * UNIT
    assert total > 99 * UNIT // 10
    assert desk.refusal(60, nanos=UNIT, line="l1", bidder="z") == "line_item_cap"
    assert desk.grant(51, nanos=UNIT, bidder="z").line_item_id == "", "the campaign has money for the others"
    assert desk.refusal(52, line="nobodys", bidder="z") == "unknown_line_item"


def test_a_line_items_lifetime_cap_counts_every_day(engine_url: str) -> None:
    desk = Desk(engine_url, lines=(line_item(lifetime=10),))
    granted = desk.grant(1, nanos=4 * UNIT, line="l1")
    desk.tell(
        notice("bid1", granted.allowance_id, paid=4 * UNIT),
        notice("bid2", "gone", paid=3 * UNIT, until=0),
        back(granted, granted.usable_nanos, final=True),
        at=NOW + S,
    )
    desk.hear(desk.ledger.tick(MORNING))
    desk.hear(desk.ledger.tick(MORNING + NOTICE_LIFE_S * S))
    got = desk.grant(2, nanos=9 * UNIT, line="l1", at=MORNING + HOUR)
    assert got.granted_nanos <= 3 * UNIT
    assert desk.order("refund", 4 * UNIT, "k1", bid_id="bid1").done
    more = desk.grant(3, nanos=9 * UNIT, line="l1", bidder="b2", at=MORNING + HOUR)
    assert more.granted_nanos + got.granted_nanos <= 7 * UNIT
    assert more.granted_nanos > 0


def test_a_day_in_a_zone_has_23_or_25_hours(engine_url: str) -> None:
    berlin = campaign(zone="Europe/Berlin")
    for day, hours in (("2023-03-26", 23), ("2023-06-01", 24), ("2023-10-29", 25)):
        noon = int(datetime.fromisoformat(f"{day}T12:00").replace(tzinfo=UTC).timestamp()) * S
        begin, end = day_bounds_ns(berlin, noon)
        assert (end - begin) // HOUR == hours
        days = {local_day(berlin, at) for at in range(begin, end, 10 * 60 * S)}
        assert days == {day}
        assert local_day(berlin, begin - 1) < day < local_day(berlin, end)
    desk = Desk(engine_url, berlin)
    assert [a.day for a in desk.ledger.accounts()] == [DAY], "23:13 in Berlin"
    last = int(datetime(2023, 11, 14, 22, 59, 30, tzinfo=UTC).timestamp()) * S
    assert desk.grant(1, at=last).expires_at_ns == last + 30 * S, "to midnight in Berlin"
    desk.hear(desk.ledger.tick(last + 31 * S))
    assert [a.day for a in desk.ledger.accounts()] == [DAY, NEXT]


def test_settlements_around_midnight_find_their_own_day(engine_url: str) -> None:
    """One batch, a campaign whose day begins at twenty past: each win goes to the day of its bid."""
    desk = Desk(engine_url, campaign(offset=100))
    midnight = int(datetime(2023, 11, 14, 22, 20, tzinfo=UTC).timestamp()) * S
    desk.tell(
        *(
            notice(f"bid{at}", "gone", paid=UNIT, bid_at=midnight + at * S, at=midnight + 60 * S)
            for at in (-300, -1, 0, 1, 2, 300)
        ),
        at=midnight + 60 * S,
    )
    assert desk.account().spent == 2 * UNIT
    assert desk.account(day=NEXT).spent == 4 * UNIT


def test_a_flight_in_the_past_or_not_begun_grants_nothing(engine_url: str) -> None:
    desk = Desk(engine_url, campaign("over", ends=NOW), campaign("soon", starts=NOW + HOUR))
    assert desk.refusal(1, campaign_id="over") == "flight_over"
    assert desk.refusal(2, campaign_id="soon") == "not_started"


def test_a_budget_of_zero_grants_nothing_and_books_what_was_won(engine_url: str) -> None:
    desk = Desk(engine_url, campaign(units=0))
    assert desk.refusal(1) == "budget_spent"
    desk.tell(notice("bid1", "gone", paid=UNIT), at=NOW + S)
    assert (desk.account().overspend, desk.account().stopped) == (UNIT, True)


def test_two_currencies_are_never_added_up(engine_url: str) -> None:
    desk = Desk(engine_url)
    assert desk.refusal(1, currency="EUR") == "currency_mismatch"
    assert desk.grant(2, currency="USD").granted_nanos > 0
    before = desk.ledger.accounts()
    with pytest.raises(LedgerDatabaseError, match="in USD, the catalog's account_currency is EUR"):
        desk.ledger.set_catalog(catalog(campaign(), currency="EUR"), NOW)
    with pytest.raises(LedgerDatabaseError, match="in USD"):
        Ledger(engine_url, catalog(currency="EUR"))
    assert desk.ledger.accounts() == before
    assert desk.grant(3, bidder="b2").granted_nanos > 0, "it goes on with the catalog it had"
