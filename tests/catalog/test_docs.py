"""docs/catalog.md tells every key, and its example is a catalog without a doubt."""

from __future__ import annotations

import re
from pathlib import Path

from counterpoint.catalog.load import check_catalog
from counterpoint.catalog.schema import FIELDS, TOP

DOCS = (Path(__file__).parents[2] / "docs" / "catalog.md").read_text(encoding="utf-8")


def test_every_key_is_documented() -> None:
    names = set(re.findall(r"`\[?\[?([a-z_0-9.]+)\]?\]?`", DOCS)) | set(re.findall(r"\b([a-z_]+) = ", DOCS))
    for kind, fields in FIELDS.items():
        missing = set(fields) - names
        assert not missing, (kind, missing)
    assert set(TOP) <= names


def test_the_example_is_sound(tmp_path: Path) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", DOCS, re.DOTALL)
    path = tmp_path / "example.toml"
    path.write_text(example, encoding="utf-8")
    assert check_catalog(path).warnings == ()
