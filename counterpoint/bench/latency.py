"""``counterpoint bench latency``: what a bid request costs, end to end over HTTP, against a bare server and nginx.

One core serves, another makes the load. CPU is the server's own (all its threads, from /proc), per answered request;
latency is open loop at half of saturation, counted from the intended send time. Ratios compare with servers that ran
in the same run on the same cores: ``ratio_bare`` and ``ratio_nginx`` are requests answered a second over theirs.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from counterpoint.bench import workload
from counterpoint.bench.bare import BareConfig
from counterpoint.bench.bidder import BidderConfig
from counterpoint.bench.loadgen import Load, Outcome
from counterpoint.bench.process import BenchFailed, Part, cores, cpu_s, rss_mb, settle

SIZES: Final = (1_000, 10_000, 100_000)
MAIN_SIZE: Final = 10_000
BID_PATH: Final = f"/openrtb2/bid/{workload.EXCHANGE}"
HALF: Final = 0.5


class LatencyConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    line_items: tuple[int, ...] = SIZES
    seconds: float = 4.0  # of each measurement
    warm_s: float = 1.0
    connections: int = 16
    bodies: int = 10_000  # distinct requests
    swaps: int = 1_000  # Views, for the memory
    stage_requests: int = 4_000
    disturbances: bool = True  # p99 while policies are swapped and while the bus is dead


class Measured(Struct, frozen=True, kw_only=True):
    """One server under load: at saturation (closed loop), then at half of it (open loop)."""

    answered_per_s: float
    cpu_us_per_request: float
    helper_cpu_us_per_request: float  # the bus's server
    loadgen_cpu_us_per_request: float
    offered_per_s: float
    latency_ms: dict[str, float]
    status: dict[str, int]
    unsent: int


def _drive(load: Load) -> Outcome:
    """In a process of its own: the load must not share an interpreter with us."""
    made = subprocess.run(
        [sys.executable, "-m", "counterpoint.bench.loadgen"],
        input=msgspec.json.encode(load),
        capture_output=True,
    )
    if made.returncode:
        raise BenchFailed(f"the load generator failed: {made.stderr.decode('utf-8', 'replace')[-2_000:]}")
    return msgspec.json.decode(made.stdout, type=Outcome)


def _load(port: int, config: LatencyConfig, rate: float | None, path: str = BID_PATH) -> Load:
    return Load(
        port=port,
        path=path,
        connections=config.connections if rate is None else config.connections * 4,
        seconds=config.seconds,
        warm_s=config.warm_s,
        rate=rate,
        bodies=config.bodies,
        core=cores()[1],
    )


def _quantiles(outcome: Outcome) -> dict[str, float]:
    return {
        "p50": round(outcome.p50_ms, 4),
        "p99": round(outcome.p99_ms, 4),
        "p999": round(outcome.p999_ms, 4),
    }


def _measure(port: int, pids: tuple[int, ...], helper: int | None, config: LatencyConfig) -> Measured:
    """CPU over the whole closed-loop run, warm-up included, over the requests sent in it."""
    cpu_before = sum(map(cpu_s, pids))
    helper_before = cpu_s(helper) if helper is not None else 0.0
    closed = _drive(_load(port, config, None))
    cpu = sum(map(cpu_s, pids)) - cpu_before
    helper_cpu = (cpu_s(helper) if helper is not None else 0.0) - helper_before
    settle()
    rate = closed.answered_per_s * HALF
    opened = _drive(_load(port, config, rate))
    return Measured(
        answered_per_s=round(closed.answered_per_s, 1),
        cpu_us_per_request=round(cpu * 1e6 / closed.sent, 2),
        helper_cpu_us_per_request=round(helper_cpu * 1e6 / closed.sent, 2),
        loadgen_cpu_us_per_request=round(closed.cpu_us_per_request, 2),
        offered_per_s=round(rate, 1),
        latency_ms=_quantiles(opened),
        status=closed.status,
        unsent=opened.unsent,
    )


# ---- baselines


def _bare(config: LatencyConfig) -> Measured:
    with Part("counterpoint.bench.bare", BareConfig(), cores()[0]) as part:
        return _measure(int(part.ready["port"]), (part.pid,), None, config)


@contextlib.contextmanager
def _nginx(binary: str) -> Iterator[tuple[int, tuple[int, ...]]]:
    """nginx with one worker that answers ``return 200``: its port, and the pids whose CPU counts."""
    port = _free_port()
    with tempfile.TemporaryDirectory(prefix="counterpoint-nginx-") as folder:
        conf = Path(folder) / "nginx.conf"
        conf.write_text(
            f"daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;\n"
            "events { worker_connections 1024; }\n"
            "http { access_log off; keepalive_requests 1000000000; client_body_buffer_size 64k;\n"
            f"client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;\n"
            f"fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;\n"
            f"server {{ listen 127.0.0.1:{port} backlog=1024; location / {{ return 200; }} }} }}\n"
        )
        process = subprocess.Popen(
            ["taskset", "-c", str(cores()[0]), binary, "-c", str(conf), "-p", folder],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            settle(0.5)
            workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            yield port, (process.pid, *map(int, workers))
        finally:
            process.terminate()
            process.wait(10)


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _measure_nginx(config: LatencyConfig) -> Measured | None:
    binary = shutil.which("nginx")
    if binary is None or shutil.which("taskset") is None:
        return None
    with _nginx(binary) as (port, pids):
        return _measure(port, pids, None, config)


# ---- the bidder


def _bidder(line_items: int, config: LatencyConfig, bare: Measured, nginx: Measured | None) -> dict[str, Any]:
    server_core, helpers_core = cores()
    with Part(
        "counterpoint.bench.bidder",
        BidderConfig(line_items=line_items, helpers_core=helpers_core),
        server_core,
    ) as part:
        port = int(part.ready["port"])
        nats = part.ready["nats_pid"]
        measured = _measure(port, (part.pid,), nats, config)
        figures = part.ask({"do": "figures"})
        result: dict[str, Any] = {
            "cpu_us_per_request": measured.cpu_us_per_request,
            "answered_per_s": measured.answered_per_s,
            "ratio_nginx": round(measured.answered_per_s / nginx.answered_per_s, 3) if nginx else None,
            "ratio_bare": round(measured.answered_per_s / bare.answered_per_s, 3),
            "latency_ms": measured.latency_ms,
            "offered_per_s": measured.offered_per_s,
            "helper_cpu_us_per_request": measured.helper_cpu_us_per_request,
            "loadgen_cpu_us_per_request": measured.loadgen_cpu_us_per_request,
            "status": measured.status,
            "unsent": measured.unsent,
            "bid_share": round(figures["bid_requests"] / max(1, figures["requests"]), 4),
            "no_bids": figures["no_bids"],
            "shed": figures["shed"],  # answered 204 before anything was decided: an overloaded machine
            "events_sent": figures["events_sent"],
            "events_shed": figures["events_shed"],
            "failed_assertions": figures["failed_assertions"],
            "rss_mb": round(rss_mb(part.pid), 1),
            "stages_us": {
                name: round(value, 2)
                for name, value in part.ask({"do": "stages", "requests": config.stage_requests}).items()
            },
            "workload": part.ask({"do": "eligible", "requests": min(1_000, config.stage_requests)}),
        }
        if config.disturbances and line_items == MAIN_SIZE:
            result |= _disturbed(part, port, measured, config)
    return result


def _disturbed(part: Part, port: int, measured: Measured, config: LatencyConfig) -> dict[str, Any]:
    """Latency while policies are swapped, memory over many swaps, latency with the bus dead."""
    rate = measured.offered_per_s
    part.ask({"do": "swaps", "every_s": 0.5})
    swapping = _drive(_load(port, config, rate))
    part.ask({"do": "swaps_end"})
    settle()
    memory = part.ask({"do": "swap_many", "count": config.swaps})
    part.ask({"do": "kill_bus"})
    dead = _drive(_load(port, config, rate))
    return {
        "latency_ms_while_swapping": _quantiles(swapping),
        "latency_ms_bus_dead": _quantiles(dead),
        "memory_over_swaps": memory,
    }


def _events_share(config: LatencyConfig) -> dict[str, float]:
    """CPU of a request with event logging and without, at the main size."""
    spent: dict[bool, float] = {}
    server_core, helpers_core = cores()
    for events in (True, False):
        bidder = BidderConfig(line_items=MAIN_SIZE, events=events, helpers_core=helpers_core)
        with Part("counterpoint.bench.bidder", bidder, server_core) as part:
            before = cpu_s(part.pid)
            outcome = _drive(_load(int(part.ready["port"]), config, None))
            spent[events] = (cpu_s(part.pid) - before) * 1e6 / outcome.sent
    return {
        "cpu_us_with_events": round(spent[True], 2),
        "cpu_us_without_events": round(spent[False], 2),
        "share": round(1.0 - spent[False] / spent[True], 4),
    }


def run(json_out: Path | None = None, config: LatencyConfig | None = None) -> dict[str, Any]:
    """Measure and return the report; write it to ``json_out`` too.

    The keys of the issue stand at the top for the main size and under ``by_line_items`` for each size."""
    config = config if config is not None else LatencyConfig()
    bare = _bare(config)
    nginx = _measure_nginx(config)
    by_size = {str(size): _bidder(size, config, bare, nginx) for size in config.line_items}
    main_size = str(MAIN_SIZE if MAIN_SIZE in config.line_items else config.line_items[0])
    head = by_size[main_size]
    report: dict[str, Any] = {
        "workload": workload.NAME,
        "line_items": int(main_size),
        **{
            key: head[key]
            for key in (
                "cpu_us_per_request",
                "answered_per_s",
                "ratio_nginx",
                "ratio_bare",
                "latency_ms",
                "stages_us",
                "bid_share",
                "rss_mb",
            )
        },
        "by_line_items": by_size,
        "bare": msgspec.to_builtins(bare),
        "nginx": msgspec.to_builtins(nginx),
        "seconds": config.seconds,
        "cores": list(cores()),
    }
    if config.disturbances:
        report["event_logging"] = _events_share(config)
    if json_out is not None:
        json_out.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    return report


def main() -> None:
    """``python -m counterpoint.bench.latency [OUT.json] [CONFIG as JSON]``"""
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    config = msgspec.json.decode(sys.argv[2], type=LatencyConfig) if len(sys.argv) > 2 else None
    print(msgspec.json.format(msgspec.json.encode(run(out, config)), indent=2).decode())


if __name__ == "__main__":
    main()
