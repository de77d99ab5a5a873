"""Decisions: policies, proposals, resolutions, stops, signs of life. Stream DECISIONS; its own order closes epochs."""

from __future__ import annotations

from msgspec import Struct

from counterpoint.events.event import Event


class HybridTime(Struct, frozen=True, order=True, array_like=True):
    """A hybrid logical clock stamp (Kulkarni et al. 2014), totally ordered with the author's name as the tie-break."""

    physical_ns: int
    logical: int
    node: str


class PolicyPublished(Event, frozen=True, kw_only=True, tag="policy_published"):
    """A new artefact of one agent. Last value per agent. Past ``valid_until_ns`` the stated fallback applies."""

    agent: str  # "budget" | "bidding" | "creative" | "feedback"
    policy_version: int
    checksum: str  # BLAKE2b-128 hex of payload
    payload: bytes  # msgpack of the agent's policy struct, never a pickle
    valid_until_ns: int
    reason: str = ""


class PolicyRejected(Event, frozen=True, kw_only=True, tag="policy_rejected"):
    agent: str
    policy_version: int
    reason: str


class Proposal(Event, frozen=True, kw_only=True, tag="proposal"):
    """A wish of one author about one setting. Values are integers in the unit of the target.

    A wish names ``value`` (the ideal) with ``strength`` as weight; a bound names ``low`` and/or ``high``.
    """

    author: str  # "budget", "bidding", "creative", "feedback", "person:NAME", "ledger", "law"
    target: (
        str  # "campaign/42/bid_ceiling", "campaign/42/budget_share", "agent/bidding/enabled", "all/enabled"
    )
    intent: str  # safety | law | budget | reach | cost | relevance
    stamp: HybridTime
    expires_at_ns: int
    value: int | None = None
    low: int | None = None
    high: int | None = None
    strength: int = 1_000_000  # ppm, 0..1_000_000
    confidence: int = 1_000_000  # ppm
    reason: str = ""
    author_version: int = 0
    withdraws: bool = False  # this author has no wish about the target any more


class Resolution(Event, frozen=True, kw_only=True, tag="resolution"):
    """What a closed set of proposals came to. The same from whoever computes it: ``event_id`` is derived from the
    target, the epoch and the digest, so the bus drops the repeats."""

    target: str
    epoch: int
    value: int
    incumbent: int
    winner: str
    losers: tuple[str, ...]
    why: str
    proposals: tuple[str, ...]  # event ids of the closed set
    previous_digest: str
    digest: str
    provisional: bool = False
    # what the next epoch must know of this one (coordination/resolve.py), so that a fresh replica can go on from here
    moved_epoch: int = 0  # when the value last moved
    direction: int = 0  # +1, -1: where to; 0: never moved
    reversals: int = 0  # quick changes of direction since the last back-off
    dwell_epochs: int = 0  # how long it stays put after a move; 0: the least
    stopped: bool = False  # an "enabled" target: a person's stop holds
    stop_at_ns: int = 0  # when that stop or resume was said; an older one changes nothing


class AgentBeat(Event, frozen=True, kw_only=True, tag="agent_beat"):
    """Alive, and what it last decided: for the console, and for the grid of epochs (any message moves time)."""

    agent: str  # also "ledger", "bidder", "recorder"
    incarnation: str
    state: str  # "starting" | "catching_up" | "running" | "paused" | "stopping"
    policy_version: int = 0
    position: int = 0
    lag_events: int = 0
    last_decision: str = ""
    why: str = ""
    metrics: dict[str, float] = {}


class AlarmRaised(Event, frozen=True, kw_only=True, tag="alarm_raised"):
    """A metric left its expected range. ``z`` is the robust z-score that crossed ``threshold``."""

    metric: str
    subject: str  # what it is about: "agent/bidding", "campaign/42", "exchange/adx"
    observed: float
    expected: float
    z: float
    threshold: float
    action: str = ""


class CatalogChanged(Event, frozen=True, kw_only=True, tag="catalog_changed"):
    """A new catalog is in the database: reload it. Last value."""

    digest: str
    line_items: int = 0


class StopChanged(Event, frozen=True, kw_only=True, tag="stop_changed"):
    """A person stopped or resumed a campaign, an agent or everything. The stop file holds with the bus down too."""

    target: str  # "campaign/42" | "agent/bidding" | "all"
    stopped: bool
    person: str
    reason: str = ""
