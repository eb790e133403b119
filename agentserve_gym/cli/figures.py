"""Tables of figures that can be read at any width: names give way, figures never do.

Standard output that is a file has no width, so nothing is folded there. On a narrow terminal the
names in the first column and in the headings are folded; figures that do not fit beside each other
follow in a second table below, with the same names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

_GAP = 2
_NARROWEST_NAME = 12
_NARROWEST_HEADING = 9


@dataclass(slots=True)
class Figures:
    """A table: a name and figures in every row.

    Attributes:
        title: above it. ``heading``: of the names and of every figure.
        rows: as long as the heading. ``remarks``: lines below it.
    """

    title: str
    heading: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def print(self, out: Console) -> None:
        """Print it as wide as ``out`` is."""
        names = [self.heading[0], *(row[0] for row in self.rows)]
        columns = [
            _Column(heading, [row[number] for row in self.rows])
            for number, heading in enumerate(self.heading[1:], start=1)
        ]
        widest_name = max(map(_width, names))
        for number, group in enumerate(_groups(columns, widest_name, out.width)):
            out.print(Text(self.title if number == 0 else f"{self.title}, continued", style="bold"))
            table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
            room = out.width - sum(_GAP + column.narrowest for column in group)
            name_width = min(widest_name, room)
            room -= name_width
            table.add_column(_folded(names[0], name_width), width=name_width)
            for column in group:
                more = min(column.widest - column.narrowest, room)
                room -= more
                width = column.narrowest + more
                table.add_column(_folded(column.heading, width), width=width, justify="right")
            for position, row in enumerate(self.rows):
                cells = (Text(column.cells[position]) for column in group)
                table.add_row(_folded(row[0], name_width), *cells)
            out.print(table)
        for remark in self.remarks:
            out.print(remark, markup=False)


class _Column:
    """One column of figures: how wide its heading would have it, and how narrow it can be."""

    def __init__(self, heading: str, cells: list[str]) -> None:
        self.heading = heading
        self.cells = cells
        figures = max(map(_width, cells), default=1)
        longest_word = max(map(len, heading.split()), default=0)
        self.widest = max(figures, _width(heading))
        self.narrowest = max(figures, min(longest_word, _NARROWEST_HEADING))


def _groups(columns: list[_Column], widest_name: int, width: int) -> list[list[_Column]]:
    """The columns in order, as many to a table as fit beside a folded name."""
    groups: list[list[_Column]] = [[]]
    room = width - min(widest_name, _NARROWEST_NAME)
    left = room
    for column in columns:
        if left < _GAP + column.narrowest and groups[-1]:
            groups.append([])
            left = room
        left -= _GAP + column.narrowest
        groups[-1].append(column)
    return groups


def _folded(name: str, width: int) -> Text:
    """A name on as many lines as it needs, broken between words and between parts of a policy."""
    lines = [""]
    for part in re.findall(r"[^\s+(,]*(?:[+(,]|\s+|$)", name):
        if len((lines[-1] + part).rstrip()) > width and lines[-1]:
            lines.append("")
        lines[-1] += part
    return Text("\n".join(line.rstrip() for line in lines), overflow="fold")


def _width(text: str) -> int:
    return max(map(len, text.splitlines()), default=0)
