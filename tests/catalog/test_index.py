"""The index gives exactly what the rules in plain Python give, is bounded, and treats nobody worse when it is full."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.catalog.index import (
    MAX_CANDIDATES,
    MAX_ELIGIBLE,
    BannerOffer,
    CatalogIndex,
    Fit,
    NativeOffer,
    Query,
    Scratch,
    banner_sizes,
    compile_index,
    fill_fit,
    fill_query,
)
from counterpoint.catalog.model import Advertiser, Campaign, Catalog, Creative, LineItem, Media, Targeting
from tests.catalog.reference import Asked, answer
from tests.catalog.worlds import NOW_NS, World


def ask(
    index: CatalogIndex,
    asked: Asked,
    now_ns: int = NOW_NS,
    key: int = 0,
    open_: list[bool] | None = None,
    state: tuple[Query, Fit, Scratch] | None = None,
) -> tuple[list[int], list[tuple[int, int]]]:
    """The same question as ``reference.answer``, to the index."""
    query, fit, scratch = state or (index.new_query(), index.new_fit(), index.new_scratch())
    fill_query(
        index,
        query,
        exchange=asked.exchange,
        media=asked.media(),
        sizes=asked.banner.sizes if asked.banner is not None else (),
        country=asked.country,
        region=asked.region,
        device_type=asked.device_type,
        os=asked.os,
        channel=asked.channel,
        domain=asked.domain,
        bundle=asked.bundle,
        categories=asked.categories,
        hour_of_week=asked.hour_of_week,
        language=asked.language,
        now_ns=now_ns,
        key=key,
    )
    flags = None if open_ is None else np.array(open_, np.uint8)
    n = index.eligible(query, scratch, campaign_open=flags)
    fill_fit(
        index,
        fit,
        banner=asked.banner,
        video=asked.video,
        audio=asked.audio,
        native=asked.native,
        secure=asked.secure,
        key=key,
    )
    allowed = index.allowed_creatives(bcat=asked.bcat, acat=asked.acat, badv=asked.badv, wlang=asked.wlang)
    assert allowed is not None
    m = index.fitting(n, fit, scratch, allowed)
    pairs = list(zip(scratch.cand_li[:m].tolist(), scratch.cand_cr[:m].tolist(), strict=True))
    return scratch.eligible[:n].tolist(), pairs


@settings(max_examples=250, deadline=None)
@given(st.integers(0, 2**32))
def test_the_index_agrees_with_the_rules(seed: int) -> None:
    world = World(seed)
    catalog = world.catalog()
    index = compile_index(catalog)
    open_ = [world.chance(0.9) for _ in catalog.campaigns]
    for _ in range(8):
        asked = world.request()
        assert ask(index, asked, open_=open_) == answer(catalog, asked, NOW_NS, open_)


def test_the_random_worlds_are_worth_asking() -> None:
    """A property over empty answers would hold for any index."""
    found = filled = 0
    media: set[int] = set()
    for seed in range(60):
        world = World(seed)
        catalog = world.catalog()
        eligible, pairs = answer(catalog, world.request(), NOW_NS, [True] * len(catalog.campaigns))
        found += bool(eligible)
        filled += bool(pairs)
        media |= {list(Media).index(catalog.creatives[cr].media) for _, cr in pairs}
    assert found >= 30
    assert filled >= 15
    assert len(media) == len(Media)


def test_numbers_of_an_earlier_request_leave_no_trace() -> None:
    for seed in range(30):
        world = World(seed)
        catalog = world.catalog()
        index = compile_index(catalog)
        query, fit, scratch = index.new_query(), index.new_fit(), index.new_scratch()
        query.data[:] = 3
        fit.data[:] = 7
        scratch.accumulator[:] = 0xFFFF
        asked = world.request()
        open_ = [True] * len(catalog.campaigns)
        assert ask(index, asked, state=(query, fit, scratch)) == answer(catalog, asked, NOW_NS, open_)
        fill_fit(index, fit)
        assert index.fitting(len(catalog.line_items), fit, scratch) == 0


def crowd(line_items: int, creatives_each: int = 1) -> Catalog:
    """Line items that all match, with creatives of their own."""
    return Catalog(
        advertisers=(Advertiser(id="a", name="", domain="a.com"),),
        campaigns=(Campaign(id="c", advertiser_id="a", name="", daily_budget_micros=1),),
        line_items=tuple(
            LineItem(id=f"l{n}", campaign_id="c", creative_ids=tuple(f"r{n}-{k}" for k in range(creatives_each)))
            for n in range(line_items)
        ),
        creatives=tuple(
            Creative(
                id=f"r{n}-{k}", advertiser_id="a", media=Media.BANNER, click_url="https://a.com", w=300, h=250, image_url="https://a.com/i.png"
            )
            for n in range(line_items)
            for k in range(creatives_each)
        ),
    )  # fmt: skip


BANNER = Asked(banner=BannerOffer(sizes=((300, 250),)))


def test_more_line_items_than_room_take_turns_by_key() -> None:
    index = compile_index(crowd(3 * MAX_ELIGIBLE))
    seen: set[int] = set()
    for key in range(100):
        eligible, pairs = ask(index, BANNER, key=key)
        assert len(eligible) == len(set(eligible)) == MAX_ELIGIBLE
        assert ask(index, BANNER, key=key) == (eligible, pairs)  # the same key, the same answer
        seen.update(eligible)
    assert len(seen) == 3 * MAX_ELIGIBLE


def test_more_creatives_than_room_take_turns_by_key() -> None:
    index = compile_index(crowd(20, creatives_each=500))
    seen: set[tuple[int, int]] = set()
    for key in range(300):
        _, pairs = ask(index, BANNER, key=key)
        assert len(pairs) == len(set(pairs)) == MAX_CANDIDATES
        groups = [li for at, (li, _) in enumerate(pairs) if at == 0 or pairs[at - 1][0] != li]
        assert len(groups) == len(set(groups))  # still grouped by line item
        seen.update(pairs)
    assert len(seen) == 20 * 500


def test_flight_ends_are_exclusive_and_compared_with_the_time_of_the_query() -> None:
    catalog = crowd(1)
    flight = Campaign(
        id="c", advertiser_id="a", name="", daily_budget_micros=1, starts_at_ns=10, ends_at_ns=20
    )
    index = compile_index(
        Catalog(
            advertisers=catalog.advertisers,
            campaigns=(flight,),
            line_items=catalog.line_items,
            creatives=catalog.creatives,
        )
    )
    found = [now for now in range(5, 25) if ask(index, BANNER, now_ns=now)[0]]
    assert found == list(range(10, 20))


def test_a_stopped_campaign_leaves_the_live_mask_only() -> None:
    index = compile_index(crowd(70))
    scratch, query = index.new_scratch(), index.new_query()
    fill_query(index, query, exchange="x", media=("banner",), sizes=((300, 250),), hour_of_week=0, now_ns=1)
    assert index.eligible(query, scratch, live=index.live_mask(np.zeros(1, np.uint8))) == 0
    assert index.eligible(query, scratch) == 70


def test_block_lists_that_cannot_be_mapped_are_no_answer() -> None:
    index = compile_index(crowd(1))
    assert index.allowed_creatives(bcat=("123",), cattax=6) is None
    assert index.allowed_creatives(cattax=6) is not None


def test_block_lists_are_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("counterpoint.catalog.index.BLOCK_MEMO_MAX", 3)
    index = compile_index(crowd(1))
    first = index.allowed_creatives(badv=("a.com",))
    assert index.allowed_creatives(badv=("a.com",)) is first
    for n in range(10):
        index.allowed_creatives(badv=(f"b{n}.com",))
    again = index.allowed_creatives(badv=("a.com",))
    assert first is not None
    assert again is not None
    assert again.tolist() == first.tolist()


def test_a_required_asset_that_no_native_answer_has_fits_nothing() -> None:
    index = compile_index(crowd(1))
    fit = index.new_fit()
    fill_fit(index, fit, native=NativeOffer(data=((501, 0),)))
    assert index.fitting(1, fit, index.new_scratch()) == 0


def test_a_full_screen_slot_without_size_takes_the_usual_ones() -> None:
    assert (320, 480) in banner_sizes((), instl=True)
    assert banner_sizes(((1, 2),), instl=True) == ((1, 2),)
    assert banner_sizes((), instl=False) == ()


@settings(max_examples=30, deadline=None)
@given(st.integers(60, 200))
def test_more_than_62_mimes_and_many_sizes_stay_right(count: int) -> None:
    """Types past the last bit can be asked for by nobody; sizes have no such bound."""
    base = crowd(0)
    catalog = Catalog(
        advertisers=base.advertisers,
        campaigns=base.campaigns,
        line_items=(LineItem(id="l", campaign_id="c", creative_ids=tuple(f"r{n}" for n in range(count))),),
        creatives=tuple(
            Creative(id=f"r{n}", advertiser_id="a", media=Media.BANNER, click_url="https://a", w=n + 1, h=1, html="x", mimes=(f"x/{n}",))
            for n in range(count)
        ),
    )  # fmt: skip
    index = compile_index(catalog)
    wanted = Asked(banner=BannerOffer(sizes=((count, 1), (5, 1))))
    assert ask(index, wanted)[1] == [(0, 4), (0, count - 1)]
    assert ask(index, Asked(banner=BannerOffer(sizes=((5, 1), (6, 1)), mimes=("x/4",))))[1] == [(0, 4)]


def test_common_values_get_rows_and_rare_ones_lists_with_equal_results() -> None:
    base = crowd(400)
    items = tuple(
        LineItem(
            id=item.id,
            campaign_id="c",
            creative_ids=item.creative_ids,
            targeting=Targeting(
                domains=("big.com",) if n % 2 else (f"rare{n}.com", "big.com"),
                domains_blocked=("bad.big.com",) if n < 300 else (),
            ),
        )
        for n, item in enumerate(base.line_items)
    )
    catalog = Catalog(
        advertisers=base.advertisers, campaigns=base.campaigns, line_items=items, creatives=base.creatives
    )
    index = compile_index(catalog)
    assert index.domain.dense
    assert index.domain.lists
    for host in ("big.com", "x.big.com", "bad.big.com", "rare8.com", "none.com", ""):
        asked = Asked(banner=BANNER.banner, domain=host)
        assert ask(index, asked) == answer(catalog, asked, NOW_NS, [True])
