"""Reading lines and JSON records with errors that name the file and the line."""

from __future__ import annotations

import gzip
import json
import math
import shutil
import sys
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agentserve_gym.datasets import data_folder
from agentserve_gym.files import is_pipe
from agentserve_gym.messages import shown
from agentserve_gym.workloads.program import Program
from agentserve_gym.workloads.validation import distinct

_GZIP_MAGIC = b"\x1f\x8b"
_BYTE_ORDER_MARK = "\ufeff"
_LARGEST_INTEGER = 2**53  # beyond, a float is not exact


class TraceError(ValueError):
    """A trace file that cannot be read; the message names the file and, where known, the line."""


@contextmanager
def rereadable(path: Path) -> Iterator[Path]:
    """A file that can be read again: ``path``, or a copy of what a pipe or device gives only once.

    ``-`` is standard input. Messages of `TraceError` raised within name ``path``.
    """
    standard_input = str(path) == "-"
    if not standard_input and not is_pipe(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "workload"
        try:
            with copy.open("wb") as target:
                if standard_input:
                    shutil.copyfileobj(sys.stdin.buffer, target)
                else:
                    with path.open("rb") as source:
                        shutil.copyfileobj(source, target)
            yield copy
        except TraceError as error:
            raise TraceError(str(error).replace(str(copy), str(path))) from error


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Non-empty lines of a plain or gzip text file, with their numbers from 1.

    Compression is told from the content, not from the name.

    Raises:
        TraceError: if the file is missing, empty, truncated, not valid gzip or not UTF-8 text.
    """
    try:
        with path.open("rb") as raw:
            head = raw.read(2)
    except OSError as error:
        hint = " (agentserve data says where to get it)" if data_folder() in path.parents else ""
        raise TraceError(f"{path}: cannot be opened: {error.strerror or error}{hint}") from error
    if not head:
        raise TraceError(f"{path}: the file is empty")
    if head != _GZIP_MAGIC and path.suffix == ".gz":
        raise TraceError(
            f"{path}: not a gzip file although its name ends in .gz (it starts with {head!r}); "
            "rename it or compress it"
        )
    number = 0
    empty = True
    try:
        with gzip.open(path, "rb") if head == _GZIP_MAGIC else path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                text = line.decode("utf-8").strip()
                if number == 1:
                    text = text.removeprefix(_BYTE_ORDER_MARK).strip()
                if text:
                    empty = False
                    yield number, text
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise TraceError(
            f"{path}: damaged or truncated gzip after line {number}: {error}"
        ) from error
    except UnicodeDecodeError as error:
        raise TraceError(f"{path}, line {number}: not UTF-8 text: {error.reason}") from error
    if empty:
        raise TraceError(f"{path}: the file holds no records")


class Record:
    """One JSON object (or a part of one) with typed access to its keys."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self.values = values
        self.where = where

    def has(self, key: str) -> bool:
        return self.values.get(key) is not None

    def error(self, key: str, allowed: str) -> TraceError:
        if key not in self.values:
            keys = ", ".join(sorted(self.values)) or "none"
            return TraceError(f"{self.where}: key {key!r} is missing (keys here: {keys})")
        return TraceError(f"{self.where}: {key} is {shown(self.values[key])}; allowed: {allowed}")

    def integer(self, key: str, low: int = 0) -> int:
        value = self.values.get(key)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if (
            not isinstance(value, int)
            or isinstance(value, bool)
            or not low <= value <= _LARGEST_INTEGER
        ):
            raise self.error(key, f"an integer of at least {low}")
        return value

    def number(self, key: str) -> float:
        value = self.values.get(key)
        if (
            not isinstance(value, (int, float))
            or isinstance(value, bool)
            or not 0 <= value < math.inf
        ):
            raise self.error(key, "a finite number of at least 0")
        return float(value)

    def optional_number(self, key: str) -> float | None:
        """The number, or ``None`` where the key is missing or null."""
        return self.number(key) if self.has(key) else None

    def first_of(self, *keys: str) -> str:
        """The first of ``keys`` that is present; if none is, the first, for the message."""
        values = self.values
        for key in keys:
            if values.get(key) is not None:
                return key
        return keys[0]

    def text(self, key: str) -> str:
        value = self.values.get(key)
        if not isinstance(value, str):
            raise self.error(key, "a string")
        return value

    def integers(self, key: str) -> list[int]:
        value = self.values.get(key)
        if not isinstance(value, list) or not all(isinstance(item, int) for item in value):
            raise self.error(key, "a list of integers")
        return value

    def records(self, key: str) -> list[Record]:
        """The list of objects at ``key``."""
        value = self.values.get(key)
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self.error(key, "a list of objects")
        return [Record(item, f"{self.where}, {key}[{i}]") for i, item in enumerate(value)]

    def filled_records(self, key: str) -> list[Record]:
        """The list of objects at ``key``, which must not be empty."""
        found = self.records(key)
        if not found:
            raise self.error(key, "at least 1 entry")
        return found

    def record(self, key: str) -> Record:
        """The object at ``key``."""
        value = self.values.get(key)
        if not isinstance(value, dict):
            raise self.error(key, "an object")
        return Record(value, f"{self.where}, {key}")

    def optional_records(self, key: str) -> list[Record]:
        """The list of objects at ``key``; empty where it is missing or null."""
        return self.records(key) if self.has(key) else []


def read_records(path: Path) -> Iterator[Record]:
    """The JSON objects of a JSON-lines file, or the one of an indented JSON file.

    Raises:
        TraceError: as `read_lines`, and for a line that is not a JSON object.
    """
    for number, text in read_lines(path):
        if text == "{":  # nobody's first line but that of an object which goes on below
            yield _indented_record(path)
            return
        yield parse_record(path, number, text)


def _indented_record(path: Path) -> Record:
    lines = list(read_lines(path))
    try:
        return Record(json.loads("\n".join(text for _, text in lines)), f"{path}")
    except json.JSONDecodeError as error:
        number, _ = lines[min(error.lineno, len(lines)) - 1]
        raise TraceError(f"{path}, line {number}: not valid JSON: {error.msg}") from error


def distinct_records(placed: Iterable[tuple[Record, Program]]) -> Iterator[Program]:
    """Programs of a file with one a line; a TraceError names both lines of an id that is twice."""
    try:
        yield from distinct((record.where, program) for record, program in placed)
    except TraceError:
        raise
    except ValueError as error:
        raise TraceError(str(error)) from error


def parse_record(path: Path, number: int, text: str) -> Record:
    where = f"{path}, line {number}"
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise TraceError(
            f"{where}: not valid JSON: {error.msg} at column {error.colno} (of {len(text)})"
        ) from error
    except (ValueError, RecursionError) as error:  # too many digits, or nested too deeply
        raise TraceError(f"{where}: not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise TraceError(f"{where}: a JSON object is needed, not {type(value).__name__}")
    return Record(value, where)
