"""``counterpoint ledger`` as people use it: what it says, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from counterpoint.app.cli import app
from counterpoint.app.demo import example_catalog
from counterpoint.app.ledger import ledger_app, nanos_of
from counterpoint.base.errors import ConfigError
from counterpoint.catalog.store import read_catalog, save_catalog
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
    assert "11.5000" in shown.output, "10 and 2.50 less 1"
    assert "4.0000" in shown.output, "held"
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


def test_balances_are_never_cut_and_add_up(engine_url: str, tmp_path: Path) -> None:
    name = "harbor-bookings-of-the-autumn-campaign-2026"
    desk = Desk(engine_url, campaign(name, units=1_234_567))
    granted = desk.grant(campaign_id=name, nanos=UNIT)
    desk.tell(notice("bid1", granted.allowance_id, campaign_id=name, paid=123_456_789), at=NOW + S)
    desk.ledger.close()
    out = tmp_path / "balances.json"
    done = _run("balances", "--database", engine_url, "--json", str(out))
    _, head, row = done.output.splitlines()
    assert "spent on time" in head
    assert row.split()[:4] == [name, DAY, "1,234,567.0000", "0.1235"]
    account = json.loads(out.read_text())["accounts"][0]
    assert account["on_time_nanos"] == 123_456_789
    parts = ("on_time", "late", "reserved", "held", "free")
    assert account["budget_nanos"] == sum(account[f"{part}_nanos"] for part in parts)
    assert "none" in _run("balances", "--database", engine_url, "--campaign", "nobody").output


@pytest.mark.parametrize("amount", [("-1",), ("-12.50",), ("--", "-1")])
def test_a_negative_amount_is_answered_with_what_to_use(system: Path, amount: tuple[str, ...]) -> None:
    options = ("--key", "k", "--reason", "r", "--config", str(system))
    for kind in ("credit", "refund"):
        with pytest.raises(ConfigError, match='amounts are above 0; "ledger debit" takes'):
            raise _run(kind, *options, "c1", *amount).exception
    assert _run("credit", "c1", "1", *options[:2], "--reason", "-1", *options[4:]).exit_code == 0


@pytest.mark.parametrize("day", ["2026-13-40", "20261123", "today"])
def test_what_is_no_day_is_refused(system: Path, day: str) -> None:
    options = ("--key", "k", "--reason", "r", "--config", str(system))
    for words in (("credit", "c1", "1", *options, "--day", day), ("balances", "--day", day, *options[-2:])):
        with pytest.raises(ConfigError, match="is no date; write it as 2026-11-23"):
            raise _run(*words).exception


def test_a_bid_that_is_not_booked_cannot_be_refunded_yet(system: Path) -> None:
    words = ("--key", "k", "--reason", "r", "--day", DAY, "--config", str(system))
    done = _run("refund", "c1", "1", "--bid", "bid2", *words)
    assert done.exit_code == 1
    assert "not booked yet, or older than keep_days; try again in a moment" in done.output


def test_a_catalog_in_another_currency_than_the_books_is_not_loaded(system: Path, tmp_path: Path) -> None:
    text = example_catalog("demo").read_text("utf-8")
    chf = tmp_path / "chf.toml"
    text = text.replace('account_currency = "USD"', 'account_currency = "CHF"')
    chf.write_text(text.replace('EUR = "1.08"', 'EUR = "1.08"\nUSD = "0.9"'), "utf-8")
    before = read_catalog(f"sqlite:///{tmp_path / 'var' / 'catalog.db'}").digest
    done = CliRunner().invoke(app, ["catalog", "load", str(chf), "--config", str(system)])
    assert isinstance(done.exception, ConfigError)
    assert "the ledger's books are in USD" in str(done.exception)
    assert "Set account_currency to USD" in str(done.exception)
    assert read_catalog(f"sqlite:///{tmp_path / 'var' / 'catalog.db'}").digest == before
    fresh = tmp_path / "fresh.toml"
    fresh.write_text('catalog = "none.toml"\ndata_dir = "fresh"\n', "utf-8")
    assert CliRunner().invoke(app, ["catalog", "load", str(chf), "--config", str(fresh)]).exit_code == 0
