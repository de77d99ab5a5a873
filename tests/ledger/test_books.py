"""What each event does to the books, one example each; on both engines where the engine could matter."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import update
from sqlalchemy.exc import DBAPIError, IntegrityError

from counterpoint.bus.bus import Delivery
from counterpoint.events import subjects
from counterpoint.events.money import AllowanceGranted, BalanceReported, SettlementNoticed, SpendBooked
from counterpoint.ledger.books import Ledger
from counterpoint.ledger.config import LedgerConfig
from counterpoint.ledger.tables import ACCOUNTS, WRITER, LedgerDatabaseError
from counterpoint.ledger.work import Work
from tests.ledger.build import (
    DAY,
    NOTICE_LIFE_S,
    NOW,
    UNIT,
    Desk,
    S,
    Stream,
    back,
    campaign,
    catalog,
    notice,
    request,
    started,
)

MILLI = UNIT // 1_000


def test_a_grant_reserves_and_withholds_headroom(engine_url: str) -> None:
    desk = Desk(engine_url)
    granted = desk.grant(nanos=10 * UNIT)
    assert granted.usable_nanos >= 10 * UNIT - 1
    assert granted.granted_nanos - granted.usable_nanos >= granted.granted_nanos // 100
    account = desk.ledger.account("c1", DAY)
    assert account is not None
    assert account.reserved == granted.granted_nanos
    assert account.budget == 100 * UNIT


def test_a_settlement_is_booked_once_whatever_is_repeated(engine_url: str) -> None:
    desk = Desk(engine_url)
    granted = desk.grant()
    first = desk.tell(notice("bid1", granted.allowance_id))
    assert [e.late for e in first if isinstance(e, SpendBooked)] == [False]
    before = desk.ledger.accounts()
    again = desk.tell(
        notice("bid1", granted.allowance_id), notice("bid1", granted.allowance_id, copy=2, at=NOW + 50 * S)
    )
    assert again == []
    assert desk.ledger.accounts() == before
    assert before[0].spent_on_time == UNIT


def test_the_same_position_and_the_same_command_change_nothing(engine_url: str) -> None:
    desk = Desk(engine_url)
    deliveries = desk.stream.of(started(), request(1), request(2, nanos=UNIT))
    desk.hear(desk.ledger.apply(deliveries, NOW))
    before = (desk.ledger.accounts(), desk.ledger.allowances())
    assert desk.ledger.apply(deliveries, NOW + S) == []
    republished = Stream().of(started(), request(1), request(2, nanos=UNIT), at=NOW + 5 * S)
    assert desk.ledger.apply(republished, NOW + 5 * S) == []  # a stream made anew, with the same commands
    assert (desk.ledger.accounts(), desk.ledger.allowances()) == before


def test_two_writers_with_the_same_batches_book_them_once(engine_url: str) -> None:
    desk = Desk(engine_url)
    granted = desk.grant(nanos=50 * UNIT)
    deliveries = desk.stream.of(
        *(notice(f"bid{i}", granted.allowance_id, paid=UNIT // 10) for i in range(120)),
        *(request(100 + i, nanos=UNIT) for i in range(5)),
    )
    failures: list[BaseException] = []

    def write(offset: int) -> None:
        try:
            ledger = Ledger(engine_url, catalog())
            for start in range(0, len(deliveries), 25 + offset):
                ledger.apply(deliveries[start : start + 25 + offset], NOW + S)
            ledger.close()
        except BaseException as failure:  # noqa: BLE001 - told to the test below
            failures.append(failure)

    writers = [threading.Thread(target=write, args=(offset,)) for offset in (0, 0, 7)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert failures == []
    account = desk.ledger.account("c1", DAY)
    assert account is not None
    assert account.spent_on_time == 12 * UNIT
    assert len(desk.ledger.allowances()) == 6
    verification = desk.ledger.verify()
    assert verification.problems == ()
    assert verification.settlements == 120


def test_the_database_refuses_what_the_code_would_have_asserted(engine_url: str) -> None:
    desk = Desk(engine_url)
    desk.grant()
    with pytest.raises((IntegrityError, DBAPIError)), desk.ledger.engine.begin() as connection:
        connection.execute(update(ACCOUNTS).values(spent_on_time_nanos=95 * UNIT))
    with desk.ledger.engine.begin() as connection:
        work = Work(connection, desk.ledger._catalog, LedgerConfig(), NOW)
        account = work.account("c1", DAY)
        account.reserved += 95 * UNIT
        with pytest.raises(AssertionError, match="promised twice"):
            work.move("grant", account, "free", "reserved", 95 * UNIT)
    assert desk.ledger.verify().problems == ()


def test_the_audit_sees_a_changed_balance(sqlite: str) -> None:
    desk = Desk(sqlite)
    desk.grant()
    with desk.ledger.engine.begin() as connection:
        connection.execute(update(ACCOUNTS).values(spent_on_time_nanos=1))
    assert desk.ledger.verify().problems != ()


def test_late_spend_takes_headroom_then_free_then_the_rest_then_overspends(engine_url: str) -> None:
    desk = Desk(engine_url, campaign(units=10))
    granted = desk.grant(nanos=5 * UNIT)  # capped: half of the budget for one bidder
    other = desk.grant(2, bidder="b2", nanos=100 * UNIT)
    account = desk.ledger.account("c1", DAY)
    assert account is not None
    free = account.free
    headroom = granted.granted_nanos - granted.usable_nanos
    other_headroom = other.granted_nanos - other.usable_nanos

    def late(bid_id: str, nanos: int) -> SettlementNoticed:
        return notice(bid_id, granted.allowance_id, paid=nanos, until=NOW, at=NOW + 20 * S)

    desk.tell(late("bid1", headroom))
    by_id = {a.allowance_id: a for a in desk.ledger.allowances()}
    assert by_id[granted.allowance_id].headroom == 0
    assert by_id[granted.allowance_id].out == granted.usable_nanos

    desk.tell(late("bid2", other_headroom + free))
    by_id = {a.allowance_id: a for a in desk.ledger.allowances()}
    assert by_id[other.allowance_id].headroom == 0
    assert by_id[granted.allowance_id].out == granted.usable_nanos
    account = desk.ledger.account("c1", DAY)
    assert account is not None
    assert account.free == 0
    assert not account.stopped

    desk.tell(late("bid3", granted.usable_nanos))
    booked = desk.tell(late("bid4", 7))
    account = desk.ledger.account("c1", DAY)
    assert account is not None
    assert account.overspend == 7
    assert account.stopped
    assert "overspend" in account.stop_reason
    (spend,) = [e for e in booked if isinstance(e, SpendBooked)]
    assert (spend.late, spend.overspend_nanos) == (True, 7)
    assert desk.refusal(9) == "stopped"

    # money that comes back covers it; the day stays stopped
    desk.tell(back(other, UNIT, incarnation="i1"))
    account = desk.ledger.account("c1", DAY)
    assert account is not None
    assert account.overspend == 0
    assert account.stopped


def test_a_settlement_of_something_unknown_is_booked_and_reported(engine_url: str) -> None:
    desk = Desk(engine_url)
    desk.tell(notice("bid1", "nobody-granted-this"), notice("bid2", "either", campaign_id="ghost"))
    kinds = {f.kind: f for f in desk.ledger.findings()}
    assert kinds["unknown_allowance"].ref == "bid1"
    assert kinds["unknown_campaign"].ref == "bid2"
    known, ghost = desk.ledger.account("c1", DAY), desk.ledger.account("ghost", DAY)
    assert known is not None
    assert ghost is not None
    assert known.late == UNIT
    assert ghost.suspense
    assert ghost.overspend == UNIT
    assert [e.stopped for e in desk.said if isinstance(e, BalanceReported) and e.campaign_id == "ghost"] == [
        True
    ]

    # the campaign is entered later: its budget pays what was held
    desk.hear(desk.ledger.set_catalog(catalog(campaign(), campaign("ghost", units=3)), NOW + S))
    ghost = desk.ledger.account("ghost", DAY)
    assert ghost is not None
    assert (ghost.overspend, ghost.late, ghost.stopped, ghost.suspense) == (0, UNIT, False, False)


def test_never_more_than_signed_and_the_excess_is_held(engine_url: str) -> None:
    desk = Desk(engine_url)
    granted = desk.grant()
    desk.tell(
        notice("bid1", granted.allowance_id, paid=3 * UNIT, bid=2 * UNIT, excess=UNIT),
        notice("bid2", granted.allowance_id, paid=-5, bid=2 * UNIT),
        notice("bid3", granted.allowance_id, paid=2**62, bid=2**62),
    )
    account = desk.ledger.account("c1", DAY)
    assert account is not None
    assert (
        account.spent_on_time == 2 * UNIT
    )  # the third is above any price there is: cut to 10 units, which is late
    assert account.late == 10 * UNIT
    assert sorted(f.kind for f in desk.ledger.findings()) == [
        "bad_amount",
        "bad_amount",
        "bad_amount",
        "excess_held",
    ]


def test_a_win_belongs_to_the_local_day_of_its_bid(engine_url: str) -> None:
    desk = Desk(engine_url, campaign(offset=120), campaign("c2", offset=-120))
    one = desk.grant(1)
    two = desk.grant(2, campaign_id="c2")
    assert (one.day, two.day) == ("2023-11-15", "2023-11-14")
    assert one.starts_at_ns <= NOW < one.expires_at_ns
    tomorrow = NOW + 86_400 * S
    desk.tell(
        notice("bid1", two.allowance_id, campaign_id="c2", until=tomorrow, at=tomorrow - S), at=tomorrow
    )
    account = desk.ledger.account("c2", "2023-11-14")
    assert account is not None
    assert account.spent_on_time == UNIT


def test_no_allowance_outlives_its_day_or_flight(sqlite: str) -> None:
    desk = Desk(
        sqlite, campaign(ends=NOW + 20 * S), campaign("c2", starts=NOW + 60 * S), campaign("c3", paused=True)
    )
    assert desk.grant().expires_at_ns == NOW + 20 * S
    assert desk.refusal(2, at=NOW + 20 * S) == "flight_over"
    assert desk.refusal(3, campaign_id="c2") == "not_started"
    assert desk.refusal(4, campaign_id="c3") == "paused"
    assert desk.refusal(5, campaign_id="c9") == "unknown_campaign"
    assert desk.refusal(6, nanos=0) == "bad_amount"
    midnight = (NOW // (86_400 * S) + 1) * 86_400 * S
    desk.hear(desk.ledger.set_catalog(catalog(campaign()), NOW))
    assert desk.grant(7, at=midnight - 5 * S).expires_at_ns == midnight
    assert desk.refusal(8, at=midnight - S // 2) == "day_ending"
    assert desk.grant(9, at=midnight).day == "2023-11-15"
    assert desk.ledger.account("c1", "2023-11-15") is not None


def test_an_old_request_is_refused(sqlite: str) -> None:
    desk = Desk(sqlite)
    desk.tell(request(1), at=NOW + 60 * S)
    assert desk.ledger.allowances() == []
    assert desk.ledger.counts["refused_too_old"] == 1


def test_a_restarted_bidder_gets_nothing_of_what_it_held(engine_url: str) -> None:
    desk = Desk(engine_url)
    desk.tell(started())
    granted = desk.grant()
    desk.tell(started(incarnation="i2"))
    assert desk.refusal(2, incarnation="i1") == "stale_incarnation"
    (orphan,) = desk.ledger.allowances()
    assert orphan.state == "orphan"
    assert desk.grant(3, incarnation="i2").allowance_id != granted.allowance_id
    # a notice of the old incarnation's bid is on time as long as its reservation was
    desk.tell(notice("bid1", granted.allowance_id))
    # its rest comes back only after expiry and the longest notice life
    closes = granted.expires_at_ns + NOTICE_LIFE_S * S
    desk.hear(desk.ledger.tick(closes - 1))
    assert desk.ledger.allowances()[0].rest + desk.ledger.allowances()[1].rest > 10 * UNIT
    desk.hear(desk.ledger.tick(closes))
    states = {a.allowance_id: (a.state, a.rest) for a in desk.ledger.allowances()}
    assert states[granted.allowance_id] == ("closed", 0)
    account = desk.ledger.account("c1", DAY)
    assert account is not None
    assert account.spent_on_time == UNIT
    # known by its first request where its start was not heard; an older one never comes back
    assert desk.grant(4, bidder="b7", incarnation="i9").bidder_id == "b7"
    desk.tell(started())
    assert desk.refusal(5, incarnation="i1") == "stale_incarnation"


def test_returns_free_money_and_shrink_the_headroom_to_what_was_spent(engine_url: str) -> None:
    desk = Desk(engine_url)
    granted = desk.grant(nanos=20 * UNIT)
    desk.tell(notice("bid1", granted.allowance_id, paid=2 * UNIT))
    desk.tell(back(granted, 10 * UNIT))
    desk.tell(back(granted, 10 * UNIT))  # the same again
    (allowance,) = desk.ledger.allowances()
    assert allowance.out == granted.usable_nanos - 12 * UNIT
    desk.tell(back(granted, 99 * UNIT, final=True, number=2))  # never more than it holds
    own, kept = sorted(desk.ledger.allowances(), key=lambda a: a.headroom)
    assert (own.state, own.rest) == ("closed", 0)
    assert kept.headroom == 2 * UNIT // 100
    account = desk.ledger.account("c1", DAY)
    assert account is not None
    assert account.reserved == kept.headroom
    desk.tell(back(granted, UNIT, final=True, number=3))
    assert desk.ledger.account("c1", DAY) == account

    # a late notice of the finished allowance finds the kept headroom
    desk.tell(notice("bid2", granted.allowance_id, paid=kept.headroom, until=NOW, at=NOW + 20 * S))
    account = desk.ledger.account("c1", DAY)
    assert account is not None
    assert (account.reserved, account.late) == (0, kept.headroom)


def test_what_was_settled_and_not_heard_of_yet_stays_reserved_after_the_final_return(sqlite: str) -> None:
    desk = Desk(sqlite)
    granted = desk.grant(nanos=5 * UNIT)
    desk.tell(back(granted, 4 * UNIT, final=True))  # the notice of the fifth is in a tracker's spool
    account = desk.ledger.account("c1", DAY)
    assert account is not None
    assert account.reserved >= UNIT
    desk.tell(notice("bid1", granted.allowance_id, paid=granted.usable_nanos - 4 * UNIT), at=NOW + 9 * S)
    account = desk.ledger.account("c1", DAY)
    assert account is not None
    assert account.late == 0
    assert account.spent_on_time == granted.usable_nanos - 4 * UNIT


def test_nobody_returns_another_bidders_money(sqlite: str) -> None:
    desk = Desk(sqlite)
    granted = desk.grant()
    before = desk.ledger.allowances()
    desk.tell(back(granted, UNIT, incarnation="i7"))
    (stolen,) = desk.stream.of(back(granted, UNIT, number=5))
    forged = Delivery(
        stolen.stream, stolen.sequence, stolen.stored_at_ns, subjects.money_command("b2"), stolen.events
    )
    desk.hear(desk.ledger.apply([forged], NOW))
    assert desk.ledger.allowances() == before
    assert [f.kind for f in desk.ledger.findings()] == ["wrong_subject"]


def test_a_cut_waits_for_the_allowances_that_hold_the_money(engine_url: str) -> None:
    desk = Desk(engine_url)
    granted = desk.grant(nanos=40 * UNIT)
    desk.tell(notice("bid1", granted.allowance_id, paid=5 * UNIT))
    desk.hear(desk.ledger.set_catalog(catalog(campaign(units=10)), NOW + S))
    account = desk.ledger.account("c1", DAY)
    assert account is not None
    assert account.budget == account.committed == granted.granted_nanos
    assert account.target == 10 * UNIT
    assert desk.refusal(2) == "budget_spent"
    desk.tell(back(granted, 20 * UNIT))
    account = desk.ledger.account("c1", DAY)
    assert account is not None
    assert 10 * UNIT < account.budget == account.committed < granted.granted_nanos - 20 * UNIT + 1
    desk.tell(back(granted, 15 * UNIT, final=True, number=2))
    account = desk.ledger.account("c1", DAY)
    assert account is not None
    assert account.budget == 10 * UNIT
    assert account.free > 0
    # cut below what is spent: what is spent is the budget
    desk.hear(desk.ledger.set_catalog(catalog(campaign(units=1)), NOW + 2 * S))
    account = desk.ledger.account("c1", DAY)
    assert account is not None
    assert account.budget == account.committed
    assert account.overspend == 0
    # and a raise is there at once
    desk.hear(desk.ledger.set_catalog(catalog(campaign(units=50)), NOW + 3 * S))
    assert desk.grant(3).granted_nanos > 0


def test_headroom_follows_measured_lateness_between_its_floor_and_its_cap(sqlite: str) -> None:
    desk = Desk(sqlite)
    first = desk.grant(nanos=20 * UNIT)
    assert 10_000 <= (first.granted_nanos - first.usable_nanos) * 1_000_000 // first.granted_nanos <= 10_001
    desk.tell(
        *(notice(f"in{i}", first.allowance_id, paid=96 * MILLI) for i in range(100)),
        *(notice(f"late{i}", first.allowance_id, paid=4 * MILLI, until=NOW) for i in range(100)),
    )
    second = desk.grant(2, nanos=5 * UNIT)
    ppm = (second.granted_nanos - second.usable_nanos) * 1_000_000 // second.granted_nanos
    assert 80_000 <= ppm <= 80_001  # twice four percent
    desk.tell(notice("very", first.allowance_id, paid=3 * UNIT, until=NOW))
    third = desk.grant(3, nanos=UNIT)
    ppm = (third.granted_nanos - third.usable_nanos) * 1_000_000 // third.granted_nanos
    assert 100_000 <= ppm <= 100_001
    hours = LedgerConfig().lateness_half_life_ns * 80
    fourth = desk.grant(4, nanos=UNIT, at=NOW + hours)
    assert (fourth.granted_nanos - fourth.usable_nanos) * 1_000_000 // fourth.granted_nanos <= 10_001


def test_a_grant_is_the_fair_part_among_those_who_bid(sqlite: str) -> None:
    desk = Desk(sqlite)
    desk.tell(started("b1"), started("b2"), started("b3"))
    one = desk.grant(1, nanos=500 * UNIT)
    assert one.granted_nanos == 50 * UNIT  # one bidder holds at most half
    assert desk.refusal(2, nanos=10 * UNIT) == "holds_enough"
    two = desk.grant(3, nanos=500 * UNIT, bidder="b2")
    assert two.granted_nanos == 25 * UNIT  # half of what is free
    assert desk.grant(4, nanos=UNIT, bidder="b3").granted_nanos < 2 * UNIT


def test_the_outbox_keeps_what_nobody_confirmed(engine_url: str) -> None:
    ledger = Ledger(engine_url, catalog())
    said = ledger.set_catalog(catalog(), NOW) + ledger.apply(Stream().of(started(), request(1)), NOW)
    ledger.close()
    again = Ledger(engine_url, catalog())
    assert again.unsent() == said
    again.mark_sent(said[:2])
    assert again.unsent() == said[2:]
    assert again.outbox_size() == len(said)
    again.tick(NOW + 61 * S)  # forgotten with the next transaction
    assert again.outbox_size() == len(said) - 2
    again.mark_sent(said[2:])
    again.forget_sent()
    assert again.outbox_size() == 0


def test_a_new_day_opens_its_accounts_and_keeps_the_moves_of_the_old_one(sqlite: str) -> None:
    pooled = (campaign("c1", pool="p"), campaign("c2", pool="p"))
    desk = Desk(sqlite, *pooled)
    _, said = desk.ledger.apply_split("p", 5, {"c1": 700_000, "c2": 300_000}, NOW)
    desk.hear(said)
    desk.hear(desk.ledger.tick(NOW + 2 * 3_600 * S))
    budgets = {(a.campaign_id, a.day): a.budget // UNIT for a in desk.ledger.accounts()}
    assert budgets == {
        ("c1", DAY): 140,
        ("c2", DAY): 60,
        ("c1", "2023-11-15"): 100,
        ("c2", "2023-11-15"): 100,
    }


def test_old_accounts_are_carried_and_their_notices_found(engine_url: str) -> None:
    desk = Desk(engine_url)
    granted = desk.grant()
    desk.tell(notice("bid1", granted.allowance_id), started())
    later = NOW + 40 * 86_400 * S
    desk.tell(started("b9"), at=later)
    desk.hear(desk.ledger.tick(later))  # closes
    desk.hear(desk.ledger.tick(later + 120 * S))
    account = desk.ledger.account("c1", DAY)
    assert account is not None
    assert account.pruned
    assert account.spent_on_time == UNIT
    assert desk.ledger.settlement("bid1") is None
    desk.tell(notice("bid1", granted.allowance_id), at=later + 200 * S)
    assert [f.kind for f in desk.ledger.findings()] == ["older_than_keys"]
    assert desk.ledger.account("c1", DAY) == account


def test_a_clock_that_jumps_ahead_forgets_nothing(engine_url: str) -> None:
    desk = Desk(engine_url)
    granted = desk.grant()
    desk.tell(notice("bid1", granted.allowance_id))
    for minutes in range(0, 10, 2):
        desk.hear(desk.ledger.tick(NOW + 40 * 86_400 * S + minutes * 60 * S))
    assert not desk.account().pruned
    desk.tell(
        notice("bid1", granted.allowance_id, copy=2), notice("bid2", granted.allowance_id), at=NOW + 2 * S
    )
    assert desk.account().spent == 2 * UNIT
    assert desk.ledger.findings() == []
    desk.ledger.close()
    again = Ledger(engine_url, catalog())
    again.tick(NOW + 40 * 86_400 * S)
    assert again.settlement("bid1") is not None, "nor does a restart believe it"
    for day in range(1, 38):  # while time itself does pass, though nothing is said
        for minutes in (0, 2):
            again.tick(NOW + day * 86_400 * S + minutes * 60 * S)
    assert again.settlement("bid1") is None
    again.close()


def test_unreadable_events_are_a_finding(sqlite: str) -> None:
    desk = Desk(sqlite)
    (delivery,) = desk.stream.of(notice("bid1", "none"))
    broken = type(delivery)("MONEY", delivery.sequence, delivery.stored_at_ns, delivery.subject, (), 2)
    desk.hear(desk.ledger.apply([broken], NOW))
    assert [(f.kind, f.ref) for f in desk.ledger.findings()] == [("unreadable", "MONEY 1")]


def test_a_grant_travels_with_its_transaction(sqlite: str) -> None:
    desk = Desk(sqlite)
    said = desk.tell(request(1), request(2, nanos=UNIT))
    assert [type(e) for e in said] == [AllowanceGranted, AllowanceGranted, BalanceReported]
    assert len({e.event_id for e in desk.said}) == len(desk.said)


def test_the_schema_of_another_version_is_not_touched(sqlite: str) -> None:
    ledger = Ledger(sqlite, catalog())
    with ledger.engine.begin() as connection:
        connection.execute(update(WRITER).values(schema_version=99))
    with pytest.raises(LedgerDatabaseError, match="schema 99"):
        Ledger(sqlite, catalog())
