"""Which format a workload file has, from its first record."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from agentserve_gym.messages import unknown
from agentserve_gym.workloads.program import Program
from agentserve_gym.workloads.readers import (
    agentprog,
    azure,
    block_requests,
    block_runs,
    mooncake,
    own,
    sessions,
)
from agentserve_gym.workloads.readers.lines import TraceError, parse_record, read_lines

READERS: Mapping[str, Callable[[Path], Iterator[Program]]] = {
    "agentserve": own.read,
    "agentprog": agentprog.read,
    "sessions": sessions.read,
    "mooncake": mooncake.read,
    "azure": azure.read,
    "block_requests": block_requests.read,
    "block_runs": block_runs.read,
}

_SCHEMAS = {own.SCHEMA: "agentserve", "agentprog/1": "agentprog"}
# Keys that only one format has, in the order in which they are looked for.
_TELLING_KEYS = {
    "sub_requests": "sessions",
    "hash_ids": "mooncake",
    "block_ids": "block_requests",
    "block_size": "block_runs",
    "input_toks": "sessions",
    "input_length": "mooncake",
    "arrival_s": "block_requests",
    "timestamp": "mooncake",
}


def read_programs(path: str | Path, format: str = "auto") -> list[Program]:  # noqa: A002
    """Read a workload file into programs, in file order.

    Args:
        path: plain or gzip file.
        format: ``auto`` (told from the first record) or one of `READERS`.

    Raises:
        TraceError: (a ValueError) naming the file and line: a missing, empty or truncated file,
            wrong gzip, a line that is not JSON, a missing or bad key, an unknown format, two
            programs with the same id.
    """
    path = Path(path)
    if format != "auto" and format not in READERS:
        raise TraceError(unknown("format", format, ["auto", *READERS]))
    name = detect_format(path) if format == "auto" else format
    return list(READERS[name](path))


def detect_format(path: Path) -> str:
    """The name of the file's format, a key of `READERS`."""
    number, text = next(read_lines(path))
    if text.startswith("{"):
        return _json_format(path, number, text)
    if "TIMESTAMP" in text.split(","):
        return "azure"
    parse_record(path, number, text)
    raise AssertionError("a record that is not an object is refused above")


def _json_format(path: Path, number: int, text: str) -> str:
    values: Mapping[str, Any] = parse_record(path, number, text).values
    schema = values.get("schema")
    if schema is not None:
        if isinstance(schema, str) and schema in _SCHEMAS:
            return _SCHEMAS[schema]
        raise TraceError(f"{path}, line {number}: {unknown('schema', schema, _SCHEMAS)}")
    for key, name in _TELLING_KEYS.items():
        if key in values:
            return name
    keys = ", ".join(sorted(values)) or "none"
    raise TraceError(
        f"{path}, line {number}: unknown format (keys here: {keys}); allowed: {', '.join(READERS)}"
    )
