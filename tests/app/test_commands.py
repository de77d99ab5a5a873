"""What every command that takes long owes: paths tried first, one line on Ctrl-C, tables as wide as asked."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from counterpoint.app.cli import app
from counterpoint.app.options import stoppable, writable
from counterpoint.base.errors import ConfigError, Stopped

BOARD = ("bench", "market", "--scenario", "thin-market-v1", "--policies", "manual")
COMMANDS = (
    (*BOARD, "--json"),
    (*BOARD, "--html"),
    (*BOARD, "--keep"),
    ("bench", "parity", "--json"),
    ("bench", "bidding", "--json"),
    ("bench", "budget", "--json"),
    ("bench", "money", "--json"),
    ("bench", "latency", "--json"),
    ("bench", "delivery", "--json"),
    ("train", "budget", "--out"),
    ("train", "budget", "--out", "/dev/null", "--report"),
    ("market", "play", "thin-market-v1", "--json"),
    ("market", "play", "thin-market-v1", "--log"),
    ("market", "exchange", "thin-market-v1", "--json"),
    ("replay", "auctions", "nothing.csv", "--json"),
    ("replay", "openrtb", __file__, "--json"),
)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_path_that_cannot_be_written_is_said_before_any_work(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    done = CliRunner().invoke(app, [*words, str(tmp_path / "nowhere" / "x")])
    assert isinstance(done.exception, ConfigError)
    assert "there is no folder" in str(done.exception)


def test_trying_a_path_leaves_it_as_it_was(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_text("x")
    writable(kept, tmp_path / "new", None, Path("/dev/null"))
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert kept.read_text() == "x"
    with pytest.raises(ConfigError, match="is a folder"):
        writable(tmp_path)


def test_ctrl_c_is_an_error_that_says_what_is_done() -> None:
    with pytest.raises(Stopped, match="3 of 4"), stoppable(lambda: "3 of 4"):
        raise KeyboardInterrupt


def _counterpoint(folder: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "counterpoint.app.cli", *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "TMPDIR": str(folder)},
    )


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_ctrl_c_keeps_the_seeds_that_are_done(jobs: str, tmp_path: Path) -> None:
    keep = tmp_path / "keep.jsonl"
    running = _counterpoint(
        tmp_path, *BOARD, "--auctions", "2000", "--seeds", "0-9999", "--jobs", jobs, "--keep", str(keep)
    )
    until = time.monotonic() + 60.0
    while not (keep.exists() and keep.read_bytes().count(b"\n") >= 2):
        assert running.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    out, told = running.communicate(timeout=60.0)
    assert running.returncode == 130
    done = keep.read_bytes().count(b"\n")
    last = told.splitlines()[-1]
    assert (
        last == f"stopped: {done} of 10000 seeds done; they are kept in {keep}, and the same command goes on"
    )
    assert "Traceback" not in told
    assert not out
    assert keep.read_bytes().endswith(b"\n")


def test_a_money_bench_that_is_stopped_has_not_passed(tmp_path: Path) -> None:
    out = tmp_path / "money.json"
    running = _counterpoint(
        tmp_path,
        "bench",
        "money",
        "--parts",
        "simulation,kills",
        "--operations",
        "3000000",
        "--json",
        str(out),
    )
    until = time.monotonic() + 60.0
    while not [*tmp_path.glob("*/ledger.db")]:
        assert running.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)
    time.sleep(0.5)
    running.send_signal(signal.SIGINT)
    said, _ = running.communicate(timeout=120.0)
    assert running.returncode == 130
    report = json.loads(out.read_text())
    done = report["simulation"]["operations"]
    assert said.splitlines()[-1] == (
        f"stopped after {done:,} of 3,000,000 operations, 0 of 100 kills; what ran held"
    )
    assert report["stopped"] is True
    assert report["asked"]["operations"] == 3_000_000


def test_an_error_stands_alone_and_tables_are_as_wide_as_columns_says(tmp_path: Path) -> None:
    running = _counterpoint(tmp_path, "replay", "auctions", "nowhere.csv")
    out, told = running.communicate(timeout=60.0)
    assert running.returncode == 2
    assert not out
    assert told.startswith("error: ")
    assert told.count("\n") == 1
    done = CliRunner().invoke(app, ["market", "list"], env={"COLUMNS": "90"})
    assert max(len(line) for line in done.output.splitlines()) == 90
