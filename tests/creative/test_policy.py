"""Which creative, with which probability: exact, positive, and equal in both implementations."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.base.errors import PolicyRefused
from counterpoint.base.rng import mix64
from counterpoint.creative.policy import (
    CompiledCreative,
    CreativePolicy,
    CreativeScore,
    checksum,
    choose,
    compile_creative,
    decode,
    encode,
    explain_choice,
    prepare_creative,
    propensities,
    validate,
)
from tests.creative.bandit import catalog

POLICY = CreativePolicy(
    version=2,
    made_at_ns=1,
    valid_until_ns=2,
    scores={
        "cr-0": CreativeScore(0.02, 0.9),
        "cr-1": CreativeScore(0.01, 0.1),
        "nobody": CreativeScore(0.5, 1.0),
    },
)


def draw(
    compiled: CompiledCreative,
    groups: list[tuple[int, list[int]]],
    *,
    key: int = 1,
    exploration: int = 1_000_000,
    uniform: bool = False,
) -> list[tuple[int, int, float, float]]:
    """(line item, creative, propensity, click rate) per group."""
    li = np.array([item for item, members in groups for _ in members], dtype=np.int32)
    cr = np.array([creative for _, members in groups for creative in members], dtype=np.int32)
    m = len(li)
    out_li, out_cr = np.zeros(m, dtype=np.int32), np.zeros(m, dtype=np.int32)
    out_propensity, out_ctr = np.zeros(m), np.zeros(m)
    n = choose(
        m,
        li,
        cr,
        compiled.weight,
        compiled.click_rate,
        np.zeros(100, dtype=np.int32),
        np.array([exploration], dtype=np.int64),
        compiled.epsilon,
        int(uniform),
        np.uint64(key),
        out_li,
        out_cr,
        out_propensity,
        out_ctr,
    )
    columns = (out_li[:n].tolist(), out_cr[:n].tolist(), out_propensity[:n].tolist(), out_ctr[:n].tolist())
    return list(zip(*columns, strict=True))


def compiled_of(weights: list[float]) -> CompiledCreative:
    n = len(weights)
    return CompiledCreative(1, 2, False, np.array(weights), np.linspace(0.01, 0.02, n), 0.02)


@settings(deadline=None, max_examples=200)
@given(
    weights=st.lists(st.floats(0, 1e6), min_size=1, max_size=12),
    cut=st.integers(0, 12),
    exploration=st.integers(-5, 3_000_000),
    uniform=st.booleans(),
    key=st.integers(0, 2**64 - 1),
)
def test_kernel_and_explanation_agree_and_chances_are_chances(
    weights: list[float], cut: int, exploration: int, uniform: bool, key: int
) -> None:
    compiled = compiled_of(weights)
    at = list(range(len(weights)))
    groups = [(item, members) for item, members in ((3, at[:cut]), (7, at[cut:])) if members]
    drawn = draw(compiled, groups, key=key, exploration=exploration, uniform=uniform)
    assert [item for item, *_ in drawn] == [item for item, _ in groups]
    for (item, members), (_, creative, propensity, ctr) in zip(groups, drawn, strict=True):
        chosen, chances = explain_choice(
            members, compiled, item, exploration_ppm=exploration, uniform_flag=uniform, key=key
        )
        assert (members[chosen], chances[chosen]) == (creative, propensity)
        assert ctr == compiled.click_rate[creative]
        assert min(chances) > 0.0
        assert sum(chances) == pytest.approx(1.0)
        if uniform:
            assert chances == pytest.approx([1 / len(members)] * len(members))


def test_a_creative_is_drawn_as_often_as_its_propensity_says() -> None:
    compiled = compiled_of([0.7, 0.25, 0.05, 0.0])
    draws = 20_000
    counts = np.zeros(4)
    said: dict[int, float] = {}
    for key in range(draws):
        ((_, creative, propensity, _),) = draw(compiled, [(3, [0, 1, 2, 3])], key=mix64(key))
        counts[creative] += 1
        said[creative] = propensity
    assert sum(said.values()) == pytest.approx(1.0)
    for creative, propensity in said.items():
        sd = math.sqrt(propensity * (1 - propensity) / draws)
        assert abs(counts[creative] / draws - propensity) < 5 * sd


def test_a_draw_does_not_depend_on_what_else_was_eligible() -> None:
    compiled = compiled_of([0.5, 0.5, 0.3, 0.7])
    for key in range(200):
        alone = draw(compiled, [(5, [0, 1])], key=key)
        assert draw(compiled, [(2, [2, 3]), (5, [0, 1])], key=key)[1:] == alone


def test_exploration_goes_from_the_best_alone_to_uniform() -> None:
    weights = [0.6, 0.3, 0.1]
    assert propensities(weights, 0.03, 0) == pytest.approx([0.98, 0.01, 0.01])
    assert propensities(weights, 0.03, 1_000_000) == pytest.approx([0.592, 0.301, 0.107])
    assert propensities(weights, 0.03, 2_000_000) == pytest.approx([1 / 3] * 3)
    assert propensities([0.0, 0.0], 0.03, 1_000_000) == pytest.approx([0.5, 0.5])


def test_without_a_policy_every_creative_is_alike_at_the_owners_prior() -> None:
    world = catalog()
    compiled = compile_creative(None, prepare_creative(world.line_items, world.creatives))
    assert compiled.fallback
    assert compiled.weight.tolist() == [1.0] * 8
    assert compiled.click_rate.tolist() == [0.01] * 8


def test_a_creative_nobody_knows_is_passed_over_and_one_not_named_keeps_its_prior() -> None:
    world = catalog()
    validate(POLICY)
    compiled = compile_creative(POLICY, prepare_creative(world.line_items, world.creatives))
    assert compiled.weight.tolist() == [0.9, 0.1] + [1.0] * 6
    assert compiled.click_rate.tolist() == [0.02, 0.01] + [0.01] * 6


def test_encoding_is_exact_and_a_broken_payload_is_refused() -> None:
    payload = encode(POLICY)
    assert decode(payload, checksum(payload)) == POLICY
    assert encode(msgspec.structs.replace(POLICY, scores=dict(reversed(POLICY.scores.items())))) == payload
    with pytest.raises(PolicyRefused, match="checksum"):
        decode(payload + b"\x00", checksum(payload))
    for raw in (b"", b"\x93", payload[:20], msgspec.msgpack.encode({"version": "one"})):
        with pytest.raises(PolicyRefused):
            decode(raw)


POISON: dict[str, dict[str, object]] = {
    "version 0": {"version": 0},
    "valid before made": {"valid_until_ns": 0},
    "nan click rate": {"scores": {"cr": CreativeScore(math.nan, 1.0)}},
    "click rate 0": {"scores": {"cr": CreativeScore(0.0, 1.0)}},
    "click rate 1": {"scores": {"cr": CreativeScore(1.0, 1.0)}},
    "negative click rate": {"scores": {"cr": CreativeScore(-0.1, 1.0)}},
    "nan weight": {"scores": {"cr": CreativeScore(0.01, math.nan)}},
    "negative weight": {"scores": {"cr": CreativeScore(0.01, -1.0)}},
    "infinite weight": {"scores": {"cr": CreativeScore(0.01, math.inf)}},
    "no exploration at all": {"epsilon": 0.0},
    "nan epsilon": {"epsilon": math.nan},
    "only exploration": {"epsilon": 1.0},
}


@pytest.mark.parametrize("poison", POISON.values(), ids=POISON.keys())
def test_a_poisoned_policy_is_refused(poison: dict[str, object]) -> None:
    with pytest.raises(PolicyRefused):
        validate(msgspec.structs.replace(POLICY, **poison))
