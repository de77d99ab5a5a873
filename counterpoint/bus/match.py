"""Subject patterns as NATS reads them: ``*`` is one token, a last ``>`` is one or more."""

from __future__ import annotations

from collections.abc import Sequence

MATCHED_SUBJECTS_MAX = 65_536  # remembered answers; past that they are forgotten and found again


def matches(pattern: str, subject: str) -> bool:
    """Does the subject match the pattern?

    >>> matches("money.*.b1", "money.command.b1"), matches("money.>", "money"), matches("a.*", "a.b.c")
    (True, False, False)
    """
    wanted, given = pattern.split("."), subject.split(".")
    for position, token in enumerate(wanted):
        if token == ">":
            return len(given) > position
        if position >= len(given) or token not in ("*", given[position]):
            return False
    return len(wanted) == len(given)


def is_pattern(subject: str) -> bool:
    """True where a wildcard stands.

    >>> is_pattern("facts.bids.b1"), is_pattern("facts.>")
    (False, True)
    """
    return any(token in ("*", ">") for token in subject.split("."))


def cover(patterns: Sequence[str]) -> str:
    """The narrowest simple pattern that matches everything any of the patterns matches.

    >>> cover(["money.ledger.grant.b1", "money.ledger.balance.*"]), cover(["facts.>", "facts.bids.b1"])
    ('money.ledger.*.*', 'facts.>')
    """
    assert patterns
    split = [pattern.split(".") for pattern in patterns]
    covered: list[str] = []
    for position in range(max(map(len, split))):
        tokens = {tokens[position] if position < len(tokens) else ">" for tokens in split}
        if ">" in tokens:
            # a shorter pattern ends here: ``>`` needs one more token than it may have, so step back one
            shorter = any(len(tokens) == position for tokens in split)
            return ".".join([*(covered[:-1] if shorter else covered), ">"])
        covered.append(tokens.pop() if len(tokens) == 1 else "*")
    return ".".join(covered)


class Filter:
    """Any of several patterns, with the answers per subject remembered."""

    def __init__(self, patterns: Sequence[str]) -> None:
        assert patterns, "a subscription names at least one subject"
        self.patterns = tuple(patterns)
        self._known: dict[str, bool] = {}

    def __call__(self, subject: str) -> bool:
        known = self._known.get(subject)
        if known is None:
            if len(self._known) >= MATCHED_SUBJECTS_MAX:
                self._known.clear()
            known = self._known[subject] = any(matches(pattern, subject) for pattern in self.patterns)
        return known
