"""Conversations of a closed-loop benchmark: CSV with one row per request, in the queue's order.

Columns ``conversation``, ``turn`` (from 0), ``prompt_tokens`` and ``output_tokens``; optionally
``think_time_s``, the wait after the request. A prompt contains the prompt and answer before it.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from agentserve_gym.workloads.program import Program
from agentserve_gym.workloads.readers.lines import Record, TraceError, read_lines
from agentserve_gym.workloads.readers.steps import Step, chain_turns

COLUMNS = ("conversation", "turn", "prompt_tokens", "output_tokens")
THINK_TIME = "think_time_s"


def is_header(line: str) -> bool:
    """Whether a file that starts with this line is of this format."""
    return set(COLUMNS) <= {name.strip() for name in line.split(",")}


def read(path: Path) -> Iterator[Program]:
    """One program per conversation, in the order of their first rows."""
    conversations: dict[str, list[Record]] = {}
    for record in _rows(path):
        conversations.setdefault(record.text("conversation"), []).append(record)
    for name, records in conversations.items():
        for number, record in enumerate(records):
            if record.integer("turn") != number:
                raise record.error("turn", f"{number}, the next turn of conversation {name}")
        yield Program(
            program_id=f"conversation-{name}",
            agent_class="chat",
            turns=chain_turns([_step(record) for record in records]),
            source="conversations",
        )


def _step(record: Record) -> Step:
    return Step(
        record.integer("prompt_tokens"),
        record.integer("output_tokens"),
        gap_s=record.optional_number(THINK_TIME) or 0.0,
        gap_kind="user",
    )


def _rows(path: Path) -> Iterator[Record]:
    lines = read_lines(path)
    header_number, header = next(lines)
    names = [name.strip() for name in next(csv.reader([header]))]
    for column in COLUMNS:
        if column not in names:
            raise TraceError(
                f"{path}, line {header_number}: column {column!r} is missing; the header must name "
                f"{', '.join(COLUMNS)}"
            )
    for number, line in lines:
        where = f"{path}, line {number}"
        cells = next(csv.reader([line]))
        if len(cells) != len(names):
            raise TraceError(f"{where}: {len(cells)} cells; the header has {len(names)} columns")
        yield Record(
            {
                name: cell.strip() if name == "conversation" else _number(cell)
                for name, cell in zip(names, cells, strict=True)
            },
            where,
        )


def _number(cell: str) -> int | float | str:
    """The number in a cell, or its text, which is then refused with the column named."""
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            continue
    return cell
