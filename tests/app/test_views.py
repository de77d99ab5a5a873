"""What a person reads: the live view on terminals of any size, the list of bids, the sums at the end; and commands that
find no system to speak to."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from counterpoint.app.bids import lines, recent
from counterpoint.app.demo import example_catalog
from counterpoint.app.live import LiveView
from counterpoint.app.status import show_status
from counterpoint.app.supervisor import Part, Supervisor
from counterpoint.app.up import spent_since
from counterpoint.app.watch import Watch
from counterpoint.base.clock import ManualClock, SystemClock
from counterpoint.base.http_client import HttpClient
from counterpoint.bus.memory import MemoryBus
from counterpoint.catalog.load import check_catalog
from counterpoint.events.decisions import AgentBeat, HybridTime, Proposal, Resolution
from counterpoint.events.event import Event
from counterpoint.events.money import AllowanceGranted, AllowanceRefused, BalanceReported
from counterpoint.record.schema import SCHEMA
from tests.app.world import Running, until

UNIT = 1_000_000_000


def _ids(text: str, at_ns: int) -> dict[str, object]:
    return {"event_id": text, "happened_at_ns": at_ns, "recorded_at_ns": at_ns, "source": "test"}


def _balance(
    campaign_id: str, spent: int, budget: int = 60 * UNIT, day: str = "2026-01-01"
) -> BalanceReported:
    return BalanceReported(
        **_ids(f"balance-{campaign_id}", 1),  # type: ignore[arg-type]
        campaign_id=campaign_id,
        day=day,
        budget_nanos=budget,
        spent_on_time_nanos=spent,
        late_spend_nanos=0,
        reserved_nanos=0,
        overspend_nanos=0,
    )


class Told:
    """A watch that was told things, and a view of it."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.catalog = check_catalog(example_catalog("demo")).catalog
        self.watch = Watch(
            MemoryBus(self.clock), HttpClient("http://127.0.0.1:1", connections_max=1), self.clock
        )
        self.watch.bus_alive = self.watch.bidder_alive = True
        self.view = LiveView(self.watch, {}, self.catalog, "Counterpoint")
        self.hear(*(_balance(campaign.id, 5 * UNIT) for campaign in self.catalog.campaigns))
        why = (
            "a reason that is as long as reasons come to be when an agent has much to say about a campaign "
            * 2
        )
        for name in ("ledger", "budget", "bidding", "creative", "feedback", "recorder", "bidder"):
            self.hear(
                AgentBeat(
                    **_ids(f"beat-{name}", self.clock.now_ns()),  # type: ignore[arg-type]
                    agent=name,
                    incarnation="1",
                    state="running",
                    last_decision=f"{name} decided",
                    why=why,
                )
            )

    def hear(self, *events: Event) -> None:
        self.watch.take(events)

    def screen(self, width: int, height: int) -> list[str]:
        console = Console(width=width, height=height, force_terminal=True, color_system=None, highlight=False)
        with console.capture() as captured:
            console.print(self.view)
        return captured.get().splitlines()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (100, 30), (120, 30), (160, 55), (220, 70)])
def test_the_view_fits_the_terminal_and_leaves_no_part_out(width: int, height: int) -> None:
    told = Told()
    told.hear(
        Resolution(
            **_ids("r", 1),  # type: ignore[arg-type]
            target="campaign/volta-launch/bid_ceiling",
            epoch=7,
            value=2_930_884,
            incumbent=3_341_080,
            winner="budget",
            losers=("bidding",),
            why="bargain",
            proposals=(),
            previous_digest="",
            digest="",
        )
    )
    told.view.news.append(
        "12:00:00 bidder ended (exit -9); it is started again, the others go on. Its log: " + "/x" * 90
    )
    lines_shown = told.screen(width, height)
    assert len(lines_shown) < height, "the last line stays free for the cursor"
    assert max(len(line) for line in lines_shown) <= width
    text = "\n".join(lines_shown)
    for word in (
        "requests/s",
        "stride-clicks",
        "ledger",
        "budget",
        "bidding",
        "creative",
        "feedback",
        "bidder ended",
    ):
        assert word in text
    assert "3.34 CPM -> 2.93 CPM" in text


def test_a_clash_is_told_with_both_wishes_and_their_reasons() -> None:
    told = Told()
    target = "campaign/volta-launch/bid_ceiling"
    for author, intent, value, reason in (
        ("budget", "reach", 4_000_000, "spends 39% of its plan"),
        ("bidding", "cost", 1_250_000, "a click costs 1.90 x its goal"),
    ):
        told.hear(
            Proposal(
                **_ids(f"p-{author}", 1),  # type: ignore[arg-type]
                author=author,
                target=target,
                intent=intent,
                stamp=HybridTime(1, 0, author),
                expires_at_ns=2,
                value=value,
                reason=reason,
            )
        )
    told.hear(
        Resolution(
            **_ids("r", 1),  # type: ignore[arg-type]
            target=target,
            epoch=7,
            value=2_930_884,
            incumbent=3_341_080,
            winner="budget",
            losers=("bidding",),
            why="bargain",
            proposals=("p-budget", "p-bidding"),
            previous_digest="",
            digest="",
        )
    )
    text = "\n".join(told.screen(160, 60))
    assert "volta-launch bid_ceiling 3.34 CPM -> 2.93 CPM: bargain, budget fares best" in text
    assert "its owner weighs reach 0.6, cost 0.4" in text
    assert "budget wishes 4.00 CPM for reach: spends 39% of its plan" in text
    assert "bidding wishes 1.25 CPM for cost: a click costs 1.90 x its goal" in text


def test_states_of_a_campaign() -> None:
    told = Told()
    asked = {"request_id": "q", "bidder_id": "b1", "incarnation": "1", "campaign_id": "harbor-teaser"}
    assert told.view.state_of_campaign("harbor-teaser") == "open"
    refused = AllowanceRefused(**_ids("f", 2), **asked, arm="agents", reason="budget_spent")  # type: ignore[arg-type]
    told.hear(refused)
    assert told.view.state_of_campaign("harbor-teaser") == "spent"
    told.hear(
        AllowanceGranted(
            **_ids("g", 3),  # type: ignore[arg-type]
            **asked,  # type: ignore[arg-type]
            arm="agents",
            allowance_id="a",
            day="2026-01-01",
            granted_nanos=2,
            usable_nanos=1,
            expires_at_ns=9,
        )
    )
    assert told.view.state_of_campaign("harbor-teaser") == "open"
    told.watch.status = {"view": {"stops": ["campaign/harbor-teaser", "agent/creative"]}}
    assert "stopped by a person" in told.view.state_of_campaign("harbor-teaser")
    assert "stopped" in told.view.state_of("creative")


async def test_a_bidder_that_does_not_answer_has_no_rates() -> None:
    told = Told()
    for count in (100, 200):
        told.watch.status = {
            "incarnation": "1",
            "counts": {"requests": count},
            "no_bids": {"overload": count // 4},
        }
        told.watch.count()
        await asyncio.sleep(0.02)
    assert told.watch.rate("requests") > 0
    assert list(told.watch.no_bid_rates()) == ["overload"]
    told.watch.bidder_alive = False
    assert told.watch.rate("requests") == 0
    assert told.watch.no_bid_rates() == {}


def test_what_this_run_spent_leaves_out_what_the_day_had_spent_before() -> None:
    before = {"a": _balance("a", 3 * UNIT), "b": _balance("b", 9 * UNIT, day="2025-12-31")}
    now = {"a": _balance("a", 5 * UNIT), "b": _balance("b", UNIT), "c": _balance("c", UNIT)}
    assert spent_since(before, now) == (2 + 1 + 1) * UNIT


def _part(folder: Path, number: int, rows: list[dict[str, object]]) -> None:
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    pq.write_table(table, folder / f"{number:015d}-x.parquet")


def _row(number: int, kept: str, campaign: str = "spring") -> dict[str, object]:
    return {
        "bid_id": f"{number:012x}",
        "kept": kept,
        "happened_at_ns": number * UNIT,
        "exchange": "harbour",
        "media": "banner",
        "campaign_id": campaign,
        "line_item_id": "web",
        "creative_id": "red",
        "price_nanos": 1_500_000,
        "paid_nanos": 1_250_000 if kept == "won" else None,
        "arm": "agents",
    }


def test_the_newest_bids_come_first(tmp_path: Path) -> None:
    assert recent(tmp_path / "nowhere", 5) == []
    for part in range(20):
        rows = [_row(100 * part + n, "won" if n % 2 else "sampled") for n in range(4)]
        _part(tmp_path, part, rows)
    assert [bid.happened_at_ns // UNIT for bid in recent(tmp_path, 3)] == [1903, 1902, 1901]
    assert [bid.happened_at_ns // UNIT for bid in recent(tmp_path, 3, won=True)] == [1903, 1901, 1803]
    assert len(recent(tmp_path, 1000)) == 80
    assert recent(tmp_path, 3, campaign="autumn") == []
    head, first, second = lines(recent(tmp_path, 2))
    assert head.split() == [
        "bid",
        "when",
        "(UTC)",
        "exchange",
        "campaign",
        "line",
        "item",
        "creative",
        "bid",
        "CPM",
        "paid",
        "CPM",
    ]
    assert first.split()[0] == f"{1903:012x}"
    assert first.split()[-2:] == ["1.5000", "1.2500"]
    assert second.split()[-1] == "-"


def _names(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir()]


async def _said(folder: Path, *arguments: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "counterpoint.app.cli", *arguments),
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


@pytest.mark.parametrize(
    "arguments",
    [("stop", "all"), ("resume", "all"), ("status",), ("bids",), ("explain", "0" * 24), ("keys", "rotate")],
)
async def test_where_no_system_is_none_is_made(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """A stop in the wrong folder must not look as if it had stopped something."""
    code, said = await _said(tmp_path, *arguments)
    assert code == 2
    assert "run this where 'counterpoint up --demo' runs, or name the system's file with --config" in said
    assert _names(tmp_path) == []


async def test_the_parts_of_a_group_stop_together_and_the_groups_in_order(tmp_path: Path) -> None:
    said = tmp_path / "said"
    script = (
        "import signal, sys, time\n"
        f"def end(*_):\n    open({str(said)!r}, 'a').write(sys.argv[1] + '\\n'); time.sleep(0.3); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\nprint('up', flush=True)\ntime.sleep(60)\n"
    )
    supervisor = Supervisor(SystemClock(), lambda part, what: None)
    names = ("one", "two", "three", "more")
    parts = [Part(name, [sys.executable, "-c", script, name], tmp_path / f"{name}.log") for name in names]
    keeping = [asyncio.create_task(supervisor.keep(part)) for part in parts]
    logs = [part.log for part in parts]
    await until(lambda: all(log.exists() and log.read_text() for log in logs), "all parts are up")
    await supervisor.stop_all((("three",), ("one", "two")))
    await asyncio.gather(*keeping)
    ended = said.read_text().split()
    assert ended[0] == "three"
    assert set(ended[1:3]) == {"one", "two"}
    assert ended[3] == "more"


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.xdist_group("system")
async def test_status_of_a_running_system(running: Running, capsys: pytest.CaptureFixture[str]) -> None:
    await running.ready()
    for _ in range(5):  # an earlier test may have killed a part a moment ago
        capsys.readouterr()
        if await show_status(running.settings):
            break
    said = capsys.readouterr().out
    for word in ("bus up", "bidder up", "harbor-teaser", "feedback", "latest clash"):
        assert word in said
    assert "silent" not in said
    assert "not heard" not in said
