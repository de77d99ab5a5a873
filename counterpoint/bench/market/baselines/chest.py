"""``tools``: what a skilled team puts together of known tools, each shrunk so that sparse clicks do not mislead it.

Not the ladder's parts as they are: a split by return follows the luck of a few conversions, and Thompson with a weak
prior explores for most of a fortnight. Those two beside PID earned less than PID alone.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from counterpoint.bench.market.baselines.classic import Classic
from counterpoint.bench.market.baselines.parts import AsSoonAsPossible, BetaThompson, Equal, Hours
from counterpoint.bench.market.baselines.rates import Log
from counterpoint.bench.market.facts import Facts, Floats
from counterpoint.bench.market.policy import Answers, Books, Feedback, Requests
from counterpoint.market.auctions import Rows

FORMAT_CLICKS: Final = 10.0  # until about so many clicks a format is taken to do as all do
CREATIVE_CLICKS: Final = 4.0
SPEND_KEPT: Final = 0.9  # of what is remembered of the campaigns' spending, per batch
RATE_KEPT: Final = 0.5  # likewise of the spend per auction, per thousand auctions
LEAST_SHARE: Final = 0.03  # of the money left that every campaign may draw on
LOG_FACTOR_LOW: Final = -4.0


class ByFormat(BetaThompson):
    """Thompson whose prior is what the line item's creatives of the same format do."""

    def begin(self, facts: Facts, rng: np.random.Generator) -> None:
        super().begin(facts, rng)
        key = np.concatenate([facts.creative_line_item[None, :], facts.fits.astype(np.int64)])
        self._group = np.unique(key, axis=1, return_inverse=True)[1].ravel()

    def _groups(self) -> Rows:
        return self._group


class Chest(Classic):
    """Values by path and format over all days, fading; first prices shaded by a constant; one factor on all bids
    that follows the ratio of the spend wanted to the spend seen (after Agarwal et al. 2014); money where it is bid."""

    def __init__(self, name: str, parameters: dict[str, float] | None = None) -> None:
        super().__init__(
            name,
            "value",
            lambda p: ByFormat(p["memory"], CREATIVE_CLICKS, p["temper"]),
            Equal(),
            lambda p: AsSoonAsPossible(),
            parameters,
        )

    def begin(self, facts: Facts, seed: int) -> None:
        super().begin(facts, seed)
        self._hours = Hours(facts)
        self._format = np.ones((facts.fits.shape[0], facts.campaigns))
        self._log_factor = 0.0
        self._rate: float | None = None  # nanos an auction
        self._spend = facts.day_budget_nanos / facts.days

    def split(self, day: int) -> Floats | None:
        log = self._log.faded(day, self._p["memory"])
        self._know(log, slice(0, 1))
        self._formats(log)
        self._creative.new_day(self._log, day)
        return None

    def _formats(self, log: Log) -> None:
        """[format, campaign] clicks over those its supply paths let expect, shrunk to all formats'."""
        facts, every = self.facts, slice(0, 1)
        of = facts.creative_campaign
        expected = (log.impressions[0] * log.click_rates(every)[of]).sum(axis=1)
        clicks = log.clicks[0].sum(axis=1)
        for k, fits in enumerate(facts.fits):
            due = np.bincount(of[fits], expected[fits], facts.campaigns)
            came = np.bincount(of[fits], clicks[fits], facts.campaigns)
            all_alike = (came.sum() + FORMAT_CLICKS) / (due.sum() + FORMAT_CLICKS)
            self._format[k] = (came + FORMAT_CLICKS * all_alike) / (due + FORMAT_CLICKS)

    def values(self, requests: Requests) -> Floats:
        of_showing = self.facts.worth[:, 0]
        of_clicks = super().values(requests) - of_showing
        return np.asarray(of_showing + of_clicks * self._format[requests.formats])

    def _bids(self, requests: Requests, books: Books) -> Floats:
        first_price = np.where(requests.auctions.auction_type == 2, 1.0, self._p["factor"])
        bids = self.values(requests) * first_price[:, None] * self._pressure(books)
        return np.asarray(np.minimum(bids, self.facts.ceiling_micros))

    def _pressure(self, books: Books) -> float:
        """What all bids are multiplied by."""
        if self._rate is not None:
            to_come = max(1.0 - self._hours.gone(books.day_share), 0.02) * self.facts.auctions_a_day
            wanted = float(books.left_nanos.sum()) / to_come
            gap = np.log(max(wanted, 1.0) / max(self._rate, 0.01 * wanted, 1.0))
            step = self._p["gain"] * float(np.clip(gap, -1.0, 1.0))
            self._log_factor = float(np.clip(self._log_factor + step, LOG_FACTOR_LOW, self._p["top"]))
        return float(np.exp(self._log_factor))

    def decide(self, requests: Requests, books: Books) -> Answers:
        answers = super().decide(requests, books)
        shares = self._spend + LEAST_SHARE * self._spend.sum() + 1.0
        return Answers(creative=answers.creative, bid_micros=answers.bid_micros, split=shares)

    def learn(self, feedback: Feedback) -> None:
        super().learn(feedback)
        self._hours.learn(feedback)
        n, won = feedback.won.shape[0], feedback.won
        campaign = self.facts.creative_campaign[feedback.creative[won]]
        paid = np.bincount(campaign, feedback.paid_micros[won], self.facts.campaigns)
        self._spend = SPEND_KEPT * self._spend + (1.0 - SPEND_KEPT) * paid
        rate, weight = float(paid.sum()) / n, (1.0 - RATE_KEPT) * min(n / 1_000.0, 1.0)
        self._rate = rate if self._rate is None else (1.0 - weight) * self._rate + weight * rate
