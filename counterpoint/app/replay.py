"""``counterpoint replay openrtb``: real requests posted to a bidder, and an honest count of what came back."""

from __future__ import annotations

import asyncio
import socket
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from rich.console import Group
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from counterpoint.app.config import load_settings
from counterpoint.app.demo import example_catalog
from counterpoint.app.system import System
from counterpoint.base.clock import SystemClock
from counterpoint.base.errors import ConfigError
from counterpoint.base.http_client import HttpClient, HttpUnavailable, Response
from counterpoint.openrtb.response import BidResponse

IN_FLIGHT = 8


class ReplayReport(Struct, kw_only=True):
    """What a replay saw. ``invalid``: answers that are neither a legal no-bid nor a decodable bid response for their request."""

    file: str
    sent: int = 0
    skipped: int = 0  # records that are no request
    bids: int = 0
    no_bids: int = 0
    unreachable: int = 0
    status: dict[str, int] = {}
    reasons: dict[str, int] = {}  # no-bid reasons, from the bidder's X-No-Bid header or the nbr
    invalid: int = 0
    invalid_examples: list[str] = []
    sound: int = 0  # records with an empty ``issues`` list
    sound_bid: int = 0
    latency_ms: dict[str, float] = {}


def records(path: Path) -> Iterator[tuple[dict[str, Any] | None, list[Any] | None]]:
    """(request or None where the record is none, its issues or None where the record has no such list)."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                record = msgspec.json.decode(line)
            except msgspec.DecodeError as error:
                raise ConfigError(
                    f"{path}:{number}: not JSON ({error}); expected one record per line"
                ) from error
            if not isinstance(record, dict):
                yield None, None
                continue
            issues = record.get("issues")
            if "kind" in record and record["kind"] != "request":
                yield None, None
                continue
            body = record.get("body", record)
            yield (body if isinstance(body, dict) else None), issues if isinstance(issues, list) else None


async def replay(path: Path, origin: str, exchange: str, progress: Progress | None = None) -> ReplayReport:
    """Post every request once. Raises :class:`ConfigError` for a file that is not JSON lines."""
    listed = list(records(path))
    report = ReplayReport(file=path.name)
    status: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    latencies: list[float] = []
    client = HttpClient(origin, connections_max=IN_FLIGHT, timeout_s=10.0)
    bar = progress.add_task(path.name, total=len(listed)) if progress is not None else None
    gate = asyncio.Semaphore(IN_FLIGHT)
    target = f"/openrtb2/bid/{exchange}"

    async def send(body: dict[str, Any], issues: list[Any] | None) -> None:
        async with gate:
            loop = asyncio.get_running_loop()
            began = loop.time()
            try:
                answer = await client.post(target, msgspec.json.encode(body))
            except HttpUnavailable:
                report.unreachable += 1
                return
            latencies.append((loop.time() - began) * 1_000)
        report.sent += 1
        status[str(answer.status)] += 1
        bid, reason, fault = judge(body, answer)
        report.bids += bid
        report.no_bids += not bid
        if reason:
            reasons[reason] += 1
        if fault:
            report.invalid += 1
            if len(report.invalid_examples) < 10:
                report.invalid_examples.append(f"{body.get('id')!r}: {fault}")
        if issues is not None and not issues:
            report.sound += 1
            report.sound_bid += bid

    async with asyncio.TaskGroup() as tasks:
        for body, issues in listed:
            if body is None:
                report.skipped += 1
            else:
                tasks.create_task(send(body, issues))
            if progress is not None and bar is not None:
                progress.advance(bar)
                await asyncio.sleep(0)
    client.close()
    report.status = dict(sorted(status.items()))
    report.reasons = dict(reasons.most_common())
    latencies.sort()
    if latencies:
        at = {"p50": 0.5, "p99": 0.99, "p999": 0.999}
        report.latency_ms = {
            k: round(latencies[min(int(q * len(latencies)), len(latencies) - 1)], 3) for k, q in at.items()
        }
    return report


_RESPONSE = msgspec.json.Decoder(BidResponse)


def judge(body: dict[str, Any], answer: Response) -> tuple[bool, str, str]:
    """(has a bid, no-bid reason, fault). Only the wire rules; what a bid may be is checked by the tests, independently."""
    reason = answer.headers.get(b"x-no-bid", b"").decode("latin-1")
    if answer.status in (204, 400):
        return False, reason or str(answer.status), "" if not answer.body else f"{answer.status} with a body"
    if answer.status != 200:
        return False, str(answer.status), f"status {answer.status}"
    try:
        response = _RESPONSE.decode(answer.body)
    except msgspec.DecodeError as error:
        return False, "undecodable", f"answer does not decode: {error}"
    bids = [bid for seat in response.seatbid for bid in seat.bid]
    if not bids:
        return False, reason or "empty", ""
    wanted = {str(imp.get("id")) for imp in body.get("imp", []) if isinstance(imp, dict)}
    if response.id != str(body.get("id")):
        return True, "", "response id is not the request's"
    for bid in bids:
        if bid.impid not in wanted:
            return True, "", f"impid {bid.impid!r} is not in the request"
        if not (bid.adomain and bid.crid and bid.cid and bid.mtype and response.cur):
            return True, "", "cur, mtype, crid, cid or adomain is missing"
    return True, "", ""


# ---- several files, with a bidder of one's own where none is named


class ReplayRun(Struct, kw_only=True):
    """All files together; ``files`` has each by itself."""

    url: str
    exchange: str
    sent: int = 0
    skipped: int = 0
    bids: int = 0
    no_bids: int = 0
    invalid: int = 0
    unreachable: int = 0
    status: dict[str, int] = {}
    reasons: dict[str, int] = {}
    latency_ms: dict[str, float] = {}
    files: list[ReplayReport] = []


async def replay_files(
    files: Sequence[Path], url: str | None, exchange: str, catalog: Path | None, progress: Progress | None
) -> ReplayRun:
    """Replay into the bidder at ``url``, or into one that is started for it in a temporary folder, with a whole system
    around it (bus, ledger, agents): allowances are real."""
    if url is not None:
        return await _replay_into(files, url, exchange, progress)
    with tempfile.TemporaryDirectory(prefix="counterpoint-replay-") as folder:
        system = _system_of_its_own(Path(folder), catalog or example_catalog("wide"))
        try:
            await system.start()
            await system.wait_ready()
            return await _replay_into(files, system.settings.local_url, exchange, progress)
        finally:
            await system.stop()


def _system_of_its_own(folder: Path, catalog: Path) -> System:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = folder / "replay.toml"
    config.write_text(
        f'catalog = "{catalog.resolve()}"\ndata_dir = "."\n[bidder]\nport = {port}\n[experiment]\nno_agents = 0.0\n',
        "utf-8",
    )
    system = System(load_settings(config), config, SystemClock(), lambda part, what: None)
    system.prepare()
    return system


async def _replay_into(
    files: Sequence[Path], url: str, exchange: str, progress: Progress | None
) -> ReplayRun:
    run = ReplayRun(url=url, exchange=exchange)
    status: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for path in files:
        report = await replay(path, url, exchange, progress)
        run.files.append(report)
        run.sent += report.sent
        run.skipped += report.skipped
        run.bids += report.bids
        run.no_bids += report.no_bids
        run.invalid += report.invalid
        run.unreachable += report.unreachable
        status.update(report.status)
        reasons.update(report.reasons)
        # the worst of the files: percentiles of several files do not add up to one
        run.latency_ms = {k: max(v, run.latency_ms.get(k, 0.0)) for k, v in report.latency_ms.items()}
    run.status, run.reasons = dict(sorted(status.items())), dict(reasons.most_common())
    return run


def show(run: ReplayRun) -> Group:
    table = Table(title=f"replay into {run.url} as exchange {run.exchange!r}", title_justify="left", box=None)
    for name in (
        "file",
        "sent",
        "skipped",
        "bids",
        "no bids",
        "of sound, bid",
        "invalid",
        "p50 ms",
        "p99 ms",
        "status",
    ):
        left = name in ("file", "status")
        table.add_column(name, justify="left" if left else "right", no_wrap=not left, overflow="fold")
    for report in run.files:
        share = (
            f"{report.sound_bid} of {report.sound} ({report.sound_bid / report.sound:.0%})"
            if report.sound
            else "-"
        )
        table.add_row(
            report.file,
            str(report.sent),
            str(report.skipped),
            str(report.bids),
            str(report.no_bids),
            share,
            str(report.invalid),
            f"{report.latency_ms.get('p50', 0):.2f}",
            f"{report.latency_ms.get('p99', 0):.2f}",
            "  ".join(f"{code}: {n}" for code, n in report.status.items()),
        )
    why = Table(title="no-bids by reason", title_justify="left", box=None)
    why.add_column("reason")
    why.add_column("count", justify="right")
    for reason, count in run.reasons.items():
        why.add_row(reason, str(count))
    faults = [f"invalid: {example}" for report in run.files for example in report.invalid_examples]
    return Group(table, "", why, *(escape(fault) for fault in faults))
