"""``counterpoint ledger``: balances, findings and the audit; what a person may do to the money, once each."""

from __future__ import annotations

import getpass
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from decimal import Decimal, InvalidOperation
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from sqlalchemy.engine import Connection
from typer.core import TyperCommand

from counterpoint.app.options import ConfigOption, JsonOption, print_columns, settings_of, write_json
from counterpoint.base.clock import SystemClock
from counterpoint.base.database import with_driver
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
NEGATIVE = (
    '"{}": amounts are above 0; "ledger debit" takes from a day\'s money, "ledger credit" adds to it, '
    '"ledger refund" gives spend back'
)

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
        if whole and nanos < 0:
            raise ConfigError(NEGATIVE.format(text))
        raise ConfigError(
            f'"{text}": write an amount above 0, at most {units_text(BUDGET_NANOS_MAX)}, with at most nine decimals'
        )
    return int(nanos)


def day_of(text: str | None) -> str | None:
    """A local day as people write it. Raises :class:`ConfigError` for what is no date."""
    if text is None:
        return None
    try:
        day = date.fromisoformat(text).isoformat()
    except ValueError:
        day = ""
    if day != text:
        raise ConfigError(f"--day {text}: is no date; write it as 2026-11-23")
    return day


class AmountCommand(TyperCommand):
    """A negative amount looks like an option, which would be all that is said of it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        for before, word in pairwise(["", *args]):
            if re.fullmatch(r"-[\d.,]+", word) and not re.fullmatch("--[^=]*", before):
                raise ConfigError(NEGATIVE.format(word))
        return super().parse_args(ctx, args)


@contextmanager
def _reading(database: str | None, config: Path | None) -> Iterator[Connection]:
    engine = open_existing(with_driver(database) if database else settings_of(config).ledger_url)
    try:
        with engine.execution_options(reads=True).connect() as connection, connection.begin():
            yield connection
    finally:
        engine.dispose()


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
    """Every account: budget, spent, reserved, held, free, overspend. Four decimals here, to the nano with --json."""
    day = day_of(day)
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
    _print_money(
        f"accounts, {currency}: budget (with credits and debits) = spent (less refunds) + reserved + held + free",
        rows,
    )
    if lines:
        _print_money(f"line items, {currency}", item_rows)


# what stands in the columns after credits, holds and refunds
HEADS: Final = {"on_time_nanos": "spent on time", "late_nanos": "spent late", "stopped": "stopped by"}


def _print_money(title: str, rows: Sequence[Mapping[str, object]]) -> None:
    if not rows:
        typer.echo(f"{title}: none")
        return
    names = list(rows[0])
    heads = tuple(HEADS.get(name, name.removesuffix("_nanos").replace("_", " ")) for name in names)
    cells = [
        tuple(f"{_units(value):,.4f}" if isinstance(value, int) else str(value) for value in row.values())
        for row in rows
    ]
    right = [k for k, name in enumerate(names) if name.endswith("_nanos")]
    print_columns(title, [heads, *cells], right)


def _units(nanos: int) -> Decimal:
    return Decimal(nanos) / NANOS_PER_UNIT


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
    head = ("id", "kind", "bid or place", "campaign", "amount", "state", "note")
    rows = [
        (str(f.id), f.kind, f.ref, f.campaign_id, units_text(f.amount_nanos), f.state, f.note) for f in found
    ]
    print_columns("findings: counterpoint ledger accept ID, or reject ID", [head, *rows], right=[4])


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
    head = ("key", "kind", "campaign", "day", "bid or finding", "amount", "author", "reason")
    rows = [
        (a.key, a.kind, a.campaign_id, a.day, a.ref, units_text(a.amount_nanos), a.author, a.reason)
        for a in found
    ]
    print_columns("adjustments", [head, *rows], right=[5])


# ---- changing


@contextmanager
def _writing(config: Path | None, database: str | None) -> Iterator[Ledger]:
    """The books beside the running ledger, which says on the bus what was done here."""
    settings = settings_of(config)
    url = with_driver(database) if database else settings.ledger_url
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
    nanos, day = nanos_of(amount), day_of(day)
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

    ledger_app.command(kind, help=help, cls=AmountCommand)(command)


_order_command("credit", "More money for a campaign's day, beyond its budget (and its lifetime budget).")
_order_command(
    "debit", "Less money for a campaign's day; what is spent or promised is taken when it comes back."
)
_order_command("hold", "Set free money of a day aside: nobody bids it until it is released.")
_order_command("release", "Give held money back to its day.")


@ledger_app.command(cls=AmountCommand)
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
