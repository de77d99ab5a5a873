"""A scenario's world as a market of an exchange over the wire.

Auctions are asked for at the chosen rate, whatever their own times are: market time passes as the traffic does, and an
hour without traffic takes none. So what comes days later comes as much earlier as the traffic is denser:
:func:`times_faster`. The next batch of auctions is drawn when every request of the last has ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Final

from counterpoint.base.rng import mix64, uniform
from counterpoint.market.catalogue import TMAX_MS, Requests
from counterpoint.market.design import MEDIA
from counterpoint.market.exchange import Ask, Deed, Offer, Verdict
from counterpoint.market.house import CLICK, CONVERSION, IMPRESSION, SKIP, House
from counterpoint.market.scenario import STARTS_AT_NS, Scenario

BATCH: Final = 1_000  # auctions drawn at once: a few milliseconds
STEPS_PER_S: Final = 20.0  # how often it is drawn what people do
PRICE_MICROS_MOST: Final = Decimal(10**15)
_KINDS: Final = {IMPRESSION: "imp", SKIP: "skip", CLICK: "click", CONVERSION: "order"}


def times_faster(scenario: Scenario, requests_per_s: float) -> float:
    """Seconds of market time per second of the wall's, on average.

    >>> from counterpoint.market.load import scenario_named
    >>> times_faster(scenario_named("stationary-v1"), 500.0)  # 100,000 auctions of 14 days in 200 s
    6048.0
    """
    return requests_per_s * scenario.days * 86_400 / scenario.auctions


class WorldMarket:
    """Auctions of ``house`` from the first on, ``auctions_max`` at most. Ends with the scenario."""

    def __init__(self, house: House, requests_per_s: float, auctions_max: int | None = None) -> None:
        self.house = house
        self.requests = Requests(house.world)
        s = house.world.scenario
        self._most = s.auctions if auctions_max is None else min(auctions_max, s.auctions)
        self._step = max(1, int(requests_per_s / STEPS_PER_S))
        self._tells = [v.minimum_bid_to_win for v in s.venue]
        self._position = house.world.design.position
        self._salt = mix64(house.world.seed ^ 0x6578)
        self._start = 0
        self._auctions = house.world.batch(0, 0)
        self._asked = 0  # rows of the batch
        self._ended: list[bool] = []
        self._frontier = 0  # rows before it have all ended
        self._closed = 0
        self._time_ns = STARTS_AT_NS

    @property
    def seed(self) -> int:
        return self.house.world.seed

    @property
    def over(self) -> bool:
        return self.asked >= self._most and self._frontier == len(self._ended)

    @property
    def asked(self) -> int:
        return self._start + self._asked

    @property
    def time_ns(self) -> int:
        """Of the market: the newest auction that has ended, with all before it."""
        return int(self._auctions.t_ns[self._frontier - 1]) if self._frontier else self._time_ns

    def draw(self, stream: int, number: int) -> float:
        return uniform(self._salt ^ mix64(stream), number)

    def ask(self) -> Ask | None:
        if self._asked == len(self._auctions):
            if self._frontier < len(self._ended) or self.asked >= self._most:
                return None
            self._next_batch()
        row = self._asked
        self._asked += 1
        a, s = self._auctions, self.house.world.scenario
        return Ask(
            self._start + row,
            s.venue[int(a.venue[row])].id,
            MEDIA[int(a.media[row])].value,
            TMAX_MS,
            self.requests.body(a, row),
            what=row,
        )

    def _next_batch(self) -> None:
        self._time_ns = self.time_ns
        self._start += len(self._auctions)
        self._auctions = self.house.batch(self._start, min(BATCH, self._most - self._start))
        self._ended = [False] * len(self._auctions)
        self._asked = self._frontier = self._closed = 0

    def hold(self, ask: Ask, offers: Sequence[Offer]) -> Verdict:
        row: int = ask.what
        bids = [(self._position.get(offer.text("crid"), -1), _micros(offer.price), offer) for offer in offers]
        fate = self.house.hold(row, bids) if bids else None
        self._ended[row] = True
        while self._frontier < len(self._ended) and self._ended[self._frontier]:
            self._frontier += 1
        if fate is None or fate.made < 0:
            return Verdict()
        tells = self._tells[int(self._auctions.venue[row])] and fate.minimum_micros is not None
        minimum = _cpm(fate.minimum_micros or 0) if tells else None
        return Verdict(fate.made, fate.won, _cpm(fate.paid_micros), minimum)

    def deeds(self, last: bool = False) -> list[Deed]:
        """Of steps that are over, up to the market's time: that of the newest auction that has ended."""
        whole = last or self._frontier == len(self._ended)
        if self._frontier == self._closed or (self._frontier - self._closed < self._step and not whole):
            return []
        self._closed = self._frontier
        self.house.close(self._frontier)
        return [
            Deed(0.0, _KINDS[it.kind], it.mark, f"{_cpm(it.order_value_micros):f}")
            for it in self.house.due(self.time_ns)
        ]


def _cpm(micros: int) -> Decimal:
    return Decimal(micros).scaleb(-6)


def _micros(price: Decimal) -> int:
    """Whole micros, rounded down; what is no price is none."""
    if not price.is_finite():
        return 0
    return int(min(price * 1_000_000, PRICE_MICROS_MOST))
