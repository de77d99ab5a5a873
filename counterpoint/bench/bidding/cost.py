"""Part ``cost``: what a publication costs (times: kept apart from the JSON)."""

from __future__ import annotations

import time
from typing import Final

import numpy as np

from counterpoint.base.clock import NS_PER_S
from counterpoint.bench.bidding.verdict import Bar, Context, Measured, PartResult, Verdict
from counterpoint.bidding.learner import BiddingLearner
from counterpoint.catalog.model import Campaign, Catalog, LineItem

T0_NS: Final = 1_767_225_600 * NS_PER_S
LINE_ITEMS: Final = 10_000
CAMPAIGNS: Final = 1_000
RUNS: Final = 10
PUBLISH_S: Final = 1.0


def cost(context: Context) -> PartResult:
    """Wall clock of a tick that paces every campaign and publishes; the slowest of RUNS is judged."""
    items = LINE_ITEMS // 10 if context.quick else LINE_ITEMS
    campaigns = CAMPAIGNS // 10 if context.quick else CAMPAIGNS
    learner = BiddingLearner(_catalog(items, campaigns))
    learner.tick(T0_NS)
    seconds = []
    for run in range(1, RUNS + 1):
        context.report("publishing", run / RUNS)
        learner.set_catalog(_catalog(items, campaigns))  # something changed: there is news to publish
        begun = time.perf_counter()
        decisions = learner.tick(T0_NS + run * 60 * NS_PER_S)
        seconds.append(time.perf_counter() - begun)
        assert decisions, "a changed catalog is published"
    measured = Measured(value=max(seconds), low=float(np.min(seconds)), high=max(seconds))
    verdict = Verdict(
        bar=f"pacing {campaigns:,} campaigns and publishing a policy for {items:,} line items, slowest",
        kind=Bar.AT_MOST,
        target=PUBLISH_S,
        measured=measured,
        behind=f"{RUNS} ticks, fastest to slowest",
        unit="s",
    )
    skipped = (
        "one price in the hot path: docs/agents.md has the kernel's time, no bar is checked here yet",
        "events a second: python -m tests.agents.throughput, no bar is checked here yet",
    )
    return PartResult(part="cost", verdicts=(verdict,), skipped=skipped, timed=True)


def _catalog(items: int, campaigns: int) -> Catalog:
    return Catalog(
        campaigns=tuple(
            Campaign(
                id=f"c{k}", advertiser_id="a", name="", daily_budget_micros=10**8, goal_value_micros=10**6
            )
            for k in range(campaigns)
        ),
        line_items=tuple(LineItem(id=f"li{k}", campaign_id=f"c{k % campaigns}") for k in range(items)),
    )
