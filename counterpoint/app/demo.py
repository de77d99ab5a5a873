"""The demo's configuration: written once into ./var, from the catalog in examples/."""

from __future__ import annotations

import shutil
from pathlib import Path

import counterpoint
from counterpoint.base.errors import ConfigError

EXAMPLES = Path(counterpoint.__file__).resolve().parents[1] / "examples" / "catalogs"

_CONFIG = """\
# Written by 'counterpoint up --demo'. Yours to edit: it is not written again. Every key: docs/configuration.md.
catalog = "catalog.toml"
data_dir = "."

[experiment]
name = "demo"
salt = "demo"
no_agents = 0.05

[budget]
period_s = 10  # moves money six times as often as by default: the demo is watched for minutes, not days
"""


def example_catalog(name: str) -> Path:
    """Raises :class:`ConfigError` where the package was installed without its examples."""
    path = EXAMPLES / f"{name}.toml"
    if not path.is_file():
        raise ConfigError(
            f"{path}: not there. Run from a clone of the project, or name a catalog of your own"
        )
    return path


def write_demo_config(folder: Path) -> Path:
    """``folder/var/demo.toml`` and its catalog; what is there already stays as it is."""
    var = folder / "var"
    config, catalog = var / "demo.toml", var / "catalog.toml"
    var.mkdir(parents=True, exist_ok=True)
    if not catalog.exists():
        shutil.copyfile(example_catalog("demo"), catalog)
    if not config.exists():
        config.write_text(_CONFIG, "utf-8")
    return config
