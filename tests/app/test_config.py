"""A configuration file that cannot be used says where, and what was probably meant."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from counterpoint.app.config import load_settings
from counterpoint.base.errors import ConfigError

EXAMPLE = Path(__file__).parents[2] / "examples" / "config.toml"


def _loaded(tmp_path: Path, text: str) -> str:
    path = tmp_path / "counterpoint.toml"
    path.write_text(text, "utf-8")
    return load_settings(path).ledger_url


def test_unknown_keys_are_told_at_once_with_line_and_what_was_meant(tmp_path: Path) -> None:
    text = 'catalogue = "c.toml"\n\n[bidder]\nprot = 1\n\n[recoder]\nkeep_days = 3\n[bus]\nxyzzy = 1\n'
    with pytest.raises(ConfigError) as caught:
        _loaded(tmp_path, text)
    said = str(caught.value).splitlines()[1:]
    path = tmp_path / "counterpoint.toml"
    assert said == [
        f"  {path}:1: unknown key `catalogue`; did you mean 'catalog'?",
        f"  {path}:4: unknown key `prot` in [bidder]; did you mean 'port'?",
        f"  {path}:6: unknown key `recoder`; did you mean 'recorder'?",
        f"  {path}:9: unknown key `xyzzy` in [bus]; there are: url, credentials",
    ]


def test_a_wrong_value_is_told_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"counterpoint\.toml:3: Expected `int` <= 65535"):
        _loaded(tmp_path, "\n[bidder]\nport = 99999\n")


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_every_spelling_of_postgresql_means_the_driver_we_use(
    tmp_path: Path, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f'[ledger]\nurl = "{scheme}://me@host/books"\n'
    monkeypatch.setitem(sys.modules, "psycopg", sys)  # any module: it is there
    assert _loaded(tmp_path, text) == "postgresql+psycopg://me@host/books"
    monkeypatch.setitem(sys.modules, "psycopg", None)  # as if it were not installed
    with pytest.raises(ConfigError, match=r"pip install 'counterpoint\[postgres\]'"):
        _loaded(tmp_path, text)


def test_the_example_is_sound_and_keeps_away_from_the_demo() -> None:
    settings = load_settings(EXAMPLE)
    assert settings.catalog_path.is_file()
    demo = Path(__file__).parents[2] / "var"
    assert demo not in (settings.data.root, *settings.data.root.parents)
