from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from counterpoint.base.errors import ConfigError
from counterpoint.market.logs.feedback import split
from counterpoint.market.logs.judge import BLOCK_ROWS, BLOCKS_MIN, blocks_of, compare, draws, perfect_surplus
from counterpoint.market.logs.read import FloatArray
from counterpoint.market.logs.run import ReplaySettings, first_judged_row, replay
from counterpoint.market.logs.table import LogError
from counterpoint.market.logs.terms import Auction
from tests.market.logs.synthetic import EPISODES, TIMED, make_log

HALF = Fraction(1, 2)


def sums(**metrics: list[float]) -> dict[str, FloatArray]:
    n = len(next(iter(metrics.values())))
    return {
        name: np.array(metrics.get(name, [1.0] * n))
        for name in ("value", "surplus", "sum_pctr", "clicks", "perfect")
    }


def test_a_policy_against_itself_gains_nothing_for_certain() -> None:
    one = sums(value=[3.0, 1.0, 2.0] * 4)
    told = compare("b", "a", [one], [one], draws([12], 500, 1))
    assert (told.value_gain.value, told.value_gain.low, told.value_gain.high) == (0.0, 0.0, 0.0)


def test_a_constant_ratio_has_no_spread_and_pairing_keeps_it() -> None:
    theirs = sums(value=[3.0, 100.0, 2.0, 7.0] * 3, surplus=[1.0, 2.0, 3.0, 4.0] * 3, perfect=[10.0] * 12)
    ours = sums(value=[6.0, 200.0, 4.0, 14.0] * 3, surplus=[2.0, 3.0, 4.0, 5.0] * 3, perfect=[10.0] * 12)
    told = compare("b", "a", [ours], [theirs], draws([12], 500, 1))
    assert told.value_gain.value == told.value_gain.low == told.value_gain.high == 1.0
    assert told.surplus_share_gain.value == pytest.approx(0.1)
    assert told.surplus_share_gain.low == pytest.approx(0.1)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(5)
    hits = 0
    for trial in range(200):
        base = generator.gamma(4.0, 1.0, 60)
        gain = sums(value=(base * (1.1 + 0.3 * generator.standard_normal(60))).tolist())
        told = compare("b", "a", [gain], [sums(value=base.tolist())], draws([60], 300, trial)).value_gain
        assert told.low is not None
        assert told.high is not None
        hits += told.low <= 0.1 <= told.high
    assert (
        176 <= hits <= 199
    )  # 95 % of 200, give or take three standard deviations and the percentile's own bias


def test_files_are_strata() -> None:
    """Between two files that differ much, nothing is drawn: only blocks inside each are."""
    n = BLOCKS_MIN
    small, large, ours = sums(value=[1.0] * n), sums(value=[1_000.0] * n), sums(value=[2.0] * n)
    told = compare("b", "a", [ours, large], [small, large], draws([n, n], 300, 1)).value_gain
    assert told.value == told.low == told.high == pytest.approx(1.0 / 1_001.0)


def test_one_file_of_few_blocks_leaves_no_interval_to_any() -> None:
    few, many = sums(value=[1.0] * (BLOCKS_MIN - 1)), sums(value=[1.0] * BLOCKS_MIN)
    drawn = draws([BLOCKS_MIN - 1, BLOCKS_MIN], 300, 1)
    told = compare("b", "a", [few, many], [few, many], drawn).value_gain
    assert (told.value, told.low, told.high) == (0.0, None, None)


def test_what_is_not_defined_is_said_to_be_so() -> None:
    none = sums(clicks=[0.0] * 10)
    some = sums(clicks=[1.0] + [0.0] * 9)
    drawn = draws([10], 300, 1)
    assert compare("b", "a", [some], [none], drawn).clicks_gain.value is None
    few = compare("b", "a", [none], [some], drawn).clicks_gain  # a draw may hold no click at all
    assert (few.value, few.low, few.high) == (-1.0, None, None)


def test_blocks_are_episodes_or_consecutive_rows() -> None:
    log = make_log(5_000, kind=EPISODES)
    assert first_judged_row(log, Fraction(1, 3)) == 1_600  # back to where an episode of 100 begins
    _, judged, _ = split(log, 1_600, 0.99)
    assert np.bincount(blocks_of(judged, EPISODES)).tolist() == [100] * 34
    timed = make_log(2 * BLOCK_ROWS + 1_500, kind=TIMED)
    _, judged, _ = split(timed, 1_000, 0.99)
    assert np.bincount(blocks_of(judged, TIMED)).tolist() == [BLOCK_ROWS, BLOCK_ROWS, 500]


def test_a_log_too_short_to_judge() -> None:
    with pytest.raises(LogError, match="at least 20 of each"):
        first_judged_row(make_log(39), HALF)
    with pytest.raises(LogError, match="another --train-fraction"):
        first_judged_row(make_log(150, kind=EPISODES), HALF)  # its second half is not an episode of its own


def test_perfect_information_is_the_least_winning_bid_where_it_pays() -> None:
    _, judged, _ = split(make_log(400), 200, 0.99)
    assert perfect_surplus(judged).tolist() == [
        max(v - p, 0.0) for v, p in zip(judged.value, judged.market_price, strict=True)
    ]


def test_several_files_are_pooled_and_the_report_says_how_to_get_it_again() -> None:
    logs = [make_log(2_000, seed=seed) for seed in (1, 2)]
    settings = ReplaySettings(
        policies=("constant", "linear", "truthful"), auction=Auction.FIRST, resamples=200
    )
    told = replay(logs, settings, Fraction(1, 16), HALF)
    assert [(c.policy, c.against) for c in told.pooled] == [
        ("linear", "constant"),
        ("truthful", "constant"),
        ("truthful", "linear"),
    ]
    total = [sum(file.policies[i].value for file in told.files) for i in (0, 1)]
    assert told.pooled[0].value_gain.value == pytest.approx(total[1] / total[0] - 1.0)
    assert [t.value for t in told.totals][:2] == total
    perfect = sum(file.perfect_surplus for file in told.files)
    assert told.totals[1].surplus_share == pytest.approx(told.totals[1].surplus / perfect)
    assert told.settings == settings
    assert told.notes[0].startswith("COUNTERFACTUAL")
    assert any(note.startswith("truncated") for note in told.notes)
    assert "milli-fen" in told.unit


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ({"pctr_cap_quantile": 0.0}, "quantile"),
        ({"bid_max": 0}, "largest bid"),
        ({"resamples": 10}, "resamples"),
        ({"policies": ("linear", "linear")}, "named twice"),
        ({"policies": ("lineal",)}, "no replay policy"),
    ],
)
def test_settings_that_make_no_sense(words: dict[str, object], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        replay([make_log(100)], ReplaySettings(**words), None, HALF)  # type: ignore[arg-type]


def test_a_train_fraction_that_leaves_nothing() -> None:
    with pytest.raises(ConfigError, match="leaves nothing"):
        replay([make_log(100)], ReplaySettings(), None, Fraction(1))
