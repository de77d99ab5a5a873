"""The live system on the scoreboard: its own driver, the same world, the same books of truth, the same score.

Not all is alike. It plays through the bidder, one auction at a time, with frequency caps and money as live: allowances of
a ledger, and pools of one advertiser each, where the ladder moves money among all campaigns. So it can only be judged
too low. ``live`` has its agents, ``live-fallback`` none: the bidder's stated fallback policies.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec
import numpy as np

from counterpoint.bench.market.driver import Run
from counterpoint.bench.market.facts import Facts
from counterpoint.market.live.agents import LEARNERS
from counterpoint.market.live.play import Game
from counterpoint.market.live.tempo import Tempo
from counterpoint.market.world import World
from counterpoint.openrtb.nobid import NoBidReason

LIVE: Final[dict[str, tuple[str, ...]]] = {"live": tuple(LEARNERS), "live-fallback": ()}


def play_live(
    name: str,
    world: World,
    facts: Facts,
    progress: Callable[[int], None] | None = None,
    tempo: Tempo | None = None,
) -> Run:
    """One of :data:`LIVE`. Fails where the ledger's audit finds anything, or booked another sum than the market was paid."""
    game = Game(
        world.scenario,
        world.seed,
        agents=LIVE[name],
        tempo=tempo,
        warm_up_days=facts.warm_up_days,
        world=world,
    )
    try:
        played = game.play(progress)
        reach_by_campaign = game.house.reach_by_campaign
    finally:
        game.system.close()
    assert played.problems == (), f"the ledger's audit: {played.problems}"
    assert played.booked_nanos == played.house_paid_nanos, "booked what was paid"
    budget = np.tile(facts.day_budget_nanos, (world.scenario.days, 1))
    return Run(
        policy=name,
        oracle=False,
        scenario=played.scenario,
        digest=played.digest,
        seed=played.seed,
        auctions=played.auctions,
        warm_up_days=facts.warm_up_days,
        tally=msgspec.structs.replace(played.tally, budget=budget),
        reach=played.reach,
        reach_by_campaign=reach_by_campaign,
        refused=played.unfit,
        out_of_money=played.no_bids.get(NoBidReason.BUDGET_SPENT.value, 0),
        seconds=played.seconds,
    )
