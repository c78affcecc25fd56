"""Tables in Markdown, and what stands in their cells."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table.

    >>> print(table(("a", "b"), [(1, 2)]))
    | a | b |
    |---|---|
    | 1 | 2 |
    """
    lines = [_line(header), f"|{'---|' * len(header)}", *map(_line, rows)]
    return "\n".join(lines)


def interval(gate: Mapping[str, Any]) -> str:
    """From where to where a share is likely to be, and how many of how many were right.

    >>> interval({"low": 0.5, "high": 0.75, "hits": 1200, "asked": 2000})
    '50.0% to 75.0%, 1,200 of 2,000'
    """
    counts = f", {gate['hits']:,} of {gate['asked']:,}" if "asked" in gate else ""
    return f"{gate['low']:.1%} to {gate['high']:.1%}{counts}"


def _line(cells: Sequence[object]) -> str:
    return f"| {' | '.join(map(str, cells))} |"
