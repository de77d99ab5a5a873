"""What the creative learner makes of impressions, clicks and skips, and what it is worth."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from counterpoint.base.clock import NS_PER_S
from counterpoint.catalog.model import Catalog, Creative, Media
from counterpoint.creative.click_model import Counts, Shown, chances_of_best, posteriors
from counterpoint.creative.learner import CreativeLearner
from counterpoint.creative.policy import CreativePolicy, decode, validate
from counterpoint.events.decisions import PolicyPublished
from counterpoint.events.facts import AdSkipped, ClickSeen, ImpressionSeen
from tests.creative.bandit import T0, catalog, run, true_rates


class World:
    def __init__(self, world: Catalog) -> None:
        self.learner = CreativeLearner(world)
        self.now_ns = T0
        self.count = 0
        self.published: list[PolicyPublished] = []

    def shown(self, creative: str, times: int, clicks: int = 0, skips: int = 0, arm: str = "agents") -> None:
        for kind, n in ((ImpressionSeen, times), (ClickSeen, clicks), (AdSkipped, skips)):
            self.say(kind, creative, n, arm)

    def say(self, kind: Any, creative: str, times: int, arm: str = "agents") -> None:
        for _ in range(times):
            self.count += 1
            event = kind(
                event_id=f"e{self.count}",
                happened_at_ns=self.now_ns,
                recorded_at_ns=self.now_ns,
                source="t",
                bid_id=f"b{self.count}",
                exchange="adx",
                segment="adx/banner",
                campaign_id="c",
                line_item_id="li",
                creative_id=creative,
                arm=arm,
            )
            assert self.learner.on([event], self.now_ns) == []

    def policy(self) -> CreativePolicy:
        self.pass_s(1.2)
        event = self.published[-1]
        policy = decode(event.payload, event.checksum)
        validate(policy)
        return policy

    def pass_s(self, seconds: float) -> None:
        for _ in range(round(seconds * 5)):
            self.now_ns += NS_PER_S // 5
            decided = [d.event for d in self.learner.tick(self.now_ns)]
            self.published += [event for event in decided if isinstance(event, PolicyPublished)]


def test_better_creatives_get_more_weight_and_their_own_click_rate() -> None:
    world = World(catalog(3))
    world.shown("cr-0", 3_000, clicks=90)
    world.shown("cr-1", 3_000, clicks=30, arm="no_creative")
    world.shown("cr-2", 3_000, clicks=30, arm="no_agents")
    scores = world.policy().scores
    assert scores["cr-0"].weight > 0.99
    assert scores["cr-0"].click_rate == pytest.approx(0.03, rel=0.05)
    assert scores["cr-1"].click_rate == pytest.approx(0.01, rel=0.1)
    assert sum(score.weight for score in scores.values()) == pytest.approx(1.0)
    assert "cr-0" in world.learner.explain()[0]


def test_a_new_creative_starts_where_its_features_stand() -> None:
    world = World(catalog(6))  # cr-0 and cr-4 are red, cr-1 and cr-5 green
    world.shown("cr-0", 5_000, clicks=150)
    world.shown("cr-1", 5_000, clicks=25)
    scores = world.policy().scores
    assert scores["cr-4"].click_rate > 1.5 * scores["cr-5"].click_rate
    assert scores["cr-4"].weight > 0.05  # and it is not known to be worse


def test_skips_lower_the_weight_not_the_click_rate() -> None:
    videos = tuple(
        Creative(
            id=f"cr-{k}", advertiser_id="a", media=Media.VIDEO, click_url="https://a.example", duration_s=15
        )
        for k in range(2)
    )
    world = World(msgspec.structs.replace(catalog(2), creatives=videos))
    world.shown("cr-0", 20_000, clicks=200, skips=16_000)
    world.shown("cr-1", 20_000, clicks=200, skips=2_000)
    scores = world.policy().scores
    assert scores["cr-1"].weight > 0.9
    assert scores["cr-0"].click_rate == pytest.approx(scores["cr-1"].click_rate, rel=0.01)


def test_a_better_size_gets_more_weight_where_several_fit() -> None:
    sizes = ((300, 250), (728, 90))
    creatives = tuple(
        msgspec.structs.replace(c, w=w, h=h)
        for c, (w, h) in zip(catalog(4).creatives, (sizes[0], sizes[0], sizes[1], sizes[1]), strict=True)
    )
    world = World(msgspec.structs.replace(catalog(4), creatives=creatives))
    for k, clicks in enumerate((120, 120, 40, 40)):
        world.shown(f"cr-{k}", 4_000, clicks=clicks)
    scores = world.policy().scores
    good, bad = (scores[a].weight + scores[b].weight for a, b in (("cr-0", "cr-1"), ("cr-2", "cr-3")))
    assert good / bad == pytest.approx(3.0, rel=0.3)


def test_nothing_heard_is_said_once_and_renewed() -> None:
    world = World(catalog())
    world.pass_s(30)
    assert [decode(event.payload).scores for event in world.published] == [{}]
    world.pass_s(60)
    assert len(world.published) == 2
    assert world.published[1].policy_version > world.published[0].policy_version


def test_old_clicks_fade() -> None:
    world = World(catalog(2))
    world.shown("cr-0", 4_000, clicks=120)
    world.shown("cr-1", 4_000, clicks=40)
    assert world.policy().scores["cr-0"].weight > 0.9
    world.now_ns += 20 * 86_400 * NS_PER_S
    world.shown("cr-0", 4_000, clicks=20)
    world.shown("cr-1", 4_000, clicks=80)
    assert world.policy().scores["cr-1"].weight > 0.9


def test_a_creative_that_joins_is_scored_at_once() -> None:
    world = World(catalog(2))
    world.shown("cr-0", 1_000, clicks=20)
    world.shown("cr-1", 1_000, clicks=5)
    assert set(world.policy().scores) == {"cr-0", "cr-1"}
    world.learner.set_catalog(catalog(3))
    assert set(world.policy().scores) == {"cr-0", "cr-1", "cr-2"}
    world.learner.set_catalog(catalog(1))
    assert set(world.policy().scores) == {"cr-0"}


def test_more_clicks_than_impressions_or_a_wild_prior_stay_in_bounds() -> None:
    for prior in (1e-12, 0.002, 0.999, 5.0):
        shown = (Shown("cr", "g", ("f",)), Shown("other", "g", ()))
        for posterior in posteriors(shown, {"cr": Counts(3.0, 50.0, 9_000.0)}, prior):
            assert 0.0 < posterior.mean < 1.0
            assert 0.0 < posterior.quality <= 1.0


def test_the_draws_depend_on_seed_group_and_round_alone() -> None:
    shown = tuple(Shown(f"cr-{k}", "g", ()) for k in range(3))
    group = posteriors(shown, {"cr-0": Counts(100.0, 3.0)}, 0.01)
    first = chances_of_best(group, 1, "g", 5, 0.7)
    assert np.array_equal(first, chances_of_best(group, 1, "g", 5, 0.7))
    for other in (chances_of_best(group, 2, "g", 5, 0.7), chances_of_best(group, 1, "h", 5, 0.7)):
        assert not np.array_equal(first, other)
    assert not np.array_equal(first, chances_of_best(group, 1, "g", 6, 0.7))
    assert first.sum() == pytest.approx(1.0)
    assert first.min() > 0


def test_it_beats_uniform_and_greedy_on_a_bandit_it_has_not_seen() -> None:
    """bandit-v1, 12 paired seeds x 10,000 impressions, in shares of the best creative's clicks."""
    seeds, impressions = range(100, 112), 10_000
    oracle = np.array([impressions * true_rates(seed).max() for seed in seeds])
    agent, uniform, greedy = (
        np.array([run(way, seed, impressions)[0] for seed in seeds]) / oracle
        for way in ("agent", "uniform", "greedy")
    )
    for base in (uniform, greedy):
        gain = agent - base
        half = 2.2 * gain.std(ddof=1) / np.sqrt(len(gain))  # t, 11 degrees of freedom, 95 %
        assert gain.mean() - half > 0, gain
    assert agent.mean() > 0.85


def test_logged_propensities_tell_what_another_way_would_have_done() -> None:
    """Inverse propensity on the agent's log estimates the click rate of the uniform way without bias."""
    seeds, impressions = range(10), 5_000
    error = np.array([run("agent", seed, impressions)[1] / true_rates(seed).mean() - 1.0 for seed in seeds])
    half = 2.26 * error.std(ddof=1) / np.sqrt(len(error))
    assert abs(error.mean()) < half + 0.01, error
    assert half < 0.3
