"""The live system at simulated time: exact money, the same bytes for the same seed, and agents that are heard."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from counterpoint.app.cli import app
from counterpoint.base.errors import ConfigError
from counterpoint.bench.market.live import run_of
from counterpoint.events.decisions import PolicyPublished
from counterpoint.market.catalogue import catalogue
from counterpoint.market.live.agents import LEARNERS, agents_named
from counterpoint.market.live.play import Game, Line, Played, encode_lines
from counterpoint.market.live.system import Given, LiveSystem
from counterpoint.market.live.tempo import Tempo
from counterpoint.market.load import scenario_named
from counterpoint.market.scenario import STARTS_AT_NS, Scenario, resized
from tests.market.live.given import allowances

ALL = tuple(LEARNERS)


AUCTIONS = 900


def small(name: str = "stationary-v1") -> Scenario:
    """The first auctions of this cover two days."""
    return resized(scenario_named(name), 8_000)


def dense() -> Scenario:
    """The first auctions of this are about 40 a minute."""
    return resized(scenario_named("stationary-v1"), 1_000_000)


def played(
    scenario: Scenario, seed: int = 0, agents: tuple[str, ...] = (), step_s: int = 3_600
) -> tuple[Played, bytes]:
    lines: list[Line] = []
    game = Game(scenario, seed, agents=agents, tempo=Tempo(step_s=step_s), log=lines.append)
    try:
        return game.play(auctions=AUCTIONS), encode_lines(lines)
    finally:
        game.system.close()


def check_money(run: Played) -> None:
    assert run.booked_nanos == run.house_paid_nanos, "the ledger booked what the house was paid, to the nano"
    assert run.house_paid_nanos > 0, "something was won"
    assert run.overspend_nanos == 0, "and nothing above the budgets"
    assert run.problems == (), "the audit of the books finds nothing"
    assert run.unfit == 0, "every ad fitted where it was bid"
    assert sum(run.no_bids.values()) + run.bids == run.auctions, "every auction is accounted for"


@pytest.mark.parametrize("name", ["stationary-v1", "churn-v1", "outage-v1", "adversary-v1"])
def test_the_ledger_books_what_the_house_was_paid(name: str) -> None:
    run, _ = played(small(name))
    check_money(run)


def test_one_seed_gives_the_same_bytes() -> None:
    first, second, other = (played(small(), seed) for seed in (3, 3, 4))
    assert first[1] == second[1]
    assert first[1] != other[1]
    assert first[1].count(b"\n") == first[0].auctions
    assert first[0].tally.value.tobytes() == second[0].tally.value.tobytes()


def test_agents_decide_alike_for_one_seed_and_their_policies_are_used() -> None:
    runs = []
    for _ in range(2):
        lines: list[Line] = []
        game = Game(dense(), 5, agents=ALL, tempo=Tempo(step_s=60), log=lines.append)
        run = game.play(auctions=AUCTIONS)
        runs.append((run, encode_lines(lines), game.system.engine.view.digest))
        game.system.close()
    assert runs[0][1] == runs[1][1]
    assert runs[0][2] == runs[1][2], "down to the View"
    assert runs[0][0].policies == len(ALL), "every agent's policy is in the View"
    assert runs[0][0].refused == 0
    check_money(runs[0][0])
    fallback, log = played(dense(), 5, step_s=60)
    assert log != runs[0][1], "and they change what is bid"
    assert fallback.policies == 0


def test_frozen_policies_and_allowances_need_no_ledger() -> None:
    """What a learned system knows by the end, given to a fresh one that may spend one allowance a campaign."""
    scenario = dense()
    teacher = Game(scenario, 1, agents=ALL, tempo=Tempo(step_s=60))
    teacher.play(auctions=600)
    policies = tuple(
        event
        for agent in ALL
        for delivery in [teacher.system.bus.last_now(f"decisions.policy.{agent}")]
        if delivery is not None
        for event in delivery.events
        if isinstance(event, PolicyPublished)
    )
    logs = []
    for _ in range(2):
        lines: list[Line] = []
        given = Given(
            policies=policies, allowances=allowances(scenario, "sim-9", [10**10] * len(scenario.campaign))
        )
        game = Game(scenario, 9, given=given, tempo=Tempo(step_s=60), log=lines.append)
        run = game.play(auctions=400)
        logs.append(encode_lines(lines))
        assert run.booked_nanos is None, "no ledger"
        assert run.house_paid_nanos > 0
        assert run.policies == len(policies) == len(ALL)
        assert game.system.notices.counters.settled_nanos == run.house_paid_nanos
    assert logs[0] == logs[1]


def test_the_scoreboard_counts_a_live_run_like_any_other() -> None:
    run, _ = played(small())
    counted = run_of(run)
    assert counted.policy == "live, no agents"
    assert int(counted.tally.spend.sum()) == run.booked_nanos
    days = counted.tally.budget.sum(axis=1)
    assert days[0] == days[1] > 0, "what the ledger could spend on the days that were played"
    assert (counted.tally.spend <= counted.tally.budget).all()


def test_agents_are_named() -> None:
    assert agents_named("all") == ALL
    assert agents_named("none") == ()
    with pytest.raises(ConfigError, match="no agent 'bidder'"):
        agents_named("bidder")


def test_a_step_that_outlives_wishes_is_refused() -> None:
    with pytest.raises(ConfigError, match="wishes"):
        LiveSystem(
            catalogue(small()), now_ns=STARTS_AT_NS, seed=0, agents=("budget",), tempo=Tempo(step_s=600)
        )


def test_play_tells_and_writes(tmp_path: Path) -> None:
    out, log = tmp_path / "out.json", tmp_path / "log.jsonl"
    done = CliRunner().invoke(
        app,
        f"market play stationary-v1 --seed 2 --auctions 600 --agents none --step 3600 --json {out} --log {log}".split(),
        catch_exceptions=False,
    )
    assert done.exit_code == 0, done.output
    assert "booked, by the ledger" in done.output
    told = msgspec.json.decode(out.read_bytes())
    assert told["booked_nanos"] == told["house_paid_nanos"] > 0
    assert "seconds" not in told, "times are shown, not kept"
    lines = [msgspec.json.decode(line, type=Line) for line in log.read_bytes().splitlines()]
    assert sum(line.paid_nanos for line in lines) == told["house_paid_nanos"]
