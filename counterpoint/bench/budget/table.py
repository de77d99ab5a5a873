"""What money truly brings in a simulated market, campaign by campaign and epoch by epoch, out of ``World``'s own odds.

Per epoch, campaign and supply path: expected cost, value and impressions of bidding b everywhere, exact given people, pages
and floors (``World.win_probability``, true response probabilities, creatives alike). Competent bidding is then one price of
money l for all of a campaign's paths, at each the bid with the highest value - l x cost (ALGORITHMS 1.3), so a campaign's
curve is concave, and its slope is l. Campaigns are taken one by one: that two want the same impression, and that people
tire, is not in the table; ``validate.py`` plays the real driver against it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from counterpoint.bench.market.facts import Facts, Floats, facts_of
from counterpoint.bench.market.known import grid_micros, true_values, win_table
from counterpoint.catalog.model import Goal
from counterpoint.market.chance import Stream, normals
from counterpoint.market.scenario import DAY_NS, STARTS_AT_NS, Scenario
from counterpoint.market.state import Exposures
from counterpoint.market.world import World

EPOCHS_A_DAY: Final = 4
EPOCH_NS: Final = DAY_NS // EPOCHS_A_DAY
LAGS: Final = 28
BID_RATIO: Final = 1.12
PRICES: Final = np.geomspace(24.0, 0.25, 48)  # of money: value per unit of spend at the margin
DELAY_DRAWS: Final = 4_000


class Table(Struct, frozen=True, kw_only=True):
    """Money in account currency units. e epoch, c campaign, l price of money, s supply path."""

    spend: Floats  # [e, c, l] rising in l
    value: Floats  # [e, c, l, s] at no advertising stock
    shown: Floats  # [e, c, l, s] impressions, in shares of a day's auctions
    auctions: Floats  # [e] auctions of the epoch
    event: Floats  # [c] worth of one event at the goal, with the spread of its size: variance / mean of value
    converts: NDArray[np.bool_]  # [c] the goal counts conversions: late, and lifted by the stock
    delay: Floats  # [LAGS + 1] share of conversions by epochs after the impression; the last holds the rest
    budget: Floats  # [c] a day, as the owner split it


class Sums(Struct, frozen=True, kw_only=True):
    """[e, c, s, bid] over the epoch's auctions of bidding ``grid[bid]`` in all of them; money in nanos."""

    grid: Floats
    value: Floats
    cost: Floats
    shown: Floats
    auctions: Floats  # [e]


def sums(world: World, facts: Facts) -> Sums:
    scenario = world.scenario
    epochs, campaigns, paths = scenario.days * EPOCHS_A_DAY, facts.campaigns, len(scenario.supply)
    grid = np.floor(grid_micros(int(facts.ceiling_micros.max()), BID_RATIO))
    value = np.zeros((epochs, campaigns, paths, grid.size))
    cost, shown = np.zeros_like(value), np.zeros_like(value)
    counts = np.zeros(epochs)
    nobody = Exposures(scenario)
    second = np.array([scenario.venue[v].auction_type == 2 for v in facts.supply_venue])
    for first, end in world.day_auctions():
        auctions = world.batch(first, end - first)
        if not len(auctions):
            continue
        odds = win_table(world, auctions, world.truth(auctions), grid)
        worth = true_values(world, facts, auctions, nobody, None).mean
        epoch = (auctions.t_ns - STARTS_AT_NS) // EPOCH_NS
        counts += np.bincount(epoch, minlength=epochs)
        paid = odds * grid
        rising = np.maximum(np.diff(odds, axis=1, prepend=0.0), 0.0)
        middle = 0.5 * (grid + np.concatenate([[0.0], grid[:-1]]))
        paid_second = np.cumsum(rising * np.maximum(middle, auctions.floor_micros[:, None]), axis=1)
        for e in np.unique(epoch).tolist():
            for s in range(paths):
                rows = np.flatnonzero((epoch == e) & (auctions.supply == s))
                if not rows.size:
                    continue
                able = (worth[rows] > 0).astype(np.float64)
                value[e, :, s] = worth[rows].T @ odds[rows]
                shown[e, :, s] = able.T @ odds[rows]
                cost[e, :, s] = able.T @ (paid_second if second[s] else paid)[rows]
    return Sums(grid=grid, value=value, cost=cost, shown=shown, auctions=counts)


def table(scenario: Scenario, seed: int, paths: bool = False) -> Table:
    """``paths``: one arm per campaign and supply path instead of one per campaign; the campaign's daily budget is split
    equally over its paths, and c counts campaigns times paths (the campaign's first), s one."""
    world = World(scenario, seed)
    facts = facts_of(scenario, world.design)
    of = sums(world, facts)
    value, cost, shown = of.value, of.cost, of.shown
    surplus = value[..., None, :] - PRICES[:, None] * cost[..., None, :]  # [e, c, s, l, bid]
    best = surplus.argmax(axis=-1)
    pays = np.take_along_axis(surplus, best[..., None], axis=-1)[..., 0] > 0

    def chosen(what: Floats) -> Floats:
        picked = np.take_along_axis(what, best.reshape(*what.shape[:3], -1), axis=-1)
        return np.moveaxis(np.where(pays, picked, 0.0), 2, 3)

    conversions = np.array([g in (Goal.CONVERSIONS, Goal.VALUE) for g in facts.goals])
    sigma = np.array([c.order_sigma for c in scenario.campaign])
    event = facts.worth[:, 0] + facts.worth[:, 1] + facts.worth[:, 2] + facts.worth[:, 3] * facts.order_value
    spread = np.where([g is Goal.VALUE for g in facts.goals], np.exp(sigma**2), 1.0)
    spend, won, seen = chosen(cost), chosen(value), chosen(shown)
    per_day = scenario.days / scenario.auctions
    event, budget = event * spread / 1e9, facts.day_budget_nanos / 1e9
    if paths:
        count = spend.shape[-1]
        spend, won, seen = (_apart(what) for what in (spend, won, seen))
        event, budget, conversions = (np.repeat(each, count) for each in (event, budget / count, conversions))
    return Table(
        spend=np.maximum.accumulate(spend.sum(axis=-1), axis=-1) / 1e9,
        value=won / 1e9,
        shown=seen * per_day,
        auctions=of.auctions,
        event=event,
        converts=conversions,
        delay=_delays(world),
        budget=budget,
    )


def _apart(what: Floats) -> Floats:
    """[e, c, l, s] to [e, c times s, l, 1]."""
    e, c, prices, s = what.shape
    return np.moveaxis(what, 3, 2).reshape(e, c * s, prices, 1)


def _delays(world: World) -> Floats:
    """Click and order come after the impression, which falls anywhere in its epoch."""
    normal = normals(world.seed, Stream.DELAY, np.arange(DELAY_DRAWS))[0]
    late_ns = world.delays.values(normal) * 1e9
    at = (late_ns[:, None] / EPOCH_NS + (np.arange(16) + 0.5) / 16).astype(np.int64)
    return np.bincount(np.minimum(at, LAGS).ravel(), minlength=LAGS + 1) / at.size


def kept(scenario: Scenario, seed: int, folder: Path | None, paths: bool = False) -> Table:
    """From ``folder`` where it was made before with the same scenario; else made, and kept there."""
    if folder is None:
        return table(scenario, seed, paths)
    path = folder / f"{scenario.name}-{scenario.digest[:12]}-{seed}{'-paths' if paths else ''}.npz"
    if path.exists():
        with np.load(path, allow_pickle=False) as held:
            return Table(**{name: held[name] for name in Table.__struct_fields__})
    made = table(scenario, seed, paths)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **{name: getattr(made, name) for name in Table.__struct_fields__})
    return made
