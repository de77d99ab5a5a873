"""A catalog written to a file is read back as the same catalog, digest and all."""

from __future__ import annotations

from pathlib import Path

import pytest

from counterpoint.catalog.load import load_catalog
from counterpoint.catalog.write import catalog_json
from counterpoint.market.catalogue import catalogue
from counterpoint.market.load import NAMES, scenario_named

EXAMPLES = Path(__file__).parents[2] / "examples" / "catalogs"


@pytest.mark.parametrize("name", ["demo", "wide"])
def test_the_examples_survive(name: str, tmp_path: Path) -> None:
    catalog = load_catalog(EXAMPLES / f"{name}.toml")
    path = tmp_path / "catalog.json"
    path.write_bytes(catalog_json(catalog))
    assert load_catalog(path) == catalog


@pytest.mark.parametrize("name", NAMES)
def test_a_scenarios_demand_can_be_loaded_as_a_file(name: str, tmp_path: Path) -> None:
    catalog = catalogue(scenario_named(name))
    path = tmp_path / "catalog.json"
    path.write_bytes(catalog_json(catalog))
    assert load_catalog(path) == catalog
