"""The books that judge: what was won by true probabilities, and what came of it, by day and campaign."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from msgspec import Struct

from counterpoint.market.auctions import Floats, Outcomes, Responses, Rows

WHOLE: Final = ("spend", "budget", "bids", "impressions", "clicks_realised", "conversions_realised")


class Tally(Struct, frozen=True, kw_only=True):
    """Sums by [day, campaign]. Money in nanos of the account currency; expected = true probabilities, won auctions."""

    value: Floats  # expected worth at the goals: judged
    value_realised: Floats
    spend: Rows
    budget: Rows  # as the policy split it
    bids: Rows
    impressions: Rows
    clicks: Floats  # expected
    conversions: Floats  # expected
    clicks_realised: Rows
    conversions_realised: Rows
    relevance: Floats  # sum of true affinity ranks of the impressions
    satisfaction: Floats
    views: Floats


class Sums:
    """A :class:`Tally` being made. ``worth``: [campaign, 4] nanos, as ``World.goal_weights``."""

    def __init__(self, days: int, worth: Floats) -> None:
        self._worth = worth
        self._campaigns = worth.shape[0]
        self._tables: dict[str, Floats] = {
            name: np.zeros((days, self._campaigns)) for name in Tally.__struct_fields__
        }

    def __getitem__(self, name: str) -> Floats:
        """[day, campaign] one sum so far; to be written to."""
        return self._tables[name]

    def bids(self, day: int, campaign: Rows) -> None:
        """Bids that stood, by their campaign."""
        self._tables["bids"][day] += np.bincount(campaign, minlength=self._campaigns)

    def shown(self, day: int, campaign: Rows, paid_nanos: Rows, r: Responses, o: Outcomes) -> None:
        """Impressions of one day; parallel."""
        worth = self._worth[campaign]
        realised = worth[:, 0] + worth[:, 1] * o.clicked + worth[:, 2] * o.converted
        realised = realised + worth[:, 3] * (o.order_value_micros / 1e6)
        columns = {
            "value": r.value_micros,
            "value_realised": realised,
            "spend": paid_nanos.astype(np.float64),
            "impressions": np.ones(campaign.size),
            "clicks": r.click,
            "conversions": r.click * r.conversion,
            "clicks_realised": o.clicked.astype(np.float64),
            "conversions_realised": o.converted.astype(np.float64),
            "relevance": r.relevance,
            "satisfaction": r.satisfaction,
            "views": r.view,
        }
        for name, column in columns.items():
            self._tables[name][day] += np.bincount(campaign, weights=column, minlength=self._campaigns)

    def tally(self) -> Tally:
        sums: dict[str, Any] = {
            name: np.round(table).astype(np.int64) if name in WHOLE else table
            for name, table in self._tables.items()
        }
        return Tally(**sums)
