"""Everybody's game on one seed of one scenario: played here or in several processes, kept so that a long run can go on."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from counterpoint.base.errors import ConfigError, Stopped
from counterpoint.base.ids import digest
from counterpoint.bench.market import own
from counterpoint.bench.market.baselines.classic import UNTUNED, constants
from counterpoint.bench.market.facts import NANOS, facts_of
from counterpoint.bench.market.oracles import bounds
from counterpoint.bench.market.players import play_named
from counterpoint.bench.market.statistics import Score, score
from counterpoint.market.scenario import Scenario
from counterpoint.market.world import World

JOBS_MAX: Final = 64

Report = Callable[[str, int], None]  # what is played, auctions done


class SeedBounds(Struct, frozen=True, kw_only=True):
    scenario: str
    seed: int
    hindsight: float  # account currency
    known: float


class Timing(Struct, frozen=True, kw_only=True):
    scenario: str
    policy: str
    seed: int
    auctions: int
    seconds: float


class Round(Struct, frozen=True, kw_only=True):
    """One seed of one scenario."""

    digest: str
    constants: str  # digest of the baselines' constants
    warm_up_days: int
    bounds: SeedBounds
    scores: list[Score]  # one per policy, as they were named
    timings: list[Timing]


def constants_digest(scenario: str, players: Sequence[str] = ()) -> str:
    """Of what its players play with; of those from outside the source."""
    tables = constants()
    made_of: object = tables.get(scenario, tables[UNTUNED])
    outside = own.sources(players)
    return digest(msgspec.json.encode([made_of, outside] if outside else made_of, order="sorted"))


def play_round(
    scenario: Scenario, seed: int, policies: Sequence[str], progress: Report | None = None
) -> Round:
    world = World(scenario, seed)
    facts = facts_of(scenario, world.design)
    bound = bounds(world, facts)
    of_seed = SeedBounds(
        scenario=scenario.name, seed=seed, hindsight=bound.hindsight / NANOS, known=bound.known / NANOS
    )
    where = f"{scenario.name} seed {seed}"
    if progress is not None:
        progress(f"{where}: bounds", scenario.auctions)
    scores, timings = [], []
    for name in policies:

        def told(auctions: int, label: str = f"{where}: {name}") -> None:
            if progress is not None:
                progress(label, auctions)

        result = play_named(name, world, facts, told)
        scores.append(score(result, bound))
        timings.append(
            Timing(
                scenario=scenario.name,
                policy=name,
                seed=seed,
                auctions=scenario.auctions,
                seconds=result.seconds,
            )
        )
    return Round(
        digest=scenario.digest,
        constants=constants_digest(scenario.name, policies),
        warm_up_days=facts.warm_up_days,
        bounds=of_seed,
        scores=scores,
        timings=timings,
    )


def _job(scenario: bytes, seed: int, policies: tuple[str, ...]) -> bytes:
    """In another process; JSON both ways keeps floats to the bit."""
    found = msgspec.json.decode(scenario, type=Scenario)
    return msgspec.json.encode(play_round(found, seed, policies))


def play_rounds(
    scenarios: Sequence[Scenario],
    policies: Sequence[str],
    seeds: Sequence[int],
    jobs: int = 1,
    keep: Path | None = None,
    progress: Report | None = None,
) -> list[Round]:
    """All of them, by scenario, then seed, however many processes played them.

    ``keep``: a file of finished rounds, one a line. Those in it with the same scenario, seed, policies and constants are not
    played again; it does not see other changes of the code, so begin a new file after one. Raises :class:`ConfigError`,
    and on Ctrl-C :class:`Stopped`.
    """
    if not 1 <= jobs <= JOBS_MAX:
        raise ConfigError(f"{jobs} jobs; between 1 and {JOBS_MAX} make sense, as many as there are cores")
    names = tuple(policies)
    if jobs > 1 and not own.REGISTERED.keys().isdisjoint(names):
        raise ConfigError(
            "a registered player is known to this process alone; name it MODULE:CLASS, or take jobs=1"
        )
    wanted = [(scenario, seed) for scenario in scenarios for seed in seeds]
    done = {} if keep is None else _kept(keep, names)
    left = [(scenario, seed) for scenario, seed in wanted if (scenario.digest, seed) not in done]
    if progress is not None and len(left) < len(wanted):
        old = sum(scenario.auctions for scenario, seed in wanted if (scenario.digest, seed) in done)
        progress("kept from before", old * (len(names) + 1))
    try:
        for played in _played(left, names, jobs, progress):
            if keep is not None:
                with keep.open("ab") as file:
                    file.write(msgspec.json.encode(played) + b"\n")
            done[played.digest, played.bounds.seed] = played
    except KeyboardInterrupt:
        count = sum((scenario.digest, seed) in done for scenario, seed in wanted)
        kept = "with --keep FILE they are kept, and" if keep is None else f"they are kept in {keep}, and"
        raise Stopped(f"{count} of {len(wanted)} seeds done; {kept} the same command goes on") from None
    return [done[scenario.digest, seed] for scenario, seed in wanted]


def _played(
    left: Sequence[tuple[Scenario, int]], names: tuple[str, ...], jobs: int, progress: Report | None
) -> Iterator[Round]:
    if jobs == 1:
        for scenario, seed in left:
            yield play_round(scenario, seed, names, progress)
        return
    # spawned: a fork would take along whatever threads there are
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        here = signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited: a Ctrl-C is answered here alone
        try:
            running = {
                pool.submit(_job, msgspec.json.encode(scenario), seed, names): scenario
                for scenario, seed in left
            }
        finally:
            signal.signal(signal.SIGINT, here)
        try:
            for future in as_completed(running):
                played = msgspec.json.decode(future.result(), type=Round)
                if progress is not None:
                    where = f"{played.bounds.scenario} seed {played.bounds.seed}"
                    progress(where, running[future].auctions * (len(names) + 1))
                yield played
        except (KeyboardInterrupt, GeneratorExit):
            pool.shutdown(wait=False, cancel_futures=True)
            for child in multiprocessing.active_children():
                child.terminate()
            raise


def _kept(path: Path, names: tuple[str, ...]) -> dict[tuple[str, int], Round]:
    if not path.exists():
        return {}
    out = {}
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            played = msgspec.json.decode(line, type=Round)
        except msgspec.DecodeError as error:
            if number == 1:
                raise ConfigError(
                    f"{path}: holds no finished seeds ({error}); name a new file, or one that --keep wrote"
                ) from None
            raise ConfigError(
                f"{path}, line {number}: {error}; take the line out, its seed is played again"
            ) from None
        if (
            played.constants == constants_digest(played.bounds.scenario, names)
            and tuple(s.policy for s in played.scores) == names
        ):
            out[played.digest, played.bounds.seed] = played
    return out
