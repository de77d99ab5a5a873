"""What a verified notice changes here: reservations, counts of people, touches, facts. No signature, nothing that waits.

The tracker hands it what it has verified and makes settlements durable in between; an exchange in the same process
hands it the signed bid itself.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from msgspec.structs import replace

from counterpoint.base.clock import Clock
from counterpoint.bidder.allowances import AllowanceBook
from counterpoint.bidder.attribution import Attribution
from counterpoint.bidder.directory import Directory
from counterpoint.bidder.frequency import FrequencyBook, bid_key, line_item_key
from counterpoint.bidder.notices import Judgement, NoticeOutcome, judge
from counterpoint.bidder.signing import NoticeKind, SignedBid
from counterpoint.bus.bus import Outbox
from counterpoint.events.money import SettlementNoticed
from counterpoint.openrtb.macros import NoticeValues

SEEN_PER_GENERATION: Final = 100_000  # bids; two generations are kept, about 20 MB

_BIT: Final = {kind: 1 << place for place, kind in enumerate(NoticeKind)}
_SETTLED: Final = 1 << 8
_WIN_TOLD: Final = 1 << 9
_WON: Final = _BIT[NoticeKind.WIN] | _BIT[NoticeKind.BILLING] | _SETTLED | _WIN_TOLD


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


class NoticeDesk:
    """``directory`` is replaced when the catalog changes. ``source`` is ``bidder/{id}``. ``facts`` None: nobody listens,
    and only what is counted here is made."""

    def __init__(
        self,
        *,
        facts: Outbox | None,
        directory: Directory,
        allowances: AllowanceBook,
        frequency: FrequencyBook,
        attribution: Attribution,
        clock: Clock,
        source: str,
        seen: SeenBids | None = None,
    ) -> None:
        self.facts = facts
        self.directory = directory
        self.allowances = allowances
        self.frequency = frequency
        self.attribution = attribution
        self.clock = clock
        self.source = source
        self.counters = TrackerCounters()
        self.seen = seen if seen is not None else SeenBids()

    # ---- money

    def settling(
        self,
        kind: NoticeKind,
        bid: SignedBid,
        values: NoticeValues,
        tried: SettlementNoticed | None = None,
    ) -> tuple[Judgement, SettlementNoticed | None]:
        """What a notice that settles books, for the caller to make durable and hand to :meth:`settled`; None: nothing,
        as the judgement's outcome says. The money is spent here from now on.

        ``tried``: what came of it before, where that could not be made durable; it is the very same on the retry."""
        bits = self.seen.bits(bid.bid_id)
        if bits & _SETTLED:
            return _REPLAYED, None
        now_ns = self.clock.now_ns()
        judgement = judge(
            kind, bid, values, now_ns, self.source, bool(bits & _WIN_TOLD), self.facts is not None
        )
        settlement = judgement.settlement
        if settlement is None:
            return judgement, None
        if tried is not None:
            return judgement, tried
        for anomaly in judgement.anomalies:
            self.counters.anomalies[anomaly] += 1
        # A win notice prolonged the reservation beyond what was signed: on time is what we still held money for.
        held_until_ns = self.allowances.settled(bid.bid_id, settlement.paid_nanos)
        if held_until_ns > settlement.reservation_until_ns:
            settlement = replace(settlement, reservation_until_ns=held_until_ns)
        return judgement, settlement

    def settled(
        self, kind: NoticeKind, bid: SignedBid, settlement: SettlementNoticed, judgement: Judgement
    ) -> None:
        """The settlement is durable: the person has seen it, and everybody may hear."""
        self.seen.add(bid.bid_id, _BIT[kind] | _SETTLED | _WIN_TOLD)
        self.counters.settled_nanos += settlement.paid_nanos
        self.counters.excess_nanos += settlement.excess_nanos
        self._shown(bid, settlement.happened_at_ns)
        self._publish(judgement)

    # ---- information

    def inform(
        self, kind: NoticeKind, bid: SignedBid, values: NoticeValues, settles_now: bool = False
    ) -> NoticeOutcome:
        """A notice that is not money. ``settles_now``: a settlement of this bid is on its way to the bus."""
        bits = self.seen.bits(bid.bid_id)
        if bits & _BIT[kind]:
            return NoticeOutcome.REPLAYED
        if kind is NoticeKind.LOSS and (bits & _WON or settles_now):
            return NoticeOutcome.CONTRADICTED
        now_ns = self.clock.now_ns()
        judgement = judge(
            kind, bid, values, now_ns, self.source, bool(bits & _WIN_TOLD), self.facts is not None
        )
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
        facts = judgement.facts
        if not facts:
            return
        if self.facts is not None:
            for fact in facts:
                if not self.facts.offer(fact):
                    self.counters.facts_shed += 1
        self.attribution.on(facts)


_REPLAYED: Final = Judgement(NoticeOutcome.REPLAYED)
