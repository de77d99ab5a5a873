"""Part ``pacing``: value of the paced multiplier against the best fixed one of each day in hindsight, and spend at the day's end.

One campaign of weekend-v1 with the true worth of each impression; its win curve known (all rivals of the run, by supply
path) or learned. The plan's shape is learned from the traffic that passes. Hindsight prices with the known curve at one
multiplier a day, the best for the very auctions and budget of that day: better than one multiplier for all days.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Final

import numpy as np
from msgspec import Struct

from counterpoint.base.clock import NS_PER_S
from counterpoint.bench.bidding.verdict import Bar, Context, PartResult, Table, Verdict, over_seeds
from counterpoint.bench.market.agent_player import owned_campaigns, price_all
from counterpoint.bench.market.driver import CHUNK
from counterpoint.bench.market.facts import Facts, Floats, facts_of
from counterpoint.bidding.pacing import HOUR_NS, Pace
from counterpoint.bidding.policy import curve_table
from counterpoint.bidding.segments import lineage
from counterpoint.bidding.state import BiddingConfig, Money, State
from counterpoint.bidding.steering import day_name, local_day, pace_campaigns
from counterpoint.bidding.win_curve import WinCurves
from counterpoint.bidding.win_shapes import EDGES, to_knots
from counterpoint.market.auctions import Rows
from counterpoint.market.design import MEDIA
from counterpoint.market.load import scenario_named
from counterpoint.market.scenario import DAY_NS, STARTS_AT_NS
from counterpoint.market.world import World

SCENARIO: Final = "weekend-v1"
CAMPAIGN: Final = "lumen-installs"
BUDGETS: Final = {
    "1/32": 1 / 32,
    "1/8": 1 / 8,
    "1/4": 1 / 4,
    "1/2": 1 / 2,
}  # of a mean day's cost at multiplier 1
STEP_NS: Final = 900 * NS_PER_S
JUDGED_FROM: Final = 7  # every hour of the week has been seen once
REFRESH_ROWS: Final = 500
GRID: Final = 1.01 ** np.arange(0, 400)  # multipliers, 1 to 53
QUICK_DAYS: Final = 9
VALUE_MIN, GAP_MAX = 0.975, 0.01
HALF: Final = 500_000


class Stream(Struct, frozen=True, kw_only=True):
    """Auctions the campaign can bid in, in the order of time, and what the run knows of them."""

    facts: Facts
    t_ns: Rows
    day: Rows
    supply: Rows
    second: Any
    floor: Floats
    threshold: Floats
    told: Any  # the minimum comes back in any case
    value: Floats  # micros CPM
    known: Floats  # tables by supply path
    segments: tuple[str, ...]


def stream_of(seed: int, quick: bool) -> Stream:
    scenario = scenario_named(SCENARIO)
    world = World(scenario, seed)
    facts = facts_of(scenario, world.design)
    mine = facts.creative_campaign == facts.campaign_ids.index(CAMPAIGN)
    first = np.where((facts.fits & mine).any(axis=1), (facts.fits & mine).argmax(axis=1), -1)
    parts = []
    for start in range(0, scenario.auctions, CHUNK):
        auctions = world.batch(start, min(CHUNK, scenario.auctions - start))
        truth = world.truth(auctions)
        creative = first[facts.formats(auctions)]
        rows = np.flatnonzero(creative >= 0)
        columns = (
            auctions.t_ns,
            auctions.supply,
            auctions.auction_type == 2,
            auctions.floor_micros,
            truth.threshold_micros,
            facts.minimum_told[auctions.venue],
            truth.rival_micros,
        )
        worth = world.values(auctions, rows, creative[rows])
        parts.append((*(column[rows] for column in columns), worth))
        if quick and int(auctions.t_ns[-1]) > STARTS_AT_NS + QUICK_DAYS * DAY_NS:
            break
    t_ns, supply, second, floor, threshold, told, rival, value = (
        np.concatenate(column) for column in zip(*parts, strict=True)
    )
    known = np.stack([curve_table(None)] * facts.supply_venue.size)
    for s in np.unique(supply).tolist():
        rivals = np.sort(rival[supply == s])
        rates = np.searchsorted(rivals, EDGES, side="right") / rivals.size
        known[s] = curve_table(to_knots(EDGES, rates, float(rivals.size)))
    return Stream(
        facts=facts,
        t_ns=t_ns,
        day=(t_ns - STARTS_AT_NS) // DAY_NS,
        supply=supply.astype(np.int64),
        second=second,
        floor=np.maximum(floor, 1).astype(np.float64),
        threshold=threshold.astype(np.float64),
        told=told,
        value=value,
        known=known,
        segments=tuple(
            f"{venue}/{MEDIA[media]}"
            for venue, media in zip(facts.supply_venue, facts.supply_media, strict=True)
        ),
    )


def bids_at(s: Stream, rows: slice, tables: Floats, multiplier: float) -> Floats:
    paced = s.value[rows, None] / multiplier
    bids, scores = np.zeros(paced.shape), np.zeros(paced.shape)
    one = np.ones(len(paced))
    price_all(tables, s.supply[rows], s.second[rows], s.floor[rows], paced, paced, one, bids, scores)
    return np.asarray(bids[:, 0])


def outcome(s: Stream, rows: slice, bids: Floats, left: float) -> tuple[Floats, Floats]:
    """(paid, value) per auction; once the money does not suffice, nothing is bid."""
    won = (bids > 0.0) & (bids >= s.threshold[rows])
    paid = np.where(won, np.where(s.second[rows], s.threshold[rows], bids), 0.0)
    covered = np.cumsum(paid) <= left
    return paid * covered, np.where(won & covered, s.value[rows], 0.0)


def days_of(s: Stream) -> list[slice]:
    edges = np.searchsorted(s.day, np.arange(int(s.day[-1]) + 2))
    return [slice(a, b) for a, b in pairwise(edges.tolist())]


def hindsight(s: Stream, budgets: dict[str, float]) -> dict[str, tuple[Floats, Floats]]:
    """By budget: each day's best value, and what it cost."""
    days = days_of(s)
    best = {name: (np.zeros(len(days)), np.zeros(len(days))) for name in budgets}
    for multiplier in GRID:
        for d, rows in enumerate(days):
            bids = bids_at(s, rows, s.known, float(multiplier))
            for name, budget in budgets.items():
                paid, value = outcome(s, rows, bids, budget)
                if value.sum() > best[name][0][d]:
                    best[name][0][d], best[name][1][d] = value.sum(), paid.sum()
    return best


class Paced(Struct, frozen=True, kw_only=True):
    value: list[float]  # by day
    spend: list[float]
    hourly_spend: list[float]


def paced(s: Stream, budget: float, learned: bool) -> Paced:
    """The agent's pacing, a step every :data:`STEP_NS`."""
    campaign = owned_campaigns(s.facts, HALF)[CAMPAIGN]
    state = State()
    money = state.money[CAMPAIGN] = Money(budget=int(budget))
    pace = state.paces[CAMPAIGN] = Pace()
    curves = WinCurves(BiddingConfig().curve_half_life_s)
    tables = np.stack([curve_table(None)] * len(s.segments)) if learned else s.known
    days = int(s.day[-1]) + 1
    value, spend = np.zeros(days), np.zeros(days)
    hourly = np.zeros(days * 24)
    steps = range(STARTS_AT_NS, STARTS_AT_NS + days * DAY_NS, STEP_NS)
    edges = np.searchsorted(s.t_ns, np.array([*steps, steps[-1] + STEP_NS]))
    waiting = 0
    for k, now_ns in enumerate(steps):
        day = (now_ns - STARTS_AT_NS) // DAY_NS
        money.day = day_name(local_day(campaign, now_ns))
        money.spent_governed = money.spent_all = int(spend[day])
        pace_campaigns(state, {CAMPAIGN: campaign}, now_ns)
        rows = slice(int(edges[k]), int(edges[k + 1]))
        if rows.start == rows.stop:
            continue
        bids = bids_at(s, rows, tables, pace.multiplier(1.0))
        paid, worth = outcome(s, rows, bids, budget - spend[day])
        value[day] += worth.sum()
        spend[day] += paid.sum()
        hourly[(now_ns - STARTS_AT_NS) // HOUR_NS] += paid.sum()
        state.supply = True
        state.forecast.count(float(rows.stop - rows.start), now_ns)
        wins = int((paid > 0).sum())
        pace.spent, pace.wins, pace.bids = int(paid.sum()), wins, int((bids > 0).sum())
        if learned:
            waiting += _teach(s, rows, bids, curves)
            if waiting >= REFRESH_ROWS:
                waiting = 0
                if curves.refresh():
                    tables = _tables(s, curves)
    return Paced(value=value.tolist(), spend=spend.tolist(), hourly_spend=hourly.tolist())


def _teach(s: Stream, rows: slice, bids: Floats, curves: WinCurves) -> int:
    at = np.flatnonzero(bids > 0.0) + rows.start
    won = bids[at - rows.start] >= s.threshold[at]
    told = s.told[at] | (won & s.second[at])
    for supply, bid, w, t, minimum, floor in zip(
        *(
            x.tolist()
            for x in (
                s.supply[at],
                bids[at - rows.start].astype(np.int64),
                won,
                told,
                s.threshold[at].astype(np.int64),
                s.floor[at].astype(np.int64),
            )
        ),
        strict=True,
    ):
        curves.add(s.segments[supply], bid, w, max(minimum, 1) if t else None, floor_nanos=floor)
    curves.decay(STEP_NS / NS_PER_S)
    return int(at.size)


def _tables(s: Stream, curves: WinCurves) -> Floats:
    found = curves.curves
    sources = [next((name for name in lineage(seg) if name in found), None) for seg in s.segments]
    return np.stack([curve_table(None if name is None else found[name]) for name in sources])


def pacing(context: Context) -> PartResult:
    shares: dict[tuple[str, str, str], list[float]] = {}
    drawn: dict[str, tuple[Paced, float]] = {}
    for done, seed in enumerate(context.seeds):
        context.report(f"seed {seed}", done / len(context.seeds))
        s = stream_of(seed, context.quick)
        whole = slice(0, s.t_ns.size)
        paid, _ = outcome(s, whole, bids_at(s, whole, s.known, 1.0), np.inf)
        budgets = {name: float(paid.sum()) / (int(s.day[-1]) + 1) * share for name, share in BUDGETS.items()}
        best = hindsight(s, budgets)
        for name, budget in budgets.items():
            value, cost = best[name]
            binds = (np.arange(value.size) >= JUDGED_FROM) & (cost > (1.0 - GAP_MAX) * budget)
            for curve in ("known", "learned"):
                run = paced(s, budget, curve == "learned")
                drawn.setdefault(f"{name}, {curve}", (run, budget))
                got, spent = np.array(run.value), np.array(run.spend) / budget
                of = {
                    "value": got[JUDGED_FROM:].sum() / value[JUDGED_FROM:].sum(),
                    "first week": got[:JUDGED_FROM].sum() / value[:JUDGED_FROM].sum(),
                    "gap": np.abs(spent[binds] - 1.0).mean() if binds.any() else 0.0,
                    "worst gap": np.abs(spent[binds] - 1.0).max() if binds.any() else 0.0,
                    "binding days": float(binds.sum()),
                }
                for what, figure in of.items():
                    shares.setdefault((curve, name, what), []).append(float(figure))
    if context.plots is not None:
        _plot(context, drawn)
    return _judged(shares, f"{len(context.seeds)} seeds")


def _judged(shares: dict[tuple[str, str, str], list[float]], behind: str) -> PartResult:
    verdicts, rows = [], []
    for curve in ("known", "learned"):
        for name in BUDGETS:
            for what, kind, target, text in (
                ("value", Bar.AT_LEAST, VALUE_MIN, "value of the best fixed multiplier of each day"),
                (
                    "gap",
                    Bar.AT_MOST,
                    GAP_MAX,
                    "spend off its budget at the day's end, mean of the days it binds",
                ),
            ):
                verdicts.append(
                    Verdict(
                        bar=f"{text}, {name} of full spend, curve {curve}",
                        kind=kind,
                        target=target,
                        measured=over_seeds(shares[curve, name, what]),
                        behind=behind,
                    )
                )
            means = {
                what: float(np.mean(of)) for (c, n, what), of in shares.items() if (c, n) == (curve, name)
            }
            rows.append((f"{name}, curve {curve}", *(f"{x:.4f}" for x in means.values())))
    heads = ("value", "first week's", "gap", "worst day's gap", "days that bind")
    table = Table(
        title=f"{CAMPAIGN} in {SCENARIO}, means over seeds", head=("budget", *heads), rows=tuple(rows)
    )
    return PartResult(part="pacing", verdicts=tuple(verdicts), tables=(table,))


def _plot(context: Context, drawn: dict[str, tuple[Paced, float]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    assert context.plots is not None
    figure, axes = plt.subplots(len(BUDGETS), 1, figsize=(11, 10), sharex=True)
    for axis, name in zip(axes, BUDGETS, strict=True):
        for curve, colour in (("known", "tab:blue"), ("learned", "tab:orange")):
            run, budget = drawn[f"{name}, {curve}"]
            by_day = np.cumsum(np.array(run.hourly_spend).reshape(-1, 24), axis=1) / budget
            hours = np.arange(by_day.size) / 24.0
            axis.plot(hours, by_day.ravel(), color=colour, lw=1.2, label=f"curve {curve}")
        axis.axhline(1.0, color="grey", lw=0.8, ls="--", label="budget")
        axis.set_ylabel(f"{name}: share spent")
    axes[0].legend(ncols=3, loc="upper left")
    axes[0].set_title(
        f"{SCENARIO}, {CAMPAIGN}, seed {context.seeds[0]}: spend of each day against its budget"
    )
    axes[-1].set_xlabel("day (0: Monday)")
    figure.tight_layout()
    figure.savefig(context.plots / "pacing.png", dpi=110)
    plt.close(figure)
