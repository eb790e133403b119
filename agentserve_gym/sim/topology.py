"""From a cluster's description to the memories and paths of the simulation."""

from __future__ import annotations

from agentserve_gym.sim.kernel.links import Link, Path
from agentserve_gym.sim.kernel.memory import Links, Topology
from agentserve_gym.sim.kernel.pools import BlockPool
from agentserve_gym.sim.scenario import GIB, ClusterSpec, InstanceSpec, LinkSpec, NodeSpec

GIGA = 1e9


def build_topology(
    cluster: ClusterSpec, block_size_tokens: int, kv_bytes_per_token: float
) -> Topology:
    """The memories below HBM and the paths between all memories.

    Raises:
        ValueError: a tier holds less than one block.
    """
    topology = Topology(block_size_tokens, block_size_tokens * kv_bytes_per_token)
    topology.cxl = _build_cxl(topology, cluster)
    for number, node in enumerate(cluster.nodes):
        _build_node(topology, number, node, cluster)
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


def _build_cxl(topology: Topology, cluster: ClusterSpec) -> BlockPool | None:
    if cluster.cxl is None:
        return None
    if cluster.cxl.pool_bandwidth_gbps is not None:
        _link(topology, "cxl pool", cluster.cxl.pool_bandwidth_gbps)
    return BlockPool("cxl", _blocks(topology, cluster.cxl.capacity_gib, "cluster.cxl"))


def _build_node(topology: Topology, number: int, node: NodeSpec, cluster: ClusterSpec) -> None:
    name = node.name
    dram, pool = node.dram, None
    links: Links = ()
    if dram is not None:
        blocks = _blocks(topology, dram.capacity_gib, f"{name}.dram")
        pool = BlockPool(f"{name} dram", blocks)
        links = (_link(topology, f"{name} dram", dram.bandwidth_gbps, dram.latency_us),)
    topology.dram.append(pool)
    peer = node.peer_link
    topology.peer.append(
        _link(topology, f"{name} peer", peer.bandwidth_gbps, peer.latency_us) if peer else None
    )
    ports = _cxl_port(topology, node, cluster)
    network = cluster.network
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
            _build_instance(topology, number, spec, node.host_link, links, ports)


def _cxl_port(topology: Topology, node: NodeSpec, cluster: ClusterSpec) -> tuple[Links, Links]:
    """Links for writing to and reading from the CXL pool."""
    cxl = cluster.cxl
    if cxl is None or node.name not in cxl.nodes:
        return (), ()
    shared = (topology.links["cxl pool"],) if "cxl pool" in topology.links else ()
    write = _link(topology, f"{node.name} cxl write", cxl.bandwidth_gbps, cxl.latency_us)
    read = _link(topology, f"{node.name} cxl read", cxl.bandwidth_gbps, cxl.latency_us)
    return (write, *shared), (read, *shared)


def _build_instance(
    topology: Topology,
    node: int,
    spec: InstanceSpec,
    host: LinkSpec,
    dram: Links,
    cxl: tuple[Links, Links],
) -> None:
    index = len(topology.node_of)
    gbps = host.bandwidth_gbps * spec.tensor_parallel
    out = _link(topology, f"instance {index} d2h", gbps, host.latency_us)
    back = _link(topology, f"instance {index} h2d", gbps, host.latency_us)
    both: Links = ()
    if host.duplex_gbps is not None:
        duplex_gbps = host.duplex_gbps * spec.tensor_parallel
        both = (_link(topology, f"instance {index} duplex", duplex_gbps),)
    to_host, from_host = (out, *both), (back, *both)
    topology.node_of.append(node)
    topology.reaches_cxl.append(bool(cxl[0]))
    topology.to_host.append(to_host)
    topology.from_host.append(from_host)
    topology.offload_paths.append((Path(to_host + dram), Path(to_host + cxl[0])))
    topology.load_paths.append((Path(dram + from_host), Path(cxl[1] + from_host)))
