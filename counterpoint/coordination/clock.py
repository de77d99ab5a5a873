"""Hybrid logical clock (Kulkarni et al. 2014): stamps that respect causality and stay close to real time."""

from __future__ import annotations

from counterpoint.base.clock import NS_PER_MS
from counterpoint.events.decisions import HybridTime

AHEAD_NS_MAX = (
    500 * NS_PER_MS
)  # a stamp further ahead than this would win every tie for as long as it is ahead


def too_far_ahead(stamp: HybridTime, now_ns: int) -> bool:
    return stamp.physical_ns > now_ns + AHEAD_NS_MAX


class HybridClock:
    """One author's clock. Time comes in as an argument; stamps of one clock strictly increase.

    >>> clock = HybridClock("budget")
    >>> first, second = clock.stamp(now_ns=10), clock.stamp(now_ns=9)
    >>> first < second, second.physical_ns, second.logical
    (True, 10, 1)
    """

    def __init__(self, node: str, physical_ns: int = 0, logical: int = 0) -> None:
        self.node = node
        self.physical_ns = physical_ns
        self.logical = logical
        self.rejected = 0  # remote stamps refused for being too far ahead

    def keep_time(self, now_ns: int) -> None:
        """The time was wrong and came back: go on from now, since stamps further ahead are refused by everybody."""
        if self.physical_ns > now_ns + AHEAD_NS_MAX:
            self.physical_ns = now_ns

    def stamp(self, now_ns: int) -> HybridTime:
        """A stamp for something that happens here and now."""
        if now_ns > self.physical_ns:
            self.physical_ns, self.logical = now_ns, 0
        else:
            self.logical += 1
        return HybridTime(self.physical_ns, self.logical, self.node)

    def observe(self, remote: HybridTime, now_ns: int) -> bool:
        """Hear someone else's stamp, so that what we say next is later. False: it is more than 500 ms ahead of
        us, refused and counted, and our clock is as before."""
        if too_far_ahead(remote, now_ns):
            self.rejected += 1
            return False
        ours = (self.physical_ns, self.logical)
        theirs = (remote.physical_ns, remote.logical)
        self.physical_ns, self.logical = max(ours, theirs)
        if now_ns > self.physical_ns:
            self.physical_ns, self.logical = now_ns, 0
        else:
            self.logical += 1
        return True
