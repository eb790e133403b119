"""Traces of single requests with block ids: what several readers share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from agentserve_gym.workloads.prefixes import PrefixTree, common_length
from agentserve_gym.workloads.program import Program
from agentserve_gym.workloads.readers.steps import Step, chain_turns


class Request(NamedTuple):
    """One request: ``blocks`` are ids of full blocks; ``gap_s`` is the wait after it."""

    arrival_s: float | None
    input_tokens: int
    output_tokens: int
    blocks: tuple[int, ...] | None
    gap_s: float = 0.0


def full_blocks(blocks: Sequence[int], input_tokens: int, block_tokens: int) -> tuple[int, ...]:
    """Only blocks that the prompt fills: engines share no partial block."""
    return tuple(blocks[: input_tokens // block_tokens])


def programs_from_sessions(
    sessions: Sequence[tuple[str, Sequence[Request]]],
    block_tokens: int,
    agent_class: str,
    source: str,
) -> list[Program]:
    """One program per session, one turn per request.

    Shared prefixes are the runs of blocks that the first requests of two or more sessions have in
    common. Reuse between turns is the common start of their block ids where both have them (whole
    blocks, so the previous output is not part of it), else the previous input and output.
    """
    tree = PrefixTree(block_tokens, source)
    for _, requests in sessions:
        tree.insert(requests[0].blocks or ())
    return [
        Program(
            program_id=name,
            agent_class=agent_class,
            turns=chain_turns(_steps(requests, block_tokens)),
            prefix=tree.segments(requests[0].blocks or ()),
            arrival_s=requests[0].arrival_s,
            source=source,
        )
        for name, requests in sessions
    ]


def _steps(requests: Sequence[Request], block_tokens: int) -> list[Step]:
    steps: list[Step] = []
    previous: tuple[int, ...] | None = None
    for index, request in enumerate(requests):
        reuse: int | None = 0 if index == 0 else None
        if previous is not None and request.blocks is not None:
            reuse = common_length(previous, request.blocks) * block_tokens
        steps.append(
            Step(
                request.input_tokens,
                request.output_tokens,
                gap_s=request.gap_s,
                reuse_tokens=reuse,
            )
        )
        previous = request.blocks
    return steps
