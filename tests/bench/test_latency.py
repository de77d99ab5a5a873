"""The latency benchmark runs, over real sockets and the real bus, and says all that it must. Nothing here is timed."""

from __future__ import annotations

from pathlib import Path

import msgspec

from counterpoint.bench.latency import LatencyConfig, run


def test_a_short_run_says_all_that_it_must(tmp_path: Path) -> None:
    out = tmp_path / "latency.json"
    config = LatencyConfig(
        line_items=(1_000,),
        seconds=0.5,
        warm_s=0.1,
        connections=4,
        bodies=300,
        swaps=3,
        stage_requests=200,
        disturbances=False,
    )
    report = run(out, config)
    assert msgspec.json.decode(out.read_bytes()) == msgspec.to_builtins(report)
    for key in ("cpu_us_per_request", "answered_per_s", "ratio_bare", "latency_ms", "stages_us", "rss_mb"):
        assert report[key], key
    assert "ratio_nginx" in report
    assert set(report["latency_ms"]) == {"p50", "p99", "p999"}
    assert set(report["stages_us"]) == {"decode", "eligible", "choose", "price", "commit", "encode"}
    size = report["by_line_items"]["1000"]
    assert report["bid_share"] >= 0.8
    assert size["workload"]["eligible_median"] >= 20
    assert size["workload"]["scored_median"] >= 100
    assert size["failed_assertions"] == 0
    assert set(size["status"]) <= {"200", "204"}
    assert size["events_sent"] > 0
    assert size["events_shed"] == 0
