"""Moves inside a pool: the projection as properties, the application as examples."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.events.money import BalanceReported, BudgetMoved
from counterpoint.ledger.split import Bounds, SplitApplied, SplitRefused, project
from tests.ledger.build import DAY, NOW, UNIT, Desk, S, back, campaign, catalog

amounts = st.integers(0, 10**13)


@st.composite
def members(draw: st.DrawFn) -> list[Bounds]:
    found = []
    for _ in range(draw(st.integers(1, 6))):
        low, high = sorted((draw(amounts), draw(amounts)))
        found.append(Bounds(draw(st.integers(0, 1_000_000)), low, high))
    return found


@settings(max_examples=300, deadline=None)
@given(members(), st.data())
def test_the_sum_is_kept_within_all_bounds(pool: list[Bounds], data: st.DataObject) -> None:
    lows, highs = sum(m.low for m in pool), sum(m.high for m in pool)
    total = data.draw(st.integers(lows, highs))
    budgets = project(total, pool)
    assert isinstance(budgets, list)
    assert sum(budgets) == total
    assert all(m.low <= b <= m.high for m, b in zip(pool, budgets, strict=True))
    # inside the bounds, money goes by share: nobody loose has less per share than somebody else loose, but for a nano
    loose = [(m.share, b) for m, b in zip(pool, budgets, strict=True) if m.low < b < m.high and m.share > 0]
    for share, budget in loose:
        for other_share, other in loose:
            assert budget * other_share <= other * share + share * other_share + max(share, other_share)


@given(members(), amounts)
@settings(max_examples=100, deadline=None)
def test_what_cannot_be_kept_is_refused(pool: list[Bounds], total: int) -> None:
    budgets = project(total, pool)
    if total < sum(m.low for m in pool):
        assert budgets == "minima_exceed_sum"
    elif total > sum(m.high for m in pool):
        assert budgets == "maxima_below_sum"
    else:
        assert isinstance(budgets, list)


def test_a_split_moves_budgets_and_is_told(engine_url: str) -> None:
    desk = Desk(
        engine_url, campaign("c1", pool="p", low=20), campaign("c2", pool="p", high=150), campaign("c3")
    )
    result, outgoing = desk.ledger.apply_split("p", 7, {"c1": 1, "c2": 999_999}, NOW, "budget: why")
    said = desk.hear(outgoing)
    assert result == SplitApplied("p", {"c1": 50 * UNIT, "c2": 150 * UNIT}, True)
    (moved,) = [e for e in said if isinstance(e, BudgetMoved)]
    assert (moved.day, moved.epoch, moved.reason) == (DAY, 7, "budget: why")
    assert {e.campaign_id: e.budget_nanos for e in said if isinstance(e, BalanceReported)} == {
        "c1": 50 * UNIT,
        "c2": 150 * UNIT,
    }
    assert desk.ledger.split_is_applied("p", 7, NOW)
    repeated, outgoing = desk.ledger.apply_split("p", 7, {"c1": 1, "c2": 1}, NOW)
    assert (repeated, outgoing) == (SplitRefused("p", "repeated_epoch"), [])
    tomorrow = NOW + 86_400 * S
    assert not desk.ledger.split_is_applied("p", 7, tomorrow)
    again, outgoing = desk.ledger.apply_split("p", 7, {"c1": 1, "c2": 999_999}, tomorrow)
    assert isinstance(again, SplitApplied)
    desk.hear(outgoing)


def test_what_is_spent_or_promised_stays(sqlite: str) -> None:
    desk = Desk(sqlite, campaign("c1", pool="p"), campaign("c2", pool="p"))
    granted = desk.grant(nanos=40 * UNIT)
    result, outgoing = desk.ledger.apply_split("p", 1, {"c1": 0, "c2": 1_000_000}, NOW)
    desk.hear(outgoing)
    assert isinstance(result, SplitApplied)
    assert result.budgets_nanos == {"c1": granted.granted_nanos, "c2": 200 * UNIT - granted.granted_nanos}


def cut(desk: Desk) -> None:
    desk.grant(nanos=40 * UNIT)
    desk.hear(
        desk.ledger.set_catalog(
            catalog(campaign("c1", pool="p", units=1), campaign("c2", pool="p", high=150)), NOW
        )
    )


@pytest.mark.parametrize(
    ("reason", "pool", "shares", "change"),
    [
        ("unknown_pool", "q", {"c1": 1}, None),
        ("no_shares", "p", {"c3": 1}, None),
        ("cut_pending", "p", {"c1": 1, "c2": 1}, cut),
    ],
)
def test_a_refused_split_moves_nothing(
    sqlite: str, reason: str, pool: str, shares: dict[str, int], change: Any
) -> None:
    desk = Desk(sqlite, campaign("c1", pool="p"), campaign("c2", pool="p", high=150), campaign("c3"))
    if change is not None:
        change(desk)
    before = desk.ledger.accounts()
    result, outgoing = desk.ledger.apply_split(pool, 1, shares, NOW)
    assert (result, outgoing) == (SplitRefused(pool, reason), [])
    assert desk.ledger.accounts() == before


def test_members_whose_days_differ_move_nothing(sqlite: str) -> None:
    desk = Desk(sqlite, campaign("c1", pool="p"), campaign("c2", pool="p", offset=120))
    assert desk.ledger.apply_split("p", 1, {"c1": 1}, NOW)[0] == SplitRefused("p", "days_differ")


def test_bounds_that_contradict_the_sum_move_nothing(sqlite: str) -> None:
    desk = Desk(sqlite, campaign("c1", pool="p", high=50), campaign("c2", pool="p", high=60))
    assert desk.ledger.apply_split("p", 1, {"c1": 1}, NOW)[0] == SplitRefused("p", "maxima_below_sum")
    desk.hear(
        desk.ledger.set_catalog(
            catalog(campaign("c1", pool="p", low=150), campaign("c2", pool="p", low=60)), NOW
        )
    )
    assert desk.ledger.apply_split("p", 1, {"c1": 1}, NOW)[0] == SplitRefused("p", "minima_exceed_sum")


def test_cutting_who_gave_money_away_makes_no_money(engine_url: str) -> None:
    desk = Desk(engine_url, *(campaign(f"c{i}", units=10, pool="p") for i in (1, 2, 3)))
    desk.hear(desk.ledger.apply_split("p", 5, {"c1": 10, "c2": 45, "c3": 45}, NOW)[1])
    held = desk.grant(1, nanos=13 * UNIT, campaign_id="c2").granted_nanos + sum(
        desk.grant(n, nanos=13 * UNIT, campaign_id="c2", bidder=f"b{n}").granted_nanos for n in (2, 3)
    )
    cut = catalog(*(campaign(f"c{i}", units=1 if i == 1 else 10, pool="p") for i in (1, 2, 3)))
    desk.hear(desk.ledger.set_catalog(cut, NOW))
    accounts = {a.campaign_id: a for a in desk.ledger.accounts()}
    assert sum(a.target for a in accounts.values()) == 21 * UNIT, "what the owner gives the three today"
    assert sum(a.moved for a in accounts.values()) == 0
    assert accounts["c1"].budget == 0
    assert accounts["c3"].target < accounts["c2"].target, "first from whose money is free"
    assert accounts["c2"].reserved == held
    desk.hear(desk.ledger.set_catalog(desk.catalog, NOW))
    assert sum(a.target for a in desk.ledger.accounts()) == 30 * UNIT


def test_what_is_taken_back_from_promised_money_follows_as_it_returns(engine_url: str) -> None:
    desk = Desk(engine_url, *(campaign(f"c{i}", units=10, pool="p") for i in (1, 2)))
    desk.hear(desk.ledger.apply_split("p", 5, {"c1": 1, "c2": 9}, NOW)[1])
    grants = [
        desk.grant(n, nanos=20 * UNIT, campaign_id="c2", bidder=f"b{n}")
        for n in (1, 2, 3, 4)  # nearly all
    ]
    desk.hear(
        desk.ledger.set_catalog(
            catalog(campaign("c1", units=1, pool="p"), campaign("c2", units=10, pool="p")), NOW
        )
    )
    account = desk.account("c2")
    assert (account.target, account.free) == (11 * UNIT, 0)
    assert account.budget == account.reserved > 11 * UNIT
    assert desk.refusal(9, campaign_id="c2", bidder="b9") == "budget_spent"
    assert desk.ledger.apply_split("p", 6, {"c1": 1, "c2": 1}, NOW)[0] == SplitRefused("p", "cut_pending")
    for granted in grants:
        desk.tell(back(granted, granted.usable_nanos, final=True))
    assert sum(a.budget for a in desk.ledger.accounts()) == 11 * UNIT, "to the nano"


def test_money_never_crosses_advertisers(sqlite: str) -> None:
    """A pool names one advertiser; a campaign of another that claims the pool is not a member."""
    desk = Desk(sqlite, campaign("c1", pool="p"), campaign("c2", pool="p"))
    mixed = catalog(
        campaign("c1", pool="p"), campaign("c2", pool="p"), campaign("c9", pool="p", advertiser="a2")
    )
    owner = catalog(campaign("c1", pool="p")).pools
    desk.hear(desk.ledger.set_catalog(type(mixed)(campaigns=mixed.campaigns, pools=owner), NOW))
    result, outgoing = desk.ledger.apply_split("p", 1, {"c1": 100_000, "c2": 100_000, "c9": 800_000}, NOW)
    desk.hear(outgoing)
    assert isinstance(result, SplitApplied)
    assert set(result.budgets_nanos) == {"c1", "c2"}
    account = desk.ledger.account("c9", DAY)
    assert account is not None
    assert account.budget == 100 * UNIT
