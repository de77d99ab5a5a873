"""In process and over the wire, the same market: do they decide alike, and book alike, to the byte?

Each seed is played twice by the same parts with the same injected clock, seeds and ids: through function calls, and
through HTTP over loopback (routes, codec, signatures, tracker, group commit). With learners live the outcomes are
also compared as paired differences with intervals, which is what is left to say where the bytes are not the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
import numpy as np
from msgspec import Struct
from rich.table import Table

from counterpoint.base.ids import digest
from counterpoint.market.live.play import Game, Line, Played, encode_lines
from counterpoint.market.live.system import Given, LiveSystem
from counterpoint.market.live.tempo import Tempo
from counterpoint.market.live.wire import WireSystem
from counterpoint.market.scenario import Scenario

RESAMPLES: Final = 10_000
MEASURES: Final[dict[str, Callable[[Played], float]]] = {
    "value per cost": lambda p: p.value / p.spend if p.spend > 0 else 0.0,
    "spend": lambda p: p.spend,
    "win rate": lambda p: p.wins / max(p.bids, 1),
    "expected CTR": lambda p: p.ctr or 0.0,
}


class Run(Struct, frozen=True):
    """One way of one seed. ``log``: the decision log, a JSON line an auction; ``books``: what was settled, in the order
    of bids, and the ledger's accounts and allowances where there is one."""

    played: Played
    log: bytes
    books: bytes
    seconds: float


def play_one(
    scenario: Scenario,
    seed: int,
    system: Callable[..., LiveSystem],
    *,
    auctions: int | None = None,
    agents: Sequence[str] = (),
    step_s: int = 60,
    given: Given | None = None,
) -> Run:
    """Play it through ``system``: LiveSystem or WireSystem."""
    lines: list[Line] = []
    began_s = time.perf_counter()
    game = Game(
        scenario,
        seed,
        agents=agents,
        tempo=Tempo(step_s=step_s),
        given=given,
        log=lines.append,
        system=system,
    )
    try:
        played = game.play(auctions=auctions)
        ledger = game.system.ledger
        left = game.system.book.left.tolist()
        kept = [ledger.accounts(), ledger.allowances()] if ledger is not None else []
        settled = game.system.notices.counters.settled_nanos
    finally:
        game.system.close()
    books = msgspec.json.encode([settled, left, kept])
    return Run(played, encode_lines(lines), books, time.perf_counter() - began_s)


class Pair(Struct, frozen=True, kw_only=True):
    """One seed, both ways. ``*_digest``: of the bytes in process."""

    scenario: str
    seed: int
    auctions: int
    same_log: bool
    same_books: bool
    log_digest: str
    books_digest: str
    differences: dict[str, float]  # over the wire less in process
    in_process: dict[str, float]
    in_process_s: float
    over_wire_s: float


def pair(
    scenario: Scenario,
    seed: int,
    auctions: int | None = None,
    agents: Sequence[str] = (),
    step_s: int = 60,
    given: Given | None = None,
) -> Pair:
    here, there = (
        play_one(scenario, seed, system, auctions=auctions, agents=agents, step_s=step_s, given=given)
        for system in (LiveSystem, WireSystem)
    )
    figures = {name: measure(here.played) for name, measure in MEASURES.items()}
    return Pair(
        scenario=scenario.name,
        seed=seed,
        auctions=here.played.auctions,
        same_log=here.log == there.log,
        same_books=here.books == there.books,
        log_digest=digest(here.log),
        books_digest=digest(here.books),
        differences={name: MEASURES[name](there.played) - value for name, value in figures.items()},
        in_process=figures,
        in_process_s=here.seconds,
        over_wire_s=there.seconds,
    )


class Difference(Struct, frozen=True):
    """Over the wire less in process, mean over pairs, with a 95 % bootstrap interval over them."""

    measure: str
    in_process: float
    mean: float
    low: float
    high: float

    @property
    def agrees(self) -> bool:
        return self.low <= 0.0 <= self.high


def differences(pairs: Sequence[Pair], seed: int = 0) -> list[Difference]:
    """One for each measure. One pair has no interval but itself."""
    drawn = np.random.Generator(np.random.Philox(key=seed)).integers(0, len(pairs), (RESAMPLES, len(pairs)))
    found = []
    for name in MEASURES:
        each = np.array([p.differences[name] for p in pairs])
        low, high = np.quantile(each[drawn].mean(axis=1), [0.025, 0.975])
        level = float(np.mean([p.in_process[name] for p in pairs]))
        found.append(Difference(name, level, float(each.mean()), float(low), float(high)))
    return found


def tables(pairs: Sequence[Pair]) -> list[Table]:
    one = Table(title="each seed both ways")
    for head in ("scenario", "seed", "auctions", "log", "books", "in process, s", "over the wire, s"):
        one.add_column(head, justify="left" if head == "scenario" else "right")
    for p in pairs:
        one.add_row(
            p.scenario,
            str(p.seed),
            f"{p.auctions:,}",
            "same bytes" if p.same_log else "differs",
            "same bytes" if p.same_books else "differ",
            f"{p.in_process_s:.1f}",
            f"{p.over_wire_s:.1f}",
        )
    other = Table(title=f"over the wire less in process, {len(pairs)} pairs, 95 % intervals")
    for head in ("measure", "in process", "difference", "low", "high"):
        other.add_column(head, justify="left" if head == "measure" else "right")
    for d in differences(pairs):
        other.add_row(d.measure, f"{d.in_process:.4g}", f"{d.mean:.3g}", f"{d.low:.3g}", f"{d.high:.3g}")
    return [one, other]
