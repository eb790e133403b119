"""What a program must be: checks of values that come from a file or from a user's own code."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from agentserve_gym.workloads.program import Program, Turn

# A wrong digit in a file must not fill the memory or keep a run busy for days.
MOST_TOKENS = 10**9
"""Of a prompt or an output."""
MOST_FAILURES = 1000
"""Failed attempts of a tool call."""


def validate_program(program: Program) -> None:
    """Check the invariants of a program and of its sub-agents.

    Raises:
        ValueError: naming the program, the turn (from 0), the field, its value and what is allowed.
    """
    where = f"program {program.program_id!r}"
    if not program.turns:
        raise ValueError(f"{where}: turns is empty; at least 1 turn is needed")
    if program.arrival_s is not None:
        _require_time(where, "arrival_s", program.arrival_s)
    for segment in program.prefix:
        _require_count(where, f"prefix {segment.key!r} tokens", segment.tokens, low=1)
    chain_tokens = 0
    last = len(program.turns) - 1
    for index, turn in enumerate(program.turns):
        _validate_turn(f"{where}, turn {index}", turn, chain_tokens, is_last=index == last)
        chain_tokens = turn.input_tokens + turn.output_tokens
    first = program.turns[0]
    if program.shared_prefix_tokens > first.input_tokens:
        raise ValueError(
            f"{where}: prefix has {program.shared_prefix_tokens} tokens; at most the first turn's "
            f"input_tokens ({first.input_tokens}) are allowed"
        )


def distinct(placed: Iterable[tuple[str, Program]]) -> Iterator[Program]:
    """Hand programs on, each with the place where it is written.

    Raises:
        ValueError: naming both places of two programs, sub-agents among them, with one id.
    """
    places: dict[str, str] = {}
    for where, program in placed:
        for name in _ids(program):
            if name in places:
                raise ValueError(
                    f"{where}: program_id is {name!r}, as in {places[name]}; allowed: an id of its "
                    "own for every program"
                )
            places[name] = where
        yield program


def _ids(program: Program) -> Iterator[str]:
    yield program.program_id
    for turn in program.turns:
        for child in turn.children:
            yield from _ids(child)


def _validate_turn(where: str, turn: Turn, chain_tokens: int, *, is_last: bool) -> None:
    _require_count(where, "input_tokens", turn.input_tokens, low=1, high=MOST_TOKENS)
    _require_count(where, "output_tokens", turn.output_tokens, low=1, high=MOST_TOKENS)
    _require_count(
        where,
        "reuse_tokens",
        turn.reuse_tokens,
        low=0,
        high=min(turn.input_tokens - 1, chain_tokens),
    )
    _require_count(
        where,
        "new_input_tokens",
        turn.new_input_tokens,
        low=0,
        high=turn.input_tokens - turn.reuse_tokens,
    )
    _require_time(where, "gap_s", turn.gap_s)
    if turn.gap_kind not in ("tool", "user", "end"):
        raise ValueError(f"{where}: gap_kind is {turn.gap_kind!r}; allowed: tool, user, end")
    if is_last != (turn.gap_kind == "end"):
        allowed = "end" if is_last else "tool or user"
        raise ValueError(f"{where}: gap_kind is {turn.gap_kind!r}; allowed here: {allowed}")
    if is_last and turn.gap_s != 0:
        raise ValueError(f"{where}: gap_s is {turn.gap_s}; the last turn has no gap, so 0")
    for name, entries in (("tools", turn.tools), ("children", turn.children)):
        if is_last and entries:
            raise ValueError(
                f"{where}: {name} has {len(entries)} entries; none are allowed on the last turn, "
                f"because no turn follows that could wait for them"
            )
    for tool in turn.tools:
        _require_time(where, f"tool {tool.kind!r} duration_s", tool.duration_s)
        _require_count(where, f"tool {tool.kind!r} result_tokens", tool.result_tokens, low=0)
        _require_count(
            where, f"tool {tool.kind!r} failures", tool.failures, low=0, high=MOST_FAILURES
        )
    for child in turn.children:
        validate_program(child)


def _require_count(where: str, name: str, value: int, *, low: int, high: int | None = None) -> None:
    if isinstance(value, int) and value >= low and (high is None or value <= high):
        return
    allowed = f"an integer of at least {low}" if high is None else f"an integer in [{low}, {high}]"
    raise ValueError(f"{where}: {name} is {value!r}; allowed: {allowed}")


def _require_time(where: str, name: str, value: float) -> None:
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{where}: {name} is {value!r}; allowed: a finite number of at least 0")
