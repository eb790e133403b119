"""What a router remembers of the prompts that it sent: the approximate prefix index."""

from __future__ import annotations

from collections import OrderedDict

from agentserve_gym.sim import TurnState


class SentPrefixes:
    """Prompts sent to one instance, in blocks, least recently sent first.

    The router is not told what the instance evicts: it forgets what it sent longest ago once it
    remembers more than ``capacity_blocks``. Of a prompt it hashes the first ``prompt_blocks``
    blocks. A level of a shared prefix, or a program's own part, is forgotten whole: its first block
    is the oldest, and no block matches without those before it.
    """

    def __init__(self, prompt_blocks: int, capacity_blocks: int) -> None:
        self._prompt_blocks = prompt_blocks
        self._capacity = capacity_blocks
        self._sent: OrderedDict[str | int, int] = OrderedDict()
        self._blocks = 0

    def matched_share(self, turn: TurnState, block_size_tokens: int) -> float:
        """Share of a prompt's hashed blocks that were sent before."""
        hashed = self._hashed_blocks(turn, block_size_tokens)
        matched = 0
        for key, blocks in self._parts(turn, hashed):
            known = min(self._sent.get(key, 0), blocks)
            matched += known
            if known < blocks:
                break
        return min(matched, turn.match_limit_blocks) / hashed if hashed else 0.0

    def add(self, turn: TurnState, block_size_tokens: int) -> None:
        """Remember a prompt, and forget the oldest beyond the capacity."""
        hashed = self._hashed_blocks(turn, block_size_tokens)
        for key, blocks in self._parts(turn, hashed):
            self._blocks += blocks - self._sent.pop(key, 0)
            self._sent[key] = blocks
        while self._blocks > self._capacity:
            _, blocks = self._sent.popitem(last=False)
            self._blocks -= blocks

    def _hashed_blocks(self, turn: TurnState, block_size_tokens: int) -> int:
        return min(turn.prompt_tokens // block_size_tokens, self._prompt_blocks)

    def _parts(self, turn: TurnState, hashed: int) -> list[tuple[str | int, int]]:
        """The parts of the prompt's hashed blocks: shared levels, then the program's own."""
        program = turn.program
        parts: list[tuple[str | int, int]] = []
        for key, size in program.prefix:
            blocks = min(size, hashed)
            if blocks:
                parts.append((key, blocks))
            hashed -= blocks
        if hashed:
            parts.append((program.index, hashed))
        return parts
