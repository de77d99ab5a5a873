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
from counterpoint.market.logs.judge import Comparison, Interval, PolicyResult
from counterpoint.market.logs.policies import make_policy
from counterpoint.market.logs.read import read_logs
from counterpoint.market.logs.run import FileResult, ReplayReport, ReplaySettings, replay

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
    for name in settings.policies:
        make_policy(name)  # a name that is not there is said before minutes of reading
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
    settings = report.settings
    how = f"{settings.auction.value} price"
    if settings.auction == "first":
        how += " (COUNTERFACTUAL)"
    how += f", feedback {settings.feedback.value}, seed {settings.seed}"
    parts: list[Table | str] = []
    for file in report.files:
        parts += [_file_table(file, how), ""]
    comparisons = [(file.file, c) for file in report.files for c in file.comparisons]
    comparisons += [("all files", c) for c in report.pooled]
    if comparisons:
        parts += [_comparison_table(comparisons, how, settings.resamples), ""]
    parts.append(f"unit: {report.unit}; shown in fen")
    parts += [f"- {note}" for note in report.notes]
    return Group(*parts)


def _file_table(file: FileResult, how: str) -> Table:
    budget = (
        "no budget"
        if file.budget_milli_fen is None
        else f"budget {file.budget_milli_fen / MILLI:,.1f} fen of {file.cost_of_everything_milli_fen / MILLI:,.1f}"
    )
    title = f"{file.file}: {file.judged_rows:,} auctions judged after {file.train_rows:,} to tune on; {how}; {budget}"
    table = Table(title=title, title_justify="left", box=None)
    table.add_column("policy", no_wrap=True)
    for name in (
        "auctions",
        "wins",
        "win rate",
        "clicks",
        "sum pctr",
        "value fen",
        "spend fen",
        "overspend",
        "eCPC fen",
        "surplus fen",
        "of perfect",
        "money gone at",
    ):
        table.add_column(name, justify="right")
    for result in file.policies:
        table.add_row(*_cells(result))
    return table


def _cells(result: PolicyResult) -> list[str]:
    return [
        result.policy
        + ("*" if result.tuned_on_prices else "")
        + (" (LOOKS AHEAD)" if result.looks_ahead else ""),
        f"{result.auctions:,}",
        f"{result.wins:,}",
        f"{result.win_rate:.2%}",
        str(result.clicks),
        f"{result.sum_pctr:.2f}",
        f"{result.value / MILLI:,.1f}",
        f"{result.spend_milli_fen / MILLI:,.1f}",
        str(result.overspend_milli_fen),
        "-" if result.ecpc_milli_fen is None else f"{result.ecpc_milli_fen / MILLI:,.2f}",
        f"{result.surplus / MILLI:,.1f}",
        "-" if result.surplus_share is None else f"{result.surplus_share:.2%}",
        "-" if result.stopped_at_row is None else f"{result.stopped_at_row:,}",
    ]


def _comparison_table(comparisons: Sequence[tuple[str, Comparison]], how: str, resamples: int) -> Table:
    table = Table(
        title=f"paired comparison, 95 % block bootstrap ({resamples:,} resamples); {how}",
        title_justify="left",
        box=None,
    )
    for name in ("file", "policy", "against"):
        table.add_column(name, no_wrap=True)
    for name in ("value", "sum pctr", "clicks", "surplus, points of perfect"):
        table.add_column(name, justify="right", no_wrap=True)
    for file, c in comparisons:
        table.add_row(
            file,
            c.policy,
            c.against,
            *(_interval(i) for i in (c.value_gain, c.sum_pctr_gain, c.clicks_gain)),
            _interval(c.surplus_share_gain, ""),
        )
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
    table = Table(
        title=f"{report.file}: {report.requests:,} requests in {target}", title_justify="left", box=None
    )
    table.add_column("banner size")
    table.add_column("requests", justify="right")
    for size, count in sorted(report.sizes.items(), key=lambda item: (-item[1], item[0])):
        table.add_row(size, f"{count:,}")
    notes = [
        f"{report.clicks:,} with a click, {report.repeated_ids:,} with an id that came before",
        "bidfloor in CNY per 1,000 (the log's fen / 100); each line is a record: the request in 'body', what became of the "
        "auction in 'outcome', never in the request",
    ]
    return Group(table, "", *notes)
