"""Clicks seen over clicks predicted, by segment: the counts that the value model has to beat (stack.py).

A factor is (seen + PRIOR x parent) / (predicted + PRIOR), parents "*/{media}" and "*": nothing is estimated from nothing.
"""

from __future__ import annotations

from typing import Final

import msgspec

PRIOR: Final = 20.0  # predicted clicks at which a segment counts as much as its parent
FACTOR_MIN, FACTOR_MAX = 0.1, 10.0
SEGMENTS_MAX: Final = 512  # further ones teach only their parents


class Clicks(msgspec.Struct, array_like=True):
    """Decayed."""

    seen: float = 0.0
    predicted: float = 0.0


class Segments(msgspec.Struct):
    clicks: dict[str, Clicks] = {}

    def add(self, segment: str, seen: float, predicted: float) -> None:
        for name in lineage(segment):
            counts = self.clicks.get(name)
            if counts is None:
                if len(self.clicks) >= SEGMENTS_MAX and "*" not in name:
                    continue
                counts = self.clicks[name] = Clicks()
            counts.seen += seen
            counts.predicted += predicted

    def decay(self, factor: float) -> None:
        for counts in self.clicks.values():
            counts.seen *= factor
            counts.predicted *= factor

    def factor(self, segment: str) -> float:
        factor = 1.0
        for name in reversed(lineage(segment)):
            counts = self.clicks.get(name)
            if counts is not None:
                factor = (max(counts.seen, 0.0) + PRIOR * factor) / (counts.predicted + PRIOR)
        return min(max(factor, FACTOR_MIN), FACTOR_MAX)

    def factors(self) -> dict[str, float]:
        """Of every name, as a policy carries them."""
        return {name: self.factor(name) for name in sorted(self.clicks)}


def at_place(segment: str, place: int) -> str:
    """The name of a place's own child of a segment.

    >>> at_place("adx/video", 0x1A2B)
    'adx/video/@00001a2b'
    """
    return f"{segment}/@{place:08x}"


def lineage(segment: str) -> tuple[str, ...]:
    """A segment and its parents, nearest first.

    >>> lineage("adx/video"), lineage("*/video"), lineage("*")
    (('adx/video', '*/video', '*'), ('*/video', '*'), ('*',))
    >>> lineage("adx/video/~3")
    ('adx/video/~3', 'adx/video', '*/video', '*')
    """
    if segment == "*":
        return ("*",)
    exchange, _, rest = segment.partition("/")
    media, child, _ = rest.partition("/")
    whole = f"{exchange}/{media}"
    own = (segment,) if child else ()
    return (*own, whole, "*") if exchange == "*" else (*own, whole, "*/" + media, "*")
