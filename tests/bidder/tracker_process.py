"""A tracker alone in a process, over a real bus and a real spool, to be killed: ``python -m tests.bidder.tracker_process
FOLDER BUS_URL USER PASSWORD``. Prints its port."""

from __future__ import annotations

import sys
from pathlib import Path

import uvloop
from msgspec import Struct

from counterpoint.base.clock import SystemClock
from counterpoint.bidder.allowances import AllowanceBook
from counterpoint.bidder.attribution import Attribution
from counterpoint.bidder.committer import Committer
from counterpoint.bidder.conversions import ConversionDesk
from counterpoint.bidder.directory import Directory
from counterpoint.bidder.experiment import ARMS
from counterpoint.bidder.frequency import FrequencyBook
from counterpoint.bidder.http import HttpConfig, serve
from counterpoint.bidder.keys import load_keys
from counterpoint.bidder.routes import Routes
from counterpoint.bidder.signing import Signer
from counterpoint.bidder.spool import Spool
from counterpoint.bidder.tracker import Tracker
from counterpoint.bus.nats import NatsBus
from counterpoint.openrtb.nobid import NoBidReason
from tests.bidder.world import ListOutbox, make_catalog


class NoBids(Struct, frozen=True):
    """This process is about notices only."""

    status: int = 204
    body: bytes = b""
    reason: NoBidReason | None = NoBidReason.STOPPED

    def answer(self, exchange: str, body: bytes, received_ns: int) -> NoBids:
        return self


async def main(folder: Path, url: str, user: str, password: str) -> None:
    bus = NatsBus(url, user, password, "tracker")
    await bus.open(required=False)
    committer = Committer(bus, Spool(folder / "spool"))
    tracker = Tracker(
        signer=Signer(load_keys(folder / "hmac.json", {})),
        committer=committer,
        facts=ListOutbox(),
        directory=Directory.build(make_catalog()),
        allowances=AllowanceBook("b1", "i", ["c1"], ARMS),
        frequency=FrequencyBook(bytes(range(32))),
        attribution=Attribution(),
        clock=SystemClock(),
        source="bidder/b1",
    )
    routes = Routes(
        engine=NoBids(),
        tracker=tracker,
        conversions=ConversionDesk(tracker, "b1"),
        ready=list,
        status=lambda: {"spool_bytes": committer.spool.bytes_used, "pending": committer.pending},
        metrics=lambda: b"",
    )
    server = await serve(routes, HttpConfig(port=0))
    print(server.port, flush=True)
    await committer.run()


if __name__ == "__main__":
    uvloop.run(main(Path(sys.argv[1]), *sys.argv[2:5]))
