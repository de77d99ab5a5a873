"""A person's stop, which works with the bus down too: one small file that every part looks at, and the same fact on
the bus. What was said last about a target counts, wherever it was said.

The file is replaced whole and synced, so a reader sees the old or the new one. A file that cannot be read changes
nothing and is reported; at start-up, with nothing known, it stops everything, since it may have held a stop.
"""

from __future__ import annotations

import fcntl
import os
import re
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from counterpoint.base.errors import CounterpointError
from counterpoint.events.decisions import StopChanged

STOPS_MAX = 100_000
_FILE_BYTES_MAX = 64 * 1024 * 1024
_TARGET = re.compile(r"all|agent/[a-z]{1,32}|campaign/[^\s\x00-\x1f]{1,256}")


class StopFileUnreadable(CounterpointError):
    """The stop file is there but says nothing that can be trusted."""


class Stop(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    stopped: bool
    at_ns: Annotated[int, Meta(ge=0)]
    person: str
    reason: str = ""


class Stops(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What people said last about each target: "campaign/42", "agent/bidding" or "all"."""

    targets: dict[str, Stop] = {}

    def stopped(self, target: str) -> Stop | None:
        """The stop that holds for exactly this target, or None."""
        said = self.targets.get(target)
        return said if said is not None and said.stopped else None

    @property
    def all_stopped(self) -> bool:
        return self.stopped("all") is not None

    def campaign_stopped(self, campaign_id: str) -> bool:
        return self.all_stopped or self.stopped(f"campaign/{campaign_id}") is not None

    def agent_stopped(self, agent: str) -> bool:
        """Whether this agent is to be ignored. "all" stops the bidding, not the agents."""
        return self.stopped(f"agent/{agent}") is not None

    def join(self, other: Stops) -> Stops:
        """The newest per target; of two at the same instant the stop. Commutative, associative, idempotent."""
        joined = dict(self.targets)
        for target, said in other.targets.items():
            held = joined.get(target)
            if held is None or _order(said) > _order(held):
                joined[target] = said
        return Stops(targets=joined)


def _order(said: Stop) -> tuple[int, bool, str, str]:
    return said.at_ns, said.stopped, said.person, said.reason


_DECODER = msgspec.json.Decoder(Stops)


def valid_target(target: str) -> bool:
    return _TARGET.fullmatch(target) is not None


def from_event(event: StopChanged) -> Stops:
    said = Stop(stopped=event.stopped, at_ns=event.happened_at_ns, person=event.person, reason=event.reason)
    return Stops(targets={event.target: said})


def parse(raw: bytes) -> Stops:
    """Raises :class:`StopFileUnreadable`."""
    try:
        stops = _DECODER.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as broken:
        raise StopFileUnreadable(f"stop file: {broken}") from broken
    wrong = [target for target in stops.targets if not valid_target(target)]
    if wrong:
        raise StopFileUnreadable(
            f"stop file: {wrong[0]!r} is no target; write all, agent/NAME or campaign/ID"
        )
    return stops


def read(path: Path) -> Stops:
    """What the file says; nothing where there is none. Raises :class:`StopFileUnreadable`."""
    try:
        with path.open("rb") as file:
            raw = file.read(_FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        return Stops()
    except OSError as away:
        raise StopFileUnreadable(f"stop file {path}: {away}") from away
    if len(raw) > _FILE_BYTES_MAX:
        raise StopFileUnreadable(f"stop file {path}: more than {_FILE_BYTES_MAX} bytes")
    return parse(raw)


def say(path: Path, target: str, said: Stop) -> Stops:
    """Add one stop or resume to the file, durably, and return what it holds now. Several people may do so at once.

    Raises :class:`StopFileUnreadable` for a resume into a file that cannot be read; a stop is written all the same,
    beside a stop of everything, because what else the file held is not known.
    """
    if not valid_target(target):
        raise ValueError(f"{target!r} is no target; write all, agent/NAME or campaign/ID")
    path.parent.mkdir(parents=True, exist_ok=True)
    with (path.parent / (path.name + ".lock")).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            held = read(path)
        except StopFileUnreadable:
            if not said.stopped and target != "all":
                raise
            held = Stops(targets={"all": said})
        known = held.targets.get(target)
        if known is not None and said.at_ns <= known.at_ns and said.stopped != known.stopped:
            # the clock went back; what a person says now is said after what the file holds
            said = msgspec.structs.replace(said, at_ns=known.at_ns + 1)
        held = held.join(Stops(targets={target: said}))
        assert len(held.targets) <= STOPS_MAX
        _replace(path, msgspec.json.format(msgspec.json.encode(held), indent=2))
        return held


def _replace(path: Path, raw: bytes) -> None:
    new = path.parent / (path.name + ".new")
    with new.open("wb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class StopWatch:
    """What holds now, from the file and the bus together. Call :meth:`poll` a few times a second: it costs one
    ``stat`` while the file is unchanged."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._mark: tuple[int, int, int] | None = None
        self._file: Stops | None = None  # last good
        self._bus = Stops()
        self.problem = ""  # why the file could not be read last time; empty: it could
        self.stops = Stops()
        self.poll()

    def poll(self) -> bool:
        """Look at the file again. True: what holds has changed."""
        try:
            seen = self._path.stat()
            mark = (seen.st_mtime_ns, seen.st_size, seen.st_ino)
        except FileNotFoundError:
            mark = (0, 0, 0)
        except OSError as away:
            self.problem = f"stop file {self._path}: {away}"
            return self._settle()
        if mark == self._mark and not self.problem:
            return False
        if mark == (0, 0, 0) and self._file is not None and self._file.targets:
            self.problem = f"stop file {self._path} is gone; what it last said still holds"
            return self._settle()
        try:
            self._file = read(self._path)
        except StopFileUnreadable as broken:
            self.problem = str(broken)
        else:
            self.problem, self._mark = "", mark
        return self._settle()

    def hear(self, event: StopChanged, now_ns: int) -> bool:
        """A stop on the bus. True: what holds has changed. One from the future counts as said now."""
        if not valid_target(event.target):
            return False
        said = msgspec.structs.replace(event, happened_at_ns=min(event.happened_at_ns, now_ns))
        if event.target in self._bus.targets or len(self._bus.targets) < STOPS_MAX:
            self._bus = self._bus.join(from_event(said))
        return self._settle()

    def _settle(self) -> bool:
        before = self.stops
        if self._file is None:
            nothing_known = Stop(stopped=True, at_ns=0, person="", reason=f"safe stop: {self.problem}")
            self.stops = self._bus.join(Stops(targets={"all": nothing_known}))
        else:
            self.stops = self._file.join(self._bus)
        return self.stops != before
