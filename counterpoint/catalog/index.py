"""The compiled catalog: from a request's plain values to the line items that match and the creatives that fit.

    index = compile_index(catalog)
    query, fit, scratch = index.new_query(), index.new_fit(), index.new_scratch()
    fill_query(index, query, exchange="north", media=("banner",), sizes=((300, 250),), country="USA", now_ns=now, key=key)
    n = index.eligible(query, scratch)                      # scratch.eligible[:n]: line item positions
    allowed = index.allowed_creatives(bcat=("IAB25",))      # None: a block list we cannot read, so no bid
    fill_fit(index, fit, banner=BannerOffer(sizes=((300, 250),)), key=key)
    m = index.fitting(n, fit, scratch, allowed)             # scratch.cand_li[:m], scratch.cand_cr[:m]

Positions are places in the catalog's own order. A CatalogIndex never changes after it is made (the memo of block lists
only saves work), so one may be swapped for the next between two requests.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from counterpoint.catalog import kernels, normal
from counterpoint.catalog import query as q
from counterpoint.catalog.compile import (
    Dense,
    Rows,
    Sparse,
    compile_creatives,
    compile_members,
    dense,
    device_types,
    each,
    line_item_table,
    naming,
    sparse,
)
from counterpoint.catalog.fill import HOST_MAX, banner_sizes, fill_fit, fill_query
from counterpoint.catalog.model import Catalog, UnknownUser
from counterpoint.catalog.query import (
    MAX_CANDIDATES,
    MAX_ELIGIBLE,
    AvOffer,
    BannerOffer,
    Fit,
    ImageAsset,
    NativeOffer,
    Query,
    Scratch,
)

__all__ = [
    "MAX_CANDIDATES",
    "MAX_ELIGIBLE",
    "AvOffer",
    "BannerOffer",
    "CatalogIndex",
    "Fit",
    "ImageAsset",
    "NativeOffer",
    "Query",
    "Scratch",
    "banner_sizes",
    "compile_index",
    "fill_fit",
    "fill_query",
]

BLOCK_MEMO_MAX = 4_096  # block lists remembered; past that the memo starts anew
MEMO_TEXT_MAX = 16_384  # characters of a block list worth remembering


class CatalogIndex:
    """Numpy arrays over positions: ``li_*`` by line item, ``cr_*`` by creative, ``ca_*`` by campaign."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.digest = catalog.digest
        items, creatives, campaigns = catalog.line_items, catalog.creatives, catalog.campaigns
        self.line_item_ids = tuple(item.id for item in items)
        self.creative_ids = tuple(creative.id for creative in creatives)
        self.campaign_ids = tuple(campaign.id for campaign in campaigns)
        self.advertiser_ids = tuple(advertiser.id for advertiser in catalog.advertisers)
        self.line_item_at = {name: at for at, name in enumerate(self.line_item_ids)}
        self.creative_at = {name: at for at, name in enumerate(self.creative_ids)}
        self.campaign_at = {name: at for at, name in enumerate(self.campaign_ids)}
        self.advertiser_at = {name: at for at, name in enumerate(self.advertiser_ids)}

        made = compile_creatives(creatives)
        self.cr_columns, self.cr_details, self.cr_files = made.columns, made.details, made.files
        self.sizes, self.mimes = made.sizes, made.mimes
        self.members = compile_members(catalog, self.creative_at)
        self.li_table = line_item_table(catalog, self.campaign_at)
        self._compile_targeting()
        self._compile_money()
        self._compile_blocks()

        on = [not item.paused and not campaigns[self.li_table[at, 0]].paused for at, item in enumerate(items)]
        self.live = self._bits(on)
        self.all_open = np.ones(max(1, len(campaigns)), np.uint8)
        for array in vars(self).values():
            if isinstance(array, np.ndarray):
                array.flags.writeable = False

    # -- what it is made of -----------------------------------------------------------------------------------

    def _compile_targeting(self) -> None:
        targets = [item.targeting for item in self.catalog.line_items]
        rows = Rows(len(targets))
        self.words = rows.words
        self.exchange: Dense = dense(rows, [t.exchanges for t in targets], each(str))
        self.country = dense(rows, [t.countries for t in targets], each(normal.country))
        self.device_type = dense(
            rows, [t.device_types for t in targets], lambda given: map(str, device_types(given))
        )
        self.os = dense(rows, [t.os for t in targets], each(normal.os))
        self.channel = dense(rows, [t.channels for t in targets], each(str.lower))
        self.hour = dense(rows, [t.hours_utc for t in targets], each(str))
        self.language = dense(rows, [t.languages for t in targets], each(normal.language))
        # those that somebody limits, by their place among the values of fill_query
        single = (
            self.exchange,
            self.country,
            self.device_type,
            self.os,
            self.channel,
            self.hour,
            self.language,
        )
        self.dimensions = tuple((at, d.rows.get, d.base) for at, d in enumerate(single) if d.base >= 0)
        self.category = dense(rows, [t.categories for t in targets], each(normal.category))
        blocked = [t.categories_blocked for t in targets]
        self.category_blocked: dict[str, int] = naming(rows, blocked, each(normal.category))
        self.any_category_blocked: int = rows.add(rows.bits([at for at, v in enumerate(blocked) if v]))
        self.domain: Sparse = sparse(rows, [t.domains for t in targets], each(normal.domain))
        self.domain_blocked = sparse(
            rows, [t.domains_blocked for t in targets], each(normal.domain), blocks=True
        )
        self.region = sparse(rows, [t.regions for t in targets], each(normal.region))
        # Media and size of what it could serve: implied by its creatives, after its own limits on them.
        media = self.cr_columns[:, q.C_MEDIA].tolist()
        named = {number: f"{w}x{h}" for (w, h), number in self.sizes.items()}
        sizes = [named.get(number, "") for number in self.cr_columns[:, q.C_SIZE].tolist()]
        members = self.members.tolist()
        owned = [tuple(members[members[at] : members[at + 1]]) for at in range(len(targets))]
        self.media: dict[str, int] = naming(rows, owned, each(lambda at: str(media[at])))  # by media bit
        by_size = naming(rows, owned, each(lambda at: sizes[at]))
        self.size: dict[tuple[int, int], int] = {
            size: by_size[f"{size[0]}x{size[1]}"] for size in self.sizes if f"{size[0]}x{size[1]}" in by_size
        }
        self.rows = rows.matrix()
        self.positions = rows.position_array()

    def _compile_money(self) -> None:
        """Constants of pricing, for the bidder: CPM in micros, rates as declared by their owners."""
        items, campaigns = self.catalog.line_items, self.catalog.campaigns
        self.li_campaign = self.li_table[:, 0].astype(np.int32)
        self.ca_ceiling = np.array([c.bid_ceiling_micros for c in campaigns] or [0], np.int64)
        self.li_bid_min = np.array([i.bid_min_micros for i in items] or [0], np.int64)
        own_max = [
            campaigns[self.li_table[at, 0]].bid_ceiling_micros
            if item.bid_max_micros is None
            else item.bid_max_micros
            for at, item in enumerate(items)
        ]
        self.li_bid_max = np.array(own_max or [0], np.int64)
        self.li_click_rate = np.array([i.expected_click_rate for i in items] or [0.0], np.float64)
        self.li_conversion_rate = np.array([i.expected_conversion_rate for i in items] or [0.0], np.float64)
        caps = [i.frequency_cap for i in items]
        self.li_cap_impressions = np.array([c.impressions if c else 0 for c in caps] or [0], np.int64)
        self.li_cap_window_ns = np.array(
            [c.window_s * 1_000_000_000 if c else 0 for c in caps] or [0], np.int64
        )  # 0 impressions: not capped
        self.li_unknown_user_bids = np.array(
            [i.unknown_user is UnknownUser.BID for i in items] or [True], np.uint8
        )
        self.cr_advertiser = np.array(
            [self.advertiser_at[c.advertiser_id] for c in self.catalog.creatives] or [0], np.int32
        )

    def _compile_blocks(self) -> None:
        creatives = self.catalog.creatives
        self.creative_words = max(1, (len(creatives) + 63) // 64)
        rows = Rows(len(creatives))
        self._cr_category_row = naming(
            rows,
            [creative.categories for creative in creatives],
            lambda given: [name for value in given for name in normal.with_parent(value)],
        )
        self._cr_undeclared = rows.add(rows.bits([at for at, c in enumerate(creatives) if not c.categories]))
        self._cr_language_row = naming(rows, [(c.language,) for c in creatives], each(normal.language))
        sites = {a.id: normal.registrable(a.domain) for a in self.catalog.advertisers}
        self._cr_site_row = naming(rows, [(c.advertiser_id,) for c in creatives], each(sites.__getitem__))
        self._cr_rows = rows.matrix()
        self.all_creatives = np.full(self.creative_words, 0xFFFF_FFFF_FFFF_FFFF, np.uint64)
        self._block_memo: dict[tuple[object, ...], NDArray[np.uint64]] = {}

    def _bits(self, on: Sequence[bool]) -> NDArray[np.uint64]:
        flags = np.zeros(self.words * 64, np.uint8)
        flags[: len(on)] = on
        return np.packbits(flags, bitorder="little").view(np.uint64)

    # -- asking -----------------------------------------------------------------------------------------------

    def new_query(self) -> Query:
        return Query()

    def new_fit(self) -> Fit:
        return Fit(len(self.sizes))

    def new_scratch(self) -> Scratch:
        return Scratch(self.words)

    def live_mask(self, campaign_on: NDArray[np.uint8]) -> NDArray[np.uint64]:
        """``live`` for :meth:`eligible` with campaigns stopped (0) by settings: a View makes one when it is built."""
        on = np.unpackbits(self.live.view(np.uint8), bitorder="little")
        n = len(self.line_item_ids)
        on[:n] &= campaign_on[self.li_campaign[:n]]
        return np.packbits(on, bitorder="little").view(np.uint64)

    def eligible(
        self,
        query: Query,
        scratch: Scratch,
        live: NDArray[np.uint64] | None = None,
        campaign_open: NDArray[np.uint8] | None = None,
    ) -> int:
        """Number of matching line items, ascending in ``scratch.eligible[:n]`` (by turns past MAX_ELIGIBLE).

        ``live``: bits from :meth:`live_mask`. ``campaign_open[ca]`` = 0 keeps a campaign out of this one request
        (no money left in its arm, say). Flights are compared with the query's ``now_ns``.
        """
        return kernels.eligible(
            self.rows,
            self.positions,
            query.data,
            self.live if live is None else live,
            self.li_table,
            self.all_open if campaign_open is None else campaign_open,
            scratch.accumulator,
            scratch.eligible,
        )

    def fitting(self, n: int, fit: Fit, scratch: Scratch, allowed: NDArray[np.uint64] | None = None) -> int:
        """Number of (line item, creative) pairs that fit the imp, in ``scratch.cand_li`` and ``scratch.cand_cr``."""
        return kernels.fitting(
            scratch.eligible,
            n,
            self.members,
            self.cr_columns,
            self.cr_details,
            self.cr_files,
            fit.data,
            self.all_creatives if allowed is None else allowed,
            scratch.candidates,
        )

    def allowed_creatives(
        self,
        *,
        bcat: Sequence[str] = (),
        acat: Sequence[str] = (),
        cattax: int = 1,
        badv: Sequence[str] = (),
        wlang: Sequence[str] = (),
    ) -> NDArray[np.uint64] | None:
        """Bits of the creatives that the request's block lists leave; None when a list cannot be honoured.

        Categories: blocked with their parents' children; a creative without declared category is out when ``bcat`` or
        ``acat`` is given. ``cattax`` other than 1 with a category list cannot be mapped. ``badv`` compares registrable
        domains. ``wlang``: a creative of undeclared language is out.
        """
        if not (bcat or acat or badv or wlang):
            return self.all_creatives
        if (bcat or acat) and cattax != 1:
            return None
        key = (tuple(bcat), tuple(acat), tuple(badv), tuple(wlang))
        known = self._block_memo.get(key)
        if known is not None:
            return known
        made = self._allowed(*key)
        made.flags.writeable = False
        if (
            sum(map(len, bcat)) + sum(map(len, acat)) + sum(map(len, badv)) + sum(map(len, wlang))
            <= MEMO_TEXT_MAX
        ):
            if len(self._block_memo) >= BLOCK_MEMO_MAX:
                self._block_memo.clear()
            self._block_memo[key] = made
        return made

    def _allowed(
        self, bcat: tuple[str, ...], acat: tuple[str, ...], badv: tuple[str, ...], wlang: tuple[str, ...]
    ) -> NDArray[np.uint64]:
        rows = self._cr_rows
        bits = self.all_creatives.copy()
        if bcat or acat:
            bits &= ~rows[self._cr_undeclared]
        # A creative's categories stand in their own row and in their parent's, so blocking IAB7 blocks IAB7-39.
        # Blocking IAB7-39 leaves a creative that says only IAB7.
        for value in bcat:
            row = self._cr_category_row.get(normal.category(value[:16]))
            if row is not None:
                bits &= ~rows[row]
        if acat:
            named = {normal.category(v[:16]) for v in acat}
            for at, creative in enumerate(self.catalog.creatives):
                if not all(named.intersection(normal.with_parent(v)) for v in creative.categories):
                    bits[at >> 6] &= ~np.uint64(1 << (at & 63))
        for value in badv:
            row = self._cr_site_row.get(normal.registrable(value[:HOST_MAX]))
            if row is not None:
                bits &= ~rows[row]
        if wlang:
            spoken = np.zeros_like(bits)
            for value in wlang:
                row = self._cr_language_row.get(normal.language(value[:16]))
                if row is not None:
                    spoken |= rows[row]
            bits &= spoken
        return bits

    def nbytes(self) -> int:
        """Bytes of its arrays."""
        return sum(a.nbytes for a in vars(self).values() if isinstance(a, np.ndarray))


def compile_index(catalog: Catalog) -> CatalogIndex:
    """The index of a checked catalog (``load`` or ``read_catalog``); references are taken to be sound."""
    return CatalogIndex(catalog)
