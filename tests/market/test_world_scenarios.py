"""Every named scenario loads, is what its name recorded, and differs as it says; what is wrong in a file is told."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from counterpoint.market import load
from counterpoint.market.freeze import measured
from counterpoint.market.load import (
    NAMES,
    ScenarioError,
    find_scenario,
    frozen,
    is_resized,
    load_scenario,
    of_length,
    scenario_named,
)
from counterpoint.market.scenario import DAY_NS, STARTS_AT_NS, resized
from counterpoint.market.world import World


def world_of(name: str, seed: int = 11) -> World:
    return World(scenario_named(name), seed)


# ---- names are permanent


@pytest.mark.parametrize("name", NAMES)
def test_a_name_means_what_was_recorded(name: str) -> None:
    now = measured(scenario_named(name))
    assert now.scenario == frozen()[name].scenario, (
        f"the parameters of {name} changed. Names are permanent: put the change in a new scenario (-v2) and report both"
    )
    assert now.world == frozen()[name].world, (
        f"what the code makes of {name} changed. If that is meant, every scenario gets a new name (-v2)"
    )


def test_only_known_names_are_recorded_and_all_differ() -> None:
    assert set(frozen()) == set(NAMES)
    assert len({f.scenario for f in frozen().values()}) == len(NAMES)
    assert all(50_000 <= scenario_named(n).auctions <= 200_000 for n in NAMES if n != "thin-market-v1")
    assert all(scenario_named(n).name == n for n in NAMES)


def test_a_changed_file_no_longer_bears_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = load._raw
    monkeypatch.setattr(load, "_raw", lambda name, path: raw(name, path) | {"budget_factor": 2.0})
    with pytest.raises(ScenarioError, match=r"stationary-v1\.toml: was changed.*new name"):
        scenario_named.__wrapped__("stationary-v1")


def test_another_length_is_known_as_such_and_is_checked() -> None:
    base = scenario_named("drift-v1")
    assert not is_resized(base)
    assert not is_resized(of_length(base, base.auctions))
    assert is_resized(of_length(base, 2 * base.auctions))
    for auctions in (99, 10**9):
        with pytest.raises(ScenarioError, match=r"drift-v1 with .* auctions: give between 100 and"):
            of_length(base, auctions)
    small = msgspec.structs.replace(base, budget_factor=1e-6)
    with pytest.raises(ScenarioError, match="daily_budget: less than a nano"):
        of_length(small, 100)


# ---- each differs as declared


def test_the_stationary_market_stays() -> None:
    world = world_of("stationary-v1")
    assert (world.timeline.log_price == 0).all()
    assert (world.timeline.conversion == 1).all()
    assert np.ptp(world.ads.appeal, axis=1).max() == 0
    auctions = world.batch(0, world.scenario.auctions)
    truth = world.truth(auctions)
    early, late = auctions.t_ns < STARTS_AT_NS + 7 * DAY_NS, auctions.t_ns >= STARTS_AT_NS + 7 * DAY_NS
    means = [np.log(truth.rival_micros[half] + 1).mean() for half in (early, late)]
    assert abs(means[0] - means[1]) < 0.05


def test_drift_drifts() -> None:
    world = world_of("drift-v1")
    first, last = world.timeline.log_price[:, 0], world.timeline.log_price[:, -1]
    assert np.abs(last - first).mean() > 0.1
    assert np.ptp(world.ads.appeal, axis=1).mean() > 0.5
    auctions = world.batch(0, 1)
    user = auctions.user[0]
    day = np.array([0.0, 20.0])
    later = msgspec.structs.replace(
        auctions.take(np.zeros(2, dtype=int)), t_ns=(STARTS_AT_NS + day * DAY_NS).astype(np.int64)
    )
    relevance = world.responses(later, np.arange(2), np.array([5, 5])).relevance
    assert relevance[0] != relevance[1], f"tastes of {user} do not turn"


def test_weekends_are_busier_and_cheaper() -> None:
    shares, prices = {}, {}
    for name in ("weekend-v1", "stationary-v1"):
        world = world_of(name)
        auctions = world.batch(0, world.scenario.auctions)
        weekend = auctions.hour_of_week >= 120
        shares[name] = weekend.mean()
        log_price = np.log(world.truth(auctions).rival_micros + 1.0)
        prices[name] = log_price[weekend].mean() - log_price[~weekend].mean()
    assert shares["weekend-v1"] > shares["stationary-v1"] + 0.1
    assert prices["weekend-v1"] < prices["stationary-v1"] - 0.2


def test_jumps_jump() -> None:
    world = world_of("jumps-v1")
    t = world.timeline
    northstar, harbour = 0, 3
    assert t.log_price[northstar, 4 * 24] - t.log_price[northstar, 4 * 24 - 1] == pytest.approx(np.log(1.6))
    assert t.log_price[harbour, 4 * 24] == t.log_price[harbour, 4 * 24 - 1]
    assert t.log_price[harbour, 8 * 24] - t.log_price[northstar, 8 * 24] == pytest.approx(np.log(1.8 / 1.6))
    assert t.conversion[-1] == 0.5
    creatives = np.arange(world.design.count)
    before, after = (world.ads.appeal_at(creatives, np.full(creatives.size, d)) for d in (6.4, 6.6))
    assert 0.3 < (before != after).mean() < 0.7


def test_a_thin_market_is_thin() -> None:
    thin, usual = scenario_named("thin-market-v1"), scenario_named("stationary-v1")
    assert thin.auctions <= usual.auctions / 4
    worlds = [world_of("thin-market-v1"), world_of("stationary-v1")]
    rates = [
        w.responses(w.batch(0, 500), np.arange(500), np.zeros(500, dtype=int)).click.mean() for w in worlds
    ]
    assert rates[0] < 0.7 * rates[1]


def test_an_outage_loses_reports_and_nothing_else() -> None:
    world, plain = world_of("outage-v1"), world_of("stationary-v1")
    auctions = world.batch(0, world.scenario.auctions)
    rows = np.arange(len(auctions))
    creatives = rows % world.design.count
    responses = world.responses(auctions, rows, creatives)
    what = world.outcomes(auctions, rows, creatives, responses)
    usual = plain.outcomes(plain.batch(0, plain.scenario.auctions), rows, creatives, responses)
    assert (what.clicked == usual.clicked).all()
    assert (usual.click_told == usual.clicked).all()
    assert (usual.conversion_told == usual.converted).all()
    day = (auctions.t_ns - STARTS_AT_NS) / DAY_NS
    out = (day >= 5.0) & (day < 6.49)
    assert not what.click_told[out].any()
    assert what.clicked[out].any()
    assert what.impression_told[out].all()
    untouched = (day < 4.9) | (day > 9.8)
    assert (what.click_told == what.clicked)[untouched].all()
    dark = (day >= 9.25) & (day < 9.75) & (auctions.venue == 1)
    assert 0.7 < (~what.impression_told[dark]).mean() < 0.9


def test_delays_are_days_and_end_with_the_window() -> None:
    z = np.linspace(-4, 4, 2_001)
    fast, slow = (world_of(name).delays.values(z) for name in ("stationary-v1", "delay-v1"))
    assert slow[1_000] > 20 * fast[1_000]
    assert max(fast.max(), slow.max()) <= 604_800 * (1 + 1e-9)
    assert slow[1_900] > 3 * 86_400


def test_creatives_come_and_go() -> None:
    world = world_of("churn-v1")
    s, design = world.scenario, world.design
    slots = design.count // s.churn.generations
    for day in range(s.days):
        at = np.full(design.count, STARTS_AT_NS + day * DAY_NS)
        assert design.live(np.arange(design.count), at).sum() == slots  # one of each slot
    first = world.fitting(world.batch(0, 1), 0)
    same_place = msgspec.structs.replace(world.batch(0, 1), t_ns=np.array([s.ends_at_ns - 1]))
    last = world.fitting(same_place, 0)
    assert first.size == last.size
    assert not set(first.tolist()) & set(last.tolist())


def test_the_misspecified_market_has_other_shapes() -> None:
    world, plain = world_of("misspecified-v1"), world_of("stationary-v1")
    assert world.scenario.click.link == "steep"
    auctions = world.batch(0, 30)
    rows, one = np.arange(30), np.zeros(30, dtype=int)
    few = world.click_probability(auctions, rows, one, np.full(30, 2.0))
    assert (few > world.click_probability(auctions, rows, one)).all(), "the first exposures help"
    assert (few > world.click_probability(auctions, rows, one, np.full(30, 20.0))).all()
    stock = np.array([0.02, 0.1])
    assert world.lift(stock)[0] < 1.02 < 1.4 < world.lift(stock)[1]  # S-shaped
    assert (plain.lift(stock) == 1).all()


# ---- files


def test_a_file_lies_over_its_base(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'name = "mine"\nbase = "drift-v1"\ntitle = "Drift, but faster."\n[drift]\nprice_sd = 0.2\n[users]\ncount = 500\n'
    )
    mine, base = find_scenario(str(path)), scenario_named("drift-v1")
    assert mine.drift == msgspec.structs.replace(base.drift, price_sd=0.2)
    assert mine.users == msgspec.structs.replace(base.users, count=500)
    assert mine.supply == base.supply
    assert mine.digest != base.digest
    assert World(mine, 1).batch(0, 100).user.max() < 500


WRONG = {
    "unknown key": ("[users]\ncuont = 5\n", ["users", "cuont", "spelling"]),
    "unknown top key": ("[usres]\ncount = 5\n", ["usres"]),
    "out of range": ("[users]\nconsent_share = 1.5\n", ["users.consent_share", "1.0"]),
    "wrong type": ('auctions = "many"\n', ["auctions", "int"]),
    "hours": ("[traffic]\nhour_of_week = [1.0, 2.0]\n", ["traffic.hour_of_week", "168"]),
    "no such venue": ("[adversary]\nvenues = ['nowhere']\n", ["adversary.venues", "nowhere", "airwave"]),
    "shock backwards": ("[[shock]]\nfrom_day = 5.0\nto_day = 4.0\n", ["shock[0].to_day", "swap"]),
    "jump too late": ("[[jump]]\nday = 99.0\n", ["jump[0].day", "14 days"]),
    "no taste for audio": ("[click]\nbase = { banner = 'x' }\n", ["click.base"]),
    "nobody there": ("[users]\ncountries = [{ code = 'FRA', share = 1.0 }]\n", ["harbor-europe", "DEU"]),
    "twice": ("[[venue]]\nid = 'a'\n[[venue]]\nid = 'a'\n", ["venue", "'a'", "rename"]),
    "a medium twice": (
        "[[campaign]]\nid = 'c'\nadvertiser = 'stride'\ngoal = 'clicks'\ngoal_value_micros = 1\n"
        "daily_budget = 1.0\nmedia = ['video', 'video']\n",
        ["campaign[0] (c).media", "once"],
    ),
    "too many creatives": (
        "[creatives]\nper_format = 200\n[churn]\ngenerations = 50\n",
        ["per_format", "lower"],
    ),
    "too many sizes": ("size = [" + "{ w = 1, h = 1, share = 1.0 }, " * 100 + "]\n", ["size: 100", "99"]),
    "a floor that is no price": (
        "[[supply]]\nvenue = 'harbour'\nmedia = 'banner'\nshare = 1.0\n[supply.prices]\nunit_cpm = 10.0\n"
        "components = [{ weight = 1.0, median = 1.0, sigma = 1.0 }]\nfloors = [{ weight = 1.0, at = 5000 }]\n",
        ["supply[0]", "floors", "10,000 CPM"],
    ),
    "not a number": ("[drift]\nprice_sd = nan\n", ["drift.price_sd"]),
    "unknown base": ("", ["base", "nothing-v1", "stationary-v1"]),
    "taken name": ("", ["stationary-v1", "choose another"]),
    "lives for ever": ("[churn]\ngenerations = 2\nlife_days = 1e9\n", ["churn.life_days", "36,500", "lower"]),
    "nested for ever": ("users = " + "[" * 5_000 + "]" * 5_000 + "\n", ["nested too deep"]),
    "all money there is": ("budget_factor = 1e9\n", ["budget_factor", "10,000,000", "lower"]),
    "no money": ("budget_factor = 1e-15\n", ["campaign[0]", "daily_budget", "nano", "raise"]),
    "a ceiling under all prices": (
        "[[campaign]]\nid = 'c'\nadvertiser = 'stride'\ngoal = 'clicks'\ngoal_value_micros = 1\n"
        "daily_budget = 1.0\nmedia = ['video']\nbid_ceiling_cpm = 1e-7\n",
        ["campaign[0] (c).bid_ceiling_cpm", "micro", "raise"],
    ),
    "not TOML": ("[users\n", ["not TOML", "line"]),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_file_is_refused_with_the_cure(tmp_path: Path, wrong: str) -> None:
    text, told = WRONG[wrong]
    base = "nothing-v1" if wrong == "unknown base" else "stationary-v1"
    name = "stationary-v1" if wrong == "taken name" else "mine"
    path = tmp_path / "mine.toml"
    path.write_text(f'name = "{name}"\nbase = "{base}"\n{text}')
    with pytest.raises(ScenarioError) as refused:
        load_scenario(path)
    for part in ("mine.toml", *told):
        assert part in str(refused.value)


def test_files_that_are_not_there_and_names_that_are_not_known(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"nowhere\.toml: cannot be read"):
        find_scenario(str(tmp_path / "nowhere.toml"))
    with pytest.raises(ScenarioError, match="did you mean 'drift-v1'"):
        find_scenario("drift-v2")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ScenarioError, match="UTF-8"):
        load_scenario(tmp_path / "bytes.toml")


def test_a_resized_market_is_the_same_with_other_traffic() -> None:
    base = scenario_named("stationary-v1")
    big = resized(base, 10 * base.auctions)
    assert big.budget_factor == pytest.approx(10 * base.budget_factor)
    assert big.digest != base.digest
    small, large = World(base, 5), World(big, 5)
    assert (small.people.taste == large.people.taste).all()
    assert (small.ads.appeal == large.ads.appeal).all()
