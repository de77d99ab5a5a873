"""The heap is left sound: the collector is off and can be used by hand, large pages change nothing that is read."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator

import pytest

from counterpoint.bidder.heap import collect_young, freeze_heap, use_large_pages


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    interval = sys.getswitchinterval()
    yield
    sys.setswitchinterval(interval)
    gc.unfreeze()
    gc.enable()


class _Ring:
    def __init__(self) -> None:
        self.me = self


def test_cycles_are_collected_by_hand_only() -> None:
    freeze_heap()
    assert not gc.isenabled()
    assert gc.get_freeze_count() > 0
    collect_young()
    for _ in range(2_000):
        _Ring()
    assert collect_young() >= 2_000


def test_large_pages_change_nothing_that_is_read() -> None:
    kept = [bytes([n % 251]) * 1_000 for n in range(20_000)]
    assert use_large_pages() >= 0
    assert all(block == bytes([n % 251]) * 1_000 for n, block in enumerate(kept))
