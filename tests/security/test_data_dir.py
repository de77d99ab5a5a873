"""What lies in the data directory is for its owner alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from counterpoint.app.config import DataDir, load_settings
from counterpoint.base.errors import ConfigError
from counterpoint.catalog.store import read_catalog, save_catalog
from counterpoint.record.recorder import Recorder
from tests.bidder.world import TOKEN, make_catalog
from tests.record.test_recorder import START, bid, delivery, won


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


@pytest.mark.parametrize("bidder_id", ["", "../../x", "a b.*>", "x" * 65, ".", "-"])
def test_a_bidder_id_is_no_path_and_no_pattern(tmp_path: Path, bidder_id: str) -> None:
    (tmp_path / "c.toml").write_text(f'[bidder]\nid = "{bidder_id}"\n')
    with pytest.raises(ConfigError, match="bidder"):
        load_settings(tmp_path / "c.toml")


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "bid.example", "https://x/'><script>", "https://x/?a=", ""]
)
def test_a_public_url_that_would_break_markup_or_notices_is_refused(tmp_path: Path, url: str) -> None:
    (tmp_path / "c.toml").write_text(f'[bidder]\npublic_url = "{url}"\n')
    with pytest.raises(ConfigError, match="public_url"):
        load_settings(tmp_path / "c.toml")


def test_urls_people_do_have_are_taken(tmp_path: Path) -> None:
    for url in ("https://bid.example.com", "http://[::1]:8080/", "https://x.example/counter-point_1"):
        (tmp_path / "c.toml").write_text(f'[bidder]\npublic_url = "{url}"\n')
        assert load_settings(tmp_path / "c.toml").public_url == url


@pytest.mark.parametrize("rubbish", [b"", b"\xff" * 300, b"\x91" * 100_000, b"\x81\xa8position\xa1x"])
def test_a_recorder_whose_state_is_broken_goes_on_and_writes_nothing_twice(
    tmp_path: Path, rubbish: bytes
) -> None:
    def make() -> Recorder:
        return Recorder(tmp_path / "decisions", tmp_path / "recorder.bin", 1.0)

    def hear(recorder: Recorder) -> None:
        recorder.on([delivery(1, bid(1), won(1)), delivery(2, bid(2), won(2))], START)
        recorder.flush(START)

    hear(make())
    (tmp_path / "recorder.bin").write_bytes(rubbish)
    (tmp_path / "decisions" / "000000000000001-torn.parquet").write_bytes(b"PAR1")
    again = make()
    assert again.position == 0
    hear(again)
    assert again.rows_written == 0
    assert (tmp_path / "recorder.broken").read_bytes() == rubbish
