"""What features do to a chance: learned, calibrated, bounded, the same everywhere."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.base.clock import NS_PER_S
from counterpoint.bidding import delays, value_model
from counterpoint.bidding.calibration import PRIOR, Calibration
from counterpoint.bidding.chances import STEP, STEPS_MAX, pack_slots, shown_before, slot_factors
from counterpoint.bidding.delays import BINS, EDGES_S, Delays
from counterpoint.bidding.features import SLOTS, TEMPLATES, slot, slot_kernel
from counterpoint.bidding.outcomes import Click, Impression, Outcomes, OutcomesState
from counterpoint.bidding.rates import Rates
from counterpoint.bidding.segments import Segments
from counterpoint.bidding.stack import OTHERS_MAX, START, Stack
from counterpoint.bidding.value_model import Impressions, Shown, ValueModel


def impressions(n: int, rng: np.random.Generator, click_rate: float = 0.01) -> tuple[Impressions, np.ndarray]:
    """Half of them at a place where three times as many click."""
    at = rng.integers(0, 8, n)
    seen = [
        Shown(
            exchange="adx",
            media="banner",
            campaign=f"c{k % 3}",
            line_item=f"l{k % 5}",
            click_rate=click_rate,
            place=f"place-{k}",
            hour_of_week=int(rng.integers(168)),
        )
        for k in at
    ]
    return Impressions.of(seen), np.where(at < 4, 3.0, 1.0) * 0.01


def test_it_learns_where_people_click_and_is_calibrated() -> None:
    rng = np.random.default_rng(1)
    model = ValueModel()
    for _ in range(40):
        seen, true = impressions(1_000, rng)
        model.learn_clicks(seen, rng.random(1_000) < true)
    seen, true = impressions(2_000, rng)
    predicted, _ = model.predict(seen)
    divergence = true * np.log(true / predicted) + (1 - true) * np.log((1 - true) / (1 - predicted))
    without = true * np.log(true / 0.01) + (1 - true) * np.log((1 - true) / 0.99)
    assert divergence.mean() < 0.1 * without.mean()
    reliable, _ = model.reliability()
    assert reliable.ratio == pytest.approx(1.0, abs=0.06)
    assert abs(reliable.z) < 4.0


def test_after_any_silence_it_learns_on_from_the_features_prior() -> None:
    rng, model = np.random.default_rng(1), ValueModel()
    seen, true = impressions(2_000, rng)
    model.learn_clicks(seen, rng.random(2_000) < true)
    model.forget(1e10, 14 * 86_400.0, 3 * 86_400.0, 7 * 86_400.0)
    restored = ValueModel()
    restored.load(model.dump())
    restored.learn_clicks(seen, rng.random(2_000) < true)
    assert np.isfinite(restored.predict(seen)[0]).all()


def test_where_features_say_nothing_they_are_not_believed() -> None:
    rng = np.random.default_rng(2)
    model = ValueModel()
    for _ in range(20):
        seen, _ = impressions(1_000, rng)
        model.learn_clicks(seen, rng.random(1_000) < 0.01)
    predicted, _ = model.predict(impressions(500, rng)[0])
    assert np.abs(np.log(predicted / 0.01)).max() < 0.35


def test_the_same_rows_give_the_same_bytes_and_a_restored_model_goes_on_alike() -> None:
    rng = np.random.default_rng(3)
    seen, true = impressions(500, rng)
    clicked = rng.random(500) < true * 10
    models = [ValueModel(), ValueModel()]
    for model in models:
        model.learn_clicks(seen, clicked)
    assert msgspec.msgpack.encode(models[0].dump()) == msgspec.msgpack.encode(models[1].dump())
    again = ValueModel()
    again.load(models[0].dump())
    assert (again.predict(seen)[0] == models[0].predict(seen)[0]).all()


@pytest.mark.parametrize("raw", [b"", b"x" * 16, b"\xff" * 32 + b"y" * 69, b"z" * 10_000])
def test_a_foreign_snapshot_is_refused(raw: bytes) -> None:
    sound = ValueModel().dump()
    with pytest.raises(ValueError, match="value model"):
        ValueModel().load(msgspec.structs.replace(sound, click=raw))


@pytest.mark.parametrize("rate", [math.nan, -0.5, 0.0, 1.0, 7.0, math.inf])
def test_a_rate_that_is_no_chance_is_refused_and_counted(rate: float) -> None:
    model = ValueModel()
    shown = Shown(exchange="x", media="audio", campaign="c", line_item="l", click_rate=rate)
    seen = Impressions.of([shown, msgspec.structs.replace(shown, click_rate=0.1)])
    before = model.predict(seen)[0]
    assert before[0] == 0.0
    model.learn_clicks(seen, [1, 0])
    assert model.refused == 1
    assert 0.0 < model.predict(seen)[0][1] < before[1]


@settings(deadline=None, max_examples=50)
@given(
    labels=st.lists(st.sampled_from([0, 1]), min_size=1, max_size=40),
    rate=st.floats(1e-9, 1 - 1e-9),
    weights=st.floats(0, 1),
)
def test_whatever_it_learns_chances_are_chances(labels: list[int], rate: float, weights: float) -> None:
    model = ValueModel()
    shown = Shown(
        exchange="x", media="audio", campaign="c", line_item="l", click_rate=rate, conversion_rate=rate
    )
    seen = Impressions.of([shown] * len(labels))
    model.learn_clicks(seen, labels, [weights] * len(labels))
    model.learn_conversions(seen, labels, [weights] * len(labels))
    for chances in model.predict(seen):
        assert ((chances >= 0.0) & (chances <= 1.0)).all()
    slot_factors(model.weights().slots)  # can be published


@given(template=st.integers(0, len(TEMPLATES) - 1), a=st.integers(0, 2**64 - 1), b=st.integers(0, 2**64 - 1))
def test_slots_are_the_same_in_python_and_compiled(template: int, a: int, b: int) -> None:
    at = slot(template, a, b)
    assert 0 <= at < SLOTS
    assert at == slot_kernel(template, np.uint64(a), np.uint64(b))


def test_factors_are_what_was_learned_to_a_thousandth() -> None:
    weights = np.linspace(-3.0, 3.0, SLOTS)
    factors = slot_factors(pack_slots(weights, -weights))
    bound = STEPS_MAX * STEP
    np.testing.assert_allclose(np.log(factors[:, 0]), np.clip(weights, -bound, bound), atol=STEP)
    np.testing.assert_allclose(factors[:, 0] * factors[:, 1], 1.0, atol=1e-12)
    with pytest.raises(ValueError, match="not finite"):
        pack_slots(np.full(SLOTS, math.nan), weights)


def test_exposures_are_counted_in_a_persons_records() -> None:
    records = np.array([[5, 1, 2, 3], [-7, 1, 5, 5], [5, 9, 9, 9]], "<i8").tobytes()
    assert [shown_before(records, key) for key in (5, -7, 9)] == [2, 1, 0]


# ---- who is believed


def test_with_few_labels_it_is_the_counts() -> None:
    rng = np.random.default_rng(4)
    model, counts = ValueModel(), Segments()
    seen, true = impressions(400, rng, click_rate=0.02)
    clicked = rng.random(400) < true
    for k, label in enumerate(clicked.tolist()):  # one by one, as they come
        row = msgspec.structs.replace(
            seen,
            rows=seen.rows[k : k + 1],
            click_rates=seen.click_rates[k : k + 1],
            conversion_rates=seen.conversion_rates[k : k + 1],
            groups=seen.groups[k : k + 1],
        )
        model.learn_clicks(row, [label])
        counts.add("adx/banner", float(label), 0.02)
    predicted, _ = model.predict(seen)
    assert np.abs(np.log(predicted / (0.02 * counts.factor("adx/banner")))).max() < 0.1


def test_a_campaign_whose_features_mislead_keeps_its_counts() -> None:
    among = Stack()
    for _ in range(400):
        among.add("helped", (0.01, 0.02, 0.02), 1.0, 1.0)
        among.add("misled", (0.01, 0.03, 0.03), 0.0, 1.0)
    assert among.shares("helped")[0] < 1e-3
    assert among.shares("misled")[0] > 0.97
    counts, features, _ = among.shares("unknown")  # all together say little for it alone
    assert math.log(features / counts) <= START[0] + OTHERS_MAX + 1e-9
    said = among.published()
    assert all(sum(pair) <= 1.0 for pair in said.values())
    among.decay(1e-9)
    assert among.shares("misled") == pytest.approx(Stack().shares("misled"))
    among.forget({"helped"})
    assert set(among.evidence) == {"*", "helped"}


@given(
    told=st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "*"]),
            st.tuples(*[st.floats(1e-9, 1 - 1e-9)] * 3),
            st.sampled_from([0.0, 1.0]),
            st.floats(0, 1),
        ),
        max_size=30,
    )
)
def test_shares_are_parts_of_a_whole(
    told: list[tuple[str, tuple[float, float, float], float, float]],
) -> None:
    among = Stack()
    for campaign, predicted, label, weight in told:
        among.add(campaign, predicted, label, weight)
    for name in ("a", "b", "other"):
        shares = among.shares(name)
        assert min(shares) >= 0.0
        assert sum(shares) == pytest.approx(1.0)


def test_what_is_published_prices_as_the_model_predicts() -> None:
    """Counts, features and calibration in a policy give the bidder the learner's own chance."""
    from counterpoint.bidding.chances import calibration_table, corrected, explain_factors

    rng = np.random.default_rng(6)
    model = ValueModel()
    for _ in range(30):
        seen, true = impressions(1_000, rng)
        model.learn_clicks(seen, rng.random(1_000) < true * 3)
    seen, _ = impressions(50, rng)
    predicted, _ = model.predict(seen)
    weights = model.weights()
    table = calibration_table(weights, {"c0": 0, "c1": 1, "c2": 2}, ("adx",))
    factors, counts = slot_factors(weights.slots), model.segment_factors()["adx/banner"]
    for k, row in enumerate(seen.rows.tolist()):
        campaign = int(seen.groups[k][0][1:])
        context = np.array(row[2:-3], "<u4").tobytes()
        more = math.prod(
            click
            for click, _ in explain_factors(context, row[1], row[-3], row[-2], row[-1], factors).values()
        )
        mixed = table[1, campaign]
        said = corrected(0.01, counts * (mixed[2] + more * mixed[0]))
        assert said == pytest.approx(predicted[k], rel=0.03)  # slots travel in steps of a thousandth


# ---- calibration


def test_calibration_shrinks_to_its_parent_and_names_only_what_differs() -> None:
    by = Calibration()
    for _ in range(10_000):
        by.add("dear", "adx", 0.01, 0.01, 0.005)
        by.add("fine", "adx", 0.01, 0.01, 0.01)
    everything = (150 + PRIOR) / (200 + PRIOR)
    exchange = (150 + PRIOR * everything) / (200 + PRIOR)
    assert by.factor("new", "other") == pytest.approx(everything)
    assert by.factor("new", "adx") == pytest.approx(exchange)
    assert by.factor("dear", "adx") == pytest.approx((50 + PRIOR * exchange) / (100 + PRIOR))
    assert by.factor("dear", "adx") < by.factor("fine", "adx")
    assert "dear|adx" in by.factors()
    by.forget({"fine"})
    assert "dear|adx" not in by.groups


# ---- delays


def test_the_delay_curve_is_found_although_most_clicks_are_young() -> None:
    rng = np.random.default_rng(5)
    rates = Rates(1e9)
    outcomes = Outcomes(rates)
    mean_s, chance, now_s = 4 * 3_600.0, 0.2, 0.0
    events: list[tuple[float, str, str]] = []
    for n in range(6_000):  # a click every 20 seconds: the last hours' have not converted yet
        now_s += 20.0
        events.append((now_s, "click", f"b{n}"))
        if rng.random() < chance:
            events.append((now_s + rng.exponential(mean_s), "order", f"b{n}"))
    shown = Impression(0, "adx/banner", "adx", "c", "l", 0.01)
    for at_s, kind, bid in sorted(event for event in events if event[0] <= now_s):
        at_ns = int(at_s * NS_PER_S)
        outcomes.tick(at_ns)
        if kind == "click":
            outcomes.clicked(bid, at_ns, "a", 30 * 86_400, shown)
        else:
            assert outcomes.converted(bid, at_ns)
    curve = outcomes._delays.curve("a")
    ends = np.array([*EDGES_S[1:], delays.WINDOW_S])
    assert np.abs(curve - (1.0 - np.exp(-ends / mean_s)))[ends > 600].max() < 0.08
    assert rates.known_rate("l", "c") == pytest.approx(chance, rel=0.12)


def test_before_anything_is_known_the_default_stands_and_curves_rise() -> None:
    assert np.allclose(Delays().curve("anybody"), delays.default_curve(), atol=0.05)
    told = Delays()
    for at in range(BINS):
        told.entered("a", at)
        told.converted("a", int(EDGES_S[at] * NS_PER_S))
    assert (np.diff(told.curve("a")) >= 0).all()


def test_a_late_click_takes_back_that_there_was_none() -> None:
    outcomes = Outcomes(Rates(1e9))
    shown = Impression(0, "adx/banner", "adx", "c", "l", 0.01)
    outcomes.shown("b", shown)
    outcomes.tick(600 * NS_PER_S)
    seen = Impressions.of(
        [Shown(exchange="adx", media="banner", campaign="c", line_item="l", click_rate=0.01)]
    )
    before = outcomes.model.predict(seen)[0][0]
    outcomes.clicked("b", 601 * NS_PER_S, "a", 86_400, shown)
    outcomes.tick(602 * NS_PER_S)
    assert outcomes.state.counts.clicks_late == 1
    assert outcomes.model.predict(seen)[0][0] > before


def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    from counterpoint.bidding import outcomes as module

    for name in ("WAITING_MAX", "TOLD_MAX", "CLICKS_MAX"):
        monkeypatch.setattr(module, name, 64)
    outcomes = Outcomes(Rates(1e9))
    shown = Impression(0, "adx/banner", "adx", "c", "l", 0.01, b"too short")
    for n in range(1_000):
        outcomes.shown(f"b{n}", shown)
        outcomes.clicked(f"other{n}", 0, "a", 86_400, shown)
    state = outcomes.state
    assert max(len(state.waiting), len(state.told), len(state.clicks)) <= 64
    assert state.counts.contexts_unreadable == 2_000
    assert state.counts.clicks_forgotten > 0
    copied = msgspec.msgpack.decode(msgspec.msgpack.encode(outcomes.dump()), type=OutcomesState)
    again = Outcomes(Rates(1e9))
    again.load(copied)
    assert isinstance(next(iter(again.state.clicks.values())), Click)
    assert value_model.NO_CONTEXT_BYTES
