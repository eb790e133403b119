"""Memory tiers that can hold KV, numbered: 0 is an instance's own HBM, then the scenario's list."""

from __future__ import annotations

from mypy_extensions import mypyc_attr

from agentserve_gym.sim.kernel.copying import Copyable
from agentserve_gym.sim.kernel.links import Link, Path
from agentserve_gym.sim.kernel.pools import BlockPool

HBM = 0
"""The number of HBM; lower tiers count on from it, in the scenario's order."""
HBM_NAME = "hbm"


@mypyc_attr(allow_interpreted_subclasses=True)
class LowerTier(Copyable):
    """One memory tier below HBM.

    Attributes:
        name: what scenarios, policies and reports call it.
        pools: its pools: one per node, or one that nodes share.
        pool_of: per instance, the pool that it reaches, or ``None``.
        offload_paths, load_paths: per instance, from and to its HBM; ``None`` where it reaches no
            pool.
        reads: per instance, the links out of its pool alone.
    """

    __slots__ = ("load_paths", "name", "offload_paths", "pool_of", "pools", "reads")

    def __init__(self, name: str) -> None:
        self.name = name
        self.pools: list[BlockPool] = []
        self.pool_of: list[BlockPool | None] = []
        self.offload_paths: list[Path | None] = []
        self.load_paths: list[Path | None] = []
        self.reads: list[tuple[Link, ...]] = []

    def connect(
        self,
        pool: BlockPool | None,
        to_host: tuple[Link, ...] = (),
        write: tuple[Link, ...] = (),
        read: tuple[Link, ...] = (),
        from_host: tuple[Link, ...] = (),
    ) -> None:
        """Say what the next instance reaches, and over which links."""
        if pool is not None and pool not in self.pools:
            self.pools.append(pool)
        self.pool_of.append(pool)
        self.offload_paths.append(None if pool is None else Path(to_host + write))
        self.load_paths.append(None if pool is None else Path(read + from_host))
        self.reads.append(read)
