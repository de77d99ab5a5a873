"""Makes the bidder's parts from the configuration and hands them to its service."""

from __future__ import annotations

import asyncio
import logging
import secrets
from pathlib import Path

from counterpoint.app.config import Settings
from counterpoint.app.system import connect_bus
from counterpoint.base.clock import SystemClock
from counterpoint.base.files import read_bytes, write_atomically
from counterpoint.bidder.allowances import AllowanceBook
from counterpoint.bidder.attribution import Attribution
from counterpoint.bidder.committer import Committer
from counterpoint.bidder.conversions import ConversionDesk
from counterpoint.bidder.directory import Directory
from counterpoint.bidder.engine import Engine
from counterpoint.bidder.experiment import ARMS, Experiment
from counterpoint.bidder.exposition import Exposition
from counterpoint.bidder.frequency import FrequencyBook
from counterpoint.bidder.golden import check_view
from counterpoint.bidder.heap import freeze_heap
from counterpoint.bidder.http import HttpConfig, HttpCounters, serve
from counterpoint.bidder.keys import load_keys
from counterpoint.bidder.markup_memory import MarkupMemory
from counterpoint.bidder.reports import subject_of
from counterpoint.bidder.routes import Routes
from counterpoint.bidder.service import BidderService
from counterpoint.bidder.signing import Signer
from counterpoint.bidder.spool import Spool
from counterpoint.bidder.tracker import Tracker
from counterpoint.bidder.view import ViewInputs, compile_view
from counterpoint.bus.outbox import BatchingOutbox
from counterpoint.catalog.store import current_digest, read_catalog
from counterpoint.coordination.stops import StopWatch
from counterpoint.record.archive import Archive

log = logging.getLogger(__name__)

ID_SALT_BYTES = 32


async def bidder(settings: Settings, stop: asyncio.Event) -> None:
    clock, data, config = SystemClock(), settings.data.make(), settings.config.bidder
    incarnation = secrets.token_hex(8)
    catalog = await asyncio.to_thread(read_catalog, settings.catalog_url)
    stops = StopWatch(data.stops)
    experiment = settings.config.experiment
    stopped = frozenset(name for name in stops.stops.targets if stops.stops.stopped(name) is not None)
    inputs = ViewInputs(
        catalog=catalog,
        experiment=Experiment(name=experiment.name, salt=experiment.salt, shares=experiment.shares()),
        stops=stopped,
    )
    began_ns = clock.now_ns()
    view = await asyncio.to_thread(compile_view, inputs)
    check_view(view, clock.now_ns())  # also warms the kernels: the first start compiles them
    log.info("hot path compiled in %.1f s", (clock.now_ns() - began_ns) / 1e9)

    bus = await connect_bus(settings, "bidder")
    snapshot_path = data.snapshots / f"bidder-{config.id}.bin"
    saved = read_bytes(snapshot_path)
    signer = Signer(load_keys(data.hmac_keys))
    book = AllowanceBook(config.id, incarnation, view.part.campaign_ids, ARMS, lines=view.part.lines_capped)
    frequency = FrequencyBook(
        _id_salt(data.secrets / "id-salt.bin"), started_at_ns=clock.now_ns(), new_here=saved is None
    )
    outbox = BatchingOutbox(bus, subject_of(config.id))
    committer = Committer(bus, Spool(data.spool / config.id))
    attribution = Attribution()
    directory = Directory.build(catalog)
    markups = MarkupMemory()
    engine = Engine(
        view,
        book,
        frequency,
        signer,
        public_url=settings.public_url,
        bidder_id=config.id,
        seed=secrets.randbits(63),
        outbox=outbox,
        clock=clock.now_ns,
        on_quarantine=lambda line_item_id: service.holder.quarantine(line_item_id),
        markups_on_win=markups,
    )
    tracker = Tracker(
        signer=signer,
        committer=committer,
        facts=outbox,
        directory=directory,
        allowances=book,
        frequency=frequency,
        attribution=attribution,
        clock=clock,
        source=engine.source,
        markups=markups,
    )
    conversions = ConversionDesk(tracker, config.id)
    http = HttpCounters()
    routes = Routes(
        engine=engine,
        tracker=tracker,
        conversions=conversions,
        ready=lambda: service.waiting_for(),
        status=lambda: exposition.status(service.waiting_for(), clock.now_ns()),
        metrics=lambda: exposition.page(),
    )
    exposition = Exposition(
        engine=engine,
        tracker=tracker,
        conversions=conversions,
        http=http,
        routes=routes.counters,
        latency=routes.latency,
        incarnation=incarnation,
        started_at_ns=clock.now_ns(),
    )

    def set_directory(new: Directory) -> None:
        tracker.directory = new

    service = BidderService(
        bus=bus,
        clock=clock,
        engine=engine,
        committer=committer,
        outbox=outbox,
        attribution=attribution,
        frequency=frequency,
        book=book,
        stops=stops,
        exposition=exposition,
        set_directory=set_directory,
        directory=directory,
        load_catalog=lambda: read_catalog(settings.catalog_url),
        catalog_digest=lambda: current_digest(settings.catalog_url) or "",
        archive=Archive(data.archive).keep,
        save=lambda raw: write_atomically(snapshot_path, raw),
    )
    service.restore(saved)
    server = await serve(routes, HttpConfig(host=config.host, port=config.port), http)
    freeze_heap()
    log.info("listening on %s:%d", config.host, server.port)
    try:
        await service.run(stop)
    finally:
        await server.close()
        committer.close()
        await bus.close()


def _id_salt(path: Path) -> bytes:
    """The key of the hash of user ids: made once, so that people stay who they were across restarts."""
    salt = read_bytes(path)
    if salt is None:
        salt = secrets.token_bytes(ID_SALT_BYTES)
        write_atomically(path, salt)
    return salt
