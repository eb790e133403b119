"""From a cluster's description to the list of its instances, each with the model that it serves."""

from __future__ import annotations

from typing import NamedTuple

from agentserve_gym.hardware import Model, model
from agentserve_gym.sim.scenario import ClusterSpec, InstanceSpec


class Instance(NamedTuple):
    """One instance of a cluster.

    Attributes:
        spec: its description. ``rank``: its place in its data-parallel group.
        node: the number of its node.
        model: what it serves, as the scenario names it.
        llm: that model, with the precision of the KV.
        kv_kind: instances of one kind can use each other's KV: they serve one model and keep its
            KV in one precision.
    """

    spec: InstanceSpec
    rank: int
    node: int
    model: str
    llm: Model
    kv_kind: int


def list_instances(cluster: ClusterSpec) -> list[Instance]:
    """Every instance, in the order in which routers number them.

    Raises:
        ValueError: for a model that is not known.
    """
    kinds: dict[tuple[str, str], int] = {}
    found: list[Instance] = []
    for number, node in enumerate(cluster.nodes):
        for spec in node.instances:
            name = spec.model or cluster.model
            llm = model(name, spec.kv_dtype or cluster.kv_dtype)
            kind = kinds.setdefault((name, llm.kv_dtype), len(kinds))
            found += [
                Instance(spec, member % spec.data_parallel, number, name, llm, kind)
                for member in range(spec.num_instances)
            ]
    return found
