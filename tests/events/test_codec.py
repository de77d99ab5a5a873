"""Bytes on the bus outlive the program that wrote them: what is newer or older than us is read or counted."""

from __future__ import annotations

import types
import typing
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import NODEFAULT

from counterpoint.events.codec import EVENT_TYPES, decode_batch, encode_batch
from counterpoint.events.event import Event
from tests.bus.samples import click, notice

SCALARS: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(-(2**63), 2**64 - 1),  # what msgpack holds
    float: st.floats(allow_nan=False),
    str: st.text(st.characters(codec="utf-8"), max_size=40),
    bytes: st.binary(max_size=40),
    bool: st.booleans(),
    types.NoneType: st.none(),
}


def values_of(annotation: Any) -> st.SearchStrategy[Any]:
    if annotation in SCALARS:
        return SCALARS[annotation]
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is dict:
        return st.dictionaries(values_of(arguments[0]), values_of(arguments[1]), max_size=3)
    if origin is tuple:
        assert arguments[1:] == (...,)
        return st.lists(values_of(arguments[0]), max_size=3).map(tuple)
    if origin in (typing.Union, types.UnionType):
        return st.one_of(*map(values_of, arguments))
    fields = msgspec.structs.fields(annotation)
    return st.fixed_dictionaries(
        {f.name: values_of(f.type) for f in fields if f.required},
        optional={f.name: values_of(f.type) for f in fields if not f.required},
    ).map(lambda values: annotation(**values))


EVENTS: st.SearchStrategy[Event] = st.one_of(*map(values_of, EVENT_TYPES))


@settings(max_examples=150, deadline=None)
@given(events=st.lists(EVENTS, min_size=1, max_size=5))
def test_what_is_written_is_read_back(events: list[Event]) -> None:
    assert decode_batch(encode_batch(events)) == (events, 0)


@pytest.mark.parametrize("kind", EVENT_TYPES, ids=lambda kind: kind.__name__)
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_every_kind_travels(kind: type[Event], data: st.DataObject) -> None:
    event = data.draw(values_of(kind))
    assert decode_batch(encode_batch([event])) == ([event], 0)


def _as_maps(events: list[Event]) -> list[dict[str, Any]]:
    return msgspec.msgpack.decode(encode_batch(events), type=list[dict[str, Any]])


@pytest.mark.parametrize("kind", EVENT_TYPES, ids=lambda kind: kind.__name__)
@settings(max_examples=5, deadline=None)
@given(data=st.data())
def test_an_older_writer_did_not_know_the_newer_fields(kind: type[Event], data: st.DataObject) -> None:
    event = data.draw(values_of(kind))
    [old] = _as_maps([event])
    optional = [f for f in msgspec.structs.fields(kind) if not f.required]
    for field in optional:
        old.pop(field.name, None)
    [read], unreadable = decode_batch(msgspec.msgpack.encode([old]))
    assert unreadable == 0
    for field in optional:
        default = field.default if field.default is not NODEFAULT else field.default_factory()
        assert getattr(read, field.name) == default


@settings(max_examples=50, deadline=None)
@given(event=EVENTS)
def test_a_newer_writers_fields_are_ignored(event: Event) -> None:
    [new] = _as_maps([event])
    new["a_field_of_tomorrow"] = {"deep": [1, 2, 3]}
    assert decode_batch(msgspec.msgpack.encode([new])) == ([event], 0)


def test_unknown_kinds_and_broken_fields_are_counted_and_the_rest_is_read() -> None:
    good = [click("1"), notice("2")]
    maps: list[Any] = _as_maps(good)
    maps.insert(1, {**maps[0], "kind": "a_kind_of_tomorrow"})
    maps.insert(0, {**maps[0], "event_id": 7})
    maps.append({"kind": "click_seen"})
    maps.append("not even a map")
    maps.append({"no": "kind"})
    assert decode_batch(msgspec.msgpack.encode(maps)) == (good, 5)


@given(raw=st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_a_batch_or_a_named_error(raw: bytes) -> None:
    try:
        events, unreadable = decode_batch(raw)
    except msgspec.DecodeError:
        return
    assert all(isinstance(event, Event) for event in events)
    assert unreadable >= 0


def test_kinds_are_unique_and_events_frozen() -> None:
    kinds = [kind.__struct_config__.tag for kind in EVENT_TYPES]
    assert len(set(kinds)) == len(kinds)
    assert all(kind.__struct_config__.frozen for kind in EVENT_TYPES)
    with pytest.raises(AttributeError):
        click("1").event_id = "2"  # type: ignore[misc]
