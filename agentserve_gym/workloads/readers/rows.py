"""Rows of CSV files with a header, with errors that name the file and the line."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from agentserve_gym.workloads.readers.lines import TraceError, read_lines


class Row(NamedTuple):
    """One row: its cells by the names of the header, and where it stands."""

    cells: Mapping[str, str]
    where: str


def read_rows(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """The rows of a plain or gzip CSV file whose header names at least ``columns``.

    Raises:
        TraceError: as `read_lines`, for a column that is missing, for a header that no row
            follows, and for a row that has other columns than the header.
    """
    lines = read_lines(path)
    number, header = next(lines)
    names = [name.strip() for name in next(csv.reader([header]))]
    for column in columns:
        if column not in names:
            raise TraceError(
                f"{path}, line {number}: column {column!r} is missing; the header must name "
                f"{', '.join(columns)}"
            )
    empty = True
    for number, line in lines:
        empty = False
        where = f"{path}, line {number}"
        cells = [cell.strip() for cell in next(csv.reader([line]))]
        if len(cells) != len(names):
            raise TraceError(f"{where}: {len(cells)} cells; the header has {len(names)} columns")
        yield Row(dict(zip(names, cells, strict=True)), where)
    if empty:
        raise TraceError(f"{path}: no row follows the header")
