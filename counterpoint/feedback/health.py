"""Who is well: judged by how old the last sign of life is, and whose policy can be used."""

from __future__ import annotations

from msgspec import Struct

from counterpoint.base.clock import NS_PER_MS, NS_PER_S
from counterpoint.events.decisions import AgentBeat, PolicyPublished, PolicyRejected
from counterpoint.feedback.policy import GUARDED_AGENTS, AgentHealth, Health

LAGGING_NS = 2 * NS_PER_S  # beats come every half second
DEAD_NS = 5 * NS_PER_S
FIRST_BEAT_NS = 15 * NS_PER_S  # a part never heard of is dead after this
GRACE_NS = 5 * NS_PER_S  # after our own start or a long sleep: what we hear first is old
LAG_EVENTS_MAX = 10_000
REJECTIONS_MAX = 3  # distinct versions
REJECTIONS_WITHIN_NS = 600 * NS_PER_S
REMEMBERED_MAX = 16
PARTS_MAX = 64  # sources of beats beyond this are not followed


class Part(Struct):
    """What was heard of one agent or service."""

    beat_ns: int = -1
    state: str = ""
    lag_events: int = 0
    incarnation: str = ""
    restarts: int = 0
    policy_version: int = 0
    policy_ns: int = -1
    policy_until_ns: int = 0
    rejected: list[tuple[int, int]] = []  # (policy version, when), by version

    def hear_beat(self, event: AgentBeat) -> None:
        if event.happened_at_ns < self.beat_ns:
            return
        if self.incarnation and event.incarnation != self.incarnation:
            self.restarts += 1
        self.beat_ns, self.state, self.lag_events = event.happened_at_ns, event.state, event.lag_events
        self.incarnation = event.incarnation

    def hear_policy(self, event: PolicyPublished) -> None:
        if event.policy_version >= self.policy_version:
            self.policy_version, self.policy_ns = event.policy_version, event.happened_at_ns
            self.policy_until_ns = event.valid_until_ns

    def hear_rejection(self, event: PolicyRejected) -> None:
        others = [pair for pair in self.rejected if pair[0] != event.policy_version]
        self.rejected = sorted([*others, (event.policy_version, event.happened_at_ns)])[-REMEMBERED_MAX:]

    def rejections(self, now_ns: int) -> int:
        return sum(1 for _, at_ns in self.rejected if now_ns - at_ns <= REJECTIONS_WITHIN_NS)

    def health(self, now_ns: int, since_ns: int) -> AgentHealth:
        """``since_ns``: since when we have been listening without a gap."""
        age_ns = now_ns - self.beat_ns if self.beat_ns >= 0 else -1
        listening_ns = now_ns - since_ns
        if self.beat_ns < 0:
            dead = listening_ns >= FIRST_BEAT_NS
            state, why = (Health.DEAD, "never heard of") if dead else (Health.UNKNOWN, "not heard of yet")
        elif age_ns >= DEAD_NS:
            if listening_ns < GRACE_NS:
                state, why = Health.UNKNOWN, "we have only just begun to listen"
            else:
                state, why = Health.DEAD, f"no sign of life for {age_ns / NS_PER_S:.0f} s"
        elif age_ns >= LAGGING_NS:
            state, why = Health.LAGGING, f"no sign of life for {age_ns / NS_PER_S:.1f} s"
        elif self.lag_events > LAG_EVENTS_MAX or self.state == "catching_up":
            state, why = Health.LAGGING, f"{self.lag_events} events behind"
        else:
            state, why = Health.ALIVE, self.state
        return AgentHealth(
            state=state,
            beat_age_ms=max(0, age_ns) // NS_PER_MS if self.beat_ns >= 0 else -1,
            policy_version=self.policy_version,
            policy_age_ms=max(0, now_ns - self.policy_ns) // NS_PER_MS if self.policy_ns >= 0 else -1,
            rejections=self.rejections(now_ns),
            why=why,
        )

    def distrust(self, now_ns: int) -> str:
        """Why this agent's policy should not be used; empty: it may be."""
        if self.policy_ns < 0:
            return ""  # none there: the bidder is on the fallback by itself
        if now_ns > self.policy_until_ns:
            return (
                f"policy {self.policy_version} expired {(now_ns - self.policy_until_ns) / NS_PER_S:.0f} s ago"
            )
        rejections = self.rejections(now_ns)
        if rejections >= REJECTIONS_MAX and self.policy_version in (version for version, _ in self.rejected):
            return f"{rejections} of its policies were refused, the newest among them"
        return ""


def distrusted(parts: dict[str, Part], now_ns: int) -> dict[str, str]:
    """Why, by agent."""
    found = {name: parts[name].distrust(now_ns) for name in GUARDED_AGENTS if name in parts}
    return {name: why for name, why in sorted(found.items()) if why}
