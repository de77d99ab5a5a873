"""Databases of earlier versions are brought up, of later ones refused; looking changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text

from counterpoint.ledger.books import Ledger
from counterpoint.ledger.migrate import open_existing
from counterpoint.ledger.tables import LedgerDatabaseError, connect
from tests.ledger.build import DAY, NOW, UNIT, Desk, S, back, campaign, catalog, line_item, notice

SCHEMA_1 = Path(__file__).with_name("schema_1.sql")
TABLES_1 = "writer positions accounts allowances settlements journal commands incarnations outbox findings lateness splits"


def _as_schema_1(engine_url: str) -> None:
    """Take a database of today back to what version 1 would have written."""
    engine = connect(engine_url)
    with engine.begin() as connection:
        rows = {
            name: connection.execute(text(f"SELECT * FROM {name}")).mappings().all()
            for name in TABLES_1.split()
        }
        for name in (*TABLES_1.split(), "lines", "adjustments"):
            connection.execute(text(f"DROP TABLE {name}"))
        script = SCHEMA_1.read_text().replace(
            "{bytes}", "BLOB" if engine.dialect.name == "sqlite" else "BYTEA"
        )
        for statement in script.split(";\n"):
            if statement.strip():
                connection.execute(text(statement))
        for name, found in rows.items():
            for row in found:
                known = connection.execute(text(f"SELECT * FROM {name} WHERE 1 = 0")).keys()
                names = ", ".join(known)
                values = ", ".join(f":{column}" for column in known)
                connection.execute(text(f"INSERT INTO {name} ({names}) VALUES ({values})"), dict(row))
        connection.execute(text("UPDATE writer SET schema_version = 1"))
    engine.dispose()


def test_a_database_of_schema_1_is_brought_up_with_all_its_money(engine_url: str) -> None:
    desk = Desk(engine_url)
    granted = desk.grant(nanos=10 * UNIT)
    desk.tell(notice("bid1", granted.allowance_id, paid=UNIT, excess=UNIT), at=NOW + S)
    before = desk.ledger.accounts(), desk.ledger.allowances(), desk.ledger.findings()
    desk.ledger.close()
    _as_schema_1(engine_url)
    with pytest.raises(LedgerDatabaseError, match="schema 1, this version reads 2; make a copy"):
        open_existing(engine_url)
    desk.ledger = Ledger(engine_url, catalog(campaign(), lines=(line_item(daily=2),)))
    after = desk.ledger.accounts(), desk.ledger.allowances(), desk.ledger.findings()
    assert after == before
    assert desk.ledger.verify().problems == ()
    assert desk.ledger.verify().lines == 1, "what line items spent before counts"
    assert desk.order("hold", UNIT, "k1").done
    desk.tell(
        notice("bid2", granted.allowance_id, paid=UNIT), back(granted, 10 * UNIT, final=True), at=NOW + S
    )
    assert desk.refusal(2, line="l1") == "line_item_cap", "of 2 units a day both are spent"
    assert desk.decide(
        "bad_amount" if desk.ledger.findings()[0].kind == "bad_amount" else "excess_held", False
    ).done
    desk.ledger.close()
    Ledger(engine_url, catalog()).close()  # and once is enough


def test_looking_makes_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'none.db'}"
    with pytest.raises(LedgerDatabaseError, match="holds no ledger"):
        open_existing(url)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(LedgerDatabaseError, match="write sqlite:///FILE"):
        open_existing("nonsense")


def test_looking_at_an_empty_database_says_so(engine_url: str) -> None:
    connect(engine_url).connect().close()
    with pytest.raises(LedgerDatabaseError, match="holds no ledger"):
        open_existing(engine_url)
    Ledger(engine_url, catalog()).close()
    open_existing(engine_url).dispose()
    assert DAY
