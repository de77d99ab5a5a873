"""The Feedback agent's artefact: who is well, and whose policy should not be used for now.

The bidder uses the stated fallback of a distrusted agent. An expired or missing FeedbackPolicy distrusts nobody:
a dead Feedback agent must not take the others down with it.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum

import msgspec
from msgspec import Struct

from counterpoint.base.errors import PolicyRefused
from counterpoint.base.ids import digest
from counterpoint.base.unreadable import UNREADABLE

GUARDED_AGENTS = ("budget", "bidding", "creative")  # who can be distrusted; Feedback never judges itself


class Health(StrEnum):
    UNKNOWN = "unknown"  # not heard yet, and too early to say
    ALIVE = "alive"
    LAGGING = "lagging"  # beats late, or far behind the bus
    DEAD = "dead"


class AgentHealth(Struct, frozen=True, kw_only=True):
    state: Health
    beat_age_ms: int = -1  # -1: never heard
    policy_version: int = 0
    policy_age_ms: int = -1  # -1: none published
    rejections: int = 0  # of its policies, lately
    why: str = ""


class FeedbackPolicy(Struct, frozen=True, kw_only=True):
    version: int
    made_at_ns: int
    valid_until_ns: int
    health: dict[str, AgentHealth] = {}
    distrusted: tuple[str, ...] = ()  # sorted, without repeats, of GUARDED_AGENTS
    why: dict[str, str] = {}  # by distrusted agent


_ENCODER = msgspec.msgpack.Encoder(order="deterministic")
_DECODER = msgspec.msgpack.Decoder(FeedbackPolicy)


def encode(policy: FeedbackPolicy) -> bytes:
    return _ENCODER.encode(policy)


def decode(payload: bytes) -> FeedbackPolicy:
    """Raises :class:`PolicyRefused` where the bytes are not a feedback policy."""
    try:
        return _DECODER.decode(payload)
    except UNREADABLE as broken:
        raise PolicyRefused(f"feedback policy cannot be read: {broken}") from broken


def checksum(payload: bytes) -> str:
    return digest(payload)


def validate(policy: FeedbackPolicy, catalog_ids: Collection[str] = ()) -> None:
    """Raise :class:`PolicyRefused` unless it stays inside what Feedback may judge. ``catalog_ids`` is not read:
    the policy names agents only."""
    if policy.version < 1 or policy.made_at_ns < 0 or policy.valid_until_ns <= policy.made_at_ns:
        raise PolicyRefused("feedback policy: version from 1, valid_until_ns after made_at_ns")
    if len(policy.health) > 64:
        raise PolicyRefused(f"feedback policy: health of {len(policy.health)} parts, at most 64")
    if tuple(sorted(set(policy.distrusted))) != policy.distrusted:
        raise PolicyRefused("feedback policy: distrusted agents must be sorted and named once")
    for agent in policy.distrusted:
        if agent not in GUARDED_AGENTS:
            raise PolicyRefused(f"feedback policy: {agent!r} is not one whom Feedback may distrust")
        if not policy.why.get(agent):
            raise PolicyRefused(f"feedback policy: no reason given for distrusting {agent}")


def distrusts(policy: FeedbackPolicy | None, agent: str, now_ns: int) -> bool:
    return policy is not None and now_ns <= policy.valid_until_ns and agent in policy.distrusted
