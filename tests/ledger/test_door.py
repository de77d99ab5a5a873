"""Ids that a database cannot keep are found, not booked, and never come again: the same on both engines."""

from __future__ import annotations

import random

import pytest
from msgspec import structs

from counterpoint.bus.bus import Delivery
from counterpoint.events import subjects
from counterpoint.events.event import Event
from tests.ledger.build import NOW, UNIT, Desk, notice, request, started

_CHANCE = random.Random(1)
LONG = "".join(chr(_CHANCE.randrange(0x4E00, 0x9000)) for _ in range(20_000))  # no compression helps


@pytest.mark.parametrize(
    "name", ["a\0b", LONG, "\ud800", "two\nlines"], ids=["nul", "long", "surrogate", "newline"]
)
@pytest.mark.parametrize(
    ("event", "field"),
    [
        (notice("bid1", "none"), "bid_id"),
        (notice("bid1", "none"), "campaign_id"),
        (notice("bid1", "none"), "allowance_id"),
        (notice("bid1", "none"), "line_item_id"),
        (request(5), "event_id"),
        (request(5), "arm"),
        (started(), "incarnation"),
    ],
)
def test_an_id_nobody_can_keep_is_found_once_and_passed(
    engine_url: str, event: Event, field: str, name: str
) -> None:
    desk = Desk(engine_url)
    poison = structs.replace(event, **{field: name})
    assert desk.tell(poison, notice("good", "none", line="")) != []
    (finding,) = [f for f in desk.ledger.findings() if f.kind == "bad_id"]
    assert field in finding.note
    assert len(finding.ref) < 100
    assert finding.ref.isprintable()
    assert desk.account().spent == UNIT, "what came with it is booked"
    assert desk.ledger.position(subjects.MONEY) == (2, NOW + 2)
    assert desk.ledger.counts["finding_bad_id"] == 1
    assert desk.decide("bad_id", False).done


def test_an_id_on_a_subject_that_is_not_its_authors_is_checked_too(engine_url: str) -> None:
    desk = Desk(engine_url)
    poison = structs.replace(request(6), event_id="x\0z")
    desk.hear(desk.ledger.apply([Delivery(subjects.MONEY, 1, NOW, "money.notice.x", (poison,))], NOW))
    assert [(f.kind, f.ref) for f in desk.ledger.findings()] == [("bad_id", "x\\x00z")]


def test_nothing_is_booked_under_an_empty_id(engine_url: str) -> None:
    desk = Desk(engine_url)
    desk.tell(notice("", "none"), structs.replace(request(1), event_id=""))
    assert [f.kind for f in desk.ledger.findings()] == ["bad_id", "bad_id"]
    assert desk.account().spent == 0


def test_ids_as_long_as_allowed_are_kept(engine_url: str) -> None:
    desk = Desk(engine_url)
    name = LONG[:256]
    longest = structs.replace(notice(name, name, campaign_id=name, line=name), event_id=name)
    desk.tell(started("b1", name), longest)
    assert desk.account(name).overspend == UNIT


def test_an_order_with_such_a_name_is_refused(engine_url: str) -> None:
    desk = Desk(engine_url)
    for number, fields in enumerate(({"campaign_id": "a\0b"}, {"day": LONG}, {"bid_id": "\0"})):
        outcome = desk.order("refund", UNIT, f"k{number}", **fields)
        assert not outcome.done
        assert "control characters" in outcome.text
    assert not desk.order("credit", UNIT, LONG).done
