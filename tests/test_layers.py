"""Imports run one way: DESIGN.md's layout, held by reading every import in the package."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "counterpoint"
AGENTS = {"bidding", "creative", "budget", "feedback"}
WIRE = {"openrtb", "events", "catalog"}
SHARED = {"base", *WIRE, "bus", "coordination"}

# package -> what it may import of us, besides itself
MAY_IMPORT: dict[str, set[str]] = {
    "base": set(),
    **{name: {"base"} for name in WIRE},
    "bus": {"base", "events"},
    "coordination": {"base", "events", "catalog", "bus"},  # of the bus its protocol alone: see below
    **dict.fromkeys(AGENTS, SHARED),
    "ledger": SHARED,
    "bidder": SHARED | AGENTS,  # of an agent its policy alone: see below
    "record": SHARED | AGENTS | {"bidder"},
    "market": SHARED | AGENTS | {"ledger", "bidder", "record"},
    "bench": SHARED | AGENTS | {"ledger", "bidder", "record", "market"},
    "app": SHARED | AGENTS | {"ledger", "bidder", "record", "market", "bench", "console"},
    "console": SHARED,
}
UNSAFE_FORMATS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}

FILES = sorted(PACKAGE.rglob("*.py"))


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    """(line, module) of every import, also those inside functions and under TYPE_CHECKING; relative ones resolved."""
    here = ["counterpoint", *path.relative_to(PACKAGE).with_suffix("").parts]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(here[: len(here) - node.level]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            for alias in node.names:
                yield node.lineno, f"{module}.{alias.name}"


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE.parent).as_posix()


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_run_downwards(path: Path) -> None:
    parts = path.relative_to(PACKAGE).parts
    if len(parts) == 1:  # the package itself knows nobody
        own, allowed = "", set[str]()
    else:
        own = parts[0]
        assert own in MAY_IMPORT, f"{own}: a new package needs its place in the layers"
        allowed = MAY_IMPORT[own]
    for line, module in imports_of(path):
        names = module.split(".")
        if names[0] in UNSAFE_FORMATS:
            raise AssertionError(f"{name_of(path)}:{line} imports {module}: nothing here is ever unpickled")
        if names[0] != "counterpoint" or len(names) == 1:
            continue
        other = names[1]
        if other == own or other == "__version__":
            continue
        assert other in allowed, (
            f"{name_of(path)}:{line} imports {module}: {own or 'the package'} may not know it"
        )
        if own == "coordination" and other == "bus":
            assert names[2:3] == ["bus"], (
                f"{name_of(path)}:{line} imports {module}: of the bus its protocol alone"
            )
        if own == "bidder" and other in AGENTS:
            assert names[2:3] == ["policy"], (
                f"{name_of(path)}:{line} imports {module}: of an agent its policy alone"
            )
        if (
            own != "app"
            and own not in AGENTS
            and own not in ("market", "bench")
            and names[2:3] == ["learner"]
        ):
            raise AssertionError(f"{name_of(path)}:{line} imports {module}: learners are joined by the app")


def test_a_policy_knows_no_learner() -> None:
    for agent in AGENTS:
        path = PACKAGE / agent / "policy.py"
        assert path.is_file(), f"{agent} has no policy"
        for line, module in imports_of(path):
            assert ".learner" not in module, f"{name_of(path)}:{line} imports {module}"


def test_imports_are_found_in_every_form() -> None:
    folder = PACKAGE / "bus"
    assert "counterpoint.bus.roles.LATEST" in {module for _, module in imports_of(folder / "nats.py")}
    assert "counterpoint.base.clock.NS_PER_S" in {module for _, module in imports_of(folder / "batch.py")}
