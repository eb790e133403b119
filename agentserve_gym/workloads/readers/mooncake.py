"""Mooncake request traces: ``timestamp`` (ms), ``input_length``, ``output_length``, ``hash_ids``.

One JSON object per line; a hash id stands for a block of 512 tokens and all before it. Accepted
besides: ``created_time``, ``input_tokens``, ``output_tokens`` for the first three names, and no
``hash_ids``.

Rows with an equal ``session_id`` (or ``chat_id``, ``conversation_id``) are the turns of one
program, in file order. The wait before a later row is its ``delay`` (or ``delay_ms``), milliseconds
after the previous answer; without one it is the difference of the timestamps, an upper bound,
because it holds the previous answer's service time too. Rows without a session are programs of one
turn. Shared prefixes are found with a radix tree over the hash ids.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from agentserve_gym.workloads.program import Program
from agentserve_gym.workloads.readers.lines import Record, read_records
from agentserve_gym.workloads.readers.requests import (
    Request,
    full_blocks,
    programs_from_sessions,
)

BLOCK_TOKENS = 512


def read(path: Path) -> Iterator[Program]:
    """Programs of a Mooncake trace, in the order of their first rows."""
    sessions: dict[str, list[Request]] = {}
    for number, record in enumerate(read_records(path)):
        key = record.first_of("session_id", "chat_id", "conversation_id")
        name = f"session-{record.values[key]}" if record.has(key) else f"request-{number}"
        turns = sessions.setdefault(name, [])
        if turns:
            turns[-1] = turns[-1]._replace(gap_s=_wait(record, turns[-1]))
        turns.append(_request(record, is_first=not turns))
    yield from programs_from_sessions(
        list(sessions.items()), BLOCK_TOKENS, agent_class="chat", source="mooncake"
    )


def _request(record: Record, *, is_first: bool) -> Request:
    stamp = record.first_of("timestamp", "created_time")
    arrival_s = record.number(stamp) / 1000 if is_first or record.has(stamp) else None
    input_tokens = record.integer(record.first_of("input_length", "input_tokens"), low=1)
    blocks = None
    if record.has("hash_ids"):
        blocks = full_blocks(record.integers("hash_ids"), input_tokens, BLOCK_TOKENS)
    return Request(
        arrival_s=arrival_s,
        input_tokens=input_tokens,
        output_tokens=record.integer(record.first_of("output_length", "output_tokens")),
        blocks=blocks,
    )


def _wait(record: Record, previous: Request) -> float:
    delay = record.first_of("delay", "delay_ms")
    if record.has(delay):
        return record.number(delay) / 1000
    stamp = record.first_of("timestamp", "created_time")
    if not record.has(stamp) or previous.arrival_s is None:
        raise record.error("delay", "milliseconds, or a timestamp in this row and the one before")
    return max(0.0, record.number(stamp) / 1000 - previous.arrival_s)
