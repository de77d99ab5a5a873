"""A seeded bandit to measure creative choice in. ``python -m tests.creative.bandit`` prints the figures of docs/agents.md.

bandit-v1: one line item with 8 banners of one size. Log click rate = log(0.02) + colour effect (4 colours, sd 0.3) + own
effect (sd 0.35). 200 impressions pass between policies, which is how the bidder sees them: frozen and a little old.
Three ways to choose meet the same people in the same order: impression i is clicked by creative k when
uniform(seed, i) < rate_k, so that differences are paired. Uniform and the agent are the real kernel; greedy takes the
highest posterior mean of the same model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from counterpoint.base.clock import NS_PER_S
from counterpoint.base.rng import mix64
from counterpoint.catalog.model import Campaign, Catalog, Creative, LineItem, Media
from counterpoint.creative.click_model import Counts
from counterpoint.creative.learner import CreativeConfig, CreativeLearner
from counterpoint.creative.policy import CompiledCreative, choose, compile_creative, prepare_creative
from counterpoint.events.facts import ClickSeen, ImpressionSeen

CREATIVES = 8
COLOURS = ("red", "green", "blue", "grey")
T0 = 1_767_225_600 * NS_PER_S
BATCH = 200


def catalog(creatives: int = CREATIVES) -> Catalog:
    ids = [f"cr-{k}" for k in range(creatives)]
    return Catalog(
        campaigns=(Campaign(id="c", advertiser_id="a", name="", daily_budget_micros=1),),
        line_items=(LineItem(id="li", campaign_id="c", creative_ids=tuple(ids), expected_click_rate=0.01),),
        creatives=tuple(
            Creative(
                id=name,
                advertiser_id="a",
                media=Media.BANNER,
                click_url="https://a.example",
                w=300,
                h=250,
                features={"colour": COLOURS[k % len(COLOURS)]},
            )
            for k, name in enumerate(ids)
        ),
    )


def true_rates(seed: int) -> NDArray[np.float64]:
    rng = np.random.default_rng([seed, 7])
    colours = rng.normal(0, 0.3, len(COLOURS))
    own = rng.normal(0, 0.35, CREATIVES)
    return np.array([0.02 * math.exp(colours[k % len(COLOURS)] + own[k]) for k in range(CREATIVES)])


@dataclass
class Chooser:
    """Draws with the real kernel, one impression at a time."""

    compiled: CompiledCreative
    uniform: bool

    def __post_init__(self) -> None:
        n = len(self.compiled.weight)
        self._li, self._cr = np.zeros(n, dtype=np.int32), np.arange(n, dtype=np.int32)
        self._campaign, self._exploration = np.zeros(1, dtype=np.int32), np.array([1_000_000], dtype=np.int64)
        self._out_li, self._out_cr = np.zeros(n, dtype=np.int32), np.zeros(n, dtype=np.int32)
        self._out_propensity, self._out_ctr = np.zeros(n), np.zeros(n)

    def draw(self, key: int) -> tuple[int, float]:
        """(creative, propensity)"""
        choose(
            len(self._cr),
            self._li,
            self._cr,
            self.compiled.weight,
            self.compiled.click_rate,
            self._campaign,
            self._exploration,
            self.compiled.epsilon,
            int(self.uniform),
            np.uint64(key),
            self._out_li,
            self._out_cr,
            self._out_propensity,
            self._out_ctr,
        )
        return int(self._out_cr[0]), float(self._out_propensity[0])


def run(way: str, seed: int, impressions: int, scale: float = 0.7) -> tuple[int, float]:
    """(clicks, clicks per impression estimated for the uniform way by inverse propensity)"""
    rates = true_rates(seed)
    people = np.random.default_rng([seed, 8]).random(impressions)
    world = catalog()
    frame = prepare_creative(world.line_items, world.creatives)
    learner = CreativeLearner(world, CreativeConfig(posterior_scale=scale), seed=seed)
    chooser = Chooser(compile_creative(None, frame), way == "uniform")
    clicks, weighted, now_ns, best = 0, 0.0, T0, 0
    fields = {
        "source": "t",
        "exchange": "adx",
        "segment": "adx/banner",
        "campaign_id": "c",
        "line_item_id": "li",
    }
    for at in range(impressions):
        if at % BATCH == 0 and way != "uniform":
            now_ns += 2 * NS_PER_S
            learner.tick(now_ns)
            policy = learner.policy(now_ns)
            chooser = Chooser(compile_creative(policy, frame), False)
            means = [policy.scores[f"cr-{k}"].click_rate if policy.scores else 0.0 for k in range(CREATIVES)]
            best = int(np.argmax(means)) if policy.scores else at // BATCH % CREATIVES
        chosen, propensity = (best, 1.0) if way == "greedy" else chooser.draw(mix64(seed * 1_000_003 + at))
        clicked = bool(people[at] < rates[chosen])
        clicks += clicked
        weighted += clicked / propensity / CREATIVES
        base = {
            "happened_at_ns": now_ns,
            "recorded_at_ns": now_ns,
            "bid_id": f"b{at}",
            "creative_id": f"cr-{chosen}",
        }
        if way != "uniform":
            learner.on([ImpressionSeen(event_id=f"imp-b{at}", **fields, **base)], now_ns)  # type: ignore[arg-type]
            if clicked:
                learner.on([ClickSeen(event_id=f"click-b{at}", **fields, **base)], now_ns)  # type: ignore[arg-type]
    assert way == "uniform" or sum(c.impressions for c in _counts(learner)) <= impressions
    return clicks, weighted / impressions


def _counts(learner: CreativeLearner) -> list[Counts]:
    return list(learner._state.counts.values())


def main(seeds: int = 20, impressions: int = 20_000) -> None:
    uniform = np.array([run("uniform", seed, impressions)[0] for seed in range(seeds)])
    oracle = np.array([impressions * true_rates(seed).max() for seed in range(seeds)])
    found = {"greedy": np.array([run("greedy", seed, impressions)[0] for seed in range(seeds)])}
    for scale in (1.0, 0.7, 0.5):
        found[f"agent, scale {scale}"] = np.array(
            [run("agent", s, impressions, scale)[0] for s in range(seeds)]
        )
    print(
        f"bandit-v1, {seeds} seeds x {impressions} impressions; uniform {np.mean(uniform / oracle):.3f} of oracle"
    )
    for name, clicks in found.items():
        for other, base in (("uniform", uniform), ("greedy", found["greedy"])):
            gain = clicks / base - 1.0
            half = 2.09 * gain.std(ddof=1) / math.sqrt(seeds)
            print(
                f"{name:18s} {np.mean(clicks / oracle):.3f} of oracle; vs {other} {gain.mean():+.3f} +/- {half:.3f}"
            )


if __name__ == "__main__":
    main()
