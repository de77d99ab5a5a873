"""How an author says what it wishes: stamped, expiring, on its own subject."""

from __future__ import annotations

from counterpoint.base.clock import NS_PER_S
from counterpoint.base.ids import digest
from counterpoint.coordination.admit import PROPOSAL_LIFE_NS_MAX
from counterpoint.coordination.clock import HybridClock
from counterpoint.events import subjects
from counterpoint.events.agent import Decision
from counterpoint.events.decisions import HybridTime, Proposal

LIFE_NS = 120 * NS_PER_S  # of a wish, unless told: renew it well before


class ProposalDesk:
    """Writes one author's proposals. The clock is the only state (``clock.physical_ns``, ``clock.logical``)."""

    def __init__(self, author: str, clock: HybridClock | None = None) -> None:
        self.author = author
        self.clock = clock if clock is not None else HybridClock(author)

    def wish(
        self,
        target: str,
        value: int,
        intent: str,
        now_ns: int,
        *,
        reason: str,
        strength: int = 1_000_000,
        confidence: int = 1_000_000,
        life_ns: int = LIFE_NS,
        version: int = 0,
    ) -> Decision:
        """An ideal value. ``strength`` and ``confidence`` in ppm; ``reason`` in one line, for people."""
        return self._write(
            target,
            intent,
            now_ns,
            life_ns,
            value=value,
            strength=strength,
            confidence=confidence,
            reason=reason,
            version=version,
        )

    def bound(
        self,
        target: str,
        intent: str,
        now_ns: int,
        *,
        reason: str,
        low: int | None = None,
        high: int | None = None,
        life_ns: int = LIFE_NS,
        version: int = 0,
    ) -> Decision:
        """A hard bound; counts only where the author is authorised for it (``targets.AUTHORITY``)."""
        return self._write(
            target, intent, now_ns, life_ns, low=low, high=high, reason=reason, version=version
        )

    def withdraw(self, target: str, intent: str, now_ns: int, *, reason: str) -> Decision:
        """Take back whatever this author wished about the target."""
        return self._write(target, intent, now_ns, PROPOSAL_LIFE_NS_MAX // 2, withdraws=True, reason=reason)

    def _write(
        self,
        target: str,
        intent: str,
        now_ns: int,
        life_ns: int,
        *,
        reason: str,
        value: int | None = None,
        low: int | None = None,
        high: int | None = None,
        strength: int = 1_000_000,
        confidence: int = 1_000_000,
        version: int = 0,
        withdraws: bool = False,
    ) -> Decision:
        assert 0 < life_ns < PROPOSAL_LIFE_NS_MAX, "the book refuses what lives longer"
        stamp = self.clock.stamp(now_ns)
        proposal = Proposal(
            event_id=_event_id(self.author, target, stamp),
            happened_at_ns=now_ns,
            recorded_at_ns=now_ns,
            source=self.author,
            author=self.author,
            target=target,
            intent=intent,
            stamp=stamp,
            expires_at_ns=now_ns + life_ns,
            value=value,
            low=low,
            high=high,
            strength=strength,
            confidence=confidence,
            reason=reason,
            author_version=version,
            withdraws=withdraws,
        )
        return Decision(subject=subjects.proposal(self.author), event=proposal)


def _event_id(author: str, target: str, stamp: HybridTime) -> str:
    return f"prop-{digest(author, target, f'{stamp.physical_ns}.{stamp.logical}')}"
