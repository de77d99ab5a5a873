from __future__ import annotations

import shutil
import zlib
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from counterpoint.app.cli import app
from counterpoint.app.config import Config, Settings
from counterpoint.app.story import tell
from counterpoint.base.clock import NS_PER_S, SystemClock
from counterpoint.base.errors import CounterpointError
from counterpoint.bidder.outgoing import DecisionInput, unpack_input
from counterpoint.events.facts import BidPlaced
from counterpoint.ledger.tables import METADATA, SETTLEMENTS
from counterpoint.openrtb.identity import restore_request
from counterpoint.record.archive import Archive
from counterpoint.record.explain import explain
from counterpoint.record.find import find
from counterpoint.record.story import Story
from tests.record import auctions
from tests.record.auctions import Auctions

PERSON = {
    "id": "raw-user-id-8842",
    "buyeruid": "raw-buyer-id-7731",
    "eids": [{"source": "id.example", "uids": [{"id": "raw-eid-5519"}]}],
}
RAW = (
    b"raw-user-id",
    b"raw-buyer-id",
    b"raw-eid",
    b"203.0.113.77",
    b"2001:db8::77",
    b"raw-ifa",
    b"raw-query",
    b"51.50",
)


def device(**more: Any) -> dict[str, Any]:
    return {
        "ua": "Mozilla/5.0 (Windows NT 10.0; Win64; x64)",
        "os": "Windows",
        "devicetype": 2,
        "ip": "203.0.113.77",
        "ipv6": "2001:db8::77",
        "ifa": "raw-ifa-38400000-8cf0",
        "geo": {"country": "USA", "lat": 51.50123, "lon": -0.12456},
        **more,
    }


def request(number: int, imps: int = 1, floor: float = 0.1, **more: Any) -> dict[str, Any]:
    return {
        "id": f"asked-{number}",
        "imp": [
            {"id": f"i{n}", "banner": {"format": [{"w": 300, "h": 250}]}, "bidfloor": floor * (n + 1)}
            for n in range(imps)
        ],
        "site": {
            "domain": "travel.example.co",
            "cat": ["IAB20"],
            "page": "https://travel.example.co/a?raw-query=1",
        },
        "device": device(),
        "user": PERSON,
        "at": 1,
        **more,
    }


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[Auctions, list[BidPlaced]]:
    """Demo traffic under two Views, recorded."""
    world = Auctions(tmp_path_factory.mktemp("played"))
    bids = world.play(40)
    world.change(
        [auctions.bidding(2, 0.8), auctions.creative(2, world.catalog)], settings={"agent/bidding/enabled": 1}
    )
    bids += world.play(40)
    world.record(bids)
    return world, bids


def told(world: Auctions | Path, bid: BidPlaced) -> Story:
    folder = world if isinstance(world, Path) else world.folder
    found = find(folder / "decisions", bid.event_id)
    assert found is not None
    return explain(found, Archive(folder / "archive"))


# ---- what agrees


def test_every_bid_comes_out_the_same(played: tuple[Auctions, list[BidPlaced]]) -> None:
    world, bids = played
    assert {bid.media for bid in bids} == {"banner", "video", "audio", "native"}
    assert {bid.bidding_version for bid in bids} == {0, 1, 2}
    assert len({bid.arm for bid in bids}) >= 4
    assert any(bid.explored for bid in bids)
    assert {bid.auction_type for bid in bids} == {1, 2}
    for bid in bids:
        story = told(world, bid)
        assert story.agrees, story.text()
        again = story.again
        assert again is not None
        assert again.pricing is not None
        assert again.pricing.steps.price == bid.price_nanos
        assert (
            again.pricing.steps.score
            == next(i for i in again.line_items if i.rank == 1).expected_surplus_nanos
        )
        (drawn,) = [creative for creative in again.creatives if creative.drawn]
        assert (drawn.creative_id, drawn.propensity) == (bid.creative_id, bid.creative_propensity)
        assert sum(creative.propensity for creative in again.creatives) == pytest.approx(1.0)
        assert sum(again.fates.values()) == again.matched
        assert story.logged.paid_nanos == bid.price_nanos * 9 // 10
        assert msgspec.json.decode(msgspec.json.encode(story), type=Story) == story


def test_the_text_says_what_a_person_asks(played: tuple[Auctions, list[BidPlaced]]) -> None:
    world, bids = played
    bid = next(b for b in bids if b.arm == "no_bidding")
    text = told(world, bid).text()
    assert "because the arm no_bidding switches the agent off" in text
    assert "no win curve" in text
    bid = next(
        b for b in bids if b.arm == "agents" and b.bidding_version == 2 and b.explored and b.media == "banner"
    )
    text = told(world, bid).text()
    for said in (
        bid.event_id,
        "to the last digit",
        bid.view_digest,
        "explored: a jittered price",
        "win curve '*'",
        "won, cleared at",
    ):
        assert said in text
    assert f"bidding 2, checksum {auctions.bidding(2, 0.8).checksum}" in text


def test_each_bid_of_a_request_with_many_imps(tmp_path: Path) -> None:
    world = Auctions(tmp_path)
    answers = [world.post("northstar", request(n, imps=4)) for n in range(6)]
    bids = [event for event in world.outbox.events if isinstance(event, BidPlaced)]
    assert len(bids) > len(answers)
    world.record(bids)
    imps = {
        bid["id"]: bid["impid"]
        for answer in answers
        for bid in msgspec.json.decode(answer.body)["seatbid"][0]["bid"]
    }
    for bid in bids:
        story = told(world, bid)
        assert story.agrees, story.text()
        assert story.again is not None
        assert story.again.imp_id == imps[bid.event_id]
        assert "(this bid)" in story.text()


def test_tight_money_and_full_caps_come_out_the_same(tmp_path: Path) -> None:
    world = Auctions(
        tmp_path, grant_nanos=9_000_000
    )  # of most campaigns less than the ceiling: every bid is limited
    for number in range(30):
        world.post("northstar", request(number))
        world.clock.advance(NS_PER_S)
    bids = [event for event in world.outbox.events if isinstance(event, BidPlaced)]
    assert len(bids) >= 5
    world.record(bids)
    stories = [told(world, bid) for bid in bids]
    assert all(story.agrees for story in stories), [story.differences for story in stories]
    again = [story.again for story in stories if story.again is not None]
    assert any(each.money_left_nanos is not None for each in again)
    fates = set().union(*(each.fates for each in again))
    assert fates & {"no money left", "dearer than the money left"}
    assert all(story.asked is not None and story.asked.user_key for story in stories)
    assert any(story.asked is not None and story.asked.user_records for story in stories)


def test_a_capped_person(tmp_path: Path) -> None:
    world = Auctions(tmp_path)
    others = frozenset({"campaign/harbor-teaser", "campaign/harbor-bookings"})
    world.change([auctions.creative(2, world.catalog, liked="stride-")], stops=others)
    for number in range(12):
        world.post("northstar", request(number))
        world.clock.advance(10_000_000)
    bids = [event for event in world.outbox.events if isinstance(event, BidPlaced)]
    assert [bid.line_item_id for bid in bids] == 6 * ["stride-banner-web"] + 6 * ["lumen-banner-desktop"]
    world.record(bids)
    stories = [told(world, bid) for bid in bids]
    assert all(story.agrees for story in stories)
    counted = [story.asked.user_records for story in stories if story.asked is not None]
    assert counted[:7] == [0, 1, 2, 3, 4, 5, 6]
    capped = ["frequency cap reached" in story.again.fates for story in stories if story.again is not None]
    assert capped == 6 * [False] + 6 * [True]


def test_stopped_and_distrusted_agents_are_named(tmp_path: Path) -> None:
    world = Auctions(tmp_path)
    world.change(stops=frozenset({"agent/creative"}), settings={"agent/bidding/enabled": 0})
    bids = world.play(15)
    world.clock.advance(11 * auctions.HOUR_NS)
    world.record(bids)
    bid = next(b for b in bids if b.arm == "agents")
    story = told(world, bid)
    assert story.agrees
    assert {used.agent: used.fallback for used in story.policies if not used.version} == {
        "bidding": "because the agent was stopped",
        "creative": "because the agent was stopped",
    }


# ---- what does not


def _copy(world: Auctions, folder: Path) -> Path:
    shutil.copytree(world.folder, folder, dirs_exist_ok=True)
    return folder


def _rewrite(folder: Path, bid_id: str, **changed: Any) -> None:
    """Change columns of one row of the log."""
    for part in (folder / "decisions").glob("*.parquet"):
        table = pq.read_table(part)
        rows = [row | changed if row["bid_id"] == bid_id else row for row in table.to_pylist()]
        pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), part)


def test_a_missing_or_changed_input_is_named(
    played: tuple[Auctions, list[BidPlaced]], tmp_path: Path
) -> None:
    world, bids = played
    bid = next(b for b in bids if b.arm == "agents" and b.bidding_version == 1)
    archive = tmp_path / "archive"
    cases: list[tuple[str, bytes | None, str, str]] = [
        (f"policies/{auctions.bidding(1).checksum}", None, "policy", "bidding"),
        (
            f"policies/{auctions.bidding(1).checksum}",
            zlib.compress(auctions.bidding(1, 1.31).payload),
            "policy",
            "bidding",
        ),
        (f"policies/{auctions.creative(1, world.catalog).checksum}", None, "policy", "creative"),
        (f"catalogs/{world.catalog.digest}", None, "catalog", ""),
        (f"views/{bid.view_digest}", None, "manifest", ""),
    ]
    _copy(world, tmp_path)
    for name, content, what, agent in cases:
        whole = (archive / name).read_bytes()
        if content is None:
            (archive / name).unlink()
        else:
            (archive / name).write_bytes(content)
        story = told(tmp_path, bid)
        assert not story.agrees
        assert story.missing is not None
        assert (story.missing.what, story.missing.agent) == (what, agent)
        assert story.missing.damaged == (content is not None)
        assert story.logged.price_nanos == bid.price_nanos  # what was logged is told all the same
        assert story.asked is not None
        assert "cannot be run again" in story.text()
        (archive / name).write_bytes(whole)
    assert told(tmp_path, bid).agrees


def test_a_changed_row_or_input_is_named(played: tuple[Auctions, list[BidPlaced]], tmp_path: Path) -> None:
    world, bids = played
    bid = next(b for b in bids if b.arm == "agents" and b.media == "banner")
    given = unpack_input(bid.decision_input)

    def with_input(**changed: Any) -> bytes:
        fields = {name: getattr(given, name) for name in DecisionInput.__struct_fields__}
        return msgspec.msgpack.encode(DecisionInput(**(fields | changed)))

    differing: list[tuple[dict[str, Any], set[str]]] = [
        ({"price_nanos": bid.price_nanos + 1}, {"price_nanos"}),
        ({"click_rate": bid.click_rate * (1 + 1e-15)}, {"click_rate"}),
        ({"arm": "no_agents", "bucket": 3}, {"arm", "bucket"}),
        ({"creative_id": "no-such"}, {"candidate"}),
        ({"line_item_id": "no-such"}, {"candidate"}),
        ({"decision_input": with_input(exchange="nowhere")}, {"decision"}),
        ({"decision_input": with_input(now_ns=given.now_ns + 11 * auctions.HOUR_NS)}, set()),
        ({"decision_input": with_input(arm=(given.arm + 1) % 6)}, {"arm of the input"}),
    ]
    for at, (changed, fields) in enumerate(differing):
        copied = _copy(world, tmp_path / str(at))
        _rewrite(copied, bid.event_id, **changed)
        story = told(copied, bid)
        assert not story.agrees
        assert story.missing is None
        assert fields <= {difference.field for difference in story.differences}, (changed, story.differences)
        assert "NOT" in story.text()
    unreadable: list[tuple[bytes, bool]] = [
        (b"", False),
        (bid.decision_input[:-3], True),
        (with_input(request=b"\xc1"), True),
        (with_input(arm=77), True),
        (with_input(limited=((10_000, 5),)), True),
    ]
    for at, (raw, damaged) in enumerate(unreadable, len(differing)):
        copied = _copy(world, tmp_path / str(at))
        _rewrite(copied, bid.event_id, decision_input=raw)
        story = told(copied, bid)
        assert story.missing is not None
        assert (story.missing.what, story.missing.damaged) == ("input", damaged)


# ---- finding it


def settings_of(folder: Path) -> Settings:
    return Settings(Config(data_dir="."), folder)


def test_only_parts_from_the_bid_on_are_read(
    played: tuple[Auctions, list[BidPlaced]], tmp_path: Path
) -> None:
    world, bids = played
    copied = _copy(world, tmp_path)
    (tmp_path / "decisions" / f"{1_600_000_000_000:015d}-old.parquet").write_bytes(b"not parquet")
    assert told(copied, bids[0]).agrees
    broken = tmp_path / "decisions" / f"{auctions.START // 1_000_000:015d}-a.parquet"
    broken.write_bytes(b"not parquet")
    with pytest.raises(CounterpointError, match="cannot be read"):
        find(tmp_path / "decisions", bids[0].event_id)


def test_a_bid_that_is_not_there_says_why_and_what_to_do(
    played: tuple[Auctions, list[BidPlaced]], tmp_path: Path
) -> None:
    world, _ = played
    settings = settings_of(world.folder)
    now_ms = SystemClock().now_ns() // 1_000_000
    cases = [
        ("nonsense", "no bid id"),
        (f"{now_ms - 1_000:012x}0123456789aaaaaaaa", "try again in a moment"),
        (f"{now_ms - 7_200_000:012x}0123456789aaaaaaaa", "raise recorder.sample_rate"),
        (f"{now_ms - 40 * 86_400_000:012x}0123456789aaaaaaaa", "raise recorder.keep_days"),
        (f"{now_ms + 3_600_000:012x}0123456789aaaaaaaa", "future"),
    ]
    for bid_id, why in cases:
        with pytest.raises(CounterpointError, match=why):
            tell(settings, bid_id)
    with pytest.raises(CounterpointError, match="no decision log"):
        tell(settings_of(tmp_path / "elsewhere"), cases[1][0])


def test_the_command_and_what_the_ledger_booked(
    played: tuple[Auctions, list[BidPlaced]], tmp_path: Path
) -> None:
    world, bids = played
    _copy(world, tmp_path / "var")
    config = tmp_path / "config.toml"
    config.write_text('data_dir = "var"\n')
    settings = Settings(Config(data_dir="var"), tmp_path)
    bid = bids[3]
    assert tell(settings, bid.event_id.upper()).booked is None
    assert not (tmp_path / "var" / "ledger.db").exists()  # looking makes no ledger
    engine = sa.create_engine(settings.ledger_url)
    METADATA.create_all(engine)
    with engine.begin() as connection:
        row = {
            "bid_id": bid.event_id,
            "campaign_id": bid.campaign_id,
            "day": "2023-11-14",
            "allowance_id": bid.allowance_id,
            "exchange": bid.exchange,
            "line_item_id": bid.line_item_id,
            "creative_id": bid.creative_id,
            "arm": bid.arm,
            "on_time_nanos": 700,
            "late_nanos": 300,
            "overspend_nanos": 0,
            "booked_at_ns": auctions.START,
        }
        connection.execute(SETTLEMENTS.insert(), [row])
    engine.dispose()
    out = tmp_path / "story.json"
    result = CliRunner().invoke(app, ["explain", bid.event_id, "--config", str(config), "--json", str(out)])
    assert result.exit_code == 0, result.output
    story = msgspec.json.decode(out.read_bytes(), type=Story)
    assert story.agrees
    assert story.booked is not None
    assert (story.booked.on_time_nanos, story.booked.late_nanos) == (700, 300)
    assert "booked 0.001000 USD CPM, of it 0.000300 late" in story.text()
    _rewrite(tmp_path / "var", bid.event_id, price_nanos=1)
    result = CliRunner().invoke(app, ["explain", bid.event_id, "--config", str(config)])
    assert result.exit_code == 1


# ---- people


def test_no_raw_id_and_no_address_is_kept(tmp_path: Path) -> None:
    world = Auctions(tmp_path)
    for number in range(10):
        world.post("northstar", request(number, imps=2))
    world.post("northstar", request(99, regs={"coppa": 1}))
    bids = [event for event in world.outbox.events if isinstance(event, BidPlaced)]
    assert {bid.unit for bid in bids} == {"user", "request"}
    world.record(bids)
    parts = list((tmp_path / "decisions").glob("*.parquet"))
    seen = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    seen += [zlib.decompress(path.read_bytes()) for path in (tmp_path / "archive").glob("[cp]*/*")]
    seen += [repr(pq.read_table(part).to_pylist()).encode() for part in parts]
    seen += [bid.decision_input for bid in bids]
    seen += [repr(restore_request(unpack_input(bid.decision_input).request)).encode() for bid in bids]
    seen += [msgspec.json.encode(told(world, bid)) for bid in bids]
    seen += [told(world, bid).text().encode() for bid in bids]
    for raw in RAW:
        assert not any(raw in content for content in seen), raw
    assert any(b"travel.example.co" in content for content in seen)  # it was there to be found


def test_what_a_request_says_cannot_steer_a_terminal(tmp_path: Path) -> None:
    world = Auctions(tmp_path)
    site = {"domain": "travel.example.co\x1b[2J", "cat": ["IAB20"]}
    for number in range(3):
        world.post("northstar", request(number, site=site))
    bids = [event for event in world.outbox.events if isinstance(event, BidPlaced)]
    world.record(bids)
    text = told(world, bids[0]).text()
    assert "\x1b" not in text
    assert text.isascii()


def test_what_made_the_multiplier_is_told(played: tuple[Auctions, list[BidPlaced]]) -> None:
    """Both duals, which one binds, what is left of the plan; exploration, and the floor. The fallback has none."""
    world, bids = played
    for campaign, multiplier, says in (
        (
            "harbor-bookings",
            1.0,
            "budget asks for 1.000000, target cost for 0.500000; the budget binds; plan: 3.500000 USD left for 0.2500 of a day",
        ),
        (
            "stride-radio",
            0.8,
            "budget asks for 0.500000, target cost for 0.800000; the target cost binds; as soon as possible, no plan",
        ),
    ):
        bid = next(b for b in bids if (b.arm, b.bidding_version, b.campaign_id) == ("agents", 2, campaign))
        story = told(world, bid)
        assert story.again is not None
        pricing = story.again.pricing
        assert pricing is not None
        assert pricing.steps.multiplier == pytest.approx(multiplier)
        text = story.text()
        assert says in text
        assert f"floor {pricing.floor_nanos // 10**6}." in text
        assert "(10.0% of prices, within 30%)" in text
    fallback = told(world, next(b for b in bids if b.arm == "no_bidding")).again
    assert fallback is not None
    assert fallback.pricing is not None
    assert fallback.pricing.dual is None
