"""AgentServeSim and LLMServingSim session files (JSON lines).

A line with ``sub_requests`` is a session, one program; any other line is a single request, a
program of one turn; a file may mix them.

- Session: ``arrival_time_ns`` of its first call, ``sub_requests`` (at least one), and optionally
  ``session_id`` (also ``id``, ``program_id``).
- Call or single request: ``input_toks`` (the whole prompt) and ``output_toks``; in a session also
  ``tool_duration_ns``, the wait after the call (0 where missing; the last one is ignored).
- Accepted names besides: ``input_tokens``, ``output_tokens``; ``arrival_time_s``, ``arrival_s``
  instead of nanoseconds; ``tool_duration_s``, ``tool_duration_ms``.
- ``input_tok_ids`` and ``output_tok_ids`` (optional) give exact sharing: reuse is the common start
  of a prompt with the previous prompt and output, and shared prefixes come from a radix tree over
  blocks of 16 tokens. Without them the previous input and output count as reused, up to all but one
  token of the prompt, and nothing is shared between programs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agentserve_gym.workloads.prefixes import PrefixTree, common_length
from agentserve_gym.workloads.program import Program, ToolCall
from agentserve_gym.workloads.readers.lines import Record, distinct_records, read_records
from agentserve_gym.workloads.readers.steps import Step, chain_turns

BLOCK_TOKENS = 16


@dataclass(frozen=True)
class _Session:
    name: str
    arrival_s: float
    steps: tuple[Step, ...]
    blocks: tuple[int, ...]  # of the first prompt


class _BlockNames:
    """Numbers for chained blocks of token ids: equal number, equal prompt up to that block."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[int, tuple[int, ...]], int] = {}

    def blocks(self, tokens: list[int]) -> tuple[int, ...]:
        found: list[int] = []
        parent = -1
        for start in range(0, len(tokens) - BLOCK_TOKENS + 1, BLOCK_TOKENS):
            key = (parent, tuple(tokens[start : start + BLOCK_TOKENS]))
            parent = self._numbers.setdefault(key, len(self._numbers))
            found.append(parent)
        return tuple(found)


def read(path: Path) -> Iterator[Program]:
    """Programs of a session file, in file order."""
    names = _BlockNames()
    tree = PrefixTree(BLOCK_TOKENS, "sessions")
    sessions: list[tuple[Record, _Session]] = []
    for number, record in enumerate(read_records(path)):
        session = _session(record, number, names)
        tree.insert(session.blocks)
        sessions.append((record, session))
    return distinct_records((record, _program(session, tree)) for record, session in sessions)


def _program(session: _Session, tree: PrefixTree) -> Program:
    return Program(
        program_id=session.name,
        agent_class="session",
        turns=chain_turns(session.steps),
        prefix=tree.segments(session.blocks),
        arrival_s=session.arrival_s,
        source="sessions",
    )


def _session(record: Record, number: int, names: _BlockNames) -> _Session:
    key = record.first_of("session_id", "id", "program_id")
    calls = record.filled_records("sub_requests") if record.has("sub_requests") else [record]
    first = _ids(calls[0], "input_tok_ids", _input_tokens(calls[0]))
    return _Session(
        name=f"{record.values[key]}" if record.has(key) else f"session-{number}",
        arrival_s=_seconds(record, "arrival_time"),
        steps=tuple(_steps(calls)),
        blocks=names.blocks(first or []),
    )


def _steps(calls: list[Record]) -> Iterator[Step]:
    chain: list[int] | None = None  # token ids of the previous prompt and output
    for index, call in enumerate(calls):
        input_tokens = _input_tokens(call)
        output_tokens = call.integer(call.first_of("output_toks", "output_tokens"))
        prompt = _ids(call, "input_tok_ids", input_tokens)
        reuse: int | None = 0 if index == 0 else None
        if chain is not None and prompt is not None:
            reuse = common_length(chain, prompt)
        wait_s = 0.0
        if any(call.has(f"tool_duration_{unit}") for unit in ("ns", "ms", "s")):
            wait_s = _seconds(call, "tool_duration")
        yield Step(
            input_tokens,
            output_tokens,
            gap_s=wait_s,
            reuse_tokens=reuse,
            tools=(ToolCall("tool", wait_s),),
        )
        output = _ids(call, "output_tok_ids", output_tokens)
        chain = None if prompt is None else prompt + (output or [])


def _input_tokens(call: Record) -> int:
    return call.integer(call.first_of("input_toks", "input_tokens"), low=1)


def _ids(call: Record, key: str, tokens: int) -> list[int] | None:
    if not call.has(key):
        return None
    ids = call.integers(key)
    if len(ids) != tokens:
        raise call.error(key, f"as many ids as tokens ({tokens}, not {len(ids)})")
    return ids


def _seconds(record: Record, name: str) -> float:
    short = name.removesuffix("_time")
    key = record.first_of(f"{name}_ns", f"{name}_ms", f"{name}_s", f"{short}_s")
    scale = 1e9 if key.endswith("_ns") else 1e3 if key.endswith("_ms") else 1.0
    return record.number(key) / scale
