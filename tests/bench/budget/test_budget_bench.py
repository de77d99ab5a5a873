"""The benchmark's own truth: tables, oracles, the daily walk, and what it refuses."""

from __future__ import annotations

import gzip
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
import pytest

from counterpoint.base.errors import ConfigError
from counterpoint.bench.bidding.run import shown
from counterpoint.bench.budget import from_log, run
from counterpoint.bench.budget.daily import Columns, best, daily, read, walk, walkers
from counterpoint.bench.budget.market import Markets, Play, markets_of, plan_with_stock, stock_bound
from counterpoint.bench.budget.paths import able
from counterpoint.bench.budget.splits import FAMILIES, judge, recoveries
from counterpoint.bench.budget.splitters import ByReturn, Equal, ModelFree, greedy
from counterpoint.bench.budget.table import EPOCHS_A_DAY, table
from counterpoint.bench.budget.train import RADIUS, agent, drawn, played, train
from counterpoint.bench.budget.validate import validated
from counterpoint.bench.market.facts import Floats
from counterpoint.budget.residual import FEATURES, shipped
from counterpoint.market.load import scenario_named
from counterpoint.market.logs.table import LogError
from counterpoint.market.scenario import resized


@cache
def markets(name: str) -> Markets:
    scenario = resized(scenario_named(name), 20_000)
    return markets_of(scenario, [table(scenario, seed) for seed in (0, 1)], [0, 1], 30.0)


def oracle(m: Markets) -> Floats:
    return np.stack([m.at(e, m.best(e))[1].sum(axis=(1, 2)) for e in range(m.epochs)], axis=1)


def test_true_curves_rise_and_bend_down_and_their_slope_is_the_price_of_money() -> None:
    m = markets("jumps-v1")
    for epoch in (3, 20, 41):
        x = np.linspace(0.01, 0.99, 30)[:, None, None] * m.spend[:, epoch, :, -1]
        values = np.stack([m.at(epoch, spend)[1].sum(axis=-1) for spend in x])
        rise = np.diff(values, axis=0)
        assert (rise >= -1e-12).all()
        assert (np.diff(rise, axis=0) <= 1e-9).all()


def test_nobody_splits_better_than_the_oracle_and_the_agent_comes_near() -> None:
    m = markets("jumps-v1")
    top = oracle(m)
    shares = {}
    for name, splitter in (("equal", Equal()), ("greedy", greedy(0.9)), ("agent", agent())):
        value = played(m, splitter)
        assert (value <= top * (1 + 1e-9)).all(), name
        shares[name] = float(value[:, 8:].sum() / top[:, 8:].sum())
    assert shares["agent"] > shares["equal"]
    assert shares["agent"] > 0.93, shares


def test_a_family_counts_with_its_best_constant_and_jumps_are_timed() -> None:
    found = judge(
        scenario_named("jumps-v1"), markets("jumps-v1"), lambda label, share: None, ("roas", "agent")
    )
    ratios = [played(markets("jumps-v1"), make()) for make in FAMILIES["roas"]]
    first = 2 * EPOCHS_A_DAY
    top = oracle(markets("jumps-v1"))[:, first:].sum(axis=1)
    best_mean = max(float((value[:, first:].sum(axis=1) / top).mean()) for value in ratios)
    assert found.shares["roas"].mean() == pytest.approx(best_mean)
    flat = np.ones(56)
    flat[26:31] = 0.5
    assert recoveries(flat) == [0, 5, 0, 0]


def test_the_plan_with_the_true_state_stands_between_equal_and_its_bound() -> None:
    m = markets("adstock-v1")
    plan, bound = plan_with_stock(m, rounds=30), stock_bound(m)
    assert (plan <= bound * (1 + 1e-9)).all()
    assert (plan > played(m, Equal()).sum(axis=1)).all()


def test_the_full_driver_spends_and_earns_what_the_curves_say() -> None:
    """Each campaign alone; people tire in the driver, which the curves leave out."""
    alone, together, told = validated(resized(scenario_named("jumps-v1"), 20_000), 0)
    busy = told > 0.5
    assert alone[busy, 0] == pytest.approx(1.0, abs=0.15)
    assert alone[busy, 1] == pytest.approx(0.95, abs=0.15)
    assert (together <= alone + 0.05).all(), "an impression goes to one campaign only"


def test_late_conversions_are_all_told_in_the_end() -> None:
    m = markets("delay-v1")
    play, told, true = Play(m), 0.0, 0.0
    for epoch in range(m.epochs):
        value, seen = play.step(epoch, np.ones((2, m.arms)) * m.money(epoch)[:, None] / m.arms)
        told, true = told + seen.value.sum(), true + value.sum()
    coming = (play.coming.sum(axis=-1) * m.event / m.traffic).sum()
    assert coming > 0.02 * true
    assert told + coming == pytest.approx(true, rel=0.12)


def test_a_campaigns_paths_apart_are_its_curve() -> None:
    scenario = resized(scenario_named("jumps-v1"), 20_000)
    whole, apart = table(scenario, 0), table(scenario, 0, paths=True)
    campaigns, count = whole.budget.size, len(scenario.supply)
    assert apart.budget.size == campaigns * count
    assert apart.budget.sum() == pytest.approx(whole.budget.sum())
    value = apart.value[..., 0].reshape(whole.value.shape[0], campaigns, count, -1)
    assert np.moveaxis(value, 2, 3) == pytest.approx(whole.value)
    spend = apart.spend.reshape(whole.spend.shape[0], campaigns, count, -1).sum(axis=2)
    assert spend == pytest.approx(whole.spend)
    some = able([apart])
    assert some[0].budget.size <= apart.budget.size
    m = markets_of(scenario, some, [0], 30.0)
    assert (played(m, agent()) <= oracle(m) * (1 + 1e-9)).all()


def test_the_baselines_of_the_grids_are_what_they_say() -> None:
    """No shrinkage is the plain split by return; with very much of it, or without steps, all end at the equal split."""
    m = markets("jumps-v1")
    plain, equal = played(m, ByReturn(0.9, 0.0, 1.0)), played(m, Equal())
    assert played(m, ByReturn(0.9)) == pytest.approx(plain)
    assert played(m, ByReturn(0.9, 1e9)) == pytest.approx(equal)
    assert played(m, ModelFree(0.0, 1e-9)) == pytest.approx(equal)
    assert not np.allclose(played(m, greedy(0.9, margins=True)), played(m, greedy(0.9)))


def test_training_markets_differ_and_a_policy_of_nothing_changes_nothing() -> None:
    scenario = resized(scenario_named("delay-v1"), 20_000)
    tables = [table(scenario, 0)] * 3
    m = drawn(tables, [7, 8, 9], np.random.default_rng(0))
    assert m.carry is not None
    assert len(set(m.carry.keep.tolist())) == 3
    assert played(m, agent(np.zeros(len(FEATURES)))) == pytest.approx(played(m, agent()))
    tilted = played(m, agent(np.ones(len(FEATURES))))
    assert not np.allclose(tilted, played(m, agent()))


HEADER = "month,day,campaign_number,placement,cost,revenue"


def rows(days: int = 20) -> list[str]:
    out = []
    for day in range(1, days + 1):
        out += [f"April,{day},camp 1,abc,10,{20 + day % 3}", f"April,{day},camp 2,abc,10,{5 + day % 2}"]
    return out


def written(tmp_path: Path, lines: list[str], header: str = HEADER) -> Path:
    path = tmp_path / "table.csv"
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def test_the_walk_moves_money_to_the_better_arm_and_never_beats_the_best(tmp_path: Path) -> None:
    path = written(tmp_path, rows())
    log = read(path)
    top = best(log, 0.6)
    brought = {name: walk(log, 0.6, split) for name, split in walkers(log).items()}
    assert all((value <= top * (1 + 1e-9)).all() for value in brought.values())
    assert brought["agent"][-5:].sum() > brought["equal"][-5:].sum()
    result = daily(path)
    assert any("observational" in note for note in result.notes)
    assert all(v.target is None for v in result.verdicts), "a log shows no bar met"


@pytest.mark.parametrize(
    ("lines", "header", "says"),
    [
        (rows(), HEADER.replace("cost", "price"), "column 'cost' is missing"),
        (
            [*rows(), "April,1,camp 1,abc,1,1"],
            HEADER,
            "row 41 .line 42.: April-1 comes after a later day; sort",
        ),
        (["April,1,camp 1,abc,-1,1"], HEADER, "row 1 .line 2.: cost -1 is negative"),
        (["April,1,camp 1,abc,1,many"], HEADER, "revenue is 'many', not a number"),
        (["Smarch,1,camp 1,abc,1,1"], HEADER, "'Smarch 1' is no day"),
        ([], HEADER, "a header and no rows"),
        (rows(3), HEADER, "give at least 2 arms and 8 days"),
    ],
)
def test_a_bad_table_is_refused_with_row_and_cure(
    tmp_path: Path, lines: list[str], header: str, says: str
) -> None:
    with pytest.raises(LogError, match=says):
        read(written(tmp_path, lines, header))


def test_days_out_of_order_may_be_allowed_and_a_cut_file_is_told(tmp_path: Path) -> None:
    straight, turned = rows(), rows()[::-1]
    assert (
        read(written(tmp_path, straight)).spend.tolist()
        == read(written(tmp_path, turned), sort=True).spend.tolist()
    )
    whole = gzip.compress("\n".join([HEADER, *straight]).encode())
    path = tmp_path / "cut.csv.gz"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(LogError, match="gzip data ends too early"):
        read(path)


def dated() -> list[str]:
    return [
        f"2017-04-{day:02},{arm},10,{brings}" for day in range(1, 21) for arm, brings in (("a", 20), ("b", 5))
    ]


def test_a_table_of_ones_own_is_read_by_its_columns(tmp_path: Path) -> None:
    for head in ("date,channel,cost,revenue", "day,channel,cost,revenue", "when,channel,cost,revenue"):
        named = Columns(arm=("channel",), date="when" if head.startswith("when") else None)
        assert read(written(tmp_path, dated(), head), named).arms == ("a", "b")
    path = written(tmp_path, dated(), "when,channel,paid,sales")
    has = "COLUMN; the file has: when, channel, paid, sales"
    for named, says in (
        (Columns(), "no column of days .date, day, or month and day.; say --date " + has),
        (Columns(date="when"), "column 'campaign_number' is missing; say --arm " + has),
        (Columns(date="when", arm=("channel",)), "column 'cost' is missing; say --spend " + has),
        (
            Columns(date="when", arm=("channel",), spend="paid"),
            "column 'revenue' is missing; say --value " + has,
        ),
        (
            Columns(date="channel", arm=("when",), spend="paid", value="sales"),
            "'a' is no day; .* say --date " + has,
        ),
    ):
        with pytest.raises(LogError, match=says):
            read(path, named)
    assert read(path, Columns(date="when", arm=("channel",), spend="paid", value="sales")).spend.sum() == 400


def test_the_daily_walk_is_a_table_of_rules_a_plot_and_no_seeds(tmp_path: Path) -> None:
    report, times = run.run([], (100,), table=written(tmp_path, rows()), plots=tmp_path / "plots")
    assert report.settings.seeds == ()
    table = report.parts[0].tables[0]
    assert table.head == (
        "b", "equal", "last day's share", "in proportion to return", "agent, of the best",
    )  # fmt: skip
    assert [row[0] for row in table.rows] == ["0.3", "0.4", "0.6", "0.8"]
    assert (tmp_path / "plots" / "daily.png").stat().st_size > 10_000
    assert not any("bars" in str(each) for each in shown(report, times, plain=True).renderables)
    with pytest.raises(ConfigError, match="--daily FILE"):
        run.run(["daily"], (100,))


def test_an_unknown_part_is_told() -> None:
    with pytest.raises(ConfigError, match="no part 'split'"):
        run.chosen(["split"])
    assert run.chosen(["daily,splits"]) == ("splits", "daily")


def test_markets_of_ones_own_log_have_its_arms_and_levels(tmp_path: Path) -> None:
    log = read(written(tmp_path, rows(30)))
    of = from_log.learned(log)
    assert of.arms == log.arms
    tables = [from_log.table(of, seed) for seed in range(40)]
    at_equal = [np.interp(of.unit / 4, t.spend[0, k], t.value[0, k, :, 0]) for t in tables for k in (0, 1)]
    a_day = 4 * np.array(at_equal).reshape(-1, 2).mean(axis=0)
    assert a_day == pytest.approx(log.value.mean(axis=0), rel=0.25), "what an equal share brought"
    for t in tables:
        assert np.all(np.diff(t.value[..., 0], axis=-1) >= 0.0)
    again = from_log.table(of, 3)
    assert np.array_equal(again.value, tables[3].value)
    assert not np.array_equal(tables[3].value, tables[4].value)


def test_a_policy_is_replaced_only_by_one_shown_to_be_better(tmp_path: Path) -> None:
    log = read(written(tmp_path, rows(30)))
    start = msgspec.structs.replace(shipped(), name="mine")
    course = train((0, 1, 2, 3), 2, 2, None, log=log, start=start)
    off = np.array(course.residual.weights) - np.array(start.weights)
    assert np.linalg.norm(off) <= RADIUS + 1e-3
    assert course.over_start is not None
    assert course.kept_start == (not (course.over_start.low or 0.0) > 0.0)
    if course.kept_start:
        assert course.residual.weights == pytest.approx(start.weights)
    alone = train((0, 1, 2, 3), 2, 2, None, log=log)
    assert alone.over_start is None
    assert "log of 2 arms" in alone.residual.trained_on
