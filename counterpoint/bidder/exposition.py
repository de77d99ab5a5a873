"""What the outside may see of a bidder: the Prometheus page, and the status that the console reads. Both are made when
asked for, from plain counters that the hot path keeps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector, CollectorRegistry

from counterpoint.bidder.conversions import ConversionDesk
from counterpoint.bidder.engine import Engine
from counterpoint.bidder.message import HttpCounters
from counterpoint.bidder.metrics import Histogram, merged, upper_edge_ns
from counterpoint.bidder.notices import NoticeOutcome
from counterpoint.bidder.routes import RouteCounters
from counterpoint.bidder.signing import NoticeKind
from counterpoint.bidder.tracker import Tracker

LABELS_MAX: Final = 1_000  # values of one label on the page; the rest is summed up as "other"
NS_PER_S: Final = 1_000_000_000
AGENTS: Final = ("budget", "bidding", "creative", "feedback")


class Exposition(Collector):
    """Reads the parts of one bidder; owns nothing."""

    def __init__(
        self,
        *,
        engine: Engine,
        tracker: Tracker,
        conversions: ConversionDesk,
        http: HttpCounters,
        routes: RouteCounters,
        latency: Mapping[str, Histogram],
        incarnation: str,
        started_at_ns: int,
    ) -> None:
        self.engine = engine
        self.tracker = tracker
        self.conversions = conversions
        self.http = http
        self.routes = routes
        self.latency = latency
        self.incarnation = incarnation
        self.started_at_ns = started_at_ns
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def page(self) -> bytes:
        return generate_latest(self._registry)

    # ---- the console

    def counts(self) -> dict[str, int]:
        """Since this incarnation started."""
        per_exchange = self.engine.counts.values()
        notices = self.tracker.counters.notices
        wins = notices[NoticeKind.WIN]
        return {
            "requests": sum(c.requests for c in per_exchange) + self.routes.shed.total(),
            "bid_requests": sum(c.bid_requests for c in per_exchange),
            "bids": sum(c.bids for c in per_exchange),
            "tests": sum(c.tests for c in per_exchange),
            "shed": self.routes.shed.total(),
            "wins": wins[NoticeOutcome.INFORMED] + wins[NoticeOutcome.SETTLED],
            "losses": notices[NoticeKind.LOSS][NoticeOutcome.INFORMED],
            "settled": sum(n[NoticeOutcome.SETTLED] for n in notices.values()),
            "impressions": _new(notices[NoticeKind.IMPRESSION]),
            "clicks": _new(notices[NoticeKind.CLICK]),
            "skips": _new(notices[NoticeKind.SKIP]),
            "conversions": self.conversions.counters["attributed"]
            + self.conversions.counters["unattributed"],
            "conversions_attributed": self.conversions.counters["attributed"],
            "settled_nanos": self.tracker.counters.settled_nanos,
            "excess_nanos": self.tracker.counters.excess_nanos,
        }

    def status(self, waiting_for: Sequence[str], now_ns: int) -> dict[str, Any]:
        """For ``/control/status``. Latencies in microseconds; money in nanos of the account currency."""
        view = self.engine.view
        latency = merged(self.latency.values())
        spool = self.tracker.committer.spool
        committer = self.tracker.committer.counters
        return {
            "bidder_id": self.engine.bidder_id,
            "incarnation": self.incarnation,
            "uptime_s": (now_ns - self.started_at_ns) // NS_PER_S,
            "ready": not waiting_for,
            "waiting_for": list(waiting_for),
            "counts": self.counts(),
            "latency_us": {
                name: latency.percentile(share) / 1_000
                for name, share in (("p50", 0.5), ("p99", 0.99), ("p999", 0.999))
            },
            "no_bids": self.no_bids(),
            "exchanges": {
                name: {"requests": c.requests, "bids": c.bids}
                for name, c in list(self.engine.counts.items())[:LABELS_MAX]
            },
            "allowances": dict(self.engine.book.figures()),
            "view": {
                "digest": view.digest,
                "swaps": self.engine.swaps,
                "catalog": view.part.digest,
                "line_items": len(view.part.line_items),
                "stopped": view.stopped,
                "stops": sorted(view.inputs.stops),
                "quarantined": sorted(view.inputs.quarantined),
            },
            "policies": {
                agent: policy.version for agent in AGENTS if (policy := view.policy(agent)) is not None
            },
            "spool": {
                "bytes": spool.bytes_used,
                "bytes_max": spool.bytes_max,
                "damaged": spool.damaged,
                "batches_spooled": committer.batches_spooled,
                "batches_drained": committer.drained_batches,
                "refused": committer.batches_refused,
                "not_durable": committer.not_durable,
                "pending": self.tracker.committer.pending,
            },
            "bus_connected": self.tracker.committer.bus.connected(),
            "attribution": self.tracker.attribution.figures(),
            "connections": self.http.connections,
        }

    def no_bids(self) -> dict[str, int]:
        """By reason, over all exchanges."""
        found = self.engine.no_bids()
        if self.routes.shed:
            found["overload"] = found.get("overload", 0) + self.routes.shed.total()
        return dict(sorted(found.items()))

    # ---- Prometheus

    def collect(self) -> Iterator[Metric]:
        yield from self._bids()
        yield from self._notices()
        yield from self._money()
        yield from self._http()

    def _bids(self) -> Iterator[Metric]:
        engine = self.engine
        requests = CounterMetricFamily("counterpoint_bid_requests", "Bid requests.", labels=["exchange"])
        bids = CounterMetricFamily("counterpoint_bids", "Bids answered.", labels=["exchange"])
        no_bids = CounterMetricFamily(
            "counterpoint_no_bids", "Requests without a bid, by reason.", labels=["exchange", "reason"]
        )
        for name, counts in _bounded(engine.counts):
            requests.add_metric([name], counts.requests)
            bids.add_metric([name], counts.bids)
            for reason, n in counts.no_bids.items():
                no_bids.add_metric([name, reason.value], n)
        yield requests
        yield bids
        yield no_bids
        yield _counter("bids_shed", "Answered 204 before reading, by exchange.", "exchange", self.routes.shed)
        yield _counter(
            "envelope_faults", "Bodies that could not be opened.", "fault", self.routes.envelope_faults
        )
        yield _plain("unknown_exchange", "Bid requests for no known exchange.", self.routes.unknown_exchange)
        yield _plain("not_found", "Requests for no page of ours.", self.routes.not_found)
        yield _plain(
            "method_not_allowed", "Methods that a page does not take.", self.routes.method_not_allowed
        )
        yield _plain("failed_assertions", "Requests ended by an assertion.", engine.failed_assertions)
        yield _plain("crashed_bids", "Requests ended by an unexpected error.", self.routes.crashed_bids)
        yield _plain("view_swaps", "Views put into use.", engine.swaps)
        seconds = HistogramMetricFamily(
            "counterpoint_bid_latency_seconds",
            "From the first byte read to the answer written.",
            labels=["exchange"],
        )
        for name, histogram in _bounded(self.latency):
            seconds.add_metric(
                [name], buckets=list(_buckets(histogram)), sum_value=histogram.total_ns / NS_PER_S
            )
        yield seconds

    def _notices(self) -> Iterator[Metric]:
        tracker = self.tracker.counters
        notices = CounterMetricFamily(
            "counterpoint_notices", "Notices and tracking requests.", labels=["kind", "outcome"]
        )
        for kind, outcomes in tracker.notices.items():
            for outcome, n in outcomes.items():
                notices.add_metric([kind.value, str(outcome)], n)
        yield notices
        yield _counter("bad_tokens", "Notice URLs that are not ours.", "why", tracker.bad_tokens)
        yield _counter(
            "notice_anomalies", "Settling notices with something wrong.", "anomaly", tracker.anomalies
        )
        yield _counter("conversions", "Conversion posts.", "status", self.conversions.counters)
        yield _plain("facts_shed", "Events about notices that were shed.", tracker.facts_shed)
        yield _plain("touches_evicted", "Clicks and views forgotten early.", self.tracker.attribution.evicted)

    def _money(self) -> Iterator[Metric]:
        tracker = self.tracker.counters
        committer = self.tracker.committer
        yield _plain("settled_nanos", "Nano-units of account currency settled.", tracker.settled_nanos)
        yield _plain("excess_nanos", "Claimed above the signed price, not booked.", tracker.excess_nanos)
        for name in type(committer.counters).__slots__:
            yield _plain(f"commit_{name}", "Group commit of notices.", getattr(committer.counters, name))
        yield _gauge("commit_pending", "Notices not yet durable.", committer.pending)
        yield _gauge("spool_bytes", "Bytes waiting in the spool.", committer.spool.bytes_used)
        yield _gauge("bus_connected", "1: the bus is there.", int(committer.bus.connected()))
        for name, value in self.engine.book.figures().items():
            yield _gauge(f"allowance_{name}", "The money this bidder holds.", value)

    def _http(self) -> Iterator[Metric]:
        http = self.http
        yield _gauge("http_connections", "Open connections.", http.connections)
        yield _plain("http_accepted", "Connections accepted.", http.accepted)
        yield _plain("http_requests", "HTTP requests.", http.requests)
        yield _plain("http_crashed", "Requests answered 500.", http.crashed)
        yield _plain("http_protocol_errors", "Not HTTP.", http.protocol_errors)
        yield _plain("http_refused_connections", "Beyond the bound.", http.refused_connections)
        yield _plain("http_timed_out", "Idle, slow or not reading.", http.timed_out)
        yield _counter(
            "http_refused_requests",
            "Answered by the server itself.",
            "status",
            {str(status): n for status, n in http.refused_requests.items()},
        )


def _new(outcomes: Mapping[str, int]) -> int:
    return outcomes.get(NoticeOutcome.INFORMED, 0) + outcomes.get(NoticeOutcome.SETTLED, 0)


def _bounded(items: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    return list(items.items())[:LABELS_MAX]


def _plain(name: str, text: str, value: int) -> Metric:
    family = CounterMetricFamily(f"counterpoint_{name}", text)
    family.add_metric([], value)
    return family


def _gauge(name: str, text: str, value: int) -> Metric:
    family = GaugeMetricFamily(f"counterpoint_{name}", text)
    family.add_metric([], value)
    return family


def _counter(name: str, text: str, label: str, values: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(f"counterpoint_{name}", text, labels=[label])
    for value, n in _bounded(values):
        family.add_metric([str(value)], n)
    return family


def _buckets(histogram: Histogram) -> Iterator[tuple[str, float]]:
    """Cumulative counts at the powers of two from 16 us to 2 s."""
    seen = 0
    edges = iter([1 << power for power in range(14, 32)])
    edge = next(edges, None)
    for index, n in enumerate(histogram.buckets):
        while edge is not None and upper_edge_ns(index) > edge:
            yield str(edge / NS_PER_S), seen
            edge = next(edges, None)
        seen += n
    yield "+Inf", histogram.count
