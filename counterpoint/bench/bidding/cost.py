"""Part ``cost``: what a price, a publication and an event cost (times: kept apart from the JSON).

Everything has learned before it is timed: curves by segment and class, the value model from contexts, clicks and orders. Wall
clock of one thread; run it while nothing else runs. The interval is the fastest to the slowest repeat.
"""

from __future__ import annotations

import gc
import time
from typing import Final

import numpy as np

from counterpoint.base.clock import NS_PER_MS, NS_PER_S
from counterpoint.bench.bidding.events_mix import EXCHANGES, T0_NS, catalog, contexts, stream
from counterpoint.bench.bidding.verdict import Bar, Context, Measured, PartResult, Table, Verdict
from counterpoint.bidding.check import validate
from counterpoint.bidding.learner import BiddingLearner
from counterpoint.bidding.policy import (
    BiddingPolicy,
    compile_bidding,
    encode,
    prepare_bidding,
    price,
)
from counterpoint.catalog.model import Catalog
from counterpoint.events.event import Event

LINE_ITEMS: Final = 10_000
CAMPAIGNS: Final = 1_000
CANDIDATES: Final = 30
CALLS: Final = 20_000
REPEATS: Final = 5
RATE: Final = 20_000.0  # events a second of the stream
EVENTS: Final = 100_000  # a stretch of it
BATCH: Final = 100
TICK_NS: Final = 200 * NS_PER_MS
WAIT_NS: Final = 60 * NS_PER_S  # after which impressions of the stretch before are learned in the next one
PRICE_US: Final = 20.0
PUBLISH_S: Final = 1.0
EVENTS_PER_S: Final = 20_000.0


def cost(context: Context) -> PartResult:
    shrunk = 10 if context.quick else 1
    items, campaigns, events = LINE_ITEMS // shrunk, CAMPAIGNS // shrunk, EVENTS // shrunk
    listed = catalog(campaigns, items)
    learner = BiddingLearner(listed)
    rates: list[float] = []
    publishing: list[float] = []
    for run in range(1 + REPEATS):  # the first stretch teaches and compiles, and is not counted
        context.report("learning and publishing", run / (2 + REPEATS))
        at_ns = T0_NS + run * WAIT_NS
        heard = stream(events, campaigns, items, seed=run, at_ns=at_ns, rate=RATE)
        seconds, published = _live(learner, heard, at_ns)
        if run:
            rates.append(len(heard) / seconds)
            publishing += published
    context.report("pricing", (1 + REPEATS) / (2 + REPEATS))
    policy = learner.policy(T0_NS + (1 + REPEATS) * WAIT_NS)
    begun = time.perf_counter()
    validate(policy)
    taken_s = time.perf_counter() - begun
    one, thirty = (_prices(policy, listed, n, CALLS // shrunk) for n in (1, CANDIDATES))
    known = f"{len(policy.curves)} curves, {_touched(policy):,} features"
    return PartResult(
        part="cost",
        verdicts=(
            _at_most("one price, value model on, 99th percentile", PRICE_US, one, "us", CALLS),
            _at_most(f"the {CANDIDATES} prices of a request, 99th percentile", PRICE_US, thirty, "us", CALLS),
            Verdict(
                bar=f"pacing {campaigns:,} campaigns and publishing a policy for {items:,} line items, slowest tick",
                kind=Bar.AT_MOST,
                target=PUBLISH_S,
                measured=Measured(value=max(publishing), low=min(publishing), high=max(publishing)),
                behind=f"{len(publishing)} publications, fastest to slowest; {known}",
                unit="s",
            ),
            Verdict(
                bar=f"events the learner takes, {items:,} line items, publishing every second of the stream",
                kind=Bar.AT_LEAST,
                target=EVENTS_PER_S,
                measured=Measured(value=float(np.median(rates)), low=min(rates), high=max(rates)),
                behind=f"{REPEATS} stretches of {events:,} events, median, slowest to fastest",
                unit="events/s",
            ),
            Verdict(
                bar="checking that policy, as a bidder does beside the path",
                kind=Bar.REPORTED,
                target=None,
                measured=Measured(value=taken_s),
                behind="1 run",
                unit="s",
            ),
        ),
        tables=(
            Table(
                title="the policy",
                head=("line items", "curves", "features", "bytes"),
                rows=(
                    (
                        f"{items:,}",
                        f"{len(policy.curves)}",
                        f"{_touched(policy):,}",
                        f"{len(encode(policy)):,}",
                    ),
                ),
            ),
        ),
        timed=True,
    )


def _at_most(bar: str, target: float, measured: Measured, unit: str, calls: int) -> Verdict:
    return Verdict(
        bar=bar,
        kind=Bar.AT_MOST,
        target=target,
        measured=measured,
        behind=f"median of {REPEATS} repeats of {calls:,} calls, lowest to highest",
        unit=unit,
    )


def _touched(policy: BiddingPolicy) -> int:
    compiled = compile_bidding(policy, prepare_bidding((), (), ()))
    return int(np.count_nonzero(compiled.factors != 1.0))


def _live(learner: BiddingLearner, heard: list[Event], at_ns: int) -> tuple[float, list[float]]:
    """(seconds in the learner, seconds of each tick that published)"""
    now_ns, tick_ns = at_ns, at_ns
    taken, published = 0.0, []
    for at in range(0, len(heard), BATCH):
        begun = time.perf_counter()
        learner.on(heard[at : at + BATCH], now_ns)
        taken += time.perf_counter() - begun
        now_ns += int(BATCH / RATE * NS_PER_S)
        if now_ns >= tick_ns:
            tick_ns = now_ns + TICK_NS
            begun = time.perf_counter()
            decisions = learner.tick(now_ns)
            ticked = time.perf_counter() - begun
            taken += ticked
            if decisions:
                published.append(ticked)
    return taken, published


def _prices(policy: BiddingPolicy, listed: Catalog, n: int, calls: int) -> Measured:
    """Microseconds of one call of the kernel with ``n`` candidates, from Python, as the bidder calls it."""
    exchanges = [f"x{k}" for k in range(EXCHANGES)]
    frame = prepare_bidding(listed.campaigns, listed.line_items, exchanges)
    compiled = compile_bidding(policy, frame)
    rng = np.random.default_rng(n)
    items = rng.integers(len(frame.goal), size=(64, n)).astype(np.int32)
    rates = np.exp(rng.normal(-4.6, 0.6, (64, n)))
    seen = [np.frombuffer(c, np.uint32).copy() for c in contexts(0)[:64]]
    ceilings = np.full(len(frame.campaign_position), 20_000_000, np.int64)
    events = np.zeros((8, 4), np.int64)
    keys = [np.uint64(k) for k in rng.integers(2**63, size=64)]
    segments = [compiled.segment(exchanges[k % EXCHANGES], ("banner", "video")[k % 2]) for k in range(64)]
    out_money, out_rates = np.zeros((4, n), np.int64), np.zeros((5, n))
    p99 = []
    clock = time.perf_counter_ns
    for _ in range(REPEATS + 1):
        took = np.empty(calls)
        gc.collect()
        for call in range(calls):
            k = call & 63
            begun = clock()
            price(
                n,
                items[k],
                rates[k],
                compiled.money,
                compiled.values,
                ceilings,
                *compiled.market,
                *compiled.value_model,
                seen[k],
                events,
                segments[k],
                1,
                100_000,
                keys[k],
                out_money,
                out_rates,
            )
            took[call] = clock() - begun
        p99.append(float(np.quantile(took, 0.99)) / 1e3)
    p99 = p99[1:]
    return Measured(value=float(np.median(p99)), low=min(p99), high=max(p99))
