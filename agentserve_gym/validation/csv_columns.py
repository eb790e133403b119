"""Columns of numbers from a CSV file, plain or gzip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from agentserve_gym.validation.replay import Column
from agentserve_gym.workloads.readers.rows import read_rows

Columns = Mapping[str, Column]


def read_columns(path: Path, needed: Sequence[str]) -> Columns:
    """The named columns of a file with a header.

    Raises:
        ValueError: naming the file, and the column or line, that is missing or wrong.
    """
    rows: list[list[float]] = []
    for row in read_rows(path, needed):
        try:
            rows.append([float(row.cells[name]) for name in needed])
        except ValueError as error:
            raise ValueError(f"{row.where}: {', '.join(needed)} must be numbers") from error
    table = np.array(rows, dtype=np.float64).reshape(len(rows), len(needed))
    return {name: table[:, column] for column, name in enumerate(needed)}
