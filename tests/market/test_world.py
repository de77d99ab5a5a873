"""The world as a function of (scenario, seed, auction): the same bytes, wherever batches are cut, whatever an arm does."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from counterpoint.market.auctions import Columns
from counterpoint.market.chance import Stream, normals, raw_words, uniforms
from counterpoint.market.load import scenario_named
from counterpoint.market.scenario import DAY_NS, STARTS_AT_NS, resized
from counterpoint.market.state import Exposures, Pressure, Stock
from counterpoint.market.world import World


def same(first: Columns, second: Columns) -> bool:
    columns = [(getattr(first, n), getattr(second, n)) for n in first.__struct_fields__]
    return all(a.tobytes() == b.tobytes() for a, b in columns)


def joined(first: Columns, second: Columns) -> dict[str, NDArray[Any]]:
    return {n: np.concatenate([getattr(first, n), getattr(second, n)]) for n in first.__struct_fields__}


@pytest.fixture(scope="module")
def world() -> World:
    return World(scenario_named("stationary-v1"), seed=3)


# ---- draws


@pytest.mark.parametrize("counter", [(0, 0, 0, 0), (6, 7, 9, 11), (2**64 - 5, 1, 2**63, 3)])
def test_philox_is_numpys(counter: tuple[int, int, int, int]) -> None:
    key = (2**63 + 11, 13)
    before = [*counter]
    before[0] -= 1  # numpy counts up before its first block
    if before[0] < 0:
        before = [2**64 - 1] * 4
    generator = np.random.Philox(
        counter=np.array(before, dtype=np.uint64), key=np.array(key, dtype=np.uint64)
    )
    expected = generator.random_raw(4)
    assert raw_words(counter, key) == tuple(int(word) for word in expected)


def test_draws_are_uniform_and_normal_and_of_their_own_stream() -> None:
    index = np.arange(100_000)
    u, z = uniforms(5, Stream.PRICE, index), normals(5, Stream.PRICE, index)
    assert np.abs(u.mean(axis=1) - 0.5).max() < 4 / np.sqrt(12 * index.size)
    assert np.abs(z.mean(axis=1)).max() < 4 / np.sqrt(index.size)
    assert np.abs(z.std(axis=1) - 1).max() < 0.01
    assert np.abs(np.corrcoef(np.vstack([u, uniforms(5, Stream.ORDER, index)])) - np.eye(8)).max() < 0.015
    assert not np.array_equal(u, uniforms(6, Stream.PRICE, index))


# ---- batches


def test_one_seed_gives_the_same_bytes(world: World) -> None:
    again = World(scenario_named("stationary-v1"), seed=3)
    auctions, more = world.batch(1_000, 500), again.batch(1_000, 500)
    assert same(auctions, more)
    assert same(world.truth(auctions), again.truth(more))
    other = World(scenario_named("stationary-v1"), seed=4)
    assert not same(auctions, other.batch(1_000, 500))


@pytest.mark.parametrize("cut", [1, 37, 100, 199])
def test_batches_may_be_cut_anywhere(world: World, cut: int) -> None:
    whole, first, second = world.batch(0, 200), world.batch(0, cut), world.batch(cut, 200 - cut)
    assert all(getattr(whole, n).tobytes() == column.tobytes() for n, column in joined(first, second).items())
    truth = joined(world.truth(first), world.truth(second))
    assert all(getattr(world.truth(whole), n).tobytes() == column.tobytes() for n, column in truth.items())


def test_a_row_is_the_same_alone_and_among_others(world: World) -> None:
    auctions = world.batch(500, 300)
    rows, creatives = np.arange(0, 300, 7), np.arange(43) % world.design.count
    among = world.responses(auctions, rows, creatives)
    alone = world.responses(auctions.take(rows), np.arange(43), creatives)
    assert same(among, alone)
    assert same(
        world.outcomes(auctions, rows, creatives, among),
        world.outcomes(auctions.take(rows), np.arange(43), creatives, alone),
    )
    assert world.values(auctions, rows, creatives).tobytes() == among.value_micros.tobytes()
    assert world.click_probability(auctions, rows, creatives).tobytes() == among.click.tobytes()
    many = world.responses(auctions, np.repeat(np.arange(300), 2), np.tile([1, 2], 300))
    assert same(many.take(np.arange(0, 600, 2)), world.responses(auctions, np.arange(300), np.full(300, 1)))


def test_auctions_are_in_order_of_time_and_inside_the_scenario(world: World) -> None:
    s = world.scenario
    auctions = world.batch(0, s.auctions)
    assert (np.diff(auctions.t_ns) >= 0).all()
    assert auctions.t_ns[0] >= STARTS_AT_NS
    assert auctions.t_ns[-1] < s.ends_at_ns
    assert (auctions.index == np.arange(s.auctions)).all()
    assert ((auctions.size >= 0) == (auctions.media == 0)).all()
    apps = np.array([p.app for p in s.place])[auctions.place]
    assert not (apps & (auctions.device_type == 2) & (auctions.media == 0)).any()
    shows = np.array([[m in p.media for m in ("banner", "video", "audio", "native")] for p in s.place])
    assert shows[auctions.place, auctions.media].all()
    with pytest.raises(AssertionError, match="resized"):
        world.batch(s.auctions - 1, 2)


# ---- what an arm does


def test_what_an_arm_does_moves_no_draw(world: World) -> None:
    """Two arms show different ads in different auctions; the next auctions, and the luck in them, are the same."""
    auctions = world.batch(0, 400)
    eager, shy = np.arange(400), np.arange(0, 400, 5)
    first = np.full(400, 10)
    second = np.full(80, 20)
    world.outcomes(auctions, eager, first, world.responses(auctions, eager, first))
    one = world.batch(400, 400)
    world.outcomes(auctions, shy, second, world.responses(auctions, shy, second))
    assert same(one, world.batch(400, 400))
    assert same(world.truth(one), world.truth(world.batch(400, 400)))
    # the same luck: where the likelier creative is not clicked, the other is not either
    a = world.responses(auctions, eager, np.full(400, 10))
    b = world.responses(auctions, eager, np.full(400, 20))
    clicked_a = world.outcomes(auctions, eager, np.full(400, 10), a).clicked
    clicked_b = world.outcomes(auctions, eager, np.full(400, 20), b).clicked
    likelier = a.click >= b.click
    assert (clicked_a | ~clicked_b)[likelier].all()
    assert (clicked_b | ~clicked_a)[~likelier].all()


def test_rivals_answer_our_win_rate_and_floors_our_bids() -> None:
    world = World(resized(scenario_named("adversary-v1"), 6_000), seed=1)
    quiet, loud = Pressure(world.scenario), Pressure(world.scenario)
    window = world.scenario.adversary.window
    for w in range(3):
        auctions = world.batch(w * window, window)
        truth = world.truth(auctions, loud)
        bids = np.full(window, 10_000_000)
        loud.record(auctions.index, auctions.supply, bids, bids >= truth.threshold_micros)
        quiet.record(
            auctions.index, auctions.supply, np.zeros(window, dtype=np.int64), np.zeros(window, dtype=bool)
        )
    calm = world.batch(3 * window, 500)
    assert same(calm, world.batch(3 * window, 500, quiet))
    assert same(world.truth(calm), world.truth(calm, quiet))
    pressed = world.batch(3 * window, 500, loud)
    answered = np.isin(pressed.venue, [0, 2])
    assert (pressed.floor_micros[answered] == 5_000_000).mean() > 0.95  # half of our bid
    assert (pressed.floor_micros[~answered] == calm.floor_micros[~answered]).all()
    dear = world.truth(calm, loud)
    assert (dear.rival_micros[answered] > world.truth(calm).rival_micros[answered]).mean() > 0.95
    assert (dear.rival_micros[~answered] == world.truth(calm).rival_micros[~answered]).all()
    # cut elsewhere: the same answer, since it depends on whole windows
    assert same(world.batch(3 * window + 100, 50, loud), pressed.take(np.arange(100, 150)))


def test_exposures_fade_and_tire() -> None:
    world = World(scenario_named("stationary-v1"), seed=2)
    seen = Exposures(world.scenario)
    day = 86_400 * 10**9
    t = STARTS_AT_NS + day
    for k in range(3):
        seen.show(7, 1, t + k)
    at = np.array([t + 3, t + 3 + int(world.scenario.click.fatigue_days * day), t + 3])
    count = seen.of(np.array([7, 7, 8]), np.array([1, 1, 1]), at)
    assert count == pytest.approx([3.0, 3.0 / np.e, 0.0], rel=1e-4)
    auctions = world.batch(0, 50)
    rows, creatives = np.arange(50), np.zeros(50, dtype=np.int64)
    rates = [world.click_probability(auctions, rows, creatives, np.full(50, n)) for n in (0.0, 1.0, 5.0)]
    assert (rates[0] > rates[1]).all()
    assert (rates[1] > rates[2]).all()


def test_stock_fades_by_half_life_and_lifts_conversions_before_it_saturates() -> None:
    world = World(scenario_named("adstock-v1"), seed=2)
    s = world.scenario
    stock = Stock(s)
    stock.add(np.array([0, 0, 2]), np.array([1, 1, 0]), STARTS_AT_NS)
    one = s.days / s.auctions
    later = stock.at(STARTS_AT_NS + int(s.carry_over.half_life_days * 86_400e9))
    assert later[0, 1] == pytest.approx(one)
    assert later[2, 0] == pytest.approx(one / 2)
    lift = world.lift(np.array([0.0, 0.1, 10.0]))
    assert lift[0] == 1.0
    assert lift[1] > 1.2
    assert lift[2] < 1.0
    auctions = world.batch(0, 20)
    rows, creatives = np.arange(20), np.zeros(20, dtype=np.int64)
    high = np.full((len(s.campaign), len(s.supply)), 0.1)
    plain, lifted = (
        world.responses(auctions, rows, creatives),
        world.responses(auctions, rows, creatives, stock=high),
    )
    assert lifted.conversion / plain.conversion == pytest.approx(np.full(20, lift[1]))
    assert (lifted.click == plain.click).all()
    steady = World(scenario_named("stationary-v1"), seed=2)
    assert (steady.lift(np.array([0.0, 1.0])) == 1.0).all()


@pytest.mark.parametrize("name", ["stationary-v1", "jumps-v1"])
def test_days_begin_where_midnight_is(name: str) -> None:
    world = World(resized(scenario_named(name), 3_000), seed=5)
    day = (world.batch(0, 3_000).t_ns - STARTS_AT_NS) // DAY_NS
    edges = np.searchsorted(day, np.arange(world.scenario.days + 1)).tolist()
    assert world.day_auctions() == list(pairwise(edges))
