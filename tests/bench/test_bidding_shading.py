"""The shading parts on small worlds: they measure what they say, and say what is missing."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from counterpoint.bench.bidding.closed_loop import ClosedLoop
from counterpoint.bench.bidding.curve_markets import MARKETS, Market, best_on_known_curve, surplus, values_of
from counterpoint.bench.bidding.raw_lines import read_raw, shares_by_block
from counterpoint.bench.bidding.shading import shading
from counterpoint.bench.bidding.shock import auctions_until
from counterpoint.bench.bidding.simulated import simulated
from counterpoint.bench.bidding.verdict import Context
from counterpoint.market.logs.table import LogError

HEAD = "timestamp,logtype,adexchange,slotid,domain,slotprice,payprice"


def raw_file(path: Path, rows: list[str]) -> Path:
    with gzip.open(path, "wt") as file:
        file.write("\n".join([HEAD, *rows]) + "\n")
    return path


def test_placements_and_floors_are_worth_money(tmp_path: Path) -> None:
    """Two places with prices apart: who tells them apart earns more, and nobody more than perfect information."""
    rng = np.random.default_rng(1)
    rows = []
    for i in range(3_000):
        cheap = rng.random() < 0.5
        price = int(rng.integers(20, 30) if cheap else rng.integers(80, 90))
        rows.append(f"{20131021000000000 + i},1,1,s,{'a' if cheap else 'b'},{10 if cheap else 80},{price}")
    log = read_raw(raw_file(tmp_path / "x.csv.gz", rows))
    names = ("constant-shade", "unconditional-shade", "ours, no placement", "ours")
    sums = {name: float(of.sum()) for name, of in shares_by_block(log, names, 1).items()}
    assert sums["ours"] > 1.03 * sums["ours, no placement"]
    assert sums["ours"] > 1.1 * sums["constant-shade"]
    assert max(sums.values()) == sums["perfect"]


def test_a_broken_raw_line_is_refused_with_its_file(tmp_path: Path) -> None:
    path = raw_file(tmp_path / "y.csv.gz", ["1,1,1,a,d,0,x"])
    with pytest.raises(LogError, match=r"y\.csv\.gz"):
        read_raw(path)


def test_without_data_shading_says_what_it_would_take() -> None:
    result = shading(Context(seeds=(1,)))
    assert result.verdicts == ()
    assert "--data" in result.skipped[0]


@pytest.mark.parametrize("market", MARKETS, ids=lambda m: m.name)
def test_nothing_simple_beats_the_known_curve(market: Market) -> None:
    rng = np.random.default_rng(3)
    values, (rivals, floors) = values_of(rng, 3_000), market.draw(rng, 3_000)
    known = best_on_known_curve(values, rivals, floors, market.draw(rng, 50_000)[0])
    for share in (0.3, 0.5, 0.7, 0.9):
        bids = np.where(values > floors, np.maximum(values * share, floors), 0.0)
        assert surplus(bids, values, rivals, floors) < 1.02 * known


def test_the_closed_loop_learns_and_notices_a_shock() -> None:
    loop = ClosedLoop(MARKETS[0], "told always", 1)
    ignorant = loop.share()
    for _ in range(8):
        loop.live(100)
    learned = loop.share()
    loop.change(3.0)
    assert ignorant < 0.8 < 0.95 < learned
    assert loop.share() < learned - 0.05


def test_recovered_means_twice_in_a_row() -> None:
    assert auctions_until([0.2, 0.96, 0.5, 0.97, 0.98], 0.95) == 300.0
    assert auctions_until([0.2, 0.3], 0.95) == 100.0


def test_a_quick_run_gives_no_verdict() -> None:
    result = simulated(Context(seeds=(1,), quick=True))
    assert {v.line(quick=True) for v in result.verdicts} == {"quick run: no verdict"}
