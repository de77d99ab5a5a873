"""Counter-based randomness of the market: every draw is a pure function of (seed, stream, index, sub).

Philox4x64-10 (Salmon et al., SC'11), the generator behind ``numpy.random.Philox`` and checked against it. What an arm
does never moves a counter, so two arms that act differently meet the same people, rivals and outcomes.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from counterpoint.base.jit import njit

_WORLD_KEY = (
    0x6D61_726B_6574_0001  # second key word: draws of the market, apart from any other user of the seed
)
_SCALE = 1.0 / (1 << 53)
_TWO_PI = 2.0 * np.pi


class Stream(IntEnum):
    """What a draw is for. Numbers are permanent: a new use takes a new number."""

    ARRIVAL = 1
    SUPPLY = 2
    PLACEMENT = 3
    PRICE = 4
    QUALITY = 5
    OUTCOME = 6
    DELAY = 7
    ORDER = 8
    TRACKING = 9
    USER = 20
    USER_TASTE = 21
    USER_AVERSION = 22
    CONTENT = 30
    CREATIVE = 31
    APPEAL_DRIFT = 32
    APPEAL_JUMP = 33
    LIFETIME = 34
    PRICE_DRIFT = 40
    CAMPAIGN = 41


@njit
def _mul_high(a: np.uint64, b: np.uint64) -> np.uint64:
    mask = np.uint64(0xFFFF_FFFF)
    half = np.uint64(32)
    a_low, a_high, b_low, b_high = a & mask, a >> half, b & mask, b >> half
    middle = a_high * b_low + ((a_low * b_low) >> half)
    cross = a_low * b_high + (middle & mask)
    return np.uint64(a_high * b_high + (middle >> half) + (cross >> half))


@njit
def _philox(
    c0: np.uint64, c1: np.uint64, c2: np.uint64, c3: np.uint64, k0: np.uint64, k1: np.uint64
) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64]:
    m0, m1 = np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157)
    for _ in range(10):
        high0, high1 = _mul_high(m0, c0), _mul_high(m1, c2)
        low0, low1 = m0 * c0, m1 * c2
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0 = np.uint64(k0 + np.uint64(0x9E3779B97F4A7C15))
        k1 = np.uint64(k1 + np.uint64(0xBB67AE8584CAA73B))
    return c0, c1, c2, c3


@njit
def _fill(index: Any, sub: Any, stream: np.uint64, k0: np.uint64, k1: np.uint64, out: Any) -> None:
    shift = np.uint64(11)
    for i in range(index.shape[0]):
        a, b, c, d = _philox(np.uint64(index[i]), np.uint64(sub[i]), stream, np.uint64(0), k0, k1)
        out[0, i] = float(a >> shift) * _SCALE
        out[1, i] = float(b >> shift) * _SCALE
        out[2, i] = float(c >> shift) * _SCALE
        out[3, i] = float(d >> shift) * _SCALE


@njit
def _normals(u: Any) -> None:
    """Box-Muller, in place: rows (0, 1) and (2, 3) become two normals each."""
    for i in range(u.shape[1]):
        for pair in range(0, u.shape[0] - 1, 2):
            radius = np.sqrt(-2.0 * np.log(1.0 - u[pair, i]))
            angle = _TWO_PI * u[pair + 1, i]
            u[pair, i] = radius * np.cos(angle)
            u[pair + 1, i] = radius * np.sin(angle)


def uniforms(
    seed: int, stream: Stream, index: NDArray[np.int64], sub: NDArray[np.int64] | int = 0
) -> NDArray[np.float64]:
    """Four independent draws in [0, 1) for each (index, sub): shape (4, n). ``seed`` in 0..2**63-1.

    >>> a = uniforms(1, Stream.PRICE, np.arange(5))
    >>> bool((a[:, 3:] == uniforms(1, Stream.PRICE, np.arange(3, 5))).all()), a.shape
    (True, (4, 5))
    """
    assert 0 <= seed < 1 << 63, "seeds are 0..2**63-1"
    at = np.ascontiguousarray(index, dtype=np.int64)
    second = np.ascontiguousarray(np.broadcast_to(np.asarray(sub, dtype=np.int64), at.shape))
    out = np.empty((4, at.shape[0]))
    _fill(at, second, np.uint64(stream), np.uint64(seed), np.uint64(_WORLD_KEY), out)
    return out


def normals(
    seed: int, stream: Stream, index: NDArray[np.int64], sub: NDArray[np.int64] | int = 0
) -> NDArray[np.float64]:
    """Four independent standard normal draws for each (index, sub): shape (4, n)."""
    out = uniforms(seed, stream, index, sub)
    _normals(out)
    return out


def raw_words(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """One Philox4x64-10 block; for checking against another implementation."""
    words = _philox(*(np.uint64(c) for c in counter), *(np.uint64(k) for k in key))
    return (int(words[0]), int(words[1]), int(words[2]), int(words[3]))
