"""The weighted Nash bargain over one setting, in integers.

Each wish has the concave utility ``u(x) = 1 - ((x - ideal) / D)^2``, where ``D`` is its distance to the farther end of
the zone, so that ``u`` is 1 at its ideal and 0, its disagreement point, at the worst point of the zone. The zone is
the span of the wishes inside the hard bounds: outside it every step is a loss to everyone. The bargain maximises
``sum(weight * log(u + eps))``: rescaling anybody's utility changes nothing, so nobody wins by shouting; the
logarithm keeps every side from being ignored, the weights are the owner's trade-off.

The incumbent is no disagreement point: of two opposed wishes one always loses against the incumbent, the gain set
would be empty and the setting frozen. It enters only as inertia, afterwards.
"""

from __future__ import annotations

from functools import lru_cache

from counterpoint.coordination.fixed_log import log2_q32

UTILITY_ONE = 10**12
EPSILON = UTILITY_ONE // 10**6
GRID_STEPS = 100  # 101 levels

Wishes = tuple[tuple[int, int], ...]  # (ideal, weight > 0), sorted


def zone_of(wishes: Wishes) -> tuple[int, int]:
    return min(ideal for ideal, _ in wishes), max(ideal for ideal, _ in wishes)


def utility(x: int, ideal: int, zone: tuple[int, int]) -> int:
    """In 1e-12: 1 at the ideal, 0 at the far end of the zone and beyond. A wish that is the whole zone counts every
    other point as nothing."""
    reach = max(ideal - zone[0], zone[1] - ideal)
    distance = abs(x - ideal)
    if distance == 0:
        return UTILITY_ONE
    if distance >= reach:
        return 0
    return UTILITY_ONE - UTILITY_ONE * distance * distance // (reach * reach)


def welfare(x: int, wishes: Wishes) -> int:
    """``sum(weight * log2(u(x) + eps))`` in Q32; compare only values over the same wishes."""
    zone = zone_of(wishes)
    return sum(weight * log2_q32(utility(x, ideal, zone) + EPSILON) for ideal, weight in wishes)


@lru_cache(maxsize=16_384)
def bargain(wishes: Wishes) -> tuple[int, ...]:
    """The best values, ascending (more than one only in a tie), out of 101 even levels of the zone and the ideals.

    >>> bargain(((2_000_000, 500_000), (3_000_000, 500_000)))
    (2500000,)
    >>> bargain(((2_000_000, 700_000), (3_000_000, 300_000)))
    (2380000,)
    """
    assert wishes
    assert all(weight > 0 for _, weight in wishes)
    low, high = zone_of(wishes)
    points = {low + (high - low) * k // GRID_STEPS for k in range(GRID_STEPS + 1)}
    points.update(ideal for ideal, _ in wishes)
    scored = [(welfare(x, wishes), x) for x in sorted(points)]
    best = max(score for score, _ in scored)
    return tuple(x for score, x in scored if score == best)
