"""The estimator against the textbook ones, worked out the long way on small cases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from counterpoint.bidding.price import envelope
from counterpoint.bidding.win_kernels import ABOVE, BELOW, EXACT, knots, self_consistent

FloatArray = NDArray[np.float64]
BINS = 8
Rows = list[tuple[int, int]]  # (kind, bin)


def counted(rows: Rows) -> FloatArray:
    counts = np.zeros((3, BINS))
    for kind, at in rows:
        counts[kind, at] += 1.0
    return counts


def estimate(rows: Rows, prior_rows: float = 1e-7, steps: int = 20_000) -> FloatArray:
    """Win rate by bin."""
    prior = np.full(BINS, 1.0 / BINS)
    mass = prior.copy()
    self_consistent(counted(rows), prior, prior_rows, mass, steps, 1e-12)
    return np.cumsum(mass)


def kaplan_meier(told: list[int], beyond: list[int]) -> FloatArray:
    """F by bin from prices told at bins and rows known to lie past a bin, by the product over bins of 1 - d / n."""
    survival, rates = 1.0, np.zeros(BINS)
    for j in range(BINS):
        at_risk = sum(x >= j for x in told) + sum(x >= j for x in beyond)
        if at_risk:
            survival *= 1.0 - sum(x == j for x in told) / at_risk
        rates[j] = 1.0 - survival
    return rates


bins = st.lists(st.integers(0, BINS - 2), min_size=1, max_size=25)


@given(bins)
def test_told_prices_alone_give_the_empirical_distribution(told: list[int]) -> None:
    expected = [np.mean([x <= j for x in told]) for j in range(BINS)]
    assert estimate([(EXACT, x) for x in told]) == pytest.approx(expected, abs=1e-6)


@settings(deadline=None)
@given(bins, st.lists(st.integers(0, BINS - 2), max_size=25))
def test_price_on_win_is_kaplan_meier(told: list[int], beyond: list[int]) -> None:
    rates = estimate([*((EXACT, x) for x in told), *((ABOVE, x) for x in beyond)])
    last = max(told) + 1  # past the last told price it is not identified
    assert rates[:last] == pytest.approx(kaplan_meier(told, beyond)[:last], abs=1e-3)


@settings(deadline=None)
@given(bins, bins)
def test_price_on_loss_is_the_product_limit_in_reverse(told: list[int], below: list[int]) -> None:
    """Mirrored: M up to a bin is -M past the one before."""
    rates = estimate([*((EXACT, x) for x in told), *((BELOW, x) for x in below)])
    mirrored = kaplan_meier([BINS - 1 - x for x in told], [BINS - 2 - x for x in below])
    for j in range(min(told), BINS - 1):
        assert rates[j] == pytest.approx(1.0 - mirrored[BINS - 2 - j], abs=1e-3)


def pooled(wins: FloatArray, rows: FloatArray) -> FloatArray:
    """Isotonic regression by its min-max formula."""
    n = len(wins)
    return np.array(
        [
            max(min(wins[i : k + 1].sum() / rows[i : k + 1].sum() for k in range(j, n)) for i in range(j + 1))
            for j in range(n)
        ]
    )


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=3, max_size=BINS - 1))
def test_win_or_loss_alone_is_isotonic_regression(outcomes: list[tuple[int, int]]) -> None:
    wins = np.array([won for won, _ in outcomes], dtype=float)
    rows = wins + np.array([lost for _, lost in outcomes], dtype=float)
    used = np.flatnonzero(rows)
    rows_given = [
        row for j, (won, lost) in enumerate(outcomes) for row in [(BELOW, j)] * won + [(ABOVE, j)] * lost
    ]
    if not rows_given:
        return
    rates = estimate(rows_given)[used]

    def fit(rates: FloatArray) -> float:
        clipped = np.clip(rates, 1e-9, 1 - 1e-9)
        return float(np.sum(wins[used] * np.log(clipped) + (rows - wins)[used] * np.log(1 - clipped)))

    assert fit(rates) == pytest.approx(fit(pooled(wins[used], rows[used])), abs=0.02)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([EXACT, BELOW, ABOVE]), st.integers(0, BINS - 1)), max_size=40),
    st.floats(0.01, 300.0),
    st.integers(0, 60),
)
def test_whatever_the_mix_it_is_a_distribution(rows: Rows, prior_rows: float, steps: int) -> None:
    rates = estimate(rows, prior_rows, steps)
    assert np.all(np.diff(rates) >= 0)
    assert rates[0] >= 0
    assert rates[-1] == pytest.approx(1.0)


def test_more_steps_never_make_the_rows_less_likely() -> None:
    """It is an EM algorithm: the likelihood, prior included, rises with every step."""
    rng = np.random.default_rng(1)
    counts = rng.integers(0, 9, (3, BINS)).astype(float)
    prior = np.full(BINS, 1.0 / BINS)

    def log_likelihood(mass: FloatArray) -> float:
        rates = np.cumsum(mass)
        return float(
            np.sum((counts[EXACT] + 5.0 * prior) * np.log(mass))
            + np.sum(counts[BELOW] * np.log(rates))
            + np.sum(counts[ABOVE, :-1] * np.log(1.0 - rates[:-1]))
        )

    found = []
    counts[ABOVE, -1] = 0.0  # nothing is past the last bin
    for steps in (1, 2, 4, 8, 50):
        mass = prior.copy()
        self_consistent(counts, prior, 5.0, mass, steps, 0.0)
        found.append(log_likelihood(mass))
    assert found == sorted(found)


@given(
    st.lists(st.tuples(st.integers(1, 1_000), st.floats(0, 1)), min_size=1, max_size=30),
    st.lists(st.floats(0.1, 3_000.0), max_size=10),
)
def test_the_envelope_is_the_best_price_for_every_value(
    points: list[tuple[int, float]], values: list[float]
) -> None:
    bids = np.array(sorted({float(b) for b, _ in points}))
    rates = np.sort(np.array([rate for _, rate in points[: len(bids)]]))
    start, best = np.full(len(bids), np.inf), np.zeros(len(bids))
    pieces = envelope(bids, rates, start, best)
    assert np.all(np.diff(start[:pieces]) > 0)
    assert np.all(np.diff(best[:pieces]) > 0)
    for value in values:
        k = int(np.searchsorted(start[:pieces], value, side="right")) - 1
        surplus = (value - bids) * rates
        found = float(surplus[np.searchsorted(bids, best[k])]) if k >= 0 else 0.0
        assert found == pytest.approx(max(float(surplus.max()), 0.0), abs=1e-9 * 1_000)


def test_knots_keep_the_curve_within_their_error() -> None:
    rng = np.random.default_rng(2)
    prices, rates = np.cumsum(rng.uniform(1, 5, 300)), np.sort(rng.beta(2, 2, 300))
    for most in (2, 10, 96):
        chosen = np.zeros(300, dtype=np.bool_)
        found = knots(prices, rates, 0, 299, 0.01, most, chosen)
        at = np.flatnonzero(chosen)
        assert found == len(at) <= most
        assert (at[0], at[-1]) == (0, 299)
    assert np.max(np.abs(np.interp(prices, prices[at], rates[at]) - rates)) <= 0.01
