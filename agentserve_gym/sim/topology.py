"""The cluster's hardware as the simulation uses it: lower-tier pools and the links."""

from __future__ import annotations

from agentserve_gym.sim.decisions import DRAM, HBM, Tier
from agentserve_gym.sim.links import Link, Path
from agentserve_gym.sim.pools import BlockPool
from agentserve_gym.sim.scenario import GIB, ClusterSpec, InstanceSpec, LinkSpec, NodeSpec

GIGA = 1e9


class Topology:
    """Pools below HBM and the paths between memories.

    Attributes:
        instances: one spec per instance, in order; ``ranks``: its place in a data-parallel group;
            ``node_of``, ``reaches_cxl``: per instance.
        dram: a pool per node or ``None``. ``cxl``: the pool or ``None``.
        links: every link by name, for reports.
        block_bytes: KV bytes of one block over all ranks.
    """

    def __init__(
        self, cluster: ClusterSpec, block_size_tokens: int, kv_bytes_per_token: float
    ) -> None:
        self.block_size_tokens = block_size_tokens
        self.block_bytes = block_size_tokens * kv_bytes_per_token
        self.links: dict[str, Link] = {}
        self.instances: list[InstanceSpec] = []
        self.ranks: list[int] = []
        self.node_of: list[int] = []
        self.reaches_cxl: list[bool] = []
        self.dram: list[BlockPool | None] = []
        self._to_host: list[tuple[Link, ...]] = []
        self._from_host: list[tuple[Link, ...]] = []
        self._peer: list[Link | None] = []
        self._dram_links: list[tuple[Link, ...]] = []
        self._cxl_ports: list[tuple[tuple[Link, ...], tuple[Link, ...]]] = []
        self._network: list[tuple[tuple[Link, ...], tuple[Link, ...]]] = []
        # Per instance, to or from DRAM and CXL; between instances, as they are first asked for.
        self._offload_paths: list[tuple[Path, Path]] = []
        self._load_paths: list[tuple[Path, Path]] = []
        self._moves: dict[tuple[int, int], Path] = {}
        self.cxl = self._build_cxl(cluster)
        for number, node in enumerate(cluster.nodes):
            self._build_node(number, node, cluster)

    def _link(self, name: str, gbps: float, latency_us: float = 0.0) -> Link:
        link = self.links[name] = Link(name, gbps * GIGA, latency_us * 1e-6)
        return link

    def _blocks(self, capacity_gib: float, where: str) -> int:
        blocks = int(capacity_gib * GIB // self.block_bytes)
        if blocks == 0:
            raise ValueError(
                f"{where}.capacity_gib is {capacity_gib}: less than one KV block "
                f"({self.block_bytes / GIB:.3g} GiB)"
            )
        return blocks

    def _build_cxl(self, cluster: ClusterSpec) -> BlockPool | None:
        if cluster.cxl is None:
            return None
        if cluster.cxl.pool_bandwidth_gbps is not None:
            self._link("cxl pool", cluster.cxl.pool_bandwidth_gbps)
        return BlockPool("cxl", self._blocks(cluster.cxl.capacity_gib, "cluster.cxl"))

    def _build_node(self, number: int, node: NodeSpec, cluster: ClusterSpec) -> None:
        name = node.name
        dram = node.dram
        self.dram.append(
            BlockPool(f"{name} dram", self._blocks(dram.capacity_gib, f"{name}.dram"))
            if dram is not None
            else None
        )
        self._dram_links.append(
            (self._link(f"{name} dram", dram.bandwidth_gbps, dram.latency_us),) if dram else ()
        )
        self._peer.append(_optional_link(self, f"{name} peer", node.peer_link))
        self._cxl_ports.append(self._cxl_port(node, cluster))
        network = cluster.network
        self._network.append(
            (
                (self._link(f"{name} network out", network.bandwidth_gbps, network.latency_us),),
                (self._link(f"{name} network in", network.bandwidth_gbps),),
            )
            if network is not None
            else ((), ())
        )
        for spec in node.instances:
            for member in range(spec.num_instances):
                self.ranks.append(member % spec.data_parallel)
                self._build_instance(number, spec, node.host_link, bool(self._cxl_ports[-1][0]))

    def _cxl_port(
        self, node: NodeSpec, cluster: ClusterSpec
    ) -> tuple[tuple[Link, ...], tuple[Link, ...]]:
        """Links for writing to and reading from the CXL pool."""
        cxl = cluster.cxl
        if cxl is None or node.name not in cxl.nodes:
            return (), ()
        shared = (self.links["cxl pool"],) if "cxl pool" in self.links else ()
        write = self._link(f"{node.name} cxl write", cxl.bandwidth_gbps, cxl.latency_us)
        read = self._link(f"{node.name} cxl read", cxl.bandwidth_gbps, cxl.latency_us)
        return (write, *shared), (read, *shared)

    def _build_instance(
        self, node: int, spec: InstanceSpec, host: LinkSpec, reaches_cxl: bool
    ) -> None:
        index = len(self.instances)
        ranks = spec.tensor_parallel
        out = self._link(f"instance {index} d2h", host.bandwidth_gbps * ranks, host.latency_us)
        back = self._link(f"instance {index} h2d", host.bandwidth_gbps * ranks, host.latency_us)
        both: tuple[Link, ...] = ()
        if host.duplex_gbps is not None:
            both = (self._link(f"instance {index} duplex", host.duplex_gbps * ranks),)
        self.instances.append(spec)
        self.node_of.append(node)
        self.reaches_cxl.append(reaches_cxl)
        to_host, from_host = (out, *both), (back, *both)
        self._to_host.append(to_host)
        self._from_host.append(from_host)
        dram, (cxl_write, cxl_read) = self._dram_links[node], self._cxl_ports[node]
        self._offload_paths.append((Path(to_host + dram), Path(to_host + cxl_write)))
        self._load_paths.append((Path(dram + from_host), Path(cxl_read + from_host)))

    def offload_path(self, instance: int, tier: Tier) -> Path:
        """HBM of an instance to a lower tier."""
        return self._offload_paths[instance][tier is not DRAM]

    def load_path(self, tier: Tier, source: int, instance: int) -> Path:
        """A lower tier, or the HBM of instance ``source``, to the HBM of an instance."""
        if tier is not HBM:
            return self._load_paths[instance][tier is not DRAM]
        path = self._moves.get((source, instance))
        if path is None:
            path = self._moves[source, instance] = self._move_path(source, instance)
        return path

    def _move_path(self, source: int, instance: int) -> Path:
        node = self.node_of[instance]
        origin = self.node_of[source]
        if origin == node:
            peer = self._peer[node]
            if peer is not None:
                return Path((peer,))
            return Path(self._to_host[source] + self._from_host[instance])
        return Path(
            self._to_host[source]
            + self._network[origin][0]
            + self._network[node][1]
            + self._from_host[instance]
        )

    def can_migrate(self, source: int, instance: int) -> bool:
        """Whether KV can move between two instances: on one node always, else over a network."""
        origin, node = self.node_of[source], self.node_of[instance]
        return origin == node or bool(self._network[origin][0])


def _optional_link(topology: Topology, name: str, spec: LinkSpec | None) -> Link | None:
    if spec is None:
        return None
    return topology._link(name, spec.bandwidth_gbps, spec.latency_us)
