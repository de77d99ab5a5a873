"""Which proposals count at all. Decided from content and the stream alone, so that every replica decides alike."""

from __future__ import annotations

from enum import StrEnum

from counterpoint.base.clock import NS_PER_S
from counterpoint.coordination.clock import too_far_ahead
from counterpoint.coordination.targets import AUTHORITY, INTENTS, Grant, Target, author_kind
from counterpoint.events import subjects
from counterpoint.events.decisions import Proposal

PROPOSAL_LIFE_NS_MAX = 600 * NS_PER_S  # a longer one is refused: a dead author's wish must fade
_INT64_MAX = (1 << 63) - 1
ID_CHARS_MAX = 200  # ids of proposals stand in resolutions: unbounded, one author could make these larger than the bus carries
REASON_CHARS_MAX = 2_000  # every replica keeps the newest of each author and target


class Refusal(StrEnum):
    UNKNOWN_TARGET = "unknown_target"
    NOT_ITS_SUBJECT = (
        "not_its_subject"  # an author is its credential, and that is the subject it may publish on
    )
    STAMP_AHEAD = "stamp_ahead"
    LIVES_TOO_LONG = "lives_too_long"
    UNKNOWN_INTENT = "unknown_intent"
    MALFORMED = "malformed"
    NOT_AUTHORISED = "not_authorised"
    TOO_MANY_AUTHORS = "too_many_authors"
    EXPIRED = "expired"


def grant_of(target: Target, author: str) -> Grant | None:
    return AUTHORITY.get((target.kind, author_kind(author)))


def refusal(target: Target, proposal: Proposal) -> Refusal | None:
    """Why this proposal cannot count for this target, whenever it was published; None: it can."""
    if proposal.target != target.name:
        return Refusal.UNKNOWN_TARGET
    if proposal.intent not in INTENTS:
        return Refusal.UNKNOWN_INTENT
    grant = grant_of(target, proposal.author)
    if grant is None:
        return Refusal.NOT_AUTHORISED
    if max(map(len, (proposal.event_id, proposal.source, proposal.stamp.node))) > ID_CHARS_MAX:
        return Refusal.MALFORMED
    if len(proposal.reason) > REASON_CHARS_MAX:
        return Refusal.MALFORMED
    if proposal.withdraws:
        return None
    value, low, high = proposal.value, proposal.low, proposal.high
    if value is None and low is None and high is None:
        return Refusal.MALFORMED
    if any(x is not None and not -_INT64_MAX <= x <= _INT64_MAX for x in (value, low, high)):
        return Refusal.MALFORMED
    if low is not None and high is not None and low > high:
        return Refusal.MALFORMED
    if proposal.intent not in grant.intents:
        return Refusal.NOT_AUTHORISED
    if (value is not None and not grant.wish) or (low is not None and not grant.low):
        return Refusal.NOT_AUTHORISED
    if high is not None and not grant.high:
        return Refusal.NOT_AUTHORISED
    return None


def refusal_on_stream(
    target: Target | None, proposal: Proposal, subject: str, stored_at_ns: int
) -> Refusal | None:
    """As :func:`refusal`, and what only the stream can tell: who published it and when it was stored."""
    if target is None:
        return Refusal.UNKNOWN_TARGET
    if subject != subjects.proposal(proposal.author):
        return Refusal.NOT_ITS_SUBJECT
    if too_far_ahead(proposal.stamp, stored_at_ns):
        return Refusal.STAMP_AHEAD
    if proposal.expires_at_ns > stored_at_ns + PROPOSAL_LIFE_NS_MAX:
        return Refusal.LIVES_TOO_LONG
    return refusal(target, proposal)
