"""Who is in which arm: one draw per unit of randomisation, the same for every request of a person.

The unit is the person (keyed hash of the id) where consented, else the request. An arm switches single agents, or
all, to their stated fallback; the share of each arm is configured in buckets of one in ten thousand.
"""

from __future__ import annotations

import hashlib
from typing import Final

from msgspec import Struct

from counterpoint.base.errors import ConfigError
from counterpoint.base.ids import digest
from counterpoint.base.rng import mix64

BUCKETS: Final = 10_000
ARMS: Final = ("agents", "no_agents", "no_budget", "no_bidding", "no_creative", "no_feedback")
ARM_INDEX: Final = {arm: position for position, arm in enumerate(ARMS)}
_HASH64: Final = hashlib.blake2b(digest_size=8)  # copied: that is quicker than a new one
AGENTS: Final = ("budget", "bidding", "creative", "feedback")


def hash64(text: str) -> int:
    """64 bits of BLAKE2b: the same in every process and on every machine.

    >>> hash64("a") == hash64("a") != hash64("b")
    True
    """
    hashed = _HASH64.copy()
    hashed.update(text.encode())
    return int.from_bytes(hashed.digest(), "little")


def falls_back(arm: str, agent: str) -> bool:
    """Whether this arm runs without the agent.

    >>> falls_back("no_agents", "bidding"), falls_back("no_creative", "bidding"), falls_back("agents", "budget")
    (True, False, False)
    """
    return arm in ("no_agents", "no_" + agent)


class Experiment(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``shares`` of units by arm, in [0, 1], taken to whole buckets; ``agents`` takes the rest, whatever it says for
    that arm. A new ``name`` or ``salt`` draws anew."""

    name: str = "default"
    salt: str = ""
    shares: dict[str, float] = {}


class CompiledExperiment:
    """The arm of every bucket, laid out once. ``arms[bucket]`` is a position in ARMS."""

    __slots__ = ("arms", "digest", "name", "salt")

    def __init__(self, experiment: Experiment) -> None:
        """Raises ConfigError where an arm is unknown, a share is outside [0, 1], or the shares exceed the whole."""
        self.name = experiment.name
        self.salt = mix64(hash64(f"{experiment.name}\x00{experiment.salt}"))
        unknown = sorted(set(experiment.shares) - set(ARMS))
        if unknown:
            raise ConfigError(
                f"experiment {experiment.name!r}: unknown arm {unknown[0]!r}; arms are {', '.join(ARMS)}"
            )
        arms = bytearray()
        for arm in ARMS[1:]:
            arms += bytes([ARM_INDEX[arm]]) * _buckets(experiment.shares, arm)
        if len(arms) > BUCKETS:
            raise ConfigError(
                f"experiment {experiment.name!r}: the arms take {len(arms)} of {BUCKETS} buckets; lower their shares"
            )
        arms += bytes(BUCKETS - len(arms))
        self.arms = bytes(arms)
        self.digest = digest(self.name, str(self.salt), self.arms)

    def bucket_of(self, unit_hash: int) -> int:
        return mix64(unit_hash ^ self.salt) % BUCKETS

    def shares(self) -> tuple[float, ...]:
        """The share of units each arm gets, in the order of ARMS; sums to 1."""
        return tuple(self.arms.count(position) / BUCKETS for position in range(len(ARMS)))


def _buckets(shares: dict[str, float], arm: str) -> int:
    share = shares.get(arm, 0.0)
    if not 0.0 <= share <= 1.0:
        raise ConfigError(f"experiment: the share of {arm!r} is {share}; it lies in 0..1")
    return round(share * BUCKETS)
