"""The bus on NATS JetStream.

Reading uses no consumers but gets by position (``DIRECT.GET`` in batches): the position is the reader's own, the
server keeps nothing per reader that a restart could lose, and no role needs the right to make consumers. A reader
sleeps until the server's hint about a new message (``tail.>``, headers only), or looks by itself now and then.
"""

from __future__ import annotations

import asyncio
import calendar
import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from types import TracebackType
from typing import Any

import msgspec
from nats.aio.msg import Msg

from counterpoint.base.clock import NS_PER_S
from counterpoint.base.errors import BusRefused, BusUnavailable
from counterpoint.bus.batch import batch_id_of, open_batch, seal_batch
from counterpoint.bus.bus import Delivery
from counterpoint.bus.link import Link, status_of
from counterpoint.bus.match import Filter, cover
from counterpoint.bus.roles import LATEST, TAIL
from counterpoint.events.event import Event
from counterpoint.events.subjects import DECISIONS, MONEY, STREAMS, stream_of

PUBLISH_WAIT_S = 5.0
READ_WAIT_S = 5.0
READ_BYTES_MAX = 16 * 1024 * 1024  # of one read; a message alone is at most 8 MiB
READ_MESSAGES_MAX = 256
LOOK_EVERY_S = 0.5  # without a hint: one may be lost with a connection
RETRY_S = 0.05
LAST_MAX = 1_024  # subjects in one answer about last values: the server's own bound
_KEPT = {DECISIONS: (LATEST,), MONEY: (LATEST,)}  # where last values outlive their stream
_FULL = frozenset({10077, 10122, 10023, 10047})  # stream at its bound, or the server out of resources


@lru_cache(maxsize=64)
def _seconds(text: str) -> int:
    return calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%S"))


def stamp_ns(text: str) -> int:
    """Nanoseconds since the epoch of an RFC 3339 time in UTC, to the last digit.

    >>> stamp_ns("2026-11-23T16:32:50.061029646Z"), stamp_ns("1970-01-01T00:00:01Z")
    (1795451570061029646, 1000000000)
    """
    return _seconds(text[:19]) * NS_PER_S + int(text[20:-1].ljust(9, "0") or 0)


def _stamp(ns: int) -> str:
    whole = datetime.fromtimestamp(ns // NS_PER_S, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{whole}.{ns % NS_PER_S:09d}Z"


def _delivery(message: Msg) -> Delivery:
    headers = message.headers
    assert headers is not None, "a stored message comes with its headers"
    subject = headers["Nats-Subject"]
    stream, sequence = headers["Nats-Stream"], headers["Nats-Sequence"]
    if stream == LATEST:  # a copy: "DECISIONS 17 > >" says of what
        stream, sequence = headers["Nats-Stream-Source"].split(" ")[:2]
    events, unreadable = open_batch(subject, message.data)
    return Delivery(stream, int(sequence), stamp_ns(headers["Nats-Time-Stamp"]), subject, events, unreadable)


async def _get(link: Link, stream: str, pattern: str, start: dict[str, Any], messages_max: int) -> list[Msg]:
    """Up to ``messages_max`` stored messages that match, from a position or a time on; [] where there is none."""
    messages = await link.ask(
        f"$JS.API.DIRECT.GET.{stream}",
        msgspec.json.encode(
            {
                **start,
                "next_by_subj": pattern,
                "batch": min(messages_max, READ_MESSAGES_MAX),
                "max_bytes": READ_BYTES_MAX,
            }
        ),
        wait_s=READ_WAIT_S,
        many=True,
    )
    end = messages.pop()
    if status_of(end) not in ("204", "404"):
        raise BusRefused(f"reading {stream}: {dict(end.headers or {})}")
    return messages


async def _get_one(link: Link, stream: str, query: dict[str, Any]) -> Msg | None:
    reply = await link.ask(f"$JS.API.DIRECT.GET.{stream}", msgspec.json.encode(query), wait_s=READ_WAIT_S)
    status = status_of(reply[0])
    if status not in (None, "404"):
        raise BusRefused(f"reading {stream}: {dict(reply[0].headers or {})}")
    return reply[0] if status is None else None


def _header(message: Msg, name: str) -> str:
    assert message.headers is not None, "a stored message comes with its headers"
    return message.headers[name]


class NatsSubscription:
    def __init__(
        self, bus: NatsBus, stream: str, subjects: Sequence[str], after: int, since_ns: int | None
    ) -> None:
        self._link = bus.link
        self._stream = stream
        self._wanted = Filter(subjects)
        self._cover = cover(subjects)
        self._tails = tuple(f"{TAIL}.{subject}" for subject in subjects)
        self._position = after
        self._since_ns = since_ns  # read from this time on, until something was found
        self._stamp = ""  # of the message at the position: tells whether the stream is still the one we read
        self._news = asyncio.Event()
        self._checked = 0  # the connection on which the position was last held against the stream
        self._closed = False

    async def start(self) -> None:
        await self._link.listen(self._news, self._tails)
        if self._link.connected:
            await self._check()

    async def _check(self) -> None:
        """Behind a new connection the stream may be another one, or have lost its last moments in a crash."""
        connection = self._link.connects
        if self._stamp:
            # what we read is gone or is something else: whatever was stored after it is new to us
            here = await _get_one(self._link, self._stream, {"seq": self._position})
            if here is None:
                last = await _get_one(self._link, self._stream, {"last_by_subj": STREAMS[self._stream]})
                known = last is not None and int(_header(last, "Nats-Sequence")) >= self._position
            else:
                known = _header(here, "Nats-Time-Stamp") == self._stamp
            if not known:
                self._since_ns = stamp_ns(self._stamp) + 1
                self._position, self._stamp = 0, ""
        elif self._position:
            last = await _get_one(self._link, self._stream, {"last_by_subj": STREAMS[self._stream]})
            if last is None or int(_header(last, "Nats-Sequence")) < self._position:
                self._position = 0
        self._checked = connection

    async def _read(self, messages_max: int) -> list[Delivery]:
        if self._checked != self._link.connects:
            await self._check()
        while True:
            start: dict[str, Any] = {"seq": self._position + 1}
            if self._since_ns is not None:
                start = {"start_time": _stamp(self._since_ns)}
            messages = await _get(self._link, self._stream, self._cover, start, messages_max)
            if not messages:
                return []
            found: list[Delivery] = []
            for message in messages:
                sequence = int(_header(message, "Nats-Sequence"))
                assert sequence > self._position, "the stream went backwards"
                self._position = sequence
                if self._wanted(_header(message, "Nats-Subject")):
                    found.append(_delivery(message))
            self._stamp = _header(messages[-1], "Nats-Time-Stamp")
            self._since_ns = None
            if found:
                return found

    async def fetch(self, messages_max: int = 64, wait_s: float = 1.0) -> list[Delivery]:
        assert messages_max > 0
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        reached = False
        while not self._closed:
            self._news.clear()
            pause = LOOK_EVERY_S
            if self._link.connected:
                try:
                    if found := await self._read(messages_max):
                        return found
                    reached = True
                except BusUnavailable:
                    pause = RETRY_S
            left = deadline - loop.time()
            if left <= 0:
                break
            try:
                async with asyncio.timeout(min(left, pause)):
                    await self._news.wait()
            except TimeoutError:
                continue
        if not reached and not self._closed:
            raise BusUnavailable(f"the bus was away for {wait_s:g} s")
        return []

    async def close(self) -> None:
        self._closed = True
        self._news.set()
        await self._link.unlisten(self._news)


class NatsBus:
    """A connection with one role's credential. ``await bus.open()`` first; then it is kept until :meth:`close`."""

    def __init__(
        self, url: str, user: str, password: str, name: str, *, publish_wait_s: float = PUBLISH_WAIT_S
    ) -> None:
        self.link = Link(url, user, password, name)
        self._publish_wait_s = publish_wait_s

    async def open(self, wait_s: float = 5.0, *, required: bool = True) -> NatsBus:
        """Connect. With ``required`` False a bus that is away is no error: it is used once it is there."""
        await self.link.open(wait_s, required)
        return self

    async def __aenter__(self) -> NatsBus:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def publish(self, subject: str, events: Sequence[Event], *, batch_id: str | None = None) -> int:
        raw = seal_batch(subject, events)
        replies = await self.link.ask(
            subject,
            raw,
            headers={"Nats-Msg-Id": batch_id or batch_id_of(events)},
            wait_s=self._publish_wait_s,
        )
        answer = msgspec.json.decode(replies[0].data)
        error = answer.get("error")
        if error is None:
            return int(answer["seq"])
        said = f"{subject}: {error.get('description')}"
        if error.get("err_code") in _FULL or error.get("code", 0) >= 500:
            raise BusUnavailable(said)
        raise BusRefused(said)

    async def subscribe(
        self, stream: str, subjects: Sequence[str], *, after: int = 0, since_ns: int | None = None
    ) -> NatsSubscription:
        if stream not in STREAMS:
            raise BusRefused(f"there is no stream {stream!r}")
        subscription = NatsSubscription(
            self, stream, subjects, 0 if since_ns is not None else after, since_ns
        )
        try:
            await subscription.start()
        except BusUnavailable:
            pass  # away just now: the first fetch that reaches it starts where this one would have
        except BusRefused:
            await subscription.close()
            raise
        return subscription

    async def last(self, subject: str) -> Delivery | None:
        for stream in (stream_of(subject), *_KEPT.get(stream_of(subject), ())):
            message = await _get_one(self.link, stream, {"last_by_subj": subject})
            if message is not None:
                return _delivery(message)
        return None

    async def last_all(self, pattern: str) -> list[Delivery]:
        """In stream order. Of a message that retention has passed, ``stored_at_ns`` is when its copy was made.

        Raises :class:`BusRefused` for more than 1,024 subjects outside decisions and balances."""
        stream = stream_of(pattern)
        found: dict[str, Delivery] = {}
        # the copies lag by moments: read them all, then what the stream has had since the newest of them
        for source in _KEPT.get(stream, ()):
            async for message in self._scan(source, pattern, 0):
                delivery = _delivery(message)
                found[delivery.subject] = delivery
        newest = max((delivery.sequence for delivery in found.values()), default=0)
        if newest:
            async for message in self._scan(stream, pattern, newest):
                delivery = _delivery(message)
                found[delivery.subject] = delivery
        else:
            for message in await self._multi_last(stream, pattern):
                delivery = _delivery(message)
                found[delivery.subject] = delivery
        return sorted(found.values(), key=lambda delivery: delivery.sequence)

    async def _scan(self, stream: str, pattern: str, after: int) -> AsyncIterator[Msg]:
        while messages := await _get(self.link, stream, pattern, {"seq": after + 1}, READ_MESSAGES_MAX):
            for message in messages:
                yield message
            after = int(_header(messages[-1], "Nats-Sequence"))

    async def _multi_last(self, stream: str, pattern: str) -> list[Msg]:
        messages = await self.link.ask(
            f"$JS.API.DIRECT.GET.{stream}",
            msgspec.json.encode({"multi_last": [pattern], "batch": LAST_MAX}),
            wait_s=READ_WAIT_S,
            many=True,
        )
        end = messages.pop()
        if status_of(end) == "413" or (messages and _header(end, "Nats-Num-Pending") != "0"):
            raise BusRefused(f"too much matches {pattern!r}: {dict(end.headers or {})}")
        return messages

    def connected(self) -> bool:
        return self.link.connected

    async def close(self) -> None:
        await self.link.close()
