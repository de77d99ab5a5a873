"""Which path is answered by whom: bids at once, notices and conversions when they are durable, the rest for operators.

====================================  ======================================================================
``POST /openrtb2/bid/{exchange}``     200 with a bid (or a long no-bid), 204, 400 without content, 404
``GET|POST /n/{win|bill|loss}/{t}``   200; 404 garbled, 403 not ours, 503 not durable (send it again)
``GET|POST /t/imp/{t}``               200, a transparent pixel; 404; 503
``GET|POST /t/click/{t}``             302 to the creative's click target in the catalog; 404, never elsewhere
``GET|POST /t/skip/{t}``              204; 404
``POST /conversions/{advertiser}``    200, 400 with the error, 401, 503
``GET /health/live``, ``/ready``      200; 503 with what it waits for
``GET /metrics``, ``/control/status`` Prometheus text; JSON for the console
====================================  ======================================================================
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final, Protocol
from urllib.parse import unquote_to_bytes

import msgspec
from msgspec import Meta, Struct

from counterpoint.base.clock import NS_PER_MS
from counterpoint.bidder.conversions import ConversionAnswer, ConversionDesk
from counterpoint.bidder.directory import Directory
from counterpoint.bidder.message import JSON, TEXT, Request, Response, header
from counterpoint.bidder.metrics import Histogram
from counterpoint.bidder.notices import NoticeOutcome
from counterpoint.bidder.signing import NoticeKind
from counterpoint.bidder.tracker import Tracker, Verdict
from counterpoint.catalog.model import ExchangeProfile
from counterpoint.openrtb.envelope import GZIP_MIN_BYTES, EnvelopeRefused, accepts_gzip, gzip, open_body
from counterpoint.openrtb.nobid import NoBidReason

log = logging.getLogger(__name__)

BID_PATH: Final = b"/openrtb2/bid/"
CONVERSION_PATH: Final = b"/conversions/"
TRACEBACKS_MAX: Final = 20
NO_STORE: Final = header(b"Cache-Control", b"no-store")
PIXEL: Final = (
    b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff!\xf9\x04\x01\x00\x00\x00\x00,"
    b"\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x01D\x00;"
)


class EngineAnswer(Protocol):
    @property
    def status(self) -> int: ...
    @property
    def body(self) -> bytes: ...
    @property
    def reason(self) -> NoBidReason | None: ...


class BidEngine(Protocol):
    def answer(self, exchange: str, body: bytes, received_ns: int) -> EngineAnswer: ...


class RoutesConfig(Struct, frozen=True, forbid_unknown_fields=True):
    shed_after_ms: Annotated[float, Meta(gt=0)] = 25.0  # a bid request that waited longer for us: 204 at once
    no_bid_header: bool = True  # X-No-Bid with the reason on answers without a bid
    control: bool = True  # serve /metrics and /control/status here too


class RouteCounters:
    """Plain integers, read by the metrics."""

    def __init__(self) -> None:
        self.shed: Counter[str] = Counter()  # by exchange
        self.envelope_faults: Counter[str] = Counter()
        self.not_found = 0
        self.unknown_exchange = 0
        self.method_not_allowed = 0
        self.crashed_bids = 0


class _Door:
    """One exchange as the bid route sees it."""

    __slots__ = ("latency", "name", "profile")

    def __init__(self, profile: ExchangeProfile, latency: Histogram) -> None:
        self.name = profile.id
        self.profile = profile
        self.latency = latency


NOT_FOUND = Response(404)
BAD_REQUEST = Response(400)
FORBIDDEN = Response(403)
OK = Response(200)
RETRY = Response(503, headers=header(b"Retry-After", b"1"))
ONLY_POST = Response(405, headers=header(b"Allow", b"POST"))
ONLY_GET = Response(405, headers=header(b"Allow", b"GET, HEAD"))
GET_OR_POST = Response(405, headers=header(b"Allow", b"GET, POST"))
SEEN = Response(200, PIXEL, b"image/gif", NO_STORE)
SKIPPED = Response(204)

_NOTICES: Final = {
    b"/n/win": NoticeKind.WIN,
    b"/n/bill": NoticeKind.BILLING,
    b"/n/loss": NoticeKind.LOSS,
    b"/t/imp": NoticeKind.IMPRESSION,
    b"/t/click": NoticeKind.CLICK,
    b"/t/skip": NoticeKind.SKIP,
}
_CONVERSION_STATUS: Final = {
    "attributed": 200,
    "unattributed": 200,
    "duplicate": 200,
    "unauthorized": 401,
    "invalid": 400,
    "unavailable": 503,
}
_CHALLENGE: Final = header(b"WWW-Authenticate", b"Bearer")


class Routes:
    """The application of the HTTP server.

    ``ready``: what bidding waits for, empty when it can bid. ``status``: what the console shows, JSON-able.
    ``metrics``: the Prometheus page.
    """

    def __init__(
        self,
        *,
        engine: BidEngine,
        tracker: Tracker,
        conversions: ConversionDesk,
        ready: Callable[[], Sequence[str]],
        status: Callable[[], Any],
        metrics: Callable[[], bytes],
        config: RoutesConfig | None = None,
    ) -> None:
        self.engine = engine
        self.tracker = tracker
        self.conversions = conversions
        self.config = config if config is not None else RoutesConfig()
        self.counters = RouteCounters()
        self.latency: dict[str, Histogram] = {}  # by exchange
        self._shed_after_ns = int(self.config.shed_after_ms * NS_PER_MS)
        self._doors: dict[bytes, _Door] = {}
        self._directory: Directory | None = None
        self._no_bids = {reason: self._no_bid_response(reason) for reason in NoBidReason}
        self._pages: dict[bytes, Callable[[], Response]] = {
            b"/health/live": lambda: Response(200, b"alive\n", TEXT),
            b"/health/ready": lambda: _readiness(ready()),
        }
        if self.config.control:
            self._pages[b"/metrics"] = lambda: Response(200, metrics(), b"text/plain; version=0.0.4")
            self._pages[b"/control/status"] = lambda: Response(
                200, msgspec.json.encode(status()), JSON, NO_STORE
            )

    def __call__(self, request: Request) -> Response | asyncio.Future[Response]:
        path = request.path
        if path.startswith(BID_PATH):
            return self._bid(request)
        head, _, last = path.rpartition(b"/")
        kind = _NOTICES.get(head)
        if kind is not None:
            return self._notice(request, kind, last)
        if path.startswith(CONVERSION_PATH):
            return self._conversion(request)
        page = self._pages.get(path)
        if page is None:
            self.counters.not_found += 1
            return NOT_FOUND
        if request.method not in (b"GET", b"HEAD"):
            self.counters.method_not_allowed += 1
            return ONLY_GET
        return page()

    # ---- bids

    def _bid(self, request: Request) -> Response:
        directory = self.tracker.directory
        if directory is not self._directory:
            self._open_doors(directory)
        door = self._doors.get(request.path)
        if door is None:
            self.counters.unknown_exchange += 1
            return NOT_FOUND
        if request.method != b"POST":
            self.counters.method_not_allowed += 1
            return ONLY_POST
        request.latency = door.latency
        if request.lag_ns > self._shed_after_ns:
            self.counters.shed[door.name] += 1
            return self._no_bids[NoBidReason.OVERLOAD]
        headers = request.headers
        try:
            body = open_body(
                request.body, headers.get(b"content-type", b""), headers.get(b"content-encoding", b"")
            )
        except EnvelopeRefused as refused:
            self.counters.envelope_faults[refused.fault] += 1
            return BAD_REQUEST
        try:
            answer = self.engine.answer(door.name, body, request.received_ns)
        except Exception:  # the edge: to an exchange an error of ours is a no-bid, counted
            self.counters.crashed_bids += 1
            if self.counters.crashed_bids <= TRACEBACKS_MAX:
                log.exception("a bid request failed")
            return self._no_bids[NoBidReason.INTERNAL_ERROR]
        if answer.status == 200:
            return self._ok(answer, door.profile, headers)
        if answer.status == 204:
            return self._no_bids[answer.reason or NoBidReason.INTERNAL_ERROR]
        return NOT_FOUND if answer.status == 404 else BAD_REQUEST

    def _ok(self, answer: EngineAnswer, profile: ExchangeProfile, headers: dict[bytes, bytes]) -> Response:
        body = answer.body
        extra = b""
        if answer.reason is not None and self.config.no_bid_header:
            extra = self._no_bids[answer.reason].headers
        if (
            profile.gzip_responses
            and len(body) >= GZIP_MIN_BYTES
            and accepts_gzip(headers.get(b"accept-encoding", b""))
        ):
            return Response(200, gzip(body), JSON, extra + header(b"Content-Encoding", b"gzip"))
        return Response(200, body, JSON, extra)

    def _no_bid_response(self, reason: NoBidReason) -> Response:
        lines = header(b"X-No-Bid", reason.value.encode()) if self.config.no_bid_header else b""
        return Response(204, headers=lines)

    def _open_doors(self, directory: Directory) -> None:
        self._directory = directory
        self._doors = {
            BID_PATH + name.encode(): _Door(profile, self.latency.setdefault(name, Histogram()))
            for name, profile in directory.exchanges.items()
        }

    # ---- notices

    def _notice(
        self, request: Request, kind: NoticeKind, token: bytes
    ) -> Response | asyncio.Future[Response]:
        if b"%" in token:
            token = unquote_to_bytes(token)
        if request.method == b"HEAD" and kind is NoticeKind.CLICK:  # a link checker, not a click
            return _redirect(self.tracker.click_target(token))
        if request.method not in (b"GET", b"POST"):
            self.counters.method_not_allowed += 1
            return GET_OR_POST
        verdict = self.tracker.notice(kind, token, request.query)
        markup = self.tracker.markup(token) if kind is NoticeKind.WIN else ""
        if isinstance(verdict, Verdict):
            return _notice_answer(kind, verdict, markup)
        return _later(verdict, lambda made: _notice_answer(kind, made, markup))

    # ---- conversions

    def _conversion(self, request: Request) -> Response | asyncio.Future[Response]:
        if request.method != b"POST":
            self.counters.method_not_allowed += 1
            return ONLY_POST
        try:
            advertiser = unquote_to_bytes(request.path[len(CONVERSION_PATH) :]).decode()
        except UnicodeDecodeError:
            return NOT_FOUND
        headers = request.headers
        try:
            body = open_body(request.body, b"", headers.get(b"content-encoding", b""))
        except EnvelopeRefused as refused:
            self.counters.envelope_faults[refused.fault] += 1
            return BAD_REQUEST
        answer = self.conversions.report(advertiser, headers.get(b"authorization", b""), body)
        if isinstance(answer, ConversionAnswer):
            return _conversion_answer(answer)
        return _later(answer, _conversion_answer)


def _later(future: asyncio.Future[Any], answer: Callable[[Any], Response]) -> asyncio.Future[Response]:
    """The response of what is to become of ``future``."""
    made: asyncio.Future[Response] = future.get_loop().create_future()

    def on_done(done: asyncio.Future[Any]) -> None:
        if made.done():
            return
        if done.cancelled():
            made.set_result(RETRY)
        else:
            made.set_result(answer(done.result()))

    future.add_done_callback(on_done)
    return made


def _notice_answer(kind: NoticeKind, verdict: Verdict, markup: str = "") -> Response:
    outcome = verdict.outcome
    if outcome is NoticeOutcome.NOT_DURABLE:
        return RETRY
    if outcome is NoticeOutcome.MALFORMED:
        return NOT_FOUND
    if outcome is NoticeOutcome.FORGED:
        return FORBIDDEN if kind in (NoticeKind.WIN, NoticeKind.BILLING, NoticeKind.LOSS) else NOT_FOUND
    if kind is NoticeKind.CLICK:
        return _redirect(verdict.location)
    if kind is NoticeKind.IMPRESSION:
        return SEEN
    if markup:
        return Response(200, markup.encode(), _markup_type(markup), NO_STORE)
    return SKIPPED if kind is NoticeKind.SKIP else OK


def _markup_type(markup: str) -> bytes:
    if markup.startswith("{"):
        return JSON
    return b"application/xml" if markup.startswith(("<VAST", "<?xml")) else b"text/html; charset=utf-8"


def _redirect(location: str | None) -> Response:
    if location is None:
        return NOT_FOUND
    return Response(302, headers=header(b"Location", location.encode()) + NO_STORE)


def _conversion_answer(answer: ConversionAnswer) -> Response:
    status = _CONVERSION_STATUS[answer.status]
    extra = _CHALLENGE if status == 401 else b""
    return Response(status, msgspec.json.encode(answer), JSON, extra)


def _readiness(waiting_for: Sequence[str]) -> Response:
    body = msgspec.json.encode({"ready": not waiting_for, "waiting_for": list(waiting_for)})
    return Response(503 if waiting_for else 200, body, JSON, NO_STORE)
