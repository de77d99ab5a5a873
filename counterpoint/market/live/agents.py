"""The live learners at simulated time: each hears the memory bus and speaks on it, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Final, Protocol

from counterpoint.base.errors import ConfigError
from counterpoint.bidding.learner import BiddingLearner
from counterpoint.budget.learner import BudgetLearner
from counterpoint.bus.memory import MemoryBus
from counterpoint.catalog.model import Catalog
from counterpoint.coordination.learner_desk import LISTENS, LearnerDesk
from counterpoint.creative.learner import CreativeLearner
from counterpoint.events import subjects
from counterpoint.events.agent import Learner
from counterpoint.feedback.learner import FeedbackLearner
from counterpoint.market.live.tempo import Tempo

FETCH_MAX: Final = 256
STREAM_ORDER: Final = (subjects.MONEY, subjects.FACTS, subjects.DECISIONS)


class LiveLearner(Learner, Protocol):
    def set_catalog(self, catalog: Catalog) -> None: ...


Maker = Callable[[Catalog, Tempo], LiveLearner]
LEARNERS: Final[dict[str, Maker]] = {  # in the order in which they are asked
    "budget": lambda catalog, tempo: BudgetLearner(catalog, config=tempo.budget()),
    "bidding": lambda catalog, tempo: BiddingLearner(catalog, tempo.bidding()),
    "creative": lambda catalog, tempo: CreativeLearner(catalog, tempo.creative()),
    "feedback": lambda catalog, tempo: FeedbackLearner(catalog, config=tempo.feedback()),
}


def agents_named(text: str) -> tuple[str, ...]:
    """``all``, ``none``, or names with commas between, in the order of LEARNERS.

    >>> agents_named("creative,bidding")
    ('bidding', 'creative')
    """
    if text == "all":
        return tuple(LEARNERS)
    wanted = set() if text == "none" else {name.strip() for name in text.split(",")}
    unknown = sorted(wanted - set(LEARNERS))
    if unknown:
        raise ConfigError(f"no agent {unknown[0]!r}: all, none, or some of {', '.join(LEARNERS)}")
    return tuple(name for name in LEARNERS if name in wanted)


class Agent:
    """One learner and its subscriptions."""

    def __init__(self, learner: LiveLearner, bus: MemoryBus, incarnation: str) -> None:
        self.learner = learner
        self.desk = LearnerDesk(learner, incarnation, lambda: False, lambda: None)
        self._bus = bus
        listens = LISTENS[learner.name]
        self._subscriptions = [
            bus.subscribe_now(stream, listens[stream]) for stream in STREAM_ORDER if stream in listens
        ]

    def live(self, now_ns: int) -> None:
        """Everything on the bus heard, time passed, decisions published."""
        for subscription in self._subscriptions:
            while deliveries := subscription.fetch_now(FETCH_MAX):
                self.desk.take(deliveries, now_ns)
        self.desk.tick(now_ns)
        pending = self.desk.pending
        while pending:
            decision = pending[0]
            self._bus.publish_now(decision.subject, [decision.event])
            self.desk.published()

    def beat(self, now_ns: int) -> None:
        beat = self.desk.beat(now_ns, "running", 0)
        if beat is not None:
            self._bus.publish_now(subjects.beat(self.learner.name), [beat])


def make_agents(
    names: Collection[str], catalog: Catalog, tempo: Tempo, bus: MemoryBus, incarnation: str
) -> Sequence[Agent]:
    return [
        Agent(make(catalog, tempo), bus, f"{incarnation}-{name}")
        for name, make in LEARNERS.items()
        if name in names
    ]
