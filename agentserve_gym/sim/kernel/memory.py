"""Memories below HBM, and the paths between memories."""

from __future__ import annotations

from dataclasses import dataclass, field

from agentserve_gym.sim.kernel.links import Link, Path
from agentserve_gym.sim.kernel.pools import BlockPool
from agentserve_gym.sim.kernel.tiers import DRAM, HBM, Tier

Links = tuple[Link, ...]


@dataclass(slots=True)
class Topology:
    """Pools below HBM and the paths between memories.

    Attributes:
        block_size_tokens: of every pool. ``block_bytes``: KV bytes of one block over all ranks.
        links: every link by name, for reports.
        node_of, reaches_cxl: per instance.
        dram: a pool per node or ``None``. ``cxl``: the pool or ``None``.
        to_host, from_host: links between an instance's HBM and its host, per instance.
        peer: the link among a node's instances or ``None``, per node; ``network``: links out of
            and into a node, empty without a network.
        offload_paths, load_paths: per instance, to or from DRAM and CXL.
    """

    block_size_tokens: int
    block_bytes: float
    links: dict[str, Link] = field(default_factory=dict)
    node_of: list[int] = field(default_factory=list)
    reaches_cxl: list[bool] = field(default_factory=list)
    dram: list[BlockPool | None] = field(default_factory=list)
    cxl: BlockPool | None = None
    to_host: list[Links] = field(default_factory=list)
    from_host: list[Links] = field(default_factory=list)
    peer: list[Link | None] = field(default_factory=list)
    network: list[tuple[Links, Links]] = field(default_factory=list)
    offload_paths: list[tuple[Path, Path]] = field(default_factory=list)
    load_paths: list[tuple[Path, Path]] = field(default_factory=list)
    _moves: dict[tuple[int, int], Path] = field(default_factory=dict)

    def offload_path(self, instance: int, tier: Tier) -> Path:
        """HBM of an instance to a lower tier."""
        return self.offload_paths[instance][tier is not DRAM]

    def load_path(self, tier: Tier, source: int, instance: int) -> Path:
        """A lower tier, or the HBM of instance ``source``, to the HBM of an instance."""
        if tier is not HBM:
            return self.load_paths[instance][tier is not DRAM]
        path = self._moves.get((source, instance))
        if path is None:
            path = self._moves[source, instance] = self._move_path(source, instance)
        return path

    def _move_path(self, source: int, instance: int) -> Path:
        node = self.node_of[instance]
        origin = self.node_of[source]
        if origin == node:
            peer = self.peer[node]
            if peer is not None:
                return Path((peer,))
            return Path(self.to_host[source] + self.from_host[instance])
        return Path(
            self.to_host[source]
            + self.network[origin][0]
            + self.network[node][1]
            + self.from_host[instance]
        )

    def can_migrate(self, source: int, instance: int) -> bool:
        """Whether KV can move between two instances: on one node always, else over a network."""
        origin, node = self.node_of[source], self.node_of[instance]
        return origin == node or bool(self.network[origin][0])
