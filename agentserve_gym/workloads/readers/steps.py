"""From what a trace says about each call to valid turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agentserve_gym.workloads.program import GapKind, Program, ToolCall, Turn


@dataclass(frozen=True, slots=True)
class Step:
    """One call as a trace gives it; ``None`` where the trace is silent."""

    input_tokens: int
    output_tokens: int
    gap_s: float = 0.0
    gap_kind: GapKind = "tool"
    reuse_tokens: int | None = None
    new_input_tokens: int | None = None
    tools: tuple[ToolCall, ...] = ()
    children: tuple[Program, ...] = ()


def chain_turns(steps: Sequence[Step]) -> tuple[Turn, ...]:
    """Turns of one program.

    Empty prompts and outputs count as one token. A measured reuse is used literally, cut to what
    can be reused (the previous chain, and all but one token of the prompt); otherwise the previous
    input and output are reused up to what is known to be new, at least one token. The last turn has
    no gap, so no tools.
    """
    turns: list[Turn] = []
    chain = 0
    for index, step in enumerate(steps):
        input_tokens, output_tokens = max(1, step.input_tokens), max(1, step.output_tokens)
        reuse = _reuse(step, input_tokens, chain)
        new = input_tokens - reuse
        if step.new_input_tokens is not None:
            new = min(new, step.new_input_tokens)
        if index + 1 < len(steps):
            turn = Turn(
                input_tokens,
                new,
                output_tokens,
                reuse,
                step.gap_s,
                step.gap_kind,
                step.tools,
                step.children,
            )
        else:
            turn = Turn(input_tokens, new, output_tokens, reuse)
        turns.append(turn)
        chain = input_tokens + output_tokens
    return tuple(turns)


def _reuse(step: Step, input_tokens: int, chain: int) -> int:
    if step.reuse_tokens is not None:
        return min(step.reuse_tokens, chain, input_tokens - 1)
    new = max(1, step.new_input_tokens or 1)
    return min(chain, max(0, input_tokens - new))
