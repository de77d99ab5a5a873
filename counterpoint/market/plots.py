"""Pictures of a scenario, and of the simulated market beside real logs. PNG, without a display."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from counterpoint.base.errors import ConfigError
from counterpoint.market.auctions import Floats
from counterpoint.market.describe import Survey, paths_of
from counterpoint.market.fit import Fit
from counterpoint.market.scenario import DAY_NS, STARTS_AT_NS
from counterpoint.market.world import MICROS

DPI: Final = 90
DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
REAL, SIMULATED = "#333333", "#d1495b"


def draw_scenario(of: Survey, out: Path) -> list[Path]:
    """Five pictures into the folder ``out``, made when it is not there."""
    name = of.world.scenario.name
    kinds: tuple[tuple[str, Callable[[Survey], Figure]], ...] = (
        ("traffic", _traffic),
        ("prices", _prices),
        ("change", _change),
        ("appeal", _appeal),
        ("delays", _delays),
    )
    return [_save(draw(of), out, f"{name}-{kind}.png") for kind, draw in kinds]


def draw_fits(fits: Sequence[Fit], out: Path) -> list[Path]:
    """Simulated beside real: all prices in one picture, traffic and delays in another."""
    prices = [f for f in fits if f.name.startswith("price ")]
    others = [f for f in fits if not f.name.startswith("price ")]
    figure = Figure(figsize=(10, 2.9 * -(-len(prices) // 3)), layout="constrained")
    for n, fit in enumerate(prices):
        _beside(figure.add_subplot(-(-len(prices) // 3), 3, n + 1), fit)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="lower right")
    second = Figure(figsize=(10, 3), layout="constrained")
    for n, fit in enumerate(others):
        axes = second.add_subplot(1, len(others), n + 1)
        _beside(axes, fit)
        if fit.unit == "s":
            axes.set_xscale("log")
        axes.legend()
    return [_save(figure, out, "fit-prices.png"), _save(second, out, "fit-traffic-delays.png")]


def _beside(axes: Axes, fit: Fit) -> None:
    for values, counts, label, colour in (
        (fit.real, fit.real_counts, "real", REAL),
        (fit.simulated, np.ones(fit.simulated.shape), "simulated", SIMULATED),
    ):
        x, y = _ecdf(values, counts)
        axes.step(x, y, color=colour, label=label, linewidth=1.6 if label == "real" else 1.0, where="post")
    axes.set_title(f"{fit.name}\n{fit.source}: KS {fit.apart.ks:.3f}", fontsize=9)
    axes.set_xlabel(fit.unit, fontsize=8)
    axes.set_ylabel("share up to here", fontsize=8)


def _ecdf(values: Floats, counts: Floats) -> tuple[Floats, Floats]:
    """At most some hundred points: enough for a picture."""
    order = np.argsort(values, kind="stable")
    cumulated = np.cumsum(counts[order]) / counts.sum()
    keep = np.unique(np.searchsorted(cumulated, np.linspace(0.0, 1.0, 400)).clip(0, values.size - 1))
    return values[order][keep], cumulated[keep]


def _traffic(of: Survey) -> Figure:
    figure = Figure(figsize=(9, 3), layout="constrained")
    axes = figure.add_subplot()
    counts = np.bincount(of.auctions.hour_of_week, minlength=168)
    axes.bar(np.arange(168), counts / counts.sum() * 100, width=1.0, color=SIMULATED)
    axes.set_xticks(np.arange(0, 168, 24), DAYS)
    axes.set_title(f"{of.world.scenario.name}: traffic by hour of the week, UTC")
    axes.set_ylabel("% of auctions")
    return figure


def _prices(of: Survey) -> Figure:
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.add_subplot()
    for n, label in enumerate(paths_of(of.world.scenario)):
        prices = of.truth.threshold_micros[of.auctions.supply == n] / MICROS
        if prices.size:
            axes.plot(*_ecdf(prices, np.ones(prices.shape)), label=label)
    axes.set_xscale("log")
    axes.set_xlim(0.02, None)
    axes.set_title(f"{of.world.scenario.name}: chance to win by bid (all hours and people)")
    axes.set_xlabel("bid, CPM")
    axes.set_ylabel("win rate")
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    return figure


def changing(of: Survey) -> tuple[str, ...]:
    """What of prices, volume and appeal does more than follow the hour of the week. Outages are drawn over the volume."""
    s, t = of.world.scenario, of.world.timeline
    factors = np.vstack([np.exp(t.log_price), t.conversion[None, :]])
    weeks = s.traffic.weekend_volume != 1.0 or s.traffic.growth_per_day != 0.0
    held = (
        ("prices", bool(np.ptp(factors, axis=1).max() > 1e-9)),
        ("volume", weeks or any(shock.volume != 1.0 for shock in s.shock) or bool(s.outage)),
        (
            "appeal",
            s.drift.appeal_sd > 0.0 or s.churn.generations > 1 or any(jump.appeal_share for jump in s.jump),
        ),
    )
    return tuple(name for name, changes in held if changes)


def _change(of: Survey) -> Figure:
    """A panel for each thing that changes."""
    s, names = of.world.scenario, changing(of)
    figure = Figure(figsize=(9, 0.8 + 1.9 * max(len(names), 1)), layout="constrained")
    panels = [figure.add_subplot(max(len(names), 1), 1, n + 1) for n in range(max(len(names), 1))]
    panels[0].set_title(f"{s.name}: what happens over its {s.days} days")
    if not names:
        panels[0].text(0.5, 0.5, "nothing changes but the hour of the week", ha="center", va="center")
        panels[0].set_xlim(0, 1)
        panels[0].set_axis_off()
    for axes, name in zip(panels, names, strict=False):
        PANELS[name](of, axes)
        for n, outage in enumerate(s.outage):
            label = "outage of reports" if n == 0 else None
            axes.axvspan(outage.from_day, outage.to_day, color="#bbbbbb", alpha=0.4, label=label)
        axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    if names:
        panels[-1].set_xlabel("day")
    return figure


def _hours(of: Survey) -> Floats:
    return np.asarray((np.arange(of.world.timeline.hours) + 0.5) / 24.0, dtype=np.float64)


def _price_factors(of: Survey, axes: Axes) -> None:
    t = of.world.timeline
    for n, label in enumerate(paths_of(of.world.scenario)):
        axes.plot(_hours(of), np.exp(t.log_price[n]), label=label, linewidth=1.0)
    axes.plot(_hours(of), t.conversion, label="conversion rates", color=REAL, linestyle="--")
    axes.set_ylabel("factor on prices")


def _volume(of: Survey, axes: Axes) -> None:
    hourly = of.world.timeline.volume * of.world.scenario.auctions
    axes.plot(_hours(of), hourly, color=SIMULATED, linewidth=1.0, label="all exchanges")
    axes.set_ylabel("auctions an hour")


def _appeals(of: Survey, axes: Axes) -> None:
    world, day = of.world, _hours(of)
    at = (STARTS_AT_NS + day * DAY_NS).astype(np.int64)
    for creative in np.linspace(0, world.design.count - 1, 8).astype(np.int64).tolist():
        path = world.ads.appeal_at(np.full(day.shape, creative), day)
        live = world.design.live(np.full(day.shape, creative), at)
        label = f"creative {creative}, {world.scenario.campaign[int(world.design.campaign[creative])].id}"
        axes.plot(day, np.where(live, path, np.nan), linewidth=1.0, label=label)
    axes.set_ylabel("appeal (logit)")


PANELS: Final[dict[str, Callable[[Survey, Axes], None]]] = {
    "prices": _price_factors,
    "volume": _volume,
    "appeal": _appeals,
}


def _appeal(of: Survey) -> Figure:
    world = of.world
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    axes = figure.add_subplot()
    start = 0
    for n, campaign in enumerate(world.scenario.campaign):
        own = np.flatnonzero(world.design.campaign == n)
        odds = np.sort(np.exp(world.ads.appeal[own, 0]))[::-1]
        axes.bar(np.arange(start, start + odds.size), odds, width=1.0, label=campaign.id)
        start += odds.size
    axes.axhline(1.0, color=REAL, linewidth=0.8)
    axes.set_title(f"{world.scenario.name}: hidden appeal of each creative on the first day")
    axes.set_ylabel("factor on the odds of a click")
    axes.set_xticks([])
    axes.legend(fontsize=7, ncols=4)
    return figure


def _delays(of: Survey) -> Figure:
    figure = Figure(figsize=(7, 3), layout="constrained")
    axes = figure.add_subplot()
    seconds = np.geomspace(1.0, of.world.scenario.conversion.delay.window_s, 300)
    axes.plot(seconds / 3_600, of.world.delays.cdf(seconds), color=SIMULATED)
    axes.set_xscale("log")
    axes.set_title(f"{of.world.scenario.name}: from click to conversion")
    axes.set_xlabel("hours")
    axes.set_ylabel("share that has come")
    axes.grid(alpha=0.3)
    return figure


def _save(figure: Figure, out: Path, name: str) -> Path:
    path = out / name
    try:
        out.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=DPI)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror}); name another folder") from error
    return path
