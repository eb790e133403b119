"""Programs: what an LLM agent asks of a serving cluster.

A *program* is one agent run: ordered *turns*, each one LLM call followed by a *tool gap* (except
the last). Its KV cache is an append-only chain of tokens: the shared prefix of its group first,
then its own part. Everything here is immutable: the simulation keeps its own mutable state, so one
program value may be replayed any number of times and shared between snapshots.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from mypy_extensions import mypyc_attr

GapKind = Literal["tool", "user", "end"]


@mypyc_attr(native_class=False)
class Frozen:
    """Base of immutable values: a snapshot shares them instead of copying them."""

    __slots__ = ()

    def __copy__(self: Any) -> Any:
        return self

    def __deepcopy__(self: Any, memo: dict[int, Any]) -> Any:
        return self


class ToolCall(NamedTuple):
    """One tool call of a tool gap; the calls of one gap run in parallel.

    ``failures`` counts the attempts that fail before the one that succeeds; each attempt takes
    ``duration_s``.
    """

    kind: str
    duration_s: float
    result_tokens: int = 0
    failures: int = 0

    def __deepcopy__(self, memo: dict[int, Any]) -> ToolCall:
        return self


@mypyc_attr(native_class=False)
@dataclass(frozen=True, slots=True)
class PrefixSegment(Frozen):
    """One level of a shared prefix: programs with equal keys hold equal tokens there."""

    key: str
    tokens: int


class Turn(NamedTuple):
    """One LLM call and the wait after it.

    Attributes:
        input_tokens: length of the whole prompt.
        new_input_tokens: prompt tokens that the program had not seen before this turn (a tool
            result, a user message; for the first turn the whole prompt). Never more than
            ``input_tokens - reuse_tokens``.
        output_tokens: generated tokens, at least 1.
        reuse_tokens: how many leading tokens of this prompt equal the program's chain as the
            previous turn left it (prompt and output); 0 for the first turn. The shared prefix of
            the group comes on top for the first turn. A value below the previous chain's length
            is a reset (context compaction or a dropped tail). Always below ``input_tokens``: an
            engine must compute at least one token to produce logits. Where a trace holds measured
            reuse (block hashes), that value is used literally; block hashes cover prompts only,
            in whole blocks, so it ends at the previous prompt and leaves the previous output out.
        gap_s: wait after the last token before the next turn is ready, seconds; the last turn has
            no gap, so 0, and neither tools nor children.
        gap_kind: who is waited for: ``tool``, ``user``, or ``end`` after the last turn.
        tools: the parallel tool calls of the gap; may be empty where a trace has only ``gap_s``.
        children: sub-agents started when the gap begins; each ``arrival_s`` is an offset from the
            start of the gap. The next turn waits for them (a join).
    """

    input_tokens: int
    new_input_tokens: int
    output_tokens: int
    reuse_tokens: int
    gap_s: float = 0.0
    gap_kind: GapKind = "end"
    tools: tuple[ToolCall, ...] = ()
    children: tuple[Program, ...] = ()

    def __deepcopy__(self, memo: dict[int, Any]) -> Turn:
        return self


@mypyc_attr(native_class=False)
@dataclass(frozen=True, slots=True)
class Program(Frozen):
    """One agent run.

    ``arrival_s`` is ``None`` where an arrival process decides. ``prefix`` lists the levels of the
    shared prefix from the first token on (for instance tool definitions, then system prompt);
    their tokens are part of every ``Turn.input_tokens``. ``model`` is the model that serves it;
    ``None``: its parent's, and of a root program the cluster's.
    """

    program_id: str
    agent_class: str
    turns: tuple[Turn, ...]
    prefix: tuple[PrefixSegment, ...] = ()
    arrival_s: float | None = None
    source: str = ""
    labels: tuple[str, ...] = field(default=())
    model: str | None = None

    @property
    def shared_prefix_tokens(self) -> int:
        return sum(segment.tokens for segment in self.prefix)

    @property
    def peak_context_tokens(self) -> int:
        """Largest number of tokens whose KV the program holds at once, sub-agents aside."""
        return max(turn.input_tokens + turn.output_tokens for turn in self.turns)
