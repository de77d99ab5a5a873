"""Structs of arrays that the world hands out: what a bidder may see, what is true, and what came of it."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Rows = NDArray[np.int64]
Floats = NDArray[np.float64]
S = TypeVar("S", bound="Columns")


class Columns(Struct, frozen=True, kw_only=True):
    """Parallel arrays; one row is one auction (or one shown ad)."""

    def __len__(self) -> int:
        first: NDArray[Any] = getattr(self, self.__struct_fields__[0])
        return int(first.shape[0])

    def take(self: S, rows: NDArray[Any]) -> S:
        """Some rows: positions, or a mask."""
        return type(self)(**{name: getattr(self, name)[rows] for name in self.__struct_fields__})

    def copied(self: S) -> S:
        """Arrays of its own: for whom ours must not reach."""
        return type(self)(**{name: getattr(self, name).copy() for name in self.__struct_fields__})


class Auctions(Columns, frozen=True, kw_only=True):
    """All that a bid request tells, one auction with one impression a row. Small ints are positions; see ``World``."""

    index: Rows  # number of the auction, 0 up to scenario.auctions
    t_ns: Rows
    hour_of_week: NDArray[np.int16]  # UTC, Monday 00:00 = 0
    user: Rows  # also where not known: only the world and the judge may use it then
    known_user: NDArray[np.bool_]  # the request carries an id for the user
    country: NDArray[np.int16]  # of scenario.users.countries
    device_type: NDArray[np.int8]  # AdCOM: 2 computer, 4 phone
    os: NDArray[np.int8]  # of people.SYSTEMS
    venue: NDArray[np.int16]  # of scenario.venue
    supply: NDArray[np.int16]  # of scenario.supply: venue x medium
    media: NDArray[np.int8]  # of design.MEDIA
    place: NDArray[np.int16]  # of scenario.place: domain or bundle, category, app or site
    size: NDArray[np.int16]  # of scenario.size for banners, else -1
    auction_type: NDArray[np.int8]  # 1 first price, 2 second price
    floor_micros: Rows  # CPM


class Truth(Columns, frozen=True, kw_only=True):
    """What no bidder is told before the auction. Prices in micros CPM."""

    rival_micros: Rows  # highest rival bid
    threshold_micros: Rows  # the least bid that wins: max(rival, floor); we win at ties
    quality: Floats  # of the page, standard normal within its supply path
    price_known: Floats  # what quality, person and hour tell of the price: mean 0, variance 1
    price_factor: Floats  # of weekends, drift, jumps, shocks and of rivals that answer us


class Responses(Columns, frozen=True, kw_only=True):
    """What a shown creative would do, as true probabilities; one row per (auction, creative)."""

    click: Floats  # P(click | shown)
    conversion: Floats  # P(conversion inside the window | click)
    view: Floats  # P(seen | shown)
    skip: Floats  # P(skipped | shown): video and audio, else 0
    relevance: (
        Floats  # share of all people to whom this creative means less than to this person; by chance 0.5
    )
    satisfaction: Floats  # in [0, 1]: P(the person is content with having met the ad)
    order_value: Floats  # expected, account currency, of a conversion
    value_micros: (
        Floats  # expected worth of the impression to its campaign's goal, micros CPM: comparable with bids
    )


class Outcomes(Columns, frozen=True, kw_only=True):
    """What happened. ``*_told``: the event was reported (not lost in an outage). Delays in ns, from the impression on."""

    viewed: NDArray[np.bool_]
    clicked: NDArray[np.bool_]
    converted: NDArray[np.bool_]
    skipped: NDArray[np.bool_]
    listened: Floats  # share of a video or audio ad that was played, in (0, 1]; others 1
    click_delay_ns: Rows
    conversion_delay_ns: Rows  # from the impression: the click's delay and the conversion's
    order_value_micros: Rows  # 0 where not converted
    impression_told: NDArray[np.bool_]
    click_told: NDArray[np.bool_]
    conversion_told: NDArray[np.bool_]
