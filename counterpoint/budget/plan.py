"""When in the day the traffic comes: the spend plan, learned from the bidders' counts. Starts even."""

from __future__ import annotations

from msgspec import Struct, field

from counterpoint.base.clock import NS_PER_S
from counterpoint.budget.policy import EVEN_PPM, HOUR_NS, HOURS
from counterpoint.coordination.targets import split_ppm
from counterpoint.events.facts import TrafficCounted

BIDDERS_MAX = 256
COVERED_S_MIN = 300  # an hour counts when at least five minutes of it were seen
RATE = 0.3  # of the newest day in the average of an hour
FLOOR = 0.25  # of the mean: every hour keeps some money, or it would never be measured


class _Counted(Struct):
    requests: int = 0
    interval_ns: int = 0


class Traffic(Struct):
    """Requests a second by hour of the day in UTC, averaged over days."""

    level: list[float] = field(default_factory=lambda: [0.0] * HOURS)
    days: list[int] = field(default_factory=lambda: [0] * HOURS)
    hour: int = -1  # hours since the epoch of the one being counted
    counted: dict[str, _Counted] = {}  # by bidder

    def hear(self, event: TrafficCounted) -> None:
        hour = event.happened_at_ns // HOUR_NS
        if hour < self.hour or event.interval_ns <= 0:
            return
        if hour > self.hour:
            self._close()
            self.hour = hour
        if event.bidder_id not in self.counted and len(self.counted) >= BIDDERS_MAX:
            return
        counted = self.counted.setdefault(event.bidder_id, _Counted())
        counted.requests += sum(event.requests.values())
        counted.interval_ns += event.interval_ns

    def forget_after(self, hour: int) -> None:
        """What was counted for an hour later than this never was."""
        if self.hour > hour:
            self.hour, self.counted = -1, {}

    def _close(self) -> None:
        covered = max((c.interval_ns for c in self.counted.values()), default=0)
        if covered >= COVERED_S_MIN * NS_PER_S:
            rate = sum(c.requests / c.interval_ns for c in self.counted.values()) * NS_PER_S
            at = self.hour % HOURS
            self.level[at] = rate if not self.days[at] else self.level[at] + RATE * (rate - self.level[at])
            self.days[at] += 1
        self.counted = {}

    def hourly_ppm(self, utc_offset_minutes: int) -> tuple[int, ...]:
        """Shares of the day by local hour. An hour not seen yet counts as the mean, one seen once half-way to it."""
        known = [level for level, days in zip(self.level, self.days, strict=True) if days]
        mean = sum(known) / len(known) if known else 0.0
        if mean <= 0:
            return EVEN_PPM
        believed = [
            max(FLOOR * mean, (level * days + mean) / (days + 1))
            for level, days in zip(self.level, self.days, strict=True)
        ]
        ahead, minutes = divmod(utc_offset_minutes, 60)
        local = []
        for hour in range(HOURS):
            first, second = believed[(hour - ahead) % HOURS], believed[(hour - ahead - 1) % HOURS]
            local.append(first * (60 - minutes) + second * minutes)
        peak = max(range(HOURS), key=lambda hour: local[hour])
        local[peak] = min(
            local[peak], 0.9 * (sum(local) - local[peak])
        )  # under half the day's money in one hour
        whole = sum(local)
        shares = split_ppm({f"{hour:02}": round(1_000_000_000 * x / whole) for hour, x in enumerate(local)})
        return tuple(shares[name] for name in sorted(shares))
