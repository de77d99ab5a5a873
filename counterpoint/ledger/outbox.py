"""What a committed transaction wants said on the bus: stored with it, published after it, forgotten when confirmed.

A crash between commit and confirmation publishes it again under the same batch id and event ids, which the bus and
every consumer drop as repeats.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct
from sqlalchemy import bindparam, delete, select
from sqlalchemy.engine import Connection

from counterpoint.events.codec import decode_batch
from counterpoint.events.event import Event
from counterpoint.ledger.tables import OUTBOX


class Outgoing(Struct, frozen=True):
    """One batch for one subject. Publish in the order of ``sequence`` within a subject."""

    sequence: int
    batch_id: str
    subject: str
    events: tuple[Event, ...]


def load_unsent(connection: Connection, limit: int, sequences: Sequence[int] | None = None) -> list[Outgoing]:
    """The oldest batches that nobody confirmed, or of these only."""
    unsent = []
    query = select(OUTBOX).order_by(OUTBOX.c.sequence).limit(limit)
    if sequences is not None:
        query = query.where(OUTBOX.c.sequence.in_(sequences))
    for row in connection.execute(query):
        events, unreadable = decode_batch(row.payload)
        assert unreadable == 0, f"outbox {row.sequence} was written by a newer version"
        unsent.append(Outgoing(row.sequence, row.batch_id, row.subject, tuple(events)))
    return unsent


def forget(connection: Connection, sequences: Iterable[int]) -> None:
    keys = [{"sent": s} for s in sequences]
    if keys:
        connection.execute(delete(OUTBOX).where(OUTBOX.c.sequence == bindparam("sent")), keys)
