"""A chance corrected by features, in the price's own arithmetic: products of odds, no logarithm, no power.

The learner's log-odds travel as whole steps (:data:`STEP` each), and each slot's factor is built from them by
multiplications alone, so that every machine prices the same to the bit.
"""

from __future__ import annotations

import math
import zlib
from functools import lru_cache
from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from counterpoint.base.errors import PolicyRefused
from counterpoint.base.jit import njit
from counterpoint.bidding.features import (
    CAMPAIGN,
    CONTEXT_BYTES,
    EXPOSED,
    FIELDS,
    LINE_ITEM,
    OF_REQUEST,
    PAIRS,
    SEGMENT,
    SLOTS,
    SOURCES,
    TEMPLATES,
    U64,
    exposure_level,
    slot,
    slot_kernel,
)

STEP: Final = math.log1p(2.0**-10)  # log-odds of one step, about a thousandth
STEPS_MAX: Final = 3_072  # of one slot: a factor of 20
FACTOR_MIN, FACTOR_MAX = 0.05, 20.0  # of all slots together
CALIBRATION_MIN, CALIBRATION_MAX = 0.2, 5.0
CALIBRATIONS_MAX: Final = 50_000
CLICK, CONVERSION = 0, 1
PLAIN: Final = 2  # of a calibration table, the columns of plain counts
TEMPLATES_N: Final = len(TEMPLATES)
FIELDS_N: Final = len(FIELDS)

F64 = NDArray[np.float64]
_POWERS: Final = 64


def _powers(base: float, n: int) -> F64:
    out = np.ones(n)
    for k in range(1, n):
        out[k] = out[k - 1] * base
    return out


_FINE: Final = _powers(1.0 + 2.0**-10, _POWERS)
_COARSE: Final = _powers(float(_FINE[-1]) * (1.0 + 2.0**-10), STEPS_MAX // _POWERS + 1)


class ValueWeights(Struct, frozen=True, kw_only=True):
    """What the value model has learned, as a policy carries it.

    ``slots``: zlib of little-endian int16 [2, SLOTS], steps of log-odds for clicks and conversions; empty: features
    say nothing. Calibrations are factors on odds by "{campaign id}|{exchange id}", parents "*|{exchange id}" and "*|*".
    Shares of (features, calibrated features) are by campaign id, "*" for any other; the rest, and all where neither is
    named, is the share of the plain counts.
    """

    slots: bytes = b""
    click_calibrations: dict[str, float] = {}
    conversion_calibrations: dict[str, float] = {}
    click_shares: dict[str, tuple[float, float]] = {}
    conversion_shares: dict[str, tuple[float, float]] = {}


NO_WEIGHTS: Final = ValueWeights()


def pack_slots(click: F64, conversion: F64) -> bytes:
    """Log-odds by slot, rounded to steps and bounded. Empty where all are 0. Raises ``ValueError`` on what is no number."""
    both = np.stack([click, conversion])
    if not np.isfinite(both).all():
        raise ValueError("weights of the value model are not finite")
    steps = np.clip(np.round(both / STEP), -STEPS_MAX, STEPS_MAX).astype("<i2")
    return zlib.compress(steps.tobytes(), 1) if steps.any() else b""


def unpack_slots(packed: bytes) -> NDArray[np.int16] | None:
    """Steps [2, SLOTS]; None where features say nothing. Raises :class:`PolicyRefused` on anything else."""
    if not packed:
        return None
    size = 4 * SLOTS
    try:
        opened = zlib.decompressobj()
        raw = opened.decompress(packed, size + 1)
    except zlib.error as error:
        raise PolicyRefused(f"bidding policy: the value model cannot be read: {error}") from error
    if len(raw) != size or not opened.eof:
        raise PolicyRefused(f"bidding policy: a value model of {len(raw)} bytes; {size} are expected")
    steps = np.frombuffer(raw, "<i2").reshape(2, SLOTS)
    if int(np.abs(steps.astype(np.int32)).max()) > STEPS_MAX:
        raise PolicyRefused(f"bidding policy: a weight of the value model is beyond {STEPS_MAX} steps")
    return np.asarray(steps, np.int16)


@lru_cache(maxsize=4)  # one table is compiled for each curve that is tried
def slot_factors(packed: bytes) -> F64:
    """[SLOTS, 2] factors on the odds of click and conversion; [1, 2] ones where features say nothing. Never written to."""
    steps = unpack_slots(packed)
    if steps is None:
        return np.ones((1, 2))
    size = np.abs(steps.astype(np.int64))
    up = _COARSE[size // _POWERS] * _FINE[size % _POWERS]
    return np.ascontiguousarray(np.where(steps < 0, 1.0 / up, up).T)


def calibration_table(
    weights: ValueWeights, campaign_position: dict[str, int], exchanges: tuple[str, ...]
) -> F64:
    """[1 + exchange, campaign, 4]: what the odds of features (click, conversion) and those of plain counts are taken times
    before they are added up. Row 0 is any other exchange. Names that the catalog lacks are passed over."""
    table = np.ones((1 + len(exchanges), len(campaign_position), 4))
    for which, given in ((CLICK, weights.click_calibrations), (CONVERSION, weights.conversion_calibrations)):
        everything = given.get("*|*", 1.0)
        table[:, :, which] = everything
        rows = {name: at for at, name in enumerate(exchanges, 1)}
        for name, at in rows.items():
            table[at, :, which] = given.get(f"*|{name}", everything)
        for key, factor in given.items():
            campaign_id, _, exchange = key.rpartition("|")
            campaign, row = campaign_position.get(campaign_id), rows.get(exchange)
            if campaign is not None and row is not None:
                table[row, campaign, which] = factor
    for which, said in ((CLICK, weights.click_shares), (CONVERSION, weights.conversion_shares)):
        shares = np.tile(said.get("*", (0.0, 0.0)), (len(campaign_position), 1)).reshape(-1, 2)
        for campaign_id, pair in said.items():
            campaign = campaign_position.get(campaign_id)
            if campaign is not None:
                shares[campaign] = pair
        table[:, :, which] = shares[:, 0] + shares[:, 1] * table[:, :, which]
        table[:, :, PLAIN + which] = 1.0 - shares[:, 0] - shares[:, 1]
    return table


def check_weights(weights: ValueWeights) -> None:
    """Raise :class:`PolicyRefused` unless everything is finite, bounded and readable."""
    unpack_slots(weights.slots)
    for what, given in (
        ("click", weights.click_calibrations),
        ("conversion", weights.conversion_calibrations),
    ):
        if len(given) > CALIBRATIONS_MAX:
            raise PolicyRefused(
                f"bidding policy: {len(given)} {what} calibrations, at most {CALIBRATIONS_MAX}"
            )
        for name, factor in given.items():
            if not CALIBRATION_MIN <= factor <= CALIBRATION_MAX:
                raise PolicyRefused(
                    f"bidding policy: {what} calibration of {name!r} is {factor}, outside [{CALIBRATION_MIN}, "
                    f"{CALIBRATION_MAX}]"
                )
    for what, shares in (("click", weights.click_shares), ("conversion", weights.conversion_shares)):
        if len(shares) > CALIBRATIONS_MAX:
            raise PolicyRefused(f"bidding policy: {len(shares)} {what} shares, at most {CALIBRATIONS_MAX}")
        for name, pair in shares.items():
            if not (min(pair) >= 0.0 and sum(pair) <= 1.0 + 1e-9):
                raise PolicyRefused(
                    f"bidding policy: {what} shares of {name!r} are {pair}, no parts of a whole"
                )


# ---- the kernels


@njit
def request_part(
    context: NDArray[np.uint32], segment_hash: np.uint64, factors: F64, sources: U64
) -> tuple[float, float]:
    """Fill ``sources`` with all that is the request's, and return its factors on the odds of click and conversion."""
    sources[0] = np.uint64(0)
    sources[SEGMENT] = segment_hash
    for k in range(FIELDS_N):
        sources[2 + k] = np.uint64(context[k])
    click = 1.0
    conversion = 1.0
    if factors.shape[0] > 1:
        for t in range(OF_REQUEST):
            at = slot_kernel(t, sources[PAIRS[t, 0]], sources[PAIRS[t, 1]])
            click *= factors[at, 0]
            conversion *= factors[at, 1]
    return click, conversion


@njit
def shown_to(events: NDArray[np.int64], known: np.uint64, line_item: np.uint64) -> int:
    """How often a person's records name a line item; 0 for nobody we may know (``known`` 0)."""
    shown = 0
    if known != np.uint64(0):
        key = np.int64(line_item)
        for e in range(events.shape[0]):
            if events[e, 0] == key:
                shown += 1
    return shown


@njit
def candidate_part(
    click: float,
    conversion: float,
    campaign: np.uint64,
    line_item: np.uint64,
    events: NDArray[np.int64],
    known: np.uint64,
    factors: F64,
    sources: U64,
) -> tuple[float, float]:
    """The request's factors times the candidate's, bounded. ``known`` 0: nobody we may know, so no exposures."""
    if factors.shape[0] <= 1:
        return click, conversion
    shown = shown_to(events, known, line_item)
    level = shown if shown < 3 else (3 if shown < 5 else (4 if shown < 9 else 5))
    sources[CAMPAIGN] = campaign
    sources[LINE_ITEM] = line_item
    sources[EXPOSED] = np.uint64(level)
    for t in range(OF_REQUEST, TEMPLATES_N):
        at = slot_kernel(t, sources[PAIRS[t, 0]], sources[PAIRS[t, 1]])
        click *= factors[at, 0]
        conversion *= factors[at, 1]
    return min(max(click, FACTOR_MIN), FACTOR_MAX), min(max(conversion, FACTOR_MIN), FACTOR_MAX)


@njit
def corrected(rate: float, factor: float) -> float:
    """``rate`` in [0, 1] with its odds times ``factor``.

    >>> corrected(0.5, 3.0), corrected(1.0, 0.1), corrected(0.0, 9.0)
    (0.75, 1.0, 0.0)
    """
    if rate >= 1.0 or factor == 1.0:
        return rate
    odds = rate / (1.0 - rate) * factor
    return odds / (1.0 + odds)


# ---- the same in plain Python, for whoever asks why


def shown_before(events: bytes, line_item: int) -> int:
    """How often a person's records (``bidder.frequency``: 4 int64 each) name a line item; both as signed hashes."""
    key = line_item.to_bytes(8, "little", signed=True)
    return sum(events[at : at + 8] == key for at in range(0, len(events), 32))


def explain_factors(
    context: bytes, segment: int, campaign: int, line_item: int, shown: int, factors: F64
) -> dict[str, tuple[float, float]]:
    """What each template does to the odds of (click, conversion), in the order in which the kernel multiplies."""
    if len(factors) <= 1:
        return {}
    assert len(context) == CONTEXT_BYTES, "a context has one value for each field"
    fields = np.frombuffer(context, "<u4").tolist()
    sources = [0, segment, *fields, campaign, line_item, exposure_level(shown)]
    assert len(sources) == SOURCES
    found = {}
    for t, (name, a, b, _) in enumerate(TEMPLATES):
        at = slot(t, sources[a], sources[b])
        found[name] = (float(factors[at, 0]), float(factors[at, 1]))
    return found
