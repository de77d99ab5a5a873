"""``counterpoint ledger`` as people use it: what it says, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from counterpoint.app.ledger import ledger_app, nanos_of
from counterpoint.base.errors import ConfigError
from counterpoint.catalog.store import save_catalog
from counterpoint.ledger.tables import LedgerDatabaseError, connect
from tests.ledger.build import DAY, NOW, UNIT, Desk, S, campaign, catalog, notice


def _run(*words: str) -> Any:
    return CliRunner().invoke(ledger_app, list(words))


@pytest.fixture
def system(tmp_path: Path, engine_url: str) -> Path:
    """A configuration whose ledger has one finding and some spend; returns its path."""
    desk = Desk(engine_url, campaign(units=10))
    granted = desk.grant(nanos=UNIT)
    desk.tell(notice("bid1", granted.allowance_id, paid=UNIT // 4, excess=UNIT), at=NOW + S)
    desk.ledger.close()
    config = tmp_path / "counterpoint.toml"
    config.write_text(f'catalog = "none.toml"\ndata_dir = "var"\n[ledger]\nurl = "{engine_url}"\n', "utf-8")
    (tmp_path / "var").mkdir()
    save_catalog(f"sqlite:///{tmp_path / 'var' / 'catalog.db'}", catalog(campaign(units=10)))
    return config


def test_the_audit_proves_the_books_or_names_the_differences(
    system: Path, engine_url: str, tmp_path: Path
) -> None:
    right = _run("audit", "--database", engine_url)
    assert right.exit_code == 0
    assert "Every balance follows from the journal, to the nano" in right.output
    engine = connect(engine_url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE accounts SET late_nanos = late_nanos + 1"))
    engine.dispose()
    report = tmp_path / "audit.json"
    wrong = _run("audit", "--config", str(system), "--json", str(report))
    assert wrong.exit_code == 1
    assert f"account c1 {DAY}: late is 1, the journal says 0" in wrong.output
    assert json.loads(report.read_text())["problems"]


def test_orders_are_carried_out_once(system: Path, engine_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    that_day = SimpleNamespace(now_ns=lambda: NOW + 2 * S)
    monkeypatch.setattr("counterpoint.app.ledger.SystemClock", lambda: that_day)
    words = ("--day", DAY, "--reason", "invoice 7", "--config", str(system))
    first = _run("credit", "c1", "2.50", "--key", "k1", *words)
    assert (first.exit_code, "credited 2.50" in first.output) == (0, True)
    again = _run("credit", "c1", "2.50", "--key", "k1", *words)
    assert (again.exit_code, "done before" in again.output) == (0, True)
    other = _run("credit", "c1", "3", "--key", "k1", *words)
    assert (other.exit_code, "used for another order" in other.output) == (1, True)
    assert _run("refund", "c1", "0.25", "--bid", "bid1", "--key", "k2", *words).exit_code == 0
    assert _run("refund", "c1", "0.25", "--bid", "bid1", "--key", "k3", *words).exit_code == 1
    assert _run("hold", "c1", "5", "--key", "k4", *words).exit_code == 0
    assert _run("release", "c1", "1", "--key", "k5", *words).exit_code == 0
    assert _run("debit", "c1", "1", "--key", "k6", *words).exit_code == 0
    shown = _run("balances", "--lines", "--config", str(system))
    assert "11.50" in shown.output, "10 and 2.50 less 1"
    assert "4.00" in shown.output, "held"
    done = _run("adjustments", "--config", str(system))
    assert all(key in done.output for key in ("k1", "k2", "k4", "k5", "k6"))
    assert "k3" not in done.output
    assert _run("audit", "--database", engine_url).exit_code == 0


def test_findings_are_listed_and_decided(system: Path) -> None:
    listed = _run("findings", "--config", str(system))
    assert "excess_held" in listed.output
    words = ("--reason", "agreed by mail", "--config", str(system))
    assert "booked 1.00 more" in _run("accept", "1", *words).output
    assert "accepted before" in _run("accept", "1", *words).output
    assert _run("reject", "1", *words).exit_code == 1
    assert _run("accept", "99", *words).exit_code == 1
    assert "no finding waits" in _run("findings", "--config", str(system)).output
    assert "accepted" in _run("findings", "--all", "--config", str(system)).output


def test_a_mistyped_address_makes_no_books(system: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'mistyped.db'}"
    for command in (
        ("audit",),
        ("credit", "c1", "1", "--key", "k", "--reason", "r", "--config", str(system)),
    ):
        assert isinstance(_run(*command, "--database", url).exception, LedgerDatabaseError)
    assert not (tmp_path / "mistyped.db").exists()


@pytest.mark.parametrize("text", ["", "ten", "0", "-1", "0.0000000001", "1e30", "NaN"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        nanos_of(text)


def test_amounts_are_exact() -> None:
    assert nanos_of("12.50") == 12_500_000_000
    assert nanos_of("0.000000001") == 1
