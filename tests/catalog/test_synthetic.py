"""The catalog of the benchmark: frozen by its seed, and as selective at every size as it says."""

from __future__ import annotations

from statistics import median

import pytest

from counterpoint.catalog.index import (
    AvOffer,
    BannerOffer,
    NativeOffer,
    compile_index,
    fill_fit,
    fill_query,
)
from counterpoint.catalog.synthetic import synthetic_catalog, synthetic_requests


def test_the_same_seed_makes_the_same_catalog() -> None:
    assert synthetic_catalog(500, creatives=400, seed=7) == synthetic_catalog(500, creatives=400, seed=7)
    assert (
        synthetic_catalog(500, creatives=400, seed=7).digest
        != synthetic_catalog(500, creatives=400, seed=8).digest
    )
    assert synthetic_requests(50, seed=3) == synthetic_requests(50, seed=3)


@pytest.mark.parametrize("line_items", [1_000, 10_000, 100_000])
def test_a_typical_request_finds_a_few_dozen_line_items(line_items: int) -> None:
    index = compile_index(synthetic_catalog(line_items))
    query, fit, scratch = index.new_query(), index.new_fit(), index.new_scratch()
    eligible: list[int] = []
    candidates: list[int] = []
    for r in synthetic_requests(300):
        fill_query(
            index, query, exchange=r.exchange, media=(r.media,), sizes=r.sizes, country=r.country, region=r.region,
            device_type=r.device_type, os=r.os, channel=r.channel, domain=r.domain, bundle=r.bundle,
            categories=r.categories, hour_of_week=r.hour_of_week, language=r.language, now_ns=1,
        )  # fmt: skip
        n = index.eligible(query, scratch)
        fill_fit(
            index,
            fit,
            banner=BannerOffer(sizes=r.sizes) if r.media == "banner" else None,
            video=AvOffer(mimes=("video/mp4",), protocols=(2, 3), max_s=30) if r.media == "video" else None,
            native=NativeOffer(title_len=90) if r.media == "native" else None,
        )
        eligible.append(n)
        candidates.append(index.fitting(n, fit, scratch))
    assert 20 <= median(eligible) <= 100
    assert median(candidates) >= 100
    assert sum(m == 0 for m in candidates) <= 0.05 * len(candidates)
    assert index.nbytes() < 100_000_000
