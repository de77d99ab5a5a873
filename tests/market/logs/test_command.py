"""``counterpoint replay auctions`` and ``counterpoint convert ipinyou-raw`` as they are typed."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from counterpoint.app.cli import app
from counterpoint.base.errors import ConfigError
from counterpoint.market.logs.ipinyou_raw import COLUMNS
from counterpoint.market.logs.read import AuctionLog
from counterpoint.market.logs.run import ReplayReport
from counterpoint.market.logs.table import LogError
from tests.market.logs.synthetic import make_log, write_csv
from tests.market.logs.test_ipinyou_raw import line


def as_csv(log: AuctionLog, path: Path) -> Path:
    rows = [
        f"{c},{p},{q!r},{h},{e}"
        for c, p, q, h, e in zip(
            log.click.tolist(),
            log.market_price.tolist(),
            log.pctr.tolist(),
            log.time.tolist(),
            log.exchange.tolist(),
            strict=True,
        )
    ]
    return write_csv(path, rows)


def invoke(*words: str | Path) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception is not None:
        raise result.exception
    return result.output


def test_replay_auctions_writes_what_it_shows(tmp_path: Path) -> None:
    first = as_csv(make_log(2_000, seed=1), tmp_path / "a.csv.gz")
    second = as_csv(make_log(2_000, seed=2), tmp_path / "b.csv")
    out = tmp_path / "out.json"
    words = (
        "replay",
        "auctions",
        first,
        second,
        "--auction",
        "first",
        "--budget-fraction",
        "1/4",
        "--json",
        out,
    )
    shown = invoke(*words, "--policy", "constant", "--policy", "linear-hindsight", "--feedback", "binary")
    told = msgspec.json.decode(out.read_bytes(), type=ReplayReport)
    assert [file.file for file in told.files] == ["a", "b"]
    assert [r.policy for r in told.files[0].policies] == ["constant", "linear-hindsight"]
    assert all(r.overspend_milli_fen == 0 for file in told.files for r in file.policies)
    assert told.files[0].budget_milli_fen == told.files[0].cost_of_everything_milli_fen // 4
    assert "COUNTERFACTUAL" in shown
    assert "truncated" in shown
    assert "looks ahead" in shown
    assert "all 2 files" in shown
    assert max(len(text) for text in shown.splitlines()) <= 80


def test_the_same_command_writes_the_same_bytes(tmp_path: Path) -> None:
    log = as_csv(make_log(2_000), tmp_path / "a.csv")
    words = ("replay", "auctions", log, "--policy", "random", "--policy", "counterpoint", "--feedback", "win")
    for name in ("one.json", "two.json"):
        invoke(*words, "--seed", "5", "--json", tmp_path / name)
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    invoke(*words, "--seed", "6", "--json", tmp_path / "three.json")
    assert (tmp_path / "one.json").read_bytes() != (tmp_path / "three.json").read_bytes()


@pytest.mark.parametrize(("rows", "sure"), [(2_000, False), (20_000, True)])
def test_an_interval_needs_ten_blocks(tmp_path: Path, rows: int, sure: bool) -> None:
    log, out = as_csv(make_log(rows), tmp_path / "a.csv"), tmp_path / "out.json"
    shown = invoke("replay", "auctions", log, "--policy", "constant,linear", "--json", out)
    told = msgspec.json.decode(out.read_bytes(), type=ReplayReport)
    assert told.files[0].blocks == rows // 2_000
    (compared,) = told.files[0].comparisons
    assert compared.value_gain.value is not None
    assert (compared.value_gain.low is not None) == sure
    value = next(text for text in shown.splitlines() if " value " in text and "%" in text)
    assert ("[too few]" in value) != sure


def test_left_out_means_second_price_a_sixteenth_constant_and_linear(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    invoke("replay", "auctions", as_csv(make_log(2_000), tmp_path / "a.csv"), "--json", out)
    settings = msgspec.json.decode(out.read_bytes(), type=ReplayReport).settings
    assert (settings.auction.value, settings.budget_fraction, settings.feedback.value) == (
        "second",
        "1/16",
        "full",
    )
    assert settings.policies == ("constant", "linear")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--budget-fraction", "2"), "budget fraction 2 is not in"),
        (("--train-fraction", "half"), "train fraction 'half' is no number"),
        (("--policy", "magic"), "no replay policy 'magic'"),
        (("--policy", "constant,liner"), "did you mean 'linear'"),
    ],
)
def test_words_that_make_no_sense(tmp_path: Path, words: tuple[str, ...], problem: str) -> None:
    path = as_csv(make_log(100), tmp_path / "a.csv")
    with pytest.raises(ConfigError, match=problem):
        invoke("replay", "auctions", path, *words)


@pytest.mark.parametrize("words", [("--resamples", "20"), ("--bid-max", "0"), ("--pctr-cap", "2")])
def test_a_setting_that_makes_no_sense_is_said_before_a_file_is_read(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    with pytest.raises(ConfigError):  # and not that there is no file
        invoke("replay", "auctions", tmp_path / "nowhere.csv", *words)


def test_a_bad_file_writes_nothing(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "bad.csv", ["0,-1,0.1,0,1"])
    with pytest.raises(LogError, match="row 1"):
        invoke("replay", "auctions", path, "--json", tmp_path / "out.json")
    assert not (tmp_path / "out.json").exists()


def test_convert_writes_lines_that_replay_openrtb_reads(tmp_path: Path) -> None:
    from counterpoint.app.replay import records

    raw = write_csv(tmp_path / "raw.csv", [line(), line(bidid="two")], ",".join(COLUMNS))
    out = tmp_path / "out.jsonl"
    shown = invoke("convert", "ipinyou-raw", raw, "--out", out)
    assert "300x250" in shown
    bodies = [body for body, _ in records(out)]
    assert [body["id"] for body in bodies if body is not None] == ["49b5a58c", "two"]


def test_a_conversion_that_fails_leaves_no_file(tmp_path: Path) -> None:
    raw = write_csv(tmp_path / "raw.csv", [line(), line(slotprice="-1")], ",".join(COLUMNS))
    with pytest.raises(LogError, match="row 2"):
        invoke("convert", "ipinyou-raw", raw, "--out", tmp_path / "out.jsonl")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw.csv"]
    with pytest.raises(ConfigError, match="is the file to be read"):
        invoke("convert", "ipinyou-raw", raw, "--out", raw)
    with pytest.raises(ConfigError, match="cannot be written"):
        invoke("convert", "ipinyou-raw", raw, "--out", tmp_path / "nowhere" / "out.jsonl")
