"""The streams, and what happens at their bounds."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import nats.errors
from msgspec import Struct
from nats.aio.client import Client

from counterpoint.base.clock import NS_PER_S
from counterpoint.base.errors import BusRefused, BusUnavailable
from counterpoint.bus.batch import DUPLICATE_WINDOW_NS
from counterpoint.bus.roles import LATEST, TAIL, Credential
from counterpoint.events.subjects import DECISIONS, FACTS, MONEY, STREAMS

_GIB = 1024**3
_NAME_IN_USE = 10058


class StreamLimits(Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds per stream; ages in seconds. At its bound MONEY refuses (money waits, publishers spool), the others
    drop the oldest. ``facts_async``: FACTS is acknowledged before it is on disk; it is telemetry, and a crash of
    the server may lose its last moments."""

    money_bytes: int = 4 * _GIB
    money_age_s: int = 14 * 86_400
    facts_bytes: int = 2 * _GIB
    facts_age_s: int = 24 * 3_600
    facts_async: bool = True
    decisions_bytes: int = _GIB
    decisions_age_s: int = 3_600
    latest_bytes: int = _GIB
    replicas: int = 1  # 3 on a cluster

    @property
    def bytes_total(self) -> int:
        return self.money_bytes + self.facts_bytes + self.decisions_bytes + self.latest_bytes


def stream_configs(limits: StreamLimits) -> list[dict[str, Any]]:
    """The JetStream API's own words for the four streams."""

    def config(name: str, bytes_max: int, age_s: int, **more: Any) -> dict[str, Any]:
        return {
            "name": name,
            "storage": "file",
            "retention": "limits",
            "num_replicas": limits.replicas,
            "max_bytes": bytes_max,
            "max_age": age_s * NS_PER_S,
            "allow_direct": True,
            "deny_delete": True,
            "deny_purge": True,
            **more,
        }

    def ours(name: str, age_s: int) -> dict[str, Any]:
        subject = STREAMS[name]
        return {
            "subjects": [subject],
            "duplicate_window": min(DUPLICATE_WINDOW_NS, age_s * NS_PER_S),
            "republish": {"src": subject, "dest": f"{TAIL}.{subject}", "headers_only": True},
        }

    # a replicated stream has its copies instead: the server knows the mode for single copies only
    lazily = {"persist_mode": "async"} if limits.replicas == 1 else {}
    return [
        config(
            MONEY, limits.money_bytes, limits.money_age_s, discard="new", **ours(MONEY, limits.money_age_s)
        ),
        config(
            FACTS,
            limits.facts_bytes,
            limits.facts_age_s,
            discard="old",
            **ours(FACTS, limits.facts_age_s),
            **(lazily if limits.facts_async else {}),
        ),
        config(
            DECISIONS,
            limits.decisions_bytes,
            limits.decisions_age_s,
            discard="old",
            **ours(DECISIONS, limits.decisions_age_s),
        ),
        # copied from the others by the server, so a loss is copied again
        config(
            LATEST,
            limits.latest_bytes,
            0,
            discard="old",
            max_msgs_per_subject=1,
            sources=[{"name": DECISIONS}, {"name": MONEY, "filter_subject": "money.ledger.balance.*"}],
            **lazily,
        ),
    ]


async def ensure_streams(
    url: str, admin: Credential, limits: StreamLimits | None = None, *, wait_s: float = 10.0
) -> None:
    """Make the streams, or bring their bounds up to date. Keeps what is in them.

    Raises :class:`BusUnavailable` when the server does not answer within ``wait_s``, :class:`BusRefused` when it
    answers no.
    """
    client = Client()
    refusal: list[Exception] = []

    async def note(error: Exception) -> None:
        refusal.append(error)

    try:
        async with asyncio.timeout(wait_s):
            await client.connect(
                url,
                user=admin.user,
                password=admin.password,
                name="counterpoint-admin",
                error_cb=note,
                max_reconnect_attempts=-1,
                reconnect_time_wait=0.1,  # type: ignore[arg-type]  # seconds; the annotation says int, asyncio.sleep takes it
            )
            for config in stream_configs(limits or StreamLimits()):
                await _ensure(client, config)
    except (TimeoutError, nats.errors.Error) as error:
        said = f": {refusal[-1]}" if refusal else ""
        raise BusUnavailable(f"no streams at {url} within {wait_s:g} s{said}") from error
    finally:
        if not client.is_closed:
            await client.close()


async def _ensure(client: Client, config: dict[str, Any]) -> None:
    for action in ("CREATE", "UPDATE"):
        while True:
            try:
                reply = await client.request(
                    f"$JS.API.STREAM.{action}.{config['name']}", msgspec.json.encode(config), timeout=5
                )
                break
            except nats.errors.NoRespondersError:  # JetStream is still reading its disk
                await asyncio.sleep(0.05)
        error = msgspec.json.decode(reply.data).get("error")
        if error is None:
            return
        if error.get("err_code") != _NAME_IN_USE:
            raise BusRefused(f"stream {config['name']}: {error.get('description')}")
    raise AssertionError("an update cannot say that the name is in use")
