"""The tracker's shell: verify, judge, make durable, tell (``notice_desk.py``). One event loop, nothing waits here.

What changes money waits for the group commit; what informs goes to the outbox, which may shed and counts it. A notice
seen before changes nothing: a bounded memory in front recognises most repeats, the ledger's unique key on the bid id
all of them.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Final
from urllib.parse import unquote_plus

from msgspec import Struct

from counterpoint.base.clock import Clock
from counterpoint.bidder.allowances import AllowanceBook
from counterpoint.bidder.attribution import Attribution
from counterpoint.bidder.committer import Committer
from counterpoint.bidder.directory import CLICK_ID, Directory
from counterpoint.bidder.frequency import FrequencyBook
from counterpoint.bidder.markup_memory import MarkupMemory
from counterpoint.bidder.notice_desk import NoticeDesk, SeenBids
from counterpoint.bidder.notices import Judgement, NoticeOutcome, settles
from counterpoint.bidder.signing import BadToken, NoticeKind, SignedBid, Signer
from counterpoint.bus.bus import Outbox
from counterpoint.events import subjects
from counterpoint.events.money import SettlementNoticed
from counterpoint.openrtb.macros import NoticeValues, parse_notice

UNSAVED_MAX: Final = 20_000  # settlements answered 503 whose retry is awaited
PARAMETERS_MAX: Final = 32
PARAMETER_BYTES_MAX: Final = 512


class Verdict(Struct, frozen=True):
    """What to answer. ``location``: where a click goes, from the catalog; None: nowhere we know."""

    outcome: NoticeOutcome
    location: str | None = None


class Tracker(NoticeDesk):
    """A :class:`NoticeDesk` behind signed URLs and a group commit."""

    def __init__(
        self,
        *,
        signer: Signer,
        committer: Committer,
        facts: Outbox,
        directory: Directory,
        allowances: AllowanceBook,
        frequency: FrequencyBook,
        attribution: Attribution,
        clock: Clock,
        source: str,
        seen: SeenBids | None = None,
        markups: MarkupMemory | None = None,
    ) -> None:
        super().__init__(
            facts=facts,
            directory=directory,
            allowances=allowances,
            frequency=frequency,
            attribution=attribution,
            clock=clock,
            source=source,
            seen=seen,
        )
        self.signer = signer
        self.committer = committer
        self.markups = markups if markups is not None else MarkupMemory()  # shared with the engine
        self._committing: dict[str, asyncio.Future[Verdict]] = {}  # bounded by the committer's pending
        self._unsaved: OrderedDict[str, SettlementNoticed] = OrderedDict()

    def notice(self, kind: NoticeKind, token: bytes, query: bytes = b"") -> Verdict | asyncio.Future[Verdict]:
        """Take one notice in. The future resolves when the settlement is durable, or is known not to be."""
        bid = self.signer.verify(kind, token)
        if isinstance(bid, BadToken):
            self.counters.bad_tokens[bid.why] += 1
            outcome = NoticeOutcome.MALFORMED if bid.why == "malformed" else NoticeOutcome.FORGED
            return self._verdict(kind, outcome)
        if kind is NoticeKind.CLICK:
            outcome = self._inform(kind, bid, query)
            return self._verdict(kind, outcome, self._target(bid, token))
        if settles(kind, bid):
            return self._settle(kind, bid, query)
        return self._verdict(kind, self._inform(kind, bid, query))

    def click_target(self, token: bytes) -> str | None:
        """Where a click would go, without it being one (HEAD)."""
        bid = self.signer.verify(NoticeKind.CLICK, token)
        return None if isinstance(bid, BadToken) else self._target(bid, token)

    def markup(self, token: bytes) -> str:
        """The markup that a win notice fetches (4.3); "" where the bid carried it, or it is not held here any more."""
        if not self.markups:
            return ""
        bid = self.signer.verify(NoticeKind.WIN, token)
        return "" if isinstance(bid, BadToken) else self.markups.of(bid.bid_id)

    # ---- money

    def _settle(self, kind: NoticeKind, bid: SignedBid, query: bytes) -> Verdict | asyncio.Future[Verdict]:
        under_way = self._committing.get(bid.bid_id)
        if under_way is not None:
            self.counters.notices[kind][NoticeOutcome.REPLAYED] += 1
            return under_way
        judgement, settlement = self.settling(kind, bid, _values(query), self._unsaved.get(bid.bid_id))
        if settlement is None:
            return self._verdict(kind, judgement.outcome)
        self._unsaved.pop(bid.bid_id, None)
        saved = self.committer.submit(subjects.notice(bid.exchange), settlement)
        verdict: asyncio.Future[Verdict] = saved.get_loop().create_future()
        self._committing[bid.bid_id] = verdict

        def on_saved(future: asyncio.Future[bool]) -> None:
            durable = not future.cancelled() and future.result()
            self._after_commit(kind, bid, settlement, judgement, durable, verdict)

        saved.add_done_callback(on_saved)
        return verdict

    def _after_commit(
        self,
        kind: NoticeKind,
        bid: SignedBid,
        settlement: SettlementNoticed,
        judgement: Judgement,
        durable: bool,
        verdict: asyncio.Future[Verdict],
    ) -> None:
        self._committing.pop(bid.bid_id, None)
        if durable:
            self.settled(kind, bid, settlement, judgement)
            outcome = NoticeOutcome.SETTLED
        else:
            # The very same event on the retry: what it says of the reservation was true when it first came.
            self._unsaved[bid.bid_id] = settlement
            if len(self._unsaved) > UNSAVED_MAX:
                self._unsaved.popitem(last=False)
            outcome = NoticeOutcome.NOT_DURABLE
        if not verdict.done():
            verdict.set_result(self._verdict(kind, outcome))

    def _inform(self, kind: NoticeKind, bid: SignedBid, query: bytes) -> NoticeOutcome:
        return self.inform(kind, bid, _values(query), settles_now=bid.bid_id in self._committing)

    # ---- answers

    def _target(self, bid: SignedBid, token: bytes) -> str | None:
        url = self.directory.click_url(bid.creative_id)
        return url.replace(CLICK_ID, token.decode("ascii")) if url is not None else None

    def _verdict(self, kind: NoticeKind, outcome: NoticeOutcome, location: str | None = None) -> Verdict:
        self.counters.notices[kind][outcome] += 1
        return Verdict(outcome, location)


def _values(query: bytes) -> NoticeValues:
    """The macro values of a raw query. The first of a repeated parameter counts; excess parameters are not read."""
    found: dict[str, str] = {}
    if query:
        for part in query.split(b"&", PARAMETERS_MAX)[:PARAMETERS_MAX]:
            name, _, value = part.partition(b"=")
            if len(name) == 1 and len(value) <= PARAMETER_BYTES_MAX:
                found.setdefault(name.decode("latin-1"), unquote_plus(value.decode("latin-1")))
    return parse_notice(found)
