"""Which day pays while the catalog changes: a campaign that leaves it, that changes its zone, that is entered late."""

from __future__ import annotations

import pytest

from counterpoint.ledger.config import LedgerConfig
from tests.ledger.build import DAY, NOW, UNIT, Desk, S, campaign, catalog, notice

NEXT = "2023-11-15"  # in Tokyo, at NOW
D = 86_400 * S


@pytest.mark.parametrize(
    "after", [(), (campaign("tk", units=10, zone="America/New_York"),)], ids=["gone", "moved"]
)
def test_a_win_finds_the_day_of_its_allowance(engine_url: str, after: tuple[object, ...]) -> None:
    tokyo = campaign("tk", units=10, zone="Asia/Tokyo")
    desk = Desk(engine_url, tokyo, campaign())
    granted = desk.grant(campaign_id="tk")
    assert granted.day == NEXT
    desk.hear(desk.ledger.set_catalog(catalog(campaign(), *after), NOW))  # type: ignore[arg-type]
    desk.tell(notice("bid1", granted.allowance_id, campaign_id="tk"), at=NOW + S)
    account = desk.account("tk", NEXT)
    assert (account.spent_on_time, account.overspend, account.stopped) == (UNIT, 0, False)
    assert [f.kind for f in desk.ledger.findings()] == []


def test_a_bid_outside_its_allowances_life_is_a_finding(engine_url: str) -> None:
    desk = Desk(engine_url, campaign(units=10))
    granted = desk.grant()
    life_ns = LedgerConfig().allowance_life_ns
    desk.tell(
        notice("bid1", granted.allowance_id, bid_at=NOW + D), notice("bid2", granted.allowance_id, bid_at=0)
    )
    assert granted.expires_at_ns == NOW + life_ns
    assert [(f.kind, f.ref) for f in desk.ledger.findings()] == [("allowance_of_another", "bid1")]
    assert desk.account(day=NEXT).late == UNIT
    assert desk.account().spent_on_time == UNIT


def test_a_campaign_that_is_entered_pays_all_its_days_in_suspense(engine_url: str) -> None:
    desk = Desk(engine_url)
    for number, bids in enumerate((2, 5)):
        at = NOW + number * D
        desk.tell(
            *(notice(f"bid{number}-{i}", "none", campaign_id="new", bid_at=at, at=at) for i in range(bids)),
            at=at,
        )
    desk.hear(desk.ledger.set_catalog(catalog(campaign(), campaign("new", units=3)), NOW + 2 * D))
    first, second = desk.account("new"), desk.account("new", NEXT)
    assert (first.overspend, first.late, first.free, first.suspense, first.stopped) == (
        0,
        2 * UNIT,
        0,
        False,
        False,
    )
    assert (second.overspend, second.late, second.free, second.suspense) == (2 * UNIT, 3 * UNIT, 0, False)
    assert second.stop_reason.startswith("overspend: booked before")
    assert desk.account("new", "2023-11-16").free == 3 * UNIT


def test_a_lifetime_budget_pays_no_more_days_in_suspense_than_it_holds(engine_url: str) -> None:
    desk = Desk(engine_url)
    for number in range(3):
        at = NOW + number * D
        desk.tell(
            *(notice(f"bid{number}-{i}", "none", campaign_id="new", bid_at=at, at=at) for i in range(2)),
            at=at,
        )
    desk.hear(desk.ledger.set_catalog(catalog(campaign(), campaign("new", units=3, lifetime=5)), NOW + 2 * D))
    accounts = [a for a in desk.ledger.accounts() if a.campaign_id == "new"]
    assert sum(a.budget for a in accounts) == 5 * UNIT
    assert sum(a.overspend for a in accounts) == UNIT
    assert not any(a.suspense for a in accounts)


def test_the_day_that_begins_finds_its_budget_though_it_was_held_in_suspense(engine_url: str) -> None:
    """Behind UTC: what was booked under UTC's tomorrow is there when the campaign's own tomorrow begins."""
    desk = Desk(engine_url)
    at = NOW + 3 * 3_600 * S  # 01:13 UTC, 20:13 of the day before in New York
    desk.tell(notice("bid1", "none", campaign_id="ny", bid_at=at, at=at), at=at)
    known = catalog(campaign(), campaign("ny", units=3, zone="America/New_York"))
    desk.hear(desk.ledger.set_catalog(known, at))
    assert (desk.account("ny", NEXT).budget, desk.account("ny", DAY).budget) == (UNIT, 3 * UNIT)
    desk.hear(desk.ledger.tick(at + 4 * 3_600 * S))
    assert desk.account("ny", NEXT).budget == 3 * UNIT
