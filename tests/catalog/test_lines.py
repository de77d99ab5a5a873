"""Line numbers found by the scan, held against parsers that are known to be right."""

from __future__ import annotations

import json
import tomllib
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.catalog.lines import Lines, Path

TOML = '''\
# a comment with [brackets] and = signs
top = "a # not a comment"  # x
"quoted key" = 1
lit = 'C:\\[x]'
multi = """
[not.a.header]
key = 1
\\""" still inside
"""
multi2 = \'\'\'
[[nor.this]]
\'\'\'
dotted.key.deep = 5
arr = [
  1, 2, # two ]
  { a = 1, b = [3,
    4] },
]
inline = { x = 1, y = { z = "}" } }

[table]
k = 2026-01-01T00:00:00Z
[table.sub]
k = 1.5e3

[[list]]
id = 1
[list.child]
v = true
[[list.many]]
n = 1
[[list.many]]
n = 2
[[list]]
id = 2
[[list.many]]
n = 3
'''


def paths(value: Any, at: Path = ()) -> list[Path]:
    found: list[Path] = [at]
    if isinstance(value, dict):
        for key, each in value.items():
            found += paths(each, (*at, key))
    elif isinstance(value, list):
        for n, each in enumerate(value):
            found += paths(each, (*at, n))
    return found


def test_toml_lines() -> None:
    lines = Lines(TOML, json=False)
    rows = TOML.split("\n")
    for path in paths(tomllib.loads(TOML)):
        assert path in lines._line_of, path
    expected = {
        ("top",): "top =", ("quoted key",): '"quoted', ("multi",): "multi =", ("multi2",): "multi2 =",
        ("dotted", "key", "deep"): "dotted", ("arr", 1): "  1, 2", ("arr", 2, "b"): "  { a", ("arr", 2, "b", 1): "    4]",
        ("inline", "y", "z"): "inline", ("table", "k"): "k = 2026", ("table", "sub", "k"): "k = 1.5",
        ("list", 0, "id"): "id = 1", ("list", 0, "child", "v"): "v =", ("list", 0, "many", 1, "n"): "n = 2",
        ("list", 1): "[[list]]", ("list", 1, "many", 0, "n"): "n = 3",
    }  # fmt: skip
    for path, start in expected.items():
        assert rows[lines.of(path) - 1].startswith(start), (path, lines.of(path))
    assert lines.of(("list", 1, "many", 0, "missing")) == lines.of(("list", 1, "many", 0))
    assert lines.of(("nothing", "at", "all")) == 1


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='ab"\\{}[]:,# \n', max_size=6),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(alphabet='ab"\\.', max_size=4), inner, max_size=4)
    ),
    max_leaves=20,
)


@settings(max_examples=200, deadline=None)
@given(VALUES)
def test_every_json_path_has_the_line_it_was_written_on(value: Any) -> None:
    text = json.dumps(value, indent=1)
    lines = Lines(text, json=True)
    known = [path for path in paths(value) if not any("\\" in str(key) or '"' in str(key) for key in path)]
    ordered = [lines.of(path) for path in known]
    assert ordered == sorted(ordered)  # depth first is the order of the file
    scalars = [path for path in known if path]
    rows = text.split("\n")
    for path in scalars:
        if isinstance(path[-1], str):
            assert rows[lines.of(path) - 1].lstrip().startswith(json.dumps(path[-1]))


def test_repeated_json_keys_are_seen() -> None:
    assert Lines('{"a": 1, "b": {"c": 1,\n "c": 2}, "a": 3}', json=True).repeated == [("b", "c"), ("a",)]
