"""The live system behind its own HTTP server: requests, notices and orders reach it as bytes over loopback.

The doors are the ones that run live: routes, codec, signatures, tracker, group commit. What is injected: the clock of the
market, the seed of decisions and the source of ids, which :class:`LiveSystem` gives its parts anyway. One thread; the
server's loop runs while a call waits for its answer, so that requests come one after the other and a run depends on its
seed alone.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections import OrderedDict
from collections.abc import Coroutine
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeVar

import msgspec

from counterpoint.base.clock import NS_PER_S
from counterpoint.base.http_client import HttpClient, Response
from counterpoint.bidder.attribution import Order
from counterpoint.bidder.committer import Committer, CommitterConfig
from counterpoint.bidder.conversions import ConversionDesk
from counterpoint.bidder.http import HttpConfig, HttpCounters, Request, Server, serve
from counterpoint.bidder.http import Response as Answer
from counterpoint.bidder.notices import NoticeOutcome
from counterpoint.bidder.routes import Routes, RoutesConfig
from counterpoint.bidder.signing import NoticeKind, SignedBid
from counterpoint.bidder.spool import Spool
from counterpoint.bidder.tracker import Tracker
from counterpoint.catalog.model import Catalog
from counterpoint.market.exchange import macros, target_of, tracking_urls
from counterpoint.market.live.system import BIDDER_ID, LiveSystem
from counterpoint.openrtb.macros import Code, NoticeValues, Price
from counterpoint.openrtb.nobid import NoBidReason
from counterpoint.openrtb.objects import BidRequest

T = TypeVar("T")
ADS_KEPT: Final = (
    50_000  # won ads whose URLs people may still follow; past that the oldest are not followed any more
)
TIMEOUT_S: Final = 60.0  # of a call; a test machine may stand still for a while
_FOLLOWED: Final = {NoticeKind.IMPRESSION.value, NoticeKind.CLICK.value, NoticeKind.SKIP.value}
FLUSH_MS: Final = 0.01  # one notice at a time: it has no company to wait for


class WireSystem(LiveSystem):
    """As :class:`LiveSystem`, with its arguments. ``untracked``: what people did with an ad whose markup has no URL
    for it, so that nobody can tell."""

    def __init__(self, catalog: Catalog, **settings: Any) -> None:
        super().__init__(catalog, **settings)
        self.untracked = 0
        self._ads: OrderedDict[str, dict[str, str]] = OrderedDict()  # URLs by bid and kind
        self._open: list[str] = []  # bids of the newest request that have not won
        self._folder = TemporaryDirectory(prefix="counterpoint-wire-")
        self._committer = Committer(
            self.bus, Spool(Path(self._folder.name) / "spool"), CommitterConfig(flush_ms=FLUSH_MS)
        )
        self.tracker = Tracker(
            signer=self.engine.signer,
            committer=self._committer,
            facts=self.post,
            directory=self.notices.directory,
            allowances=self.book,
            frequency=self.frequency,
            attribution=self.attribution,
            clock=self.clock,
            source=self.engine.source,
        )
        self.notices = self.tracker
        self._routes = Routes(
            engine=self.engine,
            tracker=self.tracker,
            conversions=ConversionDesk(self.tracker, BIDDER_ID),
            ready=lambda: (),
            status=dict,
            metrics=bytes,
            config=RoutesConfig(no_bid_header=True),
        )
        self._loop = asyncio.new_event_loop()
        self._committing = self._loop.create_task(self._committer.run())
        self._server: Server = self._run(serve(self._application, HttpConfig(port=0), HttpCounters()))
        self._client = HttpClient(f"http://127.0.0.1:{self._server.port}", 1, TIMEOUT_S)

    def _application(self, request: Request) -> Answer | asyncio.Future[Answer]:
        """It comes at the market's time, and has not waited."""
        request.received_ns, request.lag_ns = self.clock.now_ns(), 0
        return self._routes(request)

    def _run(self, job: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(job)

    # ---- the exchange's side

    def place(self, request: BidRequest, exchange: str) -> list[tuple[int, SignedBid]] | NoBidReason:
        while self._open:  # lost, and nobody will ask for them
            self._ads.pop(self._open.pop(), None)
        answer = self._run(self._client.post(f"/openrtb2/bid/{exchange}", msgspec.json.encode(request)))
        if answer.status == 204:
            return NoBidReason(answer.headers[b"x-no-bid"].decode())
        assert answer.status == 200, f"status {answer.status} for {request.id}"
        response = msgspec.json.decode(answer.body)
        return [self._bid(bid) for seat in response["seatbid"] for bid in seat["bid"]]

    def _bid(self, bid: dict[str, Any]) -> tuple[int, SignedBid]:
        urls = {kind: url for url, kind in tracking_urls(bid["adm"])}
        urls |= {"win": bid["nurl"], "bill": bid["burl"]}
        if "lurl" in bid:
            urls["loss"] = bid["lurl"]
        self._ads[bid["id"]] = urls
        self._open.append(bid["id"])
        if len(self._ads) > ADS_KEPT:
            self._ads.popitem(last=False)
        signed = self.engine.signer.verify(NoticeKind.BILLING, _token(bid["burl"]).encode())
        assert isinstance(signed, SignedBid), "its own signature"
        assert (signed.bid_id, signed.creative_id) == (bid["id"], bid["crid"]), "the token is of this bid"
        return int(Decimal(str(bid["price"])) * 1_000_000), signed

    def notice(self, kind: NoticeKind, bid: SignedBid, values: NoticeValues) -> NoticeOutcome:
        """A win notice goes before the bill where the exchange tells what would have won: only that one says it."""
        if kind is NoticeKind.BILLING and isinstance(values.min_to_win, Price):
            self._get(NoticeKind.WIN, bid, values)
        answer = self._get(kind, bid, values)
        if kind is NoticeKind.BILLING:
            self._open.remove(bid.bid_id)
            self._ads[bid.bid_id] = {at: url for at, url in self._ads[bid.bid_id].items() if at in _FOLLOWED}
        if answer is None:
            self.untracked += 1
            return NoticeOutcome.MALFORMED
        assert answer.status in (200, 204, 302), f"status {answer.status} for a {kind} notice"
        return NoticeOutcome.SETTLED if kind is NoticeKind.BILLING else NoticeOutcome.INFORMED

    def _get(self, kind: NoticeKind, bid: SignedBid, values: NoticeValues) -> Response | None:
        url = self._ads.get(bid.bid_id, {}).get(kind.value)
        if url is None:
            return None
        minimum = _cpm(values.min_to_win.nanos) if isinstance(values.min_to_win, Price) else ""
        filled = {
            "AUCTION_PRICE": _cpm(values.price.nanos) if isinstance(values.price, Price) else "",
            "AUCTION_CURRENCY": bid.currency,
            "AUCTION_MIN_TO_WIN": minimum,
            "AUCTION_MINIMUM_BID_TO_WIN": minimum,
            "AUCTION_LOSS": str(values.loss.value) if isinstance(values.loss, Code) else "",
        }
        return self._run(self._client.get(target_of(macros(url, filled))))

    def conversion(self, order: Order) -> None:
        token = self.notices.directory.conversion_tokens[order.advertiser_id]
        click = self._ads.get(order.click.bid_id, {}).get("click") if order.click is not None else None
        moment = dt.datetime.fromtimestamp(order.happened_at_ns // NS_PER_S, dt.UTC)
        body = {
            "order_id": order.order_id,
            "value": f"{Decimal(order.value_micros).scaleb(-6):f}",
            "happened_at": moment.replace(microsecond=order.happened_at_ns % NS_PER_S // 1_000).isoformat(),
            "click_id": _token(click) if click else "",
        }
        path = f"/conversions/{order.advertiser_id}"
        headers = {"Authorization": f"Bearer {token}"}
        answer = self._run(self._client.post(path, msgspec.json.encode(body), headers))
        assert answer.status == 200, f"status {answer.status} for {order.order_id}"

    def close(self) -> None:
        self._client.close()
        self._run(self._server.close(0.1))
        self._run(self._committer.settle())
        self._committing.cancel()
        self._run(_ended(self._committing))
        self._committer.close()
        self._loop.close()
        self._folder.cleanup()
        super().close()


def _token(url: str) -> str:
    return url.rsplit("/", 1)[1].split("?", 1)[0]


def _cpm(nanos: int) -> str:
    """Nanos for one impression are micros CPM."""
    return f"{Decimal(nanos).scaleb(-6):f}"


async def _ended(task: asyncio.Task[None]) -> None:
    await asyncio.wait({task})
