"""What a notice must know of its bid, signed into its URL, so that nobody has to remember the bid.

Wire form of a token (one path segment, URL-safe)::

    KK PAYLOAD TAG      KK  key id, two hex digits
                        PAYLOAD  base64url of the SignedBid as a msgpack array; grows at its end only
                        TAG  24 characters: 144 bits of keyed BLAKE2b over "KK PAYLOAD", one per kind of notice

All URLs of a bid share KK and PAYLOAD; each kind has its own tag, so an impression URL, which every browser sees,
is no billing URL. Tags are computed over the text, so no other spelling of a token is accepted. One keyed 64-byte
hash yields two secrets that are never shown, for the URLs that servers hold and for those that clients hold; the
three tags of each group are cut from a hash of its secret.
"""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64decode
from binascii import b2a_base64
from enum import StrEnum
from hmac import compare_digest
from typing import Final

import msgspec
from msgspec import Struct

from counterpoint.bidder.keys import KeyRing

TAG_CHARS: Final = 24
TOKEN_CHARS_MAX: Final = 2048
FORMAT: Final = 1


class NoticeKind(StrEnum):
    """The value is the path: ``/n/win``, ``/n/bill``, ``/n/loss``, ``/t/imp``, ``/t/click``, ``/t/skip``."""

    WIN = "win"
    BILLING = "bill"
    LOSS = "loss"
    IMPRESSION = "imp"
    CLICK = "click"
    SKIP = "skip"


class SignedBid(Struct, frozen=True, array_like=True, gc=False):
    """One bid, as its notices know it. Prices: nanos of the account currency per impression."""

    bid_id: str
    allowance_id: str
    campaign_id: str
    line_item_id: str
    creative_id: str
    exchange: str
    media: str  # banner | video | audio | native
    settles: str  # which ONE notice is spend, as the profile said when the bid was made: win | billing | impression
    bid_nanos: int  # the price of the bid, account currency
    currency: str  # the bid's, in which the exchange names its price
    rate_micros: int  # one unit of it costs this many micros of the account currency, fixed at bid time
    arm: str
    bid_at_ns: int
    reservation_until_ns: int  # settled after this is late spend
    expires_at_ns: int  # a notice after this is late beyond doubt; a billing one is still booked
    user_key: str = ""  # keyed hash; empty where not consented
    test: bool = False
    segment: str = ""  # empty: "{exchange}/{media}"

    @property
    def segment_name(self) -> str:
        return self.segment or f"{self.exchange}/{self.media}"


class NoticeTokens(Struct, frozen=True, gc=False):
    """The path segments of one bid's URLs, by kind."""

    win: str
    bill: str
    loss: str
    imp: str
    click: str
    skip: str

    def of(self, kind: NoticeKind) -> str:
        return str(getattr(self, kind.value))


class BadToken(Struct, frozen=True):
    """Not signed by us for this kind of notice. ``why``: "malformed" | "unknown_key" | "forged" | "unreadable"."""

    why: str


_URLSAFE = bytes.maketrans(b"+/", b"-_")
_blake2b = hashlib.blake2b
_KINDS = {  # who holds the URL (0 servers, 1 clients), and the place of its tag
    NoticeKind.WIN: (0, 0),
    NoticeKind.BILLING: (0, 1),
    NoticeKind.LOSS: (0, 2),
    NoticeKind.IMPRESSION: (1, 0),
    NoticeKind.CLICK: (1, 1),
    NoticeKind.SKIP: (1, 2),
}


def _tags(secret: bytes) -> str:
    """72 characters: three tags. BLAKE2 has no length extension, so a secret in front needs no second key block."""
    return b2a_base64(_blake2b(secret, digest_size=54).digest(), newline=False).translate(_URLSAFE).decode()


class Signer:
    """Signs with one key, accepts several. Keeps the keyed hash states, so that a token costs about 2 us."""

    def __init__(self, ring: KeyRing) -> None:
        assert ring.signs in ring.keys, "the key that signs must be accepted"
        self._states = {number: hashlib.blake2b(key=key) for number, key in ring.keys.items()}
        self._signs = self._states[ring.signs]
        self._prefix = b"%02x" % ring.signs
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(SignedBid).decode

    def sign(self, bid: SignedBid) -> NoticeTokens:
        payload = self._prefix + b2a_base64(self._encode(bid), newline=False).translate(_URLSAFE).rstrip(b"=")
        state = self._signs.copy()
        state.update(payload)
        secret = state.digest()
        server = _tags(secret[:32])
        client = _tags(secret[32:])
        text = payload.decode()
        return NoticeTokens(
            text + server[:24],
            text + server[24:48],
            text + server[48:],
            text + client[:24],
            text + client[24:48],
            text + client[48:],
        )

    def verify(self, kind: NoticeKind, token: bytes) -> SignedBid | BadToken:
        """The bid, where this token was signed by one of our keys for this kind of notice.

        Whether it has expired is for the caller to say: a late billing notice is still money.
        """
        if not 2 + TAG_CHARS < len(token) <= TOKEN_CHARS_MAX:
            return BadToken("malformed")
        payload, tag = token[:-TAG_CHARS], token[-TAG_CHARS:]
        try:
            number = int(payload[:2], 16)
        except ValueError:
            return BadToken("malformed")
        known = self._states.get(number)
        if known is None:
            return BadToken("unknown_key")
        state = known.copy()
        state.update(payload)
        secret = state.digest()
        group, place = _KINDS[kind]
        tags = _tags(secret[32:]) if group else _tags(secret[:32])
        if not compare_digest(tags[place * TAG_CHARS : (place + 1) * TAG_CHARS].encode(), tag):
            return BadToken("forged")
        try:
            body = payload[2:]
            return self._decode(urlsafe_b64decode(body + b"=" * (-len(body) % 4)))
        except (msgspec.DecodeError, ValueError):
            return BadToken("unreadable")  # signed by a version whose shape we do not know
