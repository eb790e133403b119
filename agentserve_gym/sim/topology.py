"""From a cluster's description to the memories and paths of the simulation."""

from __future__ import annotations

from typing import NamedTuple

from agentserve_gym.hardware import Model
from agentserve_gym.sim.kernel.arc import ArcPool
from agentserve_gym.sim.kernel.links import Link, Path
from agentserve_gym.sim.kernel.memory import Links, Topology
from agentserve_gym.sim.kernel.pools import BlockPool
from agentserve_gym.sim.kernel.tier_pool import TierPool
from agentserve_gym.sim.scenario import (
    GIB,
    ClusterSpec,
    CxlSpec,
    InstanceSpec,
    LinkSpec,
    NodeSpec,
    TierSpec,
)

GIGA = 1e9


def build_topology(cluster: ClusterSpec, block_size_tokens: int, llm: Model) -> Topology:
    """The memories below HBM and the paths between all memories.

    A tier holds one copy of KV that an instance's ranks have copies of; each of them loads it over
    its own link.

    Raises:
        ValueError: a tier holds less than one block.
    """
    block_bytes = block_size_tokens * llm.kv_bytes_per_token
    topology = Topology(block_size_tokens, block_bytes, llm.constant_kv_bytes)
    for number, node in enumerate(cluster.nodes):
        _build_node(topology, number, node, cluster, llm)
    drams = _build_dram(topology, cluster, llm.is_hybrid)
    if cluster.cxl is not None:
        _build_cxl(topology, cluster, cluster.cxl, llm.is_hybrid)
    for spec in cluster.tiers:
        _build_tier(topology, cluster, spec, drams, llm.is_hybrid)
    return topology


def ranks(cluster: ClusterSpec) -> list[tuple[InstanceSpec, int]]:
    """Every instance's description and its place in its data-parallel group, in order."""
    return [
        (spec, member % spec.data_parallel)
        for node in cluster.nodes
        for spec in node.instances
        for member in range(spec.num_instances)
    ]


def _link(topology: Topology, name: str, gbps: float, latency_us: float = 0.0) -> Link:
    link = topology.links[name] = Link(name, gbps * GIGA, latency_us * 1e-6)
    return link


def _blocks(topology: Topology, capacity_gib: float, where: str) -> int:
    blocks = int(capacity_gib * GIB // topology.block_bytes)
    if blocks == 0:
        raise ValueError(
            f"{where}.capacity_gib is {capacity_gib}: less than one KV block "
            f"({topology.block_bytes / GIB:.3g} GiB)"
        )
    return blocks


def _build_node(
    topology: Topology, number: int, node: NodeSpec, cluster: ClusterSpec, llm: Model
) -> None:
    name, peer, network = node.name, node.peer_link, cluster.network
    topology.peer.append(
        _link(topology, f"{name} peer", peer.bandwidth_gbps, peer.latency_us) if peer else None
    )
    topology.network.append(
        (
            (_link(topology, f"{name} network out", network.bandwidth_gbps, network.latency_us),),
            (_link(topology, f"{name} network in", network.bandwidth_gbps),),
        )
        if network is not None
        else ((), ())
    )
    for spec in node.instances:
        for _ in range(spec.num_instances):
            _build_instance(topology, number, llm.kv_ranks(spec.tensor_parallel), node.host_link)


def _build_instance(topology: Topology, node: int, ranks: int, host: LinkSpec) -> None:
    """Links of an instance whose KV is spread over so many ranks, each with a host link."""
    index = len(topology.node_of)
    gbps = host.bandwidth_gbps * ranks
    out = _link(topology, f"instance {index} d2h", gbps, host.latency_us)
    back = _link(topology, f"instance {index} h2d", gbps, host.latency_us)
    both: Links = ()
    if host.duplex_gbps is not None:
        duplex_gbps = host.duplex_gbps * ranks
        both = (_link(topology, f"instance {index} duplex", duplex_gbps),)
    topology.node_of.append(node)
    topology.to_host.append((out, *both))
    topology.from_host.append((back, *both))


def _pool(name: str, blocks: int, eviction: str, hybrid: bool) -> BlockPool:
    """A tier's pool by how it evicts; ``hybrid``: a context is of use as a whole only.

    Raises:
        ValueError: both cannot be.
    """
    if eviction == "lru":
        return TierPool(name, blocks, whole_only=hybrid)
    if hybrid:
        raise ValueError(
            f"{name}: eviction is 'arc', which takes single blocks, but of a model with sliding "
            "windows or linear attention only whole contexts are of use; allowed: 'lru'"
        )
    return ArcPool(name, blocks)


def _build_dram(topology: Topology, cluster: ClusterSpec, hybrid: bool) -> list[Links]:
    """The tier, where any node has it; returns the link of each node's memory, if it is known."""
    drams: list[Links] = []
    reached: list[_Reached | None] = []
    for node in cluster.nodes:
        spec = node.dram
        if spec is None:
            drams.append(())
            reached.append(None)
            continue
        name = f"{node.name} dram"
        blocks = _blocks(topology, spec.capacity_gib, f"{node.name}.dram")
        pool = _pool(name, blocks, spec.eviction, hybrid)
        links: Links = (_link(topology, name, spec.bandwidth_gbps, spec.latency_us),)
        drams.append(links)
        reached.append(_Reached(pool, links, links))
    if any(reached):
        _connect(topology, "dram", reached)
    return drams


def _build_cxl(topology: Topology, cluster: ClusterSpec, spec: CxlSpec, hybrid: bool) -> None:
    blocks = _blocks(topology, spec.capacity_gib, "cluster.cxl")
    pool = _pool("cxl", blocks, spec.eviction, hybrid)
    shared: Links = ()
    if spec.pool_bandwidth_gbps is not None:
        shared = (_link(topology, "cxl pool", spec.pool_bandwidth_gbps),)
    reached: list[_Reached | None] = []
    for node in cluster.nodes:
        if node.name not in spec.nodes:
            reached.append(None)
            continue
        write = _link(topology, f"{node.name} cxl write", spec.bandwidth_gbps, spec.latency_us)
        read = _link(topology, f"{node.name} cxl read", spec.bandwidth_gbps, spec.latency_us)
        reached.append(_Reached(pool, (write, *shared), (*shared, read)))
    _connect(topology, "cxl", reached)


def _build_tier(
    topology: Topology, cluster: ClusterSpec, spec: TierSpec, drams: list[Links], hybrid: bool
) -> None:
    """A further tier; staged transfers cross the node's memory on their way."""
    blocks = _blocks(topology, spec.capacity_gib, f"cluster.tiers: {spec.name}")
    common = _pool(spec.name, blocks, spec.eviction, hybrid) if spec.shared else None
    reached: list[_Reached | None] = []
    for node, dram in zip(cluster.nodes, drams, strict=True):
        if spec.nodes is not None and node.name not in spec.nodes:
            reached.append(None)
            continue
        name = f"{node.name} {spec.name}"
        write = _link(topology, f"{name} write", spec.write_gbps, spec.latency_us)
        read = _link(topology, f"{name} read", spec.read_gbps, spec.latency_us)
        mixed: Links = ()
        if spec.mixed_gbps is not None:
            mixed = (_link(topology, f"{name} mixed", spec.mixed_gbps),)
        stage = dram if spec.staged else ()
        pool = common or _pool(name, blocks, spec.eviction, hybrid)
        reached.append(_Reached(pool, (*stage, write, *mixed), (*mixed, read, *stage)))
    _connect(topology, spec.name, reached)


class _Reached(NamedTuple):
    """What the instances of a node reach of a tier: its pool, and the links to and from it."""

    pool: BlockPool
    write: Links
    read: Links


def _connect(topology: Topology, name: str, reached: list[_Reached | None]) -> None:
    """Add a tier that the instances of some nodes reach."""
    tier = topology.add_tier(name)
    for node, to_host, from_host in zip(
        topology.node_of, topology.to_host, topology.from_host, strict=True
    ):
        found = reached[node]
        if found is None:
            tier.connect(None, None, None)
        else:
            tier.connect(found.pool, Path(to_host + found.write), Path(found.read + from_host))
