"""The money's benchmark, small: the same worlds that run for ten million operations and a hundred kills."""

from __future__ import annotations

import pytest
from rich.progress import Progress
from sqlalchemy import text

from counterpoint.base.errors import ConfigError
from counterpoint.bench.money import kills, run, speed, world
from counterpoint.bench.money.invariants import InvariantBroken
from counterpoint.events.money import SettlementNoticed
from counterpoint.ledger.tables import connect

MUST_HAPPEN = (
    "reserve",
    "win",
    "lose",
    "settle",
    "expire",
    "duplicate",
    "reorder",
    "ledger dies in a transaction",
    "ledger dies before publishing",
    "replay",
    "stream made anew",
    "bidder dies",
    "pool move",
    "budget changed",
    "person's order",
    "new day",
)


def test_random_operations_break_nothing(engine_url: str) -> None:
    operations = 40_000 if engine_url.startswith("sqlite") else 6_000
    seen: dict[str, int] = {}
    life = world.World(engine_url, 3, world.MoneyConfig(budget_units=1, bids_per_turn=8, unrest=8.0))
    while life.total < operations:
        life.step()
        if life.total > operations * (life.operations["new day"] + 1) // 3:
            life.new_day_due = 0  # a third day: a lifetime budget of two can be exceeded
    assert life.finish() == ()
    seen.update(life.operations)
    assert life.ledger.verify().settlements <= life.answered.count
    life.ledger.close()
    if operations == 40_000:
        assert [kind for kind in MUST_HAPPEN if not seen.get(kind)] == []
    assert sum(life.answered.late.values()) > 0


def test_the_same_seed_lives_the_same_life(tmp_path_factory: pytest.TempPathFactory) -> None:
    results = []
    for _ in range(2):
        url = f"sqlite:///{tmp_path_factory.mktemp('life') / 'ledger.db'}"
        results.append(world.run(url, 3_000, 5, world.MoneyConfig(verifications=1)))
    assert results[0] == results[1]
    assert results[0].problems == ()


def test_a_changed_balance_is_seen(sqlite: str) -> None:
    """What would a lie look like: the invariants can fail."""
    life = world.World(sqlite, 1, world.MoneyConfig())
    while life.answered.count < 50 or not life.ledger.verify().settlements:
        life.step()
    engine = connect(sqlite)
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE accounts SET spent_on_time_nanos = spent_on_time_nanos + 1 WHERE reserved_nanos > 0")
        )
    engine.dispose()
    assert any("on_time is" in problem for problem in life.verify())
    key = next(iter(life.answered.paid))
    life.answered.paid[key] = 0
    with pytest.raises(InvariantBroken, match="booked more than was answered"):
        _live_on(life)
    life.ledger.close()


def _live_on(life: world.World) -> None:
    for _ in range(2_000):
        life.step()


def test_killed_at_any_point_it_loses_nothing_and_books_nothing_twice(engine_url: str) -> None:
    result = kills.run(engine_url, 3, 5, messages=60)
    assert result.problems == ()
    assert result.settlements > 0


def test_what_the_stream_holds_is_counted_without_repeats() -> None:
    for last in (30, 57, 100):
        bids = {
            event.bid_id
            for number in range(1, last + 1)
            for event in kills.message(number, ["a"]).events
            if isinstance(event, SettlementNoticed)
        }
        assert len(bids) == kills.bids_up_to(last)


def test_every_size_of_batch_books_the_same(engine_url: str) -> None:
    results = speed.run(engine_url, 700)
    assert [r.batch for r in results] == list(speed.BATCHES)


def test_quick_runs_all_parts_and_an_unknown_one_is_told() -> None:
    report = run.run((), 10_000_000, 100, 1, None, Progress(disable=True), quick=True)
    assert report.right
    assert not report.stopped
    assert run.exit_code(report) == 0
    assert report.asked.parts == run.PARTS
    assert report.kills is not None
    assert report.kills.rounds == run.QUICK_ROUNDS
    assert len(report.speed) == len(speed.BATCHES)
    with pytest.raises(ConfigError, match="did you mean 'kills'"):
        run.chosen(["speed,kill"])
