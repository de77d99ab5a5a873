"""The dead-man switch over the real processes: with the ledger silent, a bidder spends what it holds, then stops."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest

from tests.app.load import Load
from tests.app.world import ALLOWANCE_LIFE_S, Running, money_problems, read_books

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("system")]


async def test_a_bidder_that_hears_nothing_of_the_ledger_stops_at_what_it_holds(
    running: Running, load: Load
) -> None:
    await running.ready()
    assert (await load.ask(100)).total() > 0
    pid = running.kill("ledger", signal.SIGSTOP)  # alive, and deaf
    try:
        silent_since = time.monotonic()
        held = read_books(running.settings)
        deadline = silent_since + 6 * ALLOWANCE_LIFE_S
        quiet = 0
        while quiet < 3:
            assert time.monotonic() < deadline, "it bids on without the ledger"
            bids = (await load.ask(20)).total()
            quiet = quiet + 1 if bids == 0 else 0
            await asyncio.sleep(0.2)
        books = read_books(running.settings)
        assert books.accounts == held.accounts, "nobody else writes the books"
    finally:
        running.kill("ledger", signal.SIGCONT)
    assert running.parts["ledger"].pid == pid, "it was never started again"
    started = time.monotonic()
    while (await load.ask(20)).total() == 0:
        assert time.monotonic() < started + 60.0, "the ledger is back, and nobody bids"
        await asyncio.sleep(0.2)
    await load.drain()
    books = await load.settled(lambda: read_books(running.settings))
    assert load.problems(books) == []
    assert money_problems(books) == []
