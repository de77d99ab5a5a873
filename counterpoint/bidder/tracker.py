"""The tracker's shell: verify, judge, make durable, tell the books and the bus. One event loop, nothing waits here.

What changes money waits for the group commit; what informs goes to the outbox, which may shed and counts it. A notice
seen before changes nothing: a bounded memory in front recognises most repeats, the ledger's unique key on the bid id
all of them.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from typing import Final
from urllib.parse import unquote_plus

from msgspec import Struct
from msgspec.structs import replace

from counterpoint.base.clock import Clock
from counterpoint.bidder.allowances import AllowanceBook
from counterpoint.bidder.attribution import Attribution
from counterpoint.bidder.committer import Committer
from counterpoint.bidder.directory import CLICK_ID, Directory
from counterpoint.bidder.frequency import FrequencyBook, bid_key, line_item_key
from counterpoint.bidder.markup_memory import MarkupMemory
from counterpoint.bidder.notices import Judgement, NoticeOutcome, judge, settles
from counterpoint.bidder.signing import BadToken, NoticeKind, SignedBid, Signer
from counterpoint.bus.bus import Outbox
from counterpoint.events import subjects
from counterpoint.events.money import SettlementNoticed
from counterpoint.openrtb.macros import NoticeValues, parse_notice

SEEN_PER_GENERATION: Final = 100_000  # bids; two generations are kept, about 20 MB
UNSAVED_MAX: Final = 20_000  # settlements answered 503 whose retry is awaited
PARAMETERS_MAX: Final = 32
PARAMETER_BYTES_MAX: Final = 512

_BIT: Final = {kind: 1 << place for place, kind in enumerate(NoticeKind)}
_SETTLED: Final = 1 << 8
_WIN_TOLD: Final = 1 << 9
_WON: Final = _BIT[NoticeKind.WIN] | _BIT[NoticeKind.BILLING] | _SETTLED | _WIN_TOLD


class Verdict(Struct, frozen=True):
    """What to answer. ``location``: where a click goes, from the catalog; None: nowhere we know."""

    outcome: NoticeOutcome
    location: str | None = None


class SeenBids:
    """Bits per bid, for the newest ``per_generation`` to twice as many bids: the older half is forgotten at once."""

    def __init__(self, per_generation: int = SEEN_PER_GENERATION) -> None:
        self.per_generation = per_generation
        self._new: dict[str, int] = {}
        self._old: dict[str, int] = {}

    def bits(self, bid_id: str) -> int:
        found = self._new.get(bid_id)
        return self._old.get(bid_id, 0) if found is None else found

    def add(self, bid_id: str, bits: int) -> None:
        if bid_id not in self._new and len(self._new) >= self.per_generation:
            self._old, self._new = self._new, {}
        self._new[bid_id] = self.bits(bid_id) | bits

    def __len__(self) -> int:
        return len(self._new) + len(self._old)


class TrackerCounters:
    """Plain integers, read by the metrics."""

    def __init__(self) -> None:
        self.notices: dict[NoticeKind, Counter[str]] = {kind: Counter() for kind in NoticeKind}
        self.bad_tokens: Counter[str] = Counter()
        self.anomalies: Counter[str] = Counter()
        self.settled_nanos = 0
        self.excess_nanos = 0
        self.facts_shed = 0


class Tracker:
    """``directory`` is replaced when the catalog changes. ``source`` is ``bidder/{id}``."""

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
        self.signer = signer
        self.committer = committer
        self.facts = facts
        self.directory = directory
        self.allowances = allowances
        self.frequency = frequency
        self.attribution = attribution
        self.clock = clock
        self.source = source
        self.counters = TrackerCounters()
        self.seen = seen if seen is not None else SeenBids()
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
        bits = self.seen.bits(bid.bid_id)
        if bits & _SETTLED:
            return self._verdict(kind, NoticeOutcome.REPLAYED)
        under_way = self._committing.get(bid.bid_id)
        if under_way is not None:
            self.counters.notices[kind][NoticeOutcome.REPLAYED] += 1
            return under_way
        now_ns = self.clock.now_ns()
        judgement = judge(kind, bid, _values(query), now_ns, self.source, bool(bits & _WIN_TOLD))
        if judgement.settlement is None:
            return self._verdict(kind, judgement.outcome)
        settlement = self._unsaved.pop(bid.bid_id, None)
        if settlement is None:
            settlement = judgement.settlement
            for anomaly in judgement.anomalies:
                self.counters.anomalies[anomaly] += 1
            # A win notice prolonged the reservation beyond what was signed: on time is what we still held money for.
            held_until_ns = self.allowances.settled(bid.bid_id, settlement.paid_nanos)
            if held_until_ns > settlement.reservation_until_ns:
                settlement = replace(settlement, reservation_until_ns=held_until_ns)
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
            self.seen.add(bid.bid_id, _BIT[kind] | _SETTLED | _WIN_TOLD)
            self.counters.settled_nanos += settlement.paid_nanos
            self.counters.excess_nanos += settlement.excess_nanos
            self._shown(bid, settlement.happened_at_ns)
            self._publish(judgement)
            outcome = NoticeOutcome.SETTLED
        else:
            # The very same event on the retry: what it says of the reservation was true when it first came.
            self._unsaved[bid.bid_id] = settlement
            if len(self._unsaved) > UNSAVED_MAX:
                self._unsaved.popitem(last=False)
            outcome = NoticeOutcome.NOT_DURABLE
        if not verdict.done():
            verdict.set_result(self._verdict(kind, outcome))

    # ---- information

    def _inform(self, kind: NoticeKind, bid: SignedBid, query: bytes) -> NoticeOutcome:
        bits = self.seen.bits(bid.bid_id)
        if bits & _BIT[kind]:
            return NoticeOutcome.REPLAYED
        if kind is NoticeKind.LOSS and (bits & _WON or bid.bid_id in self._committing):
            return NoticeOutcome.CONTRADICTED
        now_ns = self.clock.now_ns()
        judgement = judge(kind, bid, _values(query), now_ns, self.source, bool(bits & _WIN_TOLD))
        if judgement.outcome is not NoticeOutcome.INFORMED:
            return judgement.outcome
        told = _BIT[kind]
        if kind in (NoticeKind.WIN, NoticeKind.BILLING):
            told |= _WIN_TOLD
            self.allowances.won(bid.bid_id, now_ns + self.directory.billing_delay_ns(bid.exchange))
        elif kind is NoticeKind.LOSS:
            self.allowances.lost(bid.bid_id)
            if bid.user_key:
                self.frequency.release(bid.user_key, bid_key(bid.bid_id))
        elif kind is NoticeKind.IMPRESSION:
            self._shown(bid, now_ns)
        self.seen.add(bid.bid_id, told)
        self._publish(judgement)
        return judgement.outcome

    def _shown(self, bid: SignedBid, at_ns: int) -> None:
        if bid.user_key and bid.line_item_id in self.directory.capped:
            self.frequency.confirm(
                bid.user_key,
                line_item_key(bid.line_item_id),
                bid_key(bid.bid_id),
                at_ns,
                self.clock.now_ns(),
            )

    def _publish(self, judgement: Judgement) -> None:
        for fact in judgement.facts:
            if not self.facts.offer(fact):
                self.counters.facts_shed += 1
        self.attribution.on(judgement.facts)

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
