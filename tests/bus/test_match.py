from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from counterpoint.bus.match import Filter, cover, is_pattern, matches

TOKENS = st.sampled_from(["a", "b", "c"])
SUBJECTS = st.lists(TOKENS, min_size=1, max_size=4).map(".".join)
PATTERNS = st.builds(
    lambda tokens, tail: ".".join([*tokens, *tail]),
    st.lists(st.sampled_from(["a", "b", "*"]), min_size=1, max_size=4),
    st.sampled_from([[], [">"]]),
)


@given(patterns=st.lists(PATTERNS, min_size=1, max_size=4), subject=SUBJECTS)
def test_a_cover_matches_whatever_one_of_its_patterns_matches(patterns: list[str], subject: str) -> None:
    wide = cover(patterns)
    if Filter(patterns)(subject):
        assert matches(wide, subject)
    if len(set(patterns)) == 1:
        assert wide == patterns[0]


@given(subject=SUBJECTS)
def test_a_subject_matches_itself_and_nothing_shorter(subject: str) -> None:
    assert matches(subject, subject)
    assert not is_pattern(subject)
    assert matches(">", subject)
    assert not matches(subject + ".>", subject)
    assert not matches(subject, subject + ".x")
