"""The demo's world: one seed, one world, down to the byte; and requests that the codec reads."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest

from counterpoint.app.demo import example_catalog
from counterpoint.catalog.load import check_catalog
from counterpoint.catalog.model import Media
from counterpoint.market.demo_world import USERS, VENUES, DemoWorld
from counterpoint.openrtb.request import decode_request

NUMBERS = range(3_000)


def test_one_seed_asks_the_same_questions_whatever_was_asked_before() -> None:
    first, second = DemoWorld(5), DemoWorld(5)
    straight = [msgspec.json.encode(first.opportunity(number).body) for number in range(200)]
    backwards = [msgspec.json.encode(second.opportunity(number).body) for number in reversed(range(200))]
    assert straight == backwards[::-1]
    assert straight != [msgspec.json.encode(DemoWorld(6).opportunity(number).body) for number in range(200)]


def test_the_truths_belong_to_the_seed_too() -> None:
    worlds = [DemoWorld(9), DemoWorld(9)]
    asked = [world.opportunity(17) for world in worlds]
    assert asked[0] == asked[1]
    assert len({world.click_rate("creative-1", asked[0]) for world in worlds}) == 1
    assert worlds[0].draw(3, 17) == worlds[1].draw(3, 17)
    assert worlds[0].draw(3, 17) != worlds[0].draw(4, 17)


def test_every_request_is_read_by_the_codec_and_stays_in_its_range() -> None:
    world = DemoWorld(1)
    seen: Counter[str] = Counter()
    tests = 0
    for number in NUMBERS:
        asked = world.opportunity(number)
        request = decode_request(msgspec.json.encode(asked.body))
        assert request.id == asked.body["id"]
        assert len(request.imp) == 1
        assert request.imp[0].bidfloor == pytest.approx(asked.floor_cpm)
        assert asked.floor_cpm > 0
        assert 0 < asked.rival_cpm < 1_000
        assert 0 <= asked.user < USERS
        assert asked.media in asked.body["imp"][0]
        seen[f"{asked.venue.exchange}/{asked.media}"] += 1
        tests += bool(asked.body.get("test"))
        rate = world.click_rate("some-creative", asked)
        assert 0 < rate < 0.6
    assert seen.keys() == {f"{venue.exchange}/{media}" for venue in VENUES for media, _ in venue.media}
    assert tests == len(NUMBERS) // 500
    shares = Counter({venue.exchange: venue.share for venue in VENUES})
    for exchange, share in shares.items():
        found = sum(count for name, count in seen.items() if name.startswith(exchange + "/")) / len(NUMBERS)
        assert found == pytest.approx(share, abs=0.05)


def test_people_without_consent_are_not_named() -> None:
    world = DemoWorld(1)
    for number in range(1_000):
        body = world.opportunity(number).body
        assert bool(body["user"].get("id")) != bool(body["device"].get("lmt"))


def test_the_venues_are_those_of_the_demo_catalog() -> None:
    catalog = check_catalog(example_catalog("demo")).catalog
    profiles = {profile.id: profile for profile in catalog.exchanges}
    assert profiles.keys() == {venue.exchange for venue in VENUES}
    for venue in VENUES:
        assert profiles[venue.exchange].auction_type == venue.auction_type
        assert profiles[venue.exchange].sends_loss_notices == venue.loss_notices
    offered = {Media(media) for venue in VENUES for media, _ in venue.media}
    assert offered == {creative.media for creative in catalog.creatives}


def test_people_differ_in_taste_and_creatives_in_appeal() -> None:
    """Else there would be nothing to learn."""
    world = DemoWorld(1)
    asked = [world.opportunity(number) for number in range(400)]
    means = [sum(world.click_rate(f"c{n}", one) for one in asked) / len(asked) for n in range(12)]
    assert max(means) > 3 * min(means)
    rates = {world.conversion_rate(f"campaign-{n}") for n in range(20)}
    assert 0.05 <= min(rates) < max(rates) <= 0.2
