"""Shapes of diminishing returns that the learner averages over: logarithmic, power and exponential.

Spend is in equal shares of the pool, and every shape is 1 at one equal share, so that its factor means the same in all:
what an equal share brings.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

LOG_C: Final = np.geomspace(0.02, 20.0, 9)
POWER: Final = np.array([0.3, 0.5, 0.7, 0.85])
EXP_C: Final = np.array([0.3, 0.8, 2.0])
COUNT: Final = len(LOG_C) + len(POWER) + len(EXP_C)
LEAST: Final = 1e-4  # of an equal share: a power's slope is not asked for below
_LOG_UNIT: Final = np.log1p(1.0 / LOG_C)
_EXP_UNIT: Final = -np.expm1(-1.0 / EXP_C)


def values(x: Array) -> Array:
    """Shape (..., :data:`COUNT`) of spends of shape (...)."""
    x = np.maximum(x, 0.0)[..., None]
    return np.concatenate(
        [np.log1p(x / LOG_C) / _LOG_UNIT, x**POWER, -np.expm1(-x / EXP_C) / _EXP_UNIT], axis=-1
    )


def slopes(x: Array) -> Array:
    """Derivatives of :func:`values`."""
    x = np.maximum(x, LEAST)[..., None]
    return np.concatenate(
        [
            1.0 / ((LOG_C + x) * _LOG_UNIT),
            POWER * x ** (POWER - 1.0),
            np.exp(-x / EXP_C) / (EXP_C * _EXP_UNIT),
        ],
        axis=-1,
    )


def elasticity(x: Array) -> Array:
    """Marginal over average return, (0, 1]: the only thing about a curve that its level does not tell."""
    x = np.maximum(x, LEAST)
    return np.asarray(x[..., None] * slopes(x) / values(x))
