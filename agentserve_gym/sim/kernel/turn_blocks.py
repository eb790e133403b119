"""The KV blocks of turns in one instance's pool: how many they need, and what they leave behind."""

from __future__ import annotations

from mypy_extensions import mypyc_attr

from agentserve_gym.sim.kernel.copying import Copyable
from agentserve_gym.sim.kernel.limits import EngineLimits
from agentserve_gym.sim.kernel.pools import BlockPool
from agentserve_gym.sim.kernel.request import Request


@mypyc_attr(allow_interpreted_subclasses=True)
class TurnBlocks(Copyable):
    """Counts the blocks of running turns and turns private ones into cached ones."""

    __slots__ = ("_besides", "_chunk", "_passing", "_pool", "_size", "_states")

    def __init__(self, pool: BlockPool, limits: EngineLimits) -> None:
        footprint = limits.footprint
        self._pool = pool
        self._size = limits.block_size_tokens
        self._chunk = limits.max_num_batched_tokens // limits.block_size_tokens
        self._besides = footprint.windows + footprint.states
        self._states = footprint.states
        self._passing = footprint.passing

    def count(self, tokens: int) -> int:
        """Blocks that a turn of this many tokens holds."""
        return -(-tokens // self._size) + self._besides

    def to_admit(self, tokens: int, hit_blocks: int) -> int:
        """Blocks that must be had for a turn with so many cached ones to be admitted: all of its
        prompt's, and those that its first chunk takes in windows."""
        need = self.count(tokens) - hit_blocks
        if self._passing:
            need += self._passing * min(need, self._chunk)
        return need

    def to_own(self, request: Request, tokens: int) -> int:
        """Further blocks needed to compute ``tokens`` more of the turn's."""
        tokens += request.computed_tokens
        blocks = self.count(tokens) - request.hit_blocks - request.private_blocks
        return blocks if blocks > 0 else 0

    def settle(self, request: Request) -> None:
        """Count what decoding added among the turn's private blocks."""
        request.private_blocks = self.count(request.computed_tokens) - request.hit_blocks

    def grow(self, request: Request, blocks: int, tokens: int) -> None:
        """Give a turn the blocks of the ``tokens`` that it computes next. Others can hit what these
        complete of the shared prefix: as in vLLM, from the scheduling pass on."""
        request.private_blocks += blocks
        pool, program = self._pool, request.program
        if not request.turn.has_prefix or request.hit_blocks >= program.shared_blocks:
            return
        computed = (request.computed_tokens + tokens) // self._size
        for key, size in program.prefix:
            missing = min(size, computed) - pool.blocks_of(key)
            computed -= size
            if missing > 0:
                pool.extend(key, missing)
                request.private_blocks -= missing
                request.hit_blocks += missing

    def cache(self, request: Request) -> None:
        """Turn the computed full blocks of the program's own part into a cached entry.

        What its windows passed over meanwhile, and its state, are cached too, and older.
        """
        pool, program = self._pool, request.program
        own = request.computed_tokens // self._size - program.shared_blocks
        extra = min(own - pool.blocks_of(program.index), request.private_blocks)
        if extra > 0:
            pool.extend(program.index, extra)
            request.private_blocks -= extra
        pool.give(request.private_blocks)
        request.private_blocks = 0
        if self._besides:
            pool.leave(self._states + self._passing * max(extra, 0))
        pool.release(program.chain_keys)
