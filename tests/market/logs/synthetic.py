"""Small logs with a known optimum, and the real ones where they are."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from counterpoint.market.logs.read import EPISODES, TIMED, AuctionLog

HEADER = "click,market_price,pctr,hour,exchange"


def make_log(n: int, seed: int = 1, kind: str = TIMED, shape: float = 1.0) -> AuctionLog:
    """Prices uniform on 1..200, independent of the prediction; predictions lognormal."""
    generator = np.random.default_rng(seed)
    pctr = np.minimum(1e-3 * np.exp(shape * generator.standard_normal(n)), 1.0)
    return AuctionLog(
        name=f"synthetic-{seed}",
        kind=kind,
        market_price=generator.integers(1, 201, n),
        click=(generator.random(n) < pctr).astype(np.int64),
        pctr=pctr,
        time=np.arange(n, dtype=np.int64) * 10 // n if kind == TIMED else np.arange(n, dtype=np.int64) // 100,
        exchange=generator.integers(0, 3, n),
    )


def write_csv(path: Path, rows: list[str], header: str = HEADER) -> Path:
    text = "\n".join([header, *rows]) + "\n"
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, "utf-8")
    return path


def shared(*parts: str) -> Path:
    """A file of the shared material; the test is skipped where there is none."""
    given = os.environ.get("COUNTERPOINT_SHARED")
    folder = Path(given) if given else Path(__file__).parents[3] / ".." / "shared"
    path = folder.joinpath("data", *parts)
    if not path.exists():
        pytest.skip(f"{'/'.join(parts)} not there")
    return path


__all__ = ["EPISODES", "HEADER", "TIMED", "make_log", "shared", "write_csv"]
