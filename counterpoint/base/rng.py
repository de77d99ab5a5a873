"""Counter-based randomness: a draw is a function of (key, counter), so a decision can be run again.

SplitMix64 (Steele, Lea, Flood 2014): passes BigCrush, two multiplications a draw, works alike in
Python and in compiled kernels.
"""

from __future__ import annotations

import numpy as np

from counterpoint.base.jit import njit

_MASK = 0xFFFF_FFFF_FFFF_FFFF


def mix64(x: int) -> int:
    """Scramble 64 bits. ``mix64(a ^ mix64(b))`` joins two keys.

    >>> mix64(1) == mix64(1), mix64(1) != mix64(2), 0 <= mix64(7) < 2**64
    (True, True, True)
    """
    x = (x + 0x9E37_79B9_7F4A_7C15) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58_476D_1CE4_E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D0_49BB_1331_11EB) & _MASK
    return x ^ (x >> 31)


def uniform(key: int, counter: int) -> float:
    """A draw in [0, 1) from a 64-bit key and a counter."""
    return (mix64(key ^ mix64(counter)) >> 11) * (1.0 / (1 << 53))


@njit
def mix64_kernel(x: np.uint64) -> np.uint64:
    x = np.uint64(x + np.uint64(0x9E37_79B9_7F4A_7C15))
    x = np.uint64((x ^ (x >> np.uint64(30))) * np.uint64(0xBF58_476D_1CE4_E5B9))
    x = np.uint64((x ^ (x >> np.uint64(27))) * np.uint64(0x94D0_49BB_1331_11EB))
    return np.uint64(x ^ (x >> np.uint64(31)))


@njit
def uniform_kernel(key: np.uint64, counter: np.uint64) -> float:
    """The same draw as :func:`uniform`, inside a compiled kernel."""
    return float(mix64_kernel(np.uint64(key ^ mix64_kernel(counter))) >> np.uint64(11)) * (
        1.0 / 9007199254740992.0
    )
