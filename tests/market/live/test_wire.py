"""One market, two doors: function calls, and HTTP over loopback. The same seed gives the same bytes."""

from __future__ import annotations

import msgspec
import pytest

from counterpoint.base.ids import digest
from counterpoint.bench.parity import differences, pair, play_one
from counterpoint.bidder.view import decode_policy
from counterpoint.events import subjects
from counterpoint.events.decisions import PolicyPublished
from counterpoint.events.money import AllowanceGranted
from counterpoint.market.catalogue import catalogue
from counterpoint.market.live.agents import LEARNERS
from counterpoint.market.live.play import Game
from counterpoint.market.live.system import Given, LiveSystem
from counterpoint.market.live.tempo import Tempo
from counterpoint.market.live.wire import WireSystem
from counterpoint.market.load import scenario_named
from counterpoint.market.scenario import Scenario, resized
from tests.market.live.given import allowances

ALL = tuple(LEARNERS)
AUCTIONS = 2_000
FOR_GOOD_NS = 2**62


@pytest.fixture(scope="module")
def learned() -> tuple[PolicyPublished, ...]:
    """What the agents publish within a few hundred auctions, made valid for good."""
    game = Game(scenario_named("stationary-v1"), 1, agents=ALL, tempo=Tempo(step_s=60))
    game.play(auctions=120)
    found = []
    for agent in ALL:
        last = game.system.bus.last_now(subjects.policy(agent))
        assert last is not None, f"{agent} has published"
        found += [_for_good(event) for event in last.events if isinstance(event, PolicyPublished)]
    game.system.close()
    return tuple(found)


def _for_good(event: PolicyPublished) -> PolicyPublished:
    policy = decode_policy(event.agent, event.payload, catalogue(scenario_named("stationary-v1")))
    payload = msgspec.msgpack.encode(msgspec.structs.replace(policy, valid_until_ns=FOR_GOOD_NS))
    return msgspec.structs.replace(
        event, payload=payload, checksum=digest(payload), valid_until_ns=FOR_GOOD_NS
    )


def _allowances(scenario: Scenario, seed: int) -> tuple[AllowanceGranted, ...]:
    """Some are spent before the run's end."""
    campaigns = catalogue(scenario).campaigns
    nanos = [c.daily_budget_micros * 1_000 * (1 + n % 3) for n, c in enumerate(campaigns)]
    return allowances(scenario, f"sim-{seed}", nanos)


def _market(name: str) -> Scenario:
    """A scenario with less traffic; "few-people": the same again and again, each shown a campaign once a day."""
    if name != "few-people":
        return resized(scenario_named(name), AUCTIONS)
    base = resized(scenario_named("stationary-v1"), AUCTIONS)
    users = msgspec.structs.replace(base.users, count=20)
    return _capped(msgspec.structs.replace(base, name=name, users=users), 1)


def _capped(scenario: Scenario, cap: int) -> Scenario:
    campaigns = tuple(msgspec.structs.replace(c, frequency_cap=cap) for c in scenario.campaign)
    return msgspec.structs.replace(scenario, campaign=campaigns)


@pytest.mark.parametrize("name", ["few-people", "outage-v1", "adversary-v1"])
def test_frozen_policies_and_allowances_give_the_same_bytes(
    name: str, learned: tuple[PolicyPublished, ...]
) -> None:
    """All days of the scenario: frequency caps count people, an outage swallows reports, rivals answer us."""
    scenario = _market(name)
    given = Given(policies=learned, allowances=_allowances(scenario, 7))
    here, there = (
        play_one(scenario, 7, system, given=given, step_s=3_600) for system in (LiveSystem, WireSystem)
    )
    assert here.log.count(b"\n") == AUCTIONS
    assert there.log == here.log
    assert there.books == here.books
    assert here.played.policies == len(learned) == len(ALL)
    assert here.played.wins > 100
    assert here.played.no_bids["no_allowance"] > 0, "some allowances are spent before the end"
    if name == "few-people":
        free = play_one(_capped(scenario, 0), 7, LiveSystem, given=given, step_s=3_600)
        assert free.log != here.log, "caps matter here"
    assert here.played.tally.value.tobytes() == there.played.tally.value.tobytes()
    other = play_one(scenario, 8, LiveSystem, given=None, step_s=3_600, auctions=200)
    assert other.log[:5_000] != here.log[:5_000], "another seed decides otherwise"


def test_the_ledgers_books_are_the_same_bytes() -> None:
    """Budgets granted and settled by the real ledger, days begun and ended."""
    scenario = resized(scenario_named("stationary-v1"), 1_000)
    here, there = (
        play_one(scenario, 3, system, auctions=250, step_s=3_600) for system in (LiveSystem, WireSystem)
    )
    assert there.log == here.log
    assert there.books == here.books
    assert here.played.booked_nanos == here.played.house_paid_nanos > 0
    assert there.played.problems == ()


def test_live_learners_come_to_the_same() -> None:
    """A short run; `counterpoint bench parity` plays longer ones over more seeds."""
    pairs = [pair(scenario_named("stationary-v1"), seed, 100, ALL, step_s=60) for seed in (0, 1)]
    assert all(p.same_log and p.same_books for p in pairs)
    assert all(d.agrees for d in differences(pairs))
    assert all(p.in_process["win rate"] > 0 for p in pairs)
