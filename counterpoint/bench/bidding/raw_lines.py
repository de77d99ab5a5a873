"""Raw iPinYou lines as auctions with a placement and a declared floor, bid on by the live curves and price."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from counterpoint.bidding.features import feature
from counterpoint.bidding.policy import curve_table
from counterpoint.bidding.price import best_price
from counterpoint.bidding.segments import at_place
from counterpoint.bidding.win_curve import WinCurves
from counterpoint.market.logs.table import LogError, Table

FloatArray = NDArray[np.float64]
NANOS_PER_FEN: Final = 10_000
BLOCK_ROWS: Final = 100  # auctions bid on one policy
JUDGE_BLOCK_ROWS: Final = 200
PRICE_MAX: Final = 300
VALUE_MEDIAN, VALUE_SIGMA = 100.0, 0.7


@dataclass(frozen=True, eq=False)
class RawLog:
    """Parallel, in the order of time. Prices in fen per 1,000."""

    name: str
    price: NDArray[np.int64]
    floor: NDArray[np.int64]
    segment: tuple[str, ...]
    place: tuple[str, ...]  # the domain's own child of the segment, "" where it is not told


def read_raw(path: Path) -> RawLog:
    """Impressions only. Raises :class:`LogError`."""
    table = Table(path)
    at = {
        name: table.column(name)
        for name in ("timestamp", "logtype", "adexchange", "domain", "slotprice", "payprice")
    }
    rows = [cells for cells in table.rows() if cells[at["logtype"]].strip() == "1"]
    rows.sort(key=lambda cells: cells[at["timestamp"]])
    try:
        price = np.array([int(cells[at["payprice"]]) for cells in rows])
        floor = np.array([int(cells[at["slotprice"]]) for cells in rows])
    except ValueError as error:
        raise LogError(f"{path}: a price or floor is no integer ({error}); mend or remove the row") from None
    segments = tuple(f"ipinyou-{cells[at['adexchange']]}/banner" for cells in rows)
    return RawLog(
        name=path.name.removesuffix(".csv.gz"),
        price=price,
        floor=np.minimum(
            floor, price
        ),  # 0.3 % of rows were sold below their floor: theirs was not the floor that held
        segment=segments,
        place=tuple(
            at_place(s, feature("place", c[at["domain"]]))
            if c[at["domain"]].strip() not in ("", "null")
            else ""
            for s, c in zip(segments, rows, strict=True)
        ),
    )


@lru_cache(maxsize=256)
def shares_by_block(log: RawLog, names: tuple[str, ...], seed: int) -> dict[str, FloatArray]:
    """Surplus by block of the later half, of each of ``names`` and of perfect information."""
    n = len(log.price)
    half = n // 2
    rng = np.random.default_rng([seed, 10])
    value = VALUE_MEDIAN * rng.lognormal(0.0, VALUE_SIGMA, n)
    exploring = np.exp(rng.random(n) * np.log(PRICE_MAX + 1.0)).astype(np.int64)
    blocks = np.arange(n - half) // JUDGE_BLOCK_ROWS
    later = slice(half, n)

    def by_block(bids: NDArray[np.int64]) -> FloatArray:
        won = (bids > 0) & (bids >= log.price[later])
        return _summed(blocks, np.where(won, value[later] - bids, 0.0))

    found = {"perfect": _summed(blocks, np.maximum(value[later] - log.price[later], 0.0))}
    for name in names:
        if name == "constant-shade":
            shares = np.linspace(0.1, 1.0, 91)
            gains = [
                _gain(
                    _raised(value[:half] * c, value[:half], log.floor[:half]), value[:half], log.price[:half]
                )
                for c in shares
            ]
            c = shares[int(np.argmax(gains))]
            found[name] = by_block(_raised(value[later] * c, value[later], log.floor[later]))
        elif name == "unconditional-shade":
            found[name] = by_block(_unconditional(log, value, half))
        else:
            told, placed = "win/loss" not in name, "no placement" not in name
            found[name] = by_block(_ours(log, value, exploring, half, told, placed))
    return found


def _summed(blocks: NDArray[np.int64], by_row: FloatArray) -> FloatArray:
    return np.bincount(blocks, weights=by_row).astype(np.float64)


def _gain(bids: NDArray[np.int64], value: FloatArray, price: NDArray[np.int64]) -> float:
    won = (bids > 0) & (bids >= price)
    return float(np.sum(np.where(won, value - bids, 0.0)))


def _raised(wished: FloatArray, value: FloatArray, floor: NDArray[np.int64]) -> NDArray[np.int64]:
    """To the floor of the request where the value allows: baselines know it too."""
    bids = np.maximum(np.minimum(wished, PRICE_MAX).astype(np.int64), floor)
    return np.where(bids < value, bids, 0)


def _unconditional(log: RawLog, value: FloatArray, half: int) -> NDArray[np.int64]:
    counts = np.bincount(np.minimum(log.price[:half], PRICE_MAX + 1), minlength=PRICE_MAX + 2)
    wins = np.cumsum(counts)[: PRICE_MAX + 1] / half
    prices = np.arange(PRICE_MAX + 1)
    gains = (value[half:, None] - prices[None, :]) * wins[None, :]
    gains = np.where(prices[None, :] >= log.floor[half:, None], gains, 0.0)
    best = np.argmax(gains, axis=1)
    return np.where(gains[np.arange(len(best)), best] > 0, prices[best], 0)


def _ours(
    log: RawLog, value: FloatArray, exploring: NDArray[np.int64], half: int, told: bool, placed: bool
) -> NDArray[np.int64]:
    """Learns from exploring bids on the earlier half, then bids and goes on learning."""
    curves = WinCurves(43_200.0)
    bids = np.zeros(len(log.price), np.int64)
    for first in range(0, len(bids), BLOCK_ROWS):
        rows = range(first, min(first + BLOCK_ROWS, len(bids)))
        tables: dict[str, FloatArray] = {}
        published = curves.published()
        for i in rows:
            if i < half:
                bids[i] = max(exploring[i], log.floor[i], 1)
                continue
            wanted = (log.place[i], log.segment[i], "*/banner", "*")
            source = next((name for name in wanted if name in published), "")
            if source not in tables:
                tables[source] = curve_table(published.get(source))
            low = float(max(log.floor[i], 1)) * NANOS_PER_FEN
            paced = value[i] * NANOS_PER_FEN
            if low < paced:
                bids[i] = min(int(best_price(tables[source], paced, low)) // NANOS_PER_FEN, PRICE_MAX)
        for i in rows:
            if bids[i] <= 0:
                continue
            won = bool(bids[i] >= log.price[i])
            curves.add(
                log.segment[i],
                int(bids[i]) * NANOS_PER_FEN,
                won,
                max(int(log.price[i]) * NANOS_PER_FEN, 1) if told else None,
                floor_nanos=int(log.floor[i]) * NANOS_PER_FEN,
                also=log.place[i] if placed else "",
            )
        curves.refresh()
    return bids[half:]
