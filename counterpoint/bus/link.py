"""One connection to a NATS server that is always being kept: requests out, replies in, come what may.

nats-py's own reconnecting is off: it buffers what is published meanwhile and sends it later. Here every loss of the
connection fails what waits at once (the caller decides), and a fresh client is made with a bounded back-off.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import secrets
from collections.abc import Sequence

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from counterpoint.base.errors import BusRefused, BusUnavailable

log = logging.getLogger(__name__)

BACKOFF_S = (0.05, 0.1, 0.2, 0.5, 1.0)  # then every second, for ever
CLOSE_RETRY_S = 0.2
CONNECT_S = 2.0
PING_EVERY_S = 5  # a server that hangs is noticed after two of them
HINTS_MAX = 1_024  # hints not yet looked at; one is enough to go and read, so more are dropped
_VIOLATION = re.compile(r"permissions violation for (?:publish|subscription) to \"([^\"]*)\"", re.IGNORECASE)


def status_of(message: Msg) -> str | None:
    """What the server says instead of a message ("404", "204" behind the last of many); None for a message. Whoever
    publishes may write any header, "Status" too; only what the server has stored carries its position."""
    headers = message.headers
    return None if headers is None or "Nats-Sequence" in headers else headers.get("Status")


class _Waiting:
    """Who waits for replies: to one message, or to many up to the one with a status."""

    __slots__ = ("done", "many", "replies", "subject")

    def __init__(self, subject: str, many: bool) -> None:
        self.subject = subject.lower()  # as nats-py reports violations
        self.many = many
        self.replies: list[Msg] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)


class _Ear:
    """An event that is set by messages on subjects, and what the present connection knows of it."""

    __slots__ = ("subjects", "subscriptions")

    def __init__(self, subjects: tuple[str, ...]) -> None:
        self.subjects = subjects
        self.subscriptions: list[Subscription] = []


class Link:
    def __init__(self, url: str, user: str, password: str, name: str) -> None:
        self.url = url
        self._user = user
        self._password = password
        self._name = name
        self._client: Client | None = None
        self._lost = asyncio.Event()
        self._answered = asyncio.Event()  # connected, or told that we may not
        self._inbox = f"_INBOX.{secrets.token_hex(8)}"
        self._asked = 0
        self._waiting: dict[str, _Waiting] = {}
        self._ears: dict[asyncio.Event, _Ear] = {}
        self._keeper: asyncio.Task[None] | None = None
        self._refused = ""  # what the server said about our credential
        self._closed = asyncio.Event()
        self.connects = 0  # positions are checked again after each

    @property
    def connected(self) -> bool:
        return self._client is not None and self._client.is_connected

    async def open(self, wait_s: float, required: bool) -> None:
        """Begin to keep the connection, and wait for the first. With ``required`` its absence raises
        :class:`BusUnavailable` (:class:`BusRefused` where the credential is wrong) and ends the keeping."""
        assert self._keeper is None, "opened twice"
        self._keeper = asyncio.create_task(self._keep(), name=f"bus-link-{self._name}")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._answered.wait()
        if required and not self.connected:
            await self.close()
            if self._refused:
                raise BusRefused(f"{self.url} refuses {self._user!r}: {self._refused}")
            raise BusUnavailable(f"no bus at {self.url} within {wait_s:g} s")

    async def _keep(self) -> None:
        failures = 0
        while not self._closed.is_set():
            client = Client()
            try:
                async with asyncio.timeout(CONNECT_S):
                    await self._connect(client)
            except Exception as error:  # noqa: BLE001 (an edge: whatever a server or its client does, we try again)
                log.debug("bus link %s: %r", self._name, error)
                if "uthorization" in str(error):
                    self._refused = str(error)
                    self._answered.set()
                with contextlib.suppress(OSError, nats.errors.Error):
                    await client.close()
                await asyncio.sleep(BACKOFF_S[min(failures, len(BACKOFF_S) - 1)])
                failures += 1
                continue
            if self._closed.is_set():  # the client's connect took our cancellation for a broken connection
                with contextlib.suppress(OSError, nats.errors.Error):
                    await client.close()
                return
            failures = 0
            self._client = client
            self.connects += 1
            self._answered.set()
            self._wake()
            await self._lost.wait()
            self._drop("the connection to the bus was lost")
            with contextlib.suppress(OSError, nats.errors.Error):
                await client.close()

    async def _connect(self, client: Client) -> None:
        lost = self._lost = asyncio.Event()

        async def gone() -> None:
            lost.set()

        await client.connect(
            self.url,
            user=self._user,
            password=self._password,
            name=self._name,
            allow_reconnect=False,
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            ping_interval=PING_EVERY_S,
            max_outstanding_pings=2,
            error_cb=self._on_error,
            disconnected_cb=gone,
            closed_cb=gone,
        )
        await client.subscribe(f"{self._inbox}.*", cb=self._on_reply)
        for event, ear in list(self._ears.items()):
            await self._listen(client, event, ear)
        await client.flush()

    def _drop(self, why: str) -> None:
        self._client = None
        waiting, self._waiting = self._waiting, {}
        for one in waiting.values():
            one.fail(BusUnavailable(why))
        self._wake()

    def _wake(self) -> None:
        for event in self._ears:
            event.set()

    async def _on_error(self, error: Exception) -> None:
        found = _VIOLATION.search(str(error))
        if found is None:
            log.debug("bus link %s: %s", self._name, error)
            return
        subject = found.group(1).lower()
        for one in self._waiting.values():
            if one.subject == subject:
                one.fail(BusRefused(f"{self._user!r} may not: {error}"))

    async def _on_reply(self, message: Msg) -> None:
        waiting = self._waiting.get(message.subject.rpartition(".")[2])
        if waiting is None or waiting.done.done():
            return
        waiting.replies.append(message)
        if not waiting.many or status_of(message) is not None:
            waiting.done.set_result(None)

    async def ask(
        self,
        subject: str,
        payload: bytes,
        *,
        wait_s: float,
        headers: dict[str, str] | None = None,
        many: bool = False,
    ) -> list[Msg]:
        """One request and its reply, or with ``many`` its replies up to the one with a status.

        Raises :class:`BusUnavailable` at once when not connected, when the connection goes, after ``wait_s``, or when
        nobody serves the subject (the server is starting); :class:`BusRefused` when the subject is not permitted.
        """
        client = self._client
        if client is None or not client.is_connected:
            raise BusUnavailable(f"no connection to the bus at {self.url}")
        self._asked += 1
        token = f"{self._asked:x}"
        waiting = self._waiting[token] = _Waiting(subject, many)
        try:
            async with asyncio.timeout(wait_s):
                await client.publish(subject, payload, reply=f"{self._inbox}.{token}", headers=headers)
                await waiting.done
        except TimeoutError:
            raise BusUnavailable(f"no answer on {subject} within {wait_s:g} s") from None
        except nats.errors.MaxPayloadError as error:
            raise BusRefused(f"{len(payload)} bytes are too large for {self.url}") from error
        except (OSError, nats.errors.Error) as error:
            raise BusUnavailable(f"the bus went away: {error}") from error
        finally:
            self._waiting.pop(token, None)
            if waiting.done.done() and not waiting.done.cancelled():
                waiting.done.exception()  # looked at: nobody need be warned that it was not
        if status_of(waiting.replies[-1]) == "503":
            raise BusUnavailable(f"nobody serves {subject} (yet)")
        return waiting.replies

    async def _listen(self, client: Client, event: asyncio.Event, ear: _Ear) -> None:
        async def hint(_: Msg) -> None:
            event.set()

        ear.subscriptions = [
            await client.subscribe(subject, cb=hint, pending_msgs_limit=HINTS_MAX) for subject in ear.subjects
        ]

    async def listen(self, event: asyncio.Event, subjects: Sequence[str]) -> None:
        """Set the event at every message on the subjects, and whenever the connection comes or goes."""
        ear = self._ears[event] = _Ear(tuple(subjects))
        if self._client is not None:
            with contextlib.suppress(
                OSError, nats.errors.Error
            ):  # lost just now: the next connection listens
                await self._listen(self._client, event, ear)

    async def unlisten(self, event: asyncio.Event) -> None:
        ear = self._ears.pop(event, None)
        if ear is None or not self.connected:
            return
        for subscription in ear.subscriptions:
            with contextlib.suppress(OSError, nats.errors.Error):  # gone with its connection
                await subscription.unsubscribe()

    async def close(self) -> None:
        self._closed.set()
        keeper = self._keeper
        while keeper is not None and not keeper.done():  # again: nats-py may swallow one while it connects
            keeper.cancel()
            await asyncio.wait([keeper], timeout=CLOSE_RETRY_S)
        client = self._client
        self._drop("the bus was closed")
        if client is not None:
            with contextlib.suppress(OSError, nats.errors.Error):
                await client.close()
