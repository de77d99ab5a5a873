"""What is around the JSON: content type, gzip in and out, bounds (OpenRTB 2.6, sections 2.1 to 2.4).

Header values come as bytes, as the HTTP parser hands them over; ``b""`` is a header that was not sent.
"""

from __future__ import annotations

import zlib
from enum import StrEnum

from counterpoint.base.errors import InvalidRequest

BODY_BYTES_MAX = 1 << 20  # decompressed; the fattest request of our corpora is under 40 kB
MEMBERS_MAX = 8  # RFC 1952 allows several members one behind the other; nobody needs more
GZIP_MIN_BYTES = 700  # below, the header and the CPU cost more than the bytes saved
_GZIP_WBITS = 31
_GZIP_LEVEL = 1


class EnvelopeFault(StrEnum):
    CONTENT_TYPE = "content_type"  # not JSON
    CONTENT_ENCODING = "content_encoding"  # neither gzip nor identity
    TOO_LARGE = "too_large"
    EMPTY = "empty"
    CORRUPT = "corrupt"  # no gzip stream, or its checksum is wrong
    TRUNCATED = "truncated"
    TRAILING = "trailing"  # bytes behind the stream, or more members than we read


class EnvelopeRefused(InvalidRequest):
    """An envelope we do not open; ``fault`` is for counting."""

    def __init__(self, fault: EnvelopeFault, message: str) -> None:
        super().__init__(message)
        self.fault = fault


_JSON_TYPES = frozenset(
    {b"", b"application/json", b"application/json; charset=utf-8"}
)  # as nearly all send it
# Sent by clients that set no type of their own; the body decides then.
_UNTYPED = frozenset(
    {b"text/plain", b"text/json", b"application/octet-stream", b"application/x-www-form-urlencoded"}
)


def is_json(content_type: bytes) -> bool:
    """Whether a ``Content-Type`` may carry JSON; a missing one does (2.1)."""
    if content_type in _JSON_TYPES:
        return True
    media = content_type.partition(b";")[0].strip().lower()
    if media == b"application/json" or media in _UNTYPED:
        return True
    return media.startswith(b"application/") and media.endswith(b"+json")


def open_body(
    body: bytes,
    content_type: bytes = b"",
    content_encoding: bytes = b"",
    bytes_max: int = BODY_BYTES_MAX,
) -> bytes:
    """The JSON inside, or :class:`EnvelopeRefused`. Never holds more than ``bytes_max`` decompressed bytes (plus one)."""
    if not is_json(content_type):
        raise EnvelopeRefused(
            EnvelopeFault.CONTENT_TYPE, f"content type {content_type[:60]!r} is not application/json"
        )
    if content_encoding and content_encoding != b"identity":
        coding = content_encoding.strip().lower()
        if coding in (b"gzip", b"x-gzip"):
            body = gunzip(body, bytes_max)
        elif coding not in (b"", b"identity"):
            raise EnvelopeRefused(
                EnvelopeFault.CONTENT_ENCODING, f"content encoding {coding[:40]!r}: send gzip or none"
            )
    if len(body) > bytes_max:
        raise EnvelopeRefused(EnvelopeFault.TOO_LARGE, f"{len(body)} bytes; at most {bytes_max} are read")
    if not body:
        raise EnvelopeRefused(EnvelopeFault.EMPTY, "the body is empty")
    return body


def gunzip(body: bytes, bytes_max: int = BODY_BYTES_MAX) -> bytes:
    """Decompress all members, stopping at the bound: a bomb costs ``bytes_max``, whatever it would grow to."""
    parts: list[bytes] = []
    left = bytes_max
    rest = body
    for _ in range(MEMBERS_MAX):
        stream = zlib.decompressobj(_GZIP_WBITS)
        try:
            part = stream.decompress(rest, left + 1)
        except zlib.error as error:
            if parts:
                raise EnvelopeRefused(EnvelopeFault.TRAILING, "bytes behind the gzip stream") from error
            raise EnvelopeRefused(EnvelopeFault.CORRUPT, f"gzip: {error}") from error
        left -= len(part)
        if left < 0:
            raise EnvelopeRefused(EnvelopeFault.TOO_LARGE, f"more than {bytes_max} bytes when decompressed")
        if not stream.eof:
            raise EnvelopeRefused(EnvelopeFault.TRUNCATED, "the gzip stream ends early")
        parts.append(part)
        rest = stream.unused_data
        if not rest:
            return parts[0] if len(parts) == 1 else b"".join(parts)
    raise EnvelopeRefused(EnvelopeFault.TRAILING, f"more than {MEMBERS_MAX} gzip members")


def accepts_gzip(accept_encoding: bytes) -> bool:
    """Whether ``Accept-Encoding`` has gzip, and not with quality 0.

    >>> accepts_gzip(b"gzip, deflate"), accepts_gzip(b"gzip;q=0"), accepts_gzip(b"")
    (True, False, False)
    """
    if b"gzip" not in accept_encoding.lower():
        return False
    for offer in accept_encoding.lower().split(b","):
        coding, _, quality = offer.partition(b";")
        if coding.strip() in (b"gzip", b"x-gzip"):
            try:
                return float(quality.partition(b"q=")[2] or 1) > 0
            except ValueError:
                return False
    return False


def gzip(body: bytes) -> bytes:
    """Compress an answer, fastest level; the same bytes for the same body (no time stamp)."""
    stream = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP_WBITS)
    return stream.compress(body) + stream.flush()
