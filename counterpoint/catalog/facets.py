"""A query put together from parts that were asked before.

Requests differ as a whole and repeat in their parts: who asks (place and device), what is offered (media and sizes),
and where (site or app, and its categories). Each part fills cells of its own, so the cells are remembered by part and
copied; only a part not seen before goes through ``fill_query``. What is remembered only saves work.
"""

from __future__ import annotations

from typing import Final, TypeVar

from counterpoint.catalog import query as q
from counterpoint.catalog.fill import _signed, fill_query
from counterpoint.catalog.index import CatalogIndex
from counterpoint.catalog.query import Query

PARTS_MAX: Final = 4_096  # of each kind, at most 2 kB each; past that the memo starts anew

TEXT_MAX: Final = 1_024  # characters of one request's texts that a memo may keep
SIZES_MAX: Final = 128

_REGION: Final = q.Q_SPARSE + q.Q_SPARSE_SIZE  # the second sparse dimension
_K = TypeVar("_K")
_V = TypeVar("_V")
_Sizes = tuple[tuple[int, int], ...]
_WhoKey = tuple[str, str, str, int, str, str, int, str]
_OfferKey = tuple[tuple[str, ...], _Sizes]
_WhereKey = tuple[str, str, tuple[str, ...]]


class _Who:
    __slots__ = ("count", "region", "rows")

    def __init__(self, cells: memoryview) -> None:
        self.count = cells[q.Q_ROWS_N]
        self.rows = _copy(cells, q.Q_ROWS, q.Q_OFFERS)
        self.region = _copy(cells, _REGION, _REGION + q.Q_SPARSE_SIZE)


class _Offers:
    __slots__ = ("count", "rows")

    def __init__(self, cells: memoryview) -> None:
        self.count = cells[q.Q_OFFERS_N]
        self.rows = _copy(cells, q.Q_OFFERS, q.Q_OFFERS + self.count)


class _Where:
    __slots__ = ("categories", "cells", "clear", "refused")

    def __init__(self, cells: memoryview) -> None:
        self.categories = cells[q.Q_CATEGORIES_N]
        self.refused = cells[q.Q_NOT_N]
        self.clear = cells[q.Q_CLEAR_N]
        self.cells = _copy(cells, q.Q_CATEGORIES, _REGION)


def _copy(cells: memoryview, start: int, end: int) -> memoryview:
    return memoryview(bytearray(cells[start:end])).cast("l")


class Facets:
    """Belongs to one index and one thread. :meth:`fill` does what ``fill_query`` does, to the cell."""

    __slots__ = ("_index", "_offers", "_where", "_who")

    def __init__(self, index: CatalogIndex) -> None:
        self._index = index
        self._who: dict[_WhoKey, _Who] = {}
        self._offers: dict[_OfferKey, _Offers] = {}
        self._where: dict[_WhereKey, _Where] = {}

    def remembered(self) -> tuple[int, int, int]:
        """How many parts: who, what is offered, where."""
        return len(self._who), len(self._offers), len(self._where)

    def fill(
        self,
        query: Query,
        exchange: str,
        media: tuple[str, ...],
        sizes: _Sizes,
        country: str,
        region: str,
        device_type: int,
        os: str,
        channel: str,
        domain: str,
        bundle: str,
        categories: tuple[str, ...],
        hour_of_week: int,
        language: str,
        now_ns: int,
        key: int,
    ) -> None:
        who_key = (exchange, country, region, device_type, os, channel, hour_of_week, language)
        offer_key = (media, sizes)
        where_key = (domain, bundle, categories)
        who = self._who.get(who_key)
        offers = self._offers.get(offer_key)
        where = self._where.get(where_key)
        cells = query.cells
        if who is None or offers is None or where is None:
            short = _short(domain, bundle, country, region, os, language, *categories)
            fill_query(
                self._index,
                query,
                exchange=exchange,
                media=media,
                sizes=sizes,
                country=country,
                region=region,
                device_type=device_type,
                os=os,
                channel=channel,
                domain=domain,
                bundle=bundle,
                categories=categories,
                hour_of_week=hour_of_week,
                language=language,
                now_ns=now_ns,
                key=key,
            )
            if short and len(sizes) <= SIZES_MAX:
                _remember(self._who, who_key, who or _Who(cells))
                _remember(self._offers, offer_key, offers or _Offers(cells))
                _remember(self._where, where_key, where or _Where(cells))
            return
        cells[q.Q_KEY] = _signed(key)
        cells[q.Q_NOW] = now_ns
        cells[q.Q_ROWS_N] = who.count
        cells[q.Q_ROWS : q.Q_OFFERS] = who.rows
        cells[_REGION : _REGION + q.Q_SPARSE_SIZE] = who.region
        cells[q.Q_OFFERS_N] = offers.count
        cells[q.Q_OFFERS : q.Q_OFFERS + offers.count] = offers.rows
        cells[q.Q_CATEGORIES_N] = where.categories
        cells[q.Q_NOT_N] = where.refused
        cells[q.Q_CLEAR_N] = where.clear
        cells[q.Q_CATEGORIES : _REGION] = where.cells


def _short(*texts: str) -> bool:
    """A request may hold megabytes, and a memo keeps what it is asked: long ones are worked out each time."""
    return sum(map(len, texts)) <= TEXT_MAX


def _remember(memo: dict[_K, _V], key: _K, value: _V) -> None:
    if len(memo) >= PARTS_MAX:
        memo.clear()
    memo[key] = value
