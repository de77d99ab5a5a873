"""The shrunk counts that priced before the value model: its baseline."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from counterpoint.creative.click_model import Counts, Shown, posteriors
from counterpoint.market.world import World

CLICKS_PRIOR, TRIALS_PRIOR, MATURITY_S = 20.0, 50.0, 120.0

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


class Counted:
    """What was there before: the creative's posterior x the segment's click factor; orders per click of the line item,
    a click counted two minutes after it."""

    def __init__(self, world: World) -> None:
        design, s = world.design, world.scenario
        self.design = design
        self.items: I64 = design.line_item.astype(np.int64)
        self.click_prior = [s.campaign[c].expected_click_rate for c, _ in design.line_items]
        self.order_prior = np.array([s.campaign[c].expected_conversion_rate for c, _ in design.line_items])
        self.campaign_of_item = np.array([c for c, _ in design.line_items])
        self.impressions, self.clicks = np.zeros(design.count), np.zeros(design.count)
        self.rate = np.array([self.click_prior[item] for item in self.items])
        self.seen, self.predicted = np.zeros(len(s.supply)), np.zeros(len(s.supply))
        self.trials, self.orders = np.zeros(len(design.line_items)), np.zeros(len(design.line_items))
        self.media = np.array([world._media[k] for k in range(len(s.supply))])
        self._of_item = [np.flatnonzero(self.items == item) for item in range(len(design.line_items))]

    def refresh(self) -> None:
        """The Creative agent's own posteriors."""
        for item, of in enumerate(self._of_item):
            specs = [self.design.creatives[k] for k in of]
            shown = [
                Shown(c.id, "", (f"format={c.media} {c.size}", f"colour={c.colour}", f"message={c.message}"))
                for c in specs
            ]
            counts = {
                c.id: Counts(float(self.impressions[k]), float(self.clicks[k]), 0.0)
                for c, k in zip(specs, of, strict=True)
            }
            self.rate[of] = [p.mean for p in posteriors(shown, counts, self.click_prior[item])]

    def decay(self, elapsed_s: float) -> None:
        """As the agents do: creatives by 3 days, the rest by 7."""
        for counts, half_life_days in (
            (self.impressions, 3.0), (self.clicks, 3.0), (self.seen, 7.0), (self.predicted, 7.0), (self.trials, 7.0),
            (self.orders, 7.0),
        ):  # fmt: skip
            counts *= 0.5 ** (elapsed_s / 86_400.0 / half_life_days)

    def factors(self) -> F64:
        everything = (self.seen.sum() + CLICKS_PRIOR) / (self.predicted.sum() + CLICKS_PRIOR)
        out = np.empty(self.seen.shape)
        for supply, medium in enumerate(self.media):
            alike = self.media == medium
            parent = (self.seen[alike].sum() + CLICKS_PRIOR * everything) / (
                self.predicted[alike].sum() + CLICKS_PRIOR
            )
            out[supply] = (self.seen[supply] + CLICKS_PRIOR * parent) / (
                self.predicted[supply] + CLICKS_PRIOR
            )
        return np.clip(out, 0.1, 10.0)

    def order_rates(self) -> F64:
        by_campaign = np.bincount(self.campaign_of_item, self.trials)[self.campaign_of_item]
        orders = np.bincount(self.campaign_of_item, self.orders)[self.campaign_of_item]
        parent = (orders + TRIALS_PRIOR * self.order_prior) / (by_campaign + TRIALS_PRIOR)
        return np.asarray(
            np.clip((self.orders + TRIALS_PRIOR * parent) / (self.trials + TRIALS_PRIOR), 1e-6, 0.999)
        )
