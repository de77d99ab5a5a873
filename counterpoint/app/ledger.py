"""``counterpoint ledger``: balances, findings and the audit; what a person may do to the money, once each."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from sqlalchemy.engine import Connection

from counterpoint.app.options import WIDTH_OF_FILES, ConfigOption, JsonOption, settings_of, write_json
from counterpoint.base.clock import SystemClock
from counterpoint.base.errors import ConfigError
from counterpoint.base.money import NANOS_PER_UNIT
from counterpoint.catalog.store import read_catalog
from counterpoint.ledger import look
from counterpoint.ledger.books import Ledger
from counterpoint.ledger.known import BUDGET_NANOS_MAX
from counterpoint.ledger.migrate import open_existing
from counterpoint.ledger.people import Order, Outcome
from counterpoint.ledger.verify import Verification, verify
from counterpoint.ledger.work import units_text

ledger_app = typer.Typer(
    no_args_is_help=True,
    help="The money: balances, findings, audit; credit, debit, refund, hold, release. See docs/ledger.md.",
)
PROBLEMS_SHOWN = 20

DatabaseOption = Annotated[
    str | None, typer.Option("--database", help="sqlite:///FILE or postgresql://...; left out: the system's.")
]
CampaignArgument = Annotated[str, typer.Argument(help="A campaign id.")]
AmountArgument = Annotated[str, typer.Argument(help='Units of the account currency, such as "12.50".')]
DayOption = Annotated[str | None, typer.Option(help="Its local day, YYYY-MM-DD; left out: today.")]
KeyOption = Annotated[str, typer.Option(help="Makes sure that this is done once: an invoice number, say.")]
ReasonOption = Annotated[str, typer.Option(help="Kept with it for ever.")]
AuthorOption = Annotated[str, typer.Option(help="Who orders it; left out: your user name.")]


def nanos_of(text: str) -> int:
    """Units as people write them, exactly. Raises :class:`ConfigError` for what is no amount above 0."""
    try:
        nanos = Decimal(text) * NANOS_PER_UNIT
        whole = nanos == nanos.to_integral_value()
    except InvalidOperation:
        raise ConfigError(
            f'"{text}" is no amount; write units of the account currency, such as 12.50'
        ) from None
    if not whole or not 0 < nanos <= BUDGET_NANOS_MAX:
        raise ConfigError(
            f'"{text}": write an amount above 0, at most {units_text(BUDGET_NANOS_MAX)}, with at most nine decimals'
        )
    return int(nanos)


@contextmanager
def _reading(database: str | None, config: Path | None) -> Iterator[Connection]:
    engine = open_existing(database or settings_of(config).ledger_url)
    try:
        with engine.execution_options(reads=True).connect() as connection, connection.begin():
            yield connection
    finally:
        engine.dispose()


def _out() -> Console:
    out = Console(markup=False, highlight=False)
    return out if out.is_terminal else Console(width=WIDTH_OF_FILES, markup=False, highlight=False)


# ---- looking


@ledger_app.command()
def audit(database: DatabaseOption = None, config: ConfigOption = None, json: JsonOption = None) -> None:
    """Rebuild every balance from the journal and compare, to the nano. Exit code 1 where anything differs."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        _reading(database, config) as connection,
        Progress(*columns, console=Console(stderr=True), transient=True) as bars,
    ):
        bar = bars.add_task("journal entries", total=None)
        found = verify(connection, lambda done, of: bars.update(bar, completed=done, total=of))
        currency = look.currency(connection)
    write_json(json, found)
    typer.echo(audit_text(found, currency))
    raise typer.Exit(1 if found.problems else 0)


def audit_text(found: Verification, currency: str) -> str:
    counted = (
        f"{found.accounts} accounts, {found.allowances} allowances, {found.lines} days of line items, "
        f"{found.settlements} settlements, {found.entries} journal entries: spent "
        f"{units_text(found.spent_nanos)} {currency}, of it overspend {units_text(found.overspend_nanos)}"
    )
    if not found.problems:
        return f"{counted}. Every balance follows from the journal, to the nano."
    shown = [f"  {problem}" for problem in found.problems[:PROBLEMS_SHOWN]]
    more = len(found.problems) - len(shown)
    tail = [f"  and {more} more (--json FILE has them all)"] if more else []
    head = f"{counted}. {len(found.problems)} differences; stop the ledger, and keep a copy of its database:"
    return "\n".join([head, *shown, *tail])


@ledger_app.command()
def balances(
    campaign: Annotated[str | None, typer.Option(help="Only this campaign.")] = None,
    day: Annotated[str | None, typer.Option(help="Only this local day, YYYY-MM-DD.")] = None,
    lines: Annotated[bool, typer.Option("--lines", help="Line items as well.")] = False,
    database: DatabaseOption = None,
    config: ConfigOption = None,
    json: JsonOption = None,
) -> None:
    """Every account: budget, spent, reserved, held, free, overspend."""
    with _reading(database, config) as connection:
        accounts, items = look.balances(connection, day, campaign)
        currency = look.currency(connection)
    rows = [
        {
            "campaign": a.campaign_id,
            "day": a.day,
            "budget_nanos": a.budget,
            "on_time_nanos": a.spent_on_time,
            "late_nanos": a.late,
            "reserved_nanos": a.reserved,
            "held_nanos": a.held,
            "free_nanos": a.free,
            "overspend_nanos": a.overspend,
            "stopped": a.stop_reason if a.stopped else "",
        }
        for a in accounts
    ]
    item_rows = [
        {"line_item": i.line_item_id, "day": i.day, "spent_nanos": i.spent, "reserved_nanos": i.reserved}
        for i in items
    ]
    write_json(json, {"currency": currency, "accounts": rows, "line_items": item_rows})
    out = _out()
    out.print(_table(f"accounts, {currency}", rows))
    if lines:
        out.print(_table(f"line items, {currency}", item_rows))


def _table(title: str, rows: list[dict[str, object]]) -> Table:
    table = Table(title=title)
    for name in rows[0] if rows else ():
        table.add_column(name.removesuffix("_nanos"), justify="right" if name.endswith("_nanos") else "left")
    for row in rows:
        table.add_row(
            *(
                units_text(value) if name.endswith("_nanos") and isinstance(value, int) else str(value)
                for name, value in row.items()
            )
        )
    return table


@ledger_app.command()
def findings(
    everything: Annotated[bool, typer.Option("--all", help="Decided ones as well.")] = False,
    database: DatabaseOption = None,
    config: ConfigOption = None,
    json: JsonOption = None,
) -> None:
    """What waits for a person: claims above the signed price, bids and campaigns nobody knows, broken amounts."""
    with _reading(database, config) as connection:
        found = look.findings(connection, None if everything else "open")
    write_json(json, found)
    if not found:
        typer.echo("no finding waits")
        return
    table = Table(title="findings: counterpoint ledger accept ID, or reject ID")
    for name in ("id", "kind", "bid or place", "campaign", "amount", "state", "note"):
        table.add_column(name)
    for f in found:
        table.add_row(str(f.id), f.kind, f.ref, f.campaign_id, units_text(f.amount_nanos), f.state, f.note)
    _out().print(table)


@ledger_app.command()
def adjustments(
    database: DatabaseOption = None, config: ConfigOption = None, json: JsonOption = None
) -> None:
    """What people did to the books: who, why, under which key."""
    with _reading(database, config) as connection:
        found = look.adjustments(connection)
    write_json(json, found)
    if not found:
        typer.echo("nobody has adjusted anything")
        return
    table = Table(title="adjustments")
    for name in ("key", "kind", "campaign", "day", "bid or finding", "amount", "author", "reason"):
        table.add_column(name)
    for a in found:
        table.add_row(
            a.key, a.kind, a.campaign_id, a.day, a.ref, units_text(a.amount_nanos), a.author, a.reason
        )
    _out().print(table)


# ---- changing


@contextmanager
def _writing(config: Path | None, database: str | None) -> Iterator[Ledger]:
    """The books beside the running ledger, which says on the bus what was done here."""
    settings = settings_of(config)
    url = database or settings.ledger_url
    open_existing(url).dispose()  # a mistyped address makes no new books
    ledger = Ledger(url, read_catalog(settings.catalog_url))
    try:
        yield ledger
    finally:
        ledger.close()


def _tell(outcome: Outcome) -> None:
    typer.echo(("" if outcome.done else "refused: ") + outcome.text, err=not outcome.done)
    raise typer.Exit(0 if outcome.done else 1)


def _order(
    kind: str,
    campaign: str,
    amount: str,
    day: str | None,
    key: str,
    reason: str,
    author: str,
    config: Path | None,
    database: str | None,
    bid: str = "",
    line_item: str = "",
) -> None:
    now_ns = SystemClock().now_ns()
    nanos = nanos_of(amount)
    with _writing(config, database) as ledger:
        order = Order(
            key=key,
            kind=kind,
            campaign_id=campaign,
            day=day or ledger.today(campaign, now_ns),
            amount_nanos=nanos,
            author=author or getpass.getuser(),
            reason=reason,
            bid_id=bid,
            line_item_id=line_item,
        )
        outcome = ledger.adjust(order, now_ns)
    _tell(outcome)


def _order_command(kind: str, help: str) -> None:
    def command(
        campaign: CampaignArgument,
        amount: AmountArgument,
        key: KeyOption,
        reason: ReasonOption,
        day: DayOption = None,
        author: AuthorOption = "",
        config: ConfigOption = None,
        database: DatabaseOption = None,
    ) -> None:
        _order(kind, campaign, amount, day, key, reason, author, config, database)

    ledger_app.command(kind, help=help)(command)


_order_command("credit", "More money for a campaign's day, beyond its budget (and its lifetime budget).")
_order_command(
    "debit", "Less money for a campaign's day; what is spent or promised is taken when it comes back."
)
_order_command("hold", "Set free money of a day aside: nobody bids it until it is released.")
_order_command("release", "Give held money back to its day.")


@ledger_app.command()
def refund(
    campaign: CampaignArgument,
    amount: AmountArgument,
    key: KeyOption,
    reason: ReasonOption,
    bid: Annotated[
        str, typer.Option(help="The bid it is for; left out: the campaign's day as a whole.")
    ] = "",
    line_item: Annotated[str, typer.Option(help="Without --bid: whose spend it lowers as well.")] = "",
    day: DayOption = None,
    author: AuthorOption = "",
    config: ConfigOption = None,
    database: DatabaseOption = None,
) -> None:
    """An exchange gives money back (invalid traffic): spend becomes free, never more than was booked."""
    _order("refund", campaign, amount, day, key, reason, author, config, database, bid, line_item)


FindingArgument = Annotated[int, typer.Argument(help="As 'counterpoint ledger findings' lists it.")]


@ledger_app.command()
def accept(
    finding: FindingArgument,
    reason: ReasonOption,
    author: AuthorOption = "",
    config: ConfigOption = None,
    database: DatabaseOption = None,
) -> None:
    """The claim is right: what is not booked of it is booked, once."""
    with _writing(config, database) as ledger:
        outcome = ledger.decide(finding, True, author or getpass.getuser(), reason, SystemClock().now_ns())
    _tell(outcome)


@ledger_app.command()
def reject(
    finding: FindingArgument,
    reason: ReasonOption,
    author: AuthorOption = "",
    config: ConfigOption = None,
    database: DatabaseOption = None,
) -> None:
    """The claim is wrong: nothing more is booked, and what was booked for a bid nobody knows is taken back, once."""
    with _writing(config, database) as ledger:
        outcome = ledger.decide(finding, False, author or getpass.getuser(), reason, SystemClock().now_ns())
    _tell(outcome)
