"""When auctions come, and what the hour does to prices and conversions. Tables by hour, filled once per world."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from counterpoint.market.chance import Stream, normals
from counterpoint.market.scenario import DAY_NS, STARTS_AT_NS, Scenario

HOUR_NS: Final = DAY_NS // 24


class Timeline:
    """``hours`` rows; the first hour is Monday 00:00 UTC."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        s = scenario
        self.days = s.days
        self.hours = s.days * 24
        self.auctions = s.auctions
        hour = np.arange(self.hours)
        middle_day = np.asarray((hour + 0.5) / 24.0, dtype=np.float64)
        weekend = (hour // 24) % 7 >= 5
        shape = np.array(s.traffic.hour_of_week) / np.mean(s.traffic.hour_of_week)
        volume = shape[hour % 168] * np.where(weekend, s.traffic.weekend_volume, 1.0)
        volume = volume * (1.0 + s.traffic.growth_per_day) ** middle_day
        for shock in s.shock:
            volume = volume * np.where(_inside(middle_day, shock.from_day, shock.to_day), shock.volume, 1.0)
        self.volume: NDArray[np.float64] = volume / volume.sum()  # share of all auctions
        self._cumulated = np.concatenate([[0.0], np.cumsum(self.volume)])
        self._cumulated[-1] = 1.0
        busy = shape[hour % 168]
        mean = float(np.average(busy, weights=volume))
        sd = float(np.sqrt(np.average((busy - mean) ** 2, weights=volume)))
        # how busy the hour usually is: mean 0 and variance 1 over auctions
        self.busy: NDArray[np.float64] = (busy - mean) / sd if sd > 1e-9 else np.zeros(self.hours)
        log_price = np.where(weekend, np.log(s.traffic.weekend_price), 0.0)
        log_price = log_price + s.drift.price_trend * middle_day
        self.log_price: NDArray[np.float64] = np.tile(log_price, (len(s.supply), 1))  # [segment, hour]
        self.conversion: NDArray[np.float64] = np.ones(self.hours)  # factor
        self._walk(s, seed, middle_day)
        for jump in s.jump:
            after = middle_day >= jump.day
            self._price(s, after, jump.price, jump.venues)
            self.conversion *= np.where(after, jump.conversion, 1.0)
        for shock in s.shock:
            self._price(s, _inside(middle_day, shock.from_day, shock.to_day), shock.price, shock.venues)

    def _walk(self, s: Scenario, seed: int, middle_day: NDArray[np.float64]) -> None:
        if s.drift.price_sd == 0.0:
            return
        days = np.arange(s.days + 1)
        for segment in range(len(s.supply)):
            steps = normals(seed, Stream.PRICE_DRIFT, days, segment)[0] * s.drift.price_sd
            path = np.concatenate([[0.0], np.cumsum(steps)])
            self.log_price[segment] += np.interp(middle_day, np.arange(path.size), path)

    def _price(self, s: Scenario, when: NDArray[np.bool_], factor: float, venues: tuple[str, ...]) -> None:
        for segment, path in enumerate(s.supply):
            if not venues or path.venue in venues:
                self.log_price[segment] += np.where(when, np.log(factor), 0.0)

    def times_ns(self, index: NDArray[np.int64], jitter: NDArray[np.float64]) -> NDArray[np.int64]:
        """Auction ``index`` falls inside its own 1/auctions of the traffic, so times grow with the index."""
        mark = (index + jitter) / self.auctions
        hour = np.searchsorted(self._cumulated, mark, side="right") - 1
        hour = np.clip(hour, 0, self.hours - 1)
        inside = (mark - self._cumulated[hour]) / self.volume[hour]
        offset = np.minimum((inside * HOUR_NS).astype(np.int64), HOUR_NS - 1)
        return np.asarray(STARTS_AT_NS + hour.astype(np.int64) * HOUR_NS + offset, dtype=np.int64)

    def day_auctions(
        self, jitter: Callable[[NDArray[np.int64]], NDArray[np.float64]]
    ) -> list[tuple[int, int]]:
        """(first, end) auction number of each UTC day; ``jitter`` of an auction's number as :meth:`times_ns` takes it."""
        firsts = [0]
        for day in range(1, self.days):
            low, high = firsts[-1], self.auctions
            while low < high:  # times grow with the number, so the first is found by halving
                middle = (low + high) // 2
                index = np.array([middle], dtype=np.int64)
                if self.times_ns(index, jitter(index))[0] < STARTS_AT_NS + day * DAY_NS:
                    low = middle + 1
                else:
                    high = middle
            firsts.append(low)
        return list(pairwise([*firsts, self.auctions]))

    def hour_of(self, t_ns: NDArray[np.int64]) -> NDArray[np.int64]:
        """Hour of the scenario, held inside it."""
        return np.clip((t_ns - STARTS_AT_NS) // HOUR_NS, 0, self.hours - 1)

    @staticmethod
    def day_of(t_ns: NDArray[np.int64]) -> NDArray[np.float64]:
        """Days since the scenario's start."""
        return np.asarray((t_ns - STARTS_AT_NS) / DAY_NS, dtype=np.float64)


def _inside(day: NDArray[np.float64], from_day: float, to_day: float) -> NDArray[np.bool_]:
    return np.asarray((day >= from_day) & (day < to_day))
