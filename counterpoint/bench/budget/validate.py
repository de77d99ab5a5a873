"""Are the true curves true? The full driver plays what they assume: every campaign bids, on each supply path, what the table's
bidder bids at one price of money; spend and value by campaign are held against the table's.

Two ways: each campaign alone in the market (people tire, which the table leaves out), and all together (each impression goes
to one of them, which it leaves out too).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from msgspec.structs import replace

from counterpoint.bench.budget.table import EPOCH_NS, PRICES, sums
from counterpoint.bench.market.driver import play
from counterpoint.bench.market.facts import Facts, Floats, facts_of
from counterpoint.bench.market.policy import Answers, Books, Feedback, Requests
from counterpoint.market.auctions import Rows
from counterpoint.market.scenario import STARTS_AT_NS, Scenario
from counterpoint.market.world import World

PRICE: Final = int(np.abs(PRICES - 1.0).argmin())  # of money: the impression is worth its price at the margin


class Bids:
    """Fixed bids by epoch, campaign and supply path; creatives drawn alike."""

    name = "table bids"

    def __init__(self, bids: Floats, only: int | None) -> None:
        self._bids, self._only = bids, only

    def begin(self, facts: Facts, seed: int) -> None:
        self.facts = facts
        self._rng = np.random.default_rng([seed, 5])

    def split(self, day: int) -> Floats | None:
        return None

    def decide(self, requests: Requests, books: Books) -> Answers:
        auctions, facts = requests.auctions, self.facts
        epoch = (auctions.t_ns - STARTS_AT_NS) // EPOCH_NS
        bids = np.where(requests.open, self._bids[epoch, :, auctions.supply], 0.0)
        if self._only is not None:
            keep = np.zeros_like(bids)
            keep[:, self._only] = bids[:, self._only]
            bids = keep
        chance = self._rng.random((len(auctions), facts.creative_campaign.size))
        chance = np.where(facts.living(int(auctions.t_ns[0]))[requests.formats], chance, -1.0)
        order = np.argsort(-bids, axis=1, kind="stable")[:, :4]
        bid = np.take_along_axis(bids, order, axis=1).astype(np.int64)
        creative = np.full(order.shape, -1, dtype=np.int64)
        for c in range(facts.campaigns):
            mine = np.flatnonzero(facts.creative_campaign == c)
            rows, places = np.nonzero(order == c)
            creative[rows, places] = mine[chance[rows][:, mine].argmax(axis=1)]
        return Answers(creative=np.where(bid > 0, creative, -1), bid_micros=bid)

    def learn(self, feedback: Feedback) -> None:
        pass


def validated(scenario: Scenario, seed: int) -> tuple[Floats, Floats, Floats]:
    """(C, 2) driver over table, spend and value: each campaign alone; all together; and the table's spend (C,), units."""
    rich = replace(scenario, budget_factor=1e3)  # nobody runs out
    world = World(rich, seed)
    facts = facts_of(rich, world.design)
    of = sums(world, facts)
    best = (of.value - PRICES[PRICE] * of.cost).argmax(axis=-1)
    bids = np.where(_at(of.value, best) > 0, of.grid[best], 0.0)
    told = np.stack([_at(of.cost, best).sum(axis=(0, 2)), _at(of.value, best).sum(axis=(0, 2))], axis=1)
    alone = np.stack([_driven(world, facts, bids, c)[c] for c in range(facts.campaigns)])
    together = _driven(world, facts, bids, None)
    return alone / told, together / told, told[:, 0] / 1e9


def _at(what: Floats, best: Rows) -> Floats:
    return np.asarray(np.take_along_axis(what, best[..., None], axis=-1)[..., 0])


def _driven(world: World, facts: Facts, bids: Floats, only: int | None) -> Floats:
    tally = play(world, Bids(bids, only), facts).tally
    return np.stack([tally.spend.sum(axis=0), tally.value.sum(axis=0)], axis=1)
