"""The tracker with its real surroundings: once per bid, durable first, replays and contradictions harmless."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from msgspec.structs import replace

from counterpoint.base.clock import NS_PER_S
from counterpoint.bidder.committer import CommitterConfig
from counterpoint.bidder.directory import Directory
from counterpoint.bidder.frequency import line_item_key
from counterpoint.bidder.notice_desk import SeenBids
from counterpoint.bidder.notices import NoticeOutcome
from counterpoint.bidder.signing import NoticeKind
from counterpoint.bidder.tracker import Verdict
from counterpoint.events.facts import AuctionWon, ImpressionSeen
from tests.bidder.world import SHOP, World, make_catalog, running, until

BILL, WIN, LOSS = NoticeKind.BILLING, NoticeKind.WIN, NoticeKind.LOSS
IMP, CLICK, SKIP = NoticeKind.IMPRESSION, NoticeKind.CLICK, NoticeKind.SKIP


async def test_a_settlement_is_on_the_bus_before_it_is_answered_and_frees_the_rest(tmp_path: Path) -> None:
    async with running(World(tmp_path)) as world:
        bid = world.bid()
        left = int(world.book.left[0, 0])
        verdict = await world.notice(BILL, bid, b"p=0.4&c=USD")
        assert verdict == Verdict(NoticeOutcome.SETTLED)
        (event,) = world.settlements()
        assert (event.bid_id, event.paid_nanos, event.bid_nanos) == (bid.bid_id, 400_000, 1_000_000)
        assert event.reservation_until_ns == bid.reservation_until_ns
        assert int(world.book.left[0, 0]) == left + 600_000
        assert world.tracker.counters.settled_nanos == 400_000


async def test_replays_are_answered_and_change_nothing(tmp_path: Path) -> None:
    async with running(World(tmp_path)) as world:
        bid = world.bid()
        for kind in (WIN, BILL, IMP, CLICK, SKIP):
            await world.notice(kind, bid, b"p=0.4")
        settled, facts = world.settlements(), world.facts.ids()
        left = int(world.book.left[0, 0])
        for _ in range(5):
            for kind in (WIN, BILL, IMP, CLICK, SKIP):
                verdict = await world.notice(kind, bid, b"p=0.9")
                assert verdict.outcome is NoticeOutcome.REPLAYED
        assert world.settlements() == settled
        assert world.facts.ids() == facts
        assert int(world.book.left[0, 0]) == left
        assert len(facts) == len(set(facts)) == 4  # won, imp, click, skip


async def test_copies_that_come_at_once_share_one_settlement(tmp_path: Path) -> None:
    async with running(World(tmp_path)) as world:
        bid = world.bid()
        verdicts = await asyncio.gather(*[world.notice(BILL, bid, b"p=0.4") for _ in range(20)])
        assert {verdict.outcome for verdict in verdicts} == {NoticeOutcome.SETTLED}
        assert len(world.settlements()) == 1
        assert world.tracker.counters.settled_nanos == 400_000


async def test_a_win_holds_the_money_longer_and_the_settlement_says_so(tmp_path: Path) -> None:
    async with running(World(tmp_path)) as world:
        bid = world.bid()
        await world.notice(WIN, bid, b"p=0.4&m=0.3")
        won_at = world.clock.now_ns()
        world.clock.advance(60 * NS_PER_S)
        assert not world.book.expire(world.clock.now_ns())
        await world.notice(BILL, bid, b"p=0.4")
        (event,) = world.settlements()
        assert event.reservation_until_ns == won_at + 3_600 * NS_PER_S
        assert [type(fact) for fact in world.facts.events] == [AuctionWon]


async def test_a_settlement_after_its_reservation_is_booked_as_signed(tmp_path: Path) -> None:
    async with running(World(tmp_path)) as world:
        bid = world.bid()
        world.clock.advance(3 * 86_400 * NS_PER_S)
        world.book.expire(world.clock.now_ns())
        assert (await world.notice(BILL, bid, b"p=0.4")).outcome is NoticeOutcome.SETTLED
        (event,) = world.settlements()
        assert event.reservation_until_ns == bid.reservation_until_ns < event.recorded_at_ns


async def test_a_bid_of_an_earlier_incarnation_settles_without_a_reservation(tmp_path: Path) -> None:
    async with running(World(tmp_path)) as world:
        bid = world.bid(reserve=False, allowance_id="of-before")
        assert (await world.notice(BILL, bid, b"p=0.4")).outcome is NoticeOutcome.SETTLED
        assert world.settlements()[0].allowance_id == "of-before"


async def test_a_loss_frees_the_money_and_the_count_and_contradicts_no_win(tmp_path: Path) -> None:
    async with running(World(tmp_path)) as world:
        left = int(world.book.left[0, 0])
        lost, won = world.bid(), world.bid()
        await world.notice(LOSS, lost, b"l=102&m=2.5")
        assert int(world.book.left[0, 0]) == left - won.bid_nanos
        await world.notice(WIN, won)
        assert (await world.notice(LOSS, won, b"l=102")).outcome is NoticeOutcome.CONTRADICTED
        assert int(world.book.left[0, 0]) == left - won.bid_nanos
        assert world.facts.ids() == [f"lost-{lost.bid_id}", f"won-{won.bid_id}"]


async def test_tests_and_audits_touch_no_book(tmp_path: Path) -> None:
    async with running(World(tmp_path)) as world:
        test, audited = world.bid(test=True), world.bid()
        left = int(world.book.left[0, 0])
        for kind in NoticeKind:
            assert (await world.notice(kind, test, b"p=0.4")).outcome is NoticeOutcome.TEST
            assert (await world.notice(kind, audited, b"p=AUDIT")).outcome is NoticeOutcome.AUDIT
        assert not world.settlements()
        assert not world.facts.events
        assert int(world.book.left[0, 0]) == left
        assert len(world.frequency) == 0
        assert (await world.notice(BILL, audited, b"p=0.4")).outcome is NoticeOutcome.SETTLED


async def test_an_impression_settles_where_the_profile_says_so(tmp_path: Path) -> None:
    async with running(World(tmp_path)) as world:
        bid = world.bid(settles="impression")
        assert (await world.notice(BILL, bid, b"p=0.4")).outcome is NoticeOutcome.INFORMED
        assert not world.settlements()
        assert (await world.notice(IMP, bid, b"p=0.1")).outcome is NoticeOutcome.SETTLED
        (event,) = world.settlements()
        assert (event.paid_nanos, event.client_side) == (bid.bid_nanos, True)
        assert [type(fact) for fact in world.facts.events] == [AuctionWon, ImpressionSeen]


async def test_an_impression_counts_for_people_only_where_there_is_a_cap(tmp_path: Path) -> None:
    async with running(World(tmp_path)) as world:
        capped, free = world.bid(), world.bid(reserve=False, line_item_id="l2", user_key="cd" * 16)
        nobody = world.bid(user_key="")
        for bid in (capped, free, nobody):
            await world.notice(IMP, bid)
            await world.notice(BILL, bid, b"p=0.1")
        now_ns = world.clock.now_ns()
        assert world.frequency.shown(capped.user_key, line_item_key("l1"), 86_400 * NS_PER_S, now_ns + 1) == 1
        assert len(world.frequency) == 1


async def test_a_click_goes_to_the_catalogs_target_again_and_again(tmp_path: Path) -> None:
    async with running(World(tmp_path)) as world:
        bid = world.bid()
        for _ in range(2):
            verdict = await world.notice(CLICK, bid, b"url=https://evil.example&r=//evil.example")
            assert verdict.location == SHOP
        world.clock.advance(400 * 86_400 * NS_PER_S)
        old = await world.notice(CLICK, world.bid(expires_at_ns=1))
        assert (old.outcome, old.location) == (NoticeOutcome.EXPIRED, SHOP)
        assert world.facts.ids() == [f"click-{bid.bid_id}"]


async def test_a_click_target_can_carry_the_click_id(tmp_path: Path) -> None:
    async with running(World(tmp_path)) as world:
        bid = world.bid(creative_id="cr2", campaign_id="c2")
        token = world.token(CLICK, bid)
        verdict = await world.notice(CLICK, bid)
        assert verdict.location == f"https://bank.example/?cid={token.decode()}"


async def test_clicks_on_a_creative_that_left_the_catalog_still_arrive(tmp_path: Path) -> None:
    async with running(World(tmp_path)) as world:
        bid = world.bid()
        smaller = replace(make_catalog(), creatives=make_catalog().creatives[1:])
        world.tracker.directory = Directory.build(smaller, world.tracker.directory)
        world.tracker.directory = Directory.build(smaller, world.tracker.directory)
        assert (await world.notice(CLICK, bid)).location == SHOP
        world.tracker.directory = Directory.build(smaller)
        assert (await world.notice(CLICK, bid)).location is None


async def test_not_durable_is_said_and_the_retry_books_the_same_event(tmp_path: Path) -> None:
    async with running(World(tmp_path, spool_bytes_max=100)) as world:
        bid = world.bid()
        world.bus.go_away()
        assert (await world.notice(BILL, bid, b"p=0.4")).outcome is NoticeOutcome.NOT_DURABLE
        assert not world.facts.events
        assert world.tracker.counters.settled_nanos == 0
        first_at = world.clock.now_ns()
        world.clock.advance(20 * NS_PER_S)
        world.book.expire(world.clock.now_ns())
        world.bus.come_back()
        await asyncio.sleep(0.1)
        assert (await world.notice(BILL, bid, b"p=0.9")).outcome is NoticeOutcome.SETTLED
        (event,) = world.settlements()
        assert (event.paid_nanos, event.recorded_at_ns) == (400_000, first_at)


async def test_settlements_survive_a_bus_that_is_away(tmp_path: Path) -> None:
    async with running(World(tmp_path)) as world:
        world.bus.go_away()
        bids = [world.bid() for _ in range(50)]
        verdicts = await asyncio.gather(*[world.notice(BILL, bid, b"p=0.1") for bid in bids])
        assert {verdict.outcome for verdict in verdicts} == {NoticeOutcome.SETTLED}
        world.bus.come_back()
        await until(lambda: world.spool.empty)
        assert sorted(e.bid_id for e in world.settlements()) == sorted(bid.bid_id for bid in bids)


async def test_facts_past_the_outbox_are_shed_and_counted_money_is_not(tmp_path: Path) -> None:
    async with running(World(tmp_path)) as world:
        world.facts.events_max = 0
        assert (await world.notice(BILL, world.bid(), b"p=0.1")).outcome is NoticeOutcome.SETTLED
        assert len(world.settlements()) == 1
        assert world.tracker.counters.facts_shed == 1


@pytest.mark.parametrize("kind", list(NoticeKind))
async def test_what_we_did_not_sign_is_counted_and_does_nothing(tmp_path: Path, kind: NoticeKind) -> None:
    async with running(World(tmp_path)) as world:
        bid = world.bid()
        other = BILL if kind is not BILL else IMP
        for token in (b"", b"x", world.token(other, bid), world.token(kind, bid)[:-1] + b"!", b"../" * 20):
            verdict = world.tracker.notice(kind, token, b"p=0.4")
            assert isinstance(verdict, Verdict)
            assert verdict.outcome in (NoticeOutcome.MALFORMED, NoticeOutcome.FORGED)
            assert verdict.location is None
        assert world.tracker.counters.bad_tokens.total() == 5
        assert not world.settlements()
        assert not world.facts.events


async def test_a_commit_cut_off_leaves_the_notice_unanswered(tmp_path: Path) -> None:
    world = World(tmp_path, CommitterConfig(flush_ms=60_000))
    async with running(world):
        pending = world.tracker.notice(BILL, world.token(BILL, world.bid()), b"p=0.1")
        assert isinstance(pending, asyncio.Future)
        await asyncio.sleep(0.02)
        assert not pending.done()


def test_the_memory_of_bids_is_bounded_and_keeps_the_newest() -> None:
    seen = SeenBids(per_generation=100)
    for n in range(1000):
        seen.add(f"b{n}", 1)
        seen.add(f"b{n}", 2)
        assert seen.bits(f"b{n}") == 3
        assert seen.bits(f"b{max(0, n - 99)}") == 3
    assert len(seen) <= 200
    assert seen.bits("b0") == 0
