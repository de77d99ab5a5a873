"""Classes of creatives say the same as the index's own kernel, pair by pair."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.bidder.fits import FitClasses, pairs
from counterpoint.catalog.index import compile_index, fill_fit
from tests.catalog.worlds import World


@settings(deadline=None, max_examples=80)
@given(st.integers(0, 10**6))
def test_classes_give_the_same_pairs_as_the_index(seed: int) -> None:
    world = World(seed)
    index = compile_index(world.catalog())
    classes = FitClasses(index)
    scratch = index.new_scratch()
    n = len(index.line_item_ids)
    scratch.eligible[:n] = np.arange(n, dtype=np.int32)
    for _ in range(4):
        fit = index.new_fit()
        asked = world.request()
        fill_fit(
            index,
            fit,
            banner=asked.banner,
            video=asked.video,
            audio=asked.audio,
            native=asked.native,
            secure=asked.secure,
        )
        m = index.fitting(n, fit, scratch)
        expected = scratch.candidates[:, :m].tolist()
        scratch.candidates[:] = -1
        found = pairs(
            scratch.eligible,
            n,
            index.members,
            classes.of_member,
            classes.that_fit(index, fit),
            index.all_creatives,
            scratch.candidates,
        )
        assert found == m
        assert scratch.candidates[:, :m].tolist() == expected


def test_a_lack_of_room_is_said() -> None:
    index = compile_index(World(3).catalog())
    classes = FitClasses(index)
    n = len(index.line_item_ids)
    every = np.ones(max(1, classes.count), np.uint8)
    members = len(index.members) - n - 1
    out = np.zeros((2, members), np.int32)
    line_items = np.arange(n, dtype=np.int32)
    arguments = (line_items, n, index.members, classes.of_member, every, index.all_creatives)
    assert members > 0
    assert pairs(*arguments, out) == members
    assert pairs(*arguments, out[:, : members - 1].copy()) == -1
