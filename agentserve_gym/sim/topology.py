"""From a cluster's description to the memories and paths of the simulation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from agentserve_gym.hardware import Model, accelerator, link
from agentserve_gym.sim.instances import Instance
from agentserve_gym.sim.kernel.arc import ArcPool
from agentserve_gym.sim.kernel.links import Link, join
from agentserve_gym.sim.kernel.memory import Links, Topology
from agentserve_gym.sim.kernel.pools import BlockPool
from agentserve_gym.sim.kernel.tier_pool import TierPool
from agentserve_gym.sim.scenario import (
    GIB,
    ClusterSpec,
    CxlSpec,
    DramSpec,
    HostLinkSpec,
    NodeSpec,
    TierSpec,
)

GIGA = 1e9


def build_topology(
    cluster: ClusterSpec, block_size_tokens: int, instances: Iterable[Instance]
) -> Topology:
    """The memories below HBM and the paths between all memories.

    A tier holds one copy of KV that an instance's ranks have copies of; each of them loads it over
    its own link. Where the instances that reach a memory have KV of several kinds, each kind has a
    pool of its own there, with the share of the memory that its GPUs have among theirs.

    Raises:
        ValueError: a tier holds less than one block.
    """
    topology = Topology(block_size_tokens)
    by_node: list[list[Instance]] = [[] for _ in cluster.nodes]
    for instance in instances:
        by_node[instance.node].append(instance)
    for node, members in zip(cluster.nodes, by_node, strict=True):
        _build_node(topology, node, cluster, members)
    drams = _build_dram(topology, cluster, by_node)
    if cluster.cxl is not None:
        _build_cxl(topology, cluster, cluster.cxl, by_node)
    for spec in cluster.tiers:
        _build_tier(topology, cluster, spec, drams, by_node)
    return topology


def _link(topology: Topology, name: str, gbps: float, latency_us: float = 0.0) -> Link:
    link = topology.links[name] = Link(name, gbps * GIGA, latency_us * 1e-6)
    return link


class _Both(NamedTuple):
    """The links to and from a memory."""

    write: Links
    read: Links


def _memory(topology: Topology, name: str, gbps: float, latency_us: float = 0.0) -> _Both:
    """Links of a memory whose writes and reads share one bandwidth."""
    write = _link(topology, f"{name} write", gbps, latency_us)
    read = _link(topology, f"{name} read", gbps, latency_us)
    join(write, read, gbps * GIGA)
    return _Both((write,), (read,))


_NO_LINKS = _Both((), ())


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


Pools = dict[int, BlockPool]
"""The pools of one memory by kind of KV."""


def _pools(
    size_tokens: int,
    name: str,
    spec: DramSpec | CxlSpec | TierSpec,
    where: str,
    instances: Sequence[Instance],
) -> Pools:
    """Divide a memory among the kinds of KV of the instances that reach it, by their GPUs."""
    capacity_gib = spec.capacity_gib
    gpus: Counter[int] = Counter()
    for instance in instances:
        gpus[instance.kv_kind] += instance.spec.tensor_parallel
    llms = {instance.kv_kind: instance.llm for instance in instances}
    pools: Pools = {}
    for kind, llm in llms.items():
        share = gpus[kind] / gpus.total()
        block_bytes = size_tokens * llm.kv_bytes_per_token
        blocks = int(capacity_gib * share * GIB // block_bytes)
        of = _owner(llm, llms.values())
        if blocks == 0:
            has = f", of which{of} has {share:.0%}" if of else ""
            raise ValueError(
                f"{where}.capacity_gib is {capacity_gib}{has}: less than one KV block "
                f"({block_bytes / GIB:.3g} GiB)"
            )
        pools[kind] = _pool(name + of, blocks, spec.eviction, llm.is_hybrid)
    return pools


def _owner(llm: Model, sharers: Collection[Model]) -> str:
    """What tells the pool of one kind of KV from the others of a memory."""
    if len(sharers) == 1:
        return ""
    namesakes = sum(other.name == llm.name for other in sharers)
    return f" {llm.name} {llm.kv_dtype}" if namesakes > 1 else f" {llm.name}"


def _build_node(
    topology: Topology, node: NodeSpec, cluster: ClusterSpec, members: list[Instance]
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
    for instance in members:
        _build_instance(topology, instance, node.host_link or _host_link(instance.spec.accelerator))


def _host_link(gpu: str) -> HostLinkSpec:
    """The catalogue's link between a GPU and its host."""
    found = link(accelerator(gpu).host_link)
    return HostLinkSpec(
        bandwidth_gbps=found.to_device_gb_per_s,
        to_host_gbps=found.from_device_gb_per_s,
        duplex_gbps=found.bidirectional_gb_per_s,
        latency_us=found.latency_s * 1e6,
    )


def _build_instance(topology: Topology, instance: Instance, host: HostLinkSpec) -> None:
    """Links of an instance: each rank that its KV is spread over has a host link."""
    index = len(topology.node_of)
    ranks = instance.llm.kv_ranks(instance.spec.tensor_parallel)
    to_host_gbps = host.to_host_gbps or host.bandwidth_gbps
    out = _link(topology, f"instance {index} d2h", to_host_gbps * ranks, host.latency_us)
    back = _link(topology, f"instance {index} h2d", host.bandwidth_gbps * ranks, host.latency_us)
    if host.duplex_gbps is not None:
        join(out, back, host.duplex_gbps * ranks * GIGA)
    topology.node_of.append(instance.node)
    topology.kv_kinds.append(instance.kv_kind)
    topology.block_bytes.append(topology.block_size_tokens * instance.llm.kv_bytes_per_token)
    topology.besides_bytes.append(instance.llm.constant_kv_bytes)
    topology.to_host.append((out,))
    topology.from_host.append((back,))


def _build_dram(
    topology: Topology, cluster: ClusterSpec, by_node: list[list[Instance]]
) -> list[_Both]:
    """The tier, where any node has it; returns the links of each node's memory, if it is known."""
    drams: list[_Both] = []
    reached: list[_Reached | None] = []
    size_tokens = topology.block_size_tokens
    for node, members in zip(cluster.nodes, by_node, strict=True):
        spec = node.dram
        if spec is None:
            drams.append(_NO_LINKS)
            reached.append(None)
            continue
        name = f"{node.name} dram"
        pools = _pools(size_tokens, name, spec, f"{node.name}.dram", members)
        links = _memory(topology, name, spec.bandwidth_gbps, spec.latency_us)
        drams.append(links)
        reached.append(_Reached(pools, *links))
    if any(reached):
        _connect(topology, "dram", reached)
    return drams


def _build_cxl(
    topology: Topology, cluster: ClusterSpec, spec: CxlSpec, by_node: list[list[Instance]]
) -> None:
    members = _members(cluster, spec.nodes, by_node)
    pools = _pools(topology.block_size_tokens, "cxl", spec, "cluster.cxl", members)
    shared = _NO_LINKS
    if spec.pool_bandwidth_gbps is not None:
        shared = _memory(topology, "cxl pool", spec.pool_bandwidth_gbps)
    reached: list[_Reached | None] = []
    for node in cluster.nodes:
        if node.name not in spec.nodes:
            reached.append(None)
            continue
        write = _link(topology, f"{node.name} cxl write", spec.bandwidth_gbps, spec.latency_us)
        read = _link(topology, f"{node.name} cxl read", spec.bandwidth_gbps, spec.latency_us)
        reached.append(_Reached(pools, (write, *shared.write), (*shared.read, read)))
    _connect(topology, "cxl", reached)


def _build_tier(
    topology: Topology,
    cluster: ClusterSpec,
    spec: TierSpec,
    drams: list[_Both],
    by_node: list[list[Instance]],
) -> None:
    """A further tier; staged transfers cross the node's memory on their way."""
    where, size_tokens = f"cluster.tiers: {spec.name}", topology.block_size_tokens
    common: Pools = {}
    cap = _NO_LINKS
    if spec.pool_gbps is not None:
        cap = _memory(topology, f"{spec.name} pool", spec.pool_gbps)
    if spec.shared:
        sharers = _members(cluster, spec.nodes, by_node)
        common = _pools(size_tokens, spec.name, spec, where, sharers)
    reached: list[_Reached | None] = []
    for node, dram, members in zip(cluster.nodes, drams, by_node, strict=True):
        if spec.nodes is not None and node.name not in spec.nodes:
            reached.append(None)
            continue
        name = f"{node.name} {spec.name}"
        write = _link(topology, f"{name} write", spec.write_gbps, spec.latency_us)
        read = _link(topology, f"{name} read", spec.read_gbps, spec.latency_us)
        if spec.mixed_gbps is not None:
            join(write, read, spec.mixed_gbps * GIGA)
        stage = dram if spec.staged else _NO_LINKS
        pools = common or _pools(size_tokens, name, spec, where, members)
        reached.append(
            _Reached(pools, (*stage.write, write, *cap.write), (*cap.read, read, *stage.read))
        )
    _connect(topology, spec.name, reached)


def _members(
    cluster: ClusterSpec, nodes: Iterable[str] | None, by_node: list[list[Instance]]
) -> list[Instance]:
    """The instances of some nodes, or of all."""
    names = {node.name for node in cluster.nodes} if nodes is None else set(nodes)
    return [
        instance
        for node, members in zip(cluster.nodes, by_node, strict=True)
        if node.name in names
        for instance in members
    ]


class _Reached(NamedTuple):
    """What the instances of a node reach of a tier: its pools, and the links to and from it."""

    pools: Pools
    write: Links
    read: Links


def _connect(topology: Topology, name: str, reached: list[_Reached | None]) -> None:
    """Add a tier that the instances of some nodes reach."""
    tier = topology.add_tier(name)
    for node, kind, to_host, from_host in zip(
        topology.node_of, topology.kv_kinds, topology.to_host, topology.from_host, strict=True
    ):
        found = reached[node]
        if found is None:
            tier.connect(None)
        else:
            tier.connect(found.pools[kind], to_host, found.write, found.read, from_host)
