"""``kill -9`` of the tracker and of the bus in the middle of notices: what was answered 200 is booked, once per bid."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
import time
from asyncio.subprocess import PIPE, Process
from pathlib import Path

import msgspec

from counterpoint.base.http_client import HttpClient, HttpUnavailable
from counterpoint.bidder.keys import new_keys
from counterpoint.bidder.signing import SignedBid, Signer
from counterpoint.bidder.spool import read_segment
from counterpoint.bus.nats import NatsBus
from counterpoint.bus.server import NatsServer
from counterpoint.events import subjects
from counterpoint.events.codec import decode_batch
from counterpoint.events.money import SettlementNoticed
from tests.bidder.world import until

NOTICES = 900
SENDERS = 24


class Scene:
    """The bus, the tracker process, and an exchange that retries what was not answered 200."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bus = NatsServer(folder / "nats")
        self.signer = Signer(new_keys(folder / "hmac.json"))
        self.process: Process | None = None
        self.client: HttpClient | None = None
        self.answered: set[str] = set()
        self.sent: set[str] = set()
        self.tries = 0

    async def start_tracker(self) -> None:
        credential = self.bus.credential("bidder")
        command = [sys.executable, "-m", "tests.bidder.tracker_process", str(self.folder), self.bus.url]
        self.process = await asyncio.create_subprocess_exec(
            *command, credential.user, credential.password, stdout=PIPE, cwd=Path(__file__).parents[2]
        )
        assert self.process.stdout is not None
        async with asyncio.timeout(30):
            port = int(await self.process.stdout.readline())
        self.client = HttpClient(f"http://127.0.0.1:{port}")

    async def kill_tracker(self) -> None:
        assert self.process is not None
        assert self.client is not None
        self.process.kill()
        await self.process.wait()
        self.client.close()

    def path(self, number: int) -> tuple[str, str]:
        now_ns = time.time_ns()
        bid = SignedBid(
            bid_id=f"bid-{number}",
            allowance_id="a1",
            campaign_id="c1",
            line_item_id="l1",
            creative_id="cr1",
            exchange="adx",
            media="banner",
            settles="billing",
            bid_nanos=1_000_000,
            currency="USD",
            rate_micros=1_000_000,
            arm="agents",
            bid_at_ns=now_ns,
            reservation_until_ns=now_ns + 10**10,
            expires_at_ns=now_ns + 10**14,
        )
        return bid.bid_id, f"/n/bill/{self.signer.sign(bid).bill}?p=0.5&c=USD"

    async def send(self, number: int, give_up_after_s: float = 40.0) -> None:
        bid_id, path = self.path(number)
        self.sent.add(bid_id)
        deadline = time.monotonic() + give_up_after_s
        while time.monotonic() < deadline:
            self.tries += 1
            try:
                assert self.client is not None
                status = (await self.client.get(path)).status
            except HttpUnavailable:
                status = 0
            if status == 200:
                self.answered.add(bid_id)
                return
            assert status in (0, 503), f"{bid_id}: {status}"
            await asyncio.sleep(0.05)

    async def on_the_bus(self) -> list[SettlementNoticed]:
        credential = self.bus.credential("ledger")
        async with NatsBus(self.bus.url, credential.user, credential.password, "reader") as reader:
            subscription = await reader.subscribe(subjects.MONEY, ["money.notice.>"])
            found: list[SettlementNoticed] = []
            while deliveries := await subscription.fetch(256, 0.7):
                for delivery in deliveries:
                    found += [event for event in delivery.events if isinstance(event, SettlementNoticed)]
            await subscription.close()
            return found

    def in_the_spool(self) -> set[str]:
        found: set[str] = set()
        for path in (self.folder / "spool").glob("*.spool"):
            for batch in read_segment(path.read_bytes()).batches:
                found |= {e.bid_id for e in decode_batch(batch.events)[0] if isinstance(e, SettlementNoticed)}
        return found


async def test_what_was_answered_is_booked_once_whatever_dies(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    await scene.bus.start()
    try:
        await scene.start_tracker()
        order = list(range(NOTICES))
        random.Random(7).shuffle(order)
        numbers = iter(order)

        async def sender() -> None:
            for number in numbers:
                await scene.send(number)
                await asyncio.sleep(0.03)

        async def havoc() -> None:
            await asyncio.sleep(0.3)
            scene.bus.kill()
            await asyncio.sleep(0.4)
            await scene.kill_tracker()  # while the bus is away: the spool has to hold
            kept = scene.in_the_spool()
            assert kept
            await scene.start_tracker()
            await asyncio.sleep(0.2)
            await scene.bus.start()
            await asyncio.sleep(0.4)
            await scene.kill_tracker()  # while the spool drains or right after
            booked = {event.bid_id for event in await scene.on_the_bus()}
            assert scene.answered <= booked | scene.in_the_spool()
            await scene.start_tracker()

        async with asyncio.TaskGroup() as tasks:
            for _ in range(SENDERS):
                tasks.create_task(sender())
            tasks.create_task(havoc())
        assert scene.answered == scene.sent == {f"bid-{n}" for n in range(NOTICES)}
        await until(lambda: not scene.in_the_spool(), 20)
        settled = await scene.on_the_bus()
        assert {event.bid_id for event in settled} == scene.sent
        # A retry after a lost answer may be on the bus twice; both say the same, and the ledger's key is the bid.
        by_bid: dict[str, set[tuple[str, int]]] = {}
        for event in settled:
            by_bid.setdefault(event.bid_id, set()).add((event.event_id, event.paid_nanos))
        assert all(len(said) == 1 for said in by_bid.values())
        assert len(settled) < 1.2 * NOTICES
        assert scene.tries > NOTICES  # it was not a quiet day
        assert scene.client is not None
        status = msgspec.json.decode((await scene.client.get("/control/status")).body)
        assert status == {"spool_bytes": 0, "pending": 0}
    finally:
        with contextlib.suppress(ProcessLookupError):
            await scene.kill_tracker()
        scene.bus.kill()
