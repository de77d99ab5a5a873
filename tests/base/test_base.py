from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterpoint.base.clock import ManualClock
from counterpoint.base.files import read_bytes, write_atomically
from counterpoint.base.ids import IdSource, digest
from counterpoint.base.money import nanos_to_micros_down, nanos_to_micros_up, price_down, price_up
from counterpoint.base.rng import mix64, uniform, uniform_kernel


@given(st.decimals(min_value=0, max_value=10_000, places=9))
def test_prices_round_floors_up_and_bids_down(units: Decimal) -> None:
    up, down = price_up(units), price_down(units)
    assert Decimal(down) <= units * 1_000_000 <= Decimal(up)
    assert up - down <= 1


@given(st.integers(min_value=0, max_value=10**18))
def test_what_is_shown_as_spent_is_never_less_and_as_left_never_more(nanos: int) -> None:
    assert nanos_to_micros_down(nanos) * 1000 <= nanos <= nanos_to_micros_up(nanos) * 1000


@given(st.integers(min_value=0, max_value=2**64 - 1), st.integers(min_value=0, max_value=2**64 - 1))
def test_a_draw_is_the_same_in_python_and_in_a_kernel(key: int, counter: int) -> None:
    assert uniform(key, counter) == uniform_kernel(np.uint64(key), np.uint64(counter))


def test_draws_are_uniform() -> None:
    draws = [uniform(mix64(7), i) for i in range(20_000)]
    assert abs(sum(draws) / len(draws) - 0.5) < 0.01
    counts = np.bincount((np.array(draws) * 10).astype(int), minlength=10)
    assert float(((counts - 2000) ** 2 / 2000).sum()) < 27.9  # chi-square, 9 degrees of freedom, p = 0.001


def test_digest_keeps_parts_apart() -> None:
    assert digest("ab", "c") != digest("a", "bc")
    assert digest("ab") == digest(b"ab")


def test_ids_are_unique_and_sort_by_time() -> None:
    clock, ids = ManualClock(), IdSource("p")
    made = []
    for _ in range(100):
        made.append(ids.next(clock.now_ns()))
        clock.advance(1_000_000)
    assert made == sorted(made)
    assert len(set(made)) == 100


def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.bin"
    assert read_bytes(path) is None
    write_atomically(path, b"one")
    write_atomically(path, b"two")
    assert read_bytes(path) == b"two"
    assert [entry.name for entry in path.parent.iterdir()] == ["file.bin"]
    assert os.stat(path).st_mode & 0o777 == 0o600


def test_time_does_not_go_back() -> None:
    clock = ManualClock()
    with pytest.raises(AssertionError):
        clock.advance(-1)
