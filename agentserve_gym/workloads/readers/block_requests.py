"""Requests with block ids, as measured runs use them.

One JSON object per line: ``arrival_s``, ``input_tokens``, ``output_tokens`` and, optionally,
``block_ids`` (ids of full blocks of 16 tokens; an equal id means an equal prompt up to and
including the block). Every request is a program of one turn; shared prefixes come from a radix
tree over the ids.
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

BLOCK_TOKENS = 16


def read(path: Path) -> Iterator[Program]:
    """Programs of one turn each, in file order."""
    requests = [_request(record) for record in read_records(path)]
    sessions = [(f"request-{number}", [request]) for number, request in enumerate(requests)]
    yield from programs_from_sessions(sessions, BLOCK_TOKENS, "chat", source="block-requests")


def _request(record: Record) -> Request:
    input_tokens = record.integer("input_tokens", low=1)
    blocks = None
    if record.has("block_ids"):
        blocks = full_blocks(record.integers("block_ids"), input_tokens, BLOCK_TOKENS)
    return Request(
        record.number("arrival_s"), input_tokens, record.integer("output_tokens"), blocks
    )
