"""Many seeds of one scenario at once, epoch by epoch: what a split brings, what of it is seen, and the best there is."""

from __future__ import annotations

from copy import copy
from typing import Final

import numpy as np
from msgspec import Struct

from counterpoint.bench.budget.table import EPOCHS_A_DAY, LAGS, Table
from counterpoint.bench.market.facts import Bools, Floats
from counterpoint.market.scenario import CarryOver, Scenario

MARGIN_NOISE: Final = 0.1  # of the elasticity a bidder tells
BUCKETS: Final = 2 * EPOCHS_A_DAY


class Carry(Struct, frozen=True, kw_only=True):
    """Advertising stock, by market: shapes (B,)."""

    gain: Floats
    half_at: Floats
    saturates_at: Floats  # inf: never
    keep: Floats  # of the stock, per epoch

    @staticmethod
    def of(carry: CarryOver, markets: int) -> Carry:
        most = np.inf if carry.saturates_at is None else carry.saturates_at
        keep = 0.5 ** (1.0 / (carry.half_life_days * EPOCHS_A_DAY))
        return Carry(
            gain=np.full(markets, carry.gain),
            half_at=np.full(markets, carry.half_at),
            saturates_at=np.full(markets, most),
            keep=np.full(markets, keep),
        )

    def lift(self, stock: Floats) -> Floats:
        """On conversions, of stock (B, K, S); as ``World.lift`` with shape 1."""
        gain, half, most = (a[:, None, None] for a in (self.gain, self.half_at, self.saturates_at))
        return np.asarray((1.0 + gain * stock / (stock + half)) / (1.0 + stock / most))

    def slope(self, stock: Floats) -> Floats:
        gain, half, most = (a[:, None, None] for a in (self.gain, self.half_at, self.saturates_at))
        up = gain * half / (stock + half) ** 2
        whole = 1.0 + stock / most
        return np.asarray(up / whole - (1.0 + gain * stock / (stock + half)) / most / whole**2)


class Seen(Struct, frozen=True, kw_only=True):
    """What a splitter hears of an epoch. (B, K); money in account currency."""

    epoch: int
    spent: Floats
    value: Floats  # reported in this epoch, whenever it was bought
    shown: Floats  # impressions, in shares of a day's auctions
    time: Floats  # (B, 1) the epoch's planned share of the day
    bucket: int
    next_bucket: int
    margin: Floats  # elasticity as the bidder tells it
    gone: float  # share of the flight


class Markets:
    """``traffic``: how many times the scenario's auctions (and budget) stand behind every count. 1: as it is."""

    def __init__(
        self,
        tables: list[Table],
        seeds: list[int],
        carry: Carry | None,
        traffic: float,
        days: int,
    ) -> None:
        self.spend = np.stack([t.spend for t in tables])
        self.value = np.stack([t.value for t in tables])
        self.shown = np.stack([t.shown for t in tables])
        self.event = np.stack([t.event for t in tables])
        self.converts: Bools = np.stack([t.converts for t in tables])
        self.delay = np.stack([t.delay for t in tables])
        self.budget = np.stack([t.budget for t in tables])
        auctions = np.stack([t.auctions for t in tables]).reshape(len(tables), days, EPOCHS_A_DAY)
        shape = auctions.sum(axis=1)
        plan = shape / shape.sum(axis=1, keepdims=True)
        self.plan = np.tile(plan, (1, days))  # (B, e) share of the day
        self.seeds, self.carry, self.traffic = seeds, carry, traffic
        self.epochs = self.spend.shape[1]
        self.count, self.arms = self.budget.shape
        self.pool = self.budget.sum(axis=1)

    def bucket(self, epoch: int) -> int:
        weekend = (epoch // EPOCHS_A_DAY) % 7 >= 5
        return epoch % EPOCHS_A_DAY + EPOCHS_A_DAY * int(weekend)

    def money(self, epoch: int) -> Floats:
        """(B,) planned for the epoch."""
        return np.asarray(self.pool * self.plan[:, epoch])

    def at(self, epoch: int, spend: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """(spent (B, K), value (B, K, S) without stock, shown (B, K, S), value's slope (B, K, S) there)."""
        x, v, n = self.spend[:, epoch], self.value[:, epoch], self.shown[:, epoch]
        spent = np.minimum(spend, x[..., -1])
        at = np.clip((x <= spent[..., None]).sum(axis=-1), 1, x.shape[-1] - 1)
        high = np.take_along_axis(x, at[..., None], -1)[..., 0]
        low = np.take_along_axis(x, at[..., None] - 1, -1)[..., 0]
        width = high - low
        part = np.where(width > 0, (spent - low) / np.where(width > 0, width, 1.0), 1.0)[..., None]

        def between(what: Floats) -> tuple[Floats, Floats]:
            upper = np.take_along_axis(what, at[..., None, None], 2)[:, :, 0]
            lower = np.take_along_axis(what, at[..., None, None] - 1, 2)[:, :, 0]
            rise = (upper - lower) / np.where(width > 0, width, np.inf)[..., None]
            return lower + part * (upper - lower), rise

        value, slope = between(v)
        shown, shown_slope = between(n)
        self.shown_slope = shown_slope
        capped = (spend > x[..., -1])[..., None]
        return spent, value, shown, np.where(capped, 0.0, slope)

    def best(self, epoch: int) -> Floats:
        """(B, K) the split of most value in the epoch, exactly: pieces of all curves by slope, without stock."""
        x, v = self.spend[:, epoch], self.value[:, epoch].sum(axis=-1)
        dx, dv = np.diff(x, axis=-1), np.diff(v, axis=-1)
        slope = np.where(dx > 0, dv / np.where(dx > 0, dx, 1.0), np.inf)
        flat = (self.count, -1)
        order = np.argsort(-slope.reshape(flat), axis=-1, kind="stable")
        size = np.take_along_axis(dx.reshape(flat), order, -1)
        taken = np.clip(self.money(epoch)[:, None] - (np.cumsum(size, -1) - size), 0.0, size)
        back = np.empty_like(taken)
        np.put_along_axis(back, order, taken, -1)
        return np.asarray(back.reshape(dx.shape).sum(axis=-1) + x[..., 0])


class Play:
    """One splitter's way through the markets."""

    def __init__(self, markets: Markets) -> None:
        self.m = markets
        paths = markets.value.shape[-1]
        self.stock = np.zeros((markets.count, markets.arms, paths))
        self.coming = np.zeros((markets.count, markets.arms, LAGS + 1))

    def step(self, epoch: int, spend: Floats) -> tuple[Floats, Seen]:
        """((B, K) true expected value, what is seen)."""
        m = self.m
        spent, value, shown, slope = m.at(epoch, spend)
        if m.carry is not None:
            lift = np.where(m.converts[..., None], m.carry.lift(self.stock), 1.0)
            value, slope = value * lift, slope * lift
            self.stock = self.stock * m.carry.keep[:, None, None] + shown
        true = value.sum(axis=-1)
        counts = np.zeros_like(self.coming)
        mean = true / m.event * m.traffic
        for b, seed in enumerate(m.seeds):
            rng = np.random.default_rng([seed, epoch, 0x6275])
            spread = np.where(m.converts[b][:, None], m.delay[b], np.eye(1, LAGS + 1))
            counts[b] = rng.poisson(mean[b][:, None] * spread)
        self.coming += counts
        reported = self.coming[..., 0] * m.event / m.traffic
        self.coming = np.concatenate([self.coming[..., 1:], np.zeros_like(self.coming[..., :1])], axis=-1)
        bend = np.where(true > 0, slope.sum(axis=-1) * spent / np.where(true > 0, true, 1.0), np.nan)
        noise = np.stack(
            [np.random.default_rng([s, epoch, 0x6D67]).normal(0, MARGIN_NOISE, m.arms) for s in m.seeds]
        )
        return true, Seen(
            epoch=epoch,
            spent=spent,
            value=reported,
            shown=shown.sum(axis=-1),
            time=m.plan[:, epoch][:, None],
            bucket=m.bucket(epoch),
            next_bucket=m.bucket(epoch + 1),
            margin=np.clip(bend * np.exp(noise), 0.02, 1.0),
            gone=(epoch + 1) / m.epochs,
        )


def markets_of(scenario: Scenario, tables: list[Table], seeds: list[int], traffic: float) -> Markets:
    c = scenario.carry_over
    carries = c.gain > 0.0 or c.saturates_at is not None
    carry = Carry.of(c, len(seeds)) if carries else None
    return Markets(tables, seeds, carry, traffic, scenario.days)


def plan_with_stock(markets: Markets, rounds: int = 150, rate: float = 0.3) -> Floats:
    """(B,) value of the best plan found for all epochs together, with the true state known: exponentiated gradient ascent on
    each epoch's shares, the gradient through the stock exact (adjoint), from the myopic plan; the best round counts.

    The problem is not concave, so this is the best found, not a bound; :func:`stock_bound` is one.
    """
    m = markets
    assert m.carry is not None
    shares = np.stack([m.best(e) for e in range(m.epochs)], axis=1)
    shares = np.maximum(shares, 1e-4 * m.pool[:, None, None] / m.arms)
    money = np.stack([m.money(e) for e in range(m.epochs)], axis=1)[..., None]
    shares = shares / shares.sum(axis=-1, keepdims=True)
    top = np.full(m.count, -np.inf)
    converts = m.converts[..., None]
    for turn in range(rounds):
        stock = np.zeros((m.count, m.arms, m.value.shape[-1]))
        total = np.zeros(m.count)
        kept = []
        for e in range(m.epochs):
            _, value, shown, slope = m.at(e, shares[:, e] * money[:, e])
            lift = np.where(converts, m.carry.lift(stock), 1.0)
            fall = np.where(converts, m.carry.slope(stock), 0.0)
            kept.append((value * fall, slope * lift, m.shown_slope))
            total += (value * lift).sum(axis=(1, 2))
            stock = stock * m.carry.keep[:, None, None] + shown
        top = np.maximum(top, total)
        later = np.zeros_like(stock)
        for e in reversed(range(m.epochs)):
            by_stock, direct, more = kept[e]
            gradient = (direct + later * more).sum(axis=-1)
            later = later * m.carry.keep[:, None, None] + by_stock
            mean = (gradient * shares[:, e]).sum(axis=-1, keepdims=True)
            step = np.clip((gradient - mean) / np.maximum(np.abs(mean), 1e-9), -2.0, 2.0)
            shares[:, e] *= np.exp(rate * (1.0 - turn / rounds) * step)
            shares[:, e] /= shares[:, e].sum(axis=-1, keepdims=True)
    return top


def stock_bound(markets: Markets) -> Floats:
    """(B,) value that no plan can pass: every epoch split at its best with all conversions at the highest lift there is."""
    m = markets
    assert m.carry is not None
    stock = np.concatenate([[0.0], np.geomspace(1e-4, 10.0, 2_000)])
    top = m.carry.lift(np.broadcast_to(stock, (m.count, 1, stock.size))).max(axis=(1, 2))
    lifted = np.where(m.converts, top[:, None], 1.0)[:, None, :, None, None]
    best = copy(m)
    best.value = m.value * lifted
    return np.asarray(
        sum(best.at(e, best.best(e))[1].sum(axis=(1, 2)) for e in range(m.epochs)), dtype=np.float64
    )
