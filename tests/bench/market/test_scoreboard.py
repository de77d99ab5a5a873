"""Scores, comparisons that refuse, and a scoreboard whose JSON is the same twice."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

from counterpoint.app.cli import app
from counterpoint.base.errors import ConfigError
from counterpoint.bench.market import own, show
from counterpoint.bench.market.baselines.classic import tuned
from counterpoint.bench.market.baselines.ladder import LADDER
from counterpoint.bench.market.facts import NANOS
from counterpoint.bench.market.intervals import mean_of
from counterpoint.bench.market.players import DEFAULT, NAMES, TITLES, check_names, register
from counterpoint.bench.market.report import verdict
from counterpoint.bench.market.rounds import SeedBounds
from counterpoint.bench.market.scoreboard import (
    Checked,
    Scoreboard,
    known_bound,
    misordered,
    parse_seeds,
    run,
)
from counterpoint.bench.market.statistics import (
    PAIRS_MIN,
    Score,
    compare,
    holm,
    pairs_needed,
    penalised,
)
from counterpoint.bench.market.tune import PLAN
from counterpoint.market.load import NAMES as SCENARIOS
from tests.bench.market.small import small


def a_score(policy: str, seed: int, value: float, scenario: str = "a") -> Score:
    return Score(
        policy=policy, oracle=False, scenario=scenario, seed=seed, penalised=value, value=value,
        value_realised=value, spend=1.0, budget=1.0, overspend=0.0, impressions=1, reach=1, ctr=0.1, cpa=1.0,
        cost_to_target=1.0, campaigns_off_target=0, relevance=0.5, satisfaction=0.5, regret=None, refused=0,
    )  # fmt: skip


def test_penalty() -> None:
    value = np.array([10.0, 10.0, 0.0])
    assert penalised(value, np.array([5.0, 20.0, 1.0]), 0.0) == pytest.approx(10.0 + 2.5)
    assert penalised(value, np.array([5.0, 20.0, 1.0]), 0.5) == pytest.approx(12.5 - 5.0)
    assert penalised(value, np.zeros(3), 0.0) == 20.0


def test_a_verdict_needs_its_sample() -> None:
    few = [a_score(p, k, v) for k in range(5) for p, v in (("x", 2.0 + 0.01 * k), ("y", 1.0))]
    (told,) = compare(few, ["x"], "y", 0.05)
    assert told.verdict == f"refused: 5 seeds; needs {PAIRS_MIN}"
    many = [a_score(p, k, v) for k in range(30) for p, v in (("x", 2.0 + 0.001 * k), ("y", 1.0))]
    assert [c.verdict for c in compare(many, ["x"], "y", 0.05)] == ["better"]
    assert [c.verdict for c in compare(many, ["y"], "x", 0.05)] == ["worse"]
    random = np.random.default_rng(0)
    wild = [a_score(p, k, float(np.exp(random.normal(0.0, 0.8)))) for k in range(30) for p in ("x", "y")]
    (told,) = compare(wild, ["x"], "y", 0.05)
    assert told.pairs_needed is not None
    assert told.pairs_needed > 1_000
    assert told.verdict == f"refused: 30 seeds; needs {told.pairs_needed}"


def test_a_refusal_begins_with_the_size_it_asks_for_and_is_not_cut() -> None:
    board, _ = run([small("thin-market-v1", 500)], ["manual", "tools"], [0, 1, 2])
    (told,) = board.comparisons
    assert told.verdict.startswith("refused")
    needs = str(told.pairs_needed or PAIRS_MIN)
    assert verdict(told) == f"needs {needs} seeds, has 3: no verdict"
    with (out := Console(width=60, markup=False)).capture() as shown:
        out.print(show.shown(board))
    rows = shown.get().split("paired by seed", 1)[1].split("* knows", 1)[0]
    assert "…" not in rows
    assert all(word in rows.split() for word in ("needs", needs, "has", "verdict"))
    none = msgspec.structs.replace(told, pairs_needed=None)
    assert verdict(none) == f"needs {PAIRS_MIN} seeds, has 3: no verdict"
    assert verdict(msgspec.structs.replace(told, verdict="better")) == "better"


def test_two_seeds_are_no_pilot_and_nothing_earned_is_no_ratio() -> None:
    two = [a_score(p, k, 1.0) for k in range(2) for p in ("x", "y")]
    assert compare(two, ["x"], "y", 0.05)[0].verdict.startswith("refused: 2 seeds are no pilot")
    nothing = [a_score("x", 0, 0.0), a_score("y", 0, 1.0)]
    assert compare(nothing, ["x"], "y", 0.05)[0].ratio is None


def test_all_scenarios_count_alike() -> None:
    scores = [a_score("y", k, 1.0, s) for s in "ab" for k in range(30)]
    scores += [a_score("x", k, 4.0, "a") for k in range(30)] + [a_score("x", k, 1.0, "b") for k in range(30)]
    every = compare(scores, ["x"], "y", 0.05)[-1]
    assert every.scenario == "all"
    assert every.ratio is not None
    assert every.ratio.value == pytest.approx(2.0)


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=12))
def test_holm_is_between_the_value_and_bonferroni_and_keeps_the_order(values: list[float]) -> None:
    corrected = holm(values)
    for p, after in zip(values, corrected, strict=True):
        assert p <= after <= min(1.0, p * len(values))
    order = np.argsort(values, kind="stable")
    assert (np.diff(np.array(corrected)[order]) >= 0.0).all()


def test_many_comparisons_are_harder_to_win() -> None:
    random = np.random.default_rng(1)
    names = [f"p{k}" for k in range(40)]
    gain = {name: random.normal(0.0, 0.06, 30) for name in names}
    gain["p0"] = gain["p0"] - gain["p0"].mean() + 0.026
    scores = [a_score("y", k, 1.0) for k in range(30)]
    scores += [a_score(name, k, float(np.exp(gain[name][k]))) for name in names for k in range(30)]
    alone = compare(scores, ["p0"], "y", 0.05)[0]
    among = compare(scores, names, "y", 0.05)[0]
    assert (alone.verdict, among.verdict) == ("better", "no difference shown")
    assert alone.ratio == among.ratio
    assert alone.p is not None
    assert among.p_holm is not None
    assert among.p_holm > 30 * alone.p


def test_probability_of_improvement_counts_seeds() -> None:
    scores = [a_score("y", k, 1.0) for k in range(4)]
    scores += [a_score("x", k, v) for k, v in enumerate((2.0, 2.0, 0.5, 1.0))]
    (told,) = compare(scores, ["x"], "y", 0.05)
    assert told.improves is not None
    assert told.improves.value == 0.625
    low, high = told.improves.low, told.improves.high
    assert low is not None
    assert high is not None
    assert low < 0.625 < high


def test_pairs_needed_grow_with_the_spread() -> None:
    calm, wild = [0.01, -0.01] * 5, [0.3, -0.3] * 5
    small_one, large = pairs_needed(calm, 0.05), pairs_needed(wild, 0.05)
    assert small_one == PAIRS_MIN
    assert large is not None
    assert large > 300


def test_more_comparisons_need_more_seeds() -> None:
    pilot = [0.1, 0.3, -0.1, 0.0, 0.2, 0.1, -0.2, 0.1, 0.0, 0.1]
    needed = [pairs_needed(pilot, 0.05, board) or 0 for board in (1, 14, 168)]
    assert 30 < needed[0] < needed[1] < needed[2]
    scores = [a_score("y", k, 1.0) for k in range(10)]
    scores += [a_score(p, k, float(np.exp(x))) for k, x in enumerate(pilot) for p in ("x", "z")]
    assert [c.pairs_needed for c in compare(scores, ["x"], "y", 0.05)] == [needed[0]]
    assert [c.pairs_needed for c in compare(scores, ["x", "z"], "y", 0.05)] == [
        pairs_needed(pilot, 0.05, 2)
    ] * 2


@pytest.mark.parametrize("board", [1, 14])
def test_the_sample_size_gives_the_power_it_promises(board: int) -> None:
    """Normal log ratios, a gain of exactly ``effect``, Bonferroni: no better than Holm."""
    random = np.random.default_rng(2)
    seen = 0
    for _ in range(200):
        logs = random.normal(np.log(1.05), 0.2, 3_000)
        needed = pairs_needed(logs[:10].tolist(), 0.05, board)
        assert needed is not None
        seen += mean_of([logs[:needed]]).p() * board < 0.05
    assert seen >= 0.86 * 200  # 92 to 94 % expected; three standard errors below 92 %


def test_a_board_of_all_policies_and_scenarios_can_still_be_won() -> None:
    """A bootstrap of 10,000 has a least p of 2e-4: 0.03 after 168 comparisons, whatever the gain."""
    random = np.random.default_rng(4)
    names = [f"p{k}" for k in range(168)]
    scores = [a_score("y", k, 1.0) for k in range(30)]
    scores += [
        a_score(n, k, float(np.exp(random.normal(0.2 * (n == "p0"), 0.05)))) for n in names for k in range(30)
    ]
    told = compare(scores, names, "y", 0.05)[0]
    assert told.p_holm is not None
    assert told.p_holm < 1e-6
    assert told.verdict == "better"


def test_a_ratio_that_cannot_be_told_counts_among_the_comparisons() -> None:
    random = np.random.default_rng(5)
    scores = [a_score("y", k, 1.0) for k in range(30)] + [a_score("z", k, 0.0) for k in range(30)]
    scores += [a_score("x", k, float(np.exp(random.normal(0.02, 0.1)))) for k in range(30)]
    told, refused = compare(scores, ["x", "z"], "y", 0.05)
    assert refused.p_holm is None
    assert told.p is not None
    assert told.p_holm == pytest.approx(min(1.0, 2 * told.p))


def above(scores: list[Score], found: list[SeedBounds]) -> set[tuple[str, str, int | None]]:
    return {(o.policy, o.above, o.seed) for o in misordered(scores, found)}


def test_what_stands_above_a_proven_bound_is_named_on_its_seed() -> None:
    bound = SeedBounds(scenario="a", seed=0, hindsight=3.0, known=4.0)
    scores = [a_score("manual", 0, 3.5), a_score("oracle", 0, 1.0)]
    assert above(scores, [bound]) == {("manual", "bound-hindsight", 0), ("manual", "oracle", 0)}


def test_bound_known_is_judged_in_the_mean() -> None:
    found = [SeedBounds(scenario="a", seed=k, hindsight=9.0, known=2.0) for k in range(12)]
    lucky = [a_score("manual", k, 2.5 if k < 2 else 1.8) for k in range(12)]
    assert above(lucky, found) == set()
    assert above(lucky[:1], found[:1]) == set()
    beyond = [a_score("manual", k, 2.1 + 0.01 * k) for k in range(12)]
    assert above(beyond, found) == {("manual", "bound-known", None)}
    (line,) = (o.line for o in misordered(beyond, found))
    assert line == "a, mean over seeds: manual 2.155 above bound-known 2.000 (beyond luck at 5 %: a bug)"


def test_the_reported_bound_is_the_smaller_mean_and_not_the_mean_of_the_smaller() -> None:
    """Who reaches hindsight on every seed earns 2 in the mean: 1.5, the mean of the smaller, would be no bound."""
    found = [SeedBounds(scenario="a", seed=k, hindsight=h, known=2.0) for k, h in enumerate((1.0, 3.0))]
    assert known_bound(found, "a") == 2.0


def test_the_scoreboard_is_the_same_twice_and_says_its_seeds_and_digests(tmp_path: Path) -> None:
    scenario = small("thin-market-v1", 3_000)
    files, pages = [], []
    for name in ("one", "two"):
        board, timings = run([scenario], ["naive", "manual", "hindsight-shade"], [100, 101])
        show.write(board, timings, tmp_path / f"{name}.json", tmp_path / f"{name}.html")
        files.append((tmp_path / f"{name}.json").read_bytes())
        pages.append((tmp_path / f"{name}.html").read_bytes())
    assert files[0] == files[1]
    assert pages[0] == pages[1]
    board = msgspec.json.decode(files[0], type=Scoreboard)
    assert board.settings.seeds == (100, 101)
    assert board.digests == {"thin-market-v1": scenario.digest}
    assert "seconds" not in files[0].decode()
    assert "seconds" in (tmp_path / "one.timing.json").read_text()
    page = (tmp_path / "one.html").read_text()
    assert page.count("<svg") == 2
    assert "http-equiv" not in page
    assert "<script" not in page
    assert all(s.spend <= s.budget for s in board.scores)
    assert all(s.overspend == 0.0 for s in board.scores)


def test_a_resized_market_is_marked_wherever_it_is_named(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text(
        'name = "mine"\nbase = "thin-market-v1"\ntitle = "Mine, and short."\nauctions = 2000\nbudget_factor = 0.1\n'
    )

    def board_of(auctions: int | None) -> Scoreboard:
        game = show.game_of([str(mine)], ["naive", "manual"], "0", "manual", 0.05, auctions)
        return show.played(game, None)[0]

    usual, longer = board_of(None), board_of(3_000)
    assert (usual.resized, longer.resized) == ((), ("mine",))
    assert board_of(2_000) == usual
    for board, count in ((usual, 0), (longer, 1)):
        page = tmp_path / "page.html"
        show.write(board, [], tmp_path / "page.json", page)
        assert ("mine (resized)</h2>" in page.read_text()) == bool(count)
        assert ("mine (resized): 3,000 auctions" in page.read_text()) == bool(count)
        assert msgspec.json.decode((tmp_path / "page.json").read_bytes())["resized"] == ["mine"] * count
    named, _ = run([small("thin-market-v1", 2_000)], ["naive", "manual"], [0])
    assert named.resized == ("thin-market-v1",)
    assert named.label("thin-market-v1") == "thin-market-v1 (resized)"


def test_processes_and_a_kept_file_change_nothing(tmp_path: Path) -> None:
    scenario, policies = small("thin-market-v1", 2_000), ["naive", "manual"]
    keep = tmp_path / "rounds.jsonl"
    alone, _ = run([scenario], policies, [0, 1, 2])
    run([scenario], policies, [0, 2], keep=keep)
    before = keep.read_bytes()
    heard: list[str] = []
    together, _ = run(
        [scenario], policies, [0, 1, 2], progress=lambda label, _: heard.append(label), jobs=2, keep=keep
    )
    assert msgspec.json.encode(together) == msgspec.json.encode(alone)
    assert heard == ["kept from before", "thin-market-v1 seed 1"]
    assert keep.read_bytes()[: len(before)] == before
    other, _ = run([scenario], policies[::-1], [0], keep=keep)  # other policies: played anew
    assert [s.policy for s in other.scores] == ["manual", "naive"]
    keep.write_bytes(before[:-20])
    with pytest.raises(ConfigError, match="line 2"):
        run([scenario], policies, [0], keep=keep)


def test_the_command(tmp_path: Path) -> None:
    out = tmp_path / "board.json"
    arguments = ["bench", "market", "--scenario", "thin-market-v1", "--auctions", "2000", "--seeds", "100"]
    result = CliRunner().invoke(app, [*arguments, "--policies", "naive,manual", "--json", str(out)])
    assert result.exit_code == 0, result.output
    assert msgspec.json.decode(out.read_bytes(), type=Scoreboard).settings.policies == ("naive", "manual")
    assert "simulated market" in result.output
    assert "thin-market-v1 (resized): mean of" in result.output
    checked = CliRunner().invoke(app, [*arguments, "--policies", "manual", "--check-ordering"])
    assert checked.exit_code == 0, checked.output
    assert "stand above everybody: 1 seeds x 1 scenarios x 2 policies checked" in checked.output


def test_the_command_of_the_ordering_says_what_was_checked(tmp_path: Path) -> None:
    out = tmp_path / "ordering.json"
    arguments = ["bench", "market", "--scenario", "thin-market-v1", "--auctions", "500", "--seeds", "3,4"]
    arguments += ["--policies", "naive", "--check-ordering"]
    done = CliRunner().invoke(app, [*arguments, "--json", str(out)])
    assert done.exit_code == 0, done.output
    told = msgspec.json.decode(out.read_bytes(), type=Checked)
    assert (told.seeds, told.policies, told.ordering) == ((3, 4), ("naive", "oracle"), [])
    assert set(told.digests) == set(told.scenarios) == {"thin-market-v1"}
    refused = CliRunner().invoke(app, [*arguments, "--html", str(tmp_path / "page.html")])
    assert isinstance(refused.exception, ConfigError)
    assert "--html" in str(refused.exception)


def test_against_falls_back_to_the_first_only_where_it_is_left_out() -> None:
    def against(players: list[str], given: str | None) -> str:
        return show.game_of(["thin-market-v1"], players, "1", given, 0.05, None).against

    assert against(["naive,pid"], None) == "naive"
    assert against(["naive", "manual"], None) == "manual"
    assert against(["naive", "pid"], "pid") == "pid"
    with pytest.raises(ConfigError, match="does not play"):
        against(["naive"], "manual")


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_player_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: str) -> None:
    (tmp_path / "my_players.py").write_text(
        "from counterpoint.bench.market.baselines.ladder import LADDER\n\n\n"
        "class Bold:\n"
        '    """Manual under another name."""\n\n'
        '    name = "bold"\n\n'
        "    def __init__(self):\n"
        "        self.begin, self.split, self.decide, self.learn = (\n"
        '            getattr(self.made, verb) for verb in ("begin", "split", "decide", "learn")\n'
        "        )\n\n"
        "    @property\n"
        "    def made(self):\n"
        '        return self.__dict__.setdefault("_made", LADDER["manual"](None))\n\n\n'
        "def needs(one):\n"
        "    return Bold()\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    arguments = ["bench", "market", "--scenario", "thin-market-v1", "--auctions", "1000", "--seeds", "1,2"]
    arguments += ["--policies", "manual", "--jobs", jobs, "--json", "board.json", "--keep", "kept"]
    done = CliRunner().invoke(app, [*arguments, "--player", "my_players:Bold"])
    assert done.exit_code == 0, (done.output, done.exception)
    board = msgspec.json.decode(Path("board.json").read_bytes(), type=Scoreboard)
    manual, bold = board.summaries
    assert (bold.policy, bold.title, bold.oracle) == (
        "my_players:Bold",
        "Manual under another name.",
        False,
    )
    assert (bold.value, bold.spend) == (manual.value, manual.spend)
    for wrong, says in (
        ("my_players:Shy", "has no class"),
        ("my_playerz:Bold", "looked for in this folder"),
        ("my_players:needs", "without arguments"),
        ("pathlib:Path", "it lacks begin"),
    ):
        with pytest.raises(ConfigError, match=says):
            check_names((wrong,))


def test_a_registered_player_plays_in_this_process_alone() -> None:
    register("shy", lambda: LADDER["naive"](None))
    try:
        board, _ = run([small(auctions=1_000)], ["naive", "shy"], [0], "naive")
        assert board.scores[0].value == board.scores[1].value
        with pytest.raises(ConfigError, match="this process alone"):
            run([small(auctions=1_000)], ["naive", "shy"], [0], "naive", jobs=2)
        for name, says in (("shy", "registered already"), ("pid", "one of the package's"), ("a:b", "colon")):
            with pytest.raises(ConfigError, match=says):
                register(name, lambda: LADDER["naive"](None))
    finally:
        del own.REGISTERED["shy"]


def test_a_file_that_keep_never_wrote_is_not_to_be_mended_line_by_line(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("my notes\n")
    with pytest.raises(ConfigError, match="holds no finished seeds"):
        run([small()], ["manual"], [0], keep=tmp_path / "notes")


@pytest.mark.parametrize(
    ("text", "says"),
    [("x", "no number"), ("5-3", "backwards"), ("1,1", "twice"), ("0-99999999", "longer"), ("", "no number")],
)
def test_bad_seeds(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse_seeds(text)


def test_bad_names_have_a_cure() -> None:
    with pytest.raises(ConfigError, match="did you mean 'manual'"):
        check_names(("manuel",))
    with pytest.raises(ConfigError, match="twice"):
        check_names(("manual", "manual"))
    with pytest.raises(ConfigError, match="does not play"):
        run([small()], ["naive"], [0], "manual")
    with pytest.raises(ConfigError, match="no gain"):
        run([small()], ["naive"], [0], "naive", effect=0.0)


def test_every_player_has_a_title_and_every_scenario_its_constants() -> None:
    assert set(TITLES) == set(NAMES)
    assert set(DEFAULT) <= set(NAMES)
    for scenario in SCENARIOS:
        for player, constants in PLAN.items():
            assert set(tuned(scenario, player)) == set(constants)
    assert all(make(None).name == name for name, make in LADDER.items())


def test_each_of_the_ladder_plays_within_its_budget() -> None:
    board, _ = run([small(auctions=4_000)], list(LADDER), [0])
    assert len(board.scores) == len(LADDER)
    for s in board.scores:
        assert s.overspend == 0.0
        assert 0.0 < s.spend <= s.budget + 1.0 / NANOS
        assert s.value > 0.0
        assert s.relevance is not None
        assert 0.3 < s.relevance < 0.8
