"""Small pieces of Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence

from agentserve_gym.report.statistics import Estimate


def table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose first column is text and whose others are numbers."""
    return _table(heading, [":--", *["--:"] * (len(heading) - 1)], rows)


def text_table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of text."""
    return _table(heading, [":--"] * len(heading), rows)


def plain_table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table that leaves alignment to the reader's program."""
    return _table(heading, ["-"] * len(heading), rows)


def _table(heading: Sequence[str], rule: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lines of cells. A bar within a cell would end it, so it becomes a slash."""
    lines = ([cell.replace("|", "/") for cell in line] for line in (heading, rule, *rows))
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def share(estimate: Estimate) -> str:
    """A share in percent with its interval."""
    if math.isinf(estimate.high):
        return f"{estimate.value:.0%} [one seed]"
    low, high = max(estimate.low, 0.0), min(estimate.high, 1.0)
    return f"{estimate.value:.0%} [{low:.0%}, {high:.0%}]"


def interval(estimate: Estimate, digits: int = 2) -> str:
    """A value with its interval."""
    if math.isinf(estimate.high):
        return f"{estimate.value:.{digits}f} [one seed]"
    return f"{estimate.value:.{digits}f} [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"


def change(estimate: Estimate) -> str:
    """A ratio as a change in percent with its interval, bold where it excludes no change."""
    if math.isinf(estimate.high):
        return f"{100 * (estimate.value - 1):+.1f} % [one seed]"
    low, high = 100 * (estimate.low - 1), 100 * (estimate.high - 1)
    text = f"{100 * (estimate.value - 1):+.1f} % [{low:+.1f}, {high:+.1f}]"
    return f"**{text}**" if excludes_one(estimate) else text


def excludes_one(estimate: Estimate) -> bool:
    """Whether a ratio's interval lies on one side of 1."""
    return estimate.high < 1.0 or estimate.low > 1.0


def plural(count: int, noun: str) -> str:
    """``1 cell``, ``2 cells``; a noun in y becomes one in ies."""
    if count == 1:
        return f"1 {noun}"
    return f"{count:,} {noun.removesuffix('y')}ies" if noun.endswith("y") else f"{count:,} {noun}s"


def code(text: str) -> str:
    """Text as code."""
    return f"`{text}`"
