"""Part ``budget``: one budget for the later half of a log, against linear bidding. Real iPinYou logs, replayed.

Bars of the issue: value won (pctr, capped as the replay caps it) at least 0.97 of the best linear multiplier in hindsight,
ahead of linear tuned on the earlier half and of the same re-paced by PID, overspend 0; first price (counterfactual, rivals
unchanged) ahead of both.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Final

from counterpoint.bench.bidding.verdict import Bar, Context, Measured, PartResult, Table, Verdict
from counterpoint.market.logs.judge import Interval
from counterpoint.market.logs.read import AuctionLog, read_log
from counterpoint.market.logs.run import ReplayReport, ReplaySettings, replay
from counterpoint.market.logs.terms import Auction

FILES: Final = (
    "ipinyou_timed/1458_first220k.csv.gz",
    *(f"ipinyou_episodes/{name}_episodes.csv.gz" for name in (2821, 2997, 3358, 3427)),
)
FRACTIONS: Final = ("1/4", "1/16", "1/64")
OURS, HINDSIGHT = "counterpoint", "linear-hindsight"
POLICIES: Final = (HINDSIGHT, "linear", "linear-pid", OURS)
OF_HINDSIGHT: Final = 0.97
RESAMPLES: Final = 2_000
SEED: Final = 1  # of the logged bids and the bootstrap; the log itself is one


def budget(context: Context) -> PartResult:
    """Replays every file at every fraction in both auction types."""
    if context.data is None:
        return PartResult(part="budget", skipped=("no real logs: give --data DIR (docs/replay.md)",))
    paths = [context.data / name for name in FILES]
    there = [path for path in paths if path.is_file()]
    skipped = tuple(f"{path.name} is not in --data" for path in paths if path not in there)
    if not there:
        return PartResult(part="budget", skipped=skipped)
    logs = [_read(path, context.quick) for path in there]
    verdicts: list[Verdict] = []
    tables: list[Table] = []
    overspent = 0
    runs = [(auction, fraction) for auction in (Auction.SECOND, Auction.FIRST) for fraction in FRACTIONS]
    for k, (auction, fraction) in enumerate(runs):
        context.report(f"{auction.value} price, {fraction}", k / len(runs))
        settings = ReplaySettings(
            auction=auction, policies=POLICIES, budget_fraction=fraction, resamples=RESAMPLES, seed=SEED
        )
        report = replay(logs, settings, Fraction(fraction), Fraction(1, 2))
        overspent += sum(p.overspend_milli_fen for file in report.files for p in file.policies)
        verdicts += _verdicts(report, auction, fraction)
        tables.append(_table(report, auction, fraction))
    verdicts.append(
        Verdict(
            bar="overspend, all files, fractions, auctions and policies, milli-fen",
            kind=Bar.AT_MOST,
            target=0.0,
            measured=Measured(value=float(overspent)),
            behind="every run",
        )
    )
    notes = (
        "pooled over the files; 95 % by block bootstrap (episodes, or 1,000 consecutive auctions), one run of each policy",
        "first price is counterfactual; rows are auctions won by a high flat bidder; clicks are reported, not claimed",
    )
    return PartResult(
        part="budget", verdicts=tuple(verdicts), tables=tuple(tables), notes=notes, skipped=skipped
    )


def _read(path: Path, quick: bool) -> AuctionLog:
    log = read_log(path)
    if not quick:
        return log
    n = 10_000
    return AuctionLog(
        log.name, log.kind, log.market_price[:n], log.click[:n], log.pctr[:n], log.time[:n], log.exchange[:n]
    )


def _verdicts(report: ReplayReport, auction: Auction, fraction: str) -> list[Verdict]:
    behind = f"{sum(file.blocks for file in report.files)} blocks, {len(report.files)} files"
    where = f"{auction.value} price, {fraction}"
    pooled = report.pooled or report.files[0].comparisons
    gains = {c.against: c for c in pooled if c.policy == OURS}
    out = []
    if auction is Auction.SECOND:
        out.append(
            Verdict(
                bar=f"value of the best linear multiplier in hindsight, {where}",
                kind=Bar.AT_LEAST,
                target=OF_HINDSIGHT,
                measured=_measured(gains[HINDSIGHT].value_gain, 1.0),
                behind=behind,
            )
        )
    out += [
        Verdict(
            bar=f"value gained over {against}, {where}",
            kind=Bar.ABOVE,
            target=0.0,
            measured=_measured(gains[against].value_gain, 0.0),
            behind=behind,
        )
        for against in ("linear", "linear-pid")
    ]
    out.append(
        Verdict(
            bar=f"uncapped pctr gained over linear-pid, {where}",
            kind=Bar.REPORTED,
            target=None,
            measured=_measured(gains["linear-pid"].sum_pctr_gain, 0.0),
            behind=behind,
        )
    )
    return out


def _measured(gain: Interval, base: float) -> Measured | None:
    if gain.value is None:
        return None
    low = None if gain.low is None else base + gain.low
    high = None if gain.high is None else base + gain.high
    return Measured(value=base + gain.value, low=low, high=high)


def _table(report: ReplayReport, auction: Auction, fraction: str) -> Table:
    rows = []
    for file in report.files:
        by = {p.policy: p for p in file.policies}
        best = by[HINDSIGHT].value
        rows.append(
            (
                file.file,
                *(f"{by[name].value / best:.4f}" if best > 0 else "-" for name in POLICIES),
                *(f"{by[name].clicks}" for name in POLICIES),
                f"{by[OURS].spend_milli_fen / (file.budget_milli_fen or 1):.4f}",
            )
        )
    return Table(
        title=f"{auction.value} price, {fraction} of the later half's cost: value over hindsight's, clicks, share spent",
        head=("file", *POLICIES, *(f"clicks {name}" for name in POLICIES), "spent by ours"),
        rows=tuple(rows),
    )
