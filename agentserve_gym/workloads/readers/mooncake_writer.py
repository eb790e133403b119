"""Writing programs as a Mooncake trace with sessions, which other simulators replay.

One row per turn: ``session_id``, ``input_length``, ``output_length``, ``hash_ids``, and
``timestamp`` (ms) on a program's first row or ``delay`` (ms after the previous answer) on later
ones. A hash id stands for a full block of 512 tokens and all before it, so two prompts share ids as
far as they share tokens: a turn with its program's previous prompt up to its reuse, programs with
equal prefixes up to the end of what they share. A last block that is not full has an id of its own.

The form knows neither tools nor sub-agents nor what kind a gap is, and it holds reuse in whole
blocks of previous prompts; `agentserve_gym.workloads.readers.mooncake` reads back the rest.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import count
from pathlib import Path
from typing import Any

from agentserve_gym.files import open_packed
from agentserve_gym.workloads.program import Program
from agentserve_gym.workloads.readers.mooncake import BLOCK_TOKENS
from agentserve_gym.workloads.validation import validate_program


def write_mooncake(programs: Iterable[Program], path: str | Path) -> None:
    """Write programs as JSON lines, compressed if the name ends in ``.gz``, whole or not at all.

    Raises:
        ValueError: for a program that `validate_program` refuses, that has no ``arrival_s``, has
            sub-agents, or the id of an earlier one; no file is changed then.
        OSError: naming ``path``, which cannot be written.
    """
    ids = _BlockIds()
    names: set[str] = set()
    with open_packed(Path(path)) as stream:
        for program in programs:
            validate_program(program)
            _require_expressible(program)
            if program.program_id in names:
                raise ValueError(
                    f"program_id {program.program_id!r} occurs twice; sessions need different ids"
                )
            names.add(program.program_id)
            for row in _rows(program, ids):
                stream.write(json.dumps(row, separators=(",", ":")).encode("utf-8") + b"\n")


class _BlockIds:
    """Numbers for blocks: fresh ones, and equal ones for equal places in a shared prefix."""

    def __init__(self) -> None:
        self._numbers = count()
        self._shared: dict[tuple[str, ...], list[int]] = {}

    def fresh(self, number: int) -> list[int]:
        return [next(self._numbers) for _ in range(number)]

    def prefix(self, program: Program) -> list[int]:
        """Ids of the full blocks of a program's shared prefix."""
        ids: list[int] = []
        tokens = 0
        levels: tuple[str, ...] = ()
        for segment in program.prefix:
            levels = (*levels, segment.key)
            tokens += segment.tokens
            # A block that two levels share belongs to the later one.
            missing = tokens // BLOCK_TOKENS - len(ids)
            known = self._shared.setdefault(levels, [])
            known += self.fresh(missing - len(known))
            ids += known[: max(0, missing)]
        return ids


def _require_expressible(program: Program) -> None:
    where = f"program {program.program_id!r}"
    if program.arrival_s is None:
        raise ValueError(f"{where}: arrival_s is None; a Mooncake trace needs an arrival time")
    for index, turn in enumerate(program.turns):
        if turn.children:
            raise ValueError(
                f"{where}, turn {index}: children has {len(turn.children)} entries; a Mooncake "
                "trace cannot hold sub-agents"
            )


def _rows(program: Program, ids: _BlockIds) -> Iterable[dict[str, Any]]:
    known = ids.prefix(program)
    waited_s: float | None = None
    for turn in program.turns:
        if waited_s is not None:
            known = known[: turn.reuse_tokens // BLOCK_TOKENS]
        full, rest = divmod(turn.input_tokens, BLOCK_TOKENS)
        known = known + ids.fresh(full - len(known))
        row: dict[str, Any] = {"session_id": program.program_id}
        if waited_s is None:
            row["timestamp"] = _milliseconds(program.arrival_s or 0.0)
        else:
            row["delay"] = _milliseconds(waited_s)
        row |= {
            "input_length": turn.input_tokens,
            "output_length": turn.output_tokens,
            "hash_ids": known + ids.fresh(bool(rest)),
        }
        yield row
        waited_s = turn.gap_s


def _milliseconds(seconds: float) -> float:
    """To a nanosecond, so that binary fractions do not fill the file."""
    return round(seconds * 1000, 6)
