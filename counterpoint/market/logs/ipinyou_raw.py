"""Raw iPinYou log lines as OpenRTB 2.6 bid requests, and beside each what became of the auction.

One record per line: ``body`` is the request, as a bidder may see it; ``outcome`` holds what was known only afterwards
(click, price paid) and what another bidder did (its bid, creative, advertiser); ``happened_at_ms`` the time, which a
request has no field for. Prices in the log are fen per 1,000 impressions; ``bidfloor`` is CNY per 1,000.

What is masked stays masked. The last part of the address becomes 0, as in a truncated address; domain and page are
the log's hashes; region and city are iPinYou's own numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from msgspec import Struct

from counterpoint.market.logs.table import INTEGER, LogError, Table, at_row

COLUMNS = (
    "bidid",
    "timestamp",
    "logtype",
    "ipinyouid",
    "useragent",
    "ip",
    "region",
    "city",
    "adexchange",
    "domain",
    "url",
    "slotid",
    "slotwidth",
    "slotheight",
    "slotvisibility",
    "slotprice",
    "creative",
    "bidprice",
    "payprice",
    "advertiser",
    "usertag",
)
CHINA = timezone(timedelta(hours=8))  # the log's clock
UTC_OFFSET_MINUTES = 480
CLICK_LOG = 2  # logtype: 1 impressions, 2 clicks
PLACES = {
    "FirstView": 1,
    "SecondView": 3,
    "ThirdView": 3,
    "FourthView": 3,
}  # AdCOM Placement Positions; else unknown
SYSTEMS = (  # the first that the user agent names: an iPhone names a Mac too, an Android a Linux
    ("android", "Android"),
    ("iphone", "iOS"),
    ("ipad", "iOS"),
    ("ios", "iOS"),
    ("windows", "Windows"),
    ("mac", "macOS"),
    ("linux", "Linux"),
)
MOBILE = ("Android", "iOS")
SIZE_MAX = 10_000
PRICE_MAX = 1_000_000
DIGITS_MAX = 20
SEGMENTS_MAX = 200


class ConvertReport(Struct, kw_only=True):
    file: str
    requests: int = 0
    clicks: int = 0
    repeated_ids: int = 0
    sizes: dict[str, int] = {}


def converted(path: Path, report: ConvertReport) -> Iterator[dict[str, Any]]:
    """Records in the order of the file, counted into ``report``. Raises :class:`LogError`."""
    table = Table(path)
    if "market_price" in table.header:
        raise LogError(
            f"{path}, line 1: not raw log lines; 'counterpoint replay auctions' reads this file as it is"
        )
    at = {name: table.column(name) for name in COLUMNS}
    click_at = table.header.index("click") if "click" in table.header else None
    sizes: Counter[str] = Counter()
    ids: set[str] = set()
    for row, cells in enumerate(table.rows(), 1):
        line = _Line(path, row, {name: cells[i].strip() for name, i in at.items()})
        click = line.logtype() == CLICK_LOG
        if click_at is not None:
            click = line.number("click", 1, cells[click_at]) == 1
        record = {
            "body": line.request(),
            "outcome": line.outcome(click),
            "happened_at_ms": line.milliseconds(),
            "source": {"file": path.name, "row": row},
        }
        report.requests += 1
        report.clicks += click
        report.repeated_ids += line.cell["bidid"] in ids
        ids.add(line.cell["bidid"])
        sizes[f"{line.cell['slotwidth']}x{line.cell['slotheight']}"] += 1
        yield record
    if report.requests == 0:
        raise LogError(f"{path}: a header and no rows; give a file with log lines in it")
    report.sizes = dict(sizes)


class _Line:
    """One row, by column name."""

    def __init__(self, path: Path, row: int, cell: dict[str, str]) -> None:
        self.path, self.row, self.cell = path, row, cell

    def known(self, name: str) -> str | None:
        text = self.cell[name]
        return None if text in ("", "null", "Na") else text

    def number(self, name: str, highest: int, text: str | None = None) -> int:
        text = self.cell[name] if text is None else text
        if len(text) > DIGITS_MAX or not INTEGER.fullmatch(text):
            raise at_row(
                self.path, self.row, f"{name} is {text[:100]!r}, not an integer", "mend or remove the row"
            )
        value = int(text)
        if not 0 <= value <= highest:
            raise at_row(
                self.path, self.row, f"{name} {value} is not in 0..{highest}", "mend or remove the row"
            )
        return value

    def logtype(self) -> int:
        return self.number("logtype", 9)

    def milliseconds(self) -> int:
        text = self.cell["timestamp"]
        try:
            if len(text) != 17:
                raise ValueError
            when = datetime.strptime(text[:14], "%Y%m%d%H%M%S").replace(tzinfo=CHINA)
            return int(when.timestamp()) * 1_000 + int(text[14:])
        except ValueError:
            raise at_row(
                self.path, self.row, f"timestamp {text!r} is not yyyyMMddHHmmssSSS", "mend or remove the row"
            ) from None

    def request(self) -> dict[str, Any]:
        width, height = self.number("slotwidth", SIZE_MAX), self.number("slotheight", SIZE_MAX)
        if not self.cell["bidid"]:
            raise at_row(self.path, self.row, "bidid is empty", "mend or remove the row")
        banner: dict[str, Any] = {"w": width, "h": height, "format": [{"w": width, "h": height}]}
        place = PLACES.get(self.cell["slotvisibility"])
        if place is not None:
            banner["pos"] = place
        floor_fen = self.number("slotprice", PRICE_MAX)
        imp: dict[str, Any] = {
            "id": "1",
            "banner": banner,
            "bidfloor": floor_fen / 100,
            "bidfloorcur": "CNY",
            "secure": 0,
        }
        if slot := self.known("slotid"):
            imp["tagid"] = slot
        site: dict[str, Any] = {"ext": {"ipinyou_exchange": self.number("adexchange", 99)}}
        if domain := self.known("domain"):
            site |= {"id": domain, "domain": domain}
        if page := self.known("url"):
            site["ext"]["ipinyou_page"] = page
        request: dict[str, Any] = {
            "id": self.cell["bidid"],
            "at": 2,
            "cur": ["CNY"],
            "imp": [imp],
            "site": site,
            "device": self._device(),
        }
        if user := self._user():
            request["user"] = user
        return request

    def _device(self) -> dict[str, Any]:
        agent = self.known("useragent")
        geo: dict[str, Any] = {"country": "CHN", "utcoffset": UTC_OFFSET_MINUTES}
        for name in ("region", "city"):
            if number := self.known(name):
                geo[name] = number
        device: dict[str, Any] = {"geo": geo}
        if agent:
            device["ua"] = agent
            lowered = agent.lower()
            system = next((name for sign, name in SYSTEMS if sign in lowered), None)
            if system:
                device["os"] = system
                device["devicetype"] = (
                    1 if system in MOBILE else 2
                )  # AdCOM: mobile or tablet, personal computer
        if address := self.known("ip"):
            device["ip"] = address.replace("*", "0")
        return device

    def _user(self) -> dict[str, Any]:
        user: dict[str, Any] = {}
        if known := self.known("ipinyouid"):
            user["id"] = known
        if tags := self.known("usertag"):
            segments = [{"id": tag} for tag in tags.split(",")[:SEGMENTS_MAX] if tag]
            user["data"] = [{"id": "ipinyou", "name": "iPinYou user tags", "segment": segments}]
        return user

    def outcome(self, click: bool) -> dict[str, Any]:
        return {
            "unit": "fen per 1,000 impressions",
            "click": int(click),
            "market_price": self.number("payprice", PRICE_MAX),
            "logged_bid": self.number("bidprice", PRICE_MAX),
            "logged_creative": self.known("creative"),
            "logged_advertiser": self.known("advertiser"),
        }
