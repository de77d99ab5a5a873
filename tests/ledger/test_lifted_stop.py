"""From an overspend through a person's credit to the next bid: real books on both sides."""

from __future__ import annotations

from counterpoint.bidder.allowances import AllowanceBook
from counterpoint.events.event import Event
from counterpoint.events.money import AllowanceGranted, AllowanceRefused, BalanceReported
from tests.ledger.build import NOW, UNIT, Desk, S, campaign, notice, started


def hear(book: AllowanceBook, said: list[Event], at: int) -> None:
    for event in said:
        if isinstance(event, AllowanceGranted):
            book.grant(event, at)
        elif isinstance(event, AllowanceRefused):
            book.refuse(event, at)
        elif isinstance(event, BalanceReported):
            book.balance(event, at)


def test_a_credit_that_lifts_the_stop_is_bid_again_the_same_day(engine_url: str) -> None:
    desk = Desk(engine_url, campaign(units=10))
    book = AllowanceBook("b1", "i1", ["c1"], ("agents",))
    hear(book, desk.tell(started(), *book.requests_due(NOW)), NOW)
    assert book.reserve(0, 0, 1_000, "bid1", NOW, NOW + S) is not None
    at = NOW + S
    hear(book, desk.tell(*(notice(f"x{i}", "none", line="", at=at) for i in range(12)), at=at), at)
    assert desk.account().stopped
    assert book.reserve(0, 0, 1_000, "bid2", at, at + S) is None
    for _ in range(3):  # it asks, and is refused
        at += S
        book.expire(at)
        hear(book, desk.tell(*book.returns_due(at), *book.requests_due(at), at=at), at)
    assert desk.order("credit", 50 * UNIT, "k1").done
    assert not desk.account().stopped
    hear(book, desk.hear(desk.ledger.unsent()), at)
    hear(book, desk.tell(*book.requests_due(at + S), at=at + S), at + S)
    assert book.reserve(0, 0, 1_000, "bid3", at + S, at + 2 * S) is not None
