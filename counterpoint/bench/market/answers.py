"""What a policy answered, checked and copied once: settled, booked and told is the copy, whatever becomes of the original."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from counterpoint.base.errors import AnswerRefused
from counterpoint.bench.market.facts import Floats
from counterpoint.bench.market.policy import ALTERNATIVES, Answers
from counterpoint.market.auctions import Rows

BID_MICROS_MAX: Final = 10**15  # above every ceiling that a scenario may set


def checked(answers: object, policy: str, auctions: int, creatives: int, campaigns: int) -> Answers:
    """The same in contiguous int64 and float64 of our own. Raises :class:`AnswerRefused`, naming the policy."""
    if not isinstance(answers, Answers):
        raise _refused(policy, f"decide gave {type(answers).__name__}", "return Answers")
    creative = _integers(answers.creative, "creative", policy)
    bid = _integers(answers.bid_micros, "bid_micros", policy)
    if creative.ndim != 2 or creative.shape[0] != auctions or not 1 <= creative.shape[1] <= ALTERNATIVES:
        raise _refused(
            policy,
            f"creative has the shape {creative.shape}",
            f"give a row for each of the {auctions} auctions, with 1 to {ALTERNATIVES} alternatives",
        )
    if bid.shape != creative.shape:
        raise _refused(
            policy,
            f"bid_micros has the shape {bid.shape}, creative {creative.shape}",
            "give each alternative a bid, 0 for none",
        )
    _within(creative, -1, creatives - 1, "creative", policy)
    _within(bid, 0, BID_MICROS_MAX, "bid_micros", policy)
    limit = None
    if answers.limit_nanos is not None:
        limit = _integers(answers.limit_nanos, "limit_nanos", policy)
        if limit.shape != (campaigns,):
            raise _refused(
                policy,
                f"limit_nanos has the shape {limit.shape}",
                f"give one for each of {campaigns} campaigns",
            )
    split = None if answers.split is None else shares_of(answers.split, policy, campaigns)
    return Answers(creative=creative, bid_micros=bid, limit_nanos=limit, split=split)


def shares_of(split: object, policy: str, campaigns: int) -> Floats:
    """[campaign] shares that sum to 1. Raises :class:`AnswerRefused`."""
    if not isinstance(split, np.ndarray) or split.dtype.kind not in "iuf" or split.shape != (campaigns,):
        raise _refused(policy, f"its split is {_what(split)}", f"give {campaigns} numbers, one per campaign")
    part = split.astype(np.float64)
    with np.errstate(over="ignore"):
        total = float(part.sum())
    if not np.isfinite(part).all() or not np.isfinite(total):
        raise _refused(policy, "its split, or the sum of it, is not finite", "give shares, such as 0 to 1")
    if part.min() < 0.0 or total <= 0.0:
        raise _refused(
            policy,
            f"its split goes from {part.min():g} and sums to {total:g}",
            "give no share below 0, and one above",
        )
    return np.asarray(part / total)


def _integers(column: object, name: str, policy: str) -> Rows:
    if not isinstance(column, np.ndarray) or column.dtype.kind not in "iu":
        raise _refused(policy, f"{name} is {_what(column)}", "give an array of whole numbers, as int64")
    if column.dtype.kind == "u" and column.size and int(column.max()) > np.iinfo(np.int64).max:
        raise _refused(
            policy, f"{name} holds {int(column.max())}, more than int64 can", "give smaller numbers"
        )
    return np.array(column, dtype=np.int64, order="C", subok=False)


def _within(column: Rows, low: int, high: int, name: str, policy: str) -> None:
    if column.size and (column.min() < low or column.max() > high):
        outside = int(column.min() if column.min() < low else column.max())
        raise _refused(policy, f"{name} holds {outside}", f"give numbers from {low} to {high}")


def _what(it: Any) -> str:
    return (
        f"an array of {it.dtype} of shape {it.shape}"
        if isinstance(it, np.ndarray)
        else f"a {type(it).__name__}"
    )


def _refused(policy: str, problem: str, cure: str) -> AnswerRefused:
    return AnswerRefused(f"policy {policy!r}: {problem}; {cure}")
