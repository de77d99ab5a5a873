"""A log of auctions as arrays: iPinYou's columns click, market_price, pctr, and hour (with exchange) or episode.

Prices are integers, fen per 1,000 impressions. One impression at price p costs p / 1000 fen: p milli-fen exactly, so
money here is an integer number of milli-fen and nothing is ever rounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from counterpoint.market.logs.table import INTEGER, LogError, Table, at_row

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

CHUNK_ROWS = 20_000
PRICE_MAX = 1_000_000  # fen per 1,000 impressions: 10 CNY an impression, anything above is a broken number
TIMED, EPISODES = "timed", "episodes"
RAW_COLUMN = "payprice"  # only raw iPinYou lines have it
DIGITS = frozenset("-0123456789")
CELL_CHARS_MAX = 100  # of a number; numpy holds a column as wide as its longest cell
Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class AuctionLog:
    """One file, one campaign. Parallel arrays in the order of time."""

    name: str
    kind: str  # TIMED: ``time`` is the hour's index; EPISODES: the number of a block of consecutive auctions
    market_price: IntArray  # the least bid that would have won; fen per 1,000 = milli-fen an impression
    click: IntArray  # 0 or 1
    pctr: FloatArray  # in [0, 1]
    time: IntArray  # never falling
    exchange: IntArray  # 0: not given

    def __len__(self) -> int:
        return len(self.market_price)


def read_logs(paths: Sequence[Path], progress: Progress | None = None) -> list[AuctionLog]:
    """Read files that can be judged together: each once, all of one kind."""
    seen: set[Path] = set()
    logs: list[AuctionLog] = []
    for path in paths:
        if path.resolve() in seen:
            raise LogError(f"{path}: given twice, it would count twice; name it once")
        seen.add(path.resolve())
        log = read_log(path, progress)
        if logs and log.kind != logs[0].kind:
            raise LogError(
                f"{path}: has {_time_column(log.kind)!r} where {paths[0]} has {_time_column(logs[0].kind)!r}: their blocks "
                "of time are not alike; replay timed and episode files in separate runs"
            )
        logs.append(log)
    return logs


def read_log(path: Path, progress: Progress | None = None) -> AuctionLog:
    """Stream a file into arrays. ``progress`` is told the rows read so far. Raises :class:`LogError`."""
    table = Table(path)
    if RAW_COLUMN in table.header and "pctr" not in table.header:
        raise LogError(
            f"{path}, line 1: raw log lines, without predictions; "
            "'counterpoint convert ipinyou-raw' makes OpenRTB requests of them"
        )
    at = [table.column(name) for name in ("click", "market_price", "pctr")]
    if "hour" not in table.header and "episode" not in table.header:
        raise LogError(
            f"{path}, line 1: neither column 'hour' nor 'episode'; add the one that says the order of time"
        )
    if "hour" in table.header and "episode" in table.header:
        raise LogError(f"{path}, line 1: both 'hour' and 'episode': two logs in one; leave one column out")
    kind = TIMED if "hour" in table.header else EPISODES
    at.append(table.column(_time_column(kind)))
    exchange_at = table.header.index("exchange") if "exchange" in table.header else None
    parts: list[tuple[IntArray, IntArray, FloatArray, IntArray, IntArray]] = []
    rows_read, last_time = 0, 0
    for rows in _chunks(table.rows()):
        columns = list(zip(*rows, strict=True))
        check = _Checks(path, rows_read)
        click = check.integers(columns[at[0]], "click", 1)
        price = check.integers(columns[at[1]], "market_price", PRICE_MAX)
        pctr = check.shares(columns[at[2]])
        time = check.integers(columns[at[3]], _time_column(kind), 2**31)
        check.rising(time, last_time, _time_column(kind))
        exchange = (
            np.zeros(len(rows), dtype=np.int64)
            if exchange_at is None
            else check.integers([cell or "0" for cell in columns[exchange_at]], "exchange", 1_000)
        )
        parts.append((click, price, pctr, time, exchange))
        rows_read += len(rows)
        last_time = int(time[-1])
        if progress is not None:
            progress(rows_read)
    if not parts:
        raise LogError(f"{path}: a header and no rows; give a file with auctions in it")
    return AuctionLog(
        name=path.name.removesuffix(".gz").removesuffix(".csv"),
        kind=kind,
        market_price=np.concatenate([part[1] for part in parts]),
        click=np.concatenate([part[0] for part in parts]),
        pctr=np.concatenate([part[2] for part in parts]),
        time=np.concatenate([part[3] for part in parts]),
        exchange=np.concatenate([part[4] for part in parts]),
    )


def _time_column(kind: str) -> str:
    return "hour" if kind == TIMED else "episode"


def _chunks(rows: Iterator[list[str]]) -> Iterator[list[list[str]]]:
    while chunk := list(islice(rows, CHUNK_ROWS)):
        yield chunk


@dataclass(frozen=True, slots=True)
class _Checks:
    path: Path
    rows_before: int

    def refuse(self, index: int, problem: str, cure: str) -> LogError:
        return at_row(self.path, self.rows_before + index + 1, problem, cure)

    def integers(self, cells: Sequence[str], name: str, highest: int) -> IntArray:
        try:
            text = "".join(cells)  # numpy also reads 1_0, other alphabets' digits, a NUL
            if not DIGITS.issuperset(text) or max(map(len, cells)) > CELL_CHARS_MAX:
                raise ValueError
            values = np.array(cells).astype(np.int64)
        except (ValueError, OverflowError):
            index = next(i for i, cell in enumerate(cells) if not _is_integer(cell))
            cure = (
                "prices are whole fen per 1,000 impressions; mend or remove the row"
                if name == "market_price"
                else "mend or remove the row"
            )
            raise self.refuse(
                index, f"{name} is {cells[index][:CELL_CHARS_MAX]!r}, not an integer", cure
            ) from None
        bad = np.flatnonzero((values < 0) | (values > highest))
        if len(bad):
            index = int(bad[0])
            what = "negative" if values[index] < 0 else f"above {highest}"
            raise self.refuse(index, f"{name} {values[index]} is {what}", "mend or remove the row")
        return values

    def shares(self, cells: Sequence[str]) -> FloatArray:
        try:
            if not _is_plain("".join(cells)) or max(map(len, cells)) > CELL_CHARS_MAX:
                raise ValueError
            values = np.array(cells).astype(np.float64)
        except ValueError:
            index = next(i for i, cell in enumerate(cells) if not _is_float(cell))
            raise self.refuse(
                index, f"pctr is {cells[index][:CELL_CHARS_MAX]!r}, not a number", "mend or remove the row"
            ) from None
        bad = np.flatnonzero(~((values >= 0.0) & (values <= 1.0)))
        if len(bad):
            index = int(bad[0])
            raise self.refuse(
                index, f"pctr {cells[index]} is not in [0, 1]", "give the predicted click probability"
            )
        return values

    def rising(self, time: IntArray, before: int, name: str) -> None:
        falls = np.flatnonzero(np.diff(time, prepend=before) < 0)
        if len(falls):
            index = int(falls[0])
            earlier = before if index == 0 else int(time[index - 1])
            raise self.refuse(
                index,
                f"{name} {time[index]} after {earlier}: not in order of time",
                f"sort the file by {name}",
            )


def _is_integer(text: str) -> bool:
    short = len(text) <= CELL_CHARS_MAX and INTEGER.fullmatch(text) is not None
    return short and -(2**63) <= int(text) < 2**63


def _is_plain(text: str) -> bool:
    """Python also takes other alphabets' digits and 1_0 for numbers; numpy drops a NUL."""
    return text.isascii() and "_" not in text and "\0" not in text


def _is_float(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return _is_plain(text) and len(text) <= CELL_CHARS_MAX
