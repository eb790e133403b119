"""How much KV several contexts take together: a prefix that they share counts once."""

from __future__ import annotations

from agentserve_gym.sim import ProgramState


class SharedContexts:
    """The contexts that rules of the working set have counted so far.

    Attributes:
        tokens: what they take together. A context may count in part (its ``weight``); a level of a
            shared prefix counts with the largest weight of those that share it.
    """

    def __init__(self, block_size_tokens: int) -> None:
        self.tokens = 0.0
        self._block_size = block_size_tokens
        self._levels: dict[str, float] = {}

    def added(self, program: ProgramState, context_tokens: int, weight: float = 1.0) -> float:
        """What one more context would add, tokens."""
        left, more = context_tokens, 0.0
        for key, blocks in program.prefix:
            level = min(blocks * self._block_size, left)
            left -= level
            more += level * max(weight - self._levels.get(key, 0.0), 0.0)
        return more + left * weight

    def add(self, program: ProgramState, context_tokens: int, weight: float = 1.0) -> None:
        """Count a context."""
        self.tokens += self.added(program, context_tokens, weight)
        for key, _ in program.prefix:
            self._levels[key] = max(self._levels.get(key, 0.0), weight)


def own_tokens(program: ProgramState, context_tokens: int, block_size_tokens: int) -> int:
    """Tokens of a context beyond its shared prefix."""
    return max(context_tokens - program.shared_blocks * block_size_tokens, 0)
