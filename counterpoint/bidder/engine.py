"""One bid request answered: read, screen for time and person, decide, commit, sign, encode. Nothing here waits.

``Engine.answer`` is called on the serving loop with a complete body and returns at once. What it counts are plain
integers; what it tells (BidPlaced) goes to an outbox that may shed. Views are swapped in between two requests.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from counterpoint.base.clock import NS_PER_MS
from counterpoint.base.errors import InvalidRequest
from counterpoint.base.ids import IdSource
from counterpoint.base.rng import mix64
from counterpoint.bidder.allowances import AllowanceBook
from counterpoint.bidder.answers import AnswerFormats
from counterpoint.bidder.commit import Committed, LineItemFailed, Refusals, commit
from counterpoint.bidder.decide import Candidates, NoBid, decide
from counterpoint.bidder.experiment import ARMS
from counterpoint.bidder.frequency import NOBODY, FrequencyBook, UserState, bid_key
from counterpoint.bidder.markup_memory import MarkupMemory
from counterpoint.bidder.outgoing import make_placed, pack_input
from counterpoint.bidder.part import MEDIA_NAMES, ExchangePart
from counterpoint.bidder.respond import Markups, UrlBase, make_bid, make_response
from counterpoint.bidder.scratch import Scratch
from counterpoint.bidder.signing import SignedBid, Signer
from counterpoint.bidder.view import View, compile_view, quarantine
from counterpoint.bidder.watching import StageClock
from counterpoint.bus.bus import Outbox
from counterpoint.catalog.model import NoBidForm
from counterpoint.openrtb.identity import IdKind, ids_usable, take_identity
from counterpoint.openrtb.nobid import NoBidReason, no_bid_body
from counterpoint.openrtb.objects import BidRequest
from counterpoint.openrtb.request import decode_request
from counterpoint.openrtb.response import Bid

SAMPLES_MAX: Final = 32  # bodies kept of requests that failed an assertion, the newest
SAMPLE_BYTES_MAX: Final = 65_536
QUARANTINE_AFTER: Final = 3  # assertions that one line item may fail


class Answer(Struct, frozen=True, gc=False):
    """``status`` 200 with a bid or a long no-bid, 204 without one, 400 for what is no request. ``reason``: None for a
    bid."""

    status: int
    body: bytes = b""
    reason: NoBidReason | None = None


class Failure(Struct, frozen=True):
    """A request that failed an assertion of ours."""

    at_ns: int
    exchange: str
    what: str
    body: bytes


class Considered(Struct, frozen=True, gc=False):
    """One request decided and committed, not yet told to anybody."""

    made: Candidates
    committed: list[Committed]
    view: View
    place: ExchangePart
    user: UserState
    now_ns: int
    rng_key: int


class ExchangeCounts:
    """Of one exchange, since the start. ``no_bids`` by reason."""

    __slots__ = ("bid_requests", "bids", "no_bids", "requests", "tests")

    def __init__(self) -> None:
        self.requests = 0
        self.bid_requests = 0  # requests that ended in a bid
        self.bids = 0
        self.tests = 0
        self.no_bids: dict[NoBidReason, int] = {}


class Engine:
    """Owned by one event loop. ``clock`` gives nanoseconds since the epoch; ``seed`` starts the chance of decisions."""

    def __init__(
        self,
        view: View,
        book: AllowanceBook,
        frequency: FrequencyBook,
        signer: Signer,
        *,
        public_url: str,
        bidder_id: str,
        seed: int,
        ids: IdSource | None = None,
        outbox: Outbox | None = None,
        clock: Callable[[], int] = time.time_ns,
        on_quarantine: Callable[[str], None] | None = None,
        markups_on_win: MarkupMemory | None = None,
        keeps_inputs: bool = True,
    ) -> None:
        """``keeps_inputs``: a ``BidPlaced`` carries what it takes to decide again (False: nobody will ask).

        ``on_quarantine`` is told of a line item that failed QUARANTINE_AFTER assertions (ViewHolder.quarantine);
        without it the engine makes a View without the line item itself, at once."""
        self.bidder_id = bidder_id
        self.source = f"bidder/{bidder_id}"
        self.book = book
        self.frequency = frequency
        self.signer = signer
        self.urls = UrlBase(public_url)
        self.ids = ids if ids is not None else IdSource()
        self.outbox = outbox
        self.clock = clock
        self.markups_on_win = markups_on_win if markups_on_win is not None else MarkupMemory()
        self.stages: StageClock | None = None  # set by the benchmark
        self.counts: dict[str, ExchangeCounts] = {name: ExchangeCounts() for name in view.part.exchanges}
        self.unknown_exchange = 0
        self.invalid_requests = 0
        self.failed_assertions = 0
        self.failures: deque[Failure] = deque(maxlen=SAMPLES_MAX)
        self.refusals = Refusals()
        self.swaps = 0
        self._on_quarantine = on_quarantine
        self._keeps_inputs = keeps_inputs
        self._seed = mix64(seed)
        self._drawn = 0
        self._failed_items: dict[str, int] = {}
        self._view = view
        self._scratch = Scratch(view.part)
        self._markups = Markups(view.part)
        self._formats = AnswerFormats(view.part, self.urls)
        if (book.campaign_ids, book.lines) != (view.part.campaign_ids, view.part.lines_capped):
            book.remap(view.part.campaign_ids, view.part.lines_capped)
        book.currency = view.part.catalog.account_currency

    @property
    def view(self) -> View:
        return self._view

    def no_bids(self) -> dict[str, int]:
        """By reason, over all exchanges."""
        found: dict[str, int] = {}
        for counts in self.counts.values():
            for reason, n in counts.no_bids.items():
                found[reason.value] = found.get(reason.value, 0) + n
        return found

    def swap(self, view: View) -> None:
        """Use this View from the next request on. Money and counts stay; positions follow the new catalog."""
        if view.part is not self._view.part:
            self._scratch = Scratch(view.part)
            self._markups = Markups(view.part)
            self._formats = AnswerFormats(view.part, self.urls)
            self.frequency.horizon_ns = max(self.frequency.horizon_ns, view.part.horizon_ns)
            self.book.remap(view.part.campaign_ids, view.part.lines_capped)
            self.book.currency = view.part.catalog.account_currency
            for name in view.part.exchanges:
                self.counts.setdefault(name, ExchangeCounts())
        self._scratch.arguments.clear()  # they hold on to the last View
        self._view = view
        self.swaps += 1

    def answer(self, exchange: str, body: bytes, received_ns: int) -> Answer:
        """``received_ns``: when the request's first byte came, by the same clock; its deadline counts from there."""
        counts = self.counts.get(exchange)
        place = self._view.part.exchanges.get(exchange)
        if counts is None or place is None:
            self.unknown_exchange += 1
            return Answer(404, b"", NoBidReason.UNKNOWN_EXCHANGE)
        counts.requests += 1
        stages = self.stages
        if stages is not None:
            stages.requests += 1
            stages.start()
        try:
            request = decode_request(body)
        except InvalidRequest:
            self.invalid_requests += 1
            _count(counts, NoBidReason.INVALID_REQUEST)
            return Answer(400, b"", NoBidReason.INVALID_REQUEST)
        try:
            return self._answer(request, exchange, place, counts, received_ns, stages)
        except AssertionError as error:
            return self._failed(error, request, exchange, place, counts, body)

    def _answer(
        self,
        request: BidRequest,
        exchange: str,
        place: ExchangePart,
        counts: ExchangeCounts,
        received_ns: int,
        stages: StageClock | None,
    ) -> Answer:
        made = self.consider(request, exchange, place, counts, received_ns)
        if isinstance(made, NoBidReason):
            return self._no_bid(request.id, made, place)
        answer = Answer(200, self._respond(request, made))
        if stages is not None:
            stages.lap("encode")
        return answer

    def consider(
        self,
        request: BidRequest,
        exchange: str,
        place: ExchangePart,
        counts: ExchangeCounts,
        received_ns: int,
    ) -> Considered | NoBidReason:
        """Structs in, structs out: the person taken out of ``request``, decided, the money held; or why not (counted).

        What both doors share: :meth:`answer` signs and encodes it, :meth:`place` tells of it as it is."""
        stages = self.stages
        if request.test == 1:
            counts.tests += 1
        deadline_ns = received_ns + deadline_after_ns(request.tmax, place)
        now_ns = self.clock()
        if now_ns > deadline_ns:
            return _count(counts, NoBidReason.LATE)
        user = self._user(request, exchange)
        if stages is not None:
            stages.lap("decode")
        self._drawn += 1
        rng_key = mix64(self._seed ^ self._drawn)
        view = self._view
        made = decide(
            request,
            exchange,
            view,
            user,
            self.book.left,
            now_ns,
            rng_key,
            scratch=self._scratch,
            stages=stages,
        )
        if isinstance(made, NoBid):
            return _count(counts, made.reason)
        if self.clock() > deadline_ns:
            return _count(counts, NoBidReason.LATE)
        committed = commit(
            made,
            request,
            view,
            place,
            user,
            self.book,
            self.frequency,
            self._markups,
            self.ids,
            self.refusals,
            now_ns,
        )
        if isinstance(committed, NoBidReason):
            return _count(counts, committed)
        if stages is not None:
            stages.lap("commit")
        counts.bid_requests += 1
        counts.bids += len(committed)
        return Considered(made, committed, view, place, user, now_ns, rng_key)

    def place(
        self, request: BidRequest, exchange: str, received_ns: int
    ) -> list[tuple[Committed, SignedBid]] | NoBidReason:
        """:meth:`answer` without bytes, for an exchange in the same process: each bid that stands, and what its
        notices will know of it. An assertion that fails here is the caller's."""
        counts = self.counts.get(exchange)
        place = self._view.part.exchanges.get(exchange)
        if counts is None or place is None:
            self.unknown_exchange += 1
            return NoBidReason.UNKNOWN_EXCHANGE
        counts.requests += 1
        made = self.consider(request, exchange, place, counts, received_ns)
        if isinstance(made, NoBidReason):
            return made
        bids = [(bid, self._payload(made, bid, request)) for bid in made.committed]
        if self.outbox is not None and request.test != 1:
            archived = self._archived(made, request)
            for bid, signed in bids:
                self.outbox.offer(
                    make_placed(
                        signed,
                        bid,
                        made.made,
                        request,
                        made.user,
                        made.view,
                        made.place,
                        self.source,
                        archived,
                    )
                )
        return bids

    def _user(self, request: BidRequest, exchange: str) -> UserState:
        """Take the person out of the request; what we know of them, or nobody where nothing may be known."""
        usable = ids_usable(request)
        identity = take_identity(request)
        if not usable:
            return NOBODY
        kind, raw_id = identity.stable_id()
        if kind is IdKind.NONE:
            return NOBODY
        if kind is IdKind.USER:
            raw_id = f"{exchange}:{raw_id}"
        return self.frequency.state(self.frequency.user_key(kind, raw_id))

    def _payload(self, considered: Considered, bid: Committed, request: BidRequest) -> SignedBid:
        part, place = considered.view.part, considered.place
        profile, mtype = place.profile, bid.form.mtype
        line_item = part.line_items[bid.candidate.line_item]
        now_ns = considered.now_ns
        return SignedBid(  # by position, which is half the price of names
            bid.bid_id,
            bid.allowance_id,
            line_item.campaign_id,
            line_item.id,
            part.creatives[bid.candidate.creative].id,
            profile.id,
            MEDIA_NAMES[mtype],
            place.settles[mtype],
            bid.candidate.price,
            considered.made.currency,
            considered.made.rate_micros,
            ARMS[considered.made.arm],
            now_ns,
            bid.until_ns,
            now_ns + profile.notice_life_ms * NS_PER_MS,
            considered.user.key,
            request.test == 1,
        )

    def _archived(self, c: Considered, request: BidRequest) -> bytes:
        if not self._keeps_inputs:
            return b""
        return pack_input(request, c.place.profile.id, c.view, c.user, c.made, c.now_ns, c.rng_key)

    def _respond(self, request: BidRequest, considered: Considered) -> bytes:
        """Sign, tell, encode. A failure in here gives the reserved money back."""
        made, committed, place = considered.made, considered.committed, considered.place
        part = considered.view.part
        profile = place.profile
        bids: list[Bid] = []
        whole = b""
        try:
            tells = self.outbox is not None and request.test != 1
            archived = self._archived(considered, request) if tells else b""
            for bid in committed:
                creative, form = bid.candidate.creative, bid.form
                signed = self._payload(considered, bid, request)
                tokens = self.signer.sign(signed)
                if len(committed) == 1 and not profile.markup_on_win:
                    whole = self._formats.of(form, creative, bid.imp, place, signed, made).render(
                        request.id, bid.imp.id, bid.price_micros, bid.bid_id, tokens
                    )
                else:
                    bids.append(
                        make_bid(
                            part, place, self.urls, signed, tokens, form, creative, bid.imp, bid.price_micros
                        )
                    )
                if profile.markup_on_win:
                    made_bid = bids[-1]
                    self.markups_on_win.keep(bid.bid_id, made_bid.adm, considered.now_ns, bid.until_ns)
                    made_bid.adm = ""
                if self.outbox is not None and tells:
                    self.outbox.offer(
                        make_placed(
                            signed,
                            bid,
                            made,
                            request,
                            considered.user,
                            considered.view,
                            place,
                            self.source,
                            archived,
                        )
                    )
            return whole or make_response(made, place, bids)
        except AssertionError as error:
            for bid in committed:
                self.book.released(bid.bid_id)
                if considered.user.key:
                    self.frequency.release(considered.user.key, bid_key(bid.bid_id))
            failing = committed[min(len(bids), len(committed) - 1)]
            raise LineItemFailed(failing.candidate.line_item, str(error)) from error

    def _no_bid(self, request_id: str, reason: NoBidReason, place: ExchangePart) -> Answer:
        if place.profile.no_bid is NoBidForm.NBR_BODY:
            return Answer(200, no_bid_body(request_id, reason.nbr), reason)
        return _SHORT[reason]

    # ---- what we did wrong

    def _failed(
        self,
        error: AssertionError,
        request: BidRequest,
        exchange: str,
        place: ExchangePart,
        counts: ExchangeCounts,
        body: bytes,
    ) -> Answer:
        self.failed_assertions += 1
        self.failures.append(Failure(self.clock(), exchange, str(error), body[:SAMPLE_BYTES_MAX]))
        if isinstance(error, LineItemFailed):
            self._blame(error.line_item)
        return self._no_bid(request.id, _count(counts, NoBidReason.INTERNAL_ERROR), place)

    def _blame(self, item: int) -> None:
        """After QUARANTINE_AFTER failed assertions a line item is left out, until the catalog changes or a restart."""
        name = self._view.part.line_items[item].id
        self._failed_items[name] = self._failed_items.get(name, 0) + 1
        if self._failed_items[name] != QUARANTINE_AFTER:
            return
        if self._on_quarantine is not None:
            self._on_quarantine(name)
        else:
            self.swap(compile_view(quarantine(self._view.inputs, name), self._view))


_SHORT: Final = {reason: Answer(204, b"", reason) for reason in NoBidReason}


def _count(counts: ExchangeCounts, reason: NoBidReason) -> NoBidReason:
    counts.no_bids[reason] = counts.no_bids.get(reason, 0) + 1
    return reason


def deadline_after_ns(tmax_ms: int, place: ExchangePart) -> int:
    """Own deadline: ``tmax`` less the network round trip, and never more than the profile's; a request that leaves us
    no time at all is late at once. ``tmax`` 0 or absurd: the profile's."""
    profile = place.profile
    own_ms = profile.deadline_ms_max
    if tmax_ms > 0:
        own_ms = min(tmax_ms - profile.round_trip_ms, own_ms)
    return own_ms * NS_PER_MS
