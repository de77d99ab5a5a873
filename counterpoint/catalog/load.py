"""A catalog file into a checked ``Catalog``, or every mistake in it with its line and its cure.

The format is described key by key in ``docs/catalog.md``. TOML or JSON, by the file's ending; the same tables in both.
"""

from __future__ import annotations

import json
import re
import tomllib
from decimal import Decimal
from pathlib import Path as FilePath
from typing import Any, Final

from msgspec import Struct

from counterpoint.base.errors import ConfigError
from counterpoint.catalog.build import build
from counterpoint.catalog.check import check
from counterpoint.catalog.digest import seal
from counterpoint.catalog.fields import shown
from counterpoint.catalog.lines import Lines, Path
from counterpoint.catalog.model import Catalog
from counterpoint.catalog.schema import TABLES, TOP, Problem, did_you_mean

FILE_BYTES_MAX: Final = 512 * 1024 * 1024
SHOWN_MAX: Final = 100  # problems spelt out in the message; the error holds all


class Found(Struct, frozen=True):
    """One mistake or warning: where, and what to do."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}"


class CatalogError(ConfigError):
    """A catalog that cannot be used; ``problems`` in the order of the file."""

    def __init__(self, problems: tuple[Found, ...]) -> None:
        self.problems = problems
        head = f"{len(problems)} problem{'s' if len(problems) != 1 else ''} in the catalog:"
        shown = [str(p) for p in problems[:SHOWN_MAX]]
        rest = len(problems) - len(shown)
        super().__init__("\n  ".join([head, *shown, *([f"and {rest} more"] if rest else [])]))


class Loaded(Struct, frozen=True):
    catalog: Catalog
    warnings: tuple[Found, ...]  # usable, but probably not what was meant


def load_catalog(path: str | FilePath) -> Catalog:
    """The catalog of a TOML or JSON file, sealed with its digest. Raises :class:`CatalogError` with all mistakes."""
    return check_catalog(path).catalog


def check_catalog(path: str | FilePath, now_ns: int = 0) -> Loaded:
    """As :func:`load_catalog`, with the warnings; ``now_ns`` tells which flights are past (0: not asked)."""
    name = str(path)
    text = _read(FilePath(path), name)
    is_json = name.lower().endswith(".json")
    raw, problems = _parse(text, name, is_json)
    warnings: list[Problem] = []
    catalog = _assemble(raw, problems, warnings, now_ns) if isinstance(raw, dict) else None
    if not isinstance(raw, dict):
        problems.append(Problem((), "the file must hold one object with keys such as campaign and creative"))
    lines = Lines(text, json=is_json) if problems or warnings else None
    if problems or catalog is None:
        raise CatalogError(_located(problems, lines, name, raw))
    return Loaded(seal(catalog), _located(warnings, lines, name, raw))


def _assemble(
    raw: dict[str, Any], problems: list[Problem], warnings: list[Problem], now_ns: int
) -> Catalog | None:
    unknown = [key for key in raw if key not in TOP]
    problems += [Problem((key,), f"{key}: no such table; {did_you_mean(key, TOP)}") for key in unknown]
    for key in TABLES:
        if not isinstance(raw.get(key, []), list):
            cure = f"write [[{key}]] with double brackets (in JSON a list)"
            problems.append(Problem((key,), f"{key}: is not a list of tables; {cure}"))
    parts = build(raw, problems)
    check(parts, raw, problems, warnings, now_ns)
    return None if problems else parts.catalog()


def _read(path: FilePath, name: str) -> str:
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise _single(
                name, 1, "the file is larger than 512 MiB; split the catalog or fill the database directly"
            )
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise _single(
            name, 1, f"cannot be read ({error.strerror}); check the path and its permissions"
        ) from error
    except UnicodeDecodeError as error:
        raise _single(name, 1, f"is not UTF-8 at byte {error.start}; save it as UTF-8") from error


def _single(name: str, line: int, text: str) -> CatalogError:
    return CatalogError((Found(name, line, text),))


def _parse(text: str, name: str, is_json: bool) -> tuple[Any, list[Problem]]:
    repeats = False

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal repeats
        found = dict(items)
        repeats |= len(found) != len(items)
        return found

    try:
        if not is_json:
            return tomllib.loads(text, parse_float=Decimal), []
        raw = json.loads(text, parse_float=Decimal, parse_constant=Decimal, object_pairs_hook=pairs)
    except tomllib.TOMLDecodeError as error:
        raise _single(
            name, _toml_line(text, str(error)), f"is not TOML: {error}; compare docs/catalog.md"
        ) from error
    except json.JSONDecodeError as error:
        raise _single(
            name, error.lineno, f"is not JSON: {error.msg} at column {error.colno}; mend it"
        ) from error
    except (RecursionError, ValueError, ArithmeticError) as error:
        raise _single(name, 1, f"cannot be parsed ({error}); look for absurd numbers or nesting") from error
    again = Lines(text, json=True).repeated if repeats else []
    return raw, [Problem(path, f"{path[-1]}: given twice; keep one of them") for path in again]


def _toml_line(text: str, message: str) -> int:
    found = re.search(r"at line (\d+)", message)
    return int(found[1]) if found else text.count("\n") + 1  # "(at end of document)"


def _located(problems: list[Problem], lines: Lines | None, name: str, raw: Any) -> tuple[Found, ...]:
    if lines is None:
        return ()
    found = [Found(name, lines.of(p.path), f"{_owner(p.path, raw)}{p.text}") for p in problems]
    return tuple(sorted(found, key=lambda each: (each.line, each.text)))


def _owner(path: Path, raw: Any) -> str:
    """``campaign "spring": `` of a path into the file."""
    if len(path) < 2 or path[0] not in TABLES:
        return ""
    try:
        name = raw[path[0]][path[1]]["id"]
    except (KeyError, TypeError, IndexError):
        return f"{path[0]} number {int(path[1]) + 1}: "
    return f"{path[0]} {shown(name)}: "
