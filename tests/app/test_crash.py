"""``kill -9`` of ledger, bus and bidder in the middle of load, over the real processes: what was answered 200 is booked
exactly once, what was not answered at most once and exactly once after its retry, nothing unsent, no budget exceeded."""

from __future__ import annotations

import asyncio

import pytest

from tests.app.load import Load
from tests.app.world import SMALL, Running, money_problems, read_books

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("system")]


@pytest.mark.parametrize("victim", ["ledger", "nats", "bidder"])
async def test_a_kill_in_the_middle_of_load_loses_and_doubles_no_money(
    running: Running, load: Load, victim: str
) -> None:
    await running.ready()
    wins_before, bids_before = len(load.bills), load.counts["bids"]
    load.go()
    await asyncio.sleep(3.0)
    killed = running.kill(victim)
    await running.back(victim, killed)
    await running.ready()
    await asyncio.sleep(2.0)
    await load.drain()
    books = await load.settled(lambda: read_books(running.settings))

    assert load.problems(books) == []
    assert money_problems(books) == []
    assert (victim, "ended", -9) in running.news
    assert load.counts["bids"] > bids_before
    assert len(load.bills) > wins_before
    print(
        f"{victim}: {dict(load.counts)}, {len(books.settlements)} settlements, {books.audit.entries} entries"
    )


async def test_the_load_had_everything_in_it(running: Running, load: Load) -> None:
    """Else the tests above would have shown less than they say."""
    for kind in ("never_sent", "late", "cut_off", "twice", "failed", "given_up", "losses", "no_bids"):
        assert load.counts[kind] > 0, f"no notice was {kind}"
    unanswered = [b for b in load.bills.values() if b.tries and not b.answered]
    retried = [b for b in load.bills.values() if b.failed and b.answered]
    assert unanswered
    assert retried
    books = read_books(running.settings)
    late = sum(account["late_nanos"] for account in books.accounts.values())
    assert late > 0, "no late spend was booked"
    small = next(a for (campaign, _), a in books.accounts.items() if campaign == SMALL)
    print(f"{SMALL}: {small}")
