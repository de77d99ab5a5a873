"""``counterpoint up`` as a person meets it: written by the documentation, started, stopped by Ctrl-C, started again;
refused with one line that says what to do where it cannot run."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import sys
import tomllib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import counterpoint
from counterpoint.app.config import load_settings
from counterpoint.app.demo import example_catalog
from counterpoint.base.http_client import HttpClient
from tests.app.world import Books, free_port, money_problems, read_books, write_world

pytestmark = pytest.mark.xdist_group("system")

DOCUMENT = Path(counterpoint.__file__).resolve().parents[1] / "docs" / "configuration.md"


async def _command(folder: Path, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "counterpoint.app.cli", *arguments),
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def _said(folder: Path, *arguments: str) -> tuple[int, str]:
    process = await _command(folder, *arguments)
    try:
        async with asyncio.timeout(60):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:  # one that should have refused and runs
            process.terminate()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, said.decode()


class Up:
    """A running ``counterpoint up``."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.said: list[str] = []

    async def until(self, word: str) -> None:
        assert self.process.stdout is not None
        async with asyncio.timeout(90):
            while True:
                line = (await self.process.stdout.readline()).decode()
                assert line, f"ended without saying {word!r}: {''.join(self.said)}"
                self.said.append(line)
                if word in line:
                    return

    async def interrupt(self) -> int:
        """Ctrl-C; returns the exit code."""
        self.process.send_signal(signal.SIGINT)
        async with asyncio.timeout(30):
            rest, _ = await self.process.communicate()
        self.said.append(rest.decode())
        assert self.process.returncode is not None
        return self.process.returncode


@contextlib.asynccontextmanager
async def _up(folder: Path, *arguments: str) -> AsyncIterator[Up]:
    process = await _command(folder, "up", "--plain", *arguments)
    try:
        yield Up(process)
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


def _processes_of(folder: Path) -> list[str]:
    """Command lines of living processes that mention the folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            if str(folder) in line and int(entry.name) != os.getpid():
                found.append(line)
    return found


def _write_by_the_document(folder: Path, port: int) -> Path:
    """Steps 1 to 3 of docs/configuration.md: one exchange, one campaign, a configuration with what has no default."""
    (folder / "catalog.toml").write_text(
        """
account_currency = "USD"

[[advertiser]]
id = "shop"
name = "Shop"
domain = "shop.example"

[[campaign]]
id = "spring"
name = "Spring"
advertiser = "shop"
daily_budget = "20.00"
goal = "clicks"
target_cpc = "2.00"
bid_ceiling_cpm = "10.00"

[[line_item]]
id = "spring-web"
campaign = "spring"
creatives = ["spring-300x250"]
expected_click_rate = 0.01

[[creative]]
id = "spring-300x250"
advertiser = "shop"
media = "banner"
size = "300x250"
click_url = "https://shop.example/spring"
image_url = "https://cdn.shop.example/spring.png"
categories = ["IAB22"]

[[exchange]]
id = "harbour"
seat = "seat-1"
auction_type = 1
win_notice_delay_p999_ms = 5000
billing_delay_max_ms = 60000
""",
        "utf-8",
    )
    config = folder / "counterpoint.toml"
    config.write_text(
        f'catalog = "catalog.toml"\n\n[bidder]\nport = {port}\npublic_url = "https://bid.example.com"\n',
        "utf-8",
    )
    return config


def _keys(table: dict[str, Any], prefix: str = "") -> set[str]:
    found: set[str] = set()
    for name, value in table.items():
        found |= _keys(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name}
    return found


def test_the_document_names_every_key_and_no_other() -> None:
    text = DOCUMENT.read_text("utf-8").split("```toml\n")[1].split("```")[0]
    uncommented = "\n".join(
        line[2:] if line.startswith("# ") and " = " in line.split("#")[1] else line
        for line in text.splitlines()
    )
    documented = tomllib.loads(uncommented)
    from counterpoint.app.config import Config

    assert _keys(documented) == _keys(msgspec.to_builtins(Config()))
    assert msgspec.convert(documented, Config)  # every example value is one that is taken
    plain = msgspec.to_builtins(msgspec.convert(tomllib.loads(text), Config))
    defaults = msgspec.to_builtins(Config())
    plain["experiment"]["salt"] = defaults["experiment"]["salt"]  # the document says: change me
    assert plain == defaults, "what the document shows as written is what holds when nothing is written"


async def test_it_runs_by_the_document_stops_by_ctrl_c_and_resumes(tmp_path: Path) -> None:
    port = free_port()
    config = _write_by_the_document(tmp_path, port)
    code, said = await _said(tmp_path, "catalog", "check", "catalog.toml")
    assert (code, "fine" in said) == (0, True), said
    requests = tmp_path / "requests.jsonl"
    body = {
        "id": "r1",
        "imp": [{"id": "1", "banner": {"w": 300, "h": 250}, "bidfloor": 0.1}],
        "site": {"id": "s1", "domain": "news.example", "cat": ["IAB12"]},
        "device": {"ua": "Mozilla/5.0", "ip": "203.0.113.7", "geo": {"country": "USA"}},
        "at": 1,
        "tmax": 200,
    }
    requests.write_bytes(b"\n".join(msgspec.json.encode({**body, "id": f"r{n}"}) for n in range(40)))
    client = HttpClient(f"http://127.0.0.1:{port}", connections_max=2)
    settings = load_settings(config)

    async with _up(tmp_path, "--config", "counterpoint.toml") as up:
        await up.until("ready: bidder at")
        ready = await client.get("/health/ready")
        assert ready.status == 200, ready.body
        for secret in ("hmac.json", "bus.json"):
            assert (tmp_path / "var" / "secrets" / secret).stat().st_mode & 0o777 == 0o600
        code, said = await _said(
            tmp_path,
            *("replay", "openrtb", "requests.jsonl", "--url", f"http://127.0.0.1:{port}"),
            *("--exchange", "harbour", "--json", "replay.json"),
        )
        assert code == 0, said
        replayed = msgspec.json.decode((tmp_path / "replay.json").read_bytes())
        assert replayed["sent"] == 40
        assert replayed["bids"] > 0, replayed
        won = await _win_one(client, body)

        code, said = await _said(tmp_path, "up", "--config", "counterpoint.toml")
        assert code == 2
        assert said.strip().splitlines()[-1].startswith("error: another 'counterpoint up' runs on"), said
        code, said = await _said(tmp_path, "keys", "rotate", "--config", "counterpoint.toml")
        assert code == 0, said

        assert await up.interrupt() == 0, up.said
        assert "Traceback" not in "".join(up.said)
    assert _processes_of(tmp_path) == [], "nothing outlives it"
    first = read_books(settings)
    assert set(first.settlements) == {won}
    assert money_problems(first) == []

    async with _up(tmp_path, "--config", "counterpoint.toml") as up:
        await up.until("ready: bidder at")
        again = await _win_one(client, {**body, "id": "again"})
        assert await up.interrupt() == 0, up.said
    second = read_books(settings)
    assert set(second.settlements) == {won, again}
    assert money_problems(second) == []
    _no_money_lost(first, second)
    assert _processes_of(tmp_path) == []
    assert _complaints(tmp_path / "var" / "logs") == []
    client.close()


async def _win_one(client: HttpClient, body: dict[str, Any]) -> str:
    """One bid, won and billed; returns its id."""
    answer = await client.post("/openrtb2/bid/harbour", msgspec.json.encode(body))
    assert answer.status == 200, answer.headers
    bid = msgspec.json.decode(answer.body)["seatbid"][0]["bid"][0]
    assert bid["burl"].startswith("https://bid.example.com/n/bill/")
    target = (
        bid["burl"].removeprefix("https://bid.example.com").replace("${AUCTION_PRICE}", str(bid["price"]))
    )
    for _ in range(2):  # twice, as exchanges do
        assert (await client.get(target)).status == 200
    return str(bid["id"])


def _no_money_lost(before: Books, after: Books) -> None:
    assert before.settlements.items() <= after.settlements.items()
    for key, account in before.accounts.items():
        spent = ("spent_on_time_nanos", "late_nanos", "overspend_nanos")
        assert sum(after.accounts[key][n] for n in spent) >= sum(account[n] for n in spent)
        assert after.accounts[key]["budget_nanos"] == account["budget_nanos"]


def _complaints(logs: Path) -> list[str]:
    """What a quiet run does not say."""
    return [
        f"{log.name}: {line}"
        for log in sorted(logs.glob("*.log"))
        for line in log.read_text("utf-8").splitlines()
        if any(word in line for word in ("Traceback", "ERROR", "WARNING", "never awaited", "was destroyed"))
    ]


async def test_a_taken_port_is_named_with_its_cure(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        write_world(tmp_path, port)
        code, said = await _said(tmp_path, "up", "--config", "counterpoint.toml")
    assert code == 2
    assert said.strip().splitlines()[-1] == (
        f"error: the bidder cannot listen on 127.0.0.1:{port} (Address already in use): "
        f"stop what listens there, or set another [bidder] port in {tmp_path / 'counterpoint.toml'}"
    )
    assert _processes_of(tmp_path) == []


@pytest.mark.parametrize(
    ("config", "catalog", "words"),
    [
        ('catalog = "nowhere.toml"', "", "cannot be read"),
        (
            "[bidder]\nprot = 1",
            "",
            "counterpoint.toml:2: unknown key `prot` in [bidder]; did you mean 'port'?",
        ),
        ("[bidder]\nport = 99999", "", "`int` <= 65535"),
        ("bidder = [", "", "not valid TOML"),
        ("[experiment]\nno_agents = 0.9\nno_budget = 0.2", "", "[experiment] the shares"),
        ("", 'daily_budget = "-60.00"', "money must be more than 0"),
    ],
)
async def test_a_mistake_in_a_file_is_one_error_and_exit_code_2(
    tmp_path: Path, config: str, catalog: str, words: str
) -> None:
    text = example_catalog("demo").read_text("utf-8")
    if catalog:
        text = re.sub(r'daily_budget = "[^"]+"', catalog, text, count=1)
    (tmp_path / "catalog.toml").write_text(text, "utf-8")
    (tmp_path / "counterpoint.toml").write_text(config, "utf-8")
    code, said = await _said(tmp_path, "up", "--config", "counterpoint.toml")
    assert code == 2
    assert "error: " in said
    assert words in said
    assert "Traceback" not in said


async def test_the_demo_says_the_truth_about_itself(tmp_path: Path) -> None:
    """An unattended run: its JSON against the exchange's own report and the ledger's database."""
    config = write_world(tmp_path)
    async with _up(tmp_path, "--demo", "--config", str(config), "--seconds", "8", "--json", "out.json") as up:
        await up.until("overspent")
        code = await up.process.wait()
    assert code == 0
    out = msgspec.json.decode((tmp_path / "out.json").read_bytes())
    market = out["exchange"]
    assert out["bids"] == market["bids"] + market["timeouts"] > 0  # bids that came too late for the exchange
    assert out["requests"] == market["requests"]
    assert out["wins"] == market["wins"] > 0
    assert (out["impressions"], out["clicks"]) == (market["impressions"], market["clicks"])
    assert market["notices_given_up"] == market["errors"] == market["unreachable"] == 0
    books = read_books(load_settings(config))
    assert money_problems(books) == []
    assert len(books.settlements) == market["settled"]
    booked = sum(books.settlements.values())
    assert booked == market["settled_nanos"]
    assert out["spend_micros"] == -(-booked // 1000)
    assert out["overspend_micros"] == 0
    assert [agent["alive"] for agent in out["agents"].values()] == [True] * 4
    assert all(part["restarts"] == 0 for part in out["parts"].values())
    assert _complaints(tmp_path / "var" / "logs") == []
