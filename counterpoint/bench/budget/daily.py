"""Part ``daily``: a walk forward over a real table of spend and value by day and arm. Observational, and labelled so.

The log does not say what another split would have brought. Stated counterfactual: had an arm spent x' instead of the logged x
on a day, it would have brought value x (x' / x)^b, the same b for all arms; b = 0.3, 0.4, 0.6 and 0.8 are all reported (0.3 is among the agent's own shapes, the others are not). An arm without
spend on a day could not be bought that day, and its money goes to the others in proportion. Each day's total is the logged
one. Every splitter sees only earlier days, and of them only what its own split would have brought.

Columns (:class:`Columns`): the day, ``date`` or ``day`` (2017-04-01), or ``month`` and ``day`` (April, 1); the arm, by default
``campaign_number`` and ``placement``; the spend, by default ``cost``; and the value, by default ``revenue``. Others are passed
over. Rows of one day and arm are summed.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from msgspec import Struct

from counterpoint.bench.bidding.verdict import Bar, Measured, PartResult, Table, Verdict
from counterpoint.bench.market.facts import Floats
from counterpoint.budget.alone import Allocator, Arm
from counterpoint.market.logs.table import LogError, at_row
from counterpoint.market.logs.table import Table as LogTable

ARM: Final = ("campaign_number", "placement")
BENDS: Final = (0.3, 0.4, 0.6, 0.8)
MONTHS: Final = {datetime.date(2000, m, 1).strftime("%B").lower(): m for m in range(1, 13)}
ARM_SHARE_LEAST: Final = 0.001  # of all spend; smaller arms are left out, and said so
WARM_UP_DAYS: Final = 7
BLOCK_DAYS: Final = 7  # of the bootstrap
RESAMPLES: Final = 5_000


class Columns(Struct, frozen=True, kw_only=True):
    """What the columns of a table are called."""

    arm: tuple[str, ...] = ARM
    spend: str = "cost"
    value: str = "revenue"
    date: str | None = None  # None: date, or month and day, or day


class Log(Struct, frozen=True, kw_only=True):
    arms: tuple[str, ...]
    days: tuple[int, ...]  # ordinals or month x 100 + day
    spend: Floats  # [day, arm]
    value: Floats
    left_out: int  # arms too small
    left_out_spend: float  # their share


def read(path: Path, named: Columns | None = None, sort: bool = False) -> Log:
    """Raises :class:`LogError` naming file, row and cure: a missing column, a day out of order (unless ``sort``), a number
    that is none or negative, an empty or broken file."""
    named = named or Columns()
    table = LogTable(path)
    when, iso = _when(table, named.date)
    arms = [_column(table, name, "--arm") for name in named.arm]
    cost_at, value_at = _column(table, named.spend, "--spend"), _column(table, named.value, "--value")
    amounts = ((cost_at, named.spend), (value_at, named.value))
    sums: dict[tuple[int, str], list[float]] = {}
    last, row = 0, 0
    for row, cells in enumerate(table.rows(), start=1):
        day = _day(table, row, [cells[i] for i in when], iso)
        if day < last and not sort:
            raise at_row(
                path,
                row,
                f"{'-'.join(cells[i] for i in when)} comes after a later day",
                "sort the rows by day, or say --sort",
            )
        last = max(last, day)
        numbers = [_number(path, row, cells[i], name) for i, name in amounts]
        held = sums.setdefault((day, " / ".join(cells[i].strip() for i in arms)), [0.0, 0.0])
        held[0] += numbers[0]
        held[1] += numbers[1]
    if row == 0:
        raise LogError(f"{path}: a header and no rows; give a file with days in it")
    days = sorted({day for day, _ in sums})
    names = sorted({name for _, name in sums})
    spend, brought = np.zeros((2, len(days), len(names)))
    for (day, name), (x, y) in sums.items():
        at = days.index(day), names.index(name)
        spend[at], brought[at] = x, y
    whole = spend.sum()
    kept = spend.sum(axis=0) > ARM_SHARE_LEAST * whole
    if kept.sum() < 2 or len(days) <= WARM_UP_DAYS:
        raise LogError(
            f"{path}: {int(kept.sum())} arms ({' and '.join(named.arm)}) with spend ({named.spend}) over {len(days)} days; "
            f"give at least 2 arms and {WARM_UP_DAYS + 1} days, or {_say(table, '--arm')}"
        )
    return Log(
        arms=tuple(name for name, k in zip(names, kept, strict=True) if k),
        days=tuple(days),
        spend=spend[:, kept],
        value=brought[:, kept],
        left_out=int((~kept).sum()),
        left_out_spend=float(spend[:, ~kept].sum() / whole),
    )


def _say(table: LogTable, option: str) -> str:
    return f"say {option} COLUMN; the file has: {', '.join(table.header)}"


def _column(table: LogTable, name: str, option: str) -> int:
    if name not in table.header:
        raise LogError(f"{table.path}, line 1: column {name!r} is missing; {_say(table, option)}")
    return table.header.index(name)


def _when(table: LogTable, date: str | None) -> tuple[list[int], bool]:
    """The columns that say the day, and whether as 2017-04-01."""
    header = table.header
    if date is not None:
        return [_column(table, date, "--date")], True
    if "date" not in header and {"month", "day"} <= set(header):
        return [header.index("month"), header.index("day")], False
    for name in ("date", "day"):
        if name in header:
            return [header.index(name)], True
    raise LogError(
        f"{table.path}, line 1: no column of days (date, day, or month and day); {_say(table, '--date')}"
    )


def _day(table: LogTable, row: int, cells: list[str], iso: bool) -> int:
    try:
        if iso:
            return datetime.date.fromisoformat(cells[0].strip()).toordinal()
        # no year: months count in the order of the calendar
        return datetime.date(2001, MONTHS[cells[0].strip().lower()], int(cells[1])).toordinal()
    except (ValueError, KeyError):
        cure = "write it as 2017-04-01" if iso else "write the month as April and the day as a number"
        problem = f"{' '.join(cells)!r} is no day"
        raise at_row(table.path, row, problem, f"{cure}, or {_say(table, '--date')}") from None


def _number(path: Path, row: int, cell: str, name: str) -> float:
    try:
        number = float(cell)
    except ValueError:
        raise at_row(path, row, f"{name} is {cell!r}, not a number", "mend or remove the row") from None
    if not 0 <= number < 1e15:
        raise at_row(path, row, f"{name} {cell} is negative or no amount", "mend or remove the row")
    return number


Walker = Callable[[int, list[Floats], list[Floats]], Floats]


def walk(log: Log, bend: float, split: Walker) -> Floats:
    """(days,) value under the counterfactual; ``split(day, spends, values)`` gives weights from its own earlier days."""
    out = np.zeros(len(log.days))
    spends: list[Floats] = []
    values: list[Floats] = []
    for day in range(len(log.days)):
        able = log.spend[day] > 0
        weight = np.where(able, np.maximum(split(day, spends, values), 1e-12), 0.0)
        x = weight / weight.sum() * log.spend[day].sum()
        y = np.where(able, log.value[day] * (x / np.where(able, log.spend[day], 1.0)) ** bend, 0.0)
        out[day] = y.sum()
        spends.append(x)
        values.append(y)
    return out


def best(log: Log, bend: float) -> Floats:
    """(days,) the most the counterfactual allows: shares in proportion to (value x^-b)^(1 / (1 - b))."""
    able = log.spend > 0
    base = np.where(able, log.value / np.where(able, log.spend, 1.0) ** bend, 0.0)
    weight = base ** (1.0 / (1.0 - bend))
    x = weight / np.maximum(weight.sum(axis=1, keepdims=True), 1e-300) * log.spend.sum(axis=1, keepdims=True)
    return np.asarray((base * x**bend).sum(axis=1))


def walkers(log: Log) -> dict[str, Walker]:
    arms = len(log.arms)

    def equal(day: int, spends: list[Floats], values: list[Floats]) -> Floats:
        return np.ones(arms)

    def last_share(day: int, spends: list[Floats], values: list[Floats]) -> Floats:
        return log.spend[day - 1] if day else np.ones(arms)

    def by_return(day: int, spends: list[Floats], values: list[Floats]) -> Floats:
        if not day:
            return np.ones(arms)
        spent, brought = sum(spends, np.zeros(arms)), sum(values, np.zeros(arms))
        roi = brought / np.maximum(spent, 1e-9)
        return np.asarray(np.maximum(roi, 0.01 * roi.mean()))

    allocator = Allocator([Arm(name=name) for name in log.arms], budget=float(arms))

    def agent(day: int, spends: list[Floats], values: list[Floats]) -> Floats:
        if day:
            total, able = spends[-1].sum(), spends[-1] > 0
            spent = {
                n: float(x) * arms / total for n, x, a in zip(log.arms, spends[-1], able, strict=True) if a
            }
            brought = {
                n: float(y) * arms / total for n, y, a in zip(log.arms, values[-1], able, strict=True) if a
            }
            allocator.observe(spent, brought, season=log.days[day - 1] % 7, next_season=log.days[day] % 7)
        return np.array([allocator.allocate().amounts[n] for n in log.arms])

    return {
        "equal": equal,
        "last day's share": last_share,
        "in proportion to return": by_return,
        "agent": agent,
    }


def daily(
    path: Path, named: Columns | None = None, sort: bool = False, plots: Path | None = None
) -> PartResult:
    """``plots``: folder for a PNG of what every rule has captured, day by day."""
    named = named or Columns()
    log = read(path, named, sort)
    against: list[tuple[str, ...]] = []
    captured: list[tuple[str, ...]] = []
    verdicts: list[Verdict] = []
    paths: dict[float, dict[str, Floats]] = {}
    rules = list(walkers(log))
    for bend in BENDS:
        top = best(log, bend)[WARM_UP_DAYS:]
        found = {name: walk(log, bend, split)[WARM_UP_DAYS:] for name, split in walkers(log).items()}
        found["as logged"] = log.value.sum(axis=1)[WARM_UP_DAYS:]
        paths[bend] = {**found, "best split": top}
        days = top.size
        captured.append(
            (f"{bend:g}", *(f"{brought.sum():,.0f}" for brought in found.values()), f"{top.sum():,.0f}")
        )
        gaps = {other: _gap(found["agent"], found[other]) for other in rules if other != "agent"}
        cells = [f"{gap.value:+.1f} % [{gap.low:.1f}, {gap.high:.1f}]" for gap in gaps.values()]
        against.append((f"{bend:g}", *cells, f"{found['agent'].sum() / top.sum():.3f}"))
        verdicts += [
            Verdict(
                bar=f"b = {bend:g}: agent against {other}, observational",
                kind=Bar.REPORTED,
                target=None,
                measured=gap,
                behind=f"{days} days, blocks of {BLOCK_DAYS}",
                unit="%",
            )
            for other, gap in gaps.items()
        ]
    if plots is not None:
        plot(paths, named.value, plots / "daily.png")
    return PartResult(
        part="daily",
        verdicts=tuple(verdicts),
        tables=(
            Table(
                title=f"captured {named.value}, agent against the others, after {WARM_UP_DAYS} days, blocks of {BLOCK_DAYS}",
                head=("b", *(rule for rule in rules if rule != "agent"), "agent, of the best"),
                rows=tuple(against),
            ),
            Table(
                title=f"captured {named.value} after {WARM_UP_DAYS} days",
                head=("b", *rules, "as logged", "best split by the counterfactual"),
                rows=tuple(captured),
            ),
        ),
        notes=(
            "observational: spend was chosen by the company; the counterfactual value x (x' / x)^b is assumed, not measured",
            f"{len(log.arms)} arms ({' and '.join(named.arm)}), {len(log.days)} days; {log.left_out} arms with {log.left_out_spend:.2%} "
            "of the spend left out as too small",
        ),
    )


def plot(paths: dict[float, dict[str, Floats]], value: str, path: Path) -> None:
    """PNG: value captured so far by each rule, a panel for each ``b``."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, grid = plt.subplots(2, 2, figsize=(10, 6.4), layout="constrained", sharex=True)
    for axes, (bend, found) in zip(grid.ravel(), paths.items(), strict=True):
        for name, brought in found.items():
            style = {"best split": "--", "as logged": ":"}.get(name, "-")
            days = np.arange(WARM_UP_DAYS, WARM_UP_DAYS + brought.size) + 1
            axes.plot(days, brought.cumsum(), style, label=name, linewidth=1.3)
        axes.set(title=f"b = {bend:g}", xlabel="day", ylabel=f"captured {value}")
    grid[0, 0].legend(loc="upper left", fontsize=8)
    figure.savefig(path, dpi=80)
    plt.close(figure)


def _gap(mine: Floats, theirs: Floats) -> Measured:
    """Percent, 95 % by bootstrap of blocks of days: days are not independent."""
    rng = np.random.Generator(np.random.Philox(key=[0, 0x6461_696C_79]))
    days, blocks = mine.size, -(-mine.size // BLOCK_DAYS)
    starts = rng.integers(0, max(1, days - BLOCK_DAYS + 1), (RESAMPLES, blocks))
    at = (starts[..., None] + np.arange(BLOCK_DAYS)).reshape(RESAMPLES, -1) % days
    ratios = mine[at].sum(axis=1) / theirs[at].sum(axis=1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return Measured(
        value=100.0 * (float(mine.sum() / theirs.sum()) - 1.0),
        low=100.0 * (float(low) - 1.0),
        high=100.0 * (float(high) - 1.0),
    )
