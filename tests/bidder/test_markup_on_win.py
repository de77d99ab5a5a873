"""Markup fetched with the win notice, for exchanges whose profile says so."""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec.structs import replace

from counterpoint.bidder.markup_memory import ENTRY_BYTES, MarkupMemory
from tests.bidder.test_routes import ask, biddable, filled, open_front


async def test_the_win_notice_answers_with_the_markup_and_only_then(tmp_path: Path) -> None:
    catalog = biddable()
    profile = replace(catalog.exchanges[0], markup_on_win=True)
    catalog = replace(catalog, exchanges=(profile, *catalog.exchanges[1:]))
    async with open_front(tmp_path, catalog) as front:
        front.world.tracker.markups = front.engine.markups_on_win
        answer = await front.post("/openrtb2/bid/adx", ask())
        bid = msgspec.json.decode(answer.body)["seatbid"][0]["bid"][0]
        assert "adm" not in bid
        won = await front.get(filled(bid["nurl"]))
        assert won.status == 200
        assert b"/t/imp/" in won.body
        assert won.headers[b"content-type"].startswith(b"text/html")
        again = await front.get(filled(bid["nurl"]))
        assert again.body == won.body  # a notice repeated gets its markup again
        forged = await front.get(filled(bid["nurl"]).replace("/n/win/", "/n/win/x"))
        assert forged.status in (403, 404)
        assert b"/t/imp/" not in forged.body
        assert (await front.get(filled(bid["burl"]))).body == b""


def test_what_is_held_has_a_bound_and_an_end() -> None:
    memory = MarkupMemory(bytes_max=3 * (ENTRY_BYTES + 100))
    for number in range(5):
        memory.keep(f"b{number}", "x" * 100, now_ns=number, until_ns=1_000)
    assert (len(memory), memory.evicted) == (3, 2)
    assert (memory.of("b1"), memory.of("b4")) == ("", "x" * 100)
    memory.keep("late", "y", now_ns=2_000, until_ns=3_000)
    assert (len(memory), memory.evicted) == (1, 2)
