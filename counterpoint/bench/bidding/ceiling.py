"""What can be known of a chance from a request: the world's truth averaged over everything that no request shows.

Hidden are the page's own noise and the person: bias, aversions, taste, their bent to order. ``Ceiling`` holds the mean
truth given what is seen (place, size, country, exposures of who is known) and every parameter of the world, the appeal of
each creative included. No learner can do better on average over people and pages without knowing who is asked.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from counterpoint.market.auctions import Auctions
from counterpoint.market.kernels import wear
from counterpoint.market.world import World

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
NODES: Final = 11  # of Gauss-Hermite, for each of two hidden normals: what moves a click, what an order
ROWS: Final = 2_000  # at once


class Ceiling(Struct, frozen=True):
    """By row: (chance of a click, of an order given a click)."""

    click: F64  # nobody is known
    order: F64
    person_click: F64  # of those with an id, everything
    person_order: F64


class Observed:
    def __init__(self, world: World) -> None:
        nodes, masses = np.polynomial.hermite_e.hermegauss(NODES)
        self._z, self._mass = nodes, masses / masses.sum()
        self._world = world

    def of(self, auctions: Auctions, rows: I64, creatives: I64, exposures: F64) -> Ceiling:
        """Arguments as of ``World.responses``. Taste drift and steep links are not modelled: refused."""
        w, s = self._world, self._world.scenario
        turns = s.drift.taste_turn_deg != 0.0 or s.click.link == "steep"
        assert not turns, "tastes that turn have no ceiling here"
        users, click = s.users, s.click
        supply, place = auctions.supply[rows].astype(np.int64), auctions.place[rows].astype(np.int64)
        media, user = auctions.media[rows].astype(np.int64), auctions.user[rows]
        campaign = w.design.campaign[creatives].astype(np.int64)
        weight = w._place_weight[supply]
        known = auctions.known_user[rows]
        seen = np.where(known, exposures, 0.0)
        worn = np.array([wear(float(n), click.fatigue_weight, click.wear_in) for n in seen])
        base = (
            w._click_base[media]
            + w._size_weight[auctions.size[rows].astype(np.int64)]
            + click.quality_weight * weight * w._place_quality[supply, place]
            + click.category_match * w._category_match[place, campaign]
            + w.ads.appeal_at(creatives, w.timeline.day_of(auctions.t_ns[rows]))
            + worn
        )
        lift = w.timeline.conversion[w.timeline.hour_of(auctions.t_ns[rows])]
        order_base = w._conversion_logit[campaign]
        affinity = np.einsum("ij,ij->i", w.people.taste[user], w.ads.content[creatives])
        own = w.people.click_bias[user] - w.people.aversion[user, media] + click.taste_weight * affinity
        bent = w.people.conversion_bias[user] + s.conversion.taste_weight * affinity
        page = click.quality_weight * np.sqrt(1.0 - weight**2)
        spread = np.sqrt(page**2 + users.click_bias_sd**2 + click.taste_weight**2)  # of the logit of a click
        along = (
            click.taste_weight * s.conversion.taste_weight / np.maximum(spread, 1e-12)
        )  # what orders share
        apart = np.sqrt(users.conversion_bias_sd**2 + s.conversion.taste_weight**2 - along**2)
        first, second = (z.ravel() for z in np.meshgrid(self._z, self._z))
        both = np.outer(self._mass, self._mass).ravel()
        clicks, orders, own_clicks = np.zeros((3, len(rows)))
        for start in range(0, len(rows), ROWS):
            k = slice(start, start + ROWS)
            bents = along[k, None] * first + apart[k, None] * second
            q = np.minimum(_sigmoid(order_base[k, None] + bents) * lift[k, None], 0.95)
            for share, aversion in (
                (1.0 - users.aversion_share, 0.0),
                (users.aversion_share, users.aversion),
            ):
                p = _sigmoid(base[k, None] - aversion + spread[k, None] * first)
                clicks[k] += share * (p @ both)
                orders[k] += share * ((p * q) @ both)
            own_clicks[k] = _sigmoid((base + own)[k, None] + page[k, None] * self._z) @ self._mass
        orders /= clicks
        own_orders = np.minimum(_sigmoid(order_base + bent) * lift, 0.95)
        return Ceiling(
            clicks, orders, np.where(known, own_clicks, clicks), np.where(known, own_orders, orders)
        )


def _sigmoid(x: F64) -> F64:
    return np.asarray(1.0 / (1.0 + np.exp(-x)))
