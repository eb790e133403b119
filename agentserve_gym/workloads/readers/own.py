"""``agentserve/1``: our own format, one program per line, lossless.

Each line is a JSON object with the fields of `Program`: ``{"schema": "agentserve/1", "program_id",
"agent_class", "source", "labels", "arrival_s", "prefix": [[key, tokens], ..], "turns": [..]}``, and
``model`` where the program names one; a turn has the fields of `Turn`, with ``tools`` and
``children`` left out where empty, and the last turn's gap left out. Numbers are written so that
they read back exactly.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from agentserve_gym.files import open_packed
from agentserve_gym.workloads.program import (
    GapKind,
    PrefixSegment,
    Program,
    ToolCall,
    Turn,
)
from agentserve_gym.workloads.readers.lines import (
    Record,
    TraceError,
    distinct_records,
    read_records,
)
from agentserve_gym.workloads.validation import validate_program

SCHEMA = "agentserve/1"


def read(path: Path) -> Iterator[Program]:
    """Programs of an ``agentserve/1`` file, in file order, each checked by `validate_program`."""
    return distinct_records((record, _checked(record)) for record in read_records(path))


def _checked(record: Record) -> Program:
    if record.text("schema") != SCHEMA:
        raise record.error("schema", repr(SCHEMA))
    program = _program(record)
    try:
        validate_program(program)
    except ValueError as error:
        raise TraceError(f"{record.where}: {error}") from error
    return program


def _program(record: Record) -> Program:
    labels = record.values.get("labels", [])
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise record.error("labels", "a list of strings")
    return Program(
        program_id=record.text("program_id"),
        agent_class=record.text("agent_class"),
        turns=tuple(_turn(row) for row in record.filled_records("turns")),
        prefix=tuple(_segment(record, item) for item in _prefix(record)),
        arrival_s=record.optional_number("arrival_s"),
        source=record.text("source") if record.has("source") else "",
        labels=tuple(labels),
        model=record.text("model") if record.has("model") else None,
    )


def _prefix(record: Record) -> list[Any]:
    prefix = record.values.get("prefix", [])
    if not isinstance(prefix, list):
        raise record.error("prefix", "a list of [key, tokens] pairs")
    return prefix


def _segment(record: Record, item: Any) -> PrefixSegment:
    match item:
        case [str(key), int(tokens)]:
            return PrefixSegment(key, tokens)
    raise record.error("prefix", "a list of [key, tokens] pairs")


def _turn(row: Record) -> Turn:
    return Turn(
        input_tokens=row.integer("input_tokens", low=1),
        new_input_tokens=row.integer("new_input_tokens"),
        output_tokens=row.integer("output_tokens", low=1),
        reuse_tokens=row.integer("reuse_tokens"),
        gap_s=row.optional_number("gap_s") or 0.0,
        gap_kind=_gap_kind(row),
        tools=tuple(_tool(tool) for tool in row.optional_records("tools")),
        children=tuple(_program(child) for child in row.optional_records("children")),
    )


def _gap_kind(row: Record) -> GapKind:
    match row.values.get("gap_kind", "end"):
        case "tool":
            return "tool"
        case "user":
            return "user"
        case "end":
            return "end"
    raise row.error("gap_kind", "tool, user, end")


def _tool(row: Record) -> ToolCall:
    return ToolCall(
        kind=row.text("kind"),
        duration_s=row.number("duration_s"),
        result_tokens=row.integer("result_tokens"),
        failures=row.integer("failures") if row.has("failures") else 0,
    )


def write_programs(programs: Iterable[Program], path: str | Path) -> None:
    """Write programs as ``agentserve/1`` JSON lines, compressed if the name ends in ``.gz``.

    The file appears whole or not at all, and its bytes depend on the programs only.

    Raises:
        ValueError: for a program that `validate_program` refuses; no file is changed then.
        OSError: naming ``path``, which cannot be written.
    """
    with open_packed(Path(path)) as stream:
        _write_lines(programs, stream)


def _write_lines(programs: Iterable[Program], stream: Any) -> None:
    for program in programs:
        validate_program(program)
        line = json.dumps({"schema": SCHEMA} | _as_table(program), separators=(",", ":"))
        stream.write(line.encode("utf-8") + b"\n")


def _as_table(program: Program) -> dict[str, Any]:
    table: dict[str, Any] = {
        "program_id": program.program_id,
        "agent_class": program.agent_class,
        "source": program.source,
        "labels": list(program.labels),
        "arrival_s": program.arrival_s,
        "prefix": [[segment.key, segment.tokens] for segment in program.prefix],
        "turns": [_turn_table(turn) for turn in program.turns],
    }
    if program.model is not None:
        table["model"] = program.model
    return table


def _turn_table(turn: Turn) -> dict[str, Any]:
    table: dict[str, Any] = {
        "input_tokens": turn.input_tokens,
        "new_input_tokens": turn.new_input_tokens,
        "output_tokens": turn.output_tokens,
        "reuse_tokens": turn.reuse_tokens,
    }
    if turn.gap_kind != "end":
        table |= {"gap_s": turn.gap_s, "gap_kind": turn.gap_kind}
    if turn.tools:
        table["tools"] = [
            {
                "kind": tool.kind,
                "duration_s": tool.duration_s,
                "result_tokens": tool.result_tokens,
                "failures": tool.failures,
            }
            for tool in turn.tools
        ]
    if turn.children:
        table["children"] = [_as_table(child) for child in turn.children]
    return table
