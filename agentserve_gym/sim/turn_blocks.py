"""The KV blocks of turns in one instance's pool: how many they need, and what they leave behind."""

from __future__ import annotations

from agentserve_gym.sim.pools import BlockPool
from agentserve_gym.sim.programs import TurnState


class TurnBlocks:
    """Counts the blocks of running turns and turns private ones into cached ones."""

    __slots__ = ("_pool", "_size")

    def __init__(self, pool: BlockPool, block_size_tokens: int) -> None:
        self._pool = pool
        self._size = block_size_tokens

    def count(self, tokens: int) -> int:
        """Blocks that hold this many tokens."""
        return -(-tokens // self._size)

    def to_own(self, turn: TurnState, tokens: int) -> int:
        """Further blocks needed to hold the first ``tokens`` of the turn."""
        return max(-(-tokens // self._size) - turn.hit_blocks - turn.private_blocks, 0)

    def publish_prefix(self, turn: TurnState) -> None:
        """Let others hit the shared prefix that this turn computed, where nobody else did."""
        if not turn.has_prefix:
            return
        pool, program = self._pool, turn.program
        computed = turn.computed_tokens // self._size
        for key, size in zip(program.prefix_keys, program.prefix_blocks, strict=True):
            missing = min(size, computed) - pool.blocks_of(key)
            computed -= size
            if missing > 0:
                pool.extend(key, missing)
                turn.private_blocks -= missing
                turn.hit_blocks += missing

    def cache(self, turn: TurnState) -> None:
        """Turn the computed full blocks of the program's own part into a cached entry."""
        pool, program = self._pool, turn.program
        own = turn.computed_tokens // self._size - program.shared_blocks
        extra = min(max(own - pool.blocks_of(program.index), 0), turn.private_blocks)
        pool.extend(program.index, extra)
        pool.give(turn.private_blocks - extra)
        turn.private_blocks = 0
        pool.release(program.chain_keys)
