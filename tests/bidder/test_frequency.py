"""Counts by person: provisional ones end with the reservation, what is not known is said, bounds hold."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.base.clock import NS_PER_S
from counterpoint.bidder.decide import records
from counterpoint.bidder.frequency import EVENTS_MAX, FIRM_NS, NEVER_NS, FrequencyBook

SECRET = b"a key of the id hash, for tests."
HOUR = 3_600 * NS_PER_S
NOW = 10_000 * HOUR


@pytest.fixture
def book() -> FrequencyBook:
    return FrequencyBook(SECRET)


def test_a_pseudonym_needs_the_key_and_keeps_kinds_apart(book: FrequencyBook) -> None:
    key = book.user_key("ifa", "x")
    assert key == FrequencyBook(SECRET).user_key("ifa", "x")
    assert len({key, book.user_key("eid", "x"), FrequencyBook(SECRET[::-1]).user_key("ifa", "x")}) == 3
    assert len(key) == 32
    assert book.user_key("user", "\ud800") != key  # a lone surrogate is an id too


def test_asking_stores_nothing(book: FrequencyBook) -> None:
    key = book.user_key("ifa", "x")
    assert book.state(key).events == b""
    assert len(book) == 0


def test_a_provisional_count_ends_with_its_reservation(book: FrequencyBook) -> None:
    key = book.user_key("ifa", "x")
    book.count(key, 7, 1, NOW, NOW + 10)
    assert book.shown(key, 7, HOUR, NOW + 9) == 1
    assert book.shown(key, 7, HOUR, NOW + 10) == 0


def test_a_settlement_makes_it_firm_and_again_changes_nothing(book: FrequencyBook) -> None:
    key = book.user_key("ifa", "x")
    book.count(key, 7, 1, NOW, NOW + 10)
    for _ in range(3):
        book.confirm(key, 7, 1, NOW + 5, NOW + 5)
    assert book.shown(key, 7, HOUR, NOW + 20) == 1
    assert records(book.state(key).events)[0].tolist() == [7, NOW, FIRM_NS, 1]
    book.release(key, 1)  # a loss notice does not take back what was shown
    assert book.shown(key, 7, HOUR, NOW + 20) == 1


def test_a_settlement_without_its_bid_counts_too(book: FrequencyBook) -> None:
    key = book.user_key("ifa", "x")
    book.confirm(key, 7, 1, NOW, NOW)
    assert book.shown(key, 7, HOUR, NOW + 1) == 1


def test_a_loss_takes_the_count_back(book: FrequencyBook) -> None:
    key = book.user_key("ifa", "x")
    book.count(key, 7, 1, NOW, NOW + HOUR)
    book.count(key, 7, 2, NOW, NOW + HOUR)
    book.release(key, 1)
    assert book.shown(key, 7, HOUR, NOW + 1) == 1


def test_what_one_person_can_hold_is_bounded_and_the_loss_is_said(book: FrequencyBook) -> None:
    key = book.user_key("ifa", "x")
    for n in range(EVENTS_MAX + 5):
        book.confirm(key, 7, n, NOW + n, NOW + n)
    state = book.state(key)
    assert len(records(state.events)) == EVENTS_MAX
    assert state.known_since_ns == NOW + 4  # when the newest forgotten one was


def test_old_records_are_swept_without_loss_of_knowledge(book: FrequencyBook) -> None:
    key = book.user_key("ifa", "x")
    for n in range(20):
        book.confirm(key, 7, n, NOW, NOW)
    later = NOW + 31 * 24 * HOUR
    book.confirm(key, 7, 99, later, later)
    state = book.state(key)
    assert len(records(state.events)) == 1
    assert state.known_since_ns == 0


def test_people_are_evicted_and_whoever_comes_back_is_not_taken_for_new() -> None:
    book = FrequencyBook(SECRET, entries_max=3)
    keys = [book.user_key("ifa", str(n)) for n in range(5)]
    for n, key in enumerate(keys):
        book.confirm(key, 7, n, NOW + n, NOW + n)
    assert len(book) == 3
    assert book.evicted == 2
    assert book.state(keys[0]).known_since_ns == NOW + 1
    assert book.state(keys[3]).known_since_ns == 0  # came before anybody was forgotten
    assert book.state(keys[4]).known_since_ns == NOW


def test_bytes_are_bounded() -> None:
    book = FrequencyBook(SECRET, bytes_max=5_000)
    for n in range(100):
        book.confirm(book.user_key("ifa", str(n)), 7, n, NOW, NOW)
        assert book.bytes_used() <= 5_000


def test_after_a_restart_nothing_before_is_known_until_the_snapshot_is_back() -> None:
    book = FrequencyBook(SECRET)
    key = book.user_key("ifa", "x")
    book.confirm(key, 7, 1, NOW, NOW)
    fresh = FrequencyBook(SECRET, started_at_ns=NOW + 5, new_here=False)
    assert fresh.state(key).known_since_ns == NOW + 5
    fresh.catching_up = True
    assert fresh.state(key).known_since_ns == NEVER_NS
    assert fresh.restore(book.snapshot(NOW + 2)) == NOW + 2
    fresh.catching_up = False
    assert fresh.state(key) == book.state(key)


def test_bytes_that_are_no_snapshot_leave_the_book_as_it_was(book: FrequencyBook) -> None:
    key = book.user_key("ifa", "x")
    book.confirm(key, 7, 1, NOW, NOW)
    for raw in (b"", b"\x93", msgspec.msgpack.encode({"a": 1})):
        with pytest.raises(msgspec.DecodeError):
            book.restore(raw)
    assert book.shown(key, 7, HOUR, NOW + 1) == 1


_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["count", "confirm", "release"]),
        st.integers(0, 2),
        st.integers(0, 1),
        st.integers(0, 5),
    ),
    max_size=40,
)


@settings(deadline=None, max_examples=80)
@given(_STEPS)
def test_the_book_counts_as_a_list_would(steps: list[tuple[str, int, int, int]]) -> None:
    book = FrequencyBook(SECRET)
    keys = [book.user_key("ifa", str(n)) for n in range(3)]
    plain: dict[tuple[int, int, int], list[int]] = {}  # (person, line item, bid) -> [until, ...]
    for at, (verb, person, item, bid) in enumerate(steps):
        now = NOW + at
        if verb == "count":
            book.count(keys[person], item, bid, now, NOW + 10**6)
            plain.setdefault((person, item, bid), []).append(NOW + 10**6)
        elif verb == "confirm":
            book.confirm(keys[person], item, bid, now, now)
            held = plain.setdefault((person, item, bid), [])
            if held:
                held[0] = FIRM_NS
            else:
                held.append(FIRM_NS)
        else:
            book.release(keys[person], bid)
            for (who, _, of_bid), held in plain.items():
                if who == person and of_bid == bid:
                    held[:] = [until for until in held if until == FIRM_NS]
    for now in (NOW + 10**5, NOW + 10**6):
        for person in range(3):
            for item in range(2):
                expected = sum(
                    until > now
                    for (who, what, _), held in plain.items()
                    if who == person and what == item
                    for until in held
                )
                assert book.shown(keys[person], item, HOUR, now) == expected
    for key in keys:
        assert records(book.state(key).events).dtype == np.int64
