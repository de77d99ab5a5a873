"""A base-2 logarithm in integers only: the same on every machine, so that replicas cannot drift apart."""

from __future__ import annotations

FRACTION_BITS = 32
ONE = 1 << FRACTION_BITS  # 1.0, in Q32
_TABLE_BITS = 10
_STEP_BITS = FRACTION_BITS - _TABLE_BITS


def _exact_q32(numerator: int, denominator_bits: int) -> int:
    """log2(numerator / 2**denominator_bits) for a ratio in [1, 2), digit by digit, rounded down."""
    guard = 96
    x = numerator << (guard - denominator_bits)
    result = 0
    for _ in range(FRACTION_BITS):
        x = (x * x) >> guard
        result <<= 1
        if x >> (guard + 1):
            x >>= 1
            result |= 1
    return result


_TABLE: tuple[int, ...] = (
    *(_exact_q32((1 << _TABLE_BITS) + i, _TABLE_BITS) for i in range(1 << _TABLE_BITS)),
    ONE,
)


def log2_q32(n: int) -> int:
    """``log2(n) * 2**32`` for n >= 1, within 2e-7 of the exact logarithm; never falls as n grows.

    A table of 1,024 steps per octave, straight lines between them.

    >>> log2_q32(1), log2_q32(8) == 3 * ONE, log2_q32(10**12) // ONE
    (0, True, 39)
    """
    assert n >= 1
    octave = n.bit_length() - 1
    fraction = (
        ((n - (1 << octave)) << FRACTION_BITS) >> octave
        if octave <= FRACTION_BITS
        else ((n - (1 << octave)) >> (octave - FRACTION_BITS))
    )
    index = fraction >> _STEP_BITS
    rest = fraction & ((1 << _STEP_BITS) - 1)
    low = _TABLE[index]
    return octave * ONE + low + (((_TABLE[index + 1] - low) * rest) >> _STEP_BITS)
