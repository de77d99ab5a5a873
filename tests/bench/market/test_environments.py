"""The market as seen by outside learners: their own API checkers, where they are installed."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

from counterpoint.bench.market.baselines.classic import Classic
from counterpoint.bench.market.baselines.parts import AsSoonAsPossible, Best, ByConversions
from counterpoint.bench.market.driver import play
from counterpoint.bench.market.environments import (
    Session,
    gymnasium_environment,
    pettingzoo_environment,
)
from tests.bench.market.small import small, world_of


def test_a_session_of_factor_one_is_the_policy_it_wraps() -> None:
    scenario = small(auctions=3_000)
    session = Session(scenario, 0)
    value = 0.0
    while not session.over:
        value += float(session.step(np.zeros(len(scenario.campaign))).sum())
        assert session.seen().shape == (len(scenario.campaign), 6)
    plain = Classic("x", "value", lambda p: Best(), ByConversions(), lambda p: AsSoonAsPossible())
    run = play(world_of(auctions=3_000), plain)
    assert value == pytest.approx(run.tally.value.sum() / 1e9)


@pytest.mark.filterwarnings("ignore")
def test_gymnasium_checks_it() -> None:
    pytest.importorskip("gymnasium")
    checker: Any = importlib.import_module("gymnasium.utils.env_checker")
    checker.check_env(gymnasium_environment(small(auctions=2_000)), skip_render_check=True)


@pytest.mark.filterwarnings("ignore")
def test_pettingzoo_checks_it() -> None:
    pytest.importorskip("pettingzoo")
    checker: Any = importlib.import_module("pettingzoo.test")
    checker.parallel_api_test(pettingzoo_environment(small(auctions=2_000)), num_cycles=60)
