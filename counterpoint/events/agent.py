"""The few verbs every agent speaks. A learner has no I/O; a policy is frozen and knows no learner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from counterpoint.base.ids import digest
from counterpoint.events import subjects
from counterpoint.events.decisions import PolicyPublished
from counterpoint.events.event import Event


class Decision(Struct, frozen=True):
    """An event a learner wants published, and where."""

    subject: str
    event: Event


def publish_policy(
    agent: str, version: int, payload: bytes, now_ns: int, valid_until_ns: int, reason: str
) -> Decision:
    """The decision that publishes an artefact: its bytes, their checksum, how long they hold, and why."""
    checksum = digest(payload)
    event = PolicyPublished(
        event_id=f"policy-{agent}-{version}-{checksum}",
        happened_at_ns=now_ns,
        recorded_at_ns=now_ns,
        source=f"agent/{agent}",
        agent=agent,
        policy_version=version,
        checksum=checksum,
        payload=payload,
        valid_until_ns=valid_until_ns,
        reason=reason,
    )
    return Decision(subjects.policy(agent), event)


class Learner(Protocol):
    """A synchronous state machine: the same object runs live, in simulation and in replay."""

    name: str

    def on(self, events: Sequence[Event], now_ns: int) -> list[Decision]:
        """Learn from events (in arrival order; a repeated event id changes nothing) and say what follows."""
        ...

    def tick(self, now_ns: int) -> list[Decision]:
        """Time has passed: publish the policy when due, let things expire. Called about every 200 ms."""
        ...

    def explain(self) -> tuple[str, str]:
        """(what it last decided, why), one short line each, for the live view."""
        ...

    def snapshot(self) -> bytes:
        """Everything it knows, as msgpack. ``restore(snapshot())`` decides identically."""
        ...

    def restore(self, raw: bytes) -> None: ...
