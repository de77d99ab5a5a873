from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from counterpoint.base.clock import NS_PER_S
from counterpoint.bus.bus import Delivery
from counterpoint.events.event import Event
from counterpoint.events.facts import AuctionWon, BidPlaced
from counterpoint.record.recorder import WAITING_NS_MAX, Recorder

START = 1_700_000_000 * NS_PER_S


def bid(number: int, at_ns: int = START, test: bool = False) -> BidPlaced:
    return BidPlaced(
        event_id=f"b{number}",
        happened_at_ns=at_ns,
        recorded_at_ns=at_ns,
        source="bidder/b1",
        auction_id=f"a{number}",
        exchange="x",
        media="banner",
        segment="x/banner",
        campaign_id="c",
        line_item_id="l",
        creative_id="k",
        price_nanos=1_000_000,
        value_nanos=2_000_000,
        paced_nanos=1_500_000,
        floor_nanos=0,
        click_rate=0.01,
        conversion_rate=0.1,
        win_rate=0.3,
        auction_type=1,
        creative_propensity=0.25,
        test=test,
        decision_input=b"input",
    )


def won(number: int, price: int | None = 900_000) -> AuctionWon:
    return AuctionWon(
        event_id=f"won-b{number}",
        happened_at_ns=START,
        recorded_at_ns=START,
        source="bidder/b1",
        bid_id=f"b{number}",
        exchange="x",
        segment="x/banner",
        campaign_id="c",
        line_item_id="l",
        creative_id="k",
        bid_nanos=1_000_000,
        price_nanos=price,
    )


def delivery(sequence: int, *events: Event) -> Delivery:
    return Delivery("FACTS", sequence, START, "facts.bids.b1", events)


def rows(folder: Path) -> list[dict[str, object]]:
    return [row for part in sorted(folder.glob("*.parquet")) for row in pq.read_table(part).to_pylist()]


def test_every_win_is_kept_and_the_rest_sampled_at_the_logged_rate(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "d", tmp_path / "state.bin", sample_rate=0.1)
    bids = [bid(n) for n in range(4_000)]
    wins = [won(n) for n in range(0, 4_000, 4)]
    recorder.on([delivery(1, *bids), delivery(2, *wins)], START)
    recorder.on([delivery(3)], START + WAITING_NS_MAX + 1)
    recorder.flush(START + WAITING_NS_MAX + 1)
    kept = rows(tmp_path / "d")
    assert {r["bid_id"] for r in kept if r["kept"] == "won"} == {f"b{n}" for n in range(0, 4_000, 4)}
    sampled = [r for r in kept if r["kept"] == "sampled"]
    assert {r["kept_rate"] for r in sampled} == {0.1}
    assert 220 <= len(sampled) <= 380  # 3,000 at 10 %: five standard deviations
    assert kept[0]["decision_input"] == b"input"
    assert kept[0]["paid_nanos"] in (900_000, None)


def test_a_crash_between_parts_loses_no_win_and_writes_none_twice(tmp_path: Path) -> None:
    folder, state = tmp_path / "d", tmp_path / "state.bin"
    first = Recorder(folder, state, sample_rate=1.0)
    deliveries = [delivery(1, bid(1), bid(2)), delivery(2, won(1)), delivery(3, bid(3)), delivery(4, won(3))]
    first.on(deliveries[:2], START)
    first.flush(START)
    first.on(deliveries[2:], START)  # seen, never written: the process ends here
    second = Recorder(folder, state, sample_rate=1.0)
    assert second.position < 1  # bid 2 may still win, so delivery 1 comes again
    second.on([d for d in deliveries if d.sequence > second.position], START)
    second.flush(START)
    assert sorted(str(r["bid_id"]) for r in rows(folder)) == ["b1", "b3"]


def test_a_win_heard_before_its_bid_is_kept(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "d", tmp_path / "state.bin", sample_rate=0.0)
    recorder.on([delivery(1, won(7)), delivery(2, bid(7))], START)
    recorder.flush(START)
    assert [r["kept"] for r in rows(tmp_path / "d")] == ["won"]


def test_test_bids_are_not_recorded(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "d", tmp_path / "state.bin", sample_rate=1.0)
    recorder.on([delivery(1, bid(1, test=True))], START)
    recorder.on([delivery(2)], START + WAITING_NS_MAX + 1)
    recorder.flush(START)
    assert rows(tmp_path / "d") == []


def test_old_parts_go_after_their_keeping(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "d", tmp_path / "state.bin", sample_rate=1.0)
    recorder.on([delivery(1, bid(1)), delivery(2, won(1))], START)
    recorder.flush(START)
    assert recorder.forget_older_than(START + 10 * 86_400 * NS_PER_S, keep_days=30) == 0
    assert recorder.forget_older_than(START + 31 * 86_400 * NS_PER_S, keep_days=30) == 1
    assert rows(tmp_path / "d") == []
