"""Replay: each file is a campaign with its own budget; the earlier part tunes, the later part is judged, once per policy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import combinations

import numpy as np
from msgspec import Struct

from counterpoint.base.errors import ConfigError
from counterpoint.market.logs import own  # noqa: F401 - registers our own policies by name
from counterpoint.market.logs.auctions import (
    NO_BUDGET,
    budget_milli_fen,
    cost_of_everything,
    settle,
)
from counterpoint.market.logs.feedback import Outcome, Part, split, told, train_view
from counterpoint.market.logs.judge import (
    Comparison,
    PolicyResult,
    Run,
    Total,
    block_sums,
    blocks_of,
    compare,
    draws,
    perfect_surplus,
    summarise,
    total,
)
from counterpoint.market.logs.policies import ReplayPolicy, make_policy
from counterpoint.market.logs.read import EPISODES, TIMED, AuctionLog, FloatArray
from counterpoint.market.logs.table import LogError
from counterpoint.market.logs.terms import Auction, Feedback

ROWS_MIN = 20  # of each part: below that nothing can be tuned or judged


class ReplaySettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    auction: Auction = Auction.SECOND
    feedback: Feedback = Feedback.FULL
    policies: tuple[str, ...] = ("constant", "linear")
    budget_fraction: str = "1/16"  # of what winning every judged auction costs; "none": no budget
    train_fraction: str = "1/2"
    pctr_cap_quantile: float = 0.99
    bid_max: int = (
        300  # fen per 1,000: the log's own bidder never bid more, so more has never been seen to matter
    )
    resamples: int = 2_000
    seed: int = 1


class FileResult(Struct, kw_only=True):
    file: str
    kind: str
    rows: int
    train_rows: int
    judged_rows: int
    judged_clicks: int
    judged_sum_pctr: float
    cost_of_everything_milli_fen: int
    budget_milli_fen: int | None
    perfect_surplus: float
    pctr_cap: float
    blocks: int
    policies: list[PolicyResult] = []
    comparisons: list[Comparison] = []


class ReplayReport(Struct, kw_only=True):
    """Everything a reader needs to judge the figures, and to get them again."""

    unit: str
    notes: list[str]
    settings: ReplaySettings
    files: list[FileResult] = []
    totals: list[Total] = []  # over all files
    pooled: list[Comparison] = []  # several files: totals over all, each file a stratum


UNIT = (
    "prices: fen per 1,000 impressions; money and value: milli-fen (price p costs p milli-fen an impression)"
)


def notes_for(settings: ReplaySettings) -> list[str]:
    notes = [
        "truncated: every logged row was an impression won by a high flat bidder; dearer auctions are not in the log, "
        "and no policy can win or lose one",
        "judged on the later part of each file; pctr is the log's own, in-sample: no claim about calibration or clicks to come",
        f"value: pctr, capped at the train part's {settings.pctr_cap_quantile:g} quantile, x 100 / its train mean",
    ]
    if settings.auction is Auction.FIRST:
        notes.insert(
            0, "COUNTERFACTUAL: the log is second price; first price is replayed with rivals unchanged"
        )
    if settings.budget_fraction != "none":
        notes.append(
            f"budget: {settings.budget_fraction} of the sum of judged market prices (what winning every auction costs at "
            "its least winning bid, the same in both auction types); the agent knows it and how many auctions it is for"
        )
    made = [make_policy(name) for name in settings.policies]
    if any(policy.tuned_on_prices for policy in made):
        notes.append(
            "* was tuned on all prices of the train part, whatever the feedback: an advantage over what learns from feedback"
        )
    if any(policy.looks_ahead for policy in made):
        notes.append("+ looks ahead: tuned on the judged part itself, a benchmark that no bidder could run")
    return notes


def replay(
    logs: Sequence[AuctionLog],
    settings: ReplaySettings,
    budget_fraction: Fraction | None,
    train_fraction: Fraction,
    on_policy: Callable[[str, str], None] | None = None,
) -> ReplayReport:
    """Run every policy over every log. ``on_policy(file, policy)`` is told when one is done."""
    check(settings, train_fraction)
    report = ReplayReport(unit=UNIT, notes=notes_for(settings), settings=settings)
    sums: list[dict[str, dict[str, FloatArray]]] = []
    for log in logs:
        result, by_policy = _one_file(log, settings, budget_fraction, train_fraction, on_policy)
        report.files.append(result)
        sums.append(by_policy)
    drawn = draws([file.blocks for file in report.files], settings.resamples, settings.seed)
    pairs = list(combinations(settings.policies, 2))
    for file, by_policy, d in zip(report.files, sums, drawn, strict=True):
        file.comparisons = [compare(b, a, [by_policy[b]], [by_policy[a]], [d]) for a, b in pairs]
    perfect = sum(file.perfect_surplus for file in report.files)
    by_name = zip(*(file.policies for file in report.files), strict=True)
    report.totals = [total(results, perfect) for results in by_name]
    if len(logs) > 1:
        report.pooled = [
            compare(b, a, [by[b] for by in sums], [by[a] for by in sums], drawn) for a, b in pairs
        ]
    return report


def check(settings: ReplaySettings, train_fraction: Fraction) -> None:
    """What can be said before a file is read. Raises :class:`ConfigError`."""
    if not 0 < train_fraction < 1:
        raise ConfigError(f"train fraction {train_fraction} leaves nothing to tune or to judge; give 1/2")
    if not 0.0 < settings.pctr_cap_quantile <= 1.0:
        raise ConfigError("the pctr cap is a quantile in (0, 1]; 1 caps at the train part's largest")
    if settings.bid_max < 1 or settings.bid_max > 1_000_000:
        raise ConfigError("the largest bid is a number of fen per 1,000 in 1..1000000")
    if settings.resamples < 100:
        raise ConfigError("an interval from fewer than 100 resamples says nothing; give 1000 or more")
    twice = {name for name in settings.policies if settings.policies.count(name) > 1}
    if twice:
        raise ConfigError(f"policy {min(twice)!r} is named twice")
    for name in settings.policies:
        make_policy(name)


def first_judged_row(log: AuctionLog, train_fraction: Fraction) -> int:
    """Rounded down, and back to where an episode begins. Raises :class:`LogError` where a part would be too short."""
    row = len(log) * train_fraction.numerator // train_fraction.denominator
    if log.kind == EPISODES:
        starts = np.flatnonzero(np.diff(log.time, prepend=log.time[0] - 1) != 0)
        row = int(starts[starts <= row][-1])
    if row < ROWS_MIN or len(log) - row < ROWS_MIN:
        raise LogError(
            f"{log.name}: {len(log)} rows leave {row} to tune on and {len(log) - row} to judge; at least {ROWS_MIN} of each "
            "are needed: give a longer log or another --train-fraction"
        )
    return row


def _one_file(
    log: AuctionLog,
    settings: ReplaySettings,
    budget_fraction: Fraction | None,
    train_fraction: Fraction,
    on_policy: Callable[[str, str], None] | None,
) -> tuple[FileResult, dict[str, dict[str, FloatArray]]]:
    row = first_judged_row(log, train_fraction)
    train, judged, cap = split(log, row, settings.pctr_cap_quantile)
    budget = budget_milli_fen(budget_fraction, judged.market_price)
    blocks = blocks_of(judged, log.kind)
    result = FileResult(
        file=log.name,
        kind=log.kind,
        rows=len(log),
        train_rows=len(train),
        judged_rows=len(judged),
        judged_clicks=int(judged.click.sum()),
        judged_sum_pctr=float(judged.pctr.sum()),
        cost_of_everything_milli_fen=cost_of_everything(judged.market_price),
        budget_milli_fen=None if budget == NO_BUDGET else budget,
        perfect_surplus=float(perfect_surplus(judged).sum()),
        pctr_cap=cap,
        blocks=int(blocks[-1]) + 1,
    )
    sums: dict[str, dict[str, FloatArray]] = {}
    for name in settings.policies:
        policy = make_policy(name)
        policy.fit(
            train_view(
                train,
                settings.auction,
                settings.feedback,
                settings.bid_max,
                len(judged),
                budget,
                settings.seed,
                policy.tuned_on_prices,
                log.kind == TIMED,
            )
        )
        parameters = policy.parameters()
        if policy.looks_ahead:
            policy.look_ahead(judged)
            parameters = policy.parameters()
        run, stopped_at = live(policy, judged, settings.auction, settings.feedback, budget)
        result.policies.append(
            summarise(
                judged,
                run,
                result.budget_milli_fen,
                stopped_at,
                looks_ahead=policy.looks_ahead,
                tuned_on_prices=policy.tuned_on_prices,
                parameters=parameters,
            )
        )
        sums[name] = block_sums(judged, run, blocks)
        if on_policy is not None:
            on_policy(log.name, name)
    return result, sums


def live(
    policy: ReplayPolicy, part: Part, auction: Auction, feedback: Feedback, budget: int
) -> tuple[Run, int | None]:
    """Let a fitted policy bid through a part; (what came of it, the row where the money was gone).

    It is handed copies, block by block, and each outcome only after the block's bids are fixed."""
    n = len(part)
    run = Run(policy.name, np.zeros(n, np.int64), np.zeros(n, np.bool_), np.zeros(n, np.int64))
    step = policy.block_rows or n
    left, stopped_at = budget, None
    for first in range(0, n, step):
        last = min(first + step, n)
        if left <= 0:
            stopped_at = first if stopped_at is None else stopped_at
            break  # the hard stop: nothing more is bid, so nothing more is told
        block = part.block(first, last, left)
        bids = policy.bid_block(part.block(first, last, left))
        assert bids.dtype == np.int64, f"{policy.name}: bids of type {bids.dtype}"
        assert bids.shape == (last - first,), f"{policy.name}: bids of shape {bids.shape}"
        assert int(bids.min()) >= 0, f"{policy.name}: a negative bid"
        rows = slice(first, last)
        before = left
        left = settle(
            bids,
            part.market_price[rows],
            auction.second,
            left,
            run.bid[rows],
            run.won[rows],
            run.paid[rows],
        )
        assert left >= 0, "a budget was overspent"
        minimum = told(feedback, run.bid[rows], run.won[rows], part.market_price[rows])
        policy.observe(
            block, Outcome(run.bid[rows].copy(), run.won[rows].copy(), minimum, before - left, left)
        )
        if left <= 0 and stopped_at is None:
            stopped_at = first + int(np.flatnonzero(run.won[rows])[-1]) + 1
    return run, stopped_at if stopped_at is None or stopped_at < n else None
