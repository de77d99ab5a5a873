from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from counterpoint.market.logs.read import EPISODES, TIMED, read_log, read_logs
from counterpoint.market.logs.table import LogError
from tests.market.logs.synthetic import shared, write_csv

GOOD = ["0,51,0.0001,0,1", "1,87,0.5,0,2", "0,0,0,3,"]


@pytest.mark.parametrize("name", ["log.csv", "log.csv.gz"])
def test_plain_and_gzipped_read_alike(tmp_path: Path, name: str) -> None:
    log = read_log(write_csv(tmp_path / name, GOOD))
    assert (log.name, log.kind, len(log)) == ("log", TIMED, 3)
    assert log.market_price.tolist() == [51, 87, 0]
    assert log.click.tolist() == [0, 1, 0]
    assert log.pctr.tolist() == [0.0001, 0.5, 0.0]
    assert log.time.tolist() == [0, 0, 3]
    assert log.exchange.tolist() == [1, 2, 0]


def test_episodes_without_exchange(tmp_path: Path) -> None:
    log = read_log(
        write_csv(tmp_path / "e.csv", ["1,0,201,0.01", "2,0,36,0.02"], "episode,click,market_price,pctr")
    )
    assert (log.kind, log.time.tolist(), log.exchange.tolist()) == (EPISODES, [1, 2], [0, 0])


def test_gzip_is_told_by_its_bytes_not_its_name(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(write_csv(tmp_path / "other.csv.gz", GOOD).read_bytes())
    assert len(read_log(path)) == 3


@pytest.mark.parametrize(
    ("rows", "row", "problem"),
    [
        (["0,51,0.1,0,1", "0,-3,0.1,0,1"], 2, "market_price -3 is negative"),
        (["0,nan,0.1,0,1"], 1, "market_price is 'nan', not an integer"),
        (["0,51.5,0.1,0,1"], 1, "whole fen per 1,000"),
        (["0,,0.1,0,1"], 1, "market_price is '', not an integer"),
        (["0,1000001,0.1,0,1"], 1, "market_price 1000001 is above"),
        (["0,99999999999999999999,0.1,0,1"], 1, "not an integer"),
        (["0,51,0.1,0,1", "0,51,1.5,0,1"], 2, "pctr 1.5 is not in [0, 1]"),
        (["0,51,-0.1,0,1"], 1, "pctr -0.1 is not in [0, 1]"),
        (["0,51,nan,0,1"], 1, "pctr nan is not in [0, 1]"),
        (["0,51,high,0,1"], 1, "pctr is 'high', not a number"),
        (["0,51,0.1,0,1", "0,1_0,0.1,0,1"], 2, "market_price is '1_0', not an integer"),
        (["0,٥١,0.1,0,1"], 1, "not an integer"),
        (["0,51\0,0.1,0,1"], 1, "not an integer"),
        (["0,+51,0.1,0,1"], 1, "market_price is '+51', not an integer"),
        (["0, 51,0.1,0,1"], 1, "market_price is ' 51', not an integer"),
        (["0,51,0.1,1-2,1"], 1, "hour is '1-2', not an integer"),
        (["0,51,0.1,0,1", f"0,{'0' * 60_000},0.1,0,1"], 2, "not an integer"),
        (["0,51,0.1_0,0,1"], 1, "pctr is '0.1_0', not a number"),
        (["0,51,0.١,0,1"], 1, "not a number"),
        (["0,51,0.1\0,0,1"], 1, "not a number"),
        (["2,51,0.1,0,1"], 1, "click 2 is above 1"),
        (["0,51,0.1,4,1", "0,51,0.1,5,1", "0,51,0.1,3,1"], 3, "hour 3 after 5: not in order of time; sort"),
        (["0,51,0.1,0,1", "0,51,0.1"], 2, "3 values, the header names 5"),
        (["0,51,0.1,0,1", "0,51,0.1,0,1,7"], 2, "6 values, the header names 5"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, rows: list[str], row: int, problem: str) -> None:
    path = write_csv(tmp_path / "bad.csv", rows)
    with pytest.raises(LogError) as told:
        read_log(path)
    assert f"{path}, row {row} (line {row + 1}): " in str(told.value)
    assert problem in str(told.value)
    assert "; " in str(told.value)  # a cure follows


def test_a_bad_row_is_counted_over_chunks(tmp_path: Path) -> None:
    rows = ["0,51,0.1,0,1"] * 20_000 + ["0,51,0.1,1,1"] * 4 + ["0,51,0.1,0,1"]
    with pytest.raises(LogError, match=r"row 20005 .*hour 0 after 1"):
        read_log(write_csv(tmp_path / "long.csv.gz", rows))
    rows = ["0,51,0.1,7,1"] * 20_000 + ["0,51,0.1,6,1"]
    with pytest.raises(LogError, match=r"row 20001 .*hour 6 after 7"):
        read_log(write_csv(tmp_path / "edge.csv.gz", rows))


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        ("click,price,pctr,hour,exchange", "column 'market_price' is missing"),
        ("click,market_price,p,hour,exchange", "column 'pctr' is missing"),
        ("klick,market_price,pctr,hour,exchange", "column 'click' is missing"),
        ("click,market_price,pctr,when,exchange", "neither column 'hour' nor 'episode'"),
        ("click,market_price,pctr,hour,episode", "both 'hour' and 'episode'"),
        ("click,market_price,pctr,hour,hour", "column 'hour' is there twice"),
        ("0,51,0.1,0,1", "numbers where the header should be"),
        ("bidid,payprice,slotprice,hour,url", "convert ipinyou-raw"),
    ],
)
def test_a_wrong_header_is_named(tmp_path: Path, header: str, problem: str) -> None:
    path = write_csv(tmp_path / "header.csv", GOOD, header)
    with pytest.raises(LogError) as told:
        read_log(path)
    assert str(path) in str(told.value)
    assert problem in str(told.value)


def test_an_endless_header_is_refused_at_once(tmp_path: Path) -> None:
    start = "click,market_price,pctr,hour"
    for header, problem in (
        (start + ",x" * 10_000, "line 1: 10,004 columns, more than 1,000"),
        (start + ",x" * 10**6, "line 1: longer than 100,000 characters"),
        ('"click\n"' + ',"x\n"' * 2_000, "line 1: 2,001 columns"),
    ):
        with pytest.raises(LogError, match=problem):
            read_log(write_csv(tmp_path / "wide.csv", GOOD, header))


def test_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "empty.csv"
    path.write_bytes(b"")
    with pytest.raises(LogError, match="is empty"):
        read_log(path)
    path.write_bytes(gzip.compress(b""))
    with pytest.raises(LogError, match="is empty"):
        read_log(path)
    with pytest.raises(LogError, match="a header and no rows"):
        read_log(write_csv(path, []))


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="no such file"):
        read_log(tmp_path / "nowhere.csv")
    with pytest.raises(LogError, match="cannot be read"):
        read_log(tmp_path)


def test_a_truncated_gzip_names_the_row_it_came_to(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    rows = [f"0,{p},{p / 1e6},0,1" for p in generator.integers(0, 300, 30_000)]
    path = write_csv(tmp_path / "cut.csv.gz", rows)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(LogError, match=r"cut\.csv\.gz, row \d{4,} .*ends too early; copy or download"):
        read_log(path)
    path.write_bytes(whole[:12])  # inside the gzip header's first block
    with pytest.raises(LogError, match=r"cut\.csv\.gz, row 1 .*ends too early"):
        read_log(path)


def test_a_corrupt_gzip(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    rows = [f"0,{p},{p / 1e6},0,1" for p in generator.integers(0, 300, 5_000)]
    path = write_csv(tmp_path / "bad.csv.gz", rows)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 40] = bytes(40)
    path.write_bytes(bytes(data))
    with pytest.raises(LogError) as told:
        read_log(path)
    assert str(path) in str(told.value)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "image.csv"
    path.write_bytes(b"click,market_price,pctr,hour\n" + bytes(range(128, 256)))
    with pytest.raises(LogError, match="not UTF-8 text"):
        read_log(path)


def test_files_that_do_not_go_together(tmp_path: Path) -> None:
    timed = write_csv(tmp_path / "t.csv", GOOD)
    episodes = write_csv(tmp_path / "e.csv", ["1,0,201,0.01"], "episode,click,market_price,pctr")
    with pytest.raises(LogError, match="separate runs"):
        read_logs([timed, episodes])
    with pytest.raises(LogError, match="given twice"):
        read_logs([timed, tmp_path / "." / "t.csv"])
    assert [log.name for log in read_logs([timed])] == ["t"]


def test_the_real_logs_read_whole() -> None:
    timed = read_log(shared("ipinyou_timed", "1458_first220k.csv.gz"))
    assert (len(timed), timed.kind, int(timed.click.sum())) == (220_000, TIMED, 156)
    assert int(timed.market_price.max()) == 300
    assert set(timed.exchange[-20_000:].tolist()) == {0}
    episodes = read_log(shared("ipinyou_episodes", "2997_episodes.csv.gz"))
    assert (len(episodes), episodes.kind) == (100_000, EPISODES)
