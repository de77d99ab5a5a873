"""A real bidder over the frozen catalog, with money, frequency and events on: what the latency benchmark measures.

The ledger's part is taken by grants large enough for the run; everything else is as it runs live: HTTP layer, routes,
tracker, engine, outbox, embedded bus, the timers. Run as ``python -m counterpoint.bench.bidder``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any, Final

import msgspec
import uvloop
from msgspec import Struct

from counterpoint.base.clock import NS_PER_S, SystemClock
from counterpoint.base.ids import digest
from counterpoint.bench import workload
from counterpoint.bench.bare import questions, say
from counterpoint.bench.process import move, rss_mb
from counterpoint.bidder.allowances import AllowanceBook
from counterpoint.bidder.attribution import Attribution
from counterpoint.bidder.committer import Committer
from counterpoint.bidder.conversions import ConversionDesk
from counterpoint.bidder.decide import Candidates, decide
from counterpoint.bidder.directory import Directory
from counterpoint.bidder.engine import Engine
from counterpoint.bidder.experiment import ARMS
from counterpoint.bidder.frequency import NOBODY, FrequencyBook
from counterpoint.bidder.golden import check_view
from counterpoint.bidder.heap import collect_young, freeze_heap
from counterpoint.bidder.holder import Refusal, ViewHolder
from counterpoint.bidder.http import serve
from counterpoint.bidder.keys import KeyRing
from counterpoint.bidder.message import HttpConfig
from counterpoint.bidder.routes import Routes
from counterpoint.bidder.signing import Signer
from counterpoint.bidder.spool import Spool
from counterpoint.bidder.tracker import Tracker
from counterpoint.bidder.view import View, ViewInputs, compile_view
from counterpoint.bidder.watching import StageClock
from counterpoint.bidding import policy as bidding_policy
from counterpoint.bidding.policy import BiddingPolicy, WinCurve
from counterpoint.bus.bus import Bus
from counterpoint.bus.memory import MemoryBus
from counterpoint.bus.nats import NatsBus
from counterpoint.bus.outbox import BatchingOutbox
from counterpoint.bus.server import NatsServer
from counterpoint.creative import policy as creative_policy
from counterpoint.creative.policy import CreativePolicy, CreativeScore
from counterpoint.events import subjects
from counterpoint.events.decisions import PolicyPublished
from counterpoint.events.money import AllowanceGranted

BIDDER_ID: Final = "b1"
TIMER_S: Final = 0.05
YOUNG_EVERY_S: Final = 0.1


class BidderConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    line_items: int = 10_000
    events: bool = True  # BidPlaced to the embedded bus, stored durably
    helpers_core: int | None = None  # where the bus's server runs


class BenchBidder:
    def __init__(self, config: BidderConfig, folder: Path) -> None:
        self.config = config
        self.folder = folder
        self.swaps_under_way: asyncio.Task[None] | None = None
        self.version = 0
        catalog = workload.catalog(config.line_items)
        view = compile_view(ViewInputs(catalog=catalog))
        check_view(view, time.time_ns())
        self.book = AllowanceBook(BIDDER_ID, "bench", view.part.campaign_ids, ARMS)
        self.frequency = FrequencyBook(secrets.token_bytes(32))
        self.signer = Signer(KeyRing(signs=1, keys={1: secrets.token_bytes(32)}))
        self.engine = Engine(
            view,
            self.book,
            self.frequency,
            self.signer,
            public_url="https://track.bidder.example",
            bidder_id=BIDDER_ID,
            seed=1,
        )
        self.swapped = asyncio.Event()
        self.holder = ViewHolder(view, self._swap, _refused, time.time_ns)
        self.nats: NatsServer | None = None

    def grant(self) -> None:
        now_ns = time.time_ns()
        for campaign_id in self.book.campaign_ids:
            self.book.grant(
                AllowanceGranted(
                    event_id=f"grant-{campaign_id}",
                    happened_at_ns=now_ns,
                    recorded_at_ns=now_ns,
                    source="ledger",
                    allowance_id=f"01a2094eed0461-{campaign_id}",
                    request_id="bench",
                    bidder_id=BIDDER_ID,
                    incarnation="bench",
                    campaign_id=campaign_id,
                    arm="agents",
                    day="2026-01-01",
                    granted_nanos=10**15,
                    usable_nanos=10**15,
                    expires_at_ns=now_ns + 86_400 * NS_PER_S,
                ),
                now_ns,
            )

    async def run(self) -> None:
        self.grant()
        async with asyncio.TaskGroup() as tasks:
            bus: Bus = MemoryBus(SystemClock())
            if self.config.events:
                self.nats = NatsServer(self.folder / "nats", self.folder / "secrets", bidder_ids=(BIDDER_ID,))
                await self.nats.start()
                if self.config.helpers_core is not None and self.nats.pid is not None:
                    move(self.nats.pid, self.config.helpers_core)
                credential = self.nats.credential("bidder")
                bus = await NatsBus(self.nats.url, credential.user, credential.password, "bench").open()
            subject = subjects.bids(BIDDER_ID)
            outbox = BatchingOutbox(bus, lambda _: subject)
            running = [tasks.create_task(self.holder.run(), name="views")]
            if self.config.events:
                self.engine.outbox = outbox
                running.append(tasks.create_task(outbox.run(), name="outbox"))
            running.append(tasks.create_task(self._timers(), name="timers"))
            tracker = Tracker(
                signer=self.signer,
                committer=Committer(bus, Spool(self.folder / "spool")),
                facts=outbox,
                directory=Directory.build(self.engine.view.part.catalog),
                allowances=self.book,
                frequency=self.frequency,
                attribution=Attribution(),
                clock=SystemClock(),
                source=self.engine.source,
            )
            routes = Routes(
                engine=self.engine,
                tracker=tracker,
                conversions=ConversionDesk(tracker, BIDDER_ID),
                ready=list,
                status=dict,
                metrics=bytes,
            )
            server = await serve(routes, HttpConfig(port=0))
            self._warm()
            freeze_heap()
            say({"port": server.port, "pid": os.getpid(), "nats_pid": self.nats.pid if self.nats else None})
            reader = await questions()
            while line := await reader.readline():
                say(await self._do(msgspec.json.decode(line), outbox, routes))
            await server.close(0.1)
            for task in running:
                task.cancel()
            if self.nats is not None:
                self.nats.stop()

    def _swap(self, view: View) -> None:
        self.engine.swap(view)
        self.swapped.set()

    def _warm(self) -> None:
        for body in workload.bodies(99, 200):
            self.engine.answer(workload.EXCHANGE, body, time.time_ns())

    async def _timers(self) -> None:
        young = 0.0
        while True:
            await asyncio.sleep(TIMER_S)
            self.book.expire(time.time_ns())
            young += TIMER_S
            if young >= YOUNG_EVERY_S:
                young = 0.0
                collect_young()

    async def _do(self, question: dict[str, Any], outbox: BatchingOutbox, routes: Routes) -> dict[str, Any]:
        match question["do"]:
            case "figures":
                return self._figures(outbox) | {"shed": routes.counters.shed.total()}
            case "stages":
                return self._stages(int(question["requests"]))
            case "eligible":
                return self._eligible(int(question["requests"]))
            case "swaps":  # every ``every_s`` until asked to stop
                self.swaps_under_way = asyncio.create_task(self._keep_swapping(float(question["every_s"])))
                return {}
            case "swaps_end":
                if self.swaps_under_way is not None:
                    self.swaps_under_way.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await self.swaps_under_way
                return {"swaps": self.engine.swaps}
            case "swap_many":
                return await self._swap_many(int(question["count"]))
            case "kill_bus":
                if self.nats is not None:
                    self.nats.kill()
                return {}
        raise AssertionError(f"no such question: {question!r}")

    def _figures(self, outbox: BatchingOutbox) -> dict[str, Any]:
        counts = self.engine.counts[workload.EXCHANGE]
        return {
            "requests": counts.requests,
            "bid_requests": counts.bid_requests,
            "no_bids": {reason.value: n for reason, n in counts.no_bids.items()},
            "events_sent": outbox.sent,
            "events_shed": outbox.shed,
            "reservations": self.book.reservations,
            "people": len(self.frequency),
            "rss_mb": rss_mb(os.getpid()),
            "failed_assertions": self.engine.failed_assertions,
        }

    def _stages(self, requests: int) -> dict[str, Any]:
        """Microseconds by stage, in this process and without HTTP; the clock itself costs about 0.1 us a stage."""
        stages = self.engine.stages = StageClock()
        outbox, self.engine.outbox = self.engine.outbox, None
        for body in workload.bodies(7, requests):
            self.engine.answer(workload.EXCHANGE, body, time.time_ns())
        self.engine.stages, self.engine.outbox = None, outbox
        self.book.expire(time.time_ns())
        names = ("decode", "eligible", "choose", "price", "commit", "encode")
        return {name: getattr(stages, name) / 1e3 / requests for name in names}

    def _eligible(self, requests: int) -> dict[str, Any]:
        from counterpoint.openrtb.request import decode_request

        eligible: list[int] = []
        scored: list[int] = []
        bids = 0
        view = self.engine.view
        for at, body in enumerate(workload.bodies(7, requests)):
            made = decide(
                decode_request(body), workload.EXCHANGE, view, NOBODY, self.book.left, time.time_ns(), at
            )
            if isinstance(made, Candidates):
                bids += 1
                eligible.append(made.eligible)
                scored.append(made.scored)
        return {
            "bid_share": bids / requests,
            "eligible_median": median(eligible),
            "scored_median": median(scored),
        }

    # ---- swaps

    def _policies(self) -> list[PolicyPublished]:
        """New policies that differ from the last ones, as the agents would publish them."""
        self.version += 1
        version, now_ns = self.version, time.time_ns()
        part = self.engine.view.part
        bidding = BiddingPolicy(
            version=version,
            made_at_ns=now_ns,
            valid_until_ns=now_ns + 600 * NS_PER_S,
            curves={
                "*": WinCurve(
                    (400_000, 2_000_000, 6_000_000), (0.05, 0.3, 0.3 + 0.0001 * (version % 100)), 1.0
                )
            },
            multipliers=dict.fromkeys(part.campaign_ids, 1.0 + version % 7 / 10),
            exploration_rate=0.02,
            exploration_span=0.2,
        )
        creative = CreativePolicy(
            version=version,
            made_at_ns=now_ns,
            valid_until_ns=now_ns + 600 * NS_PER_S,
            scores={
                made.id: CreativeScore(0.002, 1.0 + (at + version) % 5)
                for at, made in enumerate(part.creatives)
            },
        )
        return [
            _published("bidding", version, bidding_policy.encode(bidding), now_ns),
            _published("creative", version, creative_policy.encode(creative), now_ns),
        ]

    async def _keep_swapping(self, every_s: float) -> None:
        """Agents encode their policies in processes of their own: here on a thread, before the clock runs."""
        prepared = [self._policies() for _ in range(4)]
        for turn in range(10**9):
            for event in prepared[turn % len(prepared)]:
                self.holder.policy(msgspec.structs.replace(event, policy_version=turn + 100))
            await asyncio.sleep(every_s)

    async def _swap_many(self, count: int) -> dict[str, Any]:
        """Memory over ``count`` swaps of all policies, MB after a tenth of them and after all."""
        before = 0.0
        start = self.engine.swaps
        while self.engine.swaps < start + count:
            swaps = self.engine.swaps
            self.swapped.clear()
            for event in self._policies():
                self.holder.policy(event)
            async with asyncio.timeout(30.0):
                await self.swapped.wait()
            self.swapped.clear()
            assert self.engine.swaps > swaps, "a swap was told that did not happen"
            if not before and self.engine.swaps >= start + count // 10:
                collect_young()
                before = rss_mb(os.getpid())
        collect_young()
        return {
            "rss_mb_first": before,
            "rss_mb_last": rss_mb(os.getpid()),
            "swaps": self.engine.swaps - start,
        }


def _refused(refusal: Refusal) -> None:
    raise AssertionError(f"the benchmark's own policy was refused: {refusal}")


def _published(agent: str, version: int, payload: bytes, now_ns: int) -> PolicyPublished:
    return PolicyPublished(
        event_id=f"bench-{agent}-{version}",
        happened_at_ns=now_ns,
        recorded_at_ns=now_ns,
        source=f"agent/{agent}",
        agent=agent,
        policy_version=version,
        checksum=digest(payload),
        payload=payload,
        valid_until_ns=now_ns + 600 * NS_PER_S,
    )


def main() -> None:
    config = msgspec.json.decode(sys.stdin.buffer.readline(), type=BidderConfig)
    with tempfile.TemporaryDirectory(prefix="counterpoint-bench-") as folder:
        bidder = BenchBidder(config, Path(folder))
        uvloop.run(bidder.run())


if __name__ == "__main__":
    main()
