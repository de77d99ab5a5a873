"""Rows of a CSV file, plain or gzipped, one at a time; what is wrong with the file is said with its name, row and cure."""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import BinaryIO, cast

from counterpoint.base.errors import CounterpointError

GZIP_MAGIC = b"\x1f\x8b"
INTEGER = re.compile("-?[0-9]+")  # int() also takes 1_0 and the digits of other alphabets
COLUMNS_MAX = 1_000
HEADER_CHARS_MAX = 100_000


class LogError(CounterpointError):
    """A log file that cannot be replayed: which file, which row, what to do."""


def at_row(path: Path, row: int, problem: str, cure: str) -> LogError:
    """``row`` counts from 1 without the header; the line in the file is one more."""
    return LogError(f"{path}, row {row} (line {row + 1}): {problem}; {cure}")


class Table:
    """The header, then the rows. Closes its file when its rows end."""

    def __init__(self, path: Path) -> None:
        """Reads the header. Raises :class:`LogError` where there is no file, no row or no header."""
        self.path = path
        self._row = 0
        self._cells = self._read()
        header = next(self._cells, None)
        if header is None:
            raise LogError(f"{path}: the file is empty; expected a header line and rows")
        if len(header) > COLUMNS_MAX:
            raise LogError(
                f"{path}, line 1: {len(header):,} columns, more than {COLUMNS_MAX:,}; leave out those that no page names"
            )
        self.header = [name.strip() for name in header]
        if len(self.header) > 1 and all(_is_number(name) for name in self.header if name):
            raise LogError(
                f"{path}, line 1: numbers where the header should be; put the column names in the first line"
            )
        twice = sorted({name for name in self.header if self.header.count(name) > 1})
        if twice:
            raise LogError(f"{path}, line 1: column {twice[0]!r} is there twice; leave one out")

    def column(self, name: str) -> int:
        """Position of a column that must be there."""
        if name not in self.header:
            raise LogError(
                f"{self.path}, line 1: column {name!r} is missing, the header is {', '.join(self.header)!r}; "
                "add the column, or name the file's columns as docs/replay.md does"
            )
        return self.header.index(name)

    def rows(self) -> Iterator[list[str]]:
        width = len(self.header)
        for cells in self._cells:
            if not cells:
                continue  # an empty line, as many writers leave at the end
            self._row += 1
            if len(cells) != width:
                raise at_row(
                    self.path,
                    self._row,
                    f"{len(cells)} values, the header names {width}",
                    "mend or remove the row",
                )
            yield cells

    def _read(self) -> Iterator[list[str]]:
        path = self.path
        try:
            with closing(_opened(path)) as raw:
                text = io.TextIOWrapper(raw, encoding="utf-8-sig", newline="")
                first = text.readline(HEADER_CHARS_MAX + 1)
                if len(first) > HEADER_CHARS_MAX:
                    raise LogError(
                        f"{path}, line 1: longer than {HEADER_CHARS_MAX:,} characters, no header; "
                        "put the column names in the first line"
                    )
                yield from csv.reader(chain([first] if first else [], text))
        except FileNotFoundError:
            raise LogError(f"{path}: no such file; check the path") from None
        except EOFError:
            raise at_row(
                path, self._row + 1, "the gzip data ends too early", "copy or download the file again, whole"
            ) from None
        except (gzip.BadGzipFile, zlib.error) as error:
            raise at_row(
                path, self._row + 1, f"the gzip data is corrupt ({error})", "copy or download the file again"
            ) from None
        except UnicodeDecodeError as error:
            raise at_row(
                path, self._row + 1, f"not UTF-8 text ({error.reason})", "give a CSV file, plain or gzipped"
            ) from None
        except csv.Error as error:
            raise at_row(path, self._row + 1, f"not CSV ({error})", "mend or remove the row") from None
        except OSError as error:
            raise LogError(
                f"{path}: cannot be read ({error.strerror}); check the path and its permissions"
            ) from None


def _opened(path: Path) -> BinaryIO:
    raw = path.open("rb")
    start = raw.read(2)
    raw.seek(0)
    return cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if start == GZIP_MAGIC else raw


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
