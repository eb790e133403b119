"""Who waits for a place in an engine's batch, and whether the blocks for it can be had.

Turns wait in queue order. The first that the scheduler sees is admitted once blocks for its *whole*
prompt can be had; then its cached prefix is fixed and the load of what lies elsewhere starts. Where
loads come before the prefill, the turn leaves the queue meanwhile and comes back to its front.
"""

from __future__ import annotations

from bisect import insort
from math import inf

from mypy_extensions import mypyc_attr

from agentserve_gym.sim.kernel.copying import Copyable
from agentserve_gym.sim.kernel.events import Clock
from agentserve_gym.sim.kernel.host import Host
from agentserve_gym.sim.kernel.limits import EngineLimits
from agentserve_gym.sim.kernel.pools import BlockPool
from agentserve_gym.sim.kernel.programs import LOAD, LOADING, QUEUE, QUEUED
from agentserve_gym.sim.kernel.request import QueueKey, Request
from agentserve_gym.sim.kernel.turn_blocks import TurnBlocks
from agentserve_gym.sim.kernel.victims import Running


def _queue_key(request: Request) -> QueueKey:
    return request.queue_key


@mypyc_attr(allow_interpreted_subclasses=True)
class TurnQueue(Copyable):
    """The queue of one engine.

    Attributes:
        turns: in queue order. ``loading``: turns whose KV is on its way before their prefill.
        uncached_tokens: uncached prompt tokens of ``turns``, as estimated when they were queued.
    """

    __slots__ = (
        "_block_size", "_blocks", "_clock", "_hard_pins", "_host", "_layerwise", "_pool",
        "_running", "loading", "turns", "uncached_tokens",
    )  # fmt: skip

    def __init__(
        self,
        limits: EngineLimits,
        pool: BlockPool,
        blocks: TurnBlocks,
        running: Running,
        clock: Clock,
        host: Host,
    ) -> None:
        """``running``: the engine's running turns, which are only looked at."""
        self.turns: list[Request] = []
        self.loading: dict[int, Request] = {}
        self.uncached_tokens = 0
        self._block_size = limits.block_size_tokens
        self._hard_pins = limits.hard_pins
        self._layerwise = limits.layerwise_layers > 0
        self._pool = pool
        self._blocks = blocks
        self._running = running
        self._clock = clock
        self._host = host

    def join(self, request: Request) -> None:
        """Queue a turn that nothing is reserved for."""
        cached_tokens = self._hit_blocks(request) * self._block_size
        request.uncached_tokens = request.target_tokens - cached_tokens
        self._insert(request)

    def loaded(self, request: Request) -> None:
        """A turn's KV has arrived: it goes to the front.

        It holds its blocks already: behind a turn that waits for blocks, both would wait forever.
        """
        now = self._clock.time_s
        del self.loading[request.sequence]
        request.awaits_load = False
        request.visible_after_s = now
        request.queue_key = (-2, request.priority, request.sequence)
        request.program.enter(QUEUE, QUEUED, now)
        self._insert(request)

    def promote(self, request: Request) -> bool:
        """Move a turn that still waits behind others to the front; whether there was one."""
        if request not in self.turns or request.queue_key[0] != 0:
            return False
        self.turns.remove(request)
        request.queue_key = (0, -inf, request.sequence)
        insort(self.turns, request, key=_queue_key)
        return True

    def fits_next(self, planned_at_s: float) -> bool:
        """Whether blocks can be had for the first turn seen at that time, as things are now."""
        for request in self.turns:
            if request.visible_after_s <= planned_at_s:
                return request.reserved or self._fits(request, self._hit_blocks(request))
        return False

    def take_next(self, planned_at_s: float) -> Request | None:
        """Take the first turn seen at that time out of the queue, with its blocks, if they can be
        had; those that have to wait for a load are passed over."""
        at = 0
        while at < len(self.turns):
            request = self.turns[at]
            if request.visible_after_s > planned_at_s:
                at += 1
                continue
            if not request.reserved and not self._reserve(request):
                return None
            del self.turns[at]
            self.uncached_tokens -= request.uncached_tokens
            if self._layerwise or not request.awaits_load:
                return request
        return None

    def may_break_pins(self, asking: int) -> bool:
        """Soft pins give way to any turn, hard ones where nothing else runs or loads; ``asking``
        running turns are those that need the blocks."""
        return not self._hard_pins or not (self.loading or len(self._running) > asking)

    def _insert(self, request: Request) -> None:
        self.uncached_tokens += request.uncached_tokens
        insort(self.turns, request, key=_queue_key)

    def _hit_blocks(self, request: Request) -> int:
        """Leading blocks of the turn that are cached here."""
        return self._pool.match(request.program, request.match_limit_blocks)

    def _fits(self, request: Request, hit_blocks: int) -> bool:
        """Whether blocks can be had now for the turn's whole prompt less its cached prefix."""
        pool, program = self._pool, request.program
        need = self._blocks.to_admit(request.target_tokens, hit_blocks)
        if need <= pool.free:
            return True
        room = pool.free + pool.cached - pool.reclaimable(program.chain_keys)
        if need > room and pool.pins and self.may_break_pins(0):
            room += pool.reclaimable_pinned(besides=program)
        return need <= room

    def _reserve(self, request: Request) -> bool:
        """Fix a waiting turn's cached prefix and start its load, if it fits; else do nothing."""
        hit = self._hit_blocks(request)
        if not self._fits(request, hit):
            return False
        pool, program = self._pool, request.program
        pool.hold(program.chain_keys)
        pool.unpin(program.index)
        pool.shorten(program.index, max(hit - program.shared_blocks, 0))
        request.hit_blocks = hit
        request.private_blocks = 0
        request.computed_tokens = hit * self._block_size
        request.reserved = True
        loaded, tier = self._host.begin_load(request) or (0, None)
        if loaded:
            self._load(request, loaded)
        self._host.turn_reserved(request, loaded, tier)
        return True

    def _load(self, request: Request, loaded_blocks: int) -> None:
        """Give a turn all its blocks: into these comes the load that has started."""
        whole = self._blocks.count(request.target_tokens) - request.hit_blocks
        self._pool.take(whole, break_pins=self.may_break_pins(1))
        request.private_blocks = whole
        request.computed_tokens += loaded_blocks * self._block_size
        request.awaits_load = True
        request.program.enter(LOAD, LOADING, self._clock.time_s)
        if not self._layerwise:
            self.loading[request.sequence] = request
