"""From structs to bits: the arrays behind the index. Run at each load, never on the request path."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeVar

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from counterpoint.catalog import normal
from counterpoint.catalog import query as q
from counterpoint.catalog.model import MTYPE, Catalog, Creative, LineItem, Media

FOREVER_NS: Final = 2**63 - 1
K = TypeVar("K", str, int)
MEDIA_KEY: Final = {medium.value: str(1 << (number - 1)) for medium, number in MTYPE.items()}


class Sparse(Struct):
    """A dimension with many values: a dense row where a value is common, a list of positions where it is rare."""

    base: int  # row of the line items that do not limit it; -1: nobody does
    dense: dict[str, int]  # value -> row
    lists: dict[str, tuple[int, int]]  # value -> start, end in the position lists


class Rows:
    """Bit rows over ``count`` positions, equal rows stored once."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.words = max(1, (count + 63) // 64)
        self._rows: list[NDArray[np.uint64]] = []
        self._known: dict[bytes, int] = {}
        self.positions: list[NDArray[np.int32]] = []
        self._position_count = 0

    def bits(self, positions: Sequence[int] | NDArray[np.int32]) -> NDArray[np.uint64]:
        flags = np.zeros(self.words * 64, np.uint8)
        flags[np.asarray(positions, np.int64)] = 1
        return np.packbits(flags, bitorder="little").view(np.uint64)

    def add(self, row: NDArray[np.uint64]) -> int:
        key = row.tobytes()
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = len(self._rows)
            self._rows.append(row)
        return known

    def add_list(self, positions: NDArray[np.int32]) -> tuple[int, int]:
        start = self._position_count
        self.positions.append(positions)
        self._position_count += len(positions)
        return start, self._position_count

    def matrix(self) -> NDArray[np.uint64]:
        if not self._rows:
            return np.zeros((1, self.words), np.uint64)
        return np.ascontiguousarray(np.stack(self._rows))

    def position_array(self) -> NDArray[np.int32]:
        return np.concatenate(self.positions) if self.positions else np.zeros(1, np.int32)


def by_value(
    targets: Iterable[tuple[K, ...]], read: Callable[[tuple[K, ...]], Iterable[str]]
) -> tuple[NDArray[np.int32], dict[str, NDArray[np.int32]]]:
    """Positions that name no value, and positions by value in ascending order.

    Line items often share a list (a daypart, a country set), so each different one is read once.
    """
    groups: dict[tuple[K, ...], list[int]] = {}
    for position, values in enumerate(targets):
        at = groups.get(values)
        if at is None:
            groups[values] = [position]
        else:
            at.append(position)
    unlimited: list[NDArray[np.int32]] = []
    members: dict[str, list[NDArray[np.int32]]] = {}
    for values, at in groups.items():
        positions = np.asarray(at, np.int32)
        if not values:
            unlimited.append(positions)
        for name in set(read(values)):
            members.setdefault(name, []).append(positions)
    return _joined(unlimited), {name: _joined(parts) for name, parts in sorted(members.items())}


def _joined(parts: list[NDArray[np.int32]]) -> NDArray[np.int32]:
    if len(parts) == 1:
        return parts[0]
    return np.sort(np.concatenate(parts)) if parts else np.zeros(0, np.int32)


def each(read: Callable[[K], str]) -> Callable[[tuple[K, ...]], list[str]]:
    """Read a list value by value; what reads as nothing is dropped."""
    return lambda values: [name for name in map(read, values) if name]


class Dense(Struct):
    """A dimension with few values: one row each; ``base`` (nobody's value) when the request's value is unknown."""

    base: int  # -1: nobody limits it, nothing to check
    rows: dict[str, int]


def dense(
    rows: Rows, targets: Iterable[tuple[K, ...]], read: Callable[[tuple[K, ...]], Iterable[str]]
) -> Dense:
    """Row of a value = those that name it or name none."""
    unlimited, members = by_value(targets, read)
    if len(unlimited) == rows.count:
        return Dense(-1, {})
    base = rows.bits(unlimited)
    return Dense(rows.add(base), {v: rows.add(base | rows.bits(at)) for v, at in members.items()})


def naming(
    rows: Rows, targets: Iterable[tuple[K, ...]], read: Callable[[tuple[K, ...]], Iterable[str]]
) -> dict[str, int]:
    """Row of a value = those that name it."""
    _, members = by_value(targets, read)
    return {v: rows.add(rows.bits(at)) for v, at in members.items()}


def sparse(
    rows: Rows,
    targets: Iterable[tuple[K, ...]],
    read: Callable[[tuple[K, ...]], Iterable[str]],
    *,
    blocks: bool = False,
) -> Sparse:
    """Lists and rows of those that name a value; ``base`` of those that name none, unless it is about blocking.

    A list of n positions costs 4n bytes and n steps a request, a row 8 bytes and a quarter step a word.
    """
    unlimited, members = by_value(targets, read)
    if not members:
        return Sparse(-1, {}, {})
    found = Sparse(-1 if blocks else rows.add(rows.bits(unlimited)), {}, {})
    for value, at in members.items():
        if len(at) > 2 * rows.words:
            found.dense[value] = rows.add(rows.bits(at))
        else:
            found.lists[value] = rows.add_list(at)
    return found


def device_types(declared: Iterable[int]) -> set[int]:
    """AdCOM type 1 (mobile or tablet) is what phones (4) and tablets (5) are too."""
    wanted = set(declared)
    return wanted | {4, 5} if 1 in wanted else wanted


def size_key(w: int, h: int) -> str:
    return f"{w}x{h}"


def is_https(url: str) -> bool:
    return not url or url.lower().startswith("https://")


def is_secure(creative: Creative) -> bool:
    """Every asset the markup fetches is https; plain ``http:`` inside HTML counts against it."""
    urls = [creative.click_url, creative.image_url, *(f.url for f in creative.files)]
    if creative.native is not None:
        urls += [creative.native.main_url, creative.native.icon_url, creative.native.video_vast_url]
    return all(is_https(url) for url in urls) and "http://" not in creative.html.lower()


def mimes_of(creative: Creative) -> set[str]:
    """Declared types, those of its files and, for a banner that declares none, what its markup is."""
    found = {normal.mime(m) for m in creative.mimes} | {normal.mime(f.mime) for f in creative.files}
    if creative.media is Media.BANNER and not found:
        found = {"text/html"} if creative.html else {normal.image_mime(creative.image_url)}
    return found - {""}


def banner_type(creative: Creative) -> int:
    """OpenRTB ``btype``: 2 XHTML banner, 3 JavaScript, 4 iframe."""
    html = creative.html.lower()
    if "<script" in html:
        return 3
    return 4 if "<iframe" in html else 2


def code_bits(codes: Iterable[int]) -> int:
    """A bit per AdCOM code; codes past the last bit share it, so that an unknown one can only exclude."""
    bits = 0
    for code in codes:
        if code >= 0:
            bits |= 1 << min(code, q.BIT_OTHER)
    return bits


def serves(item: LineItem, creative: Creative) -> bool:
    """Whether the line item's own targeting leaves this creative: its media types and, of banners, its sizes."""
    target = item.targeting
    if creative.paused or (target.media and creative.media not in target.media):
        return False
    if creative.media is Media.BANNER and target.sizes:
        return size_key(creative.w, creative.h) in {s.strip().lower() for s in target.sizes}
    return True


class Creatives(Struct):
    """Creative columns and the numbering of sizes and mime types they use."""

    columns: NDArray[np.int64]
    details: NDArray[np.int64]
    files: NDArray[np.int64]
    sizes: dict[tuple[int, int], int]
    mimes: dict[str, int]  # id; bit = 1 << id


def compile_creatives(creatives: Sequence[Creative]) -> Creatives:
    sizes: dict[tuple[int, int], int] = {}
    mimes: dict[str, int] = {}
    columns = np.zeros((max(1, len(creatives)), q.CREATIVE_COLUMNS), np.int64)
    details = np.zeros((len(columns), q.DETAIL_COLUMNS), np.int64)
    files: list[tuple[int, int]] = []

    def bit(mime: str) -> int:
        if not mime:
            return 0
        # past the last bit no type can be offered: such a creative fits only where any type does
        return 1 << mimes.setdefault(mime, len(mimes)) if mime in mimes or len(mimes) < q.MIMES_MAX else 0

    for position, creative in enumerate(creatives):
        c = columns[position]
        d = details[position]
        c[q.C_MEDIA] = 1 << (MTYPE[creative.media] - 1)
        c[q.C_SIZE] = -1
        flags = q.FLAG_SECURE * is_secure(creative) | q.FLAG_SKIPPABLE * creative.skippable
        if creative.media is Media.BANNER:
            c[q.C_SIZE] = sizes.setdefault((creative.w, creative.h), len(sizes))
            flags |= q.FLAG_BANNER_TYPE << banner_type(creative)
        attributes = creative.attributes
        c[q.C_ATTRIBUTES] = 1 if attributes is None else code_bits(attributes)
        if creative.skippable:
            c[q.C_ATTRIBUTES] |= 1 << 16
        mask = 0
        for mime in sorted(mimes_of(creative)):
            mask |= bit(mime)
        c[q.C_MIMES] = mask
        c[q.C_APIS] = code_bits(creative.apis)
        c[q.C_DURATION] = creative.duration_s
        c[q.C_PROTOCOLS] = code_bits(creative.protocols)
        d[q.D_FILES] = len(files)
        files += [(bit(normal.mime(f.mime)), f.bitrate_kbps) for f in creative.files]
        d[q.D_FILES + 1] = len(files)
        if creative.media is Media.NATIVE and creative.native is not None:
            assets = creative.native
            d[q.D_TITLE] = len(assets.title)
            d[q.D_IMAGES : q.D_IMAGES + 6] = [
                *((assets.main_w, assets.main_h) if assets.main_url else (0, 0)),
                bit(normal.image_mime(assets.main_url)),
                *((assets.icon_w, assets.icon_h) if assets.icon_url else (0, 0)),
                bit(normal.image_mime(assets.icon_url)),
            ]
            for kind, text in assets.data_by_type().items():
                d[q.D_DATA + kind] = len(text)
            flags |= q.FLAG_NATIVE_VIDEO * bool(assets.video_vast_url)
        c[q.C_FLAGS] = flags
    table = np.asarray(files, np.int64).reshape(-1, 2) if files else np.zeros((1, 2), np.int64)
    return Creatives(columns, details, table, sizes, mimes)


def compile_members(catalog: Catalog, creative_at: dict[str, int]) -> NDArray[np.int32]:
    """CSR in one array: ``n + 1`` bounds, then creative positions; bounds count from the start of the array."""
    first = len(catalog.line_items) + 1
    bounds = [first]
    members: list[int] = []
    for item in catalog.line_items:
        for creative_id in item.creative_ids:
            at = creative_at[creative_id]
            if serves(item, catalog.creatives[at]):
                members.append(at)
        bounds.append(first + len(members))
    return np.asarray(bounds + members, np.int32)


def line_item_table(catalog: Catalog, campaign_at: dict[str, int]) -> NDArray[np.int64]:
    """campaign, flight start, flight end (ns) of each line item."""
    table = np.zeros((max(1, len(catalog.line_items)), 3), np.int64)
    for position, item in enumerate(catalog.line_items):
        at = campaign_at[item.campaign_id]
        campaign = catalog.campaigns[at]
        end = campaign.ends_at_ns
        table[position] = (at, campaign.starts_at_ns, FOREVER_NS if end is None else end)
    return table
