from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from counterpoint.market.logs.ipinyou_raw import COLUMNS, ConvertReport, converted
from counterpoint.market.logs.table import LogError
from counterpoint.openrtb.request import decode_request
from tests.market.logs.synthetic import shared, write_csv

ROW = {
    "bidid": "49b5a58c",
    "timestamp": "20131021192300738",
    "logtype": "1",
    "ipinyouid": "C4NDR12~1B",
    "useragent": "Mozilla/5.0 (Windows NT 6.1)",
    "ip": "222.218.230.*",
    "region": "238",
    "city": "246",
    "adexchange": "1",
    "domain": "9a2acabb",
    "url": "19bbcb08",
    "slotid": "mm_12712107",
    "slotwidth": "300",
    "slotheight": "250",
    "slotvisibility": "FirstView",
    "slotprice": "31",
    "creative": "secretcreative",
    "bidprice": "294",
    "payprice": "201",
    "advertiser": "secretadvertiser",
    "usertag": '"10063,10006"',
}


def line(**changes: str) -> str:
    return ",".join({**ROW, **changes}[name] for name in COLUMNS)


def convert(path: Path, *lines: str) -> tuple[list[dict[str, Any]], ConvertReport]:
    report = ConvertReport(file=path.name)
    return list(converted(write_csv(path, list(lines), ",".join(COLUMNS)), report)), report


def test_a_line_becomes_a_request_that_is_read_as_any_other(tmp_path: Path) -> None:
    (record,), report = convert(tmp_path / "raw.csv", line())
    request = decode_request(msgspec.json.encode(record["body"]))
    assert (request.id, request.at, list(request.cur)) == ("49b5a58c", 2, ["CNY"])
    imp = request.imp[0]
    assert (imp.bidfloor, imp.bidfloorcur, imp.tagid) == (0.31, "CNY", "mm_12712107")
    assert imp.banner is not None
    assert (imp.banner.w, imp.banner.h, imp.banner.pos) == (300, 250, 1)
    assert request.site is not None
    assert request.site.domain == "9a2acabb"
    assert request.device is not None
    assert (request.device.ip, request.device.os, request.device.devicetype) == (
        "222.218.230.0",
        "Windows",
        2,
    )
    assert request.user is not None
    assert request.user.id == "C4NDR12~1B"
    body = record["body"]
    assert body["device"]["geo"] == {"country": "CHN", "utcoffset": 480, "region": "238", "city": "246"}
    assert [s["id"] for s in body["user"]["data"][0]["segment"]] == ["10063", "10006"]
    assert record["happened_at_ms"] == 1_382_354_580_738  # 19:23:00.738 at UTC+8
    assert record["outcome"]["market_price"] == 201
    assert (report.requests, report.clicks, report.sizes) == (1, 0, {"300x250": 1})


def test_the_request_holds_no_outcome(tmp_path: Path) -> None:
    (record,), _ = convert(tmp_path / "raw.csv", line(payprice="287", bidprice="293"))
    body = msgspec.json.encode(record["body"]).decode()
    for secret in ("287", "293", "secretcreative", "secretadvertiser", "click", "payprice"):
        assert secret not in body
    (other,), _ = convert(
        tmp_path / "other.csv", line(payprice="1", bidprice="2", creative="x", advertiser="y", logtype="2")
    )
    assert other["body"] == record["body"]
    assert other["outcome"]["click"] == 1


def test_what_is_unknown_is_left_out(tmp_path: Path) -> None:
    unknown = dict.fromkeys(
        ("ipinyouid", "useragent", "ip", "region", "city", "domain", "url", "usertag"), "null"
    )
    (record,), _ = convert(tmp_path / "raw.csv", line(slotvisibility="Na", slotid="null", **unknown))
    body = record["body"]
    assert "user" not in body
    assert body["device"] == {"geo": {"country": "CHN", "utcoffset": 480}}
    assert "domain" not in body["site"]
    assert "pos" not in body["imp"][0]["banner"]
    assert "tagid" not in body["imp"][0]
    decode_request(msgspec.json.encode(body))


@pytest.mark.parametrize(
    ("agent", "system"),
    [
        ("windows_ie", "Windows"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 7_0 like Mac OS X)", "iOS"),
        ("Mozilla/5.0 (Linux; Android 4.2)", "Android"),
        ("mac_safari", "macOS"),
        ("X11; Linux x86_64", "Linux"),
    ],
)
def test_systems(tmp_path: Path, agent: str, system: str) -> None:
    (record,), _ = convert(tmp_path / "raw.csv", line(useragent=agent))
    assert record["body"]["device"]["os"] == system


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"slotprice": "-5"}, "slotprice -5 is not in"),
        ({"payprice": "nan"}, "payprice is 'nan'"),
        ({"slotwidth": "wide"}, "slotwidth is 'wide'"),
        ({"timestamp": "2013-10-21"}, "timestamp '2013-10-21'"),
        ({"timestamp": "20131399192300738"}, "is not yyyyMMdd"),
        ({"bidid": ""}, "bidid is empty"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, changes: dict[str, str], problem: str) -> None:
    with pytest.raises(LogError, match=r"raw\.csv, row 2 \(line 3\): .*; mend or remove") as told:
        convert(tmp_path / "raw.csv", line(), line(**changes))
    assert problem in str(told.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="a header and no rows"):
        convert(tmp_path / "raw.csv")
    with pytest.raises(LogError, match="'counterpoint replay auctions' reads this file"):
        list(converted(write_csv(tmp_path / "t.csv", ["0,1,0.1,0,1"]), ConvertReport(file="t")))
    with pytest.raises(LogError, match="column 'bidid' is missing"):
        list(converted(write_csv(tmp_path / "u.csv", ["1,2"], "a,b"), ConvertReport(file="u")))


@pytest.mark.parametrize(
    ("name", "requests", "clicks"),
    [
        ("2259_log_1019_1022", 8_355, 5),
        ("2821_imp_20131021", 7_202, 0),
        ("2821_clk_20131021_allday", 442, 442),
    ],
)
def test_every_real_line_is_a_sound_request(name: str, requests: int, clicks: int) -> None:
    report = ConvertReport(file=name)
    for record in converted(shared("ipinyou_raw", f"{name}.csv.gz"), report):
        request = decode_request(msgspec.json.encode(record["body"]))
        assert request.imp[0].banner is not None
    assert (report.requests, report.clicks) == (requests, clicks)
