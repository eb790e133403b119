"""Shared prefixes from block ids: a radix tree over the block paths of many prompts.

A trace of single requests says what they share only through ids of full blocks, where an equal id
means an equal prompt up to and including that block. The tree finds the runs of blocks that two or
more prompts share; each run becomes one `PrefixSegment`, so that programs hold equal keys exactly
where they hold equal tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from agentserve_gym.workloads.program import PrefixSegment


@dataclass(slots=True)
class _Node:
    number: int
    prompts: int = 0  # how many prompts pass through
    children: dict[int, _Node] = field(default_factory=dict)


class PrefixTree:
    """Collects block paths, then names the shared runs of any of them.

    Args:
        block_tokens: tokens in a block.
        namespace: start of every segment key.
    """

    def __init__(self, block_tokens: int, namespace: str = "prefix") -> None:
        self._block_tokens = block_tokens
        self._namespace = namespace
        self._root = _Node(0)
        self._nodes = 0

    def insert(self, blocks: Sequence[int]) -> None:
        """Add the path of one prompt."""
        node = self._root
        for block in blocks:
            following = node.children.get(block)
            if following is None:
                self._nodes += 1
                following = node.children[block] = _Node(self._nodes)
            following.prompts += 1
            node = following

    def segments(self, blocks: Sequence[int]) -> tuple[PrefixSegment, ...]:
        """The shared levels of an inserted path, first to last; empty where it shares nothing.

        The number of prompts through a node only falls along a path, and runs with an equal number
        belong to the same prompts, so a run ends where the number falls.
        """
        found: list[PrefixSegment] = []
        node = self._root
        length = 0
        for block in blocks:
            following = node.children[block]
            if length and following.prompts != node.prompts:
                found.append(self._segment(node, length))
                length = 0
            if following.prompts < 2:
                return tuple(found)
            length += 1
            node = following
        if length:
            found.append(self._segment(node, length))
        return tuple(found)

    def _segment(self, end: _Node, length: int) -> PrefixSegment:
        return PrefixSegment(f"{self._namespace}/{end.number}", length * self._block_tokens)


def common_length(first: Sequence[int], second: Sequence[int]) -> int:
    """How many leading items are equal."""
    length = 0
    for a, b in zip(first, second, strict=False):
        if a != b:
            break
        length += 1
    return length
