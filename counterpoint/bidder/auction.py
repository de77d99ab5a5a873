"""The steps of a decision joined into two compiled calls, for the common case.

Each call of a compiled function costs about 0.05 us for each array it is handed, and each array is handed to several
steps: one call a step cost more than the steps themselves. What is computed is the steps' own code, called from here.
The compiled code is called as it is (:func:`compiled_for`), with what was checked once per View.

A test holds both ways of deciding equal.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from counterpoint.base.jit import compiled_for, njit
from counterpoint.bidder import fits, kernels
from counterpoint.bidder.scratch import Scratch
from counterpoint.bidder.view import ArmTables, View
from counterpoint.bidding.policy import CompiledBidding, price
from counterpoint.catalog import kernels as index_kernels
from counterpoint.creative.policy import CompiledCreative, choose

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]
U64 = NDArray[np.uint64]

COUNT_MATCHED: Final = kernels.VERDICTS  # in ``counts``, behind the verdicts
COUNT_PAIRS: Final = kernels.VERDICTS + 1
NO_RECORDS: Final = np.frombuffer(bytes(32), np.int64).reshape(-1, 4)[:0]  # of a person; read-only


@njit
def match(
    rows: U64,
    positions: I32,
    query: I64,
    live: U64,
    li_table: I64,
    campaign_open: U8,
    accumulator: U64,
    line_items: I32,
    rules: I64,
    ceilings: I64,
    verdicts: NDArray[np.int8],
    counts: I64,
    limited: I64,
    left: I64,
    arm: int,
    events: I64,
    known_since_ns: int,
    now_ns: int,
) -> int:
    """``eligible``, then ``admit``: how many line items were admitted; ``counts[COUNT_MATCHED]``: matched.

    ``left[purse, arm]``: see ``CatalogPart.rules``."""
    n = index_kernels.eligible(rows, positions, query, live, li_table, campaign_open, accumulator, line_items)
    kept = 0
    if n > 0:
        kept = kernels.admit(
            n,
            line_items,
            rules,
            left,
            arm,
            ceilings,
            events,
            known_since_ns,
            now_ns,
            verdicts,
            counts,
            limited,
        )
    counts[COUNT_MATCHED] = n
    return kept


@njit
def auction(
    line_items: I32,
    members: I32,
    of_member: I32,
    candidates: I32,
    weight: F64,
    click_rate: F64,
    campaign_of: I32,
    exploration: I64,
    epsilon: float,
    uniform_flag: int,
    chosen_li: I32,
    chosen_cr: I32,
    chosen_propensity: F64,
    chosen_ctr: F64,
    money: I64,
    values: F64,
    ceilings: I64,
    tables: F64,
    segment_values: F64,
    places: U64,
    place_tables: I64,
    names: U64,
    segment_hashes: U64,
    factors: F64,
    calibrations: F64,
    context: NDArray[np.uint32],
    out_money: I64,
    out_rates: F64,
    rules: I64,
    top_ints: I64,
    top_floats: F64,
    counts: I64,
    left: I64,
    arm: int,
    n: int,
    class_fits: U8,
    allowed: U64,
    segment: int,
    auction_type: int,
    floor: int,
    key: np.uint64,
    events: I64,
) -> int:
    """``pairs``, ``choose``, ``price`` and ``rank`` for an imp of one media type: how many candidates are ranked.

    ``counts[COUNT_PAIRS]``: the pairs that fitted; -1 where there is no room for them and nothing was decided.
    """
    m = fits.pairs(line_items, n, members, of_member, class_fits, allowed, candidates)
    counts[COUNT_PAIRS] = m
    if m <= 0:
        return 0
    k = choose(
        m,
        candidates[0],
        candidates[1],
        weight,
        click_rate,
        campaign_of,
        exploration,
        epsilon,
        uniform_flag,
        key,
        chosen_li,
        chosen_cr,
        chosen_propensity,
        chosen_ctr,
    )
    price(
        k,
        chosen_li,
        chosen_ctr,
        money,
        values,
        ceilings,
        tables,
        segment_values,
        places,
        place_tables,
        names,
        segment_hashes,
        factors,
        calibrations,
        context,
        events,
        segment,
        auction_type,
        floor,
        key,
        out_money,
        out_rates,
    )
    return kernels.rank(
        k,
        chosen_li,
        chosen_cr,
        chosen_ctr,
        chosen_propensity,
        out_money,
        out_rates,
        rules,
        left,
        arm,
        key,
        top_ints,
        top_floats,
        counts,
    )


class ArmArguments:
    """:func:`match` and :func:`auction` with the arguments that stay the same from request to request.

    ``match(events, known_since_ns, now_ns)`` and ``auction(n, class_fits, allowed, segment, auction_type, floor, key,
    events)``; arrays one after the other in memory, numbers of 64 bits, ``key`` without sign."""

    __slots__ = ("auction", "bidding", "creative", "left", "match", "tables", "view")

    def __init__(
        self,
        view: View,
        tables: ArmTables,
        bidding: CompiledBidding,
        creative: CompiledCreative,
        s: Scratch,
        left: I64,
        arm: int,
    ) -> None:
        part = view.part
        index = part.index
        self.view = view
        self.tables = tables
        self.bidding = bidding
        self.creative = creative
        self.left = left
        matching: tuple[Any, ...] = (
            index.rows,
            index.positions,
            s.query.data,
            view.live,
            index.li_table,
            index.all_open,
            s.index.accumulator,
            s.index.eligible,
            part.rules,
            tables.ceilings,
            s.verdicts,
            s.counts,
            s.limited,
            left,
            arm,
        )
        self.match: Callable[..., int] = partial(compiled_for(match, *matching, NO_RECORDS, 0, 0), *matching)
        deciding: tuple[Any, ...] = (
            s.index.eligible,
            index.members,
            part.fit_classes.of_member,
            s.index.candidates,
            creative.weight,
            creative.click_rate,
            part.frame.campaign_of,
            tables.exploration,
            creative.epsilon,
            1 if creative.fallback else 0,
            s.chosen_li,
            s.chosen_cr,
            s.chosen_propensity,
            s.chosen_ctr,
            bidding.money,
            bidding.values,
            tables.ceilings,
            *bidding.market,
            *bidding.value_model,
            s.context,
            s.money,
            s.rates,
            part.rules,
            s.top_ints,
            s.top_floats,
            s.counts,
            left,
            arm,
        )
        each = (0, part.fit_classes.nothing, index.all_creatives, 0, 0, 0, np.uint64(0), NO_RECORDS)
        self.auction: Callable[..., int] = partial(compiled_for(auction, *deciding, *each), *deciding)

    def serves(
        self, view: View, tables: ArmTables, bidding: CompiledBidding, creative: CompiledCreative, left: I64
    ) -> bool:
        return (
            self.view is view
            and self.tables is tables
            and self.bidding is bidding
            and self.creative is creative
            and self.left is left
        )
