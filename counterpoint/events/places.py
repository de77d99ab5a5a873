"""Which event belongs on which subject, and who may put it there.

A credential can only publish to its own subjects; what it writes *into* a batch, the bus cannot see. So an event counts
only where it belongs: a settlement inside somebody's proposals, or a proposal in another author's name, is not read.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from counterpoint.events import decisions, facts, money, subjects
from counterpoint.events.event import Event


class Place(Struct, frozen=True):
    event: type[Event]
    stream: str
    prefix: str  # the subject up to its last token
    key: str  # what the last token is; "" where the subject has no key
    publishers: str
    last_value: bool = False  # consumers read the newest per subject at start-up
    speaker: Callable[[Event], str] | None = None  # the subject this very event must be on


def _proposer(event: Event) -> str:
    assert isinstance(event, decisions.Proposal)
    return subjects.proposal(event.author)


def _policy_maker(event: Event) -> str:
    assert isinstance(event, decisions.PolicyPublished)
    return subjects.policy(event.agent)


def _commander(event: Event) -> str:
    assert isinstance(event, money.BidderStarted | money.AllowanceRequested | money.AllowanceReturned)
    return subjects.money_command(event.bidder_id)


_M, _F, _D = subjects.MONEY, subjects.FACTS, subjects.DECISIONS
_LEDGER, _BIDDER = "role ledger", "role bidder (bidder and tracker)"

PLACES: dict[type[Event], Place] = {
    place.event: place
    for place in (
        Place(money.SettlementNoticed, _M, "money.notice", "exchange", _BIDDER),
        Place(money.BidderStarted, _M, "money.command", "bidder", _BIDDER, speaker=_commander),
        Place(money.AllowanceRequested, _M, "money.command", "bidder", _BIDDER, speaker=_commander),
        Place(money.AllowanceReturned, _M, "money.command", "bidder", _BIDDER, speaker=_commander),
        Place(money.AllowanceGranted, _M, "money.ledger.grant", "bidder", _LEDGER),
        Place(money.AllowanceRefused, _M, "money.ledger.grant", "bidder", _LEDGER),
        Place(money.SpendBooked, _M, "money.ledger.booked", "campaign", _LEDGER),
        Place(money.BalanceReported, _M, "money.ledger.balance", "campaign", _LEDGER, last_value=True),
        Place(money.BudgetMoved, _M, "money.ledger.moved", "pool", _LEDGER),
        Place(facts.BidPlaced, _F, "facts.bids", "bidder", _BIDDER),
        Place(facts.AuctionWon, _F, "facts.outcomes", "bidder", _BIDDER),
        Place(facts.AuctionLost, _F, "facts.outcomes", "bidder", _BIDDER),
        Place(facts.ImpressionSeen, _F, "facts.outcomes", "bidder", _BIDDER),
        Place(facts.ClickSeen, _F, "facts.outcomes", "bidder", _BIDDER),
        Place(facts.AdSkipped, _F, "facts.outcomes", "bidder", _BIDDER),
        Place(facts.ConversionAttributed, _F, "facts.outcomes", "bidder", _BIDDER),
        Place(facts.ConversionUnattributed, _F, "facts.outcomes", "bidder", _BIDDER),
        Place(facts.TrafficCounted, _F, "facts.traffic", "bidder", _BIDDER),
        Place(
            decisions.PolicyPublished,
            _D,
            "decisions.policy",
            "agent",
            "that agent",
            last_value=True,
            speaker=_policy_maker,
        ),
        Place(decisions.PolicyRejected, _D, "decisions.rejected", "agent", _BIDDER),
        Place(
            decisions.Proposal,
            _D,
            "decisions.proposal",
            "author",
            "that author; people by role console",
            speaker=_proposer,
        ),
        Place(
            decisions.Resolution,
            _D,
            "decisions.resolution",
            "target",
            "roles ledger and bidder",
            last_value=True,
        ),
        Place(decisions.AgentBeat, _D, "decisions.beat", "source", "that process", last_value=True),
        Place(decisions.AlarmRaised, _D, "decisions.alarm", "agent", "that agent"),
        Place(decisions.CatalogChanged, _D, subjects.CATALOG, "", "role console", last_value=True),
        Place(decisions.StopChanged, _D, subjects.STOPS, "", "role console"),
    )
}


def belongs(event: Event, subject: str) -> bool:
    """May this event travel on this subject? What a module outside this package defines may not.

    >>> event = decisions.StopChanged(event_id="1", happened_at_ns=0, recorded_at_ns=0, source="cli", target="all",
    ...     stopped=True, person="ann")
    >>> belongs(event, subjects.STOPS), belongs(event, subjects.proposal("budget"))
    (True, False)
    """
    place = PLACES.get(type(event))
    if place is None:
        return False
    if place.speaker is not None:
        return place.speaker(event) == subject
    if not place.key:
        return subject == place.prefix
    return subject.rpartition(".")[0] == place.prefix
