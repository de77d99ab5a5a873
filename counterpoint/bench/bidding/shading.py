"""Part ``shading``: surplus on real logs, first-price counterfactual, against the best constant fraction of value and the
unconditional price distribution, both tuned on every price of the train half.

iPinYou is a second-price log of auctions all won by a high flat bidder; first price is replayed with rivals unchanged.
Ours goes on learning while judged, from what it is told of its own bids. Raw lines carry no prediction: there values are
drawn (log-normal about 100 fen, sigma 0.7) by seed, and what tells is the request's exchange, placement and floor.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Final

import numpy as np

from counterpoint.bench.bidding.raw_lines import RawLog, read_raw, shares_by_block
from counterpoint.bench.bidding.verdict import Bar, Context, Measured, PartResult, Table, Verdict
from counterpoint.market.logs.judge import Interval
from counterpoint.market.logs.read import read_log
from counterpoint.market.logs.run import FileResult, ReplayReport, ReplaySettings, replay
from counterpoint.market.logs.terms import Auction, Feedback

FILES: Final = (
    "ipinyou_timed/1458_first220k.csv.gz",
    "ipinyou_episodes/2821_episodes.csv.gz",
    "ipinyou_episodes/2997_episodes.csv.gz",
    "ipinyou_episodes/3358_episodes.csv.gz",
    "ipinyou_episodes/3427_episodes.csv.gz",
)
RAW_FILES: Final = (
    "ipinyou_raw/2821_imp_20131021.csv.gz",
    "ipinyou_raw/2259_log_1019_1022.csv.gz",
)
CONSTANT, UNCONDITIONAL, OURS = "constant-shade", "unconditional-shade", "counterpoint"
BEHIND_MAX = 0.005
RESAMPLES, RESAMPLES_QUICK = 2_000, 200


def shading(context: Context) -> PartResult:
    if context.data is None:
        return PartResult(
            part="shading",
            skipped=("the iPinYou logs: --data names the folder they lie in (docs/benchmarks.md)",),
        )
    wanted = FILES[1:3] if context.quick else FILES
    paths = [context.data / name for name in wanted if (context.data / name).exists()]
    skipped = [name for name in (*wanted, *RAW_FILES) if not (context.data / name).exists()]
    verdicts: list[Verdict] = []
    tables: list[Table] = []
    if paths:
        reports = {}
        for done, feedback in enumerate((Feedback.FULL, Feedback.WIN, Feedback.BINARY)):
            context.report(f"logs, {feedback.value}", 0.25 * done)
            reports[feedback] = _replayed(paths, feedback, context.quick)
        verdicts += _on_logs(reports)
        tables.append(_table(reports))
    raw = [read_raw(context.data / name) for name in RAW_FILES if (context.data / name).exists()]
    if raw:
        context.report("raw lines", 0.8)
        more, table = _on_raw(raw, context)
        verdicts += more
        tables.append(table)
    return PartResult(
        part="shading",
        verdicts=tuple(verdicts),
        tables=tuple(tables),
        notes=(
            "COUNTERFACTUAL: a second-price log replayed in first price, rivals unchanged; dearer auctions than it won are not in it",
            "intervals: 95 %, by whole episodes or 1,000 consecutive auctions (raw: 200), drawn with replacement, paired",
        ),
        skipped=tuple(f"{name} is not there" for name in skipped),
    )


def _replayed(paths: list[Path], feedback: Feedback, quick: bool) -> ReplayReport:
    settings = ReplaySettings(
        auction=Auction.FIRST,
        feedback=feedback,
        policies=(CONSTANT, UNCONDITIONAL, OURS),
        budget_fraction="none",
        resamples=RESAMPLES_QUICK if quick else RESAMPLES,
    )
    return replay([read_log(path) for path in paths], settings, None, Fraction(1, 2))


def _share(file: FileResult, policy: str) -> float:
    return next(p.surplus_share or 0.0 for p in file.policies if p.policy == policy)


def _measured(interval: Interval) -> Measured:
    return Measured(value=interval.value or 0.0, low=interval.low, high=interval.high)


def _on_logs(reports: dict[Feedback, ReplayReport]) -> list[Verdict]:
    verdicts = []
    for file in reports[Feedback.FULL].files:
        constant_is_better = _share(file, CONSTANT) > _share(file, UNCONDITIONAL)
        better = CONSTANT if constant_is_better else UNCONDITIONAL
        against = next(c for c in file.comparisons if c.policy == OURS and c.against == better)
        verdicts.append(
            Verdict(
                bar=f"surplus share over the better baseline ({better}), minimum told, {file.file}",
                kind=Bar.AT_LEAST,
                target=-BEHIND_MAX,
                measured=_measured(against.surplus_share_gain),
                behind=f"{file.blocks} blocks",
            )
        )
    bars = ((Feedback.FULL, CONSTANT), (Feedback.FULL, UNCONDITIONAL), (Feedback.BINARY, CONSTANT))
    for feedback, report in reports.items():
        for baseline in (CONSTANT, UNCONDITIONAL):
            pairs = report.pooled or report.files[0].comparisons
            found = next(c for c in pairs if c.policy == OURS and c.against == baseline)
            barred = (feedback, baseline) in bars
            verdicts.append(
                Verdict(
                    bar=f"surplus share over {baseline}, feedback {feedback.value}, pooled",
                    kind=Bar.ABOVE if barred else Bar.REPORTED,
                    target=0.0 if barred else None,
                    measured=_measured(found.surplus_share_gain),
                    behind=f"{sum(f.blocks for f in report.files)} blocks of {len(report.files)} files",
                )
            )
    return verdicts


def _table(reports: dict[Feedback, ReplayReport]) -> Table:
    full = reports[Feedback.FULL]
    rows = [
        (name, *(f"{100 * _share(f, name):.1f}" for f in full.files)) for name in (CONSTANT, UNCONDITIONAL)
    ]
    rows += [
        (f"{OURS}, {feedback.value}", *(f"{100 * _share(f, OURS):.1f}" for f in report.files))
        for feedback, report in reports.items()
    ]
    return Table(
        title="share of perfect-information surplus, %, judged on the later half (baselines see every train price)",
        head=("policy", *(f.file for f in full.files)),
        rows=tuple(rows),
    )


def _on_raw(logs: list[RawLog], context: Context) -> tuple[list[Verdict], Table]:
    names = (CONSTANT, UNCONDITIONAL, "ours, no placement", "ours", "ours, win/loss only")
    gains: dict[str, list[float]] = {CONSTANT: [], UNCONDITIONAL: []}
    draws: dict[str, list[float]] = {CONSTANT: [], UNCONDITIONAL: []}
    rows = []
    for log in logs:
        by_seed = [shares_by_block(log, names, seed) for seed in context.seeds]
        rows.append(
            (
                log.name,
                *(f"{100 * np.mean([s[n].sum() / s['perfect'].sum() for s in by_seed]):.1f}" for n in names),
            )
        )
    for seed in context.seeds:
        sums = [shares_by_block(log, names, seed) for log in logs]
        generator = np.random.default_rng([seed, 9])
        drawn = [
            generator.multinomial(len(s["perfect"]), np.full(len(s["perfect"]), 1 / len(s["perfect"])), 200)
            for s in sums
        ]
        perfect = sum(float(s["perfect"].sum()) for s in sums)
        resampled = np.sum([d @ s["perfect"] for d, s in zip(drawn, sums, strict=True)], axis=0)
        for name, found in gains.items():
            found.append(sum(float((s["ours"] - s[name]).sum()) for s in sums) / perfect)
            more = np.sum([d @ (s["ours"] - s[name]) for d, s in zip(drawn, sums, strict=True)], axis=0)
            draws[name] += (more / resampled).tolist()
    verdicts = [
        Verdict(
            bar=f"surplus share over {name}, raw lines with placement and floor, pooled",
            kind=Bar.ABOVE,
            target=0.0,
            measured=Measured(
                value=float(np.mean(gains[name])),
                low=float(np.quantile(draws[name], 0.025)),
                high=float(np.quantile(draws[name], 0.975)),
            ),
            behind=f"blocks of {len(logs)} files and {len(context.seeds)} draws of values",
        )
        for name in gains
    ]
    return verdicts, Table(
        title="raw lines: share of perfect-information surplus, %, minimum told unless said",
        head=("log", *names),
        rows=tuple(rows),
    )
