"""Arms: a unit stays in its arm, shares are kept, and a configuration that cannot be is refused."""

from __future__ import annotations

import pytest

from counterpoint.base.errors import ConfigError
from counterpoint.bidder.experiment import ARMS, BUCKETS, CompiledExperiment, Experiment, hash64


def test_shares_are_kept_and_the_rest_is_with_the_agents() -> None:
    made = CompiledExperiment(Experiment(shares={"no_agents": 0.1, "no_bidding": 0.05, "agents": 0.3}))
    assert made.shares() == (0.85, 0.1, 0.0, 0.05, 0.0, 0.0)
    counts = [0] * len(ARMS)
    for n in range(20_000):
        counts[made.arms[made.bucket_of(hash64(f"unit{n}"))]] += 1
    for count, share in zip(counts, made.shares(), strict=True):
        assert abs(count / 20_000 - share) < 0.01


def test_a_unit_stays_where_it_is_until_the_experiment_is_another() -> None:
    one, two = CompiledExperiment(Experiment(name="a")), CompiledExperiment(Experiment(name="b"))
    salted = CompiledExperiment(Experiment(name="a", salt="s"))
    buckets = [[made.bucket_of(hash64(str(n))) for n in range(100)] for made in (one, two, salted)]
    assert buckets[0] == [
        CompiledExperiment(Experiment(name="a")).bucket_of(hash64(str(n))) for n in range(100)
    ]
    assert len({tuple(b) for b in buckets}) == 3
    assert all(0 <= b < BUCKETS for b in buckets[0])


@pytest.mark.parametrize(
    "shares", [{"no_agents": 0.7, "no_budget": 0.7}, {"nobody": 0.1}, {"no_budget": -0.1}]
)
def test_shares_that_cannot_be_are_refused(shares: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        CompiledExperiment(Experiment(shares=shares))
