"""How full pools are."""

from __future__ import annotations

from agentserve_gym.sim.kernel.engine import Engine
from agentserve_gym.sim.kernel.memory import Topology
from agentserve_gym.sim.kernel.pools import BlockPool
from agentserve_gym.sim.kernel.tiers import HBM_NAME
from agentserve_gym.sim.recording.history import NOBODY, PoolHistory, RunHistory


class PoolObserver:
    """Samples one pool where it has changed.

    It takes the accounts as they stand: blocks that fused steps take appear when anything needs to
    know of them, at the end of those steps at the latest. Asking engines for them now would make a
    run that a horizon cuts count more than one that is not watched.
    """

    def __init__(self, pool: BlockPool, samples: PoolHistory) -> None:
        self._pool = pool
        self._samples = samples
        self._free = self._cached = self._pins = -1

    def observe(self, now_s: float) -> None:
        """Take note of what has changed at this instant."""
        pool = self._pool
        free, cached, pins = pool.free, pool.cached, len(pool.pins)
        if free == self._free and cached == self._cached and pins == self._pins:
            return
        self._free, self._cached, self._pins = free, cached, pins
        samples = self._samples
        samples.time_s.append(now_s)
        samples.used_blocks.append(pool.capacity - free)
        samples.held_blocks.append(pool.held)
        samples.pinned_blocks.append(pool.reclaimable_pinned() if pins else 0)


def observe_pools(
    engines: list[Engine], topology: Topology, history: RunHistory
) -> list[PoolObserver]:
    """Observers of every pool: HBM by instance, then the lower tiers'."""
    pools = [(engine.pool, HBM_NAME, engine.index) for engine in engines]
    pools += [(pool, tier.name, NOBODY) for tier in topology.tiers for pool in tier.pools]
    sizes = list(topology.block_bytes)
    for tier in topology.tiers:
        sizes += [topology.block_bytes[tier.pool_of.index(pool)] for pool in tier.pools]
    history.pools = [
        PoolHistory(pool.name, tier, instance, pool.capacity, size)
        for (pool, tier, instance), size in zip(pools, sizes, strict=True)
    ]
    return [
        PoolObserver(pool, samples)
        for (pool, _, _), samples in zip(pools, history.pools, strict=True)
    ]
