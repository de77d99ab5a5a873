"""The scenario as a catalog and as requests: what the very bidder runs on means the same as what the world means."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from counterpoint.bidder.decide import NoBid, decide
from counterpoint.bidder.experiment import ARMS
from counterpoint.bidder.frequency import NOBODY
from counterpoint.bidder.view import View
from counterpoint.catalog.index import compile_index
from counterpoint.catalog.model import Media
from counterpoint.market.catalogue import Requests, catalogue
from counterpoint.market.design import MEDIA
from counterpoint.market.load import NAMES, scenario_named
from counterpoint.market.scenario import DAY_NS, STARTS_AT_NS, resized
from counterpoint.market.world import World
from counterpoint.openrtb.request import decode_request
from tests.bidder.hot import left_everywhere, view_of


@pytest.fixture(scope="module")
def world() -> World:
    return World(scenario_named("stationary-v1"), seed=5)


@pytest.fixture(scope="module")
def view(world: World) -> View:
    return view_of(catalogue(world.scenario))


def test_the_json_is_the_request(world: World) -> None:
    requests = Requests(world)
    auctions = world.batch(0, 1_000)
    assert set(auctions.media.tolist()) == {0, 1, 2, 3}
    for row in range(len(auctions)):
        request = requests.request(auctions, row)
        body = requests.body(auctions, row)
        assert decode_request(body) == request
        assert request.imp[0].floor_micros == auctions.floor_micros[row]
        assert (request.user is not None) == auctions.known_user[row]
        assert body == msgspec.json.encode(decode_request(body))


def test_requests_do_not_leak_what_is_hidden(world: World) -> None:
    """Two people who agree in all that is told are asked for alike, whatever they like; an id is no position."""
    requests = Requests(world)
    auctions = world.batch(0, 500)
    ids = {requests.user_id(user) for user in range(world.scenario.users.count)}
    assert len(ids) == world.scenario.users.count
    for row in range(50):
        told = requests.body(auctions, row).decode()
        price = int(world.truth(auctions.take(np.array([row]))).rival_micros[0])
        assert str(price) not in told


@pytest.mark.parametrize("name", NAMES)
def test_a_scenario_is_a_catalog_that_compiles(name: str) -> None:
    scenario = scenario_named(name)
    catalog = catalogue(scenario)
    index = compile_index(catalog)
    design = World(resized(scenario, 100), 0).design
    assert list(index.creative_ids) == [spec.id for spec in design.creatives]
    assert [c.id for c in catalog.campaigns] == [c.id for c in scenario.campaign]
    assert [(line.campaign_id, line.targeting.media[0]) for line in catalog.line_items] == [
        (scenario.campaign[c].id, MEDIA[m]) for c, m in design.line_items
    ]
    for campaign in catalog.campaigns:
        assert 0 < campaign.budget_min_micros < campaign.daily_budget_micros
    assert catalogue(scenario).digest == catalog.digest


def test_budgets_follow_the_size() -> None:
    base = scenario_named("stationary-v1")
    twice = catalogue(resized(base, 2 * base.auctions))
    for one, two in zip(catalogue(base).campaigns, twice.campaigns, strict=True):
        assert two.daily_budget_micros == pytest.approx(2 * one.daily_budget_micros, abs=2)


def test_creatives_out_of_their_life_are_paused() -> None:
    scenario = scenario_named("churn-v1")
    world = World(scenario, 1)
    at = STARTS_AT_NS + 6 * DAY_NS
    catalog = catalogue(scenario, at_ns=at)
    live = world.design.live(np.arange(world.design.count), np.full(world.design.count, at))
    assert [not c.paused for c in catalog.creatives] == live.tolist()
    assert 0 < live.sum() < world.design.count


def test_the_bidder_finds_the_creatives_that_the_world_says_fit(world: World, view: View) -> None:
    """Through decode, targeting, formats and choice: the bidder's line items are the world's, its creatives fit there."""
    requests = Requests(world)
    auctions = world.batch(2_000, 300)
    left = left_everywhere(view)
    bids = 0
    line_items = view.part.line_items
    for row in range(len(auctions)):
        made = decide(
            requests.request(auctions, row),
            world.scenario.venue[auctions.venue[row]].id,
            view,
            NOBODY,
            left,
            int(auctions.t_ns[row]),
            row,
        )
        fits = set(world.fitting(auctions, row).tolist())
        if isinstance(made, NoBid):
            continue
        bids += 1
        for candidate in made.imps[0].candidates:
            assert candidate.creative in fits
            assert candidate.line_item == world.design.line_item[candidate.creative]
            media = line_items[candidate.line_item].targeting.media
            assert media == (MEDIA[auctions.media[row]],)
        assert made.imps[0].floor == auctions.floor_micros[row]
    assert bids > 150
    assert len(ARMS) == left.shape[1]
    assert Media.AUDIO in MEDIA
