"""``counterpoint replay openrtb``: real requests posted to a bidder, and an honest count of what came back."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from rich.progress import Progress

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

    async def send(body: dict[str, Any], issues: list[Any] | None) -> None:
        async with gate:
            loop = asyncio.get_running_loop()
            began = loop.time()
            try:
                answer = await client.post(f"/openrtb2/bid/{exchange}", msgspec.json.encode(body))
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
