"""What joins a learner to a bus, without the bus: events in, decisions waiting to be published, a sign of life.

The agent's process feeds it from its subscriptions, a simulator from the memory bus at simulated time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from counterpoint.base.clock import NS_PER_MS
from counterpoint.bus.bus import Delivery
from counterpoint.events import subjects
from counterpoint.events.agent import Decision, Learner
from counterpoint.events.decisions import AgentBeat, PolicyPublished

LISTENS: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "budget": {
        subjects.MONEY: ("money.ledger.>",),
        subjects.FACTS: ("facts.>",),
        subjects.DECISIONS: (
            "decisions.policy.>",
            "decisions.resolution.>",
            "decisions.stops",
            "decisions.catalog",
        ),
    },
    "bidding": {
        subjects.MONEY: ("money.ledger.>",),
        subjects.FACTS: ("facts.>",),
        subjects.DECISIONS: (
            "decisions.alarm.>",
            "decisions.policy.>",
            "decisions.resolution.>",
            "decisions.stops",
            "decisions.catalog",
        ),
    },
    "creative": {
        subjects.FACTS: ("facts.outcomes.>",),
        subjects.DECISIONS: ("decisions.resolution.>", "decisions.stops", "decisions.catalog"),
    },
    "feedback": {
        subjects.MONEY: ("money.ledger.>",),
        subjects.FACTS: ("facts.>",),
        subjects.DECISIONS: ("decisions.>",),
    },
}

BEAT_NS: Final = 500 * NS_PER_MS
PENDING_MAX: Final = (
    1_000  # decisions that wait for the bus; past that the oldest go: a newer one supersedes them
)


class LearnerDesk:
    """One learner's. ``on_catalog`` is called where the bus says that the catalog changed; an agent that ``is_stopped``
    hears, but does not speak. ``incarnation`` names this life of it."""

    def __init__(
        self,
        learner: Learner,
        incarnation: str,
        is_stopped: Callable[[], bool],
        on_catalog: Callable[[], None],
    ) -> None:
        self.learner = learner
        self.incarnation = incarnation
        self.is_stopped = is_stopped
        self.on_catalog = on_catalog
        self.positions: dict[str, int] = {}
        self.policy_version = 0
        self.events_seen = 0
        self.decisions_dropped = 0
        self.pending: deque[Decision] = deque()  # to be published, in order; say published() of the first
        self._beat_count = 0
        self._beat_at_ns = 0

    def take(self, deliveries: Sequence[Delivery], now_ns: int) -> None:
        for delivery in deliveries:
            if delivery.subject == subjects.CATALOG:
                self.on_catalog()
            self.events_seen += len(delivery.events)
            self._decided(self.learner.on(delivery.events, now_ns))
            self.positions[delivery.stream] = delivery.sequence

    def tick(self, now_ns: int) -> None:
        self._decided(self.learner.tick(now_ns))

    def _decided(self, decisions: Sequence[Decision]) -> None:
        if self.is_stopped():
            return
        for decision in decisions:
            if len(self.pending) >= PENDING_MAX:
                self.pending.popleft()
                self.decisions_dropped += 1
            self.pending.append(decision)

    def published(self) -> None:
        """The first of ``pending`` is on the bus, or will never be."""
        decision = self.pending.popleft()
        if isinstance(decision.event, PolicyPublished):
            self.policy_version = decision.event.policy_version

    def beat(self, now_ns: int, state: str, lag_events: int, force: bool = False) -> AgentBeat | None:
        """The sign of life, when one is due."""
        if not force and now_ns - self._beat_at_ns < BEAT_NS:
            return None
        self._beat_at_ns = now_ns
        self._beat_count += 1
        decision, why = self.learner.explain()
        return AgentBeat(
            event_id=f"beat-{self.incarnation}-{self._beat_count}",
            happened_at_ns=now_ns,
            recorded_at_ns=now_ns,
            source=f"agent/{self.learner.name}",
            agent=self.learner.name,
            incarnation=self.incarnation,
            state=state,
            policy_version=self.policy_version,
            position=self.positions.get(subjects.FACTS, 0),
            lag_events=lag_events,
            last_decision=decision,
            why=why,
            metrics={
                "events_seen": float(self.events_seen),
                "decisions_dropped": float(self.decisions_dropped),
            },
        )
