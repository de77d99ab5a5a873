"""The simulated market: ``World(scenario, seed)`` hands out auctions, and knows the truth about them.

Every number is a pure function of scenario, seed and auction (and, where said, of what the caller's own actions left
behind), so batches may be cut anywhere and two arms that act differently meet the same world. Formulas: docs/market.md.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from counterpoint.base.money import PRICE_MICROS_MAX
from counterpoint.catalog.model import Media
from counterpoint.market.auctions import Auctions, Floats, Outcomes, Responses, Rows, Truth
from counterpoint.market.chance import Stream, normals, uniforms
from counterpoint.market.design import MEDIA, NO_SIZE, Design
from counterpoint.market.kernels import NO_TURN, respond
from counterpoint.market.people import COMPUTER, PHONE, Ads, People
from counterpoint.market.quantiles import SMALLEST, Quantiles
from counterpoint.market.scenario import Scenario
from counterpoint.market.state import Pressure
from counterpoint.market.timeline import Timeline
from counterpoint.market.worth import goal_weights

MICROS: Final = 1_000_000
PLACE_QUALITY: Final = 0.6  # correlation of a page's quality with its place's
QUALITY_IN_PRICE: Final = 0.8  # what can be known of a price: 0.8 page quality + 0.6 the person's value
VALUE_IN_PRICE: Final = 0.6


class World:
    """Auctions ``0 .. scenario.auctions - 1`` of one seed. Reads only; safe to share between arms."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self.scenario = scenario
        self.seed = seed
        self.design = Design(scenario)
        self.people = People(scenario, seed)
        self.ads = Ads(scenario, self.design, seed)
        self.timeline = Timeline(scenario, seed)
        self.prices = tuple(Quantiles(p.prices.components, p.prices.masses) for p in scenario.supply)
        self._supply_tables()
        self._demand_tables()

    # ---- auctions

    def batch(self, start: int, n: int, pressure: Pressure | None = None) -> Auctions:
        """Auctions ``start .. start + n - 1``, times ascending. ``pressure``: what sellers saw of us (floors only)."""
        assert min(start, n) >= 0, "auctions are numbered from 0"
        assert start + n <= self.scenario.auctions, (
            f"auctions {start}..{start + n} of {self.scenario.auctions}: use scenario.resized for more"
        )
        index = np.arange(start, start + n, dtype=np.int64)
        arrival = uniforms(self.seed, Stream.ARRIVAL, index)
        place_draws = uniforms(self.seed, Stream.PLACEMENT, index)
        t_ns = self.timeline.times_ns(index, arrival[0])
        u = self.scenario.users
        user = np.minimum((u.count * arrival[1] ** u.reach_skew).astype(np.int64), u.count - 1)
        phone = self.people.phone[user]
        supply = np.searchsorted(self._supply_cumulated, arrival[2], side="right").astype(np.int16)
        place = np.empty(n, dtype=np.int16)
        size = np.full(n, NO_SIZE, dtype=np.int16)
        floor = np.zeros(n)
        for s in range(len(self.scenario.supply)):
            for on_phone in (False, True):
                rows = np.flatnonzero((supply == s) & (phone == on_phone))
                places, cumulated = self._places[s][on_phone]
                place[rows] = places[np.searchsorted(cumulated, place_draws[0, rows], side="right")]
                if self._media[s] == 0:
                    sizes = self._sizes[on_phone]
                    size[rows] = np.searchsorted(sizes, place_draws[1, rows], side="right")
            rows = np.flatnonzero(supply == s)
            levels, cumulated = self._floors[s]
            floor[rows] = levels[np.searchsorted(cumulated, place_draws[2, rows], side="right")]
        floor_micros = np.ceil(np.round(floor * MICROS, 3)).astype(np.int64)
        if pressure is not None and self.scenario.adversary.floor_follows > 0.0:
            floor_micros = np.maximum(floor_micros, self._pressed_floors(index, supply, pressure))
        return Auctions(
            index=index,
            t_ns=t_ns,
            hour_of_week=(self.timeline.hour_of(t_ns) % 168).astype(np.int16),
            user=user,
            known_user=self.people.consent[user],
            country=self.people.country[user],
            device_type=np.where(phone, PHONE, COMPUTER).astype(np.int8),
            os=self.people.os[user],
            venue=self._venue[supply],
            supply=supply,
            media=self._media[supply],
            place=place,
            size=size,
            auction_type=self._auction_type[supply],
            floor_micros=floor_micros,
        )

    def day_auctions(self) -> list[tuple[int, int]]:
        """(first, end) auction number of each UTC day; an empty day: first = end."""
        return self.timeline.day_auctions(lambda index: uniforms(self.seed, Stream.ARRIVAL, index)[0])

    def truth(self, auctions: Auctions, pressure: Pressure | None = None) -> Truth:
        """What rivals bid. ``pressure``: what they saw of us, where they answer us."""
        draws = normals(self.seed, Stream.PRICE, auctions.index)
        quality = self._quality(auctions, draws[1])
        known = QUALITY_IN_PRICE * quality + VALUE_IN_PRICE * self.people.value[auctions.user]
        hour = self.timeline.hour_of(auctions.t_ns)
        peak = self.scenario.traffic.peak_price
        known = np.sqrt(1.0 - peak * peak) * known + peak * self.timeline.busy[hour]
        factor = np.exp(self.timeline.log_price[auctions.supply, hour])
        if pressure is not None and self.scenario.adversary.rival_gain > 0.0:
            factor = factor * self._pressed_prices(auctions.index, auctions.supply, pressure)
        rival = np.empty(len(auctions))
        for s, table in enumerate(self.prices):
            rows = np.flatnonzero(auctions.supply == s)
            rho = self._rho[s]
            z = rho * known[rows] + np.sqrt(1.0 - rho * rho) * draws[0, rows]
            rival[rows] = table.values(z) * self._unit[s]
        rival_micros = np.round(np.minimum(rival * factor * MICROS, PRICE_MICROS_MAX)).astype(np.int64)
        return Truth(
            rival_micros=rival_micros,
            threshold_micros=np.maximum(rival_micros, auctions.floor_micros),
            quality=quality,
            price_known=known,
            price_factor=factor,
        )

    def win_probability(self, auctions: Auctions, truth: Truth, bids_micros: NDArray[np.float64]) -> Floats:
        """P(we win at this bid | everything but the rivals' own draw): exact, for oracles that know the parameters."""
        out = np.zeros(len(auctions))
        for s, table in enumerate(self.prices):
            rows = np.flatnonzero(auctions.supply == s)
            units = np.asarray(bids_micros, dtype=np.float64)[rows] / MICROS / self._unit[s]
            # half a micro: the world rounds a rival's bid to whole micros
            units = units / truth.price_factor[rows] + 0.5 / MICROS / self._unit[s] / truth.price_factor[rows]
            out[rows] = table.cdf(units, truth.price_known[rows], self._rho[s])
        return np.where(bids_micros >= np.maximum(auctions.floor_micros, 1), out, 0.0)

    # ---- what a shown creative would do

    def responses(
        self,
        auctions: Auctions,
        rows: Rows,
        creatives: Rows,
        exposures: Floats | None = None,
        stock: Floats | None = None,
    ) -> Responses:
        """True probabilities of showing ``creatives[k]`` in auction ``rows[k]`` (positions in ``auctions``).

        ``exposures[k]``: decayed impressions of the campaign on the person before (``state.Exposures.of``; None: none).
        ``stock``: advertising stock [campaign, supply] (``state.Stock.at``; None: none).
        """
        out, campaign = self._respond(auctions, rows, creatives, exposures, stock, detail=True)
        return Responses(
            click=out[0],
            conversion=out[1],
            view=out[2],
            skip=out[3],
            relevance=out[4],
            satisfaction=out[5],
            order_value=self._order_value[campaign],
            value_micros=self._worth(out, campaign),
        )

    def values(
        self,
        auctions: Auctions,
        rows: Rows,
        creatives: Rows,
        exposures: Floats | None = None,
        stock: Floats | None = None,
    ) -> Floats:
        """``responses(...).value_micros`` alone, in about half the time: for those who know the truth and choose by it."""
        out, campaign = self._respond(auctions, rows, creatives, exposures, stock, detail=False)
        return self._worth(out, campaign)

    def click_probability(
        self, auctions: Auctions, rows: Rows, creatives: Rows, exposures: Floats | None = None
    ) -> Floats:
        """P(click | shown) alone; as :meth:`responses`."""
        out, _ = self._respond(auctions, rows, creatives, exposures, None, detail=False)
        return np.asarray(out[0], dtype=np.float64)

    def lift(self, stock: Floats) -> Floats:
        """Factor on conversion rates of an advertising stock: carry-over, then saturation. 1 at a stock of 0."""
        c = self.scenario.carry_over
        powered = np.maximum(stock, 0.0) ** c.shape
        lift = 1.0 + c.gain * powered / (powered + c.half_at**c.shape)
        return np.asarray(lift if c.saturates_at is None else lift / (1.0 + stock / c.saturates_at))

    def fitting(self, auctions: Auctions, row: int) -> Rows:
        """Creatives (positions) that fit the auction's format, size and country and are in their life. Caps: not asked."""
        key = (int(auctions.media[row]), int(auctions.size[row]), int(auctions.country[row]))
        found = self._fitting.get(key)
        if found is None:
            found = self._fitting[key] = self.design.fitting(*key)
        if self.scenario.churn.generations == 1:
            return found
        return found[self.design.live(found, np.full(found.shape, auctions.t_ns[row]))]

    # ---- what happens when it is shown

    def outcomes(self, auctions: Auctions, rows: Rows, creatives: Rows, responses: Responses) -> Outcomes:
        """What came of showing ``creatives[k]`` in auction ``rows[k]``, given its ``responses[k]``.

        The draws belong to the auction, not to the creative: two arms that show different ads in one auction share them.
        """
        shown = auctions.take(rows)
        chance = uniforms(self.seed, Stream.OUTCOME, shown.index)
        delay = normals(self.seed, Stream.DELAY, shown.index)
        order = normals(self.seed, Stream.ORDER, shown.index)[0]
        told = uniforms(self.seed, Stream.TRACKING, shown.index)
        clicked = chance[0] < responses.click
        converted = clicked & (chance[1] < responses.conversion)
        skipped = chance[2] < responses.skip
        click_delay = (np.exp(1.0 + 0.8 * delay[1]) * 1e9).astype(np.int64)  # a few seconds of looking
        conversion_delay = click_delay + (self.delays.values(delay[0]) * 1e9).astype(np.int64)
        sigma = self._order_sigma[self.design.campaign[creatives]]
        value = responses.order_value * np.exp(sigma * order - 0.5 * sigma * sigma)
        lost = {
            kind: self._lost(kind, shown, at_ns, told[lane])
            for lane, (kind, at_ns) in enumerate(
                (
                    ("impression", shown.t_ns),
                    ("click", shown.t_ns + click_delay),
                    ("conversion", shown.t_ns + conversion_delay),
                )
            )
        }
        return Outcomes(
            viewed=(chance[3] < responses.view) | clicked,
            clicked=clicked,
            converted=converted,
            skipped=skipped,
            # who skips leaves after a quarter to a half of it
            listened=np.where(skipped, 0.25 + 0.25 * chance[2] / np.maximum(responses.skip, 1e-12), 1.0),
            click_delay_ns=np.where(clicked, click_delay, 0),
            conversion_delay_ns=np.where(converted, conversion_delay, 0),
            order_value_micros=np.where(converted, np.round(value * MICROS), 0.0).astype(np.int64),
            impression_told=~lost["impression"],
            click_told=clicked & ~lost["click"] & ~lost["impression"],
            # an order is reported by the advertiser: it needs the click's id, so a click never told takes it along
            conversion_told=converted & ~lost["conversion"] & ~lost["click"] & ~lost["impression"],
        )

    def _lost(self, kind: str, shown: Auctions, at_ns: Rows, draw: Floats) -> NDArray[np.bool_]:
        day = self.timeline.day_of(at_ns)
        out = np.zeros(len(shown), dtype=np.bool_)
        for outage in self.scenario.outage:
            if kind not in outage.kinds:
                continue
            here = np.isin(self._venue_ids[shown.venue], outage.venues) if outage.venues else True
            out |= (outage.from_day <= day) & (day < outage.to_day) & (draw < outage.lost) & here
        return out

    # ---- parts

    def _worth(self, out: Floats, campaign: Rows) -> Floats:
        goal = self.goal_weights[campaign]  # per impression, click, conversion, unit of order value
        order = self._order_value[campaign]
        worth = goal[:, 0] + out[0] * (goal[:, 1] + out[1] * (goal[:, 2] + goal[:, 3] * order))
        return np.asarray(worth, dtype=np.float64)

    def _respond(
        self,
        auctions: Auctions,
        rows: Rows,
        creatives: Rows,
        exposures: Floats | None,
        stock: Floats | None,
        detail: bool,
    ) -> tuple[Floats, Rows]:
        """(rows of ``kernels.respond``, the creatives' campaigns)."""
        t_ns, user = auctions.t_ns[rows], auctions.user[rows]
        supply, media = auctions.supply[rows].astype(np.int64), auctions.media[rows].astype(np.int64)
        campaign = self.design.campaign[creatives].astype(np.int64)
        day = self.timeline.day_of(t_ns)
        if rows.shape[0] < len(auctions):
            quality = self.quality(auctions.take(rows))
        else:  # many creatives an auction
            quality = self.quality(auctions)[rows]
        seen = np.zeros(rows.shape[0]) if exposures is None else np.asarray(exposures, dtype=np.float64)
        match = self._category_match[auctions.place[rows].astype(np.int64), campaign]
        click = self.scenario.click
        lift = np.ones(rows.shape[0]) if stock is None else self.lift(stock)[campaign, supply]
        lift = lift * self.timeline.conversion[self.timeline.hour_of(t_ns)]
        turn = np.deg2rad(self.scenario.drift.taste_turn_deg) * day if self._turns else NO_TURN
        offset = (
            self._click_base[media]
            + self._size_weight[auctions.size[rows].astype(np.int64)]
            + click.quality_weight * quality
            + click.category_match * match
            + self.people.click_bias[user]
            - self.people.aversion[user, media]
            + self.ads.appeal_at(creatives, day)
        )
        out = np.empty((6 if detail else 2, rows.shape[0]))
        respond(
            self.people.taste,
            self.ads.content,
            user,
            creatives,
            turn,
            offset,
            seen,
            np.array([click.taste_weight, click.fatigue_weight, click.wear_in, float(click.link == "steep")]),
            self._conversion_logit[campaign] + self.people.conversion_bias[user],
            lift,
            self.scenario.conversion.taste_weight,
            self.people.aversion[user, media] / max(self.scenario.users.aversion, 1e-9),
            quality,
            (media == MEDIA.index(Media.VIDEO)) | (media == MEDIA.index(Media.AUDIO)),
            self._attention,
            out,
        )
        return out, campaign

    def quality(self, auctions: Auctions) -> Floats:
        """Of each page, hidden: standard normal within its supply path."""
        return self._quality(auctions, normals(self.seed, Stream.PRICE, auctions.index)[1])

    def _quality(self, auctions: Auctions, noise: Floats) -> Floats:
        of_place = self._place_quality[auctions.supply, auctions.place]
        weight = self._place_weight[auctions.supply]
        return np.asarray(weight * of_place + np.sqrt(1.0 - weight * weight) * noise, dtype=np.float64)

    def _pressed_prices(self, index: Rows, supply: NDArray[np.int16], pressure: Pressure) -> Floats:
        a = self.scenario.adversary
        adaptive = self._adaptive
        out = np.ones(index.shape[0])
        windows = index // pressure.window
        for window in np.unique(windows).tolist():
            rate, _ = pressure.known(window)
            excess = np.maximum(rate - a.reference, 0.0)
            here = windows == window
            out[here] = np.exp(a.rival_gain * adaptive * excess)[supply[here]]
        return out

    def _pressed_floors(self, index: Rows, supply: NDArray[np.int16], pressure: Pressure) -> Rows:
        adaptive = self._adaptive
        out = np.zeros(index.shape[0], dtype=np.int64)
        windows = index // pressure.window
        for window in np.unique(windows).tolist():
            _, bid = pressure.known(window)
            here = windows == window
            raised = self.scenario.adversary.floor_follows * adaptive * bid
            out[here] = np.ceil(raised).astype(np.int64)[supply[here]]
        return out

    def _supply_tables(self) -> None:
        s = self.scenario
        venues = [v.id for v in s.venue]
        shares = np.cumsum([p.share for p in s.supply])
        self._supply_cumulated = shares / shares[-1]
        self._venue_ids = np.array(venues)
        self._venue = np.array([venues.index(p.venue) for p in s.supply], dtype=np.int16)
        self._media = np.array([MEDIA.index(p.media) for p in s.supply], dtype=np.int8)
        self._auction_type = np.array([s.venue[v].auction_type for v in self._venue], dtype=np.int8)
        adapts = s.adversary.venues
        self._adaptive = np.array([float(not adapts or p.venue in adapts) for p in s.supply])
        self._unit = np.array([p.prices.unit_cpm for p in s.supply])
        self._rho = np.array([p.prices.explained for p in s.supply])
        self._floors: list[tuple[Floats, Floats]] = []
        self._places: list[dict[bool, tuple[NDArray[np.int16], Floats]]] = []
        self._place_quality = np.zeros((len(s.supply), len(s.place)))
        self._place_weight = np.zeros(len(s.supply))
        for n, path in enumerate(s.supply):
            floors = [f for f in path.prices.floors if f.weight > 0]
            levels = np.array([f.at for f in floors] or [0.0]) * path.prices.unit_cpm
            self._floors.append(
                (np.where(levels > SMALLEST, levels, 0.0), _cumulated([f.weight for f in floors] or [1.0]))
            )
            every = [k for k, place in enumerate(s.place) if path.media in place.media]
            sites = [k for k in every if not s.place[k].app] or every
            self._places.append(
                {
                    phone: (np.array(of, dtype=np.int16), _cumulated([s.place[k].share for k in of]))
                    for phone, of in ((False, sites), (True, every))
                }
            )
            self._standardise(n, ((1.0 - s.users.phone_share, sites), (s.users.phone_share, every)))
        self._sizes = {
            False: _cumulated([z.share for z in s.size]),
            True: _cumulated([z.share if z.phone_share is None else z.phone_share for z in s.size]),
        }
        self._size_weight = np.array([*(z.click_weight for z in s.size), 0.0])  # the last: no size

    def _standardise(self, supply: int, places: tuple[tuple[float, list[int]], ...]) -> None:
        """Page quality of the places of one supply path to mean 0 and variance 1 over its auctions."""
        quality = np.array([p.quality for p in self.scenario.place])
        weights = np.zeros(quality.shape)
        for share, of in places:
            shares = np.array([self.scenario.place[k].share for k in of])
            weights[of] += share * shares / shares.sum()
        mean = float(np.average(quality, weights=weights))
        sd = float(np.sqrt(np.average((quality - mean) ** 2, weights=weights)))
        if sd > 0.0:
            self._place_quality[supply] = (quality - mean) / sd
            self._place_weight[supply] = PLACE_QUALITY

    def _demand_tables(self) -> None:
        s = self.scenario
        advertisers = {a.id: a.category for a in s.advertiser}
        self._click_base = np.array([s.click.base.get(m, 0.0) for m in MEDIA])
        rates = np.array([c.conversion_rate for c in s.campaign])
        self._conversion_logit = np.log(rates / (1.0 - rates))
        self._order_value = np.array([c.order_value for c in s.campaign])
        self._order_sigma = np.array([c.order_sigma for c in s.campaign])
        self._category_match = np.array(
            [
                [float(_root(p.category) == _root(advertisers[c.advertiser])) for c in s.campaign]
                for p in s.place
            ]
        )
        self.goal_weights = goal_weights(s)
        a = s.attention
        self._attention = np.array(
            [
                a.skip,
                a.skip_aversion,
                a.skip_affinity,
                a.view,
                a.view_quality,
                a.satisfaction,
                a.satisfaction_affinity,
                a.satisfaction_aversion,
                a.satisfaction_fatigue,
            ]
        )
        self.delays = Quantiles(s.conversion.delay.components, upper=s.conversion.delay.window_s)
        self._turns = s.drift.taste_turn_deg != 0.0
        self._fitting: dict[tuple[int, int, int], Rows] = {}


def _root(category: str) -> str:
    return category.split("-", 1)[0]


def _cumulated(weights: list[float]) -> Floats:
    total = np.cumsum(np.array(weights, dtype=np.float64))
    total /= total[-1]
    total[-1] = 1.0
    return total
