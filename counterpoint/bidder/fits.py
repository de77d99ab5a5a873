"""Which creatives fit an imp, at the price of reading one array in order.

Creatives that no imp can tell apart (same media, size, types, flags, lengths ...) form a class, and there are few. What
fits an imp is worked out for one sample of each class, by the index's own kernel, once per shape of imp, and kept with
the shape. A request then walks the classes of its line items' creatives, which lie side by side: reading each creative's
own row, at random places in memory, cost more than all the rest of the decision.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from counterpoint.base.jit import njit
from counterpoint.catalog import kernels
from counterpoint.catalog.index import CatalogIndex, Fit
from counterpoint.catalog.query import D_FILES

I32 = NDArray[np.int32]
U8 = NDArray[np.uint8]
U64 = NDArray[np.uint64]


class FitClasses:
    """``of_member[k]`` is the class of the creative ``index.members[k]``; of its bounds, nothing."""

    __slots__ = ("_everyone", "_first", "count", "nothing", "of_member", "samples")

    def __init__(self, index: CatalogIndex) -> None:
        columns, details, files = index.cr_columns, index.cr_details, index.cr_files
        known: dict[bytes, int] = {}
        samples: list[int] = []
        of_creative = np.zeros(len(index.creative_ids) + 1, np.int32)
        for at in range(len(index.creative_ids)):
            detail = details[at].copy()
            own_files = files[detail[D_FILES] : detail[D_FILES + 1]]
            detail[D_FILES : D_FILES + 2] = 0  # where they stand is no trait, what they are is
            key = columns[at].tobytes() + detail.tobytes() + own_files.tobytes()
            found = known.get(key)
            if found is None:
                found = known[key] = len(samples)
                samples.append(at)
            of_creative[at] = found
        self.count = len(samples)
        bounds = len(index.line_item_ids) + 1
        self.of_member: I32 = np.zeros(len(index.members), np.int32)
        self.of_member[bounds:] = of_creative[index.members[bounds:]]
        # the samples as the creatives of one line item, so that the index's kernel can be asked about them
        self.samples: I32 = np.array([2, 2 + self.count, *samples], np.int32)
        self.nothing: U8 = np.zeros(max(1, self.count), np.uint8)  # fits
        self._first: I32 = np.zeros(1, np.int32)
        self._everyone: U64 = np.full(index.creative_words, 0xFFFF_FFFF_FFFF_FFFF, np.uint64)

    def that_fit(self, index: CatalogIndex, fit: Fit) -> U8:
        """1 for each class that fits the imp."""
        class_fits = self.nothing.copy()
        out = np.zeros((2, max(1, self.count)), np.int32)
        m = kernels.fitting(
            self._first,
            1,
            self.samples,
            index.cr_columns,
            index.cr_details,
            index.cr_files,
            fit.data,
            self._everyone,
            out,
        )
        fitting = set(out[1, :m].tolist())
        for number, sample in enumerate(self.samples[2:].tolist()):
            class_fits[number] = sample in fitting
        return class_fits


@njit
def pairs(
    line_items: I32, n: int, members: I32, of_member: I32, class_fits: U8, allowed: U64, out: I32
) -> int:
    """As ``catalog.kernels.fitting`` while there is room: (line item, creative) into ``out``, grouped; -1 when full."""
    m = 0
    room = out.shape[1]
    one = np.uint64(1)
    for k in range(n):
        li = line_items[k]
        for at in range(members[li], members[li + 1]):
            if class_fits[of_member[at]] == 0:
                continue
            cr = members[at]
            if ((allowed[cr >> 6] >> np.uint64(cr & 63)) & one) == 0:
                continue
            if m == room:
                return -1
            out[0, m] = li
            out[1, m] = cr
            m += 1
    return m
