"""Notices on disk while the bus is away: appended and synced before the exchange hears 200, drained when it is back.

A folder of segments ``00000001.spool``, each a row of records::

    magic "CPS1" | u32 length | BLAKE2b-128 of the payload | payload: msgpack [batch_id, subject, events]

A batch is immutable and keeps its id, so that publishing it again is the same batch. Everything here blocks: call it
from one worker thread. Reading tolerates a torn tail (what a crash left of a record that nobody was told about);
other damage is stepped over, counted, and the segment kept aside as ``.damaged`` for a person.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from counterpoint.base.errors import ConfigError, CounterpointError
from counterpoint.base.unreadable import UNREADABLE

MAGIC = b"CPS1"
_HEAD = struct.Struct("<4sI16s")
RECORD_BYTES_MAX = 16 * 1024 * 1024
BYTES_MAX = 256 * 1024 * 1024  # about 700,000 notices; past that 503, and the exchange retries
SEGMENT_BYTES = 4 * 1024 * 1024


class SpoolFull(CounterpointError):
    """The spool took nothing: it is at its bound, or the disk failed. Nothing was promised."""


class SpooledBatch(Struct, frozen=True, array_like=True):
    batch_id: str
    subject: str
    events: bytes  # as encode_batch made them


class SegmentContent(Struct, frozen=True):
    batches: list[SpooledBatch]
    torn: bool = False  # ends in the middle of a record
    damaged: int = 0  # records whose checksum or shape is wrong


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(SpooledBatch)


def _checksum(payload: bytes) -> bytes:
    return hashlib.blake2b(payload, digest_size=16).digest()


class Spool:
    """One process owns the folder, by a lock that dies with it. Raises :class:`ConfigError` where another has it."""

    def __init__(self, folder: Path, bytes_max: int = BYTES_MAX, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.folder = folder
        self.bytes_max = bytes_max
        self.segment_bytes = segment_bytes
        self.damaged = 0
        self.write_errors = 0
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise ConfigError(
                f"{folder}: another bidder uses this spool. Give each its own data directory"
            ) from None
        self._sizes: dict[int, int] = {}
        for path in folder.glob("*.spool"):
            if path.stem.isdigit():
                self._sizes[int(path.stem)] = path.stat().st_size
        self.bytes_used = sum(self._sizes.values())
        self._next = max(self._sizes, default=0) + 1
        self._open_number = 0
        self._open_fd = -1

    @property
    def empty(self) -> bool:
        return not self._sizes

    def append(self, batches: Sequence[SpooledBatch]) -> None:
        """Durable when this returns. Raises :class:`SpoolFull`; then some may be there, none is promised."""
        raw = bytearray()
        for batch in batches:
            payload = _ENCODER.encode(batch)
            if len(payload) > RECORD_BYTES_MAX:
                raise SpoolFull(f"a batch of {len(payload)} bytes is more than a record holds")
            raw += _HEAD.pack(MAGIC, len(payload), _checksum(payload))
            raw += payload
        if self.bytes_used + len(raw) > self.bytes_max:
            raise SpoolFull(f"{self.folder} holds {self.bytes_used} of {self.bytes_max} bytes")
        try:
            if self._open_fd < 0 or self._sizes[self._open_number] >= self.segment_bytes:
                self._start_segment()
            written = 0
            while written < len(raw):
                written += os.write(self._open_fd, memoryview(raw)[written:])
            os.fdatasync(self._open_fd)
        except OSError as error:
            # After a failed sync nobody knows what is on disk: cut what was not promised, go on in a new file.
            self.write_errors += 1
            self._abandon_segment()
            raise SpoolFull(f"{self.folder} cannot be written: {error.strerror}") from error
        self._sizes[self._open_number] += len(raw)
        self.bytes_used += len(raw)

    def seal(self) -> list[int]:
        """End the segment being written and return all there are, oldest first, by number."""
        if self._open_fd >= 0:
            os.close(self._open_fd)
            self._open_fd = -1
        return sorted(self._sizes)

    def read(self, number: int) -> SegmentContent:
        """What a sealed segment holds, in the order it was written."""
        content = read_segment(self._path(number).read_bytes())
        self.damaged += content.damaged
        return content

    def remove(self, number: int, keep_aside: bool = False) -> None:
        """Every batch of it is on the bus. ``keep_aside``: something in it could not be read; a person may look."""
        assert number != self._open_number or self._open_fd < 0, "only sealed segments are removed"
        path = self._path(number)
        if keep_aside:
            path.rename(path.with_suffix(".damaged"))
        else:
            path.unlink()
        self.bytes_used -= self._sizes.pop(number)
        self._sync_folder()

    def close(self) -> None:
        self.seal()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:08d}.spool"

    def _start_segment(self) -> None:
        self.seal()
        number = self._next
        self._next += 1
        self._open_fd = os.open(
            self._path(number), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        self._open_number = number
        self._sizes[number] = 0
        self._sync_folder()

    def _abandon_segment(self) -> None:
        if self._open_fd < 0:
            return
        try:
            os.ftruncate(self._open_fd, self._sizes[self._open_number])
        except OSError:
            self.write_errors += 1  # the torn tail stays; reading steps over it
        failed, self._open_fd = self._open_fd, -1
        try:
            os.close(failed)
        except OSError:
            self.write_errors += 1  # closed all the same; the write had failed already

    def _sync_folder(self) -> None:
        handle = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def read_segment(raw: bytes) -> SegmentContent:
    """All whole records of a segment; damage is stepped over to the next magic, a short tail is a torn one."""
    batches: list[SpooledBatch] = []
    damaged = 0
    at = 0
    while at < len(raw):
        if len(raw) - at < _HEAD.size:
            return SegmentContent(batches, True, damaged)
        magic, length, checksum = _HEAD.unpack_from(raw, at)
        start = at + _HEAD.size
        if magic == MAGIC and length <= RECORD_BYTES_MAX:
            payload = raw[start : start + length]
            if len(payload) == length and _checksum(payload) == checksum:
                try:
                    batches.append(_DECODER.decode(payload))
                except UNREADABLE:
                    damaged += 1
                at = start + length
                continue
            if len(payload) < length and raw.find(MAGIC, start) < 0:
                return SegmentContent(batches, True, damaged)
        damaged += 1
        found = raw.find(MAGIC, at + 1)
        if found < 0:
            return SegmentContent(batches, False, damaged)
        at = found
    return SegmentContent(batches, False, damaged)
