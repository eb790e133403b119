"""The results file: one CSV row an outcome, appended whole, so that a run can be resumed."""

from __future__ import annotations

import csv
import io
import os
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, get_type_hints

from agentserve_gym.bench.measure import Outcome
from agentserve_gym.files import write_file

COLUMNS = tuple(column.name for column in fields(Outcome))
_TYPES = get_type_hints(Outcome)
Key = tuple[str, str, int, str]


def key(outcome: Outcome) -> Key:
    """What makes an outcome the same: scenario, label, seed, and what was run (``digest``)."""
    return (outcome.scenario, outcome.label, outcome.seed, outcome.digest)


class ResultsFile:
    """An append-only CSV file of outcomes.

    Each row is written by one call, so an interrupted run leaves at most one row cut off, which is
    dropped when the file is opened again.
    """

    def __init__(self, path: Path) -> None:
        """Open or create the file.

        Raises:
            ValueError: if the file is of other columns.
            OSError: if it cannot be read or written.
        """
        self.path = path
        self.outcomes: list[Outcome] = []
        if path.exists():
            self._load()
        else:
            write_file(self.path, _line(COLUMNS))

    def append(self, outcome: Outcome) -> None:
        """Add one outcome."""
        line = _line(_cell(value) for value in asdict(outcome).values())
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(handle, line.encode("utf-8"))
        finally:
            os.close(handle)
        self.outcomes.append(outcome)

    def _load(self) -> None:
        text = self.path.read_text(encoding="utf-8")
        whole, newline, rest = text.rpartition("\n")
        header, *rows = csv.reader(io.StringIO(whole))
        if tuple(header) != COLUMNS:
            raise ValueError(f"{self.path} has other columns; name another folder with --out")
        if rest:
            write_file(self.path, whole + newline)
        self.outcomes = [_outcome(row, self.path) for row in rows]


def _line(values: Any) -> str:
    target = io.StringIO()
    csv.writer(target, lineterminator="\n").writerow(values)
    return target.getvalue()


def _cell(value: Any) -> str:
    """Floats with every digit: what is read back is what was written."""
    return repr(value) if isinstance(value, float) else str(value)


def _outcome(row: list[str], path: Path) -> Outcome:
    if len(row) != len(COLUMNS):
        raise ValueError(f"{path}: a row has {len(row)} cells; the header has {len(COLUMNS)}")
    return Outcome(**{name: _TYPES[name](text) for name, text in zip(COLUMNS, row, strict=True)})
