"""Policies a log can be replayed under, by name.

Baselines are tuned on the train part's own prices under every feedback regime: an advantage over what learns, so that
nothing wins by its rivals' blindness. Tuned means: the parameter that did best on the train part, in the same auction,
under the flight's budget per auction with the same hard stop. Best is the sum of value won where there is a budget,
the surplus (value less cost) where there is none.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np

from counterpoint.base.errors import ConfigError
from counterpoint.base.rng import mix64
from counterpoint.base.words import instead_of
from counterpoint.market.logs.auctions import scan_multipliers, settle
from counterpoint.market.logs.feedback import BlockView, Outcome, Part, TrainView
from counterpoint.market.logs.read import FloatArray, IntArray
from counterpoint.market.logs.terms import Auction

BLOCK_ROWS = 100  # a policy that learns is told outcomes this many auctions at a time
MULTIPLIER_MIN, MULTIPLIER_MAX, MULTIPLIERS = 0.003, 30.0, 400
REFINED = 121


class ReplayPolicy(ABC):
    """``fit`` once, then ``bid_block`` and ``observe`` in turns. Bids are whole fen per 1,000; 0 is no bid."""

    name: str
    tuned_on_prices = False  # may see the train part's prices whatever the regime
    looks_ahead = False  # a benchmark that no bidder could run: it is shown the judged part first
    block_rows: int | None = None  # None: bids do not depend on outcomes, all rows come at once

    @abstractmethod
    def fit(self, train: TrainView) -> None: ...

    @abstractmethod
    def bid_block(self, block: BlockView) -> IntArray: ...

    def observe(self, block: BlockView, outcome: Outcome) -> None:
        """What came of the bids of ``block``; most policies learn nothing from it."""
        return

    def look_ahead(self, judged: Part) -> None:
        """Only called where ``looks_ahead``."""
        return

    def parameters(self) -> dict[str, float]:
        """What was fitted, for the report."""
        return {}

    def bid(self, pctr: float, context: BlockView) -> int:
        """One auction; ``context`` is a block whose first row gives everything but the prediction."""
        share = pctr / context.pctr[0] if context.pctr[0] > 0 else 0.0
        one = BlockView(
            context.first_row,
            np.array([pctr]),
            context.value[:1] * share,
            context.time[:1],
            context.exchange[:1],
            context.left_milli_fen,
        )
        return int(self.bid_block(one)[0])


def best_multiplier(
    shaded: FloatArray,
    value: FloatArray,
    market_price: IntArray,
    auction: Auction,
    budget: int,
    bid_max: int,
    has_budget: bool,
) -> float:
    """The m for which bids ``m * shaded`` do best: a log grid, then a finer one around its best point."""
    column = 0 if has_budget else 1
    grid = np.geomspace(MULTIPLIER_MIN, MULTIPLIER_MAX, MULTIPLIERS)
    step = grid[1] / grid[0]
    for _ in range(2):
        out = np.zeros((len(grid), 3))
        scan_multipliers(shaded, value, market_price, grid, auction.second, budget, bid_max, out)
        best = float(grid[int(np.argmax(out[:, column]))])
        grid = np.geomspace(best / step, best * step, REFINED)
    return best


def floored(bids: FloatArray, bid_max: int) -> IntArray:
    return np.minimum(bids, float(bid_max)).astype(np.int64)


class Constant(ReplayPolicy):
    """One bid for everything."""

    name = "constant"
    tuned_on_prices = True

    def fit(self, train: TrainView) -> None:
        assert train.market_price is not None
        ones = np.ones(len(train.value))
        bids = np.arange(1.0, train.bid_max + 1.0)
        out = np.zeros((len(bids), 3))
        scan_multipliers(
            ones,
            train.value,
            train.market_price,
            bids,
            train.auction.second,
            train.budget,
            train.bid_max,
            out,
        )
        self._bid = int(bids[int(np.argmax(out[:, 0 if train.has_budget else 1]))])

    def bid_block(self, block: BlockView) -> IntArray:
        return np.full(len(block), self._bid, dtype=np.int64)

    def parameters(self) -> dict[str, float]:
        return {"bid_fen_cpm": float(self._bid)}


class Proportional(ReplayPolicy):
    """Bids ``multiplier * value``, rounded down: proportional to the prediction."""

    multiplier = 1.0
    bid_max = 0

    def fit(self, train: TrainView) -> None:
        self.bid_max = train.bid_max

    def bid_block(self, block: BlockView) -> IntArray:
        return floored(block.value * self.multiplier, self.bid_max)

    def parameters(self) -> dict[str, float]:
        return {"bid_per_value": self.multiplier}


class Truthful(Proportional):
    """The value itself: right without a budget in second price, no surplus in first price."""

    name = "truthful"


class Linear(Proportional):
    name = "linear"
    tuned_on_prices = True

    def fit(self, train: TrainView) -> None:
        super().fit(train)
        assert train.market_price is not None
        self.multiplier = best_multiplier(
            train.value,
            train.value,
            train.market_price,
            train.auction,
            train.budget,
            train.bid_max,
            train.has_budget,
        )


class ConstantShade(Linear):
    """The fraction of value with the best surplus on the train part, with a budget too."""

    name = "constant-shade"

    def fit(self, train: TrainView) -> None:
        Proportional.fit(self, train)
        assert train.market_price is not None
        self.multiplier = best_multiplier(
            train.value,
            train.value,
            train.market_price,
            train.auction,
            train.budget,
            train.bid_max,
            has_budget=False,
        )


class LinearHindsight(Proportional):
    """The best multiplier on the judged part itself: a benchmark with look-ahead."""

    name = "linear-hindsight"
    looks_ahead = True

    def fit(self, train: TrainView) -> None:
        super().fit(train)
        self._auction, self._budget, self._has_budget = train.auction, train.flight_budget, train.has_budget

    def look_ahead(self, judged: Part) -> None:
        self.multiplier = best_multiplier(
            judged.value,
            judged.value,
            judged.market_price,
            self._auction,
            self._budget,
            self.bid_max,
            self._has_budget,
        )


class UnconditionalShade(ReplayPolicy):
    """First price: ``argmax (v_eff - b) F(b)`` with F the train part's price distribution, v_eff = value / lambda, and
    lambda tuned on the train part where there is a budget. Second price: v_eff."""

    name = "unconditional-shade"
    tuned_on_prices = True

    def fit(self, train: TrainView) -> None:
        assert train.market_price is not None
        self._bid_max = train.bid_max
        self.pace = 1.0
        bids = np.arange(train.bid_max + 1, dtype=np.float64)
        counts = np.bincount(np.minimum(train.market_price, train.bid_max + 1), minlength=train.bid_max + 2)
        wins = np.cumsum(counts)[: train.bid_max + 1] / len(train.value)
        self._step = 0.5  # fen: values are looked up on this grid
        values = np.arange(0.0, 4.0 * train.bid_max + self._step, self._step)
        if train.auction is Auction.FIRST:
            best = np.argmax((values[:, None] - bids[None, 1:]) * wins[None, 1:], axis=1) + 1
            self._shaded = np.where(values > best, best, 0).astype(np.int64)
        else:
            self._shaded = floored(values, train.bid_max)
        if train.has_budget:
            self.pace = self._best_pace(train, train.market_price)

    def _best_pace(self, train: TrainView, market_price: IntArray) -> float:
        grid = np.geomspace(1 / 64.0, 8.0, 120)
        step = grid[1] / grid[0]
        one = np.ones(1)
        out = np.zeros((1, 3))
        best = 1.0
        for _ in range(2):
            won = []
            for pace in grid:
                bids = self._shade(train.value * pace).astype(np.float64)
                scan_multipliers(
                    bids,
                    train.value,
                    market_price,
                    one,
                    train.auction.second,
                    train.budget,
                    train.bid_max,
                    out,
                )
                won.append(float(out[0, 0]))
            best = float(grid[int(np.argmax(won))])
            grid = np.geomspace(best / step, best * step, 31)
        return best

    def _shade(self, paced: FloatArray) -> IntArray:
        at = np.minimum((paced / self._step).astype(np.int64), len(self._shaded) - 1)
        return self._shaded[at]

    def bid_block(self, block: BlockView) -> IntArray:
        return self._shade(block.value * self.pace)

    def parameters(self) -> dict[str, float]:
        return {"value_over_lambda": self.pace}


class LinearPid(Linear):
    """Linear, re-paced by PID (Zhang et al. 2016): every BLOCK_ROWS auctions, as often as any other that learns, the multiplier is ``tuned * exp(phi)``, phi
    driven by the relative gap between spend and the even, re-targeted plan. The integral rests while phi is at its bound.
    Gains are tuned on the train part too."""

    name = "linear-pid"
    block_rows = BLOCK_ROWS
    PHI_MAX = 2.0
    GAINS = tuple((p, i, d) for p in (0.0, 0.05, 0.15, 0.4) for i in (0.02, 0.06, 0.15) for d in (0.0, 0.05))

    def fit(self, train: TrainView) -> None:
        super().fit(train)
        self._tuned = self.multiplier
        self._gains = self.GAINS[0]
        self._start(train.flight_rows, train.has_budget)
        if not train.has_budget:
            return
        assert train.market_price is not None
        best = -1.0
        for gains in self.GAINS:
            self._gains = gains
            self._start(len(train.value), True)
            won = self._rehearse(train, train.market_price)
            if won > best:
                best, chosen = won, gains
        self._gains = chosen
        self._start(train.flight_rows, True)

    def _start(self, rows: int, has_budget: bool) -> None:
        self._rows_left, self._paced = rows, has_budget
        self._phi = self._integral = self._error = 0.0
        self.multiplier = self._tuned

    def _rehearse(self, train: TrainView, market_price: IntArray) -> float:
        n, left, value_won = len(train.value), train.budget, 0.0
        for first in range(0, n, self.block_rows):
            rows = slice(first, min(first + self.block_rows, n))
            bids = floored(train.value[rows] * self.multiplier, self.bid_max)
            bid, won, paid = np.zeros_like(bids), np.zeros(len(bids), np.bool_), np.zeros_like(bids)
            before = left
            left = settle(bids, market_price[rows], train.auction.second, left, bid, won, paid)
            value_won += float(train.value[rows][won].sum())
            self._repace(len(bids), before, before - left)
        return value_won

    def observe(self, block: BlockView, outcome: Outcome) -> None:
        if self._paced:
            self._repace(len(block), block.left_milli_fen, outcome.spent_milli_fen)

    def _repace(self, rows: int, left_before: int, spent: int) -> None:
        target = left_before * rows / max(self._rows_left, rows)
        self._rows_left -= rows
        if target < 1.0:
            return
        error = min(max(1.0 - spent / target, -2.0), 1.0)
        p, i, d = self._gains
        integral = self._integral + error
        phi = p * error + i * integral + d * (error - self._error)
        if abs(phi) < self.PHI_MAX:
            self._integral = integral
        self._error = error
        self._phi = min(max(phi, -self.PHI_MAX), self.PHI_MAX)
        self.multiplier = self._tuned * float(np.exp(self._phi))

    def parameters(self) -> dict[str, float]:
        p, i, d = self._gains
        return {"bid_per_value": self._tuned, "kp": p, "ki": i, "kd": d}


class Random(ReplayPolicy):
    """Uniform over 1..bid_max, by seed."""

    name = "random"

    def fit(self, train: TrainView) -> None:
        self._bid_max = train.bid_max
        self._key = mix64(train.seed)

    def bid_block(self, block: BlockView) -> IntArray:
        generator = np.random.Generator(np.random.Philox(key=[self._key, block.first_row]))
        return generator.integers(1, self._bid_max + 1, len(block), dtype=np.int64)


REGISTRY: dict[str, Callable[[], ReplayPolicy]] = {
    policy.name: policy
    for policy in (
        Constant,
        Linear,
        LinearPid,
        LinearHindsight,
        Truthful,
        ConstantShade,
        UnconditionalShade,
        Random,
    )
}


def register(name: str, make: Callable[[], ReplayPolicy]) -> None:
    """Make a policy known by name. A name is used once."""
    assert name not in REGISTRY, f"policy {name!r} is there already"
    REGISTRY[name] = make


def make_policy(name: str) -> ReplayPolicy:
    if name not in REGISTRY:
        raise ConfigError(f"no replay policy {name!r}; {instead_of(name, sorted(REGISTRY))}")
    return REGISTRY[name]()
