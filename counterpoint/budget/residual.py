"""The learned part: a small policy that tilts the curves where splitting by today's margin is wrong.

x = water-filling(curves x exp(u)), u = 0.4 tanh(features . weights), the same weights for every arm, so that arms may be
renamed, added and dropped. It is trained in simulation (``counterpoint train budget``) and deployed as a JSON file; u = 0
is splitting by the curves alone.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Final

import msgspec
import numpy as np
from msgspec import Struct

from counterpoint.base.errors import PolicyRefused
from counterpoint.base.ids import digest
from counterpoint.budget.shapes import Array

TILT_MAX: Final = 0.4  # log factor on an arm's marginal return
WEIGHT_MAX: Final = 20.0
CARRY_MAX: Final = 2.0
FEATURES: Final = (
    "log_share",  # of the pool, against an equal one
    "doubt",  # relative standard deviation of the level
    "surprise",  # short mean of the surprises
    "trend",  # long mean of the surprises
    "converts",  # 1 where outcomes are conversions, which come late and may feed on earlier spend; else 0
    "stock",  # of the arm's recent impressions, in shares of a day's traffic on its paths, where it converts
    "stock_high",  # 0 up to half a day's traffic, then rising
    "carry",  # how outcomes were seen to follow the stock (elasticity), over the curve's own elasticity
    "carry_left",  # the same, times the share of the flight that is left
    "end",  # share of the flight gone, where it converts
)
SHIPPED: Final = "residual-v1.json"


class Residual(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``trained_on`` says how, for people; ``gain`` what it was worth on seeds it had not seen, percent with 95 % interval."""

    name: str
    features: tuple[str, ...]
    weights: tuple[float, ...]
    trained_on: str = ""
    seeds: str = ""
    gain: str = ""

    @property
    def digest(self) -> str:
        return digest(msgspec.json.encode([self.features, self.weights]))


def load(raw: bytes, source: str) -> Residual:
    """Raises :class:`PolicyRefused` on what cannot be used, saying why."""
    try:
        residual = msgspec.json.decode(raw, type=Residual)
    except msgspec.DecodeError as broken:
        raise PolicyRefused(
            f"{source}: no residual policy ({broken}); make one with 'counterpoint train budget'"
        ) from broken
    if residual.features != FEATURES:
        raise PolicyRefused(f"{source}: made for other features; train it again with this version")
    weights = np.array(residual.weights)
    if weights.shape != (len(FEATURES),) or not np.isfinite(weights).all():
        raise PolicyRefused(
            f"{source}: needs {len(FEATURES)} finite weights; train it again with this version"
        )
    if np.abs(weights).max() > WEIGHT_MAX:
        raise PolicyRefused(
            f"{source}: a weight is above {WEIGHT_MAX:g}; train it again, with a smaller step"
        )
    return residual


def shipped() -> Residual:
    return load(files("counterpoint.budget").joinpath(SHIPPED).read_bytes(), SHIPPED)


def features(
    *,
    share: Array,
    doubt: Array,
    surprise: Array,
    trend: Array,
    converts: Array,
    stock: Array,
    carry: Array,
    gone: Array | float,
) -> Array:
    """(..., K, F). ``share``: in equal shares; ``converts``: 0 or 1; ``carry``: within :data:`CARRY_MAX`; ``gone``: 0..1."""
    log_share = np.log(np.maximum(share, 1e-3))
    held = stock * converts
    return np.stack(
        [
            log_share,
            np.minimum(doubt, 3.0),
            np.clip(surprise, -3.0, 3.0),
            np.clip(trend, -3.0, 3.0),
            converts,
            np.minimum(held, 4.0),
            converts * np.maximum(np.minimum(held, 4.0) - 0.5, 0.0),
            converts * carry,
            converts * carry * (1.0 - np.asarray(gone)),
            np.broadcast_to(np.asarray(gone), share.shape) * converts,
        ],
        axis=-1,
    )


def tilt(weights: Array, of: Array) -> Array:
    """(..., K) log factors within :data:`TILT_MAX`. ``weights``: (F,), or (..., F) for many policies at once."""
    raw: Array = TILT_MAX * np.tanh((of * weights[..., None, :]).sum(axis=-1))
    return np.asarray(raw - raw.mean(axis=-1, keepdims=True))
