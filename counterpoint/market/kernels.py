"""The compiled heart of :meth:`World.responses`: probabilities of what a shown creative does."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from counterpoint.base.jit import njit
from counterpoint.market.quantiles import normal_cdf

NO_TURN: Final[NDArray[np.float64]] = np.empty(0)
STEEPNESS: Final = 4.0
STEEP_AT: Final = 1.0


@njit
def sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x))


@njit
def wear(seen: float, weight: float, wear_in: float) -> float:
    """What exposures before do to the logit of a click: 0 at none; with ``wear_in`` the first ones help."""
    if wear_in <= 0.0:
        return -weight * math.log1p(seen)
    gain = seen / wear_in * math.exp(1.0 - seen / wear_in)
    return weight * (gain - math.log1p(max(0.0, seen - wear_in)))


@njit
def show_one(count: Any, at_ns: Any, user: int, campaign: int, t_ns: int, tau_ns: float) -> float:
    """One impression: decayed exposures before it; the tables of ``state.Exposures`` are brought up to it."""
    age = max(t_ns - at_ns[user, campaign], 0)
    before: float = count[user, campaign] * math.exp(-age / tau_ns)
    count[user, campaign] = before + 1.0
    at_ns[user, campaign] = t_ns
    return before


@njit
def show_each(
    count: Any, at_ns: Any, users: Any, campaigns: Any, t_ns: Any, tau_ns: float, before: Any
) -> None:
    """Impressions in order; fills ``before``."""
    for k in range(users.shape[0]):
        before[k] = show_one(count, at_ns, users[k], campaigns[k], t_ns[k], tau_ns)


@njit
def respond(
    taste: Any,
    content: Any,
    user: Any,
    creative: Any,
    turn: Any,
    offset: Any,
    seen: Any,
    click: Any,
    conversion_logit: Any,
    lift: Any,
    conversion_taste: float,
    averse: Any,
    quality: Any,
    timed: Any,
    attention: Any,
    out: Any,
) -> None:
    """Rows of ``out``: click, conversion, and, where it has six, view, skip, relevance, satisfaction.

    Affinity is taste . content turned by ``turn``: standard normal over people, since contents are unit vectors.
    """
    turning = turn.shape[0] > 0
    for i in range(user.shape[0]):
        u, j = user[i], creative[i]
        affinity = 0.0
        if turning:
            c, s = math.cos(turn[i]), math.sin(turn[i])
            for d in range(0, taste.shape[1], 2):
                a, b = content[j, d], content[j, d + 1]
                affinity += taste[u, d] * (c * a - s * b) + taste[u, d + 1] * (s * a + c * b)
        else:
            for d in range(taste.shape[1]):
                affinity += taste[u, d] * content[j, d]
        worn = wear(seen[i], click[1], click[2])
        if click[3] > 0.5:
            taste_part = 4.0 * click[0] * (sigmoid(STEEPNESS * (affinity - STEEP_AT)) - 0.15)
        else:
            taste_part = click[0] * affinity
        out[0, i] = sigmoid(offset[i] + taste_part + worn)
        out[1, i] = min(sigmoid(conversion_logit[i] + conversion_taste * affinity) * lift[i], 0.95)
        if out.shape[0] == 2:
            continue
        out[2, i] = sigmoid(attention[3] + attention[4] * quality[i])
        out[3, i] = 0.0
        if timed[i]:
            out[3, i] = sigmoid(attention[0] + attention[1] * averse[i] - attention[2] * affinity)
        out[4, i] = normal_cdf(affinity)
        out[5, i] = sigmoid(
            attention[5]
            + attention[6] * affinity
            - attention[7] * averse[i]
            - attention[8] * math.log1p(seen[i])
        )
