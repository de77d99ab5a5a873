"""Money is integers. A price in micros CPM *is* the cost of one impression in nano-units.

One unit of currency = 1,000,000 micros = 1,000,000,000 nanos. A CPM price is paid per thousand
impressions, so ``price_micros_cpm`` (millionths of a unit per thousand) costs exactly
``price_micros_cpm`` nano-units for one impression: no division, no rounding.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

MICROS_PER_UNIT = 1_000_000
NANOS_PER_UNIT = 1_000_000_000
NANOS_PER_MICRO = 1_000

PRICE_MICROS_MAX = 10_000 * MICROS_PER_UNIT  # 10,000 units CPM: anything above is a broken number


def micros_to_nanos(micros: int) -> int:
    return micros * NANOS_PER_MICRO


def nanos_to_micros_down(nanos: int) -> int:
    """For display: floor, so that what is shown as left is never more than there is."""
    return nanos // NANOS_PER_MICRO


def nanos_to_micros_up(nanos: int) -> int:
    """For display: ceiling, so that what is shown as spent is never less than was spent."""
    return -(-nanos // NANOS_PER_MICRO)


def price_up(units: float | int | str | Decimal) -> int:
    """A CPM in currency units as micros CPM, rounded up: for floors.

    >>> price_up(0.1234567)
    123457
    """
    return int((Decimal(str(units)) * MICROS_PER_UNIT).to_integral_value(ROUND_CEILING))


def price_down(units: float | int | str | Decimal) -> int:
    """A CPM in currency units as micros CPM, rounded down: for bids within caps.

    >>> price_down("0.1234567")
    123456
    """
    return int((Decimal(str(units)) * MICROS_PER_UNIT).to_integral_value(ROUND_FLOOR))
