"""What a price paid says of the second-highest bid, and when an exchange's prices are not believed to be second prices.

A second price is the best rival's bid or the floor, so its share of our bid is spread out. An exchange that has turned to first
price, or charges our bid less a fee, or rounds it, asks for about the same share every time. By exchange the mean and the
spread of that share are followed, the latest RATIOS_HALF wins counting most; where they are that narrow, a price says no
more than that we won.
"""

from __future__ import annotations

import msgspec

RATIOS_HALF = 30.0
RATIOS_MIN = 12.0  # wins before an exchange is judged
SPREAD_MIN = 0.03  # standard deviation of price / bid
EXCHANGES_MAX = 512  # further ones are believed
GAP_MIN = 0.002  # of the bid: a price nearer to it is our own bid, rounded


class Ratio(msgspec.Struct, array_like=True):
    wins: float = 0.0  # fading
    mean: float = 0.0
    square: float = 0.0  # mean squared distance from the mean


class SecondPrices(msgspec.Struct):
    ratios: dict[str, Ratio] = {}
    doubted: int = 0  # prices that were not taken for a rival's bid

    def minimum(self, segment: str, bid_nanos: int, price_nanos: int) -> int | None:
        """The least bid that would have won, of a win in second price; None where the price does not tell.

        >>> prices = SecondPrices()
        >>> prices.minimum("adx/video", 1_000_000, 600_000), prices.minimum("adx/video", 1_000_000, 999_900)
        (600000, None)
        """
        if not 0 < price_nanos <= bid_nanos:
            return None
        exchange = segment.partition("/")[0]
        ratio = self.ratios.get(exchange)
        if ratio is None:
            if len(self.ratios) >= EXCHANGES_MAX:
                return price_nanos if price_nanos < bid_nanos * (1.0 - GAP_MIN) else None
            ratio = self.ratios[exchange] = Ratio()
        share = price_nanos / bid_nanos
        ratio.wins = ratio.wins * 0.5 ** (1.0 / RATIOS_HALF) + 1.0
        off = share - ratio.mean
        ratio.mean += off / ratio.wins
        ratio.square += (off * (share - ratio.mean) - ratio.square) / ratio.wins
        narrow = ratio.wins >= RATIOS_MIN and ratio.square < SPREAD_MIN**2
        if narrow or share > 1.0 - GAP_MIN:
            self.doubted += 1
            return None
        return price_nanos
