"""Content categories: IAB Content Taxonomy 1.0 codes ("IAB7", "IAB7-39") and how lists of them match."""

from __future__ import annotations

from collections.abc import Iterable

TAXONOMY_1 = 1  # cattax: the default


def category_code(text: str) -> str:
    """As the taxonomy writes it: upper case, no blanks, "-" before the second tier.

    >>> category_code(" iab7_39 ")
    'IAB7-39'
    """
    return text.strip().upper().replace("_", "-")


def category_parent(code: str) -> str:
    """First tier of a code: itself when it is one.

    >>> category_parent("IAB7-39"), category_parent("IAB7")
    ('IAB7', 'IAB7')
    """
    return code.partition("-")[0]


def categories_match(codes: Iterable[str], listed: frozenset[str]) -> bool:
    """Whether any code, or its first tier, is listed. ``listed``: as :func:`category_code` writes it.

    A first-tier code is *not* matched by one of its children on the list: a car ad is no ad for used cars.

    >>> categories_match(["IAB7-39"], frozenset({"IAB7"})), categories_match(["IAB7"], frozenset({"IAB7-39"}))
    (True, False)
    """
    return any(code in listed or category_parent(code) in listed for code in map(category_code, codes))


def in_taxonomy_1(codes: Iterable[str], cattax: int) -> bool:
    """Whether all these codes can be compared with ours. Codes written "IAB..." are, whatever ``cattax`` says.

    >>> in_taxonomy_1(["53"], 6), in_taxonomy_1(["IAB7"], 6), in_taxonomy_1([], 7)
    (False, True, True)
    """
    return cattax in (0, TAXONOMY_1) or all(code.lstrip()[:3].upper() == "IAB" for code in codes)
