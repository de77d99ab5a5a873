"""Tables as plain text: for pipes and files, where nothing may be cut."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def columns(rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> list[str]:
    """A line each, as wide as it must be; ``right``: columns of figures.

    >>> columns([("id", "paid"), ("c1", "2"), ("campaign", "10")], right=[1])
    ['id        paid', 'c1           2', 'campaign    10']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            text.rjust(width) if k in right else text.ljust(width)
            for k, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def stacked(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """The same for a terminal that is too narrow: the first column heads what is said of its row, name and value together.

    >>> stacked([("id", "paid", "free"), ("c1", "2", "10")], width=10)
    ['c1', '  paid 2', '  free 10']
    """
    head, *rest = rows
    out: list[str] = []
    for row in rest:
        out.append(row[0])
        line = ""
        for name, text in zip(head[1:], row[1:], strict=True):
            said = f"  {name} {text}"
            if not text:
                continue
            if line and len(line) + len(said) > width:
                out.append(line)
                line = ""
            line += said
        out.append(line)
    return out
