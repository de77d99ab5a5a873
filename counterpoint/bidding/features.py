"""What the value model sees of an impression: hashed, no id of a person, the same in bidder and learner.

The *context* is one uint32 per field of :data:`FIELDS`, made once per imp from the request; a bid carries it in its
BidPlaced event, so that the learner trains on exactly what was priced. Everything the model knows stands in one table
of 2**BITS slots; a *template* is a pair of sources (context fields, segment, campaign, line item, exposures) and picks
one slot. Templates are ordered from coarse to fine with falling prior spread, which is the hierarchical back-off: a
placement starts where its exchange stands, a campaign's placement where the placement stands.

Without consent the person's field is empty (0) and ``exposed`` is 0: nothing of a person is read.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from counterpoint.base.jit import njit
from counterpoint.base.seen import hash_id

U64 = NDArray[np.uint64]

FIELDS: Final = (
    "place",  # domain or bundle
    "category",  # first of the place or its content
    "size",  # first size of a banner, else the player's
    "position",  # of the ad on the screen, or of the video in its player
    "hour",  # of the day, UTC
    "hour_of_week",
    "device",  # type and system
    "country",
    "person",  # "" where not consented, else how much we showed
)
CONTEXT_BYTES: Final = 4 * len(FIELDS)
BITS: Final = 14
SLOTS: Final = 1 << BITS
EXPOSED_MAX: Final = 5  # 0, 1, 2, 3-4, 5-8, more

# sources: 0 nothing, 1 segment, 2.. FIELDS, then these
SEGMENT: Final = 1
CAMPAIGN: Final = 2 + len(FIELDS)
LINE_ITEM: Final = CAMPAIGN + 1
EXPOSED: Final = CAMPAIGN + 2
SOURCES: Final = CAMPAIGN + 3

# (name, two sources, prior standard deviation of its effect on the log-odds)
_PLACE, _CATEGORY, _SIZE, _POSITION, _HOUR, _WEEK, _DEVICE, _COUNTRY, _PERSON = range(2, 2 + len(FIELDS))
TEMPLATES: Final = (
    # of the request alone
    ("everything", 0, 0, 0.5),
    ("segment", SEGMENT, 0, 0.3),
    ("place", _PLACE, 0, 0.2),
    ("category", _CATEGORY, 0, 0.1),
    ("size", SEGMENT, _SIZE, 0.2),
    ("position", SEGMENT, _POSITION, 0.2),
    ("device", _DEVICE, 0, 0.1),
    ("country", _COUNTRY, 0, 0.1),
    ("person", _PERSON, 0, 0.15),
    ("hour", _HOUR, 0, 0.07),
    ("hour of week", _WEEK, 0, 0.05),
    ("place and segment", _PLACE, SEGMENT, 0.1),
    ("place and size", _PLACE, _SIZE, 0.1),
    # of who bids
    ("exposures", EXPOSED, 0, 0.2),
    ("campaign", CAMPAIGN, 0, 0.15),
    ("line item", LINE_ITEM, 0, 0.1),
    ("campaign and segment", CAMPAIGN, SEGMENT, 0.15),
    ("campaign and place", CAMPAIGN, _PLACE, 0.12),
    ("campaign and category", CAMPAIGN, _CATEGORY, 0.12),
    ("campaign and size", CAMPAIGN, _SIZE, 0.1),
    ("campaign and device", CAMPAIGN, _DEVICE, 0.1),
    ("campaign and country", CAMPAIGN, _COUNTRY, 0.1),
    ("campaign and hour", CAMPAIGN, _HOUR, 0.05),
    ("line item and segment", LINE_ITEM, SEGMENT, 0.1),
)
OF_REQUEST: Final = next(n for n, t in enumerate(TEMPLATES) if t[0] == "exposures")
PAIRS: Final[NDArray[np.int64]] = np.array([t[1:3] for t in TEMPLATES], np.int64)
PRIOR_VARIANCES: Final[NDArray[np.float64]] = np.array([t[3] ** 2 for t in TEMPLATES])

_MASK: Final = 0xFFFF_FFFF_FFFF_FFFF
_A: Final = 0x9E37_79B9_7F4A_7C15
_B: Final = 0xBF58_476D_1CE4_E5B9
_C: Final = 0x94D0_49BB_1331_11EB
_T: Final = 0xD1B5_4A32_D192_ED03
_SHIFT: Final = 64 - BITS
_A64, _B64, _C64, _T64 = np.uint64(_A), np.uint64(_B), np.uint64(_C), np.uint64(_T)
_SHIFT64 = np.uint64(_SHIFT)
_HALF64 = np.uint64(32)


@lru_cache(
    maxsize=65_536
)  # values of requests are the world's: past the bound the least used are hashed anew
def feature(field: str, value: str) -> int:
    """32 stable bits, 0 for nothing.

    >>> feature("country", "DEU") == feature("country", "DEU") != feature("place", "DEU"), feature("place", "")
    (True, 0)
    """
    return hash_id(f"{field}={value}") & 0xFFFF_FFFF if value else 0


def place_of(context: bytes) -> int:
    """The place's feature in a packed context, 0 for none; what is no context has no place.

    >>> place_of(np.arange(7, 7 + len(FIELDS), dtype=np.uint32).tobytes()), place_of(b"")
    (7, 0)
    """
    return int.from_bytes(context[:4], "little") if len(context) == CONTEXT_BYTES else 0


def name_hash(name: str) -> int:
    """64 stable bits of a segment, campaign or line item."""
    return hash_id(name)


def exposure_level(shown: int) -> int:
    """How often a person was shown a line item, as the model tells it apart.

    >>> [exposure_level(n) for n in (0, 1, 2, 3, 4, 5, 8, 9, 64)]
    [0, 1, 2, 3, 3, 4, 4, 5, 5]
    """
    return shown if shown < 3 else 3 if shown < 5 else 4 if shown < 9 else EXPOSED_MAX


def slot(template: int, a: int, b: int) -> int:
    """Where a template's pair of sources stands in the table; equal to :func:`slot_kernel`."""
    x = (a * _A & _MASK) ^ ((b + template * _T) * _B & _MASK)
    x = (x ^ (x >> 32)) * _C & _MASK
    return x >> _SHIFT


@njit
def slot_kernel(template: int, a: np.uint64, b: np.uint64) -> int:
    x = np.uint64(a * _A64) ^ np.uint64(np.uint64(b + np.uint64(template) * _T64) * _B64)
    x = np.uint64((x ^ (x >> _HALF64)) * _C64)
    return np.int64(x >> _SHIFT64)  # type: ignore[return-value]


def sources_of(context: bytes, segment: int, campaign: int, line_item: int, exposed: int) -> tuple[int, ...]:
    """The sources of one impression as a row for the kernels; ``context`` of CONTEXT_BYTES."""
    fields = np.frombuffer(context, "<u4").tolist()
    return (0, segment, *fields, campaign, line_item, exposed)


def pack_context(values: tuple[str, ...]) -> bytes:
    """The context of one impression, from the values of FIELDS in order ("" where not known)."""
    assert len(values) == len(FIELDS), f"one value for each of {FIELDS}"
    hashed = [feature(field, value) for field, value in zip(FIELDS, values, strict=True)]
    return np.array(hashed, "<u4").tobytes()
