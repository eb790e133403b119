"""Azure LLM inference traces: CSV with ``TIMESTAMP,ContextTokens,GeneratedTokens``.

Every row is a program of one turn. Times are made relative to the earliest row. The traces hold no
sharing, so there are no prefixes.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from agentserve_gym.workloads.program import Program
from agentserve_gym.workloads.readers.lines import Record
from agentserve_gym.workloads.readers.rows import read_rows
from agentserve_gym.workloads.readers.steps import Step, chain_turns

COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")


def read(path: Path) -> Iterator[Program]:
    """Programs of one turn each, in file order."""
    rows = list(_rows(path))
    first_s = min((time_s for time_s, _ in rows), default=0.0)
    for number, (time_s, record) in enumerate(rows):
        step = Step(record.integer("ContextTokens"), record.integer("GeneratedTokens"))
        yield Program(
            program_id=f"request-{number}",
            agent_class="chat",
            turns=chain_turns([step]),
            arrival_s=round(time_s - first_s, 7),
            source="azure",
        )


def _rows(path: Path) -> Iterator[tuple[float, Record]]:
    for row in read_rows(path, COLUMNS):
        record = Record(
            {
                name: int(cell) if name != "TIMESTAMP" and cell.isdigit() else cell
                for name, cell in row.cells.items()
            },
            row.where,
        )
        yield _seconds(record), record


def _seconds(record: Record) -> float:
    """Seconds since 1970 of a time like ``2023-11-16 18:17:03.9799600``, in seven digits."""
    whole, _, fraction = record.text("TIMESTAMP").strip().partition(".")
    digits, zone = fraction[:9].partition("+")[0].rstrip("Z"), ""
    try:
        moment = datetime.fromisoformat(f"{whole.rstrip('Z')}{zone or '+00:00'}")
        return moment.timestamp() + (float(f"0.{digits}") if digits else 0.0)
    except ValueError as error:
        raise record.error("TIMESTAMP", "a time like 2023-11-16 18:17:03.9799600") from error
