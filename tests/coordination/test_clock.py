from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from counterpoint.base.clock import NS_PER_MS
from counterpoint.coordination.clock import AHEAD_NS_MAX, HybridClock
from counterpoint.coordination.fixed_log import ONE, log2_q32
from counterpoint.events.decisions import HybridTime


@given(st.lists(st.tuples(st.integers(0, 10**12), st.booleans(), st.integers(0, 5)), max_size=40))
def test_stamps_of_one_clock_increase_and_follow_what_was_heard(
    steps: list[tuple[int, bool, int]],
) -> None:
    clock = HybridClock("a")
    last = HybridTime(0, 0, "")
    for now_ns, hears, logical in steps:
        if hears:
            remote = HybridTime(now_ns, logical, "z")
            if clock.observe(remote, now_ns):
                last = max(last, remote)
        stamp = clock.stamp(now_ns)
        assert stamp > last
        last = stamp


def test_a_clock_bomb_is_refused_and_leaves_no_trace() -> None:
    clock = HybridClock("a")
    clock.stamp(1_000 * NS_PER_MS)
    bomb = HybridTime(1_000 * NS_PER_MS + AHEAD_NS_MAX + 1, 0, "z")
    assert not clock.observe(bomb, 1_000 * NS_PER_MS)
    assert clock.rejected == 1
    assert clock.stamp(1_001 * NS_PER_MS) == HybridTime(1_001 * NS_PER_MS, 0, "a")
    assert clock.observe(HybridTime(1_001 * NS_PER_MS + AHEAD_NS_MAX, 0, "z"), 1_001 * NS_PER_MS)


@given(st.integers(1, 1 << 80))
def test_the_integer_logarithm_rises_and_is_close(n: int) -> None:
    assert log2_q32(n) <= log2_q32(n + 1)
    assert abs(log2_q32(n) / ONE - math.log2(n)) < 3e-7
    assert log2_q32(2 * n) - log2_q32(n) == ONE
