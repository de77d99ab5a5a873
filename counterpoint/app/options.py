"""What several commands of the command line share: options, the system they mean, how results are written."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from counterpoint.app.config import Settings, load_settings
from counterpoint.base.errors import ConfigError

WIDTH_OF_FILES = 120  # of tables where there is no terminal to say how wide

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="Configuration file (TOML). Left out: the demo's, in ./var.")
]
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
        path.write_bytes(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")
