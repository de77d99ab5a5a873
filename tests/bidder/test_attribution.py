"""Which ad an order came from, and who may say that there was one."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.base.clock import NS_PER_S
from counterpoint.base.ids import digest
from counterpoint.bidder.attribution import Attribution, AttributionConfig, Order
from counterpoint.bidder.conversions import ConversionAnswer
from counterpoint.bidder.directory import CampaignEntry
from counterpoint.bidder.signing import NoticeKind
from counterpoint.events.facts import (
    ClickSeen,
    ConversionAttributed,
    ConversionUnattributed,
    ImpressionSeen,
)
from tests.bidder.world import TOKEN, World, running

T0 = 1_700_000_000 * NS_PER_S
HOUR = 3_600 * NS_PER_S
CAMPAIGNS = {
    "c1": CampaignEntry("shop", 7 * 24 * HOUR, 24 * HOUR),
    "c2": CampaignEntry("shop", 7 * 24 * HOUR, 24 * HOUR),
    "b1": CampaignEntry("bank", 7 * 24 * HOUR, 24 * HOUR),
}


def touch(
    kind: type[ClickSeen] | type[ImpressionSeen], bid: str, at: int, campaign: str = "c1", user: str = "u"
) -> ClickSeen | ImpressionSeen:
    return kind(
        event_id=f"{kind.__name__}-{bid}",
        happened_at_ns=at,
        recorded_at_ns=at,
        source="bidder/b1",
        bid_id=bid,
        exchange="adx",
        segment="adx/banner",
        campaign_id=campaign,
        line_item_id="l",
        creative_id="cr",
        user_key=user,
    )


def order(at: int, user: str = "u", bid: str = "", advertiser: str = "shop", order_id: str = "o1") -> Order:
    return Order(
        advertiser_id=advertiser,
        order_id=order_id,
        value_micros=1,
        happened_at_ns=at,
        user_key=user,
        bid_id=bid,
    )


def who(memory: Attribution, given_order: Order) -> tuple[str, str] | None:
    event = memory.attribute(given_order, CAMPAIGNS, T0 + 90 * 24 * HOUR, "bidder/b1")
    assert event.event_id == f"conv-{digest(given_order.advertiser_id, given_order.order_id)}"
    if isinstance(event, ConversionUnattributed):
        return None
    return event.bid_id, event.by


def memory_of(*events: ClickSeen | ImpressionSeen) -> Attribution:
    memory = Attribution()
    memory.on(events)
    return memory


def test_the_last_click_wins_over_later_views() -> None:
    memory = memory_of(
        touch(ClickSeen, "early", T0),
        touch(ClickSeen, "last", T0 + HOUR, "c2"),
        touch(ImpressionSeen, "view", T0 + 2 * HOUR),
    )
    assert who(memory, order(T0 + 3 * HOUR)) == ("last", "click")


def test_without_a_click_the_last_view_in_its_window() -> None:
    memory = memory_of(touch(ImpressionSeen, "a", T0), touch(ImpressionSeen, "b", T0 + HOUR))
    assert who(memory, order(T0 + 2 * HOUR)) == ("b", "view")
    assert who(memory, order(T0 + 24 * HOUR + 1)) == ("b", "view")
    assert who(memory, order(T0 + 26 * HOUR)) is None


def test_windows_end_and_a_click_out_of_its_window_gives_way_to_a_view() -> None:
    memory = memory_of(touch(ClickSeen, "old", T0), touch(ImpressionSeen, "view", T0 + 7 * 24 * HOUR))
    assert who(memory, order(T0 + 7 * 24 * HOUR)) == ("old", "click")
    assert who(memory, order(T0 + 7 * 24 * HOUR + 1)) == ("view", "view")


def test_a_conversion_reported_late_is_matched_by_when_it_happened() -> None:
    memory = memory_of(touch(ClickSeen, "before", T0), touch(ClickSeen, "after", T0 + 2 * HOUR))
    assert who(memory, order(T0 + HOUR)) == ("before", "click")
    assert who(memory, order(T0 - HOUR)) is None
    assert who(memory, order(T0 - 5 * NS_PER_S)) == ("before", "click")  # two clocks


def test_only_the_orders_own_advertiser_and_person_count() -> None:
    memory = memory_of(touch(ClickSeen, "bank", T0, "b1"), touch(ClickSeen, "shop", T0, "c1"))
    assert who(memory, order(T0 + 1, advertiser="bank")) == ("bank", "click")
    assert who(memory, order(T0 + 1, user="somebody else")) is None
    assert who(memory, order(T0 + 1, user="", bid="shop")) == ("shop", "click")
    assert who(memory, order(T0 + 1, user="", bid="bank")) is None
    assert who(memory, order(T0 + 1, user="")) is None


def test_memory_is_bounded_evicts_the_oldest_and_counts() -> None:
    memory = Attribution(AttributionConfig(clicks_max=10, views_max=10, orders_max=5))
    for n in range(100):
        memory.on([touch(ClickSeen, f"k{n}", T0 + n), touch(ImpressionSeen, f"v{n}", T0 + n)])
        memory.remember(order(T0, order_id=f"o{n}"))
    assert memory.figures() == {"clicks": 10, "views": 10, "orders": 5, "evicted": 180}
    assert who(memory, order(T0 + HOUR, user="", bid="k0")) is None
    assert who(memory, order(T0 + HOUR, user="", bid="k99")) == ("k99", "click")
    assert not memory.is_known(order(T0, order_id="o0"))
    assert memory.is_known(order(T0, order_id="o99"))


@given(
    st.lists(
        st.tuples(
            st.booleans(), st.integers(0, 5), st.integers(0, 30 * 24), st.sampled_from(["c1", "c2", "b1"])
        ),
        max_size=30,
    ),
    st.integers(0, 40 * 24),
)
@settings(deadline=None, max_examples=150)
def test_against_the_plain_definition_and_after_a_restart(
    touches: list[tuple[bool, int, int, str]], order_hour: int
) -> None:
    events = [
        touch(ClickSeen if is_click else ImpressionSeen, f"{n}", T0 + hour * HOUR, campaign, f"u{user}")
        for n, (is_click, user, hour, campaign) in enumerate(touches)
    ]
    memory = memory_of(*events)
    again = Attribution()
    again.restore(memory.snapshot())
    for user in range(6):
        asked = order(T0 + order_hour * HOUR, user=f"u{user}")
        expected = None
        for kind, by, window in ((ClickSeen, "click", 7 * 24), (ImpressionSeen, "view", 24)):
            fitting = [
                event
                for event in events
                if isinstance(event, kind)
                and event.user_key == f"u{user}"
                and event.campaign_id != "b1"
                and 0 <= (asked.happened_at_ns - event.happened_at_ns) // HOUR <= window
            ]
            if fitting and expected is None:
                best = max(fitting, key=lambda e: (e.happened_at_ns, e.bid_id))
                expected = (best.bid_id, by)
        assert who(memory, asked) == expected
        assert who(again, asked) == expected
    assert again.snapshot() == memory.snapshot()


def test_a_snapshot_that_is_none_changes_nothing() -> None:
    memory = memory_of(touch(ClickSeen, "a", T0))
    for raw in (b"", b"\x00", b"\x80", msgspec.msgpack.encode({"clicks": 3})):
        with pytest.raises(msgspec.DecodeError):
            memory.restore(raw)
    assert memory.figures()["clicks"] == 1


# ---- reports


async def report(
    world: World, body: object, advertiser: str = "shop", token: str = TOKEN
) -> ConversionAnswer:
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    found = world.desk.report(advertiser, f"Bearer {token}".encode(), raw)
    return found if isinstance(found, ConversionAnswer) else await found


def conversions(world: World) -> list[ConversionAttributed | ConversionUnattributed]:
    return [
        event
        for delivery in world.bus.read_now("FACTS", ["facts.outcomes.>"])
        for event in delivery.events
        if isinstance(event, ConversionAttributed | ConversionUnattributed)
    ]


async def test_an_order_with_a_click_id_is_attributed_once(tmp_path: Path) -> None:
    async with running(World(tmp_path)) as world:
        bid = world.bid()
        click_id = world.token(NoticeKind.CLICK, bid).decode()
        await world.notice(NoticeKind.CLICK, bid)
        world.clock.advance(HOUR)
        body = {"order_id": "A-1", "value": "49.90", "currency": "EUR", "click_id": click_id}
        assert await report(world, body) == ConversionAnswer("attributed", by="click", campaign_id="c1")
        (event,) = conversions(world)
        assert isinstance(event, ConversionAttributed)
        assert (event.bid_id, event.value_micros) == (bid.bid_id, 53_892_000)
        for _ in range(3):
            assert (await report(world, {**body, "value": 1})).status == "duplicate"
        assert len(conversions(world)) == 1


async def test_a_click_id_needs_no_memory(tmp_path: Path) -> None:
    async with running(World(tmp_path)) as world:
        bid = world.bid()
        body = {"order_id": "1", "click_id": world.token(NoticeKind.CLICK, bid).decode()}
        assert (await report(world, body)).by == "click"


@pytest.mark.parametrize("kind", [NoticeKind.IMPRESSION, NoticeKind.WIN, NoticeKind.SKIP])
async def test_another_token_is_no_click_id(tmp_path: Path, kind: NoticeKind) -> None:
    async with running(World(tmp_path)) as world:
        body = {"order_id": "1", "click_id": world.token(kind, world.bid()).decode()}
        assert (await report(world, body)).status == "unattributed"


async def test_a_click_on_another_advertisers_ad_is_not_theirs_to_claim(tmp_path: Path) -> None:
    async with running(World(tmp_path)) as world:
        click_id = world.token(NoticeKind.CLICK, world.bid()).decode()
        answer = await report(world, {"order_id": "1", "click_id": click_id}, "bank", "bank-token")
        assert answer.status == "unattributed"


async def test_an_order_by_user_or_bid(tmp_path: Path) -> None:
    async with running(World(tmp_path)) as world:
        key = world.frequency.user_key("ifa", "abc-def")
        bid = world.bid(user_key=key)
        await world.notice(NoticeKind.IMPRESSION, bid)
        by_user = {"order_id": "1", "user": {"kind": "ifa", "id": "ABC-DEF"}}
        assert await report(world, by_user) == ConversionAnswer("attributed", by="view", campaign_id="c1")
        assert (await report(world, {"order_id": "2", "bid_id": bid.bid_id})).by == "view"
        assert (await report(world, {"order_id": "3"})).status == "unattributed"
        assert len(conversions(world)) == 3


@pytest.mark.parametrize(
    ("advertiser", "authorization"),
    [
        ("shop", b""),
        ("shop", b"Bearer"),
        ("shop", b"Bearer wrong"),
        ("shop", b"Bearer bank-token"),
        ("shop", f"Basic {TOKEN}".encode()),
        ("shop", TOKEN.encode()),
        ("mute", b"Bearer "),
        ("mute", b"Bearer"),
        ("nobody", b"Bearer "),
        ("", b"Bearer "),
        ("shop", "Bearer tökén".encode()),
    ],
)
async def test_without_the_advertisers_own_token_nothing_is_taken(
    tmp_path: Path, advertiser: str, authorization: bytes
) -> None:
    async with running(World(tmp_path)) as world:
        answer = world.desk.report(advertiser, authorization, b'{"order_id": "1"}')
        assert answer == ConversionAnswer("unauthorized")
        assert not conversions(world)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b"{}",
        b'{"order_id": ""}',
        b'{"order_id": "  "}',
        b'{"order_id": 7}',
        b'{"order_id": "a\\u0000b"}',
        b'{"order_id": "%s"}' % (b"x" * 300),
        b'{"order_id": "1", "value": "-1"}',
        b'{"order_id": "1", "value": "1,5"}',
        b'{"order_id": "1", "value": "NaN"}',
        b'{"order_id": "1", "value": 1e300}',
        b'{"order_id": "1", "value": %s}' % (b"9" * 4000),
        b'{"order_id": "1", "value": "1e999999999"}',
        b'{"order_id": "1", "currency": "XXX"}',
        b'{"order_id": "1", "happened_at": "yesterday"}',
        b'{"order_id": "1", "happened_at": "2030-01-31T12:00:00"}',
        b'{"order_id": "1", "happened_at": -5}',
        b'{"order_id": "1", "happened_at": 1e30}',
        b'{"order_id": "1", "amount": 3}',
        b"\xff\xfe",
    ],
)
async def test_a_report_that_cannot_be_used_says_why(tmp_path: Path, body: bytes) -> None:
    async with running(World(tmp_path)) as world:
        answer = await report(world, body)
        assert answer.status == "invalid"
        assert answer.error
        assert not conversions(world)


async def test_times_are_taken_as_iso_or_unix_and_never_from_the_future(tmp_path: Path) -> None:
    async with running(World(tmp_path)) as world:
        now_s = world.clock.now_ns() // NS_PER_S
        for n, given_time in enumerate(
            ("2023-11-14T00:00:00+01:00", "2023-11-14T00:00:00Z", now_s - 5, now_s + 10**6, None)
        ):
            await report(world, {"order_id": f"{n}", "happened_at": given_time})
        times = [event.happened_at_ns for event in conversions(world)]
        assert times == [
            1_699_916_400 * NS_PER_S,
            1_699_920_000 * NS_PER_S,
            (now_s - 5) * NS_PER_S,
            world.clock.now_ns(),
            world.clock.now_ns(),
        ]


async def test_an_order_that_could_not_be_kept_may_come_again(tmp_path: Path) -> None:
    async with running(World(tmp_path, spool_bytes_max=10)) as world:
        world.bus.go_away()
        assert (await report(world, {"order_id": "1"})).status == "unavailable"
        world.bus.come_back()
        world.committer._distrusted_until_s = 0.0
        assert (await report(world, {"order_id": "1"})).status == "unattributed"
        assert len(conversions(world)) == 1
