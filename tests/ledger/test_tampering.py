"""The audit notices what somebody changes in the database behind the ledger's back: one change per check."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from counterpoint.ledger.tables import connect
from counterpoint.ledger.verify import verify
from tests.ledger.build import (
    NOW,
    UNIT,
    Desk,
    back,
    campaign,
    line_item,
    notice,
    postgres_url,
    sqlite_url,
    started,
)

HUGE = 2**63 - 1
TAMPERED = {
    "one leg of two": "UPDATE journal SET amount_nanos = amount_nanos + 1 WHERE entry = 1 AND leg = 0",
    "both legs": "UPDATE journal SET amount_nanos = amount_nanos * 2 WHERE kind = 'settle'",
    "legs too large to add up": f"UPDATE journal SET amount_nanos = {HUGE} WHERE kind IN ('settle', 'grant')",
    "a single leg of nothing": "INSERT INTO journal VALUES (9997, 0, 'x', 'c1', '2023-11-14', 'free', '', 0, 1)",
    "target": "UPDATE accounts SET target_nanos = target_nanos + 1000000 WHERE campaign_id = 'c1'",
    "stop set": "UPDATE accounts SET stopped = TRUE, stop_reason = 'x' WHERE campaign_id = 'c1'",
    "stop lifted": "UPDATE accounts SET stopped = FALSE, stop_reason = '' WHERE campaign_id = 'c3'",
    "reason without a stop": "UPDATE accounts SET stop_reason = 'x' WHERE campaign_id = 'c1'",
    "marked as carried": "UPDATE accounts SET pruned = TRUE WHERE campaign_id = 'c1'",
    "spent of an allowance": "UPDATE allowances SET spent_nanos = spent_nanos - 5, returned_nanos = returned_nanos + 5"
    " WHERE spent_nanos > 5",
    "late of an allowance": "UPDATE allowances SET late_nanos = late_nanos - 5, returned_nanos = returned_nanos + 5"
    " WHERE late_nanos > 5",
    "granted": "UPDATE allowances SET granted_nanos = granted_nanos + 1, returned_nanos = returned_nanos + 1",
    "a settlement moved to another allowance": "UPDATE settlements SET allowance_id ="
    " (SELECT allowance_id FROM settlements WHERE bid_id = 'b7') WHERE bid_id = 'b2'",
    "money between settlements of two allowances": "UPDATE settlements SET on_time_nanos = on_time_nanos + CASE bid_id"
    " WHEN 'b2' THEN -9 ELSE 9 END WHERE bid_id IN ('b2', 'b7')",
    "a settlement gone": "DELETE FROM settlements WHERE bid_id = 'b2'",
    "a settlement too large to add up": f"UPDATE settlements SET late_nanos = {HUGE - 10**10} WHERE bid_id IN ('b3', 'b4')",
    "refund of a day forgotten": "DELETE FROM adjustments WHERE key = 'k3'",
    "refund of a day changed": "UPDATE adjustments SET amount_nanos = 1 WHERE key = 'k3'",
    "refund of a bid forgotten": "DELETE FROM adjustments WHERE key = 'k4'",
    "refund moved to another bid": "UPDATE settlements SET refunded_nanos = CASE bid_id WHEN 'b1' THEN 0 ELSE"
    " 250000000 END WHERE bid_id IN ('b1', 'b2')",
    "hold forgotten": "DELETE FROM adjustments WHERE key = 'k2'",
    "credit forgotten": "DELETE FROM adjustments WHERE key = 'k1'",
    "hold and release netted": "UPDATE journal SET amount_nanos = amount_nanos / 2 WHERE kind = 'hold';"
    "DELETE FROM journal WHERE kind = 'release'",
    "pool renamed": "UPDATE journal SET ref = 'p2' WHERE bucket = 'pool'",
    "a line item's spend": "UPDATE lines SET spent_nanos = -1",
    "an account gone": "DELETE FROM accounts WHERE campaign_id = 'c2'",
}


def lived(engine_url: str) -> Engine:
    desk = Desk(
        engine_url,
        campaign("c1", units=100, pool="p"),
        campaign("c2", units=50, pool="p"),
        campaign("c3", units=1),
        lines=(line_item("l1", "c1", daily=50),),
    )
    desk.tell(started())
    granted, of_line = desk.grant(1), desk.grant(2, line="l1")
    desk.tell(*(notice(f"b{i}", granted.allowance_id, line="") for i in range(6)))
    desk.tell(
        notice("b7", of_line.allowance_id),
        notice("late", granted.allowance_id, paid=UNIT // 20, line="", until=0),
    )
    desk.tell(*(notice(f"over{i}", "none", campaign_id="c3", line="") for i in range(2)))
    desk.tell(back(granted, UNIT // 10))
    for key, kind, nanos, bid in (
        ("k1", "credit", 5 * UNIT, ""),
        ("k2", "hold", 2 * UNIT, ""),
        ("k3", "refund", UNIT // 2, ""),
        ("k4", "refund", UNIT // 4, "b1"),
        ("k5", "release", UNIT, ""),
    ):
        assert desk.order(kind, nanos, key, bid_id=bid).done
    desk.hear(desk.ledger.apply_split("p", 3, {"c1": 4, "c2": 6}, NOW)[1])
    desk.ledger.close()
    return connect(engine_url)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def books(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    if request.param == "sqlite":
        folder: Path = tmp_path_factory.mktemp("books")
        yield lived(sqlite_url(folder))
        return
    with postgres_url() as url:
        engine = lived(url)
        yield engine
        engine.dispose()


@pytest.mark.parametrize("change", TAMPERED)
def test_the_audit_notices(books: Engine, change: str) -> None:
    with books.connect() as connection, connection.begin() as transaction:
        assert verify(connection).problems == ()
        for statement in TAMPERED[change].split(";"):
            assert connection.execute(text(statement)).rowcount > 0
        assert verify(connection).problems != ()
        transaction.rollback()
