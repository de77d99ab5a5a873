"""A live system's run as the scoreboard counts it: beside the policies of the ladder, judged by the same sums."""

from __future__ import annotations

from counterpoint.bench.market.driver import Run
from counterpoint.market.live.play import Played


def run_of(played: Played, warm_up_days: int = 0) -> Run:
    """``warm_up_days``: those the :class:`~counterpoint.market.house.House` left out of its reach."""
    return Run(
        policy="live" if played.agents else "live, no agents",
        oracle=False,
        scenario=played.scenario,
        digest=played.digest,
        seed=played.seed,
        auctions=played.auctions,
        warm_up_days=warm_up_days,
        tally=played.tally,
        reach=played.reach,
        reach_by_campaign=played.reach_by_campaign,
        refused=played.unfit,
        out_of_money=played.no_bids.get("no_allowance", 0),
        seconds=played.seconds,
    )
