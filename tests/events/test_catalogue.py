from __future__ import annotations

from pathlib import Path

from counterpoint.events.catalogue import field_notes, main, render
from counterpoint.events.codec import EVENT_TYPES
from counterpoint.events.money import SettlementNoticed
from counterpoint.events.places import PLACES
from counterpoint.events.subjects import stream_of

DOCS = Path(__file__).parents[2] / "docs" / "events.md"


def test_the_committed_catalogue_is_current() -> None:
    assert DOCS.read_text("utf-8") == render(), "run: python -m counterpoint.events.catalogue"


def test_every_event_has_its_place_and_every_place_its_stream() -> None:
    assert set(PLACES) == set(EVENT_TYPES)
    for place in PLACES.values():
        assert stream_of(place.prefix) == place.stream
        assert place.publishers


def test_it_is_written_where_it_is_asked_for(tmp_path: Path) -> None:
    main([str(tmp_path / "docs" / "events.md")])
    written = (tmp_path / "docs" / "events.md").read_text("utf-8")
    for kind in EVENT_TYPES:
        assert f"### {kind.__name__}\n" in written


def test_the_comment_behind_a_field_is_its_meaning() -> None:
    notes = field_notes(SettlementNoticed)
    assert notes["bid_nanos"] == "the signed bid price, account currency"
    assert "exchange" not in notes
