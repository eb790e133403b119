"""Scenarios: cluster, engine limits, workload and objective as one validated value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from agentserve_gym.workloads import (
    ArrivalSpec,
    GeneratedWorkload,
    InlineWorkload,
    WorkloadSpec,
)
from agentserve_gym.workloads.spec import ModelName
from agentserve_gym.workloads.validation import MOST_FAILURES

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
PositiveInt = Annotated[int, Field(gt=0)]
GIB = 1024**3

MOST_INSTANCES = 10_000
"""Of a cluster. A run of so many takes 0.2 GiB before the first program; a wrong digit would take
all memory."""
Instances = Annotated[int, Field(gt=0, le=MOST_INSTANCES)]
KvDtype = Literal["bf16", "fp8"]
Gibibytes = Annotated[float, Field(gt=0, le=1e9)]
Eviction = Literal["lru", "arc"]


class StrictModel(BaseModel):
    """Unknown keys are errors, values are immutable, snapshots share them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Any:
        return self


class LinkSpec(StrictModel):
    """A channel. ``duplex_gbps`` caps the sum of both directions where the hardware does; they
    share it fairly while both have work."""

    bandwidth_gbps: Positive = Field(description="gigabytes per second, each direction")
    latency_us: NonNegative = 10.0
    duplex_gbps: Positive | None = None


class HostLinkSpec(LinkSpec):
    """The link between a GPU and its host. ``to_host_gbps`` is the rate of that direction where it
    is not that of the other."""

    to_host_gbps: Positive | None = None


class DramSpec(StrictModel):
    """Host memory of a node that may hold KV; its bandwidth is shared by the node's instances,
    and by writes and reads. ``eviction``: see `TierSpec`."""

    capacity_gib: Gibibytes
    bandwidth_gbps: Positive = 256.0
    latency_us: NonNegative = 0.1
    eviction: Eviction = "lru"


class CxlSpec(StrictModel):
    """A CXL pool. ``bandwidth_gbps`` is each node's port, each direction; ``pool_bandwidth_gbps``
    caps the sum over all nodes (default: no cap). ``eviction``: see `TierSpec`."""

    nodes: list[str] = Field(min_length=1)
    capacity_gib: Gibibytes
    bandwidth_gbps: Positive
    pool_bandwidth_gbps: Positive | None = None
    latency_us: NonNegative = 0.6
    eviction: Eviction = "lru"


class TierSpec(StrictModel):
    """A further memory tier, such as the NVMe SSDs of each node. Tiers count down from HBM in this
    order: DRAM, CXL, then these as they are listed.

    Attributes:
        name: what policies, observations and reports call it.
        nodes: who has it; default: every node.
        shared: one pool that its nodes share, instead of one per node.
        capacity_gib: of each pool.
        read_gbps, write_gbps: of each node, gigabytes per second; ``mixed_gbps`` caps their sum,
            which both share fairly.
        pool_gbps: caps the sum over all nodes of a shared pool, writes and reads together; default:
            no cap.
        latency_us: per transfer.
        staged: transfers also cross the DRAM of the node. Without it, devices reach HBM directly
            (GPUDirect Storage).
        eviction: what a full pool loses first: what was used least recently (``lru``), or, as ARC
            balances the two, that or what was used least often (``arc``).
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=24)]
    nodes: Annotated[list[str], Field(min_length=1)] | None = None
    shared: bool = False
    capacity_gib: Gibibytes
    read_gbps: Positive
    write_gbps: Positive
    mixed_gbps: Positive | None = None
    pool_gbps: Positive | None = None
    latency_us: NonNegative = 100.0
    staged: bool = True
    eviction: Eviction = "lru"

    @model_validator(mode="after")
    def _only_a_shared_pool_has_a_cap_of_its_own(self) -> TierSpec:
        if self.pool_gbps is not None and not self.shared:
            raise ValueError(
                f"pool_gbps is {self.pool_gbps}, but shared is false; allowed: only with "
                "shared = true"
            )
        return self


class InstanceSpec(StrictModel):
    """``count`` equal serving engines, or groups of them.

    Attributes:
        accelerator: name in the catalogue, or a file.
        tensor_parallel: GPUs per engine.
        data_parallel: engines per group; each is an instance of its own to the router.
        expert_parallel: GPUs over which a group spreads whole experts: 1, or all of the group's.
            Engines of a group with expert parallelism step together.
        kv_blocks: KV pool of one engine, where it was reported; otherwise it is derived.
        timing: source of iteration times: ``auto``, ``compact``, ``roofline``, a coefficient file
            (``.toml``), or a folder of profile tables.
        model, kv_dtype: what it serves, and the precision of its KV; default: the cluster's.
    """

    accelerator: str
    tensor_parallel: PositiveInt = 1
    data_parallel: Instances = 1
    expert_parallel: PositiveInt = 1
    count: Instances = 1
    kv_blocks: PositiveInt | None = None
    timing: str = "auto"
    model: ModelName | None = None
    kv_dtype: KvDtype | None = None

    @property
    def num_instances(self) -> int:
        """Instances that a router sees: every engine of every group."""
        return self.count * self.data_parallel

    @model_validator(mode="after")
    def _experts_spread_over_the_group(self) -> InstanceSpec:
        gpus = self.tensor_parallel * self.data_parallel
        if self.expert_parallel not in (1, gpus):
            raise ValueError(
                f"expert_parallel is {self.expert_parallel}; allowed: 1 or {gpus} "
                "(tensor_parallel x data_parallel)"
            )
        return self


class NodeSpec(StrictModel):
    """A host: instances that share DRAM. ``host_link`` is per GPU; default: that of each
    accelerator in the catalogue. ``peer_link`` joins instances of the node directly (NVLink);
    without it, and without a network, KV does not move between them."""

    name: str
    instances: list[InstanceSpec] = Field(min_length=1)
    host_link: HostLinkSpec | None = None
    peer_link: LinkSpec | None = None
    dram: DramSpec | None = None


class ClusterSpec(StrictModel):
    """Models served by instances on nodes.

    ``model`` is what instances serve that say nothing else, and what serves programs that name no
    model. ``kv_dtype`` is the precision of its KV, in engines and tiers: ``bf16`` or ``fp8``;
    default: the model's own.
    """

    model: str
    kv_dtype: KvDtype | None = None
    nodes: list[NodeSpec] = Field(min_length=1)
    cxl: CxlSpec | None = None
    tiers: list[TierSpec] = []
    network: LinkSpec | None = Field(default=None, description="between nodes, per node")

    @property
    def num_instances(self) -> int:
        """Instances that a router sees, over all nodes."""
        return sum(spec.num_instances for node in self.nodes for spec in node.instances)

    @property
    def models(self) -> tuple[str, ...]:
        """The models served, in the order of instances."""
        served = [spec.model or self.model for node in self.nodes for spec in node.instances]
        return tuple(dict.fromkeys(served))

    @property
    def tier_names(self) -> tuple[str, ...]:
        """The tiers below HBM, nearest first."""
        found = ["dram"] if any(node.dram is not None for node in self.nodes) else []
        found += ["cxl"] if self.cxl is not None else []
        return (*found, *(tier.name for tier in self.tiers))

    @model_validator(mode="after")
    def _instances_fit_in_memory(self) -> ClusterSpec:
        number = sum(
            spec.count * spec.data_parallel for node in self.nodes for spec in node.instances
        )
        if number > MOST_INSTANCES:
            raise ValueError(
                f"the nodes have {number} instances (count x data_parallel) together; allowed: at "
                f"most {MOST_INSTANCES}"
            )
        return self

    @model_validator(mode="after")
    def _default_is_served(self) -> ClusterSpec:
        if self.model not in self.models:
            raise ValueError(
                f"model is {self.model!r}, which no instance serves; allowed: one of "
                f"{', '.join(self.models)}, for programs that name no model"
            )
        return self

    @model_validator(mode="after")
    def _names_agree(self) -> ClusterSpec:
        names = [node.name for node in self.nodes]
        if len(set(names)) != len(names):
            raise ValueError(f"node names must differ, got {names}")
        for name in self.cxl.nodes if self.cxl else ():
            if name not in names:
                raise ValueError(f"cxl.nodes names {name!r}; the nodes are {names}")
        taken = ["hbm", "dram", "cxl"]
        for number, tier in enumerate(self.tiers):
            if tier.name in taken:
                raise ValueError(
                    f"tiers.{number}.name is {tier.name!r}; allowed: a name that no other tier has "
                    f"({', '.join(taken)})"
                )
            taken.append(tier.name)
            for name in tier.nodes or ():
                if name not in names:
                    raise ValueError(f"tiers.{number}.nodes names {name!r}; the nodes are {names}")
        return self


class EngineSpec(StrictModel):
    """Limits of every engine, with the defaults of vLLM's API server.

    Attributes:
        max_num_seqs, max_num_batched_tokens: turns and tokens in a step. Default, by the GPU of an
            instance: 1,024 and 8,192 where it has 70 GiB or more and is no A100, else 256 and 2,048
            (`step_limits` tells which).
        max_cudagraph_tokens: largest step that runs as a CUDA graph; a data-parallel group pads its
            expert layers in these steps only. Default: vLLM's, min(2 x max_num_seqs, 512).
        pins: ``hard`` ones break only where nothing else on their instance can make progress, those
            of the programs that arrived last first; ``soft`` ones at any shortage of blocks, the
            latest deadline first.
        loads: whether KV is loaded ``before`` its turn is admitted, as vLLM's connector does, or
            while the turn prefills, ``layerwise``, as LMCache and HiCache do: a layer is computed
            once its KV is there, so that a step with loads ends one layer after the last of them,
            or later.
        preemption_victim: whom a shortage of blocks preempts: the turn that was admitted last, the
            one with the fewest tokens, which is the cheapest to recompute, or the one of the lowest
            priority. Preempted turns go to the front of the queue; the last rule, vLLM's policy
            ``priority``, queues them by their priority.
        software: serving software of the catalogue, or a file, whose host time every step gets;
            ``auto``: that of the coefficients, where they name one; ``none``: kernels alone.
        native_offloading: every instance copies what a turn computed to its nearest lower tier, as
            vLLM's native KV offloading does, whatever policies place.
    """

    max_num_seqs: PositiveInt | None = None
    max_num_batched_tokens: PositiveInt | None = None
    block_size_tokens: Annotated[int, Field(gt=0, le=4096)] = 16
    memory_utilization: Annotated[float, Field(gt=0, le=1)] = 0.9
    async_scheduling: bool = True
    pins: Literal["hard", "soft"] = "hard"
    loads: Literal["before", "layerwise"] = "before"
    max_cudagraph_tokens: PositiveInt | None = None
    preemption_victim: Literal["last_admitted", "fewest_tokens", "lowest_priority"] = (
        "last_admitted"
    )
    software: str = "auto"
    native_offloading: bool = False


class RouterSpec(StrictModel):
    """What the router knows of instances, and whom it offers first.

    Attributes:
        signal_delay_s: how old the instance signals are that policies see.
        load_signal: ``live`` shows loads as they are (less the delay); ``step_end`` as vLLM's
            metrics do: as they were when the last step ended, without the turns that came or were
            admitted since. A long prefill then hides what it admitted until it ends, and the delay
            is that of cached blocks alone.
        held_order: who is offered first among held turns.
        reoffer_s: held turns are offered again this long after the last time, even if no turn ended
            and no KV blocks came free meanwhile: rules that go by time need to be asked.
        session_timeout_s: a program whose last turn handed over to a person stays in the router's
            table this long: nobody knows that the person will not come back.
    """

    signal_delay_s: NonNegative = 0.0
    load_signal: Literal["live", "step_end"] = "live"
    held_order: Literal["turn_arrival", "program_arrival", "shortest_context"] = "turn_arrival"
    reoffer_s: Positive = 2.0
    session_timeout_s: Positive = 30.0


class ToolDurationSpec(StrictModel):
    """A mixture of log-normals (parameters of log seconds), cut at ``cap_s``."""

    weights: list[Positive] = Field(min_length=1)
    mu: list[Annotated[float, Field(allow_inf_nan=False)]]
    sigma: list[NonNegative]
    cap_s: Positive = 600.0

    @model_validator(mode="after")
    def _lengths_agree(self) -> ToolDurationSpec:
        if not len(self.weights) == len(self.mu) == len(self.sigma):
            raise ValueError(
                f"weights, mu and sigma must be equally long, got {len(self.weights)}, "
                f"{len(self.mu)} and {len(self.sigma)}"
            )
        return self


class ToolSpec(StrictModel):
    """How the tool hosts behave on top of the workload's own durations.

    Attributes:
        concurrency: most simultaneous calls per tool kind; others queue. Kinds not named: no limit.
        failure_probability: chance that an attempt of a call fails and is tried again.
        max_retries: attempts after the first.
        retry_delay_s: wait before each retry.
        timeout_s: an attempt is cut here (none: no cut).
        slowdown_per_call: each other running call stretches a call that starts by this fraction.
        durations: kinds whose durations are drawn anew instead of replayed from the program; a gap
            without listed tools counts as one call of its gap kind (``tool`` or ``user``).
    """

    durations: dict[str, ToolDurationSpec] = {}

    concurrency: dict[str, PositiveInt] = {}
    failure_probability: Annotated[float, Field(ge=0, lt=1)] = 0.0
    max_retries: Annotated[int, Field(ge=0, le=MOST_FAILURES)] = 2
    retry_delay_s: NonNegative = 1.0
    timeout_s: Positive | None = None
    slowdown_per_call: NonNegative = 0.0


class ObjectiveSpec(StrictModel):
    """What the reward measures. ``jct_unit_s``: the return is minus mean JCT in this unit."""

    jct_unit_s: Positive = 100.0
    slowdown_unit: Positive = 10.0
    slo_ttft_s: Positive = 5.0
    slo_tpot_s: Positive = 0.1


class Scenario(StrictModel):
    """Everything that a simulation needs but the seed.

    ``pin_ttls_s`` are the times for which the environments pin, ``pin_until_return_s`` how long a
    pin until the program returns lasts at most: by default the 120 s that coding agents give a
    command, so that it outlasts nearly all tools, but not people.
    """

    name: str
    description: str = ""
    cluster: ClusterSpec
    workload: WorkloadSpec
    arrivals: ArrivalSpec
    engine: EngineSpec = EngineSpec()
    router: RouterSpec = RouterSpec()
    tools: ToolSpec = ToolSpec()
    pin_ttls_s: list[Positive] = [2.0, 20.0]
    pin_until_return_s: Positive = 120.0
    objective: ObjectiveSpec = ObjectiveSpec()
    horizon_s: Positive | None = None

    @model_validator(mode="after")
    def _named_models_are_served(self) -> Scenario:
        served = self.cluster.models
        for place, model in _named_models(self.workload):
            if model not in served:
                raise ValueError(
                    f"workload.{place} is {model!r}, which no instance serves; allowed: "
                    f"{', '.join(served)}"
                )
        return self


def _named_models(workload: WorkloadSpec) -> Iterator[tuple[str, str]]:
    """Models that a workload maps classes to, each with its place there."""
    if isinstance(workload, InlineWorkload):
        return
    for name, model in workload.models.items():
        yield f"models.{name}", model
    if isinstance(workload, GeneratedWorkload):
        for name, model in workload.sub_agent_models.items():
            yield f"sub_agent_models.{name}", model
