"""A market of campaigns with concave returns, whose truth is known: how much of the best possible does a splitter get?

Nothing here was used to tune the learner: the curve families (power, exponential, Hill) are not the learner's own.
Days are periods; values carry gamma noise (cv 0.35); levels drift and jump.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from counterpoint.base.clock import NS_PER_S
from counterpoint.budget.learner import BudgetLearner
from counterpoint.budget.state import BudgetConfig
from counterpoint.budget.water_filling import water_fill
from counterpoint.catalog.model import Advertiser, BudgetPool, Campaign, Catalog, Goal
from counterpoint.events.decisions import Proposal
from counterpoint.events.event import Event
from counterpoint.events.facts import ConversionAttributed
from counterpoint.events.money import BudgetMoved, SpendBooked

Array = npt.NDArray[np.float64]
DAY_NS = 86_400 * NS_PER_S
T0 = 20_000 * DAY_NS
TOTAL_MICROS = 1_000_000_000  # 1,000 units a day
NANOS = 1_000.0 * TOTAL_MICROS


def catalog(arms: int) -> Catalog:
    return Catalog(
        advertisers=(Advertiser(id="adv", name="Adv", domain="adv.example"),),
        pools=(BudgetPool(id="pool", advertiser_id="adv"),),
        campaigns=tuple(
            Campaign(
                id=f"c{k}",
                advertiser_id="adv",
                name=f"c{k}",
                daily_budget_micros=TOTAL_MICROS // arms,
                pool_id="pool",
                goal=Goal.VALUE,
                goal_value_micros=1_000_000,
                expected_order_value_micros=20_000_000,
            )
            for k in range(arms)
        ),
    )


DAILY = BudgetConfig(
    period_s=86_400, half_life_periods=8.0, trust_factor=1.2, gain_min=0.005, doubt=0.25, rest_periods=15
)


class Market:
    """``level[k]`` x a concave shape of spend, in nanos of value a day. Spend is in equal shares of the pool."""

    def __init__(self, seed: int, arms: int, *, noise_cv: float = 0.35, drift: float = 0.02) -> None:
        self.rng = np.random.default_rng(seed)
        self.noise_cv, self.drift = noise_cv, drift
        self.unit = NANOS / arms
        self.family = self.rng.integers(0, 3, arms)
        self.bend = self.rng.uniform(0.35, 0.8, arms)
        self.scale = np.exp(self.rng.normal(-0.3, 0.9, arms))
        self.level = np.exp(self.rng.normal(0.0, 0.9, arms)) * self.unit

    def value(self, x: Array) -> Array:
        """Expected value of spends of shape (K,) or (K, points)."""
        shape = [-1] + [1] * (x.ndim - 1)
        s = x / self.unit
        bend, scale = self.bend.reshape(shape), self.scale.reshape(shape)
        out = np.choose(
            self.family.reshape(shape),
            [s**bend, 1 - np.exp(-s / scale), s / (s + scale)],
        )
        result: Array = self.level.reshape(shape) * out
        return result

    def slopes(self, x: Array) -> Array:
        step = self.unit * 1e-5
        rise: Array = (self.value(x + step) - self.value(x)) / step
        return rise

    def best(self, total: float = NANOS) -> Array:
        arms = len(self.level)
        low = np.full(arms, total * 1e-6)
        x = water_fill(self.slopes, low, np.full(arms, total), total)
        for _ in range(6):  # finer pieces around the last answer
            width = np.maximum(total / 64, x * 0.2)
            x = water_fill(self.slopes, np.maximum(low, x - width), x + width, total)
        return x

    def observe(self, x: Array) -> Array:
        shape = 1 / self.noise_cv**2
        noise: Array = self.rng.gamma(shape, 1 / shape, len(x))
        return self.value(x) * noise

    def next_day(self) -> None:
        self.level = self.level * np.exp(self.rng.normal(0, self.drift, len(self.level)))

    def jump(self, rows: list[int], factors: list[float]) -> None:
        self.level[rows] *= factors


Splitter = Callable[
    [int, Array, Array], Array
]  # (day, what was spent, what it brought) -> what to spend next


class Learned:
    """The learner behind its own doors: events in, proposals out, the split applied as the ledger would."""

    def __init__(self, arms: int, config: BudgetConfig | None = None) -> None:
        self.learner = BudgetLearner(catalog(arms), config=config or DAILY)
        self.learner.tick(T0)
        self.x = np.full(arms, NANOS / arms)

    def __call__(self, day: int, spent: Array, brought: Array) -> Array:
        at_ns = T0 + day * DAY_NS + DAY_NS // 2
        events: list[Event] = []
        for k, (x, y) in enumerate(zip(spent, brought, strict=True)):
            if x >= 1:
                events.append(_spend(f"c{k}", day, int(x), at_ns))
            if y > 0:
                events.append(_order(f"c{k}", day, int(y / 1_000), at_ns))
        self.learner.on(events, at_ns)
        end_ns = T0 + (day + 1) * DAY_NS + 60 * NS_PER_S
        shares = {
            d.event.target: d.event.value
            for d in self.learner.tick(end_ns)
            if isinstance(d.event, Proposal) and d.event.target.endswith("/budget_share")
        }
        if shares:
            assert sum(v or 0 for v in shares.values()) == 1_000_000
            self.x = np.array(
                [NANOS * (shares[f"campaign/c{k}/budget_share"] or 0) / 1e6 for k in range(len(self.x))]
            )
            budgets = {f"c{k}": int(x) for k, x in enumerate(self.x)}
            self.learner.on([_moved(day, budgets, end_ns)], end_ns)
        return self.x


class RoasProportional:
    """Shares in proportion to what a unit brought over the last 14 days, never under 1 % of an equal share."""

    def __init__(self) -> None:
        self.days: list[tuple[Array, Array]] = []

    def __call__(self, day: int, spent: Array, brought: Array) -> Array:
        self.days = [*self.days, (spent, brought)][-14:]
        spend = sum((x for x, _ in self.days), np.zeros(len(spent)))
        value = sum((y for _, y in self.days), np.zeros(len(spent)))
        weight = np.maximum(value / np.maximum(spend, 1.0), 1e-9)
        shares = np.maximum(weight / weight.sum(), 0.01 / len(spent))
        out: Array = NANOS * shares / shares.sum()
        return out


def equal(day: int, spent: Array, brought: Array) -> Array:
    return np.full(len(spent), NANOS / len(spent))


def share_of_oracle(
    seed: int, splitter: Splitter, *, arms: int = 8, days: int = 90, jumps: tuple[int, ...] = (40,)
) -> Array:
    """Per day, value over that day's best possible value. The market depends on the seed and the day alone."""
    market = Market(seed, arms)
    x = np.full(arms, NANOS / arms)
    ratios = np.zeros(days)
    for day in range(days):
        if day in jumps:
            rows = market.rng.permutation(arms)[: arms // 3]
            market.jump(list(rows), [2.5 if i % 2 else 0.4 for i in range(len(rows))])
        ratios[day] = market.value(x).sum() / market.value(market.best()).sum()
        x = splitter(day, x, market.observe(x))
        market.next_day()
    return ratios


def compare(seeds: range) -> dict[str, tuple[float, float]]:
    """Market ``concave-drift-jump-v1`` (8 campaigns, 60 days, jump on day 40): mean share of the dynamic oracle by
    splitter and paired differences, each with the half-width of its 95 % interval."""
    learned = np.array([share_of_oracle(s, Learned(8), days=60).mean() for s in seeds])
    even = np.array([share_of_oracle(s, equal, days=60).mean() for s in seeds])
    roas = np.array([share_of_oracle(s, RoasProportional(), days=60).mean() for s in seeds])
    rows = {
        "learned": learned,
        "equal": even,
        "roas": roas,
        "learned - equal": learned - even,
        "learned - roas": learned - roas,
    }
    width = 2.07 / len(seeds) ** 0.5  # Student's t for about 24 seeds
    return {name: (float(x.mean()), float(width * x.std(ddof=1))) for name, x in rows.items()}


def _spend(campaign: str, day: int, nanos: int, at_ns: int) -> SpendBooked:
    return SpendBooked(
        event_id=f"s-{campaign}-{day}",
        happened_at_ns=at_ns,
        recorded_at_ns=at_ns,
        source="ledger",
        bid_id=f"b-{campaign}-{day}",
        allowance_id="",
        campaign_id=campaign,
        line_item_id="",
        creative_id="",
        exchange="x",
        arm="agents",
        day=str(day),
        paid_nanos=nanos,
    )


def _order(campaign: str, day: int, micros: int, at_ns: int) -> ConversionAttributed:
    return ConversionAttributed(
        event_id=f"o-{campaign}-{day}",
        happened_at_ns=at_ns,
        recorded_at_ns=at_ns,
        source="bidder",
        bid_id="",
        exchange="x",
        segment="x/banner",
        campaign_id=campaign,
        line_item_id="",
        creative_id="",
        value_micros=micros,
    )


def _moved(day: int, budgets: dict[str, int], at_ns: int) -> BudgetMoved:
    return BudgetMoved(
        event_id=f"m-{day}",
        happened_at_ns=at_ns,
        recorded_at_ns=at_ns,
        source="ledger",
        pool_id="pool",
        day=str(day),
        epoch=0,
        budgets_nanos=budgets,
    )


if __name__ == "__main__":
    for title, (mean, half) in compare(range(24)).items():
        print(f"{title:16} {mean:+.4f} +/- {half:.4f}")
