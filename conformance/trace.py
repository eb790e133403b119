"""What both sides write down of a run, and where two of them first differ."""

from __future__ import annotations

from typing import NamedTuple

Share = tuple[int, int, int, int]
"""A turn's part in a step: program, turn, tokens it has computed before, tokens of this step."""


class Step(NamedTuple):
    """One step of an engine.

    Attributes:
        shares: who computes what, by program and turn. A turn's first step shows its prefix hit.
        free_blocks: KV blocks that nobody holds when the step starts.
        preemptions: how many turns lost their place since the step before was planned.
    """

    shares: tuple[Share, ...]
    free_blocks: int
    preemptions: int


class Trace(NamedTuple):
    """A run: its steps, and when each turn emitted its first and last token, seconds."""

    steps: list[Step]
    turns: dict[tuple[int, int], tuple[float, float]]

    @property
    def preemptions(self) -> int:
        return sum(step.preemptions for step in self.steps)


def first_difference(ours: Trace, theirs: Trace) -> str:
    """In words, where two runs part; empty if they are equal, turns to a microsecond."""
    for number, (mine, other) in enumerate(zip(ours.steps, theirs.steps, strict=False)):
        if mine != other:
            return f"step {number}: {_step_difference(mine, other)}"
    if len(ours.steps) != len(theirs.steps):
        return f"ours takes {len(ours.steps)} steps, vLLM {len(theirs.steps)}"
    if ours.turns.keys() != theirs.turns.keys():
        return f"ours ends {len(ours.turns)} turns, vLLM {len(theirs.turns)}"
    for turn, times in sorted(ours.turns.items()):
        if max(abs(a - b) for a, b in zip(times, theirs.turns[turn], strict=True)) > 1e-6:
            return f"turn {turn[0]}/{turn[1]}: ours {times}, vLLM {theirs.turns[turn]}"
    return ""


def _step_difference(mine: Step, other: Step) -> str:
    only = sorted(set(mine.shares) - set(other.shares))
    missing = sorted(set(other.shares) - set(mine.shares))
    if only or missing:
        return f"only ours {_shares(only)}, only vLLM {_shares(missing)}"
    if mine.preemptions != other.preemptions:
        return f"ours preempts {mine.preemptions}, vLLM {other.preemptions}"
    return f"ours has {mine.free_blocks} free blocks, vLLM {other.free_blocks}"


def _shares(shares: list[Share]) -> str:
    if not shares:
        return "nothing"
    words = [f"{tokens} tokens of {p}/{t} after {done}" for p, t, done, tokens in shares[:2]]
    return ", ".join(words) + (", ..." if len(shares) > 2 else "")
