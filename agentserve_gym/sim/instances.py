"""From a cluster's description to the list of its instances, each with the model that it serves."""

from __future__ import annotations

from typing import NamedTuple

from agentserve_gym.hardware import Model, accelerator, model
from agentserve_gym.sim.scenario import ClusterSpec, EngineSpec, InstanceSpec


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


class StepLimits(NamedTuple):
    """Most turns and most tokens in a step of an engine."""

    max_num_seqs: int
    max_num_batched_tokens: int


_LARGE_GPU = StepLimits(1024, 8192)
_SMALL_GPU = StepLimits(256, 2048)
_LARGE_FROM_GIB = 70.0


def step_limits(engine: EngineSpec, gpu: str) -> StepLimits:
    """The limits of engines on an accelerator: the scenario's, or vLLM's API server's defaults.

    Raises:
        ValueError: for an accelerator that is not known, or a step with fewer tokens than turns.
    """
    large = accelerator(gpu).memory_gib >= _LARGE_FROM_GIB and "a100" not in gpu.lower()
    default = _LARGE_GPU if large else _SMALL_GPU
    limits = StepLimits(
        engine.max_num_seqs or default.max_num_seqs,
        engine.max_num_batched_tokens or default.max_num_batched_tokens,
    )
    if limits.max_num_batched_tokens < limits.max_num_seqs:
        raise ValueError(
            f"engine.max_num_batched_tokens is {limits.max_num_batched_tokens}"
            f"{_whose(engine.max_num_batched_tokens, gpu)}; it must be at least "
            f"engine.max_num_seqs, which is {limits.max_num_seqs}{_whose(engine.max_num_seqs, gpu)}"
        )
    return limits


def _whose(given: int | None, gpu: str) -> str:
    return "" if given is not None else f" (the default on {gpu})"
