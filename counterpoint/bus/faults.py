"""What can go wrong on a bus, on request and by seed: batches that overtake, come twice or never come."""

from __future__ import annotations

from collections.abc import Collection
from random import Random

from counterpoint.events.subjects import FACTS

OVERTAKEN_MAX = 8  # a late batch is overtaken by at most this many others


class Faults:
    """Rates in [0, 1] per published batch; the same seed and the same batches give the same faults.

    ``reorder``: the batch overtakes up to ``OVERTAKEN_MAX`` batches of other subjects that nobody has read yet
    (publishers race, one publisher's own subject stays in order). ``duplicate``: it is stored a second time under a
    new sequence, as after a retry past the duplicate window. ``drop``: it is lost, only in ``drop_streams``.
    """

    def __init__(
        self,
        seed: int,
        *,
        reorder: float = 0.0,
        duplicate: float = 0.0,
        drop: float = 0.0,
        drop_streams: Collection[str] = (FACTS,),
    ) -> None:
        assert all(0.0 <= rate <= 1.0 for rate in (reorder, duplicate, drop)), "rates are probabilities"
        self.seed = seed
        self._rng = Random(seed)
        self._reorder = reorder
        self._duplicate = duplicate
        self._drop = drop
        self._drop_streams = frozenset(drop_streams)
        self.reordered = 0
        self.duplicated = 0
        self.dropped = 0

    def drops(self, stream: str) -> bool:
        # the draw is made for every stream, so that which streams may drop does not shift the other faults
        hit = self._rng.random() < self._drop and stream in self._drop_streams
        self.dropped += hit
        return hit

    def repeats(self) -> bool:
        hit = self._rng.random() < self._duplicate
        self.duplicated += hit
        return hit

    def overtakes(self) -> int:
        """By how many places the batch jumps ahead, 0 for none."""
        if self._rng.random() >= self._reorder:
            return 0
        return self._rng.randint(1, OVERTAKEN_MAX)
