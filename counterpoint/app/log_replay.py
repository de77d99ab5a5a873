"""``counterpoint replay auctions`` and ``counterpoint convert ipinyou-raw``: what the command line shows of a log."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import msgspec
from rich.console import Group
from rich.progress import Progress
from rich.table import Table

from counterpoint.base.errors import ConfigError
from counterpoint.market.logs.auctions import parse_fraction
from counterpoint.market.logs.ipinyou_raw import ConvertReport, converted
from counterpoint.market.logs.judge import Comparison, Interval, PolicyResult, Total
from counterpoint.market.logs.read import read_logs
from counterpoint.market.logs.run import FileResult, ReplayReport, ReplaySettings, check, replay
from counterpoint.market.logs.terms import Auction

MILLI = 1_000.0


def replay_logs(
    files: Sequence[Path], settings: ReplaySettings, progress: Progress | None = None
) -> ReplayReport:
    """Read, replay, judge. Raises :class:`ConfigError` and :class:`LogError` with a cure."""
    budget = parse_fraction(settings.budget_fraction)
    try:
        train = Fraction(settings.train_fraction)
    except (ValueError, ZeroDivisionError):
        raise ConfigError(
            f"train fraction {settings.train_fraction!r} is no number; give 1/2 or 0.5"
        ) from None
    check(settings, train)  # before minutes of reading
    reading = progress.add_task("rows read", total=None) if progress is not None else None

    def on_rows(rows: int) -> None:
        if progress is not None and reading is not None:
            progress.update(reading, completed=rows)

    logs = read_logs(files, on_rows)
    if progress is not None and reading is not None:
        rows = sum(len(log) for log in logs)
        progress.update(reading, completed=rows, total=rows)
        bar = progress.add_task("policies", total=len(logs) * len(settings.policies))

    def on_policy(file: str, policy: str) -> None:
        if progress is not None:
            progress.update(bar, advance=1, description=f"{file}: {policy}")

    return replay(logs, settings, budget, train, on_policy)


def show(report: ReplayReport) -> Group:
    """Tables that fit a terminal of 80 columns; the JSON has every number in full."""
    settings = report.settings
    how = f"{settings.auction.value} price"
    if settings.auction is Auction.FIRST:
        how += " (COUNTERFACTUAL)"
    how += f", feedback {settings.feedback.value}, seed {settings.seed}"
    parts: list[Table | str] = []
    for file in report.files:
        budget = (
            "no budget"
            if file.budget_milli_fen is None
            else f"budget {_fen(file.budget_milli_fen)} of {_fen(file.cost_of_everything_milli_fen)} fen"
        )
        parts.append(
            f"{file.file}: {file.judged_rows:,} auctions judged, {file.train_rows:,} before them to tune on"
        )
        parts += [f"{how}; {budget}", "", _won(file), "", _cost(file), ""]
    if len(report.files) > 1:
        parts += [f"all {len(report.files)} files", "", _totals(report.totals), ""]
    listed = [(file.file, file.comparisons) for file in report.files]
    listed.append((f"all {len(report.files)} files", report.pooled))
    for name, comparisons in listed:
        if comparisons:
            parts += [_compared(name, comparisons, how, settings.resamples), ""]
    parts.append(f"unit: {report.unit}; shown in fen")
    parts += [f"- {note}" for note in report.notes]
    return Group(*parts)


def _fen(milli_fen: float) -> str:
    return f"{milli_fen / MILLI:,.1f}"


def _columns(table: Table, names: Sequence[str]) -> Table:
    table.add_column("policy", no_wrap=True)
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _won(file: FileResult) -> Table:
    names = ("bids", "wins", "win rate", "clicks", "sum pctr", "value")
    table = _columns(Table(box=None), names)
    for r in file.policies:
        table.add_row(
            _marked(r),
            f"{r.bids:,}",
            f"{r.wins:,}",
            f"{r.win_rate:.2%}",
            str(r.clicks),
            f"{r.sum_pctr:.2f}",
            _fen(r.value),
        )
    return table


def _cost(file: FileResult) -> Table:
    table = _columns(
        Table(box=None), ("spend", "overspend", "eCPC", "surplus", "of perfect", "money gone at")
    )
    for r in file.policies:
        table.add_row(
            _marked(r),
            _fen(r.spend_milli_fen),
            f"{r.overspend_milli_fen / MILLI:g}",  # exact: a budget is not overspent by a rounding
            "-" if r.ecpc_milli_fen is None else _fen(r.ecpc_milli_fen),
            _fen(r.surplus),
            "-" if r.surplus_share is None else f"{r.surplus_share:.2%}",
            "-" if r.stopped_at_row is None else f"{r.stopped_at_row:,}",
        )
    return table


def _totals(totals: Sequence[Total]) -> Table:
    table = _columns(Table(box=None), ("clicks", "sum pctr", "value", "spend", "surplus", "of perfect"))
    for t in totals:
        table.add_row(
            t.policy,
            str(t.clicks),
            f"{t.sum_pctr:.2f}",
            _fen(t.value),
            _fen(t.spend_milli_fen),
            _fen(t.surplus),
            "-" if t.surplus_share is None else f"{t.surplus_share:.2%}",
        )
    return table


def _marked(result: PolicyResult) -> str:
    return result.policy + ("*" if result.tuned_on_prices else "") + (" +" if result.looks_ahead else "")


def _compared(name: str, comparisons: Sequence[Comparison], how: str, resamples: int) -> Table:
    table = Table(
        title=f"{name}: paired, 95 % by block bootstrap ({resamples:,} draws); {how}",
        title_justify="left",
        box=None,
    )
    for column in ("policy", "against", "of"):
        table.add_column(column, no_wrap=True)
    table.add_column("gain", justify="right", no_wrap=True)
    for c in comparisons:
        table.add_row(c.policy, c.against, "value", _interval(c.value_gain))
        table.add_row("", "", "sum pctr", _interval(c.sum_pctr_gain))
        table.add_row("", "", "clicks", _interval(c.clicks_gain))
        table.add_row("", "", "of perfect", _interval(c.surplus_share_gain, " points"))
    return table


def _interval(interval: Interval, unit: str = " %") -> str:
    if interval.value is None:
        return "-"
    measured = f"{100 * interval.value:+.2f}{unit}"
    if interval.low is None or interval.high is None:
        return f"{measured} [too few]"
    return f"{measured} [{100 * interval.low:+.2f}, {100 * interval.high:+.2f}]"


# ---- raw lines to OpenRTB


def convert_ipinyou_raw(
    file: Path, out: Path | None, progress: Progress | None = None
) -> tuple[ConvertReport, Path]:
    """Write the requests beside the working folder's files, or to ``out``; a half-written file is never left behind."""
    name = file.name.removesuffix(".gz").removesuffix(".csv") + ".jsonl"
    target = out if out is not None else Path.cwd() / name
    if target.resolve() == file.resolve():
        raise ConfigError(f"{target} is the file to be read; name another with --out")
    report = ConvertReport(file=file.name)
    bar = progress.add_task(file.name, total=None) if progress is not None else None
    encoder = msgspec.json.Encoder(order="deterministic")
    partial = target.with_name(target.name + ".part")
    try:
        with partial.open("wb") as lines:
            for record in converted(file, report):
                lines.write(encoder.encode(record) + b"\n")
                if progress is not None and bar is not None and report.requests % 500 == 0:
                    progress.update(bar, completed=report.requests)
        os.replace(partial, target)
    except OSError as error:
        raise ConfigError(
            f"{target}: cannot be written ({error.strerror}); name another with --out"
        ) from error
    finally:
        with suppress(OSError):
            partial.unlink()
    if progress is not None and bar is not None:
        progress.update(bar, completed=report.requests, total=report.requests)
    return report, target


def show_converted(report: ConvertReport, target: Path) -> Group:
    table = Table(title=f"{report.requests:,} requests", title_justify="left", box=None)
    table.add_column("banner size")
    table.add_column("requests", justify="right")
    for size, count in sorted(report.sizes.items(), key=lambda item: (-item[1], item[0])):
        table.add_row(size, f"{count:,}")
    notes = [
        f"{report.clicks:,} with a click, {report.repeated_ids:,} with an id that came before",
        "bidfloor in CNY per 1,000 (the log's fen / 100); each line is a record: the request in 'body', what became of the "
        "auction in 'outcome', never in the request",
    ]
    return Group(f"{report.file} -> {target}", table, "", *notes)
