"""One market of part ``values``: counts and model see the same traffic, predict the same auctions, and are judged.

What is learned from is won by bids at the counts' own values, a twentieth of them tripled; see ``values.py``.
"""

from __future__ import annotations

import heapq
from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from counterpoint.base.clock import NS_PER_S
from counterpoint.bench.bidding.ceiling import Observed
from counterpoint.bench.bidding.counted import MATURITY_S, Counted
from counterpoint.bench.bidding.value_features import Features
from counterpoint.bidding.features import (
    CAMPAIGN,
    EXPOSED,
)
from counterpoint.bidding.outcomes import Impression, Outcomes
from counterpoint.bidding.rates import Rates
from counterpoint.bidding.value_model import Impressions
from counterpoint.market.auctions import Auctions
from counterpoint.market.auctions import Outcomes as Outcomes_
from counterpoint.market.load import scenario_named
from counterpoint.market.scenario import resized
from counterpoint.market.state import Exposures
from counterpoint.market.world import World
from counterpoint.market.worth import worth_at_goal

BATCH: Final = 1_000
JUDGED_FROM: Final = 0.5  # of the auctions
BID_SHARE: Final = 0.7  # of the value, of the bids that make the traffic
TRIPLED: Final = 0.05
SPEND_SHARE: Final = 0.5  # of what the counts' values would spend without a multiplier

_EXPOSURES_OF: Final = (0, 1, 2, 3, 5, 9)  # the least exposures of each level

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


class Judged(Struct, frozen=True, kw_only=True):
    """One scenario and seed: later half of the auctions. ``counts_*`` and ``model_*`` side by side."""

    clicks: int  # in the won traffic that was learned
    orders: int
    counts_click: float  # KL to the true chance, 1e-4 nats an auction
    model_click: float
    counts_order: float  # of a conversion per click, 1e-2 nats
    model_order: float
    counts_loss: float  # log-loss of drawn clicks / that of their own mean
    model_loss: float
    counts_clicks: float  # clicks / predicted, on won traffic
    model_clicks: float
    counts_orders: float  # expected orders / predicted, on won traffic
    model_orders: float
    worth: float  # true worth bought at equal spend, model / counts - 1
    orders_bought: float  # the same for true expected conversions of the goals that pay for them
    worth_known: float  # with the true chances themselves, which no request shows
    worth_each: (
        float  # as ``worth``, each campaign spending what it spends by the counts: choice alone, no levels
    )
    features_each: (
        float  # the same with true features on the counts' creatives: the most that features could add
    )
    observable_each: (
        float  # with all that can be known but the person: creatives' appeal too; NaN where tastes turn
    )
    person_each: float  # and with the person, where there is an id


def judge(name: str, seed: int, auctions: int) -> Judged:
    return _Run(World(resized(scenario_named(name), auctions), seed)).judged()


class _Run:
    def __init__(self, world: World) -> None:
        self.world = world
        s, design = world.scenario, world.design
        self.counted = Counted(world)
        self.rates = Rates(7 * 86_400.0)
        priors = {f"l{k}": float(rate) for k, rate in enumerate(self.counted.order_prior)}
        self.rates.set_priors(priors)
        self.outcomes = Outcomes(self.rates)
        self.exposures = Exposures(s)
        self.worth = np.array([worth_at_goal(c.goal, c.goal_value_micros) for c in s.campaign])
        self.basket = np.array([c.order_value for c in s.campaign])
        self.segments = [f"{p.venue}/{p.media}" for p in s.supply]
        self.chance = np.random.Generator(np.random.Philox(key=[world.seed, 0x76616C756573]))
        self.later: list[
            tuple[int, int, str, int]
        ] = []  # a heap of what will be told: when, kind, bid, line item
        self.kept: list[tuple[F64, ...]] = []
        self.won_kept: list[tuple[F64, ...]] = []
        self.clicks = self.orders = 0
        self.decayed_ns = 0
        turns = world.scenario.drift.taste_turn_deg != 0.0 or world.scenario.click.link == "steep"
        self.observed = None if turns else Observed(world)
        self._features = Features(s, len(self.counted.order_prior), self.segments)
        self.items = design.line_item.astype(np.int64)
        self.campaigns = design.campaign.astype(np.int64)

    def judged(self) -> Judged:
        total = self.world.scenario.auctions
        for start in range(0, total, BATCH):
            self._batch(self.world.batch(start, min(BATCH, total - start)), start >= JUDGED_FROM * total)
        return self._judge()

    def _batch(self, auctions: Auctions, judged: bool) -> None:
        world, counted = self.world, self.counted
        now_ns = int(auctions.t_ns[0])
        self._told_until(now_ns)
        counted.refresh()
        creative = np.full(len(auctions), -1, dtype=np.int64)
        for row in range(len(auctions)):
            fitting = world.fitting(auctions, row)
            if len(fitting):
                creative[row] = fitting[self.chance.integers(len(fitting))]
        rows = np.flatnonzero(creative >= 0)
        creatives = creative[rows]
        campaign, item, user = self.campaigns[creatives], self.items[creatives], auctions.user[rows]
        exposures = self.exposures.of(user, campaign, auctions.t_ns[rows])
        true = world.responses(auctions, rows, creatives, exposures)
        drawn = world.outcomes(auctions, rows, creatives, true)
        threshold = world.truth(auctions).threshold_micros[rows].astype(np.float64)

        offset = counted.rate[creatives]
        click_counts = np.minimum(offset * counted.factors()[auctions.supply[rows]], 1.0)
        order_counts = counted.order_rates()[item]
        seen = self._seen(auctions, rows, campaign, item, exposures, offset)
        click_model, order_model = self.outcomes.model.predict(seen)

        def value(click: F64, order: F64) -> F64:
            return self._value(campaign, click, order)

        bid = BID_SHARE * value(click_counts, order_counts)
        bid = np.where(self.chance.random(len(rows)) < TRIPLED, 3.0 * bid, bid)
        won = np.flatnonzero(bid >= threshold)
        if judged:
            pays = (self.worth[campaign][:, 2:] > 0.0).any(axis=1)
            columns = (
                true.click, true.conversion, click_counts, click_model, order_counts, order_model,
                drawn.clicked.astype(np.float64), threshold, value(click_counts, order_counts),
                value(click_model, order_model), true.value_micros.astype(np.float64),
                np.where(pays, true.click * true.conversion, 0.0), creatives.astype(np.float64),
                *self._ceiling(auctions, rows, creatives, exposures),
            )  # fmt: skip
            self.kept.append(columns)
            self.won_kept.append(tuple(column[won] for column in columns[:7]))
        self._won(auctions, rows, won, creatives, campaign, seen, drawn)

    def _value(self, campaign: I64, click: F64, order: F64) -> F64:
        w = self.worth[campaign]
        return np.asarray(w[:, 0] + click * (w[:, 1] + order * (w[:, 2] + w[:, 3] * self.basket[campaign])))

    def _ceiling(self, auctions: Auctions, rows: I64, creatives: I64, exposures: F64) -> tuple[F64, ...]:
        if self.observed is None:
            return tuple(np.full((4, len(rows)), np.nan))
        known = self.observed.of(auctions, rows, creatives, exposures)
        return known.click, known.order, known.person_click, known.person_order

    def _seen(
        self, auctions: Auctions, rows: I64, campaign: I64, item: I64, exposures: F64, offset: F64
    ) -> Impressions:
        s = self.world.scenario
        columns = self._features.of(auctions, rows, campaign, item, exposures)
        rates = np.array(
            [
                self.rates.known_rate(f"l{k}", s.campaign[c].id)
                for k, c in enumerate(self.counted.campaign_of_item)
            ]
        )
        groups = [
            (s.campaign[c].id, self.segments[k])
            for c, k in zip(campaign.tolist(), auctions.supply[rows].tolist(), strict=True)
        ]
        return Impressions(columns, offset, rates[item], groups)

    def _impression(self, seen: Impressions, k: int, at_ns: int, segment: str, item: int) -> Impression:
        row, (campaign, _) = seen.rows[k], seen.groups[k]
        context = row[2:CAMPAIGN].astype("<u4").tobytes()
        exposed = _EXPOSURES_OF[int(row[EXPOSED])]
        return Impression(
            at_ns,
            segment,
            segment.partition("/")[0],
            campaign,
            f"l{item}",
            float(seen.click_rates[k]),
            context,
            exposed,
        )

    def _won(
        self,
        auctions: Auctions,
        rows: I64,
        won: I64,
        creatives: I64,
        campaign: I64,
        seen: Impressions,
        drawn: Outcomes_,
    ) -> None:
        counted = self.counted
        told = won[drawn.impression_told[won]]
        supply = auctions.supply[rows]
        np.add.at(counted.impressions, creatives[told], 1.0)
        np.add.at(counted.predicted, supply[told], seen.click_rates[told])
        self.exposures.show_all(auctions.user[rows][won], campaign[won], auctions.t_ns[rows][won])
        for k in told.tolist():
            bid, at_ns, item = (
                f"{auctions.index[rows[k]]}",
                int(auctions.t_ns[rows[k]]),
                int(self.items[creatives[k]]),
            )
            self.outcomes.shown(bid, self._impression(seen, k, at_ns, self.segments[supply[k]], item))
            if drawn.click_told[k]:
                self.clicks += 1
                counted.clicks[creatives[k]] += 1.0
                counted.seen[supply[k]] += 1.0
                click_ns = at_ns + int(drawn.click_delay_ns[k])
                heapq.heappush(self.later, (click_ns, 0, bid, item))
                heapq.heappush(self.later, (at_ns + int(MATURITY_S * NS_PER_S), 1, bid, item))
                if drawn.conversion_told[k]:
                    order_ns = at_ns + int(drawn.conversion_delay_ns[k])
                    heapq.heappush(self.later, (max(order_ns, click_ns), 2, bid, item))

    def _told_until(self, now_ns: int) -> None:
        s = self.world.scenario
        while self.later and self.later[0][0] <= now_ns:
            at_ns, kind, bid, item = heapq.heappop(self.later)
            campaign = s.campaign[self.counted.campaign_of_item[item]]
            if kind == 1:
                self.counted.trials[item] += 1.0
                continue
            self.outcomes.tick(at_ns)
            if kind == 0:
                unknown = Impression(at_ns, "", "", campaign.id, f"l{item}", 0.0)
                self.outcomes.clicked(bid, at_ns, campaign.advertiser, 30 * 86_400, unknown)
            elif self.outcomes.converted(bid, at_ns):
                self.counted.orders[item] += 1.0
                self.orders += 1
        self.outcomes.tick(now_ns)
        elapsed_s = (now_ns - self.decayed_ns) / NS_PER_S
        if self.decayed_ns and elapsed_s >= 60.0:
            self.outcomes.decay(elapsed_s)
            self.rates.decay(elapsed_s)
            self.counted.decay(elapsed_s)
        if not self.decayed_ns or elapsed_s >= 60.0:
            self.decayed_ns = now_ns

    def _judge(self) -> Judged:
        (
            click,
            order,
            click_c,
            click_m,
            order_c,
            order_m,
            drawn,
            threshold,
            value_c,
            value_m,
            worth,
            orders,
            creative,
            known_click,
            known_order,
            person_click,
            person_order,
        ) = (np.concatenate(column) for column in zip(*self.kept, strict=True))
        won = [np.concatenate(column) for column in zip(*self.won_kept, strict=True)]
        spend = SPEND_SHARE * float(threshold[value_c >= threshold].sum())
        bought = {
            name: value >= threshold / _multiplier(value, threshold, spend)
            for name, value in (("counts", value_c), ("model", value_m), ("true", worth))
        }
        base = np.full(drawn.shape, drawn.mean())
        shown = creative.astype(np.int64)
        campaign = self.campaigns[shown]
        counts_spend = np.bincount(campaign, threshold * bought["counts"])

        def each(click: F64, order: F64) -> float:
            """Worth bought with every campaign at the spend it has by the counts, over theirs, less 1."""
            said, total = self._value(campaign, click, order), 0.0
            if not np.isfinite(said).all():
                return float("nan")
            for one in np.flatnonzero(counts_spend > 0.0).tolist():
                of = campaign == one
                factor = _multiplier(said[of], threshold[of], float(counts_spend[one]))
                total += float(worth[of][said[of] >= threshold[of] / factor].sum())
            return total / float(worth[bought["counts"]].sum()) - 1.0

        shown_often = np.maximum(np.bincount(shown), 1)
        level_counts = (np.bincount(shown, click_c) / shown_often)[shown]
        level_known = (np.bincount(shown, known_click) / shown_often)[shown]
        return Judged(
            clicks=self.clicks,
            orders=self.orders,
            counts_click=1e4 * _divergence(click, click_c),
            model_click=1e4 * _divergence(click, click_m),
            counts_order=1e2 * _divergence(order, order_c),
            model_order=1e2 * _divergence(order, order_m),
            counts_loss=_loss(drawn, click_c) / _loss(drawn, base),
            model_loss=_loss(drawn, click_m) / _loss(drawn, base),
            counts_clicks=float(won[0].sum() / won[2].sum()),
            model_clicks=float(won[0].sum() / won[3].sum()),
            counts_orders=float((won[0] * won[1]).sum() / (won[0] * won[4]).sum()),
            model_orders=float((won[0] * won[1]).sum() / (won[0] * won[5]).sum()),
            worth=float(worth[bought["model"]].sum() / worth[bought["counts"]].sum() - 1.0),
            orders_bought=float(orders[bought["model"]].sum() / orders[bought["counts"]].sum() - 1.0),
            worth_known=float(worth[bought["true"]].sum() / worth[bought["counts"]].sum() - 1.0),
            worth_each=each(click_m, order_m),
            features_each=each(level_counts * known_click / level_known, order_c),
            observable_each=each(known_click, known_order),
            person_each=each(person_click, person_order),
        )


def _divergence(true: F64, said: F64) -> float:
    p = np.clip(said, 1e-9, 1.0 - 1e-9)
    return float(np.mean(true * np.log(true / p) + (1.0 - true) * np.log((1.0 - true) / (1.0 - p))))


def _loss(drawn: F64, said: F64) -> float:
    p = np.clip(said, 1e-9, 1.0 - 1e-9)
    return float(-np.mean(drawn * np.log(p) + (1.0 - drawn) * np.log1p(-p)))


def _multiplier(value: F64, threshold: F64, spend: float) -> float:
    """The factor on all values at which paying each threshold that is won costs ``spend``."""
    order = np.argsort(threshold / np.maximum(value, 1e-9), kind="stable")
    cost = np.cumsum(threshold[order])
    last = min(int(np.searchsorted(cost, spend, side="right")), len(order) - 1)
    return float((threshold / np.maximum(value, 1e-9))[order[max(last - 1, 0)]])
