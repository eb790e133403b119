"""Putting drawn values together: gaps with their tool calls, and turns up to the window."""

from __future__ import annotations

from typing import NamedTuple

from agentserve_gym.workloads.program import GapKind, Program, ToolCall, Turn

new = tuple.__new__
"""Makes a named tuple in half the time that its own constructor takes; no field may be left out."""


class Values(NamedTuple):
    """What the draws of one program stand for; lists have one entry per turn.

    Attributes:
        is_user, kinds, calls: as in ``Draws``.
        output_tokens: generated; ``kept_tokens``: how many of them stay where ``dropped`` says that
            old thinking goes.
        new_tokens: added after the turn by tools or a person; may be 0.
        durations_s: of each tool call. ``wait_s``: of a person.
        compact_to_tokens: context that a compaction after the turn would leave, before the shared
            prefix is guaranteed.
    """

    is_user: list[bool]
    kinds: list[int]
    calls: list[int]
    output_tokens: list[int]
    kept_tokens: list[int]
    dropped: list[bool]
    new_tokens: list[int]
    durations_s: list[list[float]]
    wait_s: list[float]
    compact_to_tokens: list[int]


class Gap(NamedTuple):
    """One gap before its place in the program is known.

    Attributes:
        who: ``user`` or ``tool``. ``kind``: index of the tool kind in the chain; -1 for a person's
            message.
    """

    who: GapKind
    gap_s: float
    tools: tuple[ToolCall, ...]
    kind: int


def gaps_of(values: Values, kinds: tuple[str, ...]) -> list[Gap]:
    """The gap after each turn; ``kinds``: names of the tool kinds."""
    gaps: list[Gap] = []
    for is_user, kind, n, tokens, durations_s, wait_s in zip(
        values.is_user,
        values.kinds,
        values.calls,
        values.new_tokens,
        values.durations_s,
        values.wait_s,
        strict=True,
    ):
        if is_user:
            gaps.append(new(Gap, ("user", wait_s, (), -1)))
            continue
        name = kinds[kind]
        part, rest = divmod(tokens, n)
        tools = [new(ToolCall, (name, duration_s, part, 0)) for duration_s in durations_s[:n]]
        if rest:
            tools[0] = new(ToolCall, (name, durations_s[0], part + rest, 0))
        gaps.append(new(Gap, ("tool", max(durations_s[:n]), tuple(tools), kind)))
    return gaps


def assemble(
    values: Values,
    gaps: list[Gap],
    children: dict[int, Program],
    shared: int,
    initial: int,
    window: int,
    compact_at: int,
) -> tuple[Turn, ...]:
    """Run the context forward and build the turns, up to the window.

    Args:
        values: of all turns. ``gaps``: after each.
        children: the sub-agent that starts in a gap, by the turn before it.
        shared, initial: tokens of the shared prefix, and of the first own input.
        window: tokens that no context outgrows. ``compact_at``: tokens beyond which it shrinks.
    """
    compact_to = values.compact_to_tokens
    first = shared + initial
    context, reuse = min(first, max(shared + 1, window - 1)), 0
    added = context
    prompts: list[tuple[int, int, int, int]] = []  # (input, new, output, reuse) within the window
    for turn, output in enumerate(values.output_tokens):
        if context >= window:
            break
        output = min(output, window - context)
        prompts.append((context, added, output, reuse))
        full = context + output
        if values.dropped[turn]:  # thinking goes: the chain diverges where the output began
            reuse, added = context, 0
            context += max(1, min(values.kept_tokens[turn], output))
        else:
            reuse, added = full, max(1, values.new_tokens[turn])
            context = reuse + added
        if full > compact_at or (compact_to and context >= window):
            reuse = min(shared, context - 1)
            context = max(compact_to[turn], shared + 1)
            added = context - reuse
    turns = [
        new(Turn, (*prompt, gap.gap_s, gap.who, gap.tools, ()))
        for prompt, gap in zip(prompts[:-1], gaps, strict=False)
    ]
    for index, child in children.items():
        if index < len(turns):
            turns[index] = turns[index]._replace(children=(child,))
    turns.append(Turn(*prompts[-1]))
    return tuple(turns)
