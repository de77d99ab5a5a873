"""The scoreboard: policies x scenarios x seeds, the bounds, and what may be said of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from msgspec import Struct

from counterpoint.base.errors import ConfigError
from counterpoint.bench.market import own
from counterpoint.bench.market.intervals import mean_of
from counterpoint.bench.market.players import HINDSIGHT, ORACLES, check_names, title_of
from counterpoint.bench.market.rounds import Report, SeedBounds, Timing, play_rounds
from counterpoint.bench.market.statistics import LEVEL, Comparison, Score, compare, holm
from counterpoint.market.load import is_resized
from counterpoint.market.scenario import Scenario

ALL: Final = "all"  # scenarios, in a comparison
SEEDS_MAX: Final = 10_000
LUCK: Final = 1e-9  # of rounding, in comparing sums of floats
MEANING: Final = {
    "bound-hindsight": "no policy can: a bug",
    "bound-known": "beyond luck at 5 %: a bug",
    "oracle": "it is greedy and no bound: look why",
}
NOTES: Final = (
    "A simulated market: figures rank policies on it, and promise nothing of a real one.",
    "Value is expected worth of the won impressions at the campaigns' goals (true probabilities), after the warm-up.",
    "bound-hindsight knows every rival's bid and cannot be reached; regret is against bound-known, in the mean over seeds.",
    "oracle knows people, ads and the distribution of rivals' bids: no learner can know as much.",
)


class Settings(Struct, frozen=True, kw_only=True):
    scenarios: tuple[str, ...]
    policies: tuple[str, ...]
    seeds: tuple[int, ...]
    against: str = "manual"
    effect: float = 0.05  # least gain worth telling: what the sample size is for


class Summary(Struct, frozen=True, kw_only=True):
    """Means over seeds."""

    scenario: str
    policy: str
    title: str
    oracle: bool
    hindsight: bool
    seeds: int
    penalised: float
    value: float
    spend: float
    overspend: float
    reach: float
    ctr: float | None
    cpa: float | None
    cost_to_target: float | None
    relevance: float | None
    of_known_bound: float | None
    regret: float | None


class Ordering(Struct, frozen=True, kw_only=True):
    """A policy above what should stand above it."""

    scenario: str
    seed: int | None  # None: in the mean over seeds
    policy: str
    value: float
    above: str
    its_value: float

    @property
    def line(self) -> str:
        where = "mean over seeds" if self.seed is None else f"seed {self.seed}"
        return (
            f"{self.scenario}, {where}: {self.policy} {self.value:.3f} above {self.above} {self.its_value:.3f}"
            f" ({MEANING[self.above]})"
        )


class Checked(Struct, frozen=True, kw_only=True):
    """Where the order does not hold, and among whom it was looked for."""

    scenarios: tuple[str, ...]
    digests: dict[str, str]
    auctions: dict[str, int]
    seeds: tuple[int, ...]
    policies: tuple[str, ...]
    ordering: list[Ordering]


class Scoreboard(Struct, frozen=True, kw_only=True):
    """The same bytes for the same settings and scenarios; times are kept apart (``rounds.Timing``)."""

    settings: Settings
    digests: dict[str, str]
    auctions: dict[str, int]
    warm_up_days: dict[str, int]
    summaries: list[Summary]
    comparisons: list[Comparison]
    ordering: list[Ordering]
    bounds: list[SeedBounds]
    scores: list[Score]
    resized: tuple[str, ...] = ()  # scenarios of another length than their name means
    notes: tuple[str, ...] = NOTES

    def label(self, scenario: str) -> str:
        """As tables name it, "all" too: a resized market is not the one of its name."""
        resized = bool(self.resized) if scenario == ALL else scenario in self.resized
        return f"{scenario} (resized)" if resized else scenario


def parse_seeds(text: str) -> tuple[int, ...]:
    """``100-129``, ``0,3,5-7``. Raises :class:`ConfigError`.

    >>> parse_seeds("0,3,5-7")
    (0, 3, 5, 6, 7)
    """
    seeds: list[int] = []
    for part in text.split(","):
        low, _, high = part.strip().partition("-")
        try:
            first, last = int(low), int(high or low)
        except ValueError:
            raise ConfigError(f"seeds {text!r}: {part!r} is no number; write 100-129 or 0,3,5-7") from None
        if first > last:
            raise ConfigError(f"seeds {text!r}: {part!r} runs backwards; write {last}-{first}")
        if last - first >= SEEDS_MAX:
            raise ConfigError(f"seeds {text!r}: {part!r} is longer than {SEEDS_MAX:,} seeds; take fewer")
        seeds += range(first, last + 1)
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"seeds {text!r}: one is named twice; a seed counts once")
    return tuple(seeds)


def check_game(scenarios: Sequence[Scenario], policies: Sequence[str], against: str, effect: float) -> None:
    """Raises :class:`ConfigError`."""
    if against not in policies:
        raise ConfigError(
            f"compared against {against!r}, which does not play; add it to --policies or name one that does"
        )
    if len({s.name for s in scenarios}) < len(scenarios):
        raise ConfigError("a scenario is named twice; take one out")
    if not 0.0 < effect <= 10.0:
        raise ConfigError(f"effect {effect} is no gain; 0.05 stands for 5 %")


def run(
    scenarios: Sequence[Scenario],
    policies: Sequence[str],
    seeds: Sequence[int],
    against: str = "manual",
    effect: float = 0.05,
    progress: Report | None = None,
    jobs: int = 1,
    keep: Path | None = None,
    resized: Sequence[str] = (),
) -> tuple[Scoreboard, list[Timing]]:
    """Every policy on every scenario and seed; policies of one seed meet the same world. ``jobs``, ``keep``: :func:`play_rounds`.

    ``resized``: names of your own scenarios that are not of the length their file says; permanent names are known by their digest."""
    check_names(tuple(policies))
    check_game(scenarios, policies, against, effect)
    rounds = play_rounds(scenarios, policies, seeds, jobs, keep, progress)
    scores = [s for each in rounds for s in each.scores]
    found = [each.bounds for each in rounds]
    warm_up = {each.bounds.scenario: each.warm_up_days for each in rounds}
    board = Scoreboard(
        settings=Settings(
            scenarios=tuple(s.name for s in scenarios),
            policies=tuple(policies),
            seeds=tuple(seeds),
            against=against,
            effect=effect,
        ),
        digests={s.name: s.digest for s in scenarios},
        auctions={s.name: s.auctions for s in scenarios},
        warm_up_days=warm_up,
        summaries=[_summary(scores, found, s.name, p) for s in scenarios for p in policies],
        comparisons=compare(scores, [p for p in policies if p != against], against, effect),
        ordering=misordered(scores, found),
        bounds=found,
        scores=scores,
        resized=tuple(s.name for s in scenarios if is_resized(s) or s.name in resized),
    )
    return board, [timing for each in rounds for timing in each.timings]


def misordered(scores: Sequence[Score], found: Sequence[SeedBounds]) -> list[Ordering]:
    """Where bounds and oracle do not stand above everybody, in expected value.

    Seed by seed: ``bound-hindsight`` above all (proven), ``oracle`` above who is none (greedy, so expected, not proven). On
    the mean over a scenario's seeds: ``bound-known``, which single seeds may pass; above it is whose value less it has a
    mean above 0 at 5 %, one-sided, after Holm's correction for all policies and scenarios. Proofs: :mod:`oracles`.
    """
    out: list[Ordering] = []
    for b in found:
        here = [s for s in scores if (s.scenario, s.seed) == (b.scenario, b.seed)]
        oracle = [("oracle", s.value) for s in here if s.policy == "oracle"]
        for s in here:
            limits = [("bound-hindsight", b.hindsight), *(() if s.policy in ORACLES else oracle)]
            out += [
                Ordering(
                    scenario=b.scenario, seed=b.seed, policy=s.policy, value=s.value, above=name, its_value=v
                )
                for name, v in limits
                if s.value > v * (1.0 + LUCK)
            ]
    return out + _above_known(scores, found)


def _above_known(scores: Sequence[Score], found: Sequence[SeedBounds]) -> list[Ordering]:
    known = {(b.scenario, b.seed): b.known for b in found}
    groups: dict[tuple[str, str], list[Score]] = {}
    for s in scores:
        groups.setdefault((s.scenario, s.policy), []).append(s)
    above: list[float] = []
    rows: list[Ordering] = []
    for (scenario, policy), here in groups.items():
        limits = np.array([known[scenario, s.seed] for s in here])
        values = np.array([s.value for s in here])
        above.append(mean_of([values - limits * (1.0 + LUCK)]).p_above())
        rows.append(
            Ordering(
                scenario=scenario,
                seed=None,
                policy=policy,
                value=float(values.mean()),
                above="bound-known",
                its_value=float(limits.mean()),
            )
        )
    return [row for row, p in zip(rows, holm(above), strict=True) if p < LEVEL]


def known_bound(found: Sequence[SeedBounds], scenario: str) -> float:
    """``bound-known`` as reported: the smaller of both bounds' means over seeds (not the mean of the smaller: ``oracles``)."""
    here = [b for b in found if b.scenario == scenario]
    return min(math.fsum(b.known for b in here), math.fsum(b.hindsight for b in here)) / len(here)


def check_ordering(
    scenarios: Sequence[Scenario],
    policies: Sequence[str],
    seeds: Sequence[int],
    progress: Report | None = None,
    jobs: int = 1,
    keep: Path | None = None,
) -> Checked:
    """Only the order, on many seeds; ``oracle`` plays besides ``policies``."""
    players = tuple(dict.fromkeys([*policies, "oracle"]))
    board, _ = run(scenarios, players, seeds, players[0], progress=progress, jobs=jobs, keep=keep)
    return Checked(
        scenarios=board.settings.scenarios,
        digests=board.digests,
        auctions=board.auctions,
        seeds=board.settings.seeds,
        policies=board.settings.policies,
        ordering=board.ordering,
    )


def _summary(scores: Sequence[Score], found: Sequence[SeedBounds], scenario: str, policy: str) -> Summary:
    here = [s for s in scores if (s.scenario, s.policy) == (scenario, policy)]
    known, value = known_bound(found, scenario), float(np.mean([s.value for s in here]))

    def mean(values: Sequence[float | None]) -> float | None:
        numbers = [v for v in values if v is not None]
        return math.fsum(numbers) / len(numbers) if numbers else None

    def sure(values: Sequence[float]) -> float:
        return float(np.mean(values))

    return Summary(
        scenario=scenario,
        policy=policy,
        title=title_of(policy),
        oracle=policy in ORACLES or own.knows_truth(policy),
        hindsight=policy in HINDSIGHT,
        seeds=len(here),
        penalised=sure([s.penalised for s in here]),
        value=value,
        spend=sure([s.spend for s in here]),
        overspend=sure([s.overspend for s in here]),
        reach=sure([s.reach for s in here]),
        ctr=mean([s.ctr for s in here]),
        cpa=mean([s.cpa for s in here]),
        cost_to_target=mean([s.cost_to_target for s in here]),
        relevance=mean([s.relevance for s in here]),
        of_known_bound=value / known if known > 0.0 else None,
        regret=known - value,
    )


def work_of(scenarios: Sequence[Scenario], policies: int, seeds: int) -> int:
    """Auctions to play, for a progress bar; the bounds count as one more policy."""
    return sum(s.auctions for s in scenarios) * (policies + 1) * seeds
