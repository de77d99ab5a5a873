"""Trains the residual policy: antithetic evolution strategies over randomised markets, then judged on others.

A market is a tuning seed of a permanent scenario with what only a policy can learn drawn anew: how advertising carries over
and saturates (half of the markets have none; gain 0.5 to 2.5, half point 0.05 to 0.2 and saturation at 0.25 to 1 of a day's
traffic, half-life 1.5 to 6 days), and how late conversions come. The reward is the
value of the agent with the policy over that of the same agent without it, on the same market and noise. No seed above 99.

With one's own log, markets are drawn from the posterior that the agent's curves have of it (``from_log.py``). With a policy to
start from, training is conservative: weights stay within RADIUS of it, and what comes out replaces it only where it is better on
markets held out, with its whole interval; else it is kept as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from msgspec import Struct

from counterpoint.bench.bidding.verdict import Measured, over_seeds
from counterpoint.bench.budget import from_log
from counterpoint.bench.budget.daily import Log
from counterpoint.bench.budget.from_log import learned
from counterpoint.bench.budget.market import Carry, Markets, Play
from counterpoint.bench.budget.splitters import Agent, Splitter
from counterpoint.bench.budget.table import EPOCHS_A_DAY, LAGS, Table, kept
from counterpoint.bench.market.facts import Floats
from counterpoint.budget.residual import FEATURES, WEIGHT_MAX, Residual
from counterpoint.budget.state import DAILY_MODEL, DAILY_SAFETY, QUARTER_DAY_KEEP
from counterpoint.market.load import scenario_named

SCENARIOS: Final = ("adstock-v1", "delay-v1")  # same length; what carries over is drawn anew in both
SPREAD: Final = 0.4
RATE: Final = 20.0  # weights per unit of log value
RADIUS: Final = 1.5  # Euclidean, of the ten weights: about a third of the tilt at most
HELD_OUT: Final = 60  # markets, drawn from other seeds than those of the training


class Course(Struct, frozen=True, kw_only=True):
    """``gain``: of each round's policy on its training markets; ``held_out``: of the last on markets of other seeds."""

    seeds: tuple[int, ...]
    rounds: int
    markets: int
    gain: list[float]
    held_out: Measured
    residual: Residual
    over_start: Measured | None = (
        None  # the new policy against the one it started from, on the markets held out
    )
    kept_start: bool = False


def played(markets: Markets, splitter: Splitter) -> Floats:
    """(B, epochs) true expected value."""
    play = Play(markets)
    x = splitter.begin(markets)
    out = np.zeros((markets.count, markets.epochs))
    for epoch in range(markets.epochs):
        value, seen = play.step(epoch, x * markets.money(epoch)[:, None] / markets.arms)
        out[:, epoch] = value.sum(axis=1)
        x = splitter.next(seen)
    return out


def agent(weights: Floats | None = None, learned: Residual | None = None) -> Agent:
    return Agent(DAILY_MODEL, DAILY_SAFETY, QUARTER_DAY_KEEP, weights=weights, learned=learned)


def drawn(tables: list[Table], seeds: list[int], rng: np.random.Generator, traffic: float = 30.0) -> Markets:
    """Markets whose carry-over and delays are drawn."""
    n = len(tables)
    none = rng.random(n) < 0.5
    carry = Carry(
        gain=np.where(none, 0.0, rng.uniform(0.5, 2.5, n)),
        half_at=np.exp(rng.uniform(np.log(0.05), np.log(0.2), n)),
        saturates_at=np.where(none, np.inf, np.exp(rng.uniform(np.log(0.25), np.log(1.0), n))),
        keep=0.5 ** (1.0 / (EPOCHS_A_DAY * np.exp(rng.uniform(np.log(1.5), np.log(6.0), n)))),
    )
    late = []
    for table in tables:
        mean = np.exp(rng.uniform(np.log(0.2), np.log(10.0)))  # epochs
        share = np.diff(1.0 - np.exp(-np.arange(LAGS + 1) / mean), append=1.0)
        mix = rng.uniform()
        late.append(msgspec.structs.replace(table, delay=mix * table.delay + (1 - mix) * share))
    days = tables[0].spend.shape[0] // EPOCHS_A_DAY
    return Markets(late, seeds, carry, traffic, days)


def train(
    seeds: tuple[int, ...],
    rounds: int,
    markets: int,
    folder: Path | None,
    report: Callable[[str, float], None] = lambda label, share: None,
    rng_seed: int = 0,
    log: Log | None = None,
    start: Residual | None = None,
) -> Course:
    """Deterministic given its arguments. The last fifth of ``seeds`` is held out. ``log``: markets are drawn from what it says;
    None: from the scenarios. ``start``: fine-tuned from it, conservatively; None: from nothing."""
    rng = np.random.default_rng(rng_seed)
    own = None if log is None else learned(log)
    names, traffic = (SCENARIOS, 30.0) if own is None else (("log",), 1.0)
    cut = max(1, len(seeds) - max(1, len(seeds) // 5))
    made: dict[tuple[str, int], Table] = {}
    for k, seed in enumerate(seeds):
        for name in names:
            made[name, seed] = (
                kept(scenario_named(name), seed, folder) if own is None else from_log.table(own, seed)
            )
        report(f"market {seed}", 0.2 * (k + 1) / len(seeds))

    def some(of: tuple[int, ...], n: int) -> Markets:
        which = [names[int(i)] for i in rng.integers(0, len(names), n)]
        chosen = [int(s) for s in rng.choice(np.array(of), n)]
        noise = [int(s) for s in rng.integers(1_000_000, 2_000_000, n)]
        return drawn([made[key] for key in zip(which, chosen, strict=True)], noise, rng, traffic)

    def gains(weights: Floats, where: Markets, base: Floats) -> Floats:
        return np.asarray(np.log(played(where, agent(weights)).sum(axis=1) / base))

    origin = np.zeros(len(FEATURES)) if start is None else np.array(start.weights)
    theta, moment = origin.copy(), np.zeros(len(FEATURES))
    course: list[float] = []
    averaged = np.zeros(len(FEATURES))
    for turn in range(rounds):
        where = some(seeds[:cut], markets)
        base = played(where, agent()).sum(axis=1)
        slope = np.zeros_like(theta)
        # orthogonal directions: each feature is asked once a round
        ways = np.linalg.qr(rng.normal(size=(theta.size, theta.size)))[0]
        for way in ways:
            up, down = gains(theta + SPREAD * way, where, base), gains(theta - SPREAD * way, where, base)
            slope += float((up - down).mean()) / (2 * SPREAD) * way
        moment = 0.8 * moment + 0.2 * slope
        theta = np.clip(theta + RATE * moment, -WEIGHT_MAX, WEIGHT_MAX)
        if start is not None:
            off = theta - origin
            theta = origin + off * min(1.0, RADIUS / max(float(np.linalg.norm(off)), 1e-12))
        if turn >= rounds // 2:  # the mean of the later half: less noise than the last
            averaged += theta / (rounds - rounds // 2)
        course.append(100.0 * float(gains(theta, where, base).mean()))
        report(f"round {turn + 1}: {course[-1]:+.2f} %", 0.2 + 0.75 * (turn + 1) / rounds)
    where = some(seeds[cut:], HELD_OUT)
    base = played(where, agent()).sum(axis=1)
    gained = gains(averaged, where, base)
    over_start, kept_start = None, False
    if start is not None:
        before = gains(origin, where, base)
        over_start = over_seeds([100.0 * x for x in (gained - before).tolist()])
        kept_start = not (over_start.low is not None and over_start.low > 0.0)
        if kept_start:
            averaged, gained = origin, before
    held_out = over_seeds([100.0 * x for x in gained.tolist()])
    said = f"{held_out.value:+.2f} % [{held_out.low or 0:+.2f}, {held_out.high or 0:+.2f}] on {HELD_OUT} markets held out"
    where_from = ", ".join(SCENARIOS) if own is None else f"a log of {len(own.arms)} arms"
    further = "" if start is None else f", from {start.digest[:12]}"
    residual = Residual(
        name="residual-v1",
        features=FEATURES,
        weights=tuple(round(float(w), 4) for w in averaged),
        trained_on=start.trained_on
        if start is not None and kept_start
        else f"{rounds} rounds of {len(FEATURES)} antithetic pairs on {markets} drawn markets of {where_from}{further}",
        seeds=f"{seeds[0]}-{seeds[cut - 1]}, held out {seeds[cut]}-{seeds[-1]}; chance {rng_seed}",
        gain=said,
    )
    return Course(
        seeds=seeds,
        rounds=rounds,
        markets=markets,
        gain=course,
        held_out=held_out,
        residual=residual,
        over_start=over_start,
        kept_start=kept_start,
    )


def plot(course: Course, path: Path) -> None:
    """PNG: gain on the training markets by round, and on those held out at the end."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
    axes.plot(range(1, len(course.gain) + 1), course.gain, marker=".", label="training markets")
    h = course.held_out
    axes.errorbar(
        [len(course.gain) + 2],
        [h.value],
        yerr=[[h.value - (h.low or h.value)], [(h.high or h.value) - h.value]],
        fmt="o",
        capsize=3,
        label="held out, 95 %",
    )
    axes.axhline(0.0, color="grey", linewidth=0.8)
    axes.set(xlabel="round", ylabel="value against u = 0, %", title="Training of the residual policy")
    axes.legend()
    figure.savefig(path, dpi=90)
    plt.close(figure)
