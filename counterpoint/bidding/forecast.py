"""How a day's opportunity is spread over its hours: by hour of the week, as seen, and as dear as it was.

``volume[h]``: requests in an hour of the week (UTC), the mean of this one and of those before, each older week at half the weight.
``richness[h]``: what campaigns would have spent there at one multiplier, against what the volume alone would say: hours
in which the same people cost more, or are worth more, get more of the plan. Unknown hours stand on the same hour of other
days, those on the mean. A day's plan is in units of a mean day, so that a weekend of 70 % is a rest of 0.7 at its midnight.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

HOUR_NS = 3_600_000_000_000
DAY_HOURS = 24
WEEK_HOURS = 168
MONDAY = 3 * DAY_HOURS  # 1970-01-01 was a Thursday: hours since then + 72 are hours since a Monday
NEW_WEEK = 0.5  # of an hour's volume, from its latest week
RICH_PRIOR = 2.0 / DAY_HOURS  # campaign-days of plan at which an hour's own richness counts as much as 1
RICH_MIN, RICH_MAX = 0.5, 2.0
RICH_FADE = 0.5  # a week later


class Forecast(msgspec.Struct):
    volume: list[float] = msgspec.field(default_factory=lambda: [0.0] * WEEK_HOURS)
    rich: list[float] = msgspec.field(
        default_factory=lambda: [0.0] * WEEK_HOURS
    )  # demand heard, in days of plan
    rich_of: list[float] = msgspec.field(default_factory=lambda: [0.0] * WEEK_HOURS)  # plan it was heard over
    hour: int = -1  # since 1970, the one being counted
    counting: float = 0.0
    begun_inside: bool = True  # the first hour heard is not a whole one

    def count(self, requests: float, at_ns: int) -> None:
        """Requests of about ``at_ns``. Closes the hours before; those of the past are not heard any more."""
        hour = at_ns // HOUR_NS
        if hour < self.hour:
            return
        if hour > self.hour:
            self._close()
            self.hour = hour
        self.counting += requests

    def set_back(self, now_ns: int) -> None:
        """The hour being counted was never: the clock was ahead."""
        if self.hour > now_ns // HOUR_NS:
            self.hour, self.counting, self.begun_inside = now_ns // HOUR_NS, 0.0, True

    def _close(self) -> None:
        if self.hour >= 0 and self.counting > 0.0:
            slot = (self.hour + MONDAY) % WEEK_HOURS
            if not self.begun_inside:
                old = self.volume[slot]
                self.volume[slot] = old + NEW_WEEK * (self.counting - old) if old > 0.0 else self.counting
            self.begun_inside = False
            self.rich[slot] *= RICH_FADE
            self.rich_of[slot] *= RICH_FADE
        self.counting = 0.0

    def heard(self, at_ns: int, days_of_plan: float, phi: float) -> None:
        """A campaign spent, at lambda 1, ``days_of_plan`` of its usual day in a step that was planned as ``phi``."""
        slot = (at_ns // HOUR_NS + MONDAY) % WEEK_HOURS
        self.rich[slot] += min(days_of_plan, 5.0 * phi)
        self.rich_of[slot] += phi

    def richness(self) -> list[float]:
        """By hour of the week."""
        return [
            min(max((r + RICH_PRIOR) / (of + RICH_PRIOR), RICH_MIN), RICH_MAX)
            for r, of in zip(self.rich, self.rich_of, strict=True)
        ]

    def volumes(self) -> list[float]:
        """By hour of the week, every hour filled; their mean is 1."""
        known = [v for v in self.volume if v > 0.0]
        if not known:
            return [1.0] * WEEK_HOURS
        mean = sum(known) / len(known)
        out = []
        for slot, v in enumerate(self.volume):
            if v <= 0.0:
                same = [w for w in self.volume[slot % DAY_HOURS :: DAY_HOURS] if w > 0.0]
                v = sum(same) / len(same) if same else mean
            out.append(v)
        middle = sum(out) / WEEK_HOURS
        return [v / middle for v in out]


class Week:
    """A forecast made ready for many campaigns at one time: cumulative shares, in mean days."""

    def __init__(self, forecast: Forecast) -> None:
        self._volumes = forecast.volumes()
        self._rich = forecast.richness()
        self._own: dict[int, list[float]] = {}

    def between(self, from_ns: int, to_ns: int, midnight_ns: int, hourly: Sequence[int] | None) -> float:
        """Share of a mean day's opportunity in ``[from_ns, to_ns)`` of the local day that began at ``midnight_ns`` (UTC).
        ``hourly``: 24 shares of the day by somebody's plan, in their own unit; None: by our own volumes."""
        first = (midnight_ns // HOUR_NS + MONDAY) % WEEK_HOURS
        weights = self._day(first, hourly)
        total = 0.0
        at, end = max(from_ns - midnight_ns, 0), min(to_ns - midnight_ns, DAY_HOURS * HOUR_NS)
        while at < end:
            hour = at // HOUR_NS
            until = min((hour + 1) * HOUR_NS, end)
            total += weights[hour] * (until - at) / HOUR_NS
            at = until
        return total

    def rich_at(self, at_ns: int) -> float:
        return self._rich[(at_ns // HOUR_NS + MONDAY) % WEEK_HOURS]

    def _day(self, first: int, hourly: Sequence[int] | None) -> list[float]:
        if hourly is None and first in self._own:
            return self._own[first]
        slots = [(first + k) % WEEK_HOURS for k in range(DAY_HOURS)]
        volume = sum(self._volumes[s] for s in slots)
        shape = [self._volumes[s] / volume for s in slots]
        if hourly is not None:
            planned = sum(hourly)
            shape = [h / planned for h in hourly]
        weights = [volume / DAY_HOURS * x * self._rich[s] for x, s in zip(shape, slots, strict=True)]
        if hourly is None:
            self._own[first] = weights
        return weights
