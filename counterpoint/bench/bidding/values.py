"""Part ``values``: what the value model adds to shrunk counts, where the market knows the truth.

Both predict the same later auctions before they learn them, from the same won traffic (bids by the counts' own values, a
twentieth of them tripled, so that neither sees only its own choices). Judged against the true chances, which no bidder
knows: divergence (mean KL, so 0 is perfect), calibration on what was won, and what the values buy: both spend the same
money at the same prices, each with the one multiplier that does, and the true worth of what they win is compared.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from counterpoint.bench.bidding.value_market import Judged, judge
from counterpoint.bench.bidding.verdict import Bar, Context, PartResult, Table, Verdict, over_few_seeds

SCENARIOS: Final = ("stationary-v1", "delay-v1", "drift-v1", "outage-v1", "thin-market-v1", "churn-v1")
AUCTIONS: Final = 150_000
AUCTIONS_QUICK: Final = 20_000


def values(context: Context) -> PartResult:
    auctions = AUCTIONS_QUICK if context.quick else AUCTIONS
    scenarios = SCENARIOS[:1] if context.quick else SCENARIOS
    found: dict[str, list[Judged]] = {}
    for k, name in enumerate(scenarios):
        found[name] = []
        for n, seed in enumerate(context.seeds):
            context.report(f"{name}, seed {seed}", (k + n / len(context.seeds)) / len(scenarios))
            found[name].append(judge(name, seed, auctions))
    verdicts = [v for name, judged in found.items() for v in _verdicts(name, judged, len(context.seeds))]
    return PartResult(
        part="values",
        verdicts=tuple(verdicts),
        tables=(_table(found, auctions),),
        notes=(
            "counts: the creative's posterior x the segment's click factor, orders per click of the line item with a "
            "click counted after two minutes; model: features, calibration and delays on top of the same posterior",
        ),
        skipped=(
            "real logs: part delays (TalkingData); iPinYou's logs join too few clicks to judge features",
        ),
    )


def _verdicts(name: str, judged: list[Judged], seeds: int) -> list[Verdict]:
    behind = f"{seeds} seeds"

    def of(bar: str, kind: Bar, target: float | None, figures: list[float]) -> Verdict:
        return Verdict(
            bar=f"{name}: {bar}", kind=kind, target=target, measured=over_few_seeds(figures), behind=behind
        )

    return [
        of(
            "divergence of click chances from the truth, 1 - model / counts",
            Bar.ABOVE,
            0.0,
            [1.0 - j.model_click / j.counts_click for j in judged],
        ),
        of(
            "divergence of order chances from the truth, 1 - model / counts",
            Bar.ABOVE,
            0.0,
            [1.0 - j.model_order / j.counts_order for j in judged],
        ),
        of("true worth bought at equal spend, model / counts - 1", Bar.ABOVE, 0.0, [j.worth for j in judged]),
        of(
            "the same, each campaign at its own spend",
            Bar.REPORTED,
            None,
            [j.worth_each for j in judged],
        ),
        of(
            "expected conversions bought at equal spend, model / counts - 1",
            Bar.ABOVE,
            0.0,
            [j.orders_bought for j in judged],
        ),
        of("clicks / predicted on won traffic, model", Bar.REPORTED, None, [j.model_clicks for j in judged]),
        of("orders / predicted on won traffic, model", Bar.REPORTED, None, [j.model_orders for j in judged]),
    ]


def _table(found: dict[str, list[Judged]], auctions: int) -> Table:
    def mean(judged: list[Judged], field: str, digits: int = 3) -> str:
        return f"{np.mean([getattr(j, field) for j in judged]):.{digits}f}"

    pairs = ("click", "order", "loss", "clicks", "orders")
    rows = []
    for name, judged in found.items():
        cells = [f"{mean(judged, 'counts_' + pair)} -> {mean(judged, 'model_' + pair)}" for pair in pairs]
        bought = [
            f"{100 * np.mean([getattr(j, field) for j in judged]):+.2f} %"
            for field in (
                "worth",
                "worth_each",
                "features_each",
                "observable_each",
                "person_each",
                "worth_known",
            )
        ]
        rows.append((name, mean(judged, "clicks", 0), mean(judged, "orders", 0), *cells, *bought))
    return Table(
        title=f"counts -> model, means over seeds, later half of {auctions} auctions",
        head=(
            "scenario",
            "clicks learned",
            "orders learned",
            "click KL 1e-4",
            "order KL 1e-2",
            "click log-loss",
            "clicks/predicted",
            "orders/predicted",
            "worth at equal spend",
            "each campaign at its spend",
            "by true features",
            "and true creatives",
            "and the person",
            "all true chances",
        ),
        rows=tuple(rows),
    )
