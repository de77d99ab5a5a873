"""What a bidder makes of a simulated request: hashed features by position, of arrays of auctions at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from counterpoint.bidding.features import (
    CAMPAIGN,
    EXPOSED,
    EXPOSED_MAX,
    FIELDS,
    LINE_ITEM,
    SEGMENT,
    SOURCES,
    exposure_level,
    feature,
)
from counterpoint.bidding.value_model import name_hash
from counterpoint.market.auctions import Auctions
from counterpoint.market.people import SYSTEMS
from counterpoint.market.scenario import Scenario

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


class Features:
    def __init__(self, scenario: Scenario, line_items: int, segments: list[str]) -> None:
        s = scenario

        def hashed(field: str, values: list[str]) -> NDArray[np.uint64]:
            return np.array([feature(field, value) for value in values], dtype=np.uint64)

        self._of_place = (
            hashed("place", [p.id for p in s.place]),
            hashed("category", [p.category for p in s.place]),
        )
        self._of_size = hashed("size", [*(f"{z.w}/{z.h}" for z in s.size), ""])
        self._of_hour = hashed("hour", [str(h % 24) for h in range(168)])
        self._of_week = hashed("hour_of_week", [str(h) for h in range(168)])
        self._of_device = np.array(
            [hashed("device", [f"{kind}/{os}" for os in SYSTEMS]) for kind in range(6)]
        )
        self._of_country = hashed("country", [c.code for c in s.users.countries])
        self._of_person = hashed("person", [str(level) for level in range(EXPOSED_MAX + 1)])
        self._of_campaign = np.array([name_hash(c.id) for c in s.campaign], dtype=np.uint64)
        self._of_item = np.array([name_hash(f"l{k}") for k in range(line_items)], np.uint64)
        self._of_segment = np.array([name_hash(name) for name in segments], dtype=np.uint64)
        self._capped = np.array([c.frequency_cap > 0 for c in s.campaign])  # a bidder counts for caps alone
        self._levels = np.array([exposure_level(n) for n in range(65)])

    def of(
        self, auctions: Auctions, rows: I64, campaign: I64, item: I64, exposures: F64
    ) -> NDArray[np.uint64]:
        """[row, source] as :class:`~counterpoint.bidding.value_model.Impressions` takes them."""
        known = auctions.known_user[rows]
        level = self._levels[
            np.minimum(np.round(exposures), 64).astype(np.int64) * (known & self._capped[campaign])
        ]
        hour = auctions.hour_of_week[rows]
        columns = np.zeros((len(rows), SOURCES), np.uint64)
        columns[:, SEGMENT] = self._of_segment[auctions.supply[rows]]
        fields = {
            "place": self._of_place[0][auctions.place[rows]],
            "category": self._of_place[1][auctions.place[rows]],
            "size": self._of_size[auctions.size[rows]],
            "hour": self._of_hour[hour],
            "hour_of_week": self._of_week[hour],
            "device": self._of_device[auctions.device_type[rows], auctions.os[rows]],
            "country": self._of_country[auctions.country[rows]],
            "person": np.where(known, self._of_person[level], 0),
        }
        for name, hashes in fields.items():
            columns[:, 2 + FIELDS.index(name)] = hashes
        columns[:, CAMPAIGN] = self._of_campaign[campaign]
        columns[:, LINE_ITEM] = self._of_item[item]
        columns[:, EXPOSED] = level
        return columns
