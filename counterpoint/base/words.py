"""Names as people type them."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable


def names_of(given: Iterable[str]) -> tuple[str, ...]:
    """Commas and repeated options alike.

    >>> names_of(["naive,manual", "pid"])
    ('naive', 'manual', 'pid')
    """
    return tuple(name.strip() for part in given for name in part.split(",") if name.strip())


def instead_of(name: str, names: Collection[str]) -> str:
    """The cure of a name that is not among ``names``: the one that was meant, or all there are.

    >>> instead_of("manuel", ["manual", "pid"])
    "did you mean 'manual'?"
    """
    close = difflib.get_close_matches(name, names, 1)
    return f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(names)}"
