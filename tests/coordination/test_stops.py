from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterpoint.coordination.stops import (
    Stop,
    StopFileUnreadable,
    Stops,
    StopWatch,
    parse,
    read,
    say,
)
from tests.coordination.world import stop

_said = st.builds(
    Stop,
    stopped=st.booleans(),
    at_ns=st.integers(0, 5),
    person=st.sampled_from(["ann", "bob"]),
    reason=st.just(""),
)
_stops = st.builds(
    Stops, targets=st.dictionaries(st.sampled_from(["all", "campaign/1", "agent/budget"]), _said)
)


@given(_stops, _stops, _stops)
def test_joining_is_commutative_associative_and_idempotent(a: Stops, b: Stops, c: Stops) -> None:
    assert a.join(b) == b.join(a)
    assert a.join(b).join(c) == a.join(b.join(c))
    assert a.join(a) == a


def test_stop_and_resume_through_the_file(tmp_path: Path) -> None:
    path = tmp_path / "control" / "stops.json"
    watch = StopWatch(path)
    assert not watch.stops.campaign_stopped("42")
    say(path, "campaign/42", Stop(stopped=True, at_ns=10, person="ann", reason="wrong price"))
    assert watch.poll()
    assert watch.stops.campaign_stopped("42")
    assert not watch.stops.campaign_stopped("43")
    assert not watch.poll()
    say(path, "campaign/42", Stop(stopped=False, at_ns=20, person="ann"))
    assert watch.poll()
    assert not watch.stops.campaign_stopped("42")


def test_all_stops_campaigns_but_no_agent(tmp_path: Path) -> None:
    stops = say(tmp_path / "s.json", "all", Stop(stopped=True, at_ns=1, person="ann"))
    assert stops.campaign_stopped("anything")
    assert not stops.agent_stopped("budget")


def test_the_newer_word_counts_wherever_it_was_said(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    watch = StopWatch(path)
    watch.hear(stop("campaign/1", True, 10), now_ns=100)
    assert watch.stops.campaign_stopped("1")
    say(path, "campaign/1", Stop(stopped=False, at_ns=20, person="ann"))
    watch.poll()
    assert not watch.stops.campaign_stopped("1")
    watch.hear(stop("campaign/1", True, 15), now_ns=100)
    assert not watch.stops.campaign_stopped("1"), "an older stop that came late"
    watch.hear(stop("campaign/1", True, 10**18), now_ns=100)
    assert watch.stops.campaign_stopped("1")
    say(path, "campaign/1", Stop(stopped=False, at_ns=101, person="ann"))
    watch.poll()
    assert not watch.stops.campaign_stopped("1"), "a stop from the future counts as said when it was heard"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b'{"targets": {"campaign/1": {"stopped": tr',
        b'{"targets": {"everything": {"stopped": true, "at_ns": 1, "person": "a"}}}',
        b'{"targets": {"all": {"stopped": "yes", "at_ns": 1, "person": "a"}}}',
        b'{"targets": {}, "extra": 1}',
        b"\xff\xfe\x00",
    ],
)
def test_a_torn_or_wrong_file_keeps_the_last_good(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "s.json"
    with pytest.raises(StopFileUnreadable):
        parse(raw)
    say(path, "campaign/1", Stop(stopped=True, at_ns=1, person="ann"))
    watch = StopWatch(path)
    path.write_bytes(raw)
    watch.poll()
    assert watch.problem
    assert watch.stops.campaign_stopped("1")
    assert not watch.stops.all_stopped
    fresh = StopWatch(path)
    assert fresh.stops.all_stopped, "nothing is known: it may have held a stop"
    with pytest.raises(StopFileUnreadable):
        say(path, "campaign/1", Stop(stopped=False, at_ns=2, person="ann"))
    assert say(path, "all", Stop(stopped=False, at_ns=3, person="ann")).targets["all"].stopped is False
    assert fresh.poll()
    assert fresh.stops.stopped("all") is None
    assert not fresh.problem


def test_a_file_that_vanishes_resumes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    say(path, "all", Stop(stopped=True, at_ns=1, person="ann"))
    watch = StopWatch(path)
    path.unlink()
    watch.poll()
    assert watch.stops.all_stopped
    assert "gone" in watch.problem


def test_a_clock_that_went_back_does_not_lose_what_a_person_says(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    say(path, "all", Stop(stopped=True, at_ns=100, person="ann"))
    assert not say(path, "all", Stop(stopped=False, at_ns=50, person="ann")).all_stopped
    assert not read(path).all_stopped
    assert not os.path.exists(tmp_path / "s.json.new")


def test_no_such_target_is_refused(tmp_path: Path) -> None:
    for wrong in ("everything", "agent/", "campaign/", "agent/../x", "campaign/a b"):
        with pytest.raises(ValueError, match="is no target"):
            say(tmp_path / "s.json", wrong, Stop(stopped=True, at_ns=1, person="ann"))
