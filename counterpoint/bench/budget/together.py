"""Part ``together``: the agent's split with bidding and pacing in the full simulation, where one channel is three times as good.

Everything else is alike: the same bids (estimated value, last week's rates), the same PID pacing on the hours' traffic, the same
six-hour boundaries at which the day's money left is split again. ``equal`` splits it equally, ``agent`` as the agent says from
what the bidder is told: spend and reported conversions, late and few.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from counterpoint.bench.bidding.verdict import Bar, Measured, PartResult, Table, Verdict, over_seeds
from counterpoint.bench.market.baselines.classic import Classic
from counterpoint.bench.market.baselines.parts import Best, Equal, Pid
from counterpoint.bench.market.driver import play
from counterpoint.bench.market.facts import Facts, Floats
from counterpoint.bench.market.policy import CLICK, Answers, Books, Feedback, Requests
from counterpoint.budget.pool import PoolSplit
from counterpoint.budget.state import DAILY_MODEL, DAILY_SAFETY, QUARTER_DAY_KEEP
from counterpoint.market.load import load_scenario
from counterpoint.market.scenario import DAY_NS, STARTS_AT_NS
from counterpoint.market.world import World

SCENARIO: Final = Path(__file__).with_name("three-to-one-v1.toml")
GAIN: Final = 0.1  # of the PID
EPOCHS_A_DAY: Final = 4
HOUR_NS: Final = DAY_NS // 24
OPEN_LEAST: Final = 100  # auctions that we could have bid in, in an hour: fewer and a silent hour is chance
LEFT_LEAST: Final = 0.05  # of the day's pool


class Hours(Struct, frozen=True, kw_only=True):
    judged: int  # hours with enough to bid on and money left
    silent: int  # of them, without any spend


class Split(Classic):
    """PID pacing, and the day's money left split anew every six hours."""

    def __init__(self, name: str) -> None:
        super().__init__(
            name, "value", lambda p: Best(), Equal(), lambda p: Pid(p["gain"]), {"gain": GAIN, "trust": 1.0}
        )

    def begin(self, facts: Facts, seed: int) -> None:
        super().begin(facts, seed)
        hours = facts.days * 24
        self._shares: Floats = np.ones(facts.campaigns)
        self._epoch = -1
        self._open, self._spent, self._left = np.zeros(hours), np.zeros(hours), np.ones(hours)

    def split(self, day: int) -> Floats | None:
        super().split(day)
        return self._shares

    def decide(self, requests: Requests, books: Books) -> Answers:
        at_ns = int(requests.auctions.t_ns[0]) - STARTS_AT_NS
        epoch = at_ns * EPOCHS_A_DAY // DAY_NS
        answers = super().decide(requests, books)
        rich = books.left_nanos >= LEFT_LEAST * self.facts.pool_nanos / self.facts.campaigns
        hours = (requests.auctions.t_ns - STARTS_AT_NS) // HOUR_NS
        np.add.at(self._open, hours, (requests.open & rich).any(axis=1))
        hour = at_ns // HOUR_NS
        share = float(books.left_nanos.sum()) / max(1.0, float(self.facts.pool_nanos))
        self._left[hour] = min(self._left[hour], share)
        if epoch == self._epoch:
            return answers
        self._epoch = epoch
        self._new_epoch(epoch)
        return replace(answers, split=self._shares)

    def _new_epoch(self, epoch: int) -> None:
        pass

    def learn(self, feedback: Feedback) -> None:
        super().learn(feedback)
        hour = (feedback.requests.auctions.t_ns - STARTS_AT_NS) // HOUR_NS
        np.add.at(self._spent, hour, feedback.paid_micros)

    def hours(self) -> Hours:
        judged = (self._open >= OPEN_LEAST) & (self._left >= LEFT_LEAST)
        return Hours(judged=int(judged.sum()), silent=int((judged & (self._spent == 0)).sum()))


class AgentSplit(Split):
    def begin(self, facts: Facts, seed: int) -> None:
        super().begin(facts, seed)
        self._unit = facts.pool_nanos / facts.campaigns
        one = facts.worth.max(axis=1) / self._unit
        self._pool = PoolSplit(
            one,
            DAILY_MODEL,
            DAILY_SAFETY,
            QUARTER_DAY_KEEP,
            converts=np.ones(facts.campaigns, dtype=np.bool_),
        )
        self._bought, self._told, self._traffic = np.zeros((3, facts.campaigns))
        self._day_traffic = np.full(EPOCHS_A_DAY, facts.auctions_a_day / EPOCHS_A_DAY)

    def learn(self, feedback: Feedback) -> None:
        super().learn(feedback)
        facts, e = self.facts, feedback.events
        won = feedback.won
        np.add.at(self._bought, facts.creative_campaign[feedback.creative[won]], feedback.paid_micros[won])
        campaign = facts.creative_campaign[e.creative]
        click = e.kind == CLICK
        worth = np.where(
            click,
            facts.worth[campaign, 1],
            facts.worth[campaign, 2] + facts.worth[campaign, 3] * e.order_value_micros / 1e6,
        )
        np.add.at(self._told, campaign, worth)
        self._traffic += won.size

    def _new_epoch(self, epoch: int) -> None:
        if self._bought.any():
            at = (epoch - 1) % EPOCHS_A_DAY
            time = self._day_traffic[at] / self._day_traffic.sum()
            self._day_traffic[at] += 0.3 * (self._traffic[0] - self._day_traffic[at])
            x = self._bought / self._unit / time
            self._pool.observe(x=x, value=self._told / self._unit, time=np.full(x.shape, time))
            scaled = x * self._shares.sum() / max(float(x.sum()), 1e-9)
            self._shares = self._pool.next(self._shares, np.ones(x.shape), spent=scaled).x
        self._bought, self._told, self._traffic = np.zeros((3, self.facts.campaigns))


def together(
    seeds: tuple[int, ...],
    report: Callable[[str, float], None] = lambda label, share: None,
) -> PartResult:
    scenario = load_scenario(SCENARIO)
    gains, returns, hours, shares = [], [], {"equal": [0, 0], "agent": [0, 0]}, []
    for k, seed in enumerate(seeds):
        world = World(scenario, seed)
        per_spend: dict[str, float] = {}
        for policy in (Split("equal"), AgentSplit("agent")):
            run = play(world, policy)
            t, first = run.tally, run.warm_up_days
            per_spend[policy.name] = float(t.conversions[first:].sum() / max(1, t.spend[first:].sum()) * 1e9)
            if policy.name == "equal":
                each = t.value[first:].sum(axis=0) / np.maximum(t.spend[first:].sum(axis=0), 1)
                returns.append(each)
            else:
                shares.append(t.spend[first:].sum(axis=0) / t.spend[first:].sum())
            found = policy.hours()
            hours[policy.name][0] += found.judged
            hours[policy.name][1] += found.silent
        gains.append(100.0 * (per_spend["agent"] / per_spend["equal"] - 1.0))
        report(f"seed {seed}", (k + 1) / len(seeds))
    behind = f"{len(seeds)} paired seeds of {scenario.name}"
    mean = np.mean(returns, axis=0)
    table = Table(
        title="value per spend under the equal split, and where the agent spent",
        head=("campaign", "return", "agent's share of spend"),
        rows=tuple(
            (c.id, f"{mean[i]:.2f}", f"{np.mean(shares, axis=0)[i]:.2f}")
            for i, c in enumerate(scenario.campaign)
        ),
    )
    return PartResult(
        part="together",
        verdicts=(
            Verdict(
                bar="conversions per spend against equal split, one channel three times as good",
                kind=Bar.AT_LEAST,
                target=10.0,
                measured=over_seeds(gains),
                behind=behind,
                unit="%",
            ),
            Verdict(
                bar=f"hours with {OPEN_LEAST} auctions or more, money left and no spend (equal split: {hours['equal'][1]})",
                kind=Bar.AT_MOST,
                target=0.0,
                measured=Measured(value=float(hours["agent"][1])),
                behind=f"{hours['agent'][0]} hours of {behind}",
                unit="hours",
            ),
        ),
        tables=(table,),
    )
