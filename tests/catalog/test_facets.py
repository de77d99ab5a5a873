"""Queries put together from remembered parts are those that are filled anew, cell by cell where anything is read."""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.catalog import facets as facets_module
from counterpoint.catalog.facets import Facets
from counterpoint.catalog.index import compile_index, fill_query
from tests.catalog.worlds import World


def _asked(rng: Random) -> dict[str, Any]:
    return {
        "exchange": rng.choice(("north", "south", "x")),
        "media": rng.choice((("banner",), ("video", "audio"), ("banner", "native"))),
        "sizes": rng.choice(((), ((300, 250),), ((300, 250), (728, 90)))),
        "country": rng.choice(("", "USA", "de")),
        "region": rng.choice(("", "CA", "USA-NY")),
        "device_type": rng.randint(0, 3),
        "os": rng.choice(("", "ios", "Android")),
        "channel": rng.choice(("site", "app", "")),
        "domain": rng.choice(("", "a.news.example.com", "other.org", "x" * 3_000)),
        "bundle": rng.choice(("", "123456", "com.example.game")),
        "categories": rng.choice(((), ("IAB1-1",), ("IAB2", "IAB7-39"))),
        "hour_of_week": rng.choice((5, 100)),
        "language": rng.choice(("", "en")),
        "now_ns": rng.randint(0, 2_000),
        "key": rng.getrandbits(64),
    }


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6))
def test_remembered_parts_match_what_a_new_query_matches(seed: int) -> None:
    index = compile_index(World(seed).catalog())
    facets, query, anew = Facets(index), index.new_query(), index.new_query()
    one, other = index.new_scratch(), index.new_scratch()
    rng = Random(seed)
    for _ in range(30):
        asked = _asked(rng)
        fill_query(index, anew, **asked)
        facets.fill(query, *asked.values())
        n = index.eligible(anew, other)
        assert index.eligible(query, one) == n
        assert one.eligible[:n].tolist() == other.eligible[:n].tolist()


def test_a_memo_is_bounded_and_keeps_nothing_long() -> None:
    index = compile_index(World(1).catalog())
    facets, query = Facets(index), index.new_query()
    asked = _asked(Random(2)) | {"domain": "long." * 1_000}
    facets.fill(query, *asked.values())
    assert facets.remembered() == (0, 0, 0)
    for n in range(facets_module.PARTS_MAX + 10):
        facets.fill(query, *(asked | {"domain": f"d{n}.org"}).values())
    assert max(facets.remembered()) <= facets_module.PARTS_MAX
