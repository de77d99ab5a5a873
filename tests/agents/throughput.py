"""``python -m tests.agents.throughput``: events a second through the bidding and creative learners on one core.

The mix of ``counterpoint.bench.bidding.events_mix`` with 20 campaigns, 8 segments, batches of 100, ticks every 200 ms of a
stream of 10,000 events a second, policies published as they fall due. Decoding from the bus is not in it.
"""

from __future__ import annotations

import time

from counterpoint.base.clock import NS_PER_S
from counterpoint.bench.bidding.events_mix import T0_NS, catalog, stream
from counterpoint.bidding.learner import BiddingLearner
from counterpoint.creative.learner import CreativeLearner
from counterpoint.events.agent import Learner
from counterpoint.events.event import Event
from counterpoint.events.facts import ClickSeen, ImpressionSeen

CAMPAIGNS, EACH = 20, 5


def measure(learner: Learner, events: list[Event]) -> tuple[float, float, int]:
    """(events a second, milliseconds of one snapshot, its bytes)"""
    now_ns = T0_NS
    started = time.perf_counter()
    for at in range(0, len(events), 100):
        learner.on(events[at : at + 100], now_ns)
        now_ns += NS_PER_S // 100
        if at % 2_000 == 0:
            learner.tick(now_ns)
    rate = len(events) / (time.perf_counter() - started)
    started = time.perf_counter()
    size = len(learner.snapshot())
    return rate, (time.perf_counter() - started) * 1e3, size


def main() -> None:
    listed = catalog(CAMPAIGNS, CAMPAIGNS, EACH)
    events = stream(200_000, CAMPAIGNS, CAMPAIGNS, seed=1, at_ns=T0_NS, rate=10_000.0, creatives_each=EACH)
    outcomes: list[Event] = [e for e in events if isinstance(e, ImpressionSeen | ClickSeen)]
    for learner, heard in ((BiddingLearner(listed), events), (CreativeLearner(listed), outcomes)):
        rate, snapshot_ms, size = measure(learner, heard)
        print(
            f"{learner.name}: {rate:,.0f} events/s over {len(heard):,}; snapshot {snapshot_ms:.0f} ms, {size:,} bytes"
        )


if __name__ == "__main__":
    main()
