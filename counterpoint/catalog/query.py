"""What one request and one imp ask of the index: small preallocated integer arrays, and where each number stands.

The layouts are private to ``fill.py`` (writes) and ``kernels.py`` (reads). One packed array instead of thirty
arguments: a compiled function pays about 0.2 us for each array it is handed.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

MAX_ELIGIBLE: Final = 1_024  # line items of one query; past that a rotation by the rng key decides which
MAX_CANDIDATES: Final = 4_096  # (line item, creative) pairs of one imp; past that the same

# --- query: which rows of the bit matrix are joined, and how -------------------------------------------------
ROWS_MAX: Final = 16
OFFERS_MAX: Final = 128
CATEGORIES_MAX: Final = 64
NOT_ROWS_MAX: Final = 96
SPARSE_DIMENSIONS: Final = 2  # domain or bundle; region
SPARSE_MAX: Final = 16  # values of one sparse dimension a request can match (labels of a host name)

Q_KEY: Final = 0  # rng key, as a signed 64-bit number
Q_NOW: Final = 1  # ns
Q_ROWS_N: Final = 2
Q_OFFERS_N: Final = 3
Q_CATEGORIES_N: Final = 4  # -1: nobody targets categories
Q_NOT_N: Final = 5
Q_CLEAR_N: Final = 6
Q_ROWS: Final = 8
Q_OFFERS: Final = Q_ROWS + ROWS_MAX
Q_CATEGORIES: Final = Q_OFFERS + OFFERS_MAX
Q_NOT: Final = Q_CATEGORIES + CATEGORIES_MAX
Q_CLEAR: Final = Q_NOT + NOT_ROWS_MAX  # pairs (start, end) into the position lists: bits to clear
Q_SPARSE: Final = Q_CLEAR + 2 * SPARSE_MAX
# of each sparse dimension: base row (-1: nobody targets it), dense rows n, lists n, rows, pairs (start, end)
Q_SPARSE_ROWS: Final = 3
Q_SPARSE_LISTS: Final = Q_SPARSE_ROWS + SPARSE_MAX
Q_SPARSE_SIZE: Final = Q_SPARSE_LISTS + 2 * SPARSE_MAX
QUERY_SIZE: Final = Q_SPARSE + SPARSE_DIMENSIONS * Q_SPARSE_SIZE

# --- creative columns ----------------------------------------------------------------------------------------
DATA_TYPES: Final = 13  # native data asset types 1..12, by number
C_MEDIA: Final = 0  # one bit: 1 << (mtype - 1)
C_SIZE: Final = 1  # size id of a banner, else -1
C_MIMES: Final = 2  # bits by mime id
C_ATTRIBUTES: Final = 3  # bits by AdCOM creative attribute; bit 0: not declared; bit 62: 62 and above
C_APIS: Final = 4  # bits by AdCOM API framework it needs
C_FLAGS: Final = 5
C_DURATION: Final = 6  # s
C_PROTOCOLS: Final = 7  # bits by AdCOM creative subtype (audio, video)
CREATIVE_COLUMNS: Final = 8  # one cache line

# --- creative details: read only where an imp asks for bitrates or native assets ---------------------------------
D_FILES: Final = 0  # start and, next to it, end in the file table
D_TITLE: Final = 2  # characters; 0: has none
D_IMAGES: Final = 3  # main: w, h, mime bit; icon: w, h, mime bit
D_DATA: Final = 9  # characters by data type; 0: has none
DETAIL_COLUMNS: Final = D_DATA + DATA_TYPES

FLAG_SECURE: Final = 1  # every asset is https
FLAG_SKIPPABLE: Final = 2  # brings its own skip button
FLAG_NATIVE_VIDEO: Final = 4
FLAG_BANNER_TYPE: Final = 256  # << banner type 0..4 (AdCOM creative subtypes display / OpenRTB btype)

FILE_MIME: Final = 0  # bit
FILE_KBPS: Final = 1  # 0: unknown

BIT_OTHER: Final = 62  # any code that has no bit of its own
MIMES_MAX: Final = 62

# --- fit: what one imp accepts -------------------------------------------------------------------------------
EXACT_MAX: Final = 16
IMAGES_MAX: Final = 8
F_KEY: Final = 0
F_MEDIA: Final = 1  # bits of the media types offered
F_FLAGS: Final = 2  # flags a creative must have
F_TITLE: Final = 3  # -1: no title required; 0: any length; else the longest allowed
F_IMAGES_N: Final = 4
F_VIDEO_ASSET: Final = 5  # 1: a native video asset is required (its limits stand in the native block)
F_DATA: Final = (
    6  # by data type: -1 not required, 0 any length, else the longest allowed; type 0: cannot be met
)
F_IMAGES: Final = F_DATA + DATA_TYPES  # of each: 0 main 1 icon, w, h (0: any), wmin, hmin, mimes
F_BLOCKS: Final = F_IMAGES + 6 * IMAGES_MAX
# one block per media type
B_MIMES: Final = 0  # bits; 0: any
B_ATTRIBUTES: Final = 1  # blocked
B_APIS: Final = 2  # supported
B_PROTOCOLS: Final = 3  # bits; 0: any
B_DURATION_MIN: Final = 4
B_DURATION_MAX: Final = 5
B_KBPS_MIN: Final = 6
B_KBPS_MAX: Final = 7  # 0: no limit
B_FORBIDDEN: Final = 8  # flags a creative must not have
B_EXACT_N: Final = 9
B_EXACT: Final = 10
BLOCK_SIZE: Final = B_EXACT + EXACT_MAX
F_SIZES: Final = F_BLOCKS + 4 * BLOCK_SIZE  # then bits by size id
SIZE_SHIFT: Final = 5  # 32 sizes to a word


class Query:
    """One request as numbers. Preallocate once per serving thread, fill again for each request."""

    __slots__ = ("cells", "data")

    def __init__(self) -> None:
        self.data: NDArray[np.int64] = np.zeros(QUERY_SIZE, np.int64)
        self.cells = self.data.data  # the same memory; item assignment at half the price of numpy's


class Fit:
    """One imp as numbers; ``sizes`` is the number of banner sizes the index knows (``CatalogIndex.new_fit``)."""

    __slots__ = ("cells", "data")

    def __init__(self, sizes: int) -> None:
        self.data: NDArray[np.int64] = np.zeros(F_SIZES + (sizes >> SIZE_SHIFT) + 1, np.int64)
        self.cells = self.data.data


class Scratch:
    """Where the kernels write. ``eligible[:n]``, then ``cand_li[:m]`` beside ``cand_cr[:m]``."""

    __slots__ = ("accumulator", "cand_cr", "cand_li", "candidates", "eligible")

    def __init__(self, words: int) -> None:
        self.accumulator: NDArray[np.uint64] = np.zeros((2, words), np.uint64)
        self.eligible: NDArray[np.int32] = np.zeros(MAX_ELIGIBLE, np.int32)
        self.candidates: NDArray[np.int32] = np.zeros((2, MAX_CANDIDATES), np.int32)
        self.cand_li: NDArray[np.int32] = self.candidates[0]
        self.cand_cr: NDArray[np.int32] = self.candidates[1]


class BannerOffer(Struct, frozen=True):
    """imp.banner as plain values. ``sizes``: (w, h) of format[], else of w/h. Empty ``mimes``: any."""

    sizes: tuple[tuple[int, int], ...] = ()
    mimes: tuple[str, ...] = ()
    battr: tuple[int, ...] = ()
    btype: tuple[int, ...] = ()
    api: tuple[int, ...] = ()


class AvOffer(Struct, frozen=True):
    """imp.video or imp.audio as plain values. Empty ``mimes`` or ``protocols``: any. ``exact_s`` (rqddurs) wins over the range."""

    mimes: tuple[str, ...] = ()
    protocols: tuple[int, ...] = ()
    min_s: int = 0
    max_s: int | None = None
    exact_s: tuple[int, ...] = ()
    battr: tuple[int, ...] = ()
    api: tuple[int, ...] = ()
    skip: bool = False  # the player brings a skip button: a creative with its own is not sent
    linearity: int | None = None  # 2 (overlay): nothing of ours fits
    min_kbps: int = 0
    max_kbps: int | None = None


class ImageAsset(Struct, frozen=True):
    """A required image. ``w`` or ``h`` > 0: exact; else at least ``wmin`` by ``hmin``."""

    type: int = 3  # 3 main; 1 icon, 2 logo (answered by the icon)
    w: int = 0
    h: int = 0
    wmin: int = 0
    hmin: int = 0
    mimes: tuple[str, ...] = ()


class NativeOffer(Struct, frozen=True):
    """The REQUIRED assets of a native request; optional ones never keep a creative out.

    ``title_len``: None no title required, 0 any length. ``data``: (type, len) with len 0 = any length.
    """

    title_len: int | None = None
    images: tuple[ImageAsset, ...] = ()
    data: tuple[tuple[int, int], ...] = ()
    video: AvOffer | None = None
    battr: tuple[int, ...] = ()
    api: tuple[int, ...] = ()
