"""How likely a price wins, per segment, from whatever the exchange tells us.

A row is one auction we bid in. Each row keeps its regime: with the minimum bid to win it says for *every* price
whether that would have won; without it, only for the price we bid. A segment where the minimum comes back on both
wins and losses is estimated from those rows alone (an empirical distribution, each outcome weighted by how seldom it
carries the minimum); any other segment as win/loss data by isotonic regression. The minimum is never imputed. What
comes back on wins only, or losses only, is used as win/loss: product-limit estimators for it are a later step.

Rows decay. A curve is shrunk to its parent, "adx/video" to "*/video" to "*", by PRIOR_ROWS.
"""

from __future__ import annotations

from bisect import bisect_left

import msgspec
import numpy as np
from numpy.typing import NDArray

from counterpoint.base.money import PRICE_MICROS_MAX
from counterpoint.bidding.policy import WinCurve, lineage
from counterpoint.bidding.price import KNOTS_MAX

FloatArray = NDArray[np.float64]

BINS = 468
EDGES: FloatArray = np.round(
    np.geomspace(1e4, float(PRICE_MICROS_MAX), BINS)
)  # upper edges, 3 % apart, in nanos
_EDGES = [int(e) for e in EDGES]
PRIOR_ROWS = 200.0  # a segment with this many rows counts as much as its parent
ROWS_MIN = 50.0  # no curve is published on fewer
MINIMUM_SHARE_MIN = 0.2  # of wins and of losses, for the minimum bid to win to be relied on
QUANTILE_BINS = 40  # win/loss rows are pooled into about this many before the isotonic regression
KNOT_ERROR_MAX = 0.002  # win rate that may be lost by keeping fewer knots
SEGMENTS_MAX = 512  # further segments teach only their parents
REFRESH_SHARE = 0.02  # a curve is estimated anew when its rows grew by this share, or by
REFRESH_ROWS = 25.0


class Rows(msgspec.Struct):
    """Decayed counts of one segment by price bin; bin j holds prices in (EDGES[j-1], EDGES[j]]."""

    bids: FloatArray
    wins: FloatArray
    minimum_of_wins: FloatArray
    minimum_of_losses: FloatArray
    added: float = 0.0  # rows since the curve was last estimated

    @classmethod
    def none(cls) -> Rows:
        return cls(np.zeros(BINS), np.zeros(BINS), np.zeros(BINS), np.zeros(BINS))

    def add(self, bin_of_bid: int, won: bool, bin_of_minimum: int) -> None:
        self.bids[bin_of_bid] += 1.0
        if won:
            self.wins[bin_of_bid] += 1.0
        if bin_of_minimum >= 0:
            (self.minimum_of_wins if won else self.minimum_of_losses)[bin_of_minimum] += 1.0
        self.added += 1.0

    def estimate(self) -> tuple[FloatArray, float]:
        """(win rate at each of EDGES, effective rows behind it)."""
        rows, wins = float(self.bids.sum()), float(self.wins.sum())
        if rows <= 0.0:
            return np.zeros(BINS), 0.0
        losses = rows - wins
        told_wins, told_losses = float(self.minimum_of_wins.sum()), float(self.minimum_of_losses.sum())
        share_wins = told_wins / wins if wins > 0 else 0.0
        share_losses = told_losses / losses if losses > 0 else 0.0
        if share_wins >= MINIMUM_SHARE_MIN and share_losses >= MINIMUM_SHARE_MIN:
            mass = self.minimum_of_wins / share_wins + self.minimum_of_losses / share_losses
            return np.minimum(np.cumsum(mass) / rows, 1.0), told_wins + told_losses
        return self._isotonic(rows), rows

    def _isotonic(self, rows: float) -> FloatArray:
        """Pool to quantile bins, pool adjacent violators, then straight lines between the centres: a raw step function
        would draw every bid to its edges."""
        used = np.flatnonzero(self.bids > 0)
        counts, won = self.bids[used], self.wins[used]
        group = np.minimum((np.cumsum(counts) - counts / 2) / rows * QUANTILE_BINS, QUANTILE_BINS - 1).astype(
            int
        )
        pooled = np.zeros((3, QUANTILE_BINS))
        for row, weight in enumerate((counts, won, counts * EDGES[used])):
            np.add.at(pooled[row], group, weight)
        size, total_wins, price_sum = pooled[:, pooled[0] > 0]
        centre = price_sum / size
        rates = pool_adjacent_violators((total_wins + 0.5 * (total_wins > 0)) / (size + 1.0), size)
        curve: FloatArray = np.interp(EDGES, np.concatenate([[0.0], centre]), np.concatenate([[0.0], rates]))
        return curve


def pool_adjacent_violators(values: FloatArray, weights: FloatArray) -> FloatArray:
    """The never-falling sequence closest to ``values`` in weighted least squares.

    >>> pool_adjacent_violators(np.array([1.0, 3.0, 2.0]), np.array([1.0, 1.0, 1.0])).tolist()
    [1.0, 2.5, 2.5]
    """
    means: list[float] = []
    sizes: list[float] = []
    counts: list[int] = []
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        means.append(value)
        sizes.append(weight)
        counts.append(1)
        while len(means) > 1 and means[-2] > means[-1]:
            size = sizes[-2] + sizes[-1]
            means[-2:] = [(means[-2] * sizes[-2] + means[-1] * sizes[-1]) / size]
            sizes[-2:] = [size]
            counts[-2:] = [counts[-2] + counts[-1]]
    return np.repeat(np.array(means), counts)


def to_knots(rates: FloatArray, rows: float) -> WinCurve | None:
    """The fewest of EDGES whose straight lines stay within KNOT_ERROR_MAX of ``rates`` (never falling), at most
    KNOTS_MAX. None where nothing ever won: then there is no curve to shade on."""
    first = int(np.argmax(rates > 1e-9))
    if rates[first] <= 1e-9:
        return None
    first = max(first - 1, 0)
    last = int(np.argmax(rates >= rates[-1] - 1e-12))
    at = list(range(first, last + 1)) if last - first < 2 else [first, last]
    x, y = EDGES[first : last + 1], rates[first : last + 1]
    while len(at) < min(KNOTS_MAX, last - first + 1):
        error = np.abs(np.interp(x, EDGES[at], rates[at]) - y)
        worst = int(np.argmax(error))
        if error[worst] <= KNOT_ERROR_MAX:
            break
        at.insert(bisect_left(at, first + worst), first + worst)
    return WinCurve(
        bids_nanos=tuple(_EDGES[i] for i in at),
        win_rates=tuple(min(max(round(float(rates[i]), 6), 0.0), 1.0) for i in at),
        rows=round(rows, 1),
    )


class WinCurves:
    """The rows of all segments and the curves they come to."""

    def __init__(self, half_life_s: float) -> None:
        assert half_life_s > 0
        self._half_life_s = half_life_s
        self._rows: dict[str, Rows] = {"*": Rows.none()}
        self._rates: dict[str, tuple[FloatArray, float]] = {}
        self.curves: dict[str, WinCurve] = {}

    def add(self, segment: str, bid_nanos: int, won: bool, minimum_nanos: int | None) -> None:
        """One auction. A minimum that contradicts the outcome (a win below it, a loss above) is not believed."""
        bin_of_bid = _bin(bid_nanos)
        bin_of_minimum = -1
        if minimum_nanos is not None and minimum_nanos > 0:
            minimum_nanos = min(max(minimum_nanos, 1), PRICE_MICROS_MAX)
            if (minimum_nanos <= bid_nanos) == won or minimum_nanos == bid_nanos:
                bin_of_minimum = _bin(minimum_nanos)
        for name in lineage(segment):
            rows = self._rows.get(name)
            if rows is None:
                if len(self._rows) >= SEGMENTS_MAX:
                    continue
                rows = self._rows[name] = Rows.none()
            rows.add(bin_of_bid, won, bin_of_minimum)

    def decay(self, elapsed_s: float) -> None:
        factor = 0.5 ** (elapsed_s / self._half_life_s)
        for rows in self._rows.values():
            for counts in (rows.bids, rows.wins, rows.minimum_of_wins, rows.minimum_of_losses):
                counts *= factor

    def refresh(self) -> bool:
        """Estimate anew what has grown; True when any published curve changed. Parents first: children lean on them."""
        changed: set[str] = set()
        for name in sorted(self._rows, key=lambda s: (s != "*", not s.startswith("*"), s)):
            rows = self._rows[name]
            parents = lineage(name)[1:]
            total = float(rows.bids.sum())
            stale = rows.added > max(REFRESH_ROWS, REFRESH_SHARE * total)
            if not stale and not (parents and parents[0] in changed and total >= ROWS_MIN):
                continue
            rows.added = 0.0
            rates, effective = rows.estimate()
            parent = self._rates.get(parents[0]) if parents else None
            if parent is not None and parent[1] >= ROWS_MIN:
                rates = (effective * rates + PRIOR_ROWS * parent[0]) / (effective + PRIOR_ROWS)
            self._rates[name] = (rates, effective)
            curve = to_knots(rates, effective) if effective >= ROWS_MIN else None
            if curve is not None and curve != self.curves.get(name):
                self.curves[name] = curve
                changed.add(name)
        return bool(changed)

    def dump(self) -> list[object]:
        rows = {
            name: [*(a.tobytes() for a in (r.bids, r.wins, r.minimum_of_wins, r.minimum_of_losses)), r.added]
            for name, r in self._rows.items()
        }
        rates = {name: [a.tobytes(), effective] for name, (a, effective) in self._rates.items()}
        return [rows, rates, self.curves]

    def load(self, dumped: msgspec.Raw) -> None:
        rows, rates, curves = msgspec.msgpack.decode(dumped, type=_Dumped)
        self._rows = {
            name: Rows(_array(a), _array(b), _array(c), _array(d), added)
            for name, (a, b, c, d, added) in rows.items()
        }
        self._rates = {name: (_array(raw), effective) for name, (raw, effective) in rates.items()}
        self.curves = curves


_Dumped = tuple[
    dict[str, tuple[bytes, bytes, bytes, bytes, float]], dict[str, tuple[bytes, float]], dict[str, WinCurve]
]


def _bin(nanos: int) -> int:
    return min(bisect_left(_EDGES, nanos), BINS - 1)


def _array(raw: bytes) -> FloatArray:
    array = np.frombuffer(raw, dtype=np.float64).copy()
    if len(array) != BINS:
        raise ValueError(f"win curve of {len(array)} bins in a snapshot, expected {BINS}")
    return array
