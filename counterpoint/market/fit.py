"""The default scenarios' figures from real logs, and the distance of the simulated market from them.

Reads the files under ``--data`` (iPinYou, Avito, TalkingData; layouts as in their sources), writes none of them.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from statistics import NormalDist
from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from counterpoint.base.errors import ConfigError
from counterpoint.market.estimate import Distance, Mixture, distance, fit_mixture
from counterpoint.market.load import scenario_named
from counterpoint.market.scenario import Mass, resized
from counterpoint.market.world import MICROS, World

RAW: Final = ("ipinyou_raw/2259_log_1019_1022.csv.gz", "ipinyou_raw/2821_imp_20131021.csv.gz")
HISTOGRAMS: Final = "ipinyou_price_histograms/train_price_counts.csv.gz"
TIMED: Final = "ipinyou_timed/1458_first220k.csv.gz"
TRAFFIC: Final = "avito_traffic_share/traffic_share.csv.gz"
DELAYS: Final = "talkingdata_clicks/clicks_1106_1108.csv.gz"
PRICE_MAX: Final = 276.0  # the least flat bid behind the raw logs less one: nothing above was surely seen
SHRINK: Final = 2.0  # a page's mean leans on this many prices of score 0
EXPLAINED_MEAN: Final = 0.6  # of the exchanges, rounded
FIT_SCENARIO: Final = "stationary-v1"
FIT_SEED: Final = 77
FIT_AUCTIONS: Final = 400_000

_NORMAL = NormalDist()

Floats = NDArray[np.float64]

# supply path of the scenario -> its price log: an exchange of the raw logs, or a campaign's histogram
PRICE_LOGS: Final = {
    "northstar/banner": "exchange 1",
    "northstar/native": "exchange 3",
    "harbour/banner": "exchange 2",
    "northstar/video": "campaign 2997",
    "airwave/audio": "campaign 3358",
}


class PriceLog(Struct, frozen=True):
    values: Floats  # whole units
    counts: Floats
    floors: Floats | None  # parallel; None: not logged


class Fit(Struct, frozen=True):
    """One fitted thing: what was read, what the world makes of it, how far apart."""

    name: str
    source: str
    unit: str
    real: Floats
    real_counts: Floats
    simulated: Floats
    apart: Distance
    logs_apart: Distance | None  # between two real logs of the kind: what a distance means
    toml: str


def fit_all(data: Path) -> list[Fit]:
    """Every fit against the logs under ``data``. Raises :class:`ConfigError` naming a file that is not there."""
    scenario = resized(scenario_named(FIT_SCENARIO), FIT_AUCTIONS)
    world = World(scenario, FIT_SEED)
    auctions = world.batch(0, scenario.auctions)
    threshold = world.truth(auctions).threshold_micros
    fits = []
    for n, path in enumerate(scenario.supply):
        name = f"{path.venue}/{path.media.value}"
        if name not in PRICE_LOGS:
            continue
        log = price_log(data, PRICE_LOGS[name])
        mixture, floors = fit_prices(log)
        simulated = np.ceil(threshold[auctions.supply == n] / (path.prices.unit_cpm * MICROS) - 1e-6)
        seen = log.values <= PRICE_MAX
        values, counts = log.values[seen], log.counts[seen]
        simulated = simulated[simulated <= PRICE_MAX]
        fits.append(
            Fit(
                f"price {name}",
                f"iPinYou {PRICE_LOGS[name]}",
                "fen CPM",
                values,
                counts,
                simulated,
                distance(values, simulated, counts),
                _between_logs(data, PRICE_LOGS[name]),
                _explained_line(data, PRICE_LOGS[name]) + prices_toml(mixture, floors),
            )
        )
    fits.append(_traffic(data, auctions.hour_of_week))
    fits.append(_delays(data, world))
    return fits


# ---- prices


def price_log(data: Path, name: str, files: tuple[str, ...] = RAW) -> PriceLog:
    kind, which = name.split(" ")
    if kind == "campaign":
        rows = [r for r in read(data / HISTOGRAMS) if r["campaign"] == which and int(r["count"]) > 0]
        values = np.array([float(r["market_price"]) for r in rows])
        return PriceLog(values, np.array([float(r["count"]) for r in rows]), None)
    pairs = [
        (float(r["slotprice"]), float(r["payprice"]))
        for file in files
        for r in read(data / file)
        if r["adexchange"] == which
    ]
    unique, counts = np.unique(np.array(pairs), axis=0, return_counts=True)
    return PriceLog(unique[:, 1], counts.astype(np.float64), unique[:, 0])


def fit_prices(log: PriceLog) -> tuple[Mixture, tuple[Mass, ...]]:
    """Rivals under the floors, and the floors. Where no floor is logged it is part of the price's point masses."""
    mixture = fit_mixture(log.values, log.counts, log.floors, parts=4)
    if log.floors is None or not log.floors.any():
        return mixture, ()
    total = log.counts.sum()
    floors = []
    for floor in np.unique(log.floors).tolist():
        weight = float(log.counts[log.floors == floor].sum() / total)
        if weight >= 0.002:
            floors.append(Mass(weight=round(weight, 4), at=floor))
    return mixture, tuple(floors)


def prices_toml(mixture: Mixture, floors: tuple[Mass, ...]) -> str:
    parts = ", ".join(
        f"{{ weight = {c.weight}, median = {c.median}, sigma = {c.sigma} }}" for c in mixture.components
    )
    lines = [f"components = [{parts}]"]
    for key, masses in (("masses", mixture.masses), ("floors", floors)):
        if masses:
            inner = ", ".join(f"{{ weight = {m.weight}, at = {m.at:g} }}" for m in masses)
            lines.append(f"{key} = [{inner}]")
    return "\n".join(lines)


def _between_logs(data: Path, name: str) -> Distance:
    """The same exchange seen by two campaigns, or a campaign's histogram against another's."""
    if name.startswith("exchange"):
        one, other = (price_log(data, name, (file,)) for file in RAW)
    else:
        one, other = price_log(data, name), price_log(data, "campaign 3427")
    return distance(one.values, other.values, one.counts, other.counts)


def explained(data: Path, which: str) -> float:
    """Correlation of a price's normal score with the mean score of the other prices of its domain and slot."""
    rows = [r for file in RAW for r in read(data / file) if r["adexchange"] == which]
    prices = np.array([float(r["payprice"]) for r in rows])
    ranks = np.argsort(np.argsort(prices, kind="stable"), kind="stable")
    scores = np.array([_NORMAL.inv_cdf((rank + 0.5) / ranks.size) for rank in ranks.tolist()])
    _, place = np.unique([f"{r['domain']} {r['slotid']}" for r in rows], return_inverse=True)
    sums, counts = np.bincount(place, scores), np.bincount(place)
    others = (sums[place] - scores) / (counts[place] - 1 + SHRINK)
    return float(np.corrcoef(others, scores)[0, 1])


def _explained_line(data: Path, name: str) -> str:
    kind, which = name.split(" ")
    return f"explained = {explained(data, which):.2f}\n" if kind == "exchange" else ""


# ---- traffic


def traffic_shape(data: Path) -> tuple[Floats, Floats]:
    """(mean share by hour of the week, Monday first; shares by region, one row each)."""
    regions: dict[str, Floats] = {}
    for row in read(data / TRAFFIC):
        shares = regions.setdefault(row["region_id"], np.zeros(168))
        shares[(int(row["dow"]) - 1) * 24 + int(row["hour"])] = float(row["traffic_share"])
    every = np.array(list(regions.values()))
    return every.mean(axis=0), every


def _traffic(data: Path, hours: NDArray[np.int16]) -> Fit:
    shape, regions = traffic_shape(data)
    week = np.arange(168.0)
    simulated = hours.astype(np.float64)
    apart = distance(week, simulated, shape * 1e6)
    of_regions = [distance(week, week, region * 1e6, shape * 1e6) for region in regions]
    middle = sorted(of_regions, key=lambda d: d.ks)[len(of_regions) // 2]
    rows = [
        "  " + ", ".join(f"{share:.6f}" for share in shape[day * 24 : day * 24 + 24]) + ","
        for day in range(7)
    ]
    peak = f"peak_price = {peak_weight(data, EXPLAINED_MEAN):.2f}\n"
    toml = peak + "hour_of_week = [\n" + "\n".join(rows) + "\n]"
    return Fit(
        "traffic by hour of week",
        "Avito, 114 regions",
        "hours",
        week,
        shape * 1e6,
        simulated,
        apart,
        middle,
        toml,
    )


# ---- delays


def conversion_delays(data: Path) -> Floats:
    """Seconds from click to install."""
    found = []
    for row in read(data / DELAYS):
        if row["is_attributed"] == "1":
            clicked = datetime.fromisoformat(row["click_time"])
            found.append((datetime.fromisoformat(row["attributed_time"]) - clicked).total_seconds())
    return np.array(found)


def _delays(data: Path, world: World) -> Fit:
    real = conversion_delays(data)
    ones = np.ones(real.shape)
    mixture = fit_mixture(real, ones, parts=2, spikes=False)
    grid = (np.arange(200_000) + 0.5) / 200_000
    z = np.array([_NORMAL.inv_cdf(u) for u in grid[::20].tolist()])
    simulated = world.delays.values(z)
    half = real[::2], real[1::2]
    return Fit(
        "delay click to conversion",
        "TalkingData, 168 installs",
        "s",
        real,
        ones,
        simulated,
        distance(real, simulated),
        distance(*half),
        prices_toml(mixture, ()),
    )


def read(path: Path) -> Iterator[dict[str, str]]:
    """Rows of a gzipped CSV with a header."""
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
            yield from csv.DictReader(lines)
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror or error}); --data must name the folder of the logs"
        ) from error
    except (EOFError, zlib.error, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is cut off or no gzip ({error}); fetch it again") from error


def peak_weight(data: Path, explained: float) -> float:
    """``traffic.peak_price``: correlation of the hour's traffic with the price's normal score, over what is explained."""
    rows = [(int(r["hour"]), float(r["market_price"])) for r in read(data / TIMED) if r["exchange"]]
    hours, prices = np.array([h for h, _ in rows]), np.array([p for _, p in rows])
    volume = np.bincount(hours)[hours].astype(np.float64)
    ranks = np.argsort(np.argsort(prices, kind="stable"), kind="stable")
    scores = (ranks - ranks.mean()) / ranks.std()  # Spearman: near enough to normal scores
    return float(np.mean((volume - volume.mean()) / volume.std() * scores) / explained)
