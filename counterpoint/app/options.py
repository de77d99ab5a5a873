"""What several commands of the command line share: options, the system they mean, how results are written."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from counterpoint.app.config import Settings, load_settings
from counterpoint.base.errors import ConfigError, Stopped
from counterpoint.base.plain import columns, stacked

WIDTH_OF_FILES = 120  # of tables where there is no terminal to say how wide

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="Configuration file (TOML). Left out: the demo's, in ./var.")
]
# what people and files say is shown as it is: brackets are no markup, paths are not wrapped
console = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)
JsonOption = Annotated[Path | None, typer.Option("--json", help="Write the result as JSON to this file.")]


def settings_of(config: Path | None) -> Settings:
    """Of a system that is there: a stop written beside nothing would be obeyed by nobody."""
    path = config or Path.cwd() / "var" / "demo.toml"
    if config is None and not path.is_file():
        raise ConfigError(
            f"there is no {path}: run this where 'counterpoint up --demo' runs, or name the system's file with --config FILE"
        )
    return load_settings(path.resolve())


def write_json(path: Path | None, value: object) -> None:
    if path is not None:
        write_out(path, msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")


def write_out(path: Path, raw: bytes) -> None:
    """Raises :class:`ConfigError`: a disk can be full after :func:`writable` said yes."""
    try:
        path.write_bytes(raw)
    except OSError as error:
        raise ConfigError(_not_written(path, error)) from error


def writable(*paths: Path | None) -> None:
    """Tried before the work whose result goes there. Raises :class:`ConfigError`; None: nothing is to be written."""
    for path in paths:
        if path is None:
            continue
        if path.is_dir():
            raise ConfigError(f"{path}: is a folder; name a file in it")
        if not path.parent.is_dir():
            raise ConfigError(f"{path}: there is no folder {path.parent}; make it, or name another file")
        there = path.exists()
        if there and not path.is_file():
            continue  # a pipe or a terminal: nothing can be tried without being read
        try:
            with path.open("ab"):
                pass
            if not there:
                path.unlink()
        except OSError as error:
            raise ConfigError(_not_written(path, error)) from error


def _not_written(path: Path, error: OSError) -> str:
    return f"{path}: cannot be written ({error.strerror}); name another file"


def writable_folder(*paths: Path | None) -> None:
    """Made where it is not there. Raises :class:`ConfigError`."""
    for path in paths:
        if path is not None:
            try:
                path.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ConfigError(
                    f"{path}: cannot be a folder ({error.strerror}); name another folder"
                ) from error


def tables_on(width: int = WIDTH_OF_FILES) -> Console:
    """Standard output: as wide as its terminal or COLUMNS say, ``width`` where neither does."""
    told = os.environ.get("COLUMNS", "").isdigit()
    out = Console(markup=False, highlight=False)
    return out if out.is_terminal or told else Console(width=width, markup=False, highlight=False)


def print_columns(title: str, rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> None:
    """Ids and amounts whole, the head first: in columns, below each other on a terminal that is too narrow for them."""
    out = Console(markup=False, highlight=False, soft_wrap=True)
    lines = columns(rows, right)
    if out.is_terminal and max(map(len, lines)) > out.width:
        lines = stacked(rows, out.width)
    out.print("\n".join([*([title] if title else []), *lines]))


def bar(counts: bool = False) -> Progress:
    columns = [TextColumn("{task.description}", markup=False), BarColumn()]
    if counts:
        columns.append(MofNCompleteColumn())
    return Progress(*columns, TimeElapsedColumn(), console=console)


@contextmanager
def shown_while(progress: Progress) -> Iterator[Progress]:
    """The bar; gone where an error is to be read instead."""
    progress.start()
    with ExitStack() as broken_off:
        broken_off.callback(_take_away, progress)
        yield progress
        broken_off.pop_all()
    progress.stop()


def _take_away(progress: Progress) -> None:
    progress.live.transient = True
    progress.live.stop()  # progress.stop() would leave an empty line in a file


@contextmanager
def stoppable(told: Callable[[], str] = lambda: "nothing is written") -> Iterator[None]:
    """Ctrl-C becomes :class:`Stopped`, one line and exit code 130; ``told`` says what is done and kept."""
    try:
        yield
    except KeyboardInterrupt:
        raise Stopped(told()) from None
