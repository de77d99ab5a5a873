"""What lies in the data directory is for its owner alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from counterpoint.app.config import DataDir, load_settings
from counterpoint.base.errors import ConfigError
from counterpoint.catalog.store import read_catalog, save_catalog
from tests.bidder.world import TOKEN, make_catalog


@pytest.mark.parametrize("there_already", [False, True])
def test_nobody_else_reads_the_conversion_tokens(tmp_path: Path, there_already: bool) -> None:
    (tmp_path / "c.toml").write_text("")
    if there_already:
        (tmp_path / "var").mkdir(mode=0o755)
    before = os.umask(0o022)
    try:
        settings = load_settings(tmp_path / "c.toml")
        data = settings.data.make()
        save_catalog(settings.catalog_url, make_catalog())
    finally:
        os.umask(before)
    assert TOKEN in {a.conversion_token for a in read_catalog(settings.catalog_url).advertisers}
    for path in data.root.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    assert there_already or stat.S_IMODE(data.root.stat().st_mode) == 0o700


@pytest.mark.parametrize("at", ["var", "var/secrets", "var/logs"])
def test_a_data_directory_that_cannot_be_made_is_said_with_a_cure(tmp_path: Path, at: str) -> None:
    """A file where a folder belongs."""
    wrong = tmp_path / at
    wrong.parent.mkdir(parents=True, exist_ok=True)
    wrong.write_text("")
    with pytest.raises(ConfigError, match="folder that it may write to"):
        DataDir(tmp_path / "var").make()
