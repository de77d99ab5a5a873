"""The loops behind the win curves. Rows are intervals for M, the minimum bid to win; prices are bin numbers.

Bin j holds prices in (edge[j-1], edge[j]]; the last bin holds whatever is above every edge. One auction leaves one row:

* EXACT: M was told, whoever won it: bin of M;
* BELOW: won, M not told: M is in a bin up to that of the bid;
* ABOVE: lost, M not told: M is in a bin past that of the bid.

With EXACT alone this is a histogram; with BELOW and EXACT the reverse-time product limit (price told on loss); with
EXACT and ABOVE Kaplan-Meier (price told on win); with BELOW and ABOVE isotonic regression on win and loss. A segment
may mix them.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from counterpoint.base.jit import njit

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

EXACT, BELOW, ABOVE = 0, 1, 2
ODDS_EDGE = 1e-4  # a win rate is at least this far from 0 and 1 where odds are taken
WINDOW = 4  # a told price is scored by the mass within so many bins of it: a bin alone is noise


@njit
def self_consistent(
    counts: FloatArray, prior: FloatArray, prior_rows: float, mass: FloatArray, steps: int, enough: float
) -> int:
    """Turnbull's self-consistent estimate of the distribution of M, shrunk to ``prior`` by ``prior_rows`` exact rows
    distributed like it (Turnbull 1976; Susarla and Van Ryzin 1976 for the prior).

    ``counts[3, bins]`` weighted rows. ``mass[bins]`` is where to start (all of its own support) and the result; sums to
    1. Stops after ``steps`` or when no cumulated mass moves by ``enough``; returns the steps taken.
    """
    bins = len(mass)
    total = prior_rows
    censored = False
    for j in range(bins):
        total += counts[EXACT, j] + counts[BELOW, j] + counts[ABOVE, j]
        if counts[BELOW, j] > 0.0 or counts[ABOVE, j] > 0.0:
            censored = True
    if total <= 0.0:
        return 0
    if not censored:
        for j in range(bins):
            mass[j] = (prior_rows * prior[j] + counts[EXACT, j]) / total
        return 1
    share = np.empty(bins)
    for step in range(steps):
        cumulated = 0.0
        above = 0.0
        for j in range(bins):
            # rows that were lost below j stretch over it, by the mass they leave open
            share[j] = above
            cumulated += mass[j]
            left_open = 1.0 - cumulated
            if counts[ABOVE, j] > 0.0 and left_open > 1e-12:
                above += counts[ABOVE, j] / left_open
        below = 0.0
        moved = 0.0
        old, new = 0.0, 0.0
        for j in range(bins - 1, -1, -1):
            # cumulated is the mass up to and with j
            if counts[BELOW, j] > 0.0 and cumulated > 1e-12:
                below += counts[BELOW, j] / cumulated
            cumulated -= mass[j]
            fresh = (prior_rows * prior[j] + counts[EXACT, j] + mass[j] * (share[j] + below)) / total
            old += mass[j]
            new += fresh
            moved = max(moved, abs(new - old))
            mass[j] = fresh
        for j in range(bins):  # rows that contradict all mass leave some out
            mass[j] /= new
        if moved < enough:
            return step + 1
    return steps


@njit
def log_logistic(mass: FloatArray, log_edges: FloatArray, out: FloatArray) -> None:
    """The log-logistic distribution closest to ``mass``: weighted least squares on the log-odds. Writes its mass."""
    bins = len(mass)
    n, sx, sy, sxx, sxy = 0.0, 0.0, 0.0, 0.0, 0.0
    cumulated = 0.0
    for j in range(bins - 1):
        cumulated += mass[j]
        if mass[j] > 0.0 and cumulated > 0.01 and cumulated < 0.99:
            weight = cumulated * (1.0 - cumulated)
            y = math.log(cumulated / (1.0 - cumulated))
            n += weight
            sx += weight * log_edges[j]
            sy += weight * y
            sxx += weight * log_edges[j] * log_edges[j]
            sxy += weight * log_edges[j] * y
    spread = sxx - sx * sx / n if n > 0.0 else 0.0
    slope = 2.0
    if spread > 1e-9:
        slope = min(max((sxy - sx * sy / n) / spread, 0.5), 20.0)
    centre = log_edges[bins // 2]
    if n > 0.0:
        centre = sx / n - sy / n / slope
    else:
        reached = 0.0
        for j in range(bins - 1):
            reached += mass[j]
            if reached >= 0.5:
                centre = log_edges[j]
                break
    before = 0.0
    for j in range(bins - 1):
        rate = 1.0 / (1.0 + math.exp(-slope * (log_edges[j] - centre)))
        out[j] = rate - before
        before = rate
    out[bins - 1] = 1.0 - before


@njit
def carried_over(own: FloatArray, now: FloatArray, usual: FloatArray, out: FloatArray) -> None:
    """Win rates ``own`` moved as far as the segment has moved, in log-odds: odds(own) x odds(now) / odds(usual), never
    falling. All four: win rate by bin."""
    highest = 0.0
    for j in range(len(own)):
        a = min(max(own[j], ODDS_EDGE), 1.0 - ODDS_EDGE)
        b = min(max(now[j], ODDS_EDGE), 1.0 - ODDS_EDGE)
        c = min(max(usual[j], ODDS_EDGE), 1.0 - ODDS_EDGE)
        if own[j] <= ODDS_EDGE and now[j] <= ODDS_EDGE:
            rate = min(own[j], now[j])
        else:
            odds = a / (1.0 - a) * (b / (1.0 - b)) * ((1.0 - c) / c)
            rate = odds / (1.0 + odds)
        highest = max(highest, rate)
        out[j] = highest


@njit
def likelihood(rates: FloatArray, kind: int, at: int) -> float:
    """How likely win rates by bin make one row."""
    if kind == BELOW:
        return float(rates[at])
    if kind == ABOVE:
        return float(1.0 - rates[at])
    low = rates[at - WINDOW - 1] if at > WINDOW else 0.0
    return float(rates[min(at + WINDOW, len(rates) - 1)] - low)


@njit
def score(
    kinds: IntArray, bins: IntArray, leaves: IntArray, tracked: IntArray, candidates: FloatArray,
    weights: FloatArray, keep: float, temper: float,
) -> None:  # fmt: skip
    """Move ``weights[segment, way]`` (log) by how likely each way of ``candidates[node, way, bin]`` made each row."""
    ways = weights.shape[1]
    for i in range(len(kinds)):
        at = tracked[i]
        if at < 0 or candidates[leaves[i], 0, candidates.shape[2] - 1] <= 0.0:
            continue
        for k in range(ways):
            chance = likelihood(candidates[leaves[i], k], kinds[i], bins[i])
            weights[at, k] = keep * weights[at, k] + temper * math.log(0.98 * chance + 0.02 / 100.0)


@njit
def duel(
    kinds: IntArray, bins: IntArray, nodes: IntArray, rivals: IntArray, candidates: FloatArray, leads: FloatArray,
    keep: float,
) -> None:  # fmt: skip
    """Move ``leads[node]`` (log) by how much likelier the node made each row than the row's rival node did. ``nodes`` and
    ``rivals`` [row], -1 for none; ``candidates[node, 0]`` the node's cumulated mass, as :func:`score` reads it."""
    last = candidates.shape[2] - 1
    for i in range(len(kinds)):
        at, rival = nodes[i], rivals[i]
        if at < 0 or rival < 0 or candidates[at, 0, last] <= 0.0 or candidates[rival, 0, last] <= 0.0:
            continue
        ours = likelihood(candidates[at, 0], kinds[i], bins[i])
        theirs = likelihood(candidates[rival, 0], kinds[i], bins[i])
        leads[at] = keep * leads[at] + math.log((0.98 * ours + 0.02 / 100.0) / (0.98 * theirs + 0.02 / 100.0))


@njit
def add_rows(
    kinds: IntArray, bins: IntArray, prices: FloatArray, nodes: IntArray, counts: FloatArray,
    tops: FloatArray, atoms: FloatArray, votes: FloatArray, added: FloatArray,
) -> None:  # fmt: skip
    """``nodes[row, level]``: which nodes a row teaches, -1 for none.

    Beside the counts, by bin: ``tops``, the highest price told, and ``atoms``, the price that told prices most agree on
    (a rival's or a hidden floor), with their majority in ``votes`` (Boyer and Moore 1981)."""
    for i in range(len(kinds)):
        for level in range(nodes.shape[1]):
            node = nodes[i, level]
            if node < 0:
                continue
            counts[node, kinds[i], bins[i]] += 1.0
            added[node] += 1.0
            if kinds[i] == EXACT:
                tops[node, bins[i]] = max(tops[node, bins[i]], prices[i])
                _vote(atoms[node], votes[node], bins[i], prices[i])


@njit
def _vote(atoms: FloatArray, votes: FloatArray, at: int, price: float) -> None:
    if atoms[at] == price:
        votes[at] += 1.0
    elif votes[at] < 1.0:
        atoms[at] = price
        votes[at] = 1.0
    else:
        votes[at] -= 1.0


@njit
def add_fast(
    kinds: IntArray,
    bins: IntArray,
    slots: IntArray,
    fast: FloatArray,
    weights: FloatArray,
    growth: FloatArray,
) -> None:
    """``fast[slot, speed]`` fades by rows: each row weighs ``growth[speed]`` times the row before it, and
    ``weights[slot, speed]`` is the newest row's weight."""
    for i in range(len(kinds)):
        for level in range(slots.shape[1]):
            slot = slots[i, level]
            if slot < 0:
                continue
            for k in range(len(growth)):
                weights[slot, k] *= growth[k]
                if weights[slot, k] > 1e9:
                    fast[slot, k] /= weights[slot, k]
                    weights[slot, k] = 1.0
                fast[slot, k, kinds[i], bins[i]] += weights[slot, k]


@njit
def knots(
    prices: FloatArray, rates: FloatArray, first: int, last: int, error_max: float, most: int, chosen: NDArray[np.bool_]
) -> int:  # fmt: skip
    """Mark the fewest points (greedily, worst first) whose straight lines stay within ``error_max`` of ``rates`` over
    ``first..last``; how many."""
    for j in range(len(chosen)):
        chosen[j] = False
    chosen[first] = True
    chosen[last] = True
    found = 2 if last > first else 1
    # by interval between chosen points: where the line is worst, found once and again only when it is cut
    worst = np.zeros(most + 1, np.int64)
    error = np.zeros(most + 1)
    starts = np.zeros(most + 1, np.int64)
    ends = np.zeros(most + 1, np.int64)
    intervals = 1
    starts[0], ends[0] = first, last
    worst[0], error[0] = _worst(prices, rates, first, last)
    while found < most:
        k = 0
        for i in range(1, intervals):
            if error[i] > error[k]:
                k = i
        if error[k] <= error_max:
            break
        at = worst[k]
        chosen[at] = True
        found += 1
        end = ends[k]
        ends[k] = at
        worst[k], error[k] = _worst(prices, rates, starts[k], at)
        starts[intervals], ends[intervals] = at, end
        worst[intervals], error[intervals] = _worst(prices, rates, at, end)
        intervals += 1
    return found


@njit
def _worst(prices: FloatArray, rates: FloatArray, first: int, last: int) -> tuple[int, float]:
    at, most = first, 0.0
    if last <= first:
        return at, most
    slope = (rates[last] - rates[first]) / (prices[last] - prices[first])
    for j in range(first + 1, last):
        off = abs(rates[first] + slope * (prices[j] - prices[first]) - rates[j])
        if off > most:
            at, most = j, off
    return at, most
