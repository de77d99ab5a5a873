"""What a bidder alone is told, checked whole: what passes here can be learned, so nothing is refused half-way.

Two kinds of wrong. Arguments that do not belong together, or are of another kind than they should be, are
:class:`RowsRefused`, before anything has changed. Numbers that cannot be are the world's: their rows are not used, and
counted in :class:`Refused`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import ArrayLike, NDArray

from counterpoint.base.errors import CounterpointError
from counterpoint.base.money import PRICE_MICROS_MAX
from counterpoint.bidding.value_model import Shown

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
NOT_TOLD = -1
NO_NUMBER = -2
FIRST_PRICE, SECOND_PRICE, FIXED_PRICE = 1, 2, 3  # as OpenRTB numbers auction types
EXACT_MAX = 2**62
COUNT_MAX = 2**31  # of exposures, and hours
_TEXTS = ("exchange", "media", "campaign", "line_item", "place", "category", "size", "position", "device", "country")  # fmt: skip


class RowsRefused(CounterpointError):
    """Arguments that do not belong together: nothing was learned of them, nothing has changed."""


class Refused(Struct):
    """Rows and numbers that were not used, by why. What was known before stays."""

    values: int = 0  # NaN, infinite, negative or beyond any price: no bid
    bids: int = 0  # told back as NaN, negative or beyond any price: as if there had been no bid
    outcomes: int = 0  # neither won (1) nor lost (0): as if there had been no bid
    prices: int = 0  # paid above the bid, below 0 or NaN: the bid is taken for the price
    minimums: int = 0  # that contradict the outcome, or are none: the row counts without
    wins_without_bid: int = 0
    repeats: int = 0  # auctions with an id that was heard before
    clocks: int = 0  # times that ran back, or are none: the latest one stands
    impressions: int = 0  # won, with a value or a rate that is none: paid for, but no rate is learned of them
    names: int = 0  # the same, of a line item or campaign past goal.NAMES_MAX
    clicks: int = 0  # a second one of the same auction
    orders: int = 0  # that brought NaN, less than 0 or beyond any sum


@dataclass(frozen=True, slots=True)
class Rows:
    """What came of auctions, [n] each."""

    bids: IntArray
    outcomes: FloatArray
    minima: IntArray
    prices: IntArray
    floors: IntArray
    values: FloatArray | None
    ids: list[str] | None
    shown: list[Shown] | None

    def at(self, rows: IntArray) -> Rows:
        """These alone."""
        return Rows(*(_taken(getattr(self, field.name), rows) for field in fields(self)))

    def __len__(self) -> int:
        return len(self.bids)


def rows_of(
    bids: ArrayLike,
    won: ArrayLike,
    minimum_micros: ArrayLike | None,
    paid_micros: ArrayLike | None,
    floor_micros: int | ArrayLike,
    values: ArrayLike | None,
    ids: Iterable[str] | None,
    shown: Iterable[Shown] | None,
) -> Rows:
    """Raises :class:`RowsRefused`."""
    made = _money("bids", bids, None)
    n = len(made)
    none = np.full(n, NOT_TOLD, dtype=np.int64)
    return Rows(
        made,
        numbers("won", won, n),
        none if minimum_micros is None else _money("minimum_micros", minimum_micros, n),
        none if paid_micros is None else _money("paid_micros", paid_micros, n),
        floors_of(floor_micros, n),
        None if values is None else numbers("values", values, n),
        None if ids is None else names("ids", ids, n),
        None if shown is None else impressions(shown, n),
    )


def numbers(what: str, given: ArrayLike, n: int | None = None) -> FloatArray:
    """As float64 [n]; one number is [1]."""
    return _column(what, given, n).astype(np.float64)


def numbers_for(what: str, given: ArrayLike, n: int) -> FloatArray:
    """As float64 [n]; one number is that of all."""
    column = numbers(what, given)
    return np.full(n, column[0]) if len(column) == 1 else numbers(what, column, n)


def _money(what: str, given: ArrayLike, n: int | None) -> IntArray:
    """As int64 [n]; NO_NUMBER for what is none."""
    column = _column(what, given, n)
    if column.dtype.kind in "uf":
        column = column.astype(np.float64)
        column = np.where(np.abs(column) < EXACT_MAX, column, float(NO_NUMBER))  # NaN is no less than it
    return column.astype(np.int64)


def _column(what: str, given: ArrayLike, n: int | None) -> NDArray[Any]:
    try:
        column = np.atleast_1d(np.asarray(given))
    except (ValueError, TypeError) as error:
        raise RowsRefused(f"{what} make no column: {error}; one number for each auction") from error
    if column.ndim != 1 or (n is not None and len(column) != n):
        wanted = "[n]" if n is None else f"[{n}]"
        raise RowsRefused(f"{what} has the shape {list(column.shape)}; it is {wanted}, as long as the others")
    if column.dtype.kind not in "biuf":
        raise RowsRefused(
            f"{what} are no numbers but {column.dtype}; NOT_TOLD or NaN stands for a missing one"
        )
    return column


def names(what: str, given: Iterable[str], n: int | None = None) -> list[str]:
    """As plain str [n]."""
    if isinstance(given, str):
        raise RowsRefused(f"{what} is one text; it is a list of them")
    found = [text(f"{what}[{k}]", name) for k, name in enumerate(_each(what, given))]
    if n is not None and len(found) != n:
        raise RowsRefused(f"{what} has {len(found)} rows, bids {n}")
    return found


def impressions(given: Iterable[Shown], n: int | None = None) -> list[Shown]:
    """[n], each such that its context can be made, in plain Python values."""
    found = [_impression(f"shown[{k}]", one) for k, one in enumerate(_each("shown", given))]
    if n is not None and len(found) != n:
        raise RowsRefused(f"shown has {len(found)} rows, bids {n}")
    return found


def _impression(what: str, one: object) -> Shown:
    if not isinstance(one, Shown):
        raise RowsRefused(f"{what} is {one!r}; it is a Shown")
    return Shown(
        **{name: text(f"{what}.{name}", getattr(one, name)) for name in _TEXTS},
        click_rate=number(f"{what}.click_rate", one.click_rate),
        conversion_rate=number(f"{what}.conversion_rate", one.conversion_rate),
        hour_of_week=whole(f"{what}.hour_of_week", one.hour_of_week, COUNT_MAX),
        person_shown=None
        if one.person_shown is None
        else whole(f"{what}.person_shown", one.person_shown, COUNT_MAX),
        exposed=whole(f"{what}.exposed", one.exposed, COUNT_MAX),
    )


def segment_of(given: str) -> str:
    segment = text("segment", given)
    if "/" not in segment or not all(segment.split("/")[:2]):
        raise RowsRefused(f'segment is {segment!r}; it is named "{{exchange}}/{{media}}"')
    return segment


def floors_of(given: int | ArrayLike, n: int) -> IntArray:
    """As int64 [n]; one floor is that of all. Whole numbers: a fraction that is cut off would undercut the floor."""
    if not hasattr(given, "__len__") or isinstance(given, str):
        return np.full(n, whole("floor_micros", given, PRICE_MICROS_MAX), dtype=np.int64)
    column = _column("floor_micros", given, n)
    if n and column.dtype.kind not in "biu":
        raise RowsRefused(f"floor_micros are {column.dtype}; they are whole numbers: round fractions up")
    wrong = np.flatnonzero((column < 0) | (column > PRICE_MICROS_MAX))
    if len(wrong):
        whole(f"floor_micros[{wrong[0]}]", int(column[wrong[0]]), PRICE_MICROS_MAX)
    return column.astype(np.int64)


def auction_type_of(given: int) -> int:
    if not is_whole(given, FIRST_PRICE, FIXED_PRICE):
        raise RowsRefused(
            f"auction_type is {given!r}; it is 1 (first price), 2 (second price) or 3 (the floor is the price)"
        )
    return int(given)


def text(what: str, given: object) -> str:
    if not isinstance(given, str):
        raise RowsRefused(f"{what} is {given!r}; it is text")
    if not given.isascii():
        try:
            given.encode()
        except UnicodeEncodeError as error:
            raise RowsRefused(f"{what} is {given!r}, which is no Unicode text; decode it anew") from error
    return str(given)


def number(what: str, given: object) -> float:
    """NaN is one."""
    try:
        if isinstance(given, Real):
            return float(given)
    except OverflowError:
        pass
    raise RowsRefused(f"{what} is {given!r}; it is a number")


def whole(what: str, given: object, most: int) -> int:
    if not is_whole(given, 0, most):
        raise RowsRefused(f"{what} is {given!r}; it is a whole number in 0..{most}")
    return int(given)  # type: ignore[call-overload, no-any-return]


def is_whole(given: object, least: int, most: int) -> bool:
    """Of Python or numpy; no float is one, not even 2.0."""
    return isinstance(given, Integral) and least <= int(given) <= most


def _each(what: str, given: Iterable[Any]) -> list[Any]:
    try:
        return list(given)
    except TypeError as error:
        raise RowsRefused(f"{what} is {given!r}; it is a list, one for each auction") from error


def _taken(column: Any, rows: IntArray) -> Any:
    if column is None:
        return None
    return column[rows] if isinstance(column, np.ndarray) else [column[k] for k in rows.tolist()]
