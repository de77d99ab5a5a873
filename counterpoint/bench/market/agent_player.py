"""``bidding``: the Bidding agent's curves, shading, pacing and target cost as a player, on somebody else's values and creatives.

What is judged is the price: values, creatives and split are those of a ladder's player (``manual`` unless said). Steps are the
driver's batches. Nothing but the budget stops it inside a step.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from counterpoint.base.clock import NS_PER_S
from counterpoint.base.jit import njit
from counterpoint.base.money import PRICE_MICROS_MAX
from counterpoint.bench.market.baselines.classic import Classic
from counterpoint.bench.market.facts import Facts, Floats, Ints
from counterpoint.bench.market.policy import CLICK, Answers, Books, Feedback, Requests
from counterpoint.bidding.pacing import HOUR_NS, Pace, lowest_multiplier
from counterpoint.bidding.policy import curve_table
from counterpoint.bidding.price import area_at, best_price, rate_at
from counterpoint.bidding.segments import at_place, lineage
from counterpoint.bidding.state import BiddingConfig, Money, State
from counterpoint.bidding.steering import (
    awaits,
    click_told,
    day_name,
    local_day,
    order_told,
    pace_campaigns,
)
from counterpoint.bidding.win_curve import WinCurves, is_place
from counterpoint.catalog.model import Campaign, Goal
from counterpoint.market.auctions import Auctions, Rows
from counterpoint.market.design import MEDIA

REFRESH_ROWS: Final = 500
PPM: Final = 1_000_000


def owned_campaigns(facts: Facts, reach_weight_ppm: int) -> dict[str, Campaign]:
    """The scenario's campaigns as the agent's catalog has them; the rest of 1,000,000 is the weight of cost."""
    out = {}
    for c, (name, goal) in enumerate(zip(facts.campaign_ids, facts.goals, strict=True)):
        w = facts.worth[c]
        value = {
            Goal.REACH: w[0],
            Goal.CLICKS: w[1] / 1e3,
            Goal.CONVERSIONS: w[2] / 1e3,
            Goal.VALUE: 1e15 / max(w[3], 1.0),
        }[goal]
        out[name] = Campaign(
            id=name,
            advertiser_id="a",
            name="",
            daily_budget_micros=int(facts.day_budget_nanos[c]) // 1_000,
            goal=goal,
            goal_value_micros=round(value),
            expected_order_value_micros=round(facts.order_value[c] * 1e6),
            reach_weight_ppm=reach_weight_ppm,
            cost_weight_ppm=PPM - reach_weight_ppm,
            bid_ceiling_micros=int(facts.ceiling_micros[c]),
        )
    return out


class Bidding:
    """A :class:`Policy`. ``knows``: whose values, creatives and split. ``reach_weight_ppm``: 0, it never bids above
    value; from half on it spends its budget as long as the target cost is met. ``money``: [day, campaign] nanos it may spend, at most the pool's a day; None: as ``knows`` splits it."""

    def __init__(
        self, name: str, knows: Classic, reach_weight_ppm: int = PPM // 2, money: Ints | None = None
    ) -> None:
        self.name = name
        self._knows, self._weight, self._money = knows, reach_weight_ppm, money

    def begin(self, facts: Facts, seed: int) -> None:
        self.facts = facts
        self._knows.begin(facts, seed)
        self._rng = np.random.default_rng([seed, 3])
        self._campaigns = owned_campaigns(facts, self._weight)
        self._state = State()
        for name in self._campaigns:
            self._state.money[name] = Money()
            self._state.paces[name] = Pace()
        self._config = BiddingConfig()
        self._curves = WinCurves(self._config.curve_half_life_s)
        self._segments = [
            f"{facts.supply_venue[s]}/{MEDIA[facts.supply_media[s]]}" for s in range(facts.supply_venue.size)
        ]
        self._tables = np.stack([curve_table(None)] * len(self._segments))
        self._table_of: dict[
            tuple[int, int], int
        ] = {}  # (supply path, place) of those with a curve of their own
        self._rows = self._decayed_at_ns = 0
        self._value: Floats = np.zeros((0, 0))

    def split(self, day: int) -> Floats | None:
        shares = self._knows.split(day)
        return shares if self._money is None else np.asarray(self._money[day] + 1.0)

    @property
    def lambdas(self) -> Floats:
        lowest = lowest_multiplier(self._weight, PPM - self._weight)
        return np.array([self._state.paces[name].multiplier(lowest) for name in self._campaigns])

    def decide(self, requests: Requests, books: Books) -> Answers:
        auctions, state = requests.auctions, self._state
        now_ns = int(auctions.t_ns[0])
        spent = books.budget_nanos - books.left_nanos
        budget = books.budget_nanos
        if self._money is not None:
            budget = np.minimum(budget, self._money[books.day].astype(np.int64))
        left = np.maximum(budget - spent, 0)
        for c, (name, campaign) in enumerate(self._campaigns.items()):
            money = state.money[name]
            money.day = day_name(local_day(campaign, now_ns))
            money.budget = int(budget[c])
            money.spent_governed = money.spent_all = int(spent[c])
        pace_campaigns(state, self._campaigns, now_ns)
        self._value = self._knows.values(requests)
        paced = np.minimum(self._value / self.lambdas, float(PRICE_MICROS_MAX))
        n = len(auctions)
        tried = self._rng.random(n) < self._config.exploration_rate
        stretch = 1.0 + tried * self._config.exploration_span * self._rng.uniform(-1.0, 1.0, n)
        bids, scores = np.zeros(paced.shape), np.zeros(paced.shape)
        price_all(
            self._tables,
            self._table_rows(auctions),
            auctions.auction_type == 2,
            np.maximum(auctions.floor_micros, 1).astype(np.float64),
            np.minimum(paced, self.facts.ceiling_micros),
            paced,
            stretch,
            bids,
            scores,
        )
        return self._knows.answer(requests, books, bids, scores, left)

    def learn(self, feedback: Feedback) -> None:
        self._knows.learn(feedback)
        self._hear_traffic(feedback)
        self._hear_outcomes(feedback)
        self._hear_events(feedback)

    def _hear_traffic(self, feedback: Feedback) -> None:
        t_ns = feedback.requests.auctions.t_ns
        hours, counts = np.unique(t_ns // HOUR_NS, return_counts=True)
        for hour, count in zip(hours.tolist(), counts.tolist(), strict=True):
            self._state.forecast.count(float(count), hour * HOUR_NS)
        self._state.supply = True
        now_ns = int(t_ns[-1])
        if self._decayed_at_ns:
            self._curves.decay((now_ns - self._decayed_at_ns) / NS_PER_S)
        self._decayed_at_ns = now_ns

    def _hear_outcomes(self, feedback: Feedback) -> None:
        state, auctions = self._state, feedback.requests.auctions
        names = list(self._campaigns)
        stood = np.flatnonzero(feedback.creative >= 0)
        campaign = self.facts.creative_campaign[feedback.creative[stood]]
        values = self._value[stood, campaign]
        columns = (
            campaign,
            values,
            auctions.supply[stood],
            auctions.place[stood],
            auctions.floor_micros[stood],
            feedback.bid_micros[stood],
            feedback.won[stood],
            feedback.paid_micros[stood],
            feedback.minimum_micros[stood],
        )
        now_ns = int(auctions.t_ns[-1])
        for name in names:
            state.paces[name].cost.pass_to(now_ns)
        for c, value, supply, place, floor, bid, won, paid, minimum in zip(
            *(column.tolist() for column in columns), strict=True
        ):
            told = None if minimum < 0 else max(minimum, 1)
            segment = self._segments[supply]
            self._curves.add(at_place(segment, place), bid, won, told, floor_nanos=floor)
            pace = state.paces[names[c]]
            pace.bids += 1
            if won:
                pace.wins += 1
                pace.spent += paid
                pace.cost.won(paid, value)
                awaits(state, self._campaigns[names[c]], int(value))
        self._rows += len(stood)
        if self._rows >= REFRESH_ROWS:
            self._rows = 0
            if self._curves.refresh():
                self._compile()

    def _hear_events(self, feedback: Feedback) -> None:
        events, names = feedback.events, list(self._campaigns)
        now_ns = int(feedback.requests.auctions.t_ns[-1])
        for kind, creative, shown_at_ns, worth in zip(
            events.kind.tolist(),
            events.creative.tolist(),
            events.shown_at_ns.tolist(),
            events.order_value_micros.tolist(),
            strict=True,
        ):
            campaign = self._campaigns[names[int(self.facts.creative_campaign[creative])]]
            if kind == CLICK:
                click_told(self._state, campaign)
            else:
                order_told(self._state, campaign, worth, now_ns - shown_at_ns)

    def _table_rows(self, auctions: Auctions) -> Rows:
        """By auction: its place's table, else its supply path's."""
        pairs = zip(auctions.supply.tolist(), auctions.place.tolist(), strict=True)
        return np.array([self._table_of.get(pair, pair[0]) for pair in pairs], dtype=np.int64)

    def _compile(self) -> None:
        curves = self._curves.published()
        placed = [name for name in curves if is_place(name)]
        self._tables = np.concatenate(
            [self._tables[: len(self._segments)], np.zeros((len(placed), *self._tables.shape[1:]))]
        )
        self._table_of = {}
        for at, name in enumerate(placed, len(self._segments)):
            segment, _, place = name.rpartition("/@")
            self._tables[at] = curve_table(curves[name])
            self._table_of |= {
                (s, int(place, 16)): at for s, own in enumerate(self._segments) if own == segment
            }
        for s, segment in enumerate(self._segments):
            source = next((name for name in lineage(segment) if name in curves), None)
            self._tables[s] = curve_table(None if source is None else curves[source])


@njit
def price_all(
    tables: Floats,
    supply: Rows,
    second: Any,
    floor: Floats,
    most: Floats,
    paced: Floats,
    stretch: Floats,
    bids: Floats,
    scores: Floats,
) -> None:
    """[auction, campaign]: fills bids (0: none) between the floor and ``most``, and their expected surplus, as the live kernel."""
    for i in range(paced.shape[0]):
        table, low = tables[supply[i]], floor[i]
        for c in range(paced.shape[1]):
            if most[i, c] < low:
                continue
            v = paced[i, c]
            wished = v if second[i] else best_price(table, v, low) * stretch[i]
            b = np.floor(min(max(wished, low), most[i, c]))
            bids[i, c] = b
            scores[i, c] = (v - b) * rate_at(table, b)
            if second[i]:
                scores[i, c] += area_at(table, b) - area_at(table, low)
