"""kill -9 in the middle of a real process's transactions, again and again: nothing lost, nothing twice."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from counterpoint.ledger.books import Ledger
from tests.ledger.build import DAY, campaign, catalog
from tests.ledger.crashing import GRANTS, PAID, SETTLEMENTS

ROOT = Path(__file__).parents[2]
KILLS = 3


def test_killed_in_the_middle_it_loses_nothing_and_books_nothing_twice(sqlite: str) -> None:
    chance = random.Random(5)
    for _ in range(KILLS):
        with subprocess.Popen(
            [sys.executable, "-m", "tests.ledger.crashing", sqlite],
            stdout=subprocess.PIPE,
            cwd=ROOT,
            text=True,
        ) as process:
            assert process.stdout is not None
            for _ in range(chance.randint(1, 12)):
                process.stdout.readline()
            time.sleep(chance.random() * 0.01)  # anywhere between two commits
            process.send_signal(signal.SIGKILL)
        ledger = Ledger(sqlite, catalog(campaign(units=100)))
        verification = ledger.verify()
        assert verification.problems == ()
        position = ledger.position("MONEY")
        assert position is not None
        # the position and what was booked under it are one: every notice up to it, none after it
        assert verification.settlements == max(0, position[0] - GRANTS - 1)
        ledger.close()
    finished = subprocess.run(
        [sys.executable, "-m", "tests.ledger.crashing", sqlite],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        text=True,
        check=True,
    )
    assert finished.stdout.endswith("done\n")
    ledger = Ledger(sqlite, catalog(campaign(units=100)))
    account = ledger.account("c1", DAY)
    assert account is not None
    assert account.spent_on_time == SETTLEMENTS * PAID
    assert ledger.verify().settlements == SETTLEMENTS
    assert len(ledger.allowances()) == GRANTS
