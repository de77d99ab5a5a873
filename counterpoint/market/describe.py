"""``counterpoint market describe``: what a scenario is, in tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from msgspec import Struct
from rich.table import Table

from counterpoint.market.auctions import Auctions, Floats, Truth
from counterpoint.market.catalogue import budget_micros
from counterpoint.market.scenario import Scenario
from counterpoint.market.world import MICROS, World

SAMPLE_MAX: Final = 100_000
VALUED_MAX: Final = 20_000  # auctions in which every creative is valued


class Survey(Struct, frozen=True):
    """A world looked at: a sample of its auctions, evenly over the scenario, with their truths."""

    world: World
    auctions: Auctions
    truth: Truth


def survey(scenario: Scenario, seed: int) -> Survey:
    world = World(scenario, seed)
    auctions = world.batch(0, min(scenario.auctions, SAMPLE_MAX))
    if scenario.auctions > SAMPLE_MAX:
        step = scenario.auctions // 100
        parts = [world.batch(k * step, SAMPLE_MAX // 100) for k in range(100)]
        columns = {
            name: np.concatenate([getattr(p, name) for p in parts]) for name in Auctions.__struct_fields__
        }
        auctions = Auctions(**columns)
    return Survey(world, auctions, world.truth(auctions))


def tables(of: Survey) -> Iterator[Table]:
    yield _summary(of)
    yield _supply(of)
    yield _demand(of)
    changes = _changes(of.world.scenario)
    if changes.row_count:
        yield changes


def _summary(of: Survey) -> Table:
    s, design = of.world.scenario, of.world.design
    table = Table(title=f"{s.name}: {s.title}", show_header=False)
    clicks = np.exp(of.world.people.click_bias)
    for name, value in (
        ("digest", s.digest),
        ("seed", str(of.world.seed)),
        ("auctions", f"{s.auctions:,} over {s.days} days"),
        (
            "people",
            f"{s.users.count:,}, {s.users.consent_share:.0%} with an id; clicks vary {_spread(clicks)}",
        ),
        (
            "creatives",
            f"{design.count} in {len(design.line_items)} line items of {len(s.campaign)} campaigns",
        ),
        ("appeal of creatives", f"odds of a click vary {_spread(np.exp(of.world.ads.appeal[:, 0]))}"),
        ("delay to conversion", _delays(of)),
    ):
        table.add_row(name, value)
    return table


def _supply(of: Survey) -> Table:
    table = Table(title="Supply: the least bid that wins, CPM of the account currency")
    for head in (
        "path",
        "auction",
        "share",
        "floor",
        "p10",
        "p50",
        "p90",
        "explained",
        "tells least bid to win",
    ):
        table.add_column(head, justify="left" if head in ("path", "auction") else "right")
    s = of.world.scenario
    for n, path in enumerate(s.supply):
        here = of.auctions.supply == n
        prices = of.truth.threshold_micros[here] / MICROS
        floors = of.auctions.floor_micros[here] / MICROS
        venue = next(v for v in s.venue if v.id == path.venue)
        table.add_row(
            f"{path.venue}/{path.media.value}",
            "first price" if venue.auction_type == 1 else "second price",
            f"{here.mean():.1%}",
            f"{np.median(floors):.2f}" if floors.size else "",
            *(f"{q:.2f}" for q in (np.percentile(prices, (10, 50, 90)) if prices.size else ())),
            f"{path.prices.explained:.2f}",
            "yes" if venue.minimum_bid_to_win else "no",
        )
    return table


def _demand(of: Survey) -> Table:
    table = Table(
        title="Demand: true worth of an impression with the best creative, CPM; rates with that creative"
    )
    for head in (
        "campaign",
        "goal",
        "budget/day",
        "fits",
        "p10",
        "p50",
        "p90",
        "click",
        "conversion | click",
    ):
        table.add_column(head, justify="left" if head in ("campaign", "goal") else "right")
    s = of.world.scenario
    best = best_values(of)
    for n, campaign in enumerate(s.campaign):
        value, click, conversion = best[:, n]
        fits = ~np.isnan(value)
        row = (np.percentile(value[fits], (10, 50, 90)) / MICROS).tolist() if fits.any() else []
        table.add_row(
            campaign.id,
            campaign.goal.value,
            f"{budget_micros(s, n) / MICROS:.2f}",
            f"{fits.mean():.1%}",
            *(f"{q:.2f}" for q in row),
            f"{np.nanmean(click):.2%}" if row else "",
            f"{np.nanmean(conversion):.1%}" if row else "",
        )
    return table


def best_values(of: Survey) -> Floats:
    """[value, click, conversion | campaign | auction] of each campaign's best creative, NaN where none fits."""
    step = max(1, len(of.auctions) // VALUED_MAX)
    auctions = of.auctions.take(np.arange(0, len(of.auctions), step))
    out = np.full((3, len(of.world.scenario.campaign), len(auctions)), np.nan)
    keys = (
        auctions.media.astype(np.int64) * 100_000
        + (auctions.size.astype(np.int64) + 1) * 100
        + auctions.country
    )
    for key in np.unique(keys).tolist():
        rows = np.flatnonzero(keys == key)
        first = int(rows[0])
        fits = of.world.design.fitting(
            int(auctions.media[first]), int(auctions.size[first]), int(auctions.country[first])
        )
        if not fits.size:
            continue
        r = of.world.responses(auctions, np.repeat(rows, fits.size), np.tile(fits, rows.size))
        live = of.world.design.live(
            np.tile(fits, rows.size), np.repeat(auctions.t_ns[rows], fits.size)
        ).reshape(rows.size, -1)
        value, click, conversion = (c.reshape(rows.size, -1) for c in (r.value_micros, r.click, r.conversion))
        value = np.where(live, value, -1.0)
        for campaign in np.unique(of.world.design.campaign[fits]).tolist():
            own = np.flatnonzero(of.world.design.campaign[fits] == campaign)
            top = own[np.argmax(value[:, own], axis=1)]
            at = np.arange(rows.size)
            for lane, column in enumerate((value, click, conversion)):
                out[lane, campaign, rows] = column[at, top]
    return out


def _changes(s: Scenario) -> Table:
    table = Table(title="What changes, and what actions leave behind")
    table.add_column("what")
    table.add_column("how")
    d, c, a = s.drift, s.carry_over, s.adversary
    if d.price_sd or d.price_trend:
        table.add_row(
            "prices drift", f"log price: sd {d.price_sd} per day^0.5, trend {d.price_trend:+} per day"
        )
    if d.appeal_sd:
        table.add_row(
            "appeal wanders", f"sd {d.appeal_sd} (logit), one day like the next with {d.appeal_memory}"
        )
    if d.taste_turn_deg:
        table.add_row("tastes turn", f"{d.taste_turn_deg} degrees a day")
    if s.traffic.weekend_volume != 1 or s.traffic.weekend_price != 1:
        table.add_row("weekends", f"volume x {s.traffic.weekend_volume}, prices x {s.traffic.weekend_price}")
    for jump in s.jump:
        table.add_row(
            f"jump on day {jump.day:g}",
            f"prices x {jump.price} {_where(jump.venues)}; appeal anew for {jump.appeal_share:.0%}; conversions x {jump.conversion}",
        )
    for shock in s.shock:
        table.add_row(
            f"shock, days {shock.from_day:g} to {shock.to_day:g}",
            f"prices x {shock.price} {_where(shock.venues)}; volume x {shock.volume}",
        )
    for outage in s.outage:
        table.add_row(
            f"outage, days {outage.from_day:g} to {outage.to_day:g}",
            f"{outage.lost:.0%} of {', '.join(outage.kinds)} reports lost {_where(outage.venues)}",
        )
    if a.rival_gain or a.floor_follows:
        table.add_row(
            "rivals answer us",
            f"{_where(a.venues)}: log price + {a.rival_gain} x (our win rate - {a.reference}); floors follow {a.floor_follows:.0%} of our mean bid; every {a.window} auctions",
        )
    if c.gain or c.saturates_at is not None:
        table.add_row(
            "carry-over",
            f"conversions up to x {1 + c.gain}, half at a stock of {c.half_at} of a day's auctions, half-life {c.half_life_days} days, saturates at {c.saturates_at}",
        )
    if s.churn.generations > 1:
        table.add_row("churn", f"creatives live {s.churn.life_days} days, {s.churn.generations} generations")
    if s.click.link == "steep" or s.click.wear_in:
        table.add_row(
            "other shapes", f"clicks {s.click.link} in affinity; wear-in over {s.click.wear_in} exposures"
        )
    return table


def _where(venues: tuple[str, ...]) -> str:
    return f"on {', '.join(venues)}" if venues else "everywhere"


def _spread(odds: Floats) -> str:
    low, high = np.percentile(odds, (10, 90))
    return f"{high / low:.1f}-fold (p90 / p10)"


def _delays(of: Survey) -> str:
    seconds = of.world.delays.values(np.array([-1.2816, 0.0, 1.2816]))
    return ", ".join(f"p{p} {_time(s)}" for p, s in zip((10, 50, 90), seconds.tolist(), strict=True))


def _time(seconds: float) -> str:
    for unit, size in (("d", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def paths_of(scenario: Scenario) -> list[str]:
    """Labels of the supply paths."""
    return [f"{p.venue}/{p.media.value}" for p in scenario.supply]
