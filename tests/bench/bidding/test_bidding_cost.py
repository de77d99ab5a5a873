"""The stream that costs are measured with teaches what a busy day teaches: curves, classes, features, orders."""

from __future__ import annotations

from counterpoint.base.clock import NS_PER_S
from counterpoint.bench.bidding.events_mix import T0_NS, catalog, stream
from counterpoint.bidding.check import validate
from counterpoint.bidding.learner import BiddingLearner


def test_the_stream_teaches_everything_that_is_timed() -> None:
    learner = BiddingLearner(catalog(4, 8))
    for run in range(2):
        at_ns = T0_NS + 60 * run * NS_PER_S
        learner.on(stream(8_000, 4, 8, seed=run, at_ns=at_ns, rate=4_000.0), at_ns + 2 * NS_PER_S)
        learner.tick(at_ns + 2 * NS_PER_S)
    policy = learner.policy(T0_NS + 200 * NS_PER_S)
    validate(policy)
    assert any("/~" in name for name in policy.curves)
    assert policy.value.slots
    assert policy.order_values_micros
    refused = learner.refused()
    assert (refused.predictions, refused.wins_repeated, refused.losses_after_win, refused.orders) == (
        0,
        0,
        0,
        0,
    )
