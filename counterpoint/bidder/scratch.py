"""Where one serving thread writes while it decides: allocated once per View's catalog, used again for each request."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from counterpoint.bidder.contexts import Contexts
from counterpoint.bidder.kernels import COUNTS, TOP_FLOATS, TOP_INTS
from counterpoint.bidder.part import CatalogPart
from counterpoint.catalog.facets import Facets
from counterpoint.catalog.index import MAX_ELIGIBLE, Fit, Query
from counterpoint.catalog.index import Scratch as IndexScratch

CANDIDATES_MAX: Final = 4  # ranked bids kept per imp: the next is taken when commit refuses the one before
FITS_MAX: Final = 2_048  # imp shapes remembered; past that the memo starts anew

FitKey = tuple[object, ...]


class ImpFit:
    """What imps of one shape accept: for the index, and by class of creative."""

    __slots__ = ("classes", "fit")

    def __init__(self, fit: Fit, classes: NDArray[np.uint8]) -> None:
        self.fit = fit
        self.classes = classes


class Scratch:
    """Belongs to one CatalogPart and one thread; what it remembers only saves work."""

    __slots__ = (
        "arguments",
        "at",
        "chosen_cr",
        "chosen_ctr",
        "chosen_li",
        "chosen_propensity",
        "context",
        "contexts",
        "counts",
        "facets",
        "fits",
        "index",
        "limited",
        "media_ctr",
        "media_li",
        "media_money",
        "media_rates",
        "money",
        "part",
        "query",
        "rates",
        "top_floats",
        "top_ints",
        "top_rows",
        "verdicts",
    )

    def __init__(self, part: CatalogPart) -> None:
        self.part = part
        self.facets = Facets(part.index)
        self.query: Query = part.index.new_query()
        self.index: IndexScratch = part.index.new_scratch()
        self.arguments: dict[int, Any] = {}  # by arm: auction.ArmArguments, of the View they were made for
        self.fits: dict[FitKey, ImpFit] = {}
        self.verdicts: NDArray[np.int8] = np.zeros(MAX_ELIGIBLE, np.int8)
        self.limited: NDArray[np.int64] = np.zeros(MAX_ELIGIBLE + 2, np.int64)
        self.counts: NDArray[np.int64] = np.zeros(COUNTS, np.int64)
        self.chosen_li: NDArray[np.int32] = np.zeros(MAX_ELIGIBLE, np.int32)
        self.chosen_cr: NDArray[np.int32] = np.zeros(MAX_ELIGIBLE, np.int32)
        self.chosen_ctr: NDArray[np.float64] = np.zeros(MAX_ELIGIBLE, np.float64)
        self.chosen_propensity: NDArray[np.float64] = np.zeros(MAX_ELIGIBLE, np.float64)
        self.money: NDArray[np.int64] = np.zeros((4, MAX_ELIGIBLE), np.int64)
        self.rates: NDArray[np.float64] = np.zeros((5, MAX_ELIGIBLE), np.float64)
        self.contexts = Contexts()
        self.context: NDArray[np.uint32] = self.contexts.array  # of the imp at hand
        # for imps that offer more than one media type: prices are per media type, so each has its own pass
        self.at: NDArray[np.int32] = np.zeros(MAX_ELIGIBLE, np.int32)
        self.media_li: NDArray[np.int32] = np.zeros(MAX_ELIGIBLE, np.int32)
        self.media_ctr: NDArray[np.float64] = np.zeros(MAX_ELIGIBLE, np.float64)
        self.media_money: NDArray[np.int64] = np.zeros((4, MAX_ELIGIBLE), np.int64)
        self.media_rates: NDArray[np.float64] = np.zeros((5, MAX_ELIGIBLE), np.float64)
        # the ranked candidates, in rows that are read as they stand: whole numbers first, then the others
        rows = np.zeros((CANDIDATES_MAX, TOP_INTS + TOP_FLOATS), np.int64)
        self.top_ints: NDArray[np.int64] = rows[:, :TOP_INTS]
        self.top_floats: NDArray[np.float64] = rows.view(np.float64)[:, TOP_INTS:]
        self.top_rows = rows.data.cast("B")
