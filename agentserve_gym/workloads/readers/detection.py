"""Which format a workload file has, from its first record."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from agentserve_gym.messages import unknown
from agentserve_gym.workloads.program import Program
from agentserve_gym.workloads.readers import (
    agentprog,
    azure,
    block_requests,
    block_runs,
    conversations,
    mooncake,
    own,
    sessions,
    tau2,
)
from agentserve_gym.workloads.readers.lines import (
    Record,
    TraceError,
    parse_record,
    read_lines,
    read_records,
    rereadable,
)

READERS: Mapping[str, Callable[[Path], Iterator[Program]]] = {
    "agentserve": own.read,
    "agentprog": agentprog.read,
    "sessions": sessions.read,
    "mooncake": mooncake.read,
    "azure": azure.read,
    "block_requests": block_requests.read,
    "block_runs": block_runs.read,
    "conversations": conversations.read,
    "tau2": tau2.read,
}

_SCHEMAS = {own.SCHEMA: "agentserve", "agentprog/1": "agentprog"}
# Keys that only one format has, in the order in which they are looked for.
_TELLING_KEYS = {
    "simulations": "tau2",
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
        path: plain or gzip file, or a folder of such (see `trace_files`); a pipe, or ``-`` for
            standard input, is read once.
        format: ``auto`` (told from the first record) or one of `READERS`.

    Raises:
        TraceError: (a ValueError) naming the file and line: a missing, empty or truncated file,
            wrong gzip, a line that is not JSON, a missing or bad key, an unknown format, two
            programs with the same id.
    """
    path = Path(path)
    if format != "auto" and format not in READERS:
        raise TraceError(unknown("format", format, ["auto", *READERS]))
    with rereadable(path) as source:
        name = detect_format(source) if format == "auto" else format
        return [program for file in trace_files(source) for program in READERS[name](file)]


def trace_files(path: Path) -> list[Path]:
    """The file itself, or the JSON files of a folder, by name (``.json``, ``.jsonl``, ``.gz``).

    Raises:
        TraceError: the folder has none.
    """
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.iterdir() if _is_json_file(file))
    if not files:
        raise TraceError(f"{path}: the folder has no .json or .jsonl files")
    return files


def _is_json_file(path: Path) -> bool:
    name = path.name.removesuffix(".gz")
    return name.endswith((".json", ".jsonl")) and not name.startswith(".") and path.is_file()


def detect_format(path: Path) -> str:
    """The name of the file's format, a key of `READERS`; of a folder, that of its first file.

    Of a pipe, see `rereadable` first.
    """
    path = trace_files(path)[0]
    number, text = next(read_lines(path))
    if text.startswith("{"):
        return _json_format(next(read_records(path)))
    if "TIMESTAMP" in text.split(","):
        return "azure"
    if conversations.is_header(text):
        return "conversations"
    parse_record(path, number, text)
    raise AssertionError("a record that is not an object is refused above")


def _json_format(record: Record) -> str:
    values = record.values
    schema = values.get("schema")
    if schema is not None:
        if isinstance(schema, str) and schema in _SCHEMAS:
            return _SCHEMAS[schema]
        raise TraceError(f"{record.where}: {unknown('schema', schema, _SCHEMAS)}")
    for key, name in _TELLING_KEYS.items():
        if key in values:
            return name
    keys = ", ".join(sorted(values)) or "none"
    raise TraceError(
        f"{record.where}: unknown format (keys here: {keys}); allowed: {', '.join(READERS)}"
    )
