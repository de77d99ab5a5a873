"""The bidding parts without the system: the example runs, and bad numbers are contained."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

from counterpoint.bidding.alone import AloneBidder


def test_the_example_beats_the_best_constant_share() -> None:
    path = Path(__file__).parents[2] / "examples" / "bidding_alone.py"
    spec = importlib.util.spec_from_file_location("bidding_alone", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    ours, best = module.main()
    assert ours > best


def test_bad_numbers_are_refused_counted_and_change_nothing() -> None:
    bidder = AloneBidder(1_000_000_000, 1_000)
    bids = bidder.price(np.array([np.nan, -1.0, np.inf, 2e6]))
    assert (bids[:3] == 0).all()
    assert 0 < bids[3] <= 2_000_000
    assert bidder.refused.values == 3
    won = np.array([False, False, False, True])
    bidder.learn(bids, won, paid_micros=np.array([0, 0, 0, 10**15]))
    assert bidder.refused.prices == 1
    assert bidder.spent_nanos == bids[3]
    assert np.isfinite(bidder.multiplier)
