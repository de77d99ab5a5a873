"""The bidding policy: from an expected click to a price. Pure, replayable, checked before use.

One pass per line item: expected value -> divide by the campaign's multiplier (v_eff) -> shade by expected surplus
on the segment's win curve -> clip to floor, minimum, ceiling -> perhaps explore. :func:`price` is the compiled
kernel, :func:`explain_price` the same arithmetic in plain Python, step by step; a test holds them equal to the bit.

All per-impression values and prices are nano-units of the account currency, which is the same number as micros
CPM (base/money.py). So a reach goal of ``g`` micros CPM is worth ``g`` nanos an impression, and a click worth
``g`` micros is worth ``1000 g`` nanos.
"""

from __future__ import annotations

from counterpoint.bidding.chances import shown_before
from counterpoint.bidding.check import validate
from counterpoint.bidding.compile import (
    AGENT,
    CURVES_MAX,
    DEFAULT_WIN_RATE,
    EXPLORE_RATE_MAX,
    EXPLORE_SPAN_MAX,
    GOALS,
    LAMBDA_MAX,
    LAMBDA_MIN,
    MEDIA,
    BiddingFrame,
    BiddingPolicy,
    WinCurve,
    checksum,
    compile_bidding,
    curve_table,
    decode,
    encode,
    prepare_bidding,
)
from counterpoint.bidding.duals import Dual
from counterpoint.bidding.explained import PriceSteps, explain_price
from counterpoint.bidding.features import EXPOSED_MAX, FIELDS, exposure_level, feature
from counterpoint.bidding.price import CompiledBidding, price

__all__ = [
    "AGENT",
    "CURVES_MAX",
    "DEFAULT_WIN_RATE",
    "EXPLORE_RATE_MAX",
    "EXPLORE_SPAN_MAX",
    "EXPOSED_MAX",
    "FIELDS",
    "GOALS",
    "LAMBDA_MAX",
    "LAMBDA_MIN",
    "MEDIA",
    "BiddingFrame",
    "BiddingPolicy",
    "CompiledBidding",
    "Dual",
    "PriceSteps",
    "WinCurve",
    "checksum",
    "compile_bidding",
    "curve_table",
    "decode",
    "encode",
    "explain_price",
    "exposure_level",
    "feature",
    "prepare_bidding",
    "price",
    "shown_before",
    "validate",
]
