"""The two compiled loops of the index: line items that match a request, creatives that fit an imp."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from counterpoint.base.jit import njit
from counterpoint.base.rng import mix64_kernel
from counterpoint.catalog.query import (
    B_APIS,
    B_ATTRIBUTES,
    B_DURATION_MAX,
    B_DURATION_MIN,
    B_EXACT,
    B_EXACT_N,
    B_FORBIDDEN,
    B_KBPS_MAX,
    B_KBPS_MIN,
    B_MIMES,
    B_PROTOCOLS,
    BLOCK_SIZE,
    C_APIS,
    C_ATTRIBUTES,
    C_DURATION,
    C_FLAGS,
    C_MEDIA,
    C_MIMES,
    C_PROTOCOLS,
    C_SIZE,
    D_DATA,
    D_FILES,
    D_IMAGES,
    D_TITLE,
    DATA_TYPES,
    F_BLOCKS,
    F_DATA,
    F_FLAGS,
    F_IMAGES,
    F_IMAGES_N,
    F_KEY,
    F_MEDIA,
    F_SIZES,
    F_TITLE,
    F_VIDEO_ASSET,
    FILE_KBPS,
    FILE_MIME,
    FLAG_NATIVE_VIDEO,
    Q_CATEGORIES,
    Q_CATEGORIES_N,
    Q_CLEAR,
    Q_CLEAR_N,
    Q_KEY,
    Q_NOT,
    Q_NOT_N,
    Q_NOW,
    Q_OFFERS,
    Q_OFFERS_N,
    Q_ROWS,
    Q_ROWS_N,
    Q_SPARSE,
    Q_SPARSE_LISTS,
    Q_SPARSE_ROWS,
    Q_SPARSE_SIZE,
    SIZE_SHIFT,
    SPARSE_DIMENSIONS,
)

U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]
I32 = NDArray[np.int32]
U8 = NDArray[np.uint8]

ONE = np.uint64(1)
ZERO = np.uint64(0)
_DE_BRUIJN = np.uint64(0x03F7_9D71_B4CB_0A89)
_BIT = np.zeros(64, np.int64)
for _i in range(64):
    _BIT[((0x03F7_9D71_B4CB_0A89 << _i) & 0xFFFF_FFFF_FFFF_FFFF) >> 58] = _i


@njit
def _and(into: U64, row: U64) -> None:
    for i in range(into.size):
        into[i] &= row[i]


@njit
def _or(into: U64, row: U64) -> None:
    for i in range(into.size):
        into[i] |= row[i]


@njit
def _set(into: U64, positions: I32, start: int, end: int) -> None:
    for i in range(start, end):
        p = positions[i]
        into[p >> 6] |= ONE << np.uint64(p & 63)


@njit
def _take(matched: U64, first_word: int, line_items: I64, campaign_open: U8, now: int, out: I32) -> int:
    """Positions of set bits from ``first_word`` on, round the end, into ``out``; -1 when ``out`` is full."""
    n = 0
    words = matched.size
    for k in range(words):
        w = first_word + k
        if w >= words:
            w -= words
        x = matched[w]
        while x != ZERO:
            p = w * 64 + _BIT[((x & (~x + ONE)) * _DE_BRUIJN) >> np.uint64(58)]
            x &= x - ONE
            if campaign_open[line_items[p, 0]] != 0 and line_items[p, 1] <= now and now < line_items[p, 2]:
                if n == out.size:
                    return -1
                out[n] = p
                n += 1
    return n


@njit
def eligible(
    rows: U64,
    positions: I32,
    query: I64,
    live: U64,
    line_items: I64,
    campaign_open: U8,
    accumulator: U64,
    out: I32,
) -> int:
    """Positions of the line items that match, ascending, into ``out``; returns how many.

    ``rows[r]`` is a bitset over line items, ``positions`` the short lists of rare values, ``live`` the bitset of what
    is switched on, ``line_items[p]`` = (campaign, flight start, flight end). When more match than ``out`` holds, they
    are taken from a word drawn by the query's key on, so that over many requests every one has its turn.
    """
    matched = accumulator[0]
    joined = accumulator[1]
    matched[:] = live
    for i in range(query[Q_ROWS_N]):
        _and(matched, rows[query[Q_ROWS + i]])
    n = query[Q_OFFERS_N]
    if n == 0:
        return 0
    if n == 1:
        _and(matched, rows[query[Q_OFFERS]])
    else:
        joined[:] = rows[query[Q_OFFERS]]
        for i in range(1, n):
            _or(joined, rows[query[Q_OFFERS + i]])
        _and(matched, joined)
    n = query[Q_CATEGORIES_N]
    if n == 1:
        _and(matched, rows[query[Q_CATEGORIES]])
    elif n > 1:
        joined[:] = rows[query[Q_CATEGORIES]]
        for i in range(1, n):
            _or(joined, rows[query[Q_CATEGORIES + i]])
        _and(matched, joined)
    for d in range(SPARSE_DIMENSIONS):
        at = Q_SPARSE + d * Q_SPARSE_SIZE
        if query[at] < 0:
            continue
        if query[at + 1] == 0 and query[at + 2] == 0:
            _and(matched, rows[query[at]])
            continue
        joined[:] = rows[query[at]]
        for i in range(query[at + 1]):
            _or(joined, rows[query[at + Q_SPARSE_ROWS + i]])
        for i in range(query[at + 2]):
            pair = at + Q_SPARSE_LISTS + 2 * i
            _set(joined, positions, query[pair], query[pair + 1])
        _and(matched, joined)
    for i in range(query[Q_NOT_N]):
        row = rows[query[Q_NOT + i]]
        for w in range(matched.size):
            matched[w] &= ~row[w]
    for i in range(query[Q_CLEAR_N]):
        for k in range(query[Q_CLEAR + 2 * i], query[Q_CLEAR + 2 * i + 1]):
            p = positions[k]
            matched[p >> 6] &= ~(ONE << np.uint64(p & 63))
    n = _take(matched, 0, line_items, campaign_open, query[Q_NOW], out)
    if n >= 0:
        return n
    draw = mix64_kernel(np.uint64(query[Q_KEY]))
    _take(matched, int(draw % np.uint64(matched.size)), line_items, campaign_open, query[Q_NOW], out)
    return int(out.size)


@njit
def _native_fits(flags: int, d: I64, cr: int, fit: I64) -> bool:
    limit = fit[F_TITLE]
    if limit >= 0 and (d[cr, D_TITLE] == 0 or (limit > 0 and d[cr, D_TITLE] > limit)):
        return False
    for i in range(fit[F_IMAGES_N]):
        need = F_IMAGES + 6 * i
        have = D_IMAGES + 3 * fit[need]
        w = d[cr, have]
        h = d[cr, have + 1]
        if w == 0 or h == 0 or w < fit[need + 3] or h < fit[need + 4]:
            return False
        if (fit[need + 1] > 0 and w != fit[need + 1]) or (fit[need + 2] > 0 and h != fit[need + 2]):
            return False
        if fit[need + 5] != 0 and (fit[need + 5] & d[cr, have + 2]) == 0:
            return False
    for t in range(DATA_TYPES):
        limit = fit[F_DATA + t]
        if limit >= 0 and (d[cr, D_DATA + t] == 0 or (limit > 0 and d[cr, D_DATA + t] > limit)):
            return False
    return not (fit[F_VIDEO_ASSET] == 1 and (flags & FLAG_NATIVE_VIDEO) == 0)


@njit
def _plays(c: I64, d: I64, cr: int, files: I64, fit: I64, block: int) -> bool:
    """Duration, protocol and bitrate of video and audio (and of a native video asset)."""
    duration = c[cr, C_DURATION]
    if fit[block + B_EXACT_N] > 0:
        found = False
        for i in range(fit[block + B_EXACT_N]):
            found |= fit[block + B_EXACT + i] == duration
        if not found:
            return False
    elif duration < fit[block + B_DURATION_MIN] or duration > fit[block + B_DURATION_MAX]:
        return False
    if fit[block + B_PROTOCOLS] != 0 and (fit[block + B_PROTOCOLS] & c[cr, C_PROTOCOLS]) == 0:
        return False
    low = fit[block + B_KBPS_MIN]
    high = fit[block + B_KBPS_MAX]
    if low == 0 and high == 0:
        return True
    mimes = fit[block + B_MIMES]
    for i in range(d[cr, D_FILES], d[cr, D_FILES + 1]):
        if mimes != 0 and (mimes & files[i, FILE_MIME]) == 0:
            continue
        kbps = files[i, FILE_KBPS]
        if kbps == 0 or (kbps >= low and (high == 0 or kbps <= high)):
            return True
    return False


@njit
def _pairs(
    eligible_positions: I32,
    n: int,
    first: int,
    turn: int,
    members: I32,
    c: I64,
    d: I64,
    files: I64,
    fit: I64,
    allowed: U64,
    out: I32,
) -> int:
    m = 0
    room = out.shape[1]
    offered = fit[F_MEDIA]
    needed = fit[F_FLAGS]
    for k in range(n):
        e = first + k
        if e >= n:
            e -= n
        li = eligible_positions[e]
        start = members[li]
        count = members[li + 1] - start
        at = 0
        if turn > 0 and count > 0:
            at = turn % count
        for _ in range(count):
            cr = members[start + at]
            at += 1
            if at == count:
                at = 0
            # all in one body: a call here would cost more than the checks
            media = c[cr, C_MEDIA]
            if (media & offered) == 0:
                continue
            flags = c[cr, C_FLAGS]
            if (flags & needed) != needed or ((allowed[cr >> 6] >> np.uint64(cr & 63)) & ONE) == ZERO:
                continue
            block = F_BLOCKS
            if media == 1:
                size = c[cr, C_SIZE]
                if ((fit[F_SIZES + (size >> SIZE_SHIFT)] >> (size & 31)) & 1) == 0:
                    continue
            elif media == 2:
                block = F_BLOCKS + BLOCK_SIZE
            elif media == 4:
                block = F_BLOCKS + 2 * BLOCK_SIZE
            else:
                block = F_BLOCKS + 3 * BLOCK_SIZE
            if (c[cr, C_ATTRIBUTES] & fit[block + B_ATTRIBUTES]) != 0:
                continue
            if (c[cr, C_APIS] & ~fit[block + B_APIS]) != 0 or (flags & fit[block + B_FORBIDDEN]) != 0:
                continue
            mimes = fit[block + B_MIMES]
            if mimes != 0 and (mimes & c[cr, C_MIMES]) == 0:
                continue
            if media == 8 and not _native_fits(flags, d, cr, fit):
                continue
            plays = media == 2 or media == 4 or (media == 8 and fit[F_VIDEO_ASSET] == 1)
            if plays and not _plays(c, d, cr, files, fit, block):
                continue
            if m == room:
                return -1
            out[0, m] = li
            out[1, m] = cr
            m += 1
    return m


@njit
def fitting(
    eligible_positions: I32,
    n: int,
    members: I32,
    columns: I64,
    details: I64,
    files: I64,
    fit: I64,
    allowed: U64,
    out: I32,
) -> int:
    """Pairs (line item, creative that fits), grouped by line item, into ``out[0]`` and ``out[1]``; returns how many.

    ``members[li]``..``members[li + 1]`` are the bounds of its creatives further on in ``members`` (CSR in one array).
    ``allowed`` is a bitset over creatives: what the request's block lists leave. Too many: as in :func:`eligible`, by
    a turn of line items and, within each, of creatives.
    """
    if n == 0 or fit[F_MEDIA] == 0:
        return 0
    m = _pairs(eligible_positions, n, 0, 0, members, columns, details, files, fit, allowed, out)
    if m >= 0:
        return m
    draw = mix64_kernel(np.uint64(fit[F_KEY]))
    first = int(draw % np.uint64(n))
    turn = int(mix64_kernel(draw) >> np.uint64(33))
    _pairs(eligible_positions, n, first, turn, members, columns, details, files, fit, allowed, out)
    return int(out.shape[1])
