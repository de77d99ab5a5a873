"""What one run of ``decide`` saw between its steps, copied out for whoever asks why."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from counterpoint.bidder.scratch import Scratch


class ImpSeen:
    """The arrays of one imp: ``cand_*`` by pair that fitted, the others by line item drawn for (none where nothing
    fitted). Of ``money`` and ``rates`` the rows are those of ``bidding.policy.price``."""

    def __init__(self, cand_li: NDArray[np.int32], cand_cr: NDArray[np.int32]) -> None:
        self.cand_li = cand_li
        self.cand_cr = cand_cr
        self.chosen_li: NDArray[np.int32] = np.zeros(0, np.int32)
        self.chosen_cr: NDArray[np.int32] = np.zeros(0, np.int32)
        self.chosen_ctr: NDArray[np.float64] = np.zeros(0, np.float64)
        self.money: NDArray[np.int64] = np.zeros((4, 0), np.int64)
        self.rates: NDArray[np.float64] = np.zeros((3, 0), np.float64)
        self.context = b""
        self.floor = 0
        self.key = 0

    def choice_of(self, line_item: int) -> int | None:
        """Where the line item stands among the choices; None: nothing of it fitted."""
        at = np.flatnonzero(self.chosen_li == line_item)
        return int(at[0]) if len(at) else None


class Seen:
    """A ``Trace``. Copies, because the decision uses its arrays again."""

    def __init__(self) -> None:
        self.matched: list[int] = []  # line items
        self.verdicts: list[int] = []  # of each, kernels.ADMITTED ...
        self.imps: dict[int, ImpSeen] = {}

    def eligible(self, n: int, scratch: Scratch) -> None:
        self.matched = scratch.index.eligible[:n].tolist()

    def admitted(self, n: int, kept: int, scratch: Scratch) -> None:
        self.verdicts = scratch.verdicts[:n].tolist()

    def fitting(self, imp: int, m: int, scratch: Scratch) -> None:
        self.imps[imp] = ImpSeen(scratch.index.cand_li[:m].copy(), scratch.index.cand_cr[:m].copy())

    def priced(self, imp: int, n: int, floor: int, key: int, media: int, scratch: Scratch) -> None:
        seen = self.imps[imp]
        k = 1 + int(np.count_nonzero(np.diff(seen.cand_li)))  # pairs of one line item stand together
        seen.chosen_li = scratch.chosen_li[:k].copy()
        seen.chosen_cr = scratch.chosen_cr[:k].copy()
        seen.chosen_ctr = scratch.chosen_ctr[:k].copy()
        seen.money = scratch.money[:, :k].copy()
        seen.rates = scratch.rates[:, :k].copy()
        seen.context = scratch.contexts.packed()
        seen.floor, seen.key = floor, key
