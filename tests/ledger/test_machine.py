"""Hypothesis and long seeded lives over the real ledger and real allowance books: see machine.py."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings

from counterpoint.ledger.people import KINDS
from tests.ledger.build import NOTICE_LIFE_S, postgres_url
from tests.ledger.machine import CAMPAIGNS, LedgerMachine


class PostgresMachine(LedgerMachine):
    def make_url(self) -> str:
        return self.open_everything.enter_context(postgres_url())


_SETTINGS = {"deadline": None, "suppress_health_check": list(HealthCheck)}
TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(max_examples=20, stateful_step_count=40, **_SETTINGS)  # type: ignore[arg-type]
TestLedgerOnPostgres = PostgresMachine.TestCase
TestLedgerOnPostgres.settings = settings(max_examples=3, stateful_step_count=20, **_SETTINGS)  # type: ignore[arg-type]


def walk(machine: LedgerMachine, seed: int, steps: int) -> dict[str, int]:
    """The same rules, many times over, by weight: longer and denser lives than Hypothesis draws."""
    chance = random.Random(seed)
    machine.bidders_start()
    names = ("b1", "b2")
    seen: dict[str, int] = defaultdict(int)
    rules: list[tuple[int, str, Callable[[], object]]] = [
        (
            30,
            "bid",
            lambda: machine.bid(
                chance.choice(names),
                chance.randrange(4),
                chance.randrange(2),
                [(chance.randint(1, 120), chance.choice(("", "", "win", "settle"))) for _ in range(8)],
                chance.choice((5, 20)),
            ),
        ),
        (12, "settle", lambda: machine.settle([chance.randrange(10**6) for _ in range(6)], 100, 0)),
        (6, "settle late", lambda: machine.settle([chance.randrange(10**6) for _ in range(6)], 100, 22)),
        (10, "win", lambda: machine.win([chance.randrange(10**6) for _ in range(4)])),
        (5, "lose", lambda: machine.lose(chance.randrange(10**6))),
        (12, "ask", lambda: machine.ask_and_return(chance.choice(names))),
        (6, "repeat", lambda: machine.repeat_a_notice(chance.randrange(10**6), chance.choice((1, 2)))),
        (15, "book", lambda: machine.book_some(chance.randint(1, 40))),
        (6, "die", lambda: machine.die_in_the_middle(chance.randint(1, 40), chance.randint(0, 30))),
        (3, "die after", lambda: machine.die_before_publishing(chance.randint(1, 40))),
        (3, "replay", lambda: machine.replay_from_an_older_position(chance.randint(1, 60))),
        (2, "anew", lambda: machine.the_stream_is_made_anew(chance.randint(1, 60))),
        (2, "bidder restarts", lambda: machine.bidder_restarts(chance.choice(names))),
        (3, "budget", lambda: machine.change_a_budget(chance.choice(CAMPAIGNS), chance.randint(1, 4))),
        (
            4,
            "person",
            lambda: machine.a_person_orders(
                chance.choice(KINDS),
                chance.choice(("c1", "c2")),
                chance.randrange(200),
                chance.randint(1, 60),
            ),
        ),
        (5, "split", lambda: machine.move_money_in_the_pool(chance.randint(0, 10**6))),
        (12, "time", lambda: machine.time_passes(chance.choice((1, 2, 4, 8)))),
        (3, "long time", lambda: machine.time_passes(chance.choice((50, NOTICE_LIFE_S + 50)))),
        (1, "day", lambda: machine.time_passes(86_400)),
    ]
    for step in range(steps):
        _, name, act = chance.choices(rules, [weight for weight, _, _ in rules])[0]
        seen[name] += 1
        act()
        if step % 4 == 0:
            machine.the_books_are_right()
            machine.the_bidders_hold_no_more_than_they_were_given()
    seen["acked"] = len(machine.acked)
    seen["stopped"] = sum(a.stopped for a in machine.ledger.accounts())
    seen["late"] = sum(paid > 0 for paid in machine.late_paid.values())
    machine.teardown()
    return seen


@pytest.mark.parametrize("seed", range(4))
def test_a_long_life(seed: int) -> None:
    seen = walk(LedgerMachine(), seed, 300)
    assert seen["acked"] > 50
    assert seen["late"] > 0


def test_a_long_life_on_postgresql() -> None:
    walk(PostgresMachine(), 11, 80)
