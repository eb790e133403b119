"""The results file: one CSV row an outcome, appended whole, so that a run can be resumed."""

from __future__ import annotations

import csv
import io
import math
import os
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, get_type_hints

from agentserve_gym.bench.measure import Outcome
from agentserve_gym.files import drop_partial_line, write_file
from agentserve_gym.messages import shown

COLUMNS = tuple(column.name for column in fields(Outcome))
_TYPES = get_type_hints(Outcome)
_ALLOWED = {int: "a whole number", float: "a finite number"}
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
            ValueError: if the file has other columns, or naming the line of a row that is wrong.
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
        """Line by line: a sweep may have left more than would fit into memory as text."""
        try:
            with self.path.open(encoding="utf-8-sig", newline="") as file:
                reader = csv.reader(line for line in file if line.endswith("\n"))
                header = next(reader, [])
                if tuple(header) != COLUMNS:
                    raise ValueError(
                        f"{self.path}: the columns are {shown(', '.join(header))}, not those of "
                        "this version; name another folder with --out"
                    )
                for row in reader:
                    self.outcomes.append(_outcome(row, f"{self.path}, line {reader.line_num}"))
        except csv.Error as error:
            raise ValueError(f"{self.path}, line {reader.line_num}: {error}") from error
        except UnicodeDecodeError as error:
            raise ValueError(f"cannot read {self.path}: it is not UTF-8 text") from error
        drop_partial_line(self.path)


def _line(values: Any) -> str:
    target = io.StringIO()
    csv.writer(target, lineterminator="\n").writerow(values)
    return target.getvalue()


def _cell(value: Any) -> str:
    """Floats with every digit: what is read back is what was written."""
    return repr(value) if isinstance(value, float) else str(value)


def _outcome(row: list[str], where: str) -> Outcome:
    if len(row) != len(COLUMNS):
        raise ValueError(f"{where}: {len(row)} cells; the header has {len(COLUMNS)} columns")
    return Outcome(
        **{name: _value(name, text, where) for name, text in zip(COLUMNS, row, strict=True)}
    )


def _value(name: str, text: str, where: str) -> Any:
    kind = _TYPES[name]
    try:
        value = kind(text)
    except ValueError as error:
        raise ValueError(f"{where}: {name} is {shown(text)}; allowed: {_ALLOWED[kind]}") from error
    if kind is not str and not math.isfinite(value):
        raise ValueError(f"{where}: {name} is {shown(text)}; allowed: {_ALLOWED[kind]}")
    return value
