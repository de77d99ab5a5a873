"""``counterpoint market``, and the document that goes with it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from counterpoint.app.cli import app
from counterpoint.base.errors import ConfigError
from counterpoint.market.describe import survey, tables
from counterpoint.market.fit import Fit, fit_all
from counterpoint.market.load import NAMES, ScenarioError, scenario_named
from counterpoint.market.plots import changing, draw_fits
from counterpoint.market.scenario import Scenario

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "market.md"
DATA = Path(os.environ.get("COUNTERPOINT_SHARED", ROOT.parent / "shared")) / "data"
PNG = b"\x89PNG\r\n"


def run(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["market", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_the_list_names_every_scenario() -> None:
    listed = run("list")
    assert all(name in listed for name in NAMES)


def test_describe_tells_and_draws(tmp_path: Path) -> None:
    told = run("describe", "jumps-v1", "--out", str(tmp_path))
    for part in (
        scenario_named("jumps-v1").digest,
        "northstar/video",
        "harbor-bookings",
        "jump on day 6.5",
        "shock",
    ):
        assert part in told
    pictures = sorted(tmp_path.glob("*.png"))
    assert [p.name for p in pictures] == [
        f"jumps-v1-{k}.png" for k in ("appeal", "change", "delays", "prices", "traffic")
    ]
    for picture in pictures:
        assert picture.read_bytes().startswith(PNG)
        assert picture.stat().st_size < 200_000


def test_only_what_changes_has_a_panel() -> None:
    seen = {name: changing(survey(scenario_named(name), seed=0)) for name in NAMES}
    assert seen["stationary-v1"] == seen["delay-v1"] == ()
    assert seen["jumps-v1"] == ("prices", "volume", "appeal")
    assert seen["weekend-v1"] == ("prices", "volume")
    assert seen["outage-v1"] == ("volume",)
    assert seen["churn-v1"] == ("appeal",)


@pytest.mark.parametrize("name", NAMES)
def test_every_scenario_can_be_described(name: str) -> None:
    found = list(tables(survey(scenario_named(name), seed=1)))
    assert len(found) == (3 if name in ("stationary-v1", "thin-market-v1", "delay-v1") else 4)


def test_describe_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="did you mean 'churn-v1'"):
        run("describe", "churn-v9")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="name another folder"):
        run("describe", "thin-market-v1", "--out", str(tmp_path / "file"))


def test_speed_measures() -> None:
    told = run("speed", "thin-market-v1", "--most", "10000")
    assert "10,000" in told


def keys_of(struct: type[Any]) -> Iterator[str]:
    """Field names of a scenario and of everything in it."""
    for field in msgspec.structs.fields(struct):
        yield field.name
        for inner in _structs(field.type):
            yield from keys_of(inner)


def _structs(kind: Any) -> Iterator[type[Any]]:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        yield kind
    for argument in getattr(kind, "__args__", ()):
        yield from _structs(argument)


def test_every_key_is_documented() -> None:
    text = DOCUMENT.read_text("utf-8")
    keys = set(keys_of(Scenario))
    assert len(keys) > 80
    assert not sorted(
        key for key in keys if f"{key}`" not in text and f"{key}[" not in text and f"{key}." not in text
    )
    assert all(f"`{name}`" in text for name in NAMES)


@pytest.fixture(scope="module")
def fits() -> list[Fit]:
    if not DATA.is_dir():
        pytest.skip("the real logs are not there")
    return fit_all(DATA)


def test_the_simulated_market_looks_like_the_logs(fits: list[Fit], tmp_path: Path) -> None:
    assert len(fits) == 7
    text = DOCUMENT.read_text("utf-8")
    for fit in fits:
        assert fit.apart.ks < 0.06, fit.name
        assert fit.logs_apart is not None
        assert fit.apart.ks < fit.logs_apart.ks, fit.name
        row = next(line for line in text.splitlines() if line.startswith(f"| {fit.name} |"))
        assert f"| {fit.apart.ks:.3f} |" in row, f"docs/market.md is out of date: {fit.name}"
    for picture in draw_fits(fits, tmp_path):
        assert picture.read_bytes().startswith(PNG)
        assert picture.stat().st_size < 150_000


def test_the_scenarios_hold_what_was_fitted(fits: list[Fit]) -> None:
    text = (ROOT / "counterpoint" / "market" / "scenarios" / "stationary-v1.toml").read_text("utf-8")
    plain = "".join(text.split()).replace(",]", "]").replace("},]", "}]")
    for fit in fits:
        if not fit.name.startswith("delay"):
            for line in fit.toml.replace("[\n", "[").replace(",\n", ",").splitlines():
                assert "".join(line.split()).replace(",]", "]") in plain, fit.name


def test_logs_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"2259_log_1019_1022\.csv\.gz: cannot be read .*--data"):
        fit_all(tmp_path)
    raw = tmp_path / "ipinyou_raw"
    raw.mkdir()
    (raw / "2259_log_1019_1022.csv.gz").write_bytes(b"\x1f\x8b\x08\x00\x00")
    with pytest.raises(ConfigError, match="cut off"):
        fit_all(tmp_path)
