"""How often a person was shown a line item: bounded, in memory, beside the catalog.

A bid counts provisionally until its reservation expires; a settlement or impression makes the count firm, a loss
takes it back. The state of one person is a short byte string of fixed records, so that the decision reads it as an
array, the log archives it as it is, and nobody can change it under a running decision.

What is not known is said: ``known_since_ns`` is the time from which the counts of a person are complete. A window
that reaches further back follows the line item's ``unknown_user`` rule. Without consent, or for children, the
caller asks for ``nobody`` and nothing is read or written.
"""

from __future__ import annotations

import hashlib
import struct
from collections import OrderedDict
from typing import Final

import msgspec
from msgspec import Struct

from counterpoint.bidder.experiment import hash64

EVENTS_MAX: Final = 64  # per person; past that the oldest goes and known_since_ns says so
FIRM_NS: Final = (1 << 63) - 1  # the expiry of a firm count
NEVER_NS: Final = (1 << 63) - 1  # known_since_ns of somebody we know nothing about
DAY_NS: Final = 86_400 * 1_000_000_000

_RECORD: Final = struct.Struct("<qqqq")  # line item key, at_ns, until_ns, bid key
RECORD_BYTES: Final = _RECORD.size
_ENTRY_BYTES: Final = 420  # measured: dict slot, key string, state object and bytes header of one person


class UserState(Struct, frozen=True, array_like=True):
    """What a decision knows of one person. ``key`` is the keyed hash, empty for nobody.

    ``events`` are records of 4 little-endian int64: line item key, when, until when it counts, bid key."""

    key: str = ""
    unit_hash: int = 0  # what the experiment draws on; for nobody the decision takes the request id
    known_since_ns: int = NEVER_NS
    events: bytes = b""


NOBODY: Final = UserState()


class _Snapshot(Struct, frozen=True):
    taken_at_ns: int
    forgotten_until_ns: int
    users: list[UserState]


def line_item_key(line_item_id: str) -> int:
    """The line item in a record: a signed 64-bit hash, the same after every catalog reload."""
    return _signed(hash64(line_item_id))


def bid_key(bid_id: str) -> int:
    return _signed(hash64(bid_id))


def _signed(bits: int) -> int:
    return bits - (1 << 64) if bits >= 1 << 63 else bits


class FrequencyBook:
    """All people we may count, least recently seen evicted first.

    Bounds: ``entries_max`` people and ``bytes_max`` bytes (estimated: 420 a person and 32 a record). A person who
    is not in the book was last counted before ``forgotten_until_ns``, if ever.
    """

    def __init__(
        self,
        secret: bytes,
        *,
        entries_max: int = 200_000,
        bytes_max: int = 128 << 20,
        horizon_ns: int = 30 * DAY_NS,
        started_at_ns: int = 0,
        new_here: bool = True,
    ) -> None:
        """``secret`` keys the hash of ids (16..64 bytes). ``new_here``: there is no past to know (a first start);
        otherwise nothing before ``started_at_ns`` is known until ``restore`` and the tail have been read."""
        assert 16 <= len(secret) <= 64, "the key of the id hash is 16 to 64 bytes"
        self._hash = hashlib.blake2b(key=secret, digest_size=16)  # copied for each id
        self._entries_max = entries_max
        self._bytes_max = bytes_max
        self._users: OrderedDict[str, UserState] = (
            OrderedDict()
        )  # a plain dict walks its deleted slots to the first
        self._records = 0
        self.horizon_ns = horizon_ns
        self.forgotten_until_ns = 0 if new_here else started_at_ns
        self.catching_up = False
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._users)

    def bytes_used(self) -> int:
        return len(self._users) * _ENTRY_BYTES + self._records * RECORD_BYTES

    def user_key(self, kind: str, raw_id: str) -> str:
        """The pseudonym of an id: keyed BLAKE2b-128, so that nobody without the key can test an id against it."""
        hashed = self._hash.copy()
        hashed.update(f"{kind}\x00{raw_id}".encode(errors="surrogatepass"))
        return hashed.hexdigest()

    def state(self, key: str) -> UserState:
        """What is known of a consented person. Someone unseen gets an empty state, not stored until counted."""
        if self.catching_up:
            return UserState(key, _unit_hash(key))
        found = self._users.get(key)
        if found is None:
            return UserState(key, _unit_hash(key), self.forgotten_until_ns)
        return found

    def count(self, key: str, line_item: int, bid: int, now_ns: int, until_ns: int) -> None:
        """Count a bid provisionally until ``until_ns`` (the expiry of its money reservation)."""
        self._put(key, _RECORD.pack(line_item, now_ns, until_ns, bid), now_ns)

    def confirm(self, key: str, line_item: int, bid: int, at_ns: int, now_ns: int) -> None:
        """A settlement or impression: the count is firm. Again changes nothing; without a bid on record it adds one."""
        found = self._users.get(key)
        events = found.events if found is not None else b""
        record = _RECORD.pack(line_item, at_ns, FIRM_NS, bid)
        for start in range(0, len(events), RECORD_BYTES):
            item, when, until, of_bid = _RECORD.unpack_from(events, start)
            if of_bid == bid and item == line_item:
                if until != FIRM_NS:
                    firm = _RECORD.pack(item, when, FIRM_NS, bid)
                    self._store(
                        key, events[:start] + firm + events[start + RECORD_BYTES :], self._since(found)
                    )
                return
        self._put(key, record, now_ns)

    def release(self, key: str, bid: int) -> None:
        """A loss: the provisional count of this bid goes. A firm one stays."""
        found = self._users.get(key)
        if found is None:
            return
        kept = b"".join(
            found.events[start : start + RECORD_BYTES]
            for start in range(0, len(found.events), RECORD_BYTES)
            if not _is_provisional(found.events, start, bid)
        )
        if len(kept) != len(found.events):
            self._store(key, kept, found.known_since_ns)

    def shown(self, key: str, line_item: int, window_ns: int, now_ns: int) -> int:
        """Counts of the line item in the window that ends now, provisional ones included."""
        found = self._users.get(key)
        if found is None:
            return 0
        since = now_ns - window_ns
        return sum(
            1
            for item, at, until, _ in _RECORD.iter_unpack(found.events)
            if item == line_item and at > since and until > now_ns
        )

    def snapshot(self, now_ns: int) -> bytes:
        """Everyone in the book, least recently seen first, as msgpack."""
        return _ENCODER.encode(_Snapshot(now_ns, self.forgotten_until_ns, list(self._users.values())))

    def restore(self, raw: bytes) -> int:
        """Take over a snapshot and return when it was made; the caller replays the tail from then on.

        Raises ``msgspec.DecodeError`` for bytes that are none; the book is then as before."""
        snapshot = _DECODER.decode(raw)
        users = OrderedDict((u.key, u) for u in snapshot.users if len(u.events) % RECORD_BYTES == 0)
        self._users = users
        self._records = sum(len(user.events) for user in users.values()) // RECORD_BYTES
        self.forgotten_until_ns = snapshot.forgotten_until_ns
        self._evict()
        return snapshot.taken_at_ns

    def _since(self, found: UserState | None) -> int:
        return self.forgotten_until_ns if found is None else found.known_since_ns

    def _put(self, key: str, record: bytes, now_ns: int) -> None:
        found = self._users.get(key)
        since = self._since(found)
        if found is None or not found.events:
            self._store(key, record, since)
            return
        events = found.events
        if len(events) >= 8 * RECORD_BYTES:
            events = self._sweep(events, now_ns)
        if len(events) >= EVENTS_MAX * RECORD_BYTES:
            since = max(since, _RECORD.unpack_from(events, 0)[1])
            events = events[RECORD_BYTES:]
        self._store(key, events + record, since)

    def _sweep(self, events: bytes, now_ns: int) -> bytes:
        oldest = now_ns - self.horizon_ns
        return b"".join(
            events[start : start + RECORD_BYTES]
            for start, (_, at, until, _) in zip(
                range(0, len(events), RECORD_BYTES), _RECORD.iter_unpack(events), strict=True
            )
            if until > now_ns and at > oldest
        )

    def _store(self, key: str, events: bytes, since: int) -> None:
        old = self._users.pop(key, None)  # popped and put back: last is latest seen
        if old is not None:
            self._records -= len(old.events) // RECORD_BYTES
        self._users[key] = UserState(key, _unit_hash(key), since, events)
        self._records += len(events) // RECORD_BYTES
        if len(self._users) > self._entries_max or self.bytes_used() > self._bytes_max:
            self._evict()

    def _evict(self) -> None:
        while self._users and (len(self._users) > self._entries_max or self.bytes_used() > self._bytes_max):
            _, old = self._users.popitem(last=False)
            self._records -= len(old.events) // RECORD_BYTES
            self.evicted += 1
            for _, at, _, _ in _RECORD.iter_unpack(old.events):
                self.forgotten_until_ns = max(self.forgotten_until_ns, at)


def _unit_hash(key: str) -> int:
    return int(key[:16], 16)


def _is_provisional(events: bytes, start: int, bid: int) -> bool:
    _, _, until, of_bid = _RECORD.unpack_from(events, start)
    return bool(of_bid == bid and until != FIRM_NS)


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(_Snapshot)
