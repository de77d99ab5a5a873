"""Plays one policy through one market of one seed, in simulated time, and keeps the books that judge it.

A policy is given copies, and its answers are checked and copied before anything is made of them: what it writes into what
it was handed moves nothing here. That keeps an honest player from mistakes; it is no sandbox, since it runs in this process.

The world's draws never depend on what a policy does, so every policy of a seed meets the same people, rivals and
outcomes. Judged is expected value: the true probability of each impression that was won, in place of its outcome.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from typing import Final

import numpy as np
from msgspec import Struct

from counterpoint.base.ids import digest
from counterpoint.bench.market.answers import checked, shares_of
from counterpoint.bench.market.facts import Facts, Floats, Ints, facts_of
from counterpoint.bench.market.kernels import LOST, NO_MONEY, SILENT, WON, settle
from counterpoint.bench.market.policy import (
    CLICK,
    CONVERSION,
    Answers,
    Books,
    Events,
    Feedback,
    Policy,
    Requests,
    Reveals,
)
from counterpoint.market.auctions import Auctions, Outcomes, Rows, Truth
from counterpoint.market.scenario import DAY_NS, STARTS_AT_NS, Scenario
from counterpoint.market.state import Exposures, Pressure, Stock
from counterpoint.market.tally import Sums, Tally
from counterpoint.market.world import World

BATCH_MAX: Final = (
    1_000  # auctions between two decisions; also cut at midnight UTC and at an adversary's windows
)
CHUNK: Final = 20_000  # auctions drawn at once where nobody answers us; whole batches


def policy_seed(seed: int) -> int:
    """A policy's own chance: the same for all policies of a world's seed, and no seed of that world."""
    return int(digest("chance of a policy", str(seed), size=7), 16)


class Run(Struct, frozen=True, kw_only=True):
    """One policy, one scenario, one seed."""

    policy: str
    oracle: bool
    scenario: str
    digest: str
    seed: int
    auctions: int
    warm_up_days: int
    tally: Tally
    reach: int  # different people who saw anything of ours, judged days
    reach_by_campaign: Rows
    refused: int  # answers that broke a rule: wrong format, capped, above the ceiling
    out_of_money: int  # answers not covered by the budget left
    seconds: float  # wall clock; in no report that must be the same twice


class Game:
    """The state of one run. ``step`` plays a batch; :func:`play` plays them all."""

    def __init__(self, world: World, policy: Policy, facts: Facts | None = None) -> None:
        self.world = world
        self.policy = policy
        self.facts = facts if facts is not None else facts_of(world.scenario, world.design)
        f = self.facts
        # for the kernel: it is compiled for arrays that may be written to
        self._fits = f.fits.copy()
        self._rules: tuple[Ints, Ints, Ints, Ints, Ints] = (
            f.creative_from_ns.copy(),
            f.creative_to_ns.copy(),
            f.creative_campaign.copy(),
            f.ceiling_micros.copy(),
            f.frequency_cap.copy(),
        )
        s = world.scenario
        days, campaigns, people = s.days, len(s.campaign), s.users.count
        self.exposures = Exposures(s)
        self.stock = Stock(s)
        a = s.adversary
        carry = s.carry_over
        self._carries = carry.gain > 0.0 or carry.saturates_at is not None
        self.pressure = Pressure(s) if a.rival_gain > 0.0 or a.floor_follows > 0.0 else None
        self.day = -1
        self.budget: Rows = np.zeros(campaigns, dtype=np.int64)
        self.left: Rows = np.zeros(campaigns, dtype=np.int64)
        self.shown_today: Ints = np.zeros((people, campaigns), dtype=np.int32)
        self._met = np.zeros((people, campaigns), dtype=np.bool_)
        self._sums = Sums(days, self.facts.worth)
        self._pending: list[_Reports] = []
        self.refused = 0
        self.out_of_money = 0
        self.oracle = isinstance(policy, Reveals)
        policy.begin(self.facts.copied(), policy_seed(world.seed))
        if isinstance(policy, Reveals):
            policy.reveal(world, self.exposures, self.stock, self.pressure)

    # ---- one batch

    def step(self, auctions: Auctions, truth: Truth) -> None:
        """Auctions of one UTC day, in order."""
        day = int((int(auctions.t_ns[0]) - STARTS_AT_NS) // DAY_NS)
        if day != self.day:
            self._begin_day(day)
        formats = self.facts.formats(auctions)
        requests = self._requests(auctions, formats)
        books = Books(
            day=day,
            day_share=self._day_share(int(auctions.t_ns[0])),
            day_share_end=self._day_share(int(auctions.t_ns[-1])),
            budget_nanos=self.budget.copy(),
            left_nanos=self.left.copy(),
        )
        answers = checked(
            self.policy.decide(requests, books),
            self.policy.name,
            len(auctions),
            self.facts.creative_campaign.size,
            self.facts.campaigns,
        )
        if answers.split is not None:
            before = int(self.left.sum())
            moved = self._parts(answers.split, before) - self.left
            self.left += moved
            self.budget += moved
            self._sums["budget"][day] = self.budget
        fate, made, paid, seen = self._settle(auctions, truth, formats, answers)
        stood = made >= 0
        at = np.arange(len(auctions))
        creative = np.where(stood, answers.creative[at, made], -1)
        bids = np.where(stood, answers.bid_micros[at, made], 0)
        won = fate == WON
        if self.pressure is not None:
            self.pressure.record(auctions.index, auctions.supply.astype(np.int64), bids, won)
        rows = np.flatnonzero(won)
        if rows.size:
            self._show(auctions, rows, creative[rows], paid[rows], seen[rows])
        campaign = self.facts.creative_campaign[creative[stood]]
        self._sums.bids(day, campaign)
        told = stood & self.facts.minimum_told[auctions.venue]
        told |= won & (auctions.auction_type == 2)  # the price of a second-price win says it
        self.policy.learn(
            Feedback(
                requests=requests,
                creative=creative,
                bid_micros=bids,
                won=won,
                paid_micros=paid,
                minimum_micros=np.where(told, truth.threshold_micros, -1),
                events=self._reported(int(auctions.t_ns[-1])),
            )
        )

    def _begin_day(self, day: int) -> None:
        facts = self.facts
        self.day = day
        shares = self.policy.split(day)
        if shares is None:
            self.budget = facts.day_budget_nanos.copy()
        else:
            self.budget = self._parts(shares_of(shares, self.policy.name, facts.campaigns), facts.pool_nanos)
        self.left = self.budget.copy()
        self._sums["budget"][day] = self.budget
        self.shown_today.fill(0)

    def _parts(self, shares: Floats, money: int) -> Rows:
        """Whole nanos; never more than ``money`` together."""
        parts: Rows = np.floor(money * shares * (1.0 - 1e-12)).astype(np.int64)
        assert int(parts.sum()) <= money, "money is moved, not made"
        return parts

    def _requests(self, auctions: Auctions, formats: Rows) -> Requests:
        facts = self.facts
        campaigns = facts.campaigns_open(int(auctions.t_ns[0]))[formats]
        for c in np.flatnonzero(facts.frequency_cap).tolist():
            shown = self.shown_today[auctions.user, c]
            campaigns[:, c] &= auctions.known_user & (shown < facts.frequency_cap[c])
        campaigns &= self.left > 0
        visible = auctions.copied()
        visible.user[~visible.known_user] = -1
        return Requests(auctions=visible, formats=formats.copy(), open=campaigns)

    def _settle(
        self, auctions: Auctions, truth: Truth, formats: Rows, answers: Answers
    ) -> tuple[Ints, Rows, Rows, Floats]:
        n = len(auctions)
        fate = np.zeros(n, dtype=np.int8)
        made = np.zeros(n, dtype=np.int64)
        paid = np.zeros(n, dtype=np.int64)
        seen = np.zeros(n)
        limit = self.left.copy() if answers.limit_nanos is None else answers.limit_nanos
        before = int(self.left.sum())
        settle(
            answers.creative,
            answers.bid_micros,
            truth.threshold_micros,
            auctions.auction_type == 2,
            auctions.t_ns,
            auctions.user,
            auctions.known_user,
            self._fits,
            formats,
            *self._rules,
            self.left,
            limit,
            self.shown_today,
            *self.exposures.arrays,
            fate,
            made,
            paid,
            seen,
        )
        assert before - int(paid.sum()) == int(self.left.sum()), "what was paid left the books"
        assert int(self.left.min()) >= 0, "no budget is overspent"
        self.refused += int(((fate != SILENT) & (fate != LOST) & (fate != WON) & (fate != NO_MONEY)).sum())
        self.out_of_money += int((fate == NO_MONEY).sum())
        return fate, made, paid, seen

    def _show(self, auctions: Auctions, rows: Rows, creatives: Rows, paid: Rows, seen: Floats) -> None:
        """Whatever comes of impressions: expected and drawn."""
        world, facts = self.world, self.facts
        at_ns = int(auctions.t_ns[0])
        stock = self.stock.at(at_ns) if self._carries else None
        shown = auctions.take(rows)
        every = np.arange(rows.size)
        responses = world.responses(shown, every, creatives, seen, stock)
        outcomes = world.outcomes(shown, every, creatives, responses)
        campaign = facts.creative_campaign[creatives]
        if self._carries:
            self.stock.add(campaign, shown.supply.astype(np.int64), int(auctions.t_ns[-1]))
        if self.day >= facts.warm_up_days:
            self._met[shown.user, campaign] = True
        self._sums.shown(self.day, campaign, paid, responses, outcomes)
        self._pending.append(_Reports(shown, creatives, outcomes))

    def _reported(self, now_ns: int) -> Events:
        parts = [reports.until(now_ns) for reports in self._pending]
        self._pending = [reports for reports in self._pending if reports.waiting]
        table = np.concatenate(parts, axis=1) if parts else np.zeros((6, 0), dtype=np.int64)
        table = table[:, np.argsort(table[0], kind="stable")]
        return Events(
            kind=table[1].copy(),
            creative=table[2].copy(),
            supply=table[3].copy(),
            shown_at_ns=table[4].copy(),
            order_value_micros=table[5].copy(),
        )

    @staticmethod
    def _day_share(t_ns: int) -> float:
        return ((t_ns - STARTS_AT_NS) % DAY_NS) / DAY_NS

    # ---- all of it

    def total(self, name: str) -> Floats:
        """[campaign] one of the tally's sums so far, over all days."""
        return np.asarray(self._sums[name].sum(axis=0))

    def result(self, seconds: float) -> Run:
        s = self.world.scenario
        return Run(
            policy=self.policy.name,
            oracle=self.oracle,
            scenario=s.name,
            digest=s.digest,
            seed=self.world.seed,
            auctions=s.auctions,
            warm_up_days=self.facts.warm_up_days,
            tally=self._sums.tally(),
            reach=int(self._met.any(axis=1).sum()),
            reach_by_campaign=self._met.sum(axis=0),
            refused=self.refused,
            out_of_money=self.out_of_money,
            seconds=seconds,
        )


class _Reports:
    """Clicks and conversions of a batch that will be told, sorted by when."""

    def __init__(self, shown: Auctions, creatives: Rows, outcomes: Outcomes) -> None:
        parts = []
        for kind, told, delay, value in (
            (CLICK, outcomes.click_told, outcomes.click_delay_ns, np.zeros_like(creatives)),
            (
                CONVERSION,
                outcomes.conversion_told,
                outcomes.conversion_delay_ns,
                outcomes.order_value_micros,
            ),
        ):
            k = np.flatnonzero(told)
            parts.append(
                np.stack(
                    [
                        shown.t_ns[k] + delay[k],
                        np.full(k.size, kind, dtype=np.int64),
                        creatives[k],
                        shown.supply[k].astype(np.int64),
                        shown.t_ns[k],
                        value[k],
                    ]
                )
            )
        table = np.concatenate(parts, axis=1)
        self._table = table[:, np.argsort(table[0], kind="stable")]

    def until(self, now_ns: int) -> Rows:
        k = int(np.searchsorted(self._table[0], now_ns, side="right"))
        out, self._table = self._table[:, :k], self._table[:, k:]
        return np.asarray(out)

    @property
    def waiting(self) -> bool:
        return bool(self._table.shape[1] > 0)


def batches_of(world: World, pressure: Pressure | None) -> list[tuple[int, int]]:
    """(start, auctions) of what the world is asked for at once."""
    size = CHUNK if pressure is None else min(BATCH_MAX, pressure.window)
    total = world.scenario.auctions
    if pressure is not None:  # windows before this one are complete when it is drawn
        size = next(d for d in range(size, 0, -1) if pressure.window % d == 0)
    return [(start, min(size, total - start)) for start in range(0, total, size)]


def cuts_of(auctions: Auctions, size: int = BATCH_MAX) -> list[tuple[int, int]]:
    """Batches inside a drawn chunk: at most ``size``, cut at midnight UTC and at round auction numbers."""
    day = (auctions.t_ns - STARTS_AT_NS) // DAY_NS
    block = auctions.index // size
    edges = np.flatnonzero((np.diff(day) != 0) | (np.diff(block) != 0)) + 1
    ends = [0, *edges.tolist(), len(auctions)]
    return list(pairwise(ends))


def play(
    world: World,
    policy: Policy,
    facts: Facts | None = None,
    progress: Callable[[int], None] | None = None,
    batch: int = BATCH_MAX,
) -> Run:
    """The whole scenario under one policy. ``progress`` is told auctions done; ``batch``: most auctions between two decisions."""
    begun = time.perf_counter()
    game = Game(world, policy, facts)
    for start, n in batches_of(world, game.pressure):
        chunk = world.batch(start, n, game.pressure)
        truth = world.truth(chunk, game.pressure)
        for first, end in cuts_of(chunk, batch):
            rows = slice(first, end)
            game.step(cut(chunk, rows), cut_truth(truth, rows))
        if progress is not None:
            progress(n)
    return game.result(time.perf_counter() - begun)


def cut(columns: Auctions, rows: slice) -> Auctions:
    return Auctions(**{name: getattr(columns, name)[rows] for name in Auctions.__struct_fields__})


def cut_truth(columns: Truth, rows: slice) -> Truth:
    return Truth(**{name: getattr(columns, name)[rows] for name in Truth.__struct_fields__})


def play_named(scenario: Scenario, seed: int, policy: Policy) -> Run:
    return play(World(scenario, seed), policy)
