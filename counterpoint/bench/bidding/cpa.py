"""Part ``cpa``: what an action costs at equal spend, against B1, a shaded PID bidder and ``tools``; and against its own target.

Equal spend: the opponent plays first; the agent, on its values, creatives and rules (learned from its own impressions), is given
for every day and campaign just what the opponent spent there, with its owner's preference for reach: it may bid above value
to spend it. What it leaves is counted as spent for nothing, so underspending cannot help it.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Final

import msgspec
import numpy as np
from msgspec import Struct

from counterpoint.bench.bidding.verdict import Bar, Context, Measured, PartResult, Table, Verdict, over_seeds
from counterpoint.bench.market.agent_player import PPM, Bidding
from counterpoint.bench.market.baselines.classic import Classic, tuned
from counterpoint.bench.market.baselines.ladder import LADDER
from counterpoint.bench.market.baselines.parts import Best, ByConversions, Pid
from counterpoint.bench.market.driver import Run, play
from counterpoint.bench.market.facts import NANOS, facts_of
from counterpoint.market.load import scenario_named
from counterpoint.market.scenario import Scenario, resized
from counterpoint.market.world import World

FIRST: Final = ", first price"  # the same market with every venue a first-price one
SCENARIOS: Final = ("stationary-v1", "drift-v1", "weekend-v1", "thin-market-v1", "stationary-v1" + FIRST)
TENFOLD: Final = ", ten times the traffic"
TARGET_SCENARIOS: Final = {
    "stationary-v1": 10,
    "delay-v1": 10,
    "stationary-v1" + TENFOLD: 4,
}  # how many seeds
RICH: Final = 20.0  # times the budgets, where the target is to bind
DECISIONS_A_DAY: Final = 24  # everybody's, on average
RATIO_MAX: Final = 0.8
OFF_TARGET_MAX: Final = 0.05
QUICK_AUCTIONS: Final = 6_000
PROCESSES: Final = 2


def shaded_pid(scenario: str) -> Classic:
    """B1's values, creatives and split; a constant shade and PID pacing, both tuned."""
    p = {**tuned(scenario, "pid"), "factor": tuned(scenario, "shade")["factor"]}
    return Classic(
        "shade-pid", "factor", lambda _: Best(), ByConversions(), lambda q: Pid(q["gain"], q["top"]), p
    )


OPPONENTS: Final[dict[str, Callable[[str], Classic]]] = {
    "manual": lambda _: LADDER["manual"](None),
    "shade-pid": shaded_pid,
    "tools": lambda _: LADDER["tools"](None),
}


class Sums(Struct, frozen=True, kw_only=True):
    """Of the judged days, account currency; by campaign where lists."""

    spend: list[float]
    worth: list[float]  # expected, at the goals' targets
    realised: list[float]
    conversions: float  # expected, all campaigns
    overspend: float


class Game(Struct, frozen=True, kw_only=True):
    """One scenario and seed: (opponent's, ours) by opponent, or ours alone under ``target``."""

    scenario: str
    seed: int
    pairs: dict[str, tuple[Sums, Sums]] = {}
    target: Sums | None = None


def sums_of(run: Run) -> Sums:
    t, judged = run.tally, slice(run.warm_up_days, None)
    over = np.maximum(t.spend[judged].sum(axis=1) - t.budget[judged].sum(axis=1), 0).sum()
    return Sums(
        spend=(t.spend[judged].sum(axis=0) / NANOS).tolist(),
        worth=(t.value[judged].sum(axis=0) / NANOS).tolist(),
        realised=(t.value_realised[judged].sum(axis=0) / NANOS).tolist(),
        conversions=float(t.conversions[judged].sum()),
        overspend=float(over) / NANOS,
    )


def _every(scenario: Scenario) -> int:
    return max(20, scenario.auctions // scenario.days // DECISIONS_A_DAY)


def _sized(name: str, quick: bool) -> Scenario:
    scenario = scenario_named(name.removesuffix(FIRST).removesuffix(TENFOLD))
    if name.endswith(TENFOLD):
        scenario = resized(scenario, 10 * scenario.auctions)
    if name.endswith(FIRST):
        venues = tuple(msgspec.structs.replace(venue, auction_type=1) for venue in scenario.venue)
        scenario = msgspec.structs.replace(scenario, venue=venues)
    if not quick:
        return scenario
    factor = scenario.budget_factor * QUICK_AUCTIONS / scenario.auctions
    return msgspec.structs.replace(scenario, auctions=QUICK_AUCTIONS, budget_factor=factor)


def against(name: str, seed: int, quick: bool) -> Game:
    scenario = _sized(name, quick)
    world = World(scenario, seed)
    facts, every = facts_of(scenario, world.design), _every(scenario)
    pairs = {}
    for opponent, make in OPPONENTS.items():
        tuned_on = name.removesuffix(FIRST)
        theirs = play(world, make(tuned_on), facts, batch=every)
        agent = Bidding("bidding", make(tuned_on), PPM, theirs.tally.spend)
        pairs[opponent] = (sums_of(theirs), sums_of(play(world, agent, facts, batch=every)))
    return Game(scenario=name, seed=seed, pairs=pairs)


def at_target(name: str, seed: int, quick: bool) -> Game:
    """Budgets that do not bind, an owner who wants all that its target allows."""
    scenario = _sized(name, quick)
    scenario = msgspec.structs.replace(scenario, budget_factor=scenario.budget_factor * RICH)
    world = World(scenario, seed)
    agent = Bidding("bidding", LADDER["manual"](None), PPM)
    run = play(world, agent, facts_of(scenario, world.design), batch=_every(scenario))
    return Game(scenario=name, seed=seed, target=sums_of(run))


def _job(kind: str, name: str, seed: int, quick: bool) -> bytes:
    return msgspec.json.encode(
        against(name, seed, quick) if kind == "against" else at_target(name, seed, quick)
    )


def cpa(context: Context) -> PartResult:
    seeds, quick = context.seeds, context.quick
    jobs = [("against", name, seed, quick) for seed in seeds for name in SCENARIOS]
    jobs += [("target", name, seed, quick) for name, n in TARGET_SCENARIOS.items() for seed in seeds[:n]]
    games = []
    # spawned: a fork would take along whatever threads there are
    with ProcessPoolExecutor(PROCESSES, multiprocessing.get_context("spawn")) as pool:
        for done, raw in enumerate(pool.map(_job, *zip(*jobs, strict=True))):
            games.append(msgspec.json.decode(raw, type=Game))
            context.report(f"{games[-1].scenario} seed {games[-1].seed}", done / len(jobs))
    return judged([game for game in games if game.target is None], [g for g in games if g.target is not None])


def judged(pairs: list[Game], targets: list[Game]) -> PartResult:
    verdicts, rows = [], []
    for name in SCENARIOS:
        games = [game for game in pairs if game.scenario == name]
        for opponent in OPPONENTS if games else ():
            both = [game.pairs[opponent] for game in games]
            bar = opponent == "manual"
            verdicts.append(
                Verdict(
                    bar=f"cost per action at the goals, of {opponent}'s, equal spend, {name}",
                    kind=Bar.AT_MOST if bar else Bar.REPORTED,
                    target=RATIO_MAX if bar else None,
                    measured=_ratio([sum(them.worth) / max(sum(us.worth), 1e-9) for them, us in both]),
                    behind=f"{len(both)} seeds, paired",
                )
            )
            rows.append((name, opponent, *_figures(both)))
    for opponent in OPPONENTS:
        both = [game.pairs[opponent] for game in pairs]
        verdicts.append(
            Verdict(
                bar=f"cost per action at the goals, of {opponent}'s, equal spend, all scenarios",
                kind=Bar.REPORTED,
                target=None,
                measured=_ratio([sum(them.worth) / max(sum(us.worth), 1e-9) for them, us in both]),
                behind=f"{len(both)} games, paired",
            )
        )
    head = (
        "scenario",
        "against",
        "our spend / theirs",
        "their cost/target",
        "ours",
        "their CPA",
        "ours",
        "seeds ahead",
    )
    tables = [
        Table(title="means over seeds; CPA: all spend over all conversions", head=head, rows=tuple(rows))
    ]
    tables.append(_targets(targets, verdicts))
    over = sum(us.overspend for game in pairs for _, us in game.pairs.values())
    over += sum(game.target.overspend for game in targets if game.target is not None)
    verdicts.append(
        Verdict(
            bar="overspend, all runs",
            kind=Bar.AT_MOST,
            target=0.0,
            measured=Measured(value=over),
            behind=f"{len(pairs) * len(OPPONENTS) + len(targets)} runs",
        )
    )
    notes = (
        "ratio: geometric mean; the opponent's worth over ours, for the opponent's spend on both sides",
        f"all venues together, two of three are first price; {FIRST[2:]}: the third one, too",
        "what is left counts as spent for nothing; our own spend over theirs is the first column",
        "shade-pid plays with the tuned factor of `shade` and the tuned PID of `pid`",
    )
    return PartResult(part="cpa", verdicts=tuple(verdicts), tables=tuple(tables), notes=notes)


def _ratio(ratios: list[float]) -> Measured:
    logs = over_seeds(np.log(ratios).tolist())
    low, high = (None if x is None else float(np.exp(x)) for x in (logs.low, logs.high))
    return Measured(value=float(np.exp(logs.value)), low=low, high=high)


def _figures(both: list[tuple[Sums, Sums]]) -> tuple[str, ...]:
    def pooled(who: int, of: Callable[[Sums], float]) -> float:
        spend = sum(sum(pair[who].spend) for pair in both)
        return spend / max(sum(of(pair[who]) for pair in both), 1e-9)

    spent = np.mean([sum(us.spend) / max(sum(them.spend), 1e-9) for them, us in both])
    ahead = sum(sum(us.worth) > sum(them.worth) for them, us in both)
    costs = [pooled(who, lambda sums: sum(sums.worth)) for who in (0, 1)]
    cpas = [pooled(who, lambda sums: sums.conversions) for who in (0, 1)]
    return (f"{spent:.3f}", *(f"{x:.3f}" for x in (*costs, *cpas)), f"{ahead} of {len(both)}")


def _targets(targets: list[Game], verdicts: list[Verdict]) -> Table:
    rows = []
    for name in TARGET_SCENARIOS:
        found = [game.target for game in targets if game.scenario == name and game.target is not None]
        if not found:
            continue
        ratios = [sum(s.spend) / max(sum(s.worth), 1e-9) for s in found]
        verdicts.append(
            Verdict(
                bar=f"cost over target less 1, absolute, all campaigns, target binding, {name}",
                kind=Bar.AT_MOST,
                target=OFF_TARGET_MAX,
                measured=Measured(value=abs(float(np.mean(ratios)) - 1.0)),
                behind=f"mean of {len(found)} seeds; {min(ratios):.3f} to {max(ratios):.3f} of target",
            )
        )
        scenario = scenario_named(name.removesuffix(TENFOLD))
        for c, campaign in enumerate(scenario.campaign):
            spend, worth = (sum(of) for of in zip(*((s.spend[c], s.worth[c]) for s in found), strict=True))
            share = spend / max(sum(sum(s.spend) for s in found), 1e-9)
            ratio = f"{spend / worth:.3f}" if worth > 0.0 else "-"
            rows.append((name, campaign.id, f"{share:.3f}", ratio))
    head = ("scenario", "campaign", "share of spend", "cost / target")
    return Table(title="cost over target, budgets not binding, seeds pooled", head=head, rows=tuple(rows))
