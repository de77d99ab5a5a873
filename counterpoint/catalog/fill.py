"""Plain values of a request into the index's small integer arrays. No OpenRTB here: the bidder does the reading."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from counterpoint.catalog import normal
from counterpoint.catalog import query as q
from counterpoint.catalog.compile import MEDIA_KEY, Sparse, code_bits
from counterpoint.catalog.query import AvOffer, BannerOffer, Fit, ImageAsset, NativeOffer, Query

if TYPE_CHECKING:
    from counterpoint.catalog.index import CatalogIndex

_SIGN: Final = 1 << 63
HOST_MAX: Final = 256  # DNS allows 253; of an address only the host at its front is read
_NO_LIMIT: Final = 2**62
# What a full-screen slot without a declared size takes (AdCOM has none; the usual full-screen creatives).
INTERSTITIAL_SIZES: Final = ((320, 480), (480, 320), (768, 1024), (1024, 768), (300, 250), (300, 600))


def _signed(key: int) -> int:
    key &= 0xFFFF_FFFF_FFFF_FFFF
    return key - (1 << 64) if key & _SIGN else key


def _fill_sparse(cells: memoryview, at: int, dimension: Sparse, values: Sequence[str]) -> None:
    cells[at] = dimension.base
    common = rare = 0
    for value in values[-q.SPARSE_MAX :]:
        row = dimension.dense.get(value)
        if row is not None:
            cells[at + q.Q_SPARSE_ROWS + common] = row
            common += 1
            continue
        bounds = dimension.lists.get(value)
        if bounds is not None:
            pair = at + q.Q_SPARSE_LISTS + 2 * rare
            cells[pair], cells[pair + 1] = bounds
            rare += 1
    cells[at + 1] = common
    cells[at + 2] = rare


def banner_sizes(sizes: Sequence[tuple[int, int]], instl: bool) -> Sequence[tuple[int, int]]:
    """The sizes a banner imp takes: its own, or, full screen and silent about it, the usual ones."""
    return INTERSTITIAL_SIZES if instl and not sizes else sizes


def fill_query(
    index: CatalogIndex,
    query: Query,
    *,
    exchange: str,
    media: Iterable[str],
    sizes: Iterable[tuple[int, int]] = (),
    country: str = "",
    region: str = "",
    device_type: int = 0,
    os: str = "",
    channel: str = "",
    domain: str = "",
    bundle: str = "",
    categories: Iterable[str] = (),
    hour_of_week: int,
    language: str = "",
    now_ns: int,
    key: int = 0,
) -> None:
    """Describe a request; empty or 0 means unknown, which matches only line items that do not care.

    ``media`` and ``sizes`` are the union over the request's imps (sizes of banners only; pass them through
    :func:`banner_sizes`). ``region``: ``CA`` (with ``country``), ``US-CA`` or ``USA-CA``. ``domain`` matches
    sub-domains, ``bundle`` exactly. ``categories`` must be IAB Content Taxonomy 1.0 (leave out others).
    ``hour_of_week`` UTC, Monday 00:00 = 0. ``key``: 64-bit rng key, used only when too many match.
    """
    cells = query.cells
    cells[q.Q_KEY] = _signed(key)
    cells[q.Q_NOW] = now_ns
    n = q.Q_ROWS
    # Every text is cut before it meets a memo: a request may hold megabytes, and memos keep what they are asked.
    country = normal.country(country[:8]) if country else ""
    language = normal.language(language[:16]) if language else ""
    values = (
        exchange,
        country,
        str(device_type),
        normal.os(os[:40]) if os else "",
        channel,
        str(hour_of_week),
        language,
    )
    for at, row_of, base in index.dimensions:
        cells[n] = row_of(values[at], base)
        n += 1
    cells[q.Q_ROWS_N] = n - q.Q_ROWS

    n = q.Q_OFFERS
    end = q.Q_CATEGORIES
    for medium in media:
        if medium == "banner":
            by_size = index.size
            for size in sizes:
                row = by_size.get(size)
                if row is not None and n < end - 4:
                    cells[n] = row
                    n += 1
        else:
            row = index.media.get(MEDIA_KEY.get(medium, ""))
            if row is not None and n < end:
                cells[n] = row
                n += 1
    cells[q.Q_OFFERS_N] = n - q.Q_OFFERS

    refused = q.Q_NOT
    names: set[str] = set()
    for value in categories:
        names.update(normal.with_parent(value[:16]))
    if index.category.base < 0:
        cells[q.Q_CATEGORIES_N] = -1
    else:
        n = q.Q_CATEGORIES
        rows = index.category.rows
        for value in names:
            row = rows.get(value)
            if row is not None and n < q.Q_NOT:
                cells[n] = row
                n += 1
        if n == q.Q_CATEGORIES:
            cells[n] = index.category.base
            n += 1
        cells[q.Q_CATEGORIES_N] = n - q.Q_CATEGORIES
    if index.category_blocked:
        for value in names:
            row = index.category_blocked.get(value)
            if row is not None:
                if (
                    refused - q.Q_NOT >= q.CATEGORIES_MAX
                ):  # too many to tell apart: whoever blocks any stays out
                    cells[q.Q_NOT] = index.any_category_blocked
                    refused = q.Q_NOT + 1
                    break
                cells[refused] = row
                refused += 1

    hosts = normal.suffixes(normal.domain(domain[:HOST_MAX])) if domain else ()
    if bundle:
        hosts = (*hosts, normal.domain(bundle[:HOST_MAX]))
    _fill_sparse(cells, q.Q_SPARSE, index.domain, hosts)
    at = q.Q_SPARSE + q.Q_SPARSE_SIZE
    if index.region.base >= 0 and region:
        _fill_sparse(cells, at, index.region, (normal.region(region[:16], country),))
    else:
        cells[at] = index.region.base
        cells[at + 1] = cells[at + 2] = 0
    cleared = 0
    blocked = index.domain_blocked
    for host in hosts[-q.SPARSE_MAX :]:
        row = blocked.dense.get(host)
        if row is not None:
            cells[refused] = row
            refused += 1
            continue
        bounds = blocked.lists.get(host)
        if bounds is not None:
            cells[q.Q_CLEAR + 2 * cleared], cells[q.Q_CLEAR + 2 * cleared + 1] = bounds
            cleared += 1
    cells[q.Q_NOT_N] = refused - q.Q_NOT
    cells[q.Q_CLEAR_N] = cleared


def _mime_bits(index: CatalogIndex, mimes: Sequence[str]) -> int:
    """0 when none is asked for; types no creative has leave a bit that none carries."""
    if not mimes:
        return 0
    bits = 0
    for mime in mimes:
        number = index.mimes.get(normal.mime(mime[:64]))
        if number is not None:
            bits |= 1 << number
    return bits or 1 << q.BIT_OTHER


def _fill_common(cells: memoryview, block: int, battr: Sequence[int], api: Sequence[int]) -> None:
    # bit 0: "attributes not declared", never welcome where any attribute is blocked
    cells[block + q.B_ATTRIBUTES] = (code_bits(battr) | 1) if battr else 0
    cells[block + q.B_APIS] = code_bits(a for a in api if a < q.BIT_OTHER) if api else 0


def _fill_av(index: CatalogIndex, cells: memoryview, block: int, offer: AvOffer) -> None:
    cells[block + q.B_MIMES] = _mime_bits(index, offer.mimes)
    protocols = offer.protocols
    cells[block + q.B_PROTOCOLS] = code_bits(protocols) or 1 << q.BIT_OTHER if protocols else 0
    cells[block + q.B_DURATION_MIN] = max(0, min(offer.min_s, _NO_LIMIT))
    cells[block + q.B_DURATION_MAX] = _NO_LIMIT if offer.max_s is None else min(offer.max_s, _NO_LIMIT)
    cells[block + q.B_KBPS_MIN] = max(0, min(offer.min_kbps, _NO_LIMIT))
    high = offer.max_kbps
    cells[block + q.B_KBPS_MAX] = 0 if high is None or high <= 0 else min(high, _NO_LIMIT)
    exact = offer.exact_s[: q.EXACT_MAX]
    cells[block + q.B_EXACT_N] = len(exact)
    for i, seconds in enumerate(exact):
        cells[block + q.B_EXACT + i] = max(-1, min(seconds, _NO_LIMIT))
    cells[block + q.B_FORBIDDEN] = q.FLAG_SKIPPABLE if offer.skip else 0


def _fill_image(index: CatalogIndex, cells: memoryview, at: int, image: ImageAsset) -> None:
    cells[at] = 0 if image.type == 3 else 1
    cells[at + 1] = image.w
    cells[at + 2] = image.h
    cells[at + 3] = image.wmin
    cells[at + 4] = image.hmin
    cells[at + 5] = _mime_bits(index, image.mimes)


def _fill_native(index: CatalogIndex, cells: memoryview, block: int, offer: NativeOffer) -> bool:
    """False when an asset is required that nothing can answer."""
    cells[q.F_TITLE] = -1 if offer.title_len is None else max(0, offer.title_len)
    cells[q.F_IMAGES_N] = len(offer.images)
    if len(offer.images) > q.IMAGES_MAX:
        return False
    for i, image in enumerate(offer.images):
        if image.type not in (1, 2, 3):
            return False
        _fill_image(index, cells, q.F_IMAGES + 6 * i, image)
    for kind in range(q.DATA_TYPES):
        cells[q.F_DATA + kind] = -1
    for kind, length in offer.data:
        if not 1 <= kind < q.DATA_TYPES:
            return False
        limit = cells[q.F_DATA + kind]
        cells[q.F_DATA + kind] = min(limit, length) if limit > 0 and length > 0 else max(limit, length, 0)
    cells[q.F_VIDEO_ASSET] = 1 if offer.video is not None else 0
    if offer.video is not None:
        _fill_av(index, cells, block, offer.video)
    else:
        cells[block + q.B_MIMES] = 0
        cells[block + q.B_FORBIDDEN] = 0
    return True


def fill_fit(
    index: CatalogIndex,
    fit: Fit,
    *,
    banner: BannerOffer | None = None,
    video: AvOffer | None = None,
    audio: AvOffer | None = None,
    native: NativeOffer | None = None,
    secure: bool = False,
    key: int = 0,
) -> None:
    """Describe one imp: the media types it offers, each as plain values. ``key`` as in :func:`fill_query`."""
    cells = fit.cells
    cells[q.F_KEY] = _signed(key)
    cells[q.F_FLAGS] = q.FLAG_SECURE if secure else 0
    media = 0
    if banner is not None:
        media |= 1
        block = q.F_BLOCKS
        for word in range(q.F_SIZES, len(cells)):
            cells[word] = 0
        for size in banner.sizes:
            number = index.sizes.get(size)
            if number is not None:
                cells[q.F_SIZES + (number >> q.SIZE_SHIFT)] |= 1 << (number & 31)
        cells[block + q.B_MIMES] = _mime_bits(index, banner.mimes)
        _fill_common(cells, block, banner.battr, banner.api)
        forbidden = 0
        for kind in banner.btype:
            if 1 <= kind <= 4:
                forbidden |= q.FLAG_BANNER_TYPE << kind
        cells[block + q.B_FORBIDDEN] = forbidden
    if video is not None and video.linearity in (None, 1):
        media |= 2
        block = q.F_BLOCKS + q.BLOCK_SIZE
        _fill_av(index, cells, block, video)
        _fill_common(cells, block, video.battr, video.api)
    if audio is not None:
        media |= 4
        block = q.F_BLOCKS + 2 * q.BLOCK_SIZE
        _fill_av(index, cells, block, audio)
        _fill_common(cells, block, audio.battr, audio.api)
    if native is not None:
        block = q.F_BLOCKS + 3 * q.BLOCK_SIZE
        if _fill_native(index, cells, block, native):
            media |= 8
        _fill_common(cells, block, native.battr, native.api)
    cells[q.F_MEDIA] = media
