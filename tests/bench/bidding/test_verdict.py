"""The frame of ``counterpoint bench bidding``: verdicts that say no when it is no."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from rich.console import Console
from typer.main import get_command
from typer.testing import CliRunner

from counterpoint.app.bench import bench_app
from counterpoint.base.errors import ConfigError, Stopped
from counterpoint.bench.bidding import run
from counterpoint.bench.bidding.verdict import Bar, Context, Measured, PartResult, Table, Verdict
from counterpoint.bench.budget import run as budget_run
from counterpoint.bench.money import run as money_run


def verdict(kind: Bar, target: float | None, value: float, low: float, high: float) -> Verdict:
    measured = Measured(value=value, low=low, high=high)
    return Verdict(bar="b", kind=kind, target=target, measured=measured, behind="3 seeds")


@pytest.mark.parametrize(
    ("kind", "target", "value", "low", "high", "met", "says"),
    [
        (Bar.AT_LEAST, 0.97, 0.98, 0.975, 0.99, True, "met"),
        (Bar.AT_LEAST, 0.97, 0.98, 0.96, 0.99, True, "met at the point, the interval spans the bar"),
        (Bar.AT_LEAST, 0.97, 0.95, 0.94, 0.98, False, "not met by 0.02"),
        (Bar.AT_MOST, 20.0, 25.0, 24.0, 26.0, False, "not met by 5"),
        (Bar.AT_MOST, 20.0, 15.0, 14.0, 21.0, True, "met at the point, the interval spans the bar"),
        (Bar.ABOVE, 0.0, 0.01, -0.02, 0.04, False, "not met: the interval starts 0.02 below"),
        (Bar.ABOVE, 0.0, 0.03, 0.02, 0.04, True, "met"),
        (Bar.AT_LEAST, 0.9, float("nan"), 0.0, 1.0, False, "not met by nan"),
        (Bar.REPORTED, None, 0.03, 0.02, 0.04, False, "reported"),
    ],
)
def test_a_verdict_says_met_only_of_what_is(
    kind: Bar, target: float | None, value: float, low: float, high: float, met: bool, says: str
) -> None:
    v = verdict(kind, target, value, low, high)
    assert (v.met, v.line()) == (met, says)
    if target is not None:
        assert v.line(quick=True) == "quick run: no verdict"


def test_unknown_parts_and_folders_are_refused_with_a_cure() -> None:
    with pytest.raises(ConfigError, match="did you mean 'budget'"):
        run.chosen(["buget"])
    with pytest.raises(ConfigError, match="is no folder"):
        run.run(["pacing"], (100,), Path("not/there"))


def test_parts_run_in_their_order_whatever_is_asked_first() -> None:
    assert run.chosen(["cost,budget", "shading"]) == ("shading", "budget", "cost")
    assert run.chosen([]) == tuple(run.PARTS)


@pytest.mark.parametrize(("names", "folder"), [(["delays,shading"], None), ([], "."), (["delays"], ".")])
def test_logs_that_are_not_there_are_an_error_for_who_asked(
    names: list[str], folder: str | None, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="delays: talkingdata_clicks/clicks"):
        run.run(names, (100,), tmp_path if folder else None)


def test_the_help_names_every_part() -> None:
    for bench, parts in (("bidding", run.PARTS), ("budget", budget_run.PARTS), ("money", money_run.PARTS)):
        command = next(c for c in get_command(bench_app).commands.items() if c[0] == bench)[1]  # type: ignore[attr-defined]
        said = next(p.help for p in command.params if "--parts" in p.opts)
        assert said.startswith(", ".join(parts) + ";")


def _part(name: str) -> Callable[[Context], PartResult]:
    bar = "surplus share over the better baseline (constant-shade), minimum told, of all five markets"

    def run_it(context: Context) -> PartResult:
        context.report("one-v1, seed 1", 0.0)
        context.report("one-v1, seed 2", 0.3)
        context.report("two-v1, seed 1", 0.6)
        if name == "second":
            raise KeyboardInterrupt
        v = msgspec.structs.replace(verdict(Bar.AT_LEAST, 0.97, 0.98, 0.96, 0.99), bar=bar)
        return PartResult(
            part=name, verdicts=(v,), tables=(Table(title="t", head=("a", "b"), rows=(("x", "1"),)),)
        )

    return run_it


def test_ctrl_c_keeps_the_parts_that_are_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "PARTS", {name: _part(name) for name in ("first", "second", "third")})
    out = tmp_path / "out.json"
    done = CliRunner().invoke(bench_app, ["bidding", "--json", str(out), "--seeds", "1"])
    assert isinstance(done.exception, Stopped)
    assert str(done.exception) == f"1 of 3 parts finished; they are in {out}"
    kept = json.loads(out.read_text())
    assert kept["stopped"] is True
    assert [part["part"] for part in kept["parts"]] == ["first"]
    assert kept["settings"]["parts"] == ["first", "second", "third"]
    said = capsys.readouterr().err or done.stderr
    lines = [line for line in said.splitlines() if "finished" in line]
    assert [line.partition(" finished")[0] for line in lines] == [
        "first: one-v1", "first: two-v1", "first", "second: one-v1",
    ]  # fmt: skip


def test_bars_fit_a_terminal_and_are_whole_lines_in_a_pipe() -> None:
    report, times = _report()
    bar = report.lines[0].verdict.bar
    narrow = Console(width=100, file=io.StringIO(), force_terminal=True, color_system=None)
    with narrow.capture() as captured:
        narrow.print(run.shown(report, times))
    lines = captured.get().splitlines()
    assert max(map(len, lines)) <= 100
    assert any("0.98 [0.96, 0.99]" in line for line in lines), "a figure is not broken"
    pipe = Console(width=20, file=io.StringIO())
    with pipe.capture() as captured:
        pipe.print(run.shown(report, times, plain=True), soft_wrap=True)
    row = next(line for line in captured.get().splitlines() if bar in line)
    assert row.endswith(
        "at least 0.97  0.98 [0.96, 0.99]  met at the point, the interval spans the bar  3 seeds"
    )


def _report() -> tuple[run.Report, run.Times]:
    result = _part("shading")(Context(seeds=(1,)))
    line = run.Line(part="shading", verdict=result.verdicts[0], says=result.verdicts[0].line())
    settings = run.Settings(parts=("shading",), seeds=(1,), data=False, quick=False)
    return run.Report(settings=settings, lines=[line], parts=[result]), run.Times(
        lines=[], parts=[], timings=[]
    )
