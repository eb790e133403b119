"""From a scenario to the parts of a simulation: engines, workload, and what policies see."""

from __future__ import annotations

from agentserve_gym.hardware import (
    LatencyModel,
    Model,
    hybrid_blocks,
    kv_pool_blocks,
    latency_model,
    model,
)
from agentserve_gym.hardware.pricing.lockstep import SharedExpertLatency, largest_graph_tokens
from agentserve_gym.sim.kernel.engine import Engine
from agentserve_gym.sim.kernel.events import Clock
from agentserve_gym.sim.kernel.host import Host
from agentserve_gym.sim.kernel.limits import EngineLimits, Footprint
from agentserve_gym.sim.kernel.memory import Topology
from agentserve_gym.sim.kernel.pools import BlockPool
from agentserve_gym.sim.kernel.residency import Residency
from agentserve_gym.sim.kernel.stepper import LockstepStepper, SingleStepper, Stepper
from agentserve_gym.sim.kernel.tool_statistics import ToolStatistics
from agentserve_gym.sim.scenario import EngineSpec, InstanceSpec, Scenario
from agentserve_gym.sim.signals import DelayedSignals, LiveSignals, Signals, StepEndSignals
from agentserve_gym.sim.topology import ranks
from agentserve_gym.sim.views import ClusterView, InstanceView
from agentserve_gym.workloads import GeneratedWorkload, Program, Workload, build_workload
from agentserve_gym.workloads.build import largest_window_floor


def build_engines(scenario: Scenario, clock: Clock, host: Host, *, fused: bool) -> list[Engine]:
    """One engine per instance; those of a group with expert parallelism share a stepper.

    Raises:
        ValueError: unknown hardware, or a model that does not fit.
    """
    spec = scenario.engine
    limits = EngineLimits(
        spec.max_num_seqs,
        spec.max_num_batched_tokens,
        spec.block_size_tokens,
        spec.async_scheduling,
        spec.reclaim_unexpired_pins,
        spec.preemption_victim,
        Footprint(*hybrid_blocks(_model(scenario), spec.block_size_tokens)),
    )
    latencies: dict[InstanceSpec, LatencyModel] = {}
    engines: list[Engine] = []
    stepper: Stepper | None = None
    for index, (instance, rank) in enumerate(ranks(scenario.cluster)):
        if instance not in latencies:
            latencies[instance] = _latency(scenario, instance)
        latency = latencies[instance]
        if stepper is None or rank == 0 or instance.expert_parallel == 1:
            stepper = _stepper(instance, latency, clock, spec, fused)
        blocks = _kv_blocks(scenario, instance)
        pool = BlockPool(f"instance {index} hbm", blocks, whole_only=_model(scenario).is_hybrid)
        engines.append(Engine(index, limits, latency, pool, clock, host, stepper))
    return engines


def _model(scenario: Scenario) -> Model:
    return model(scenario.cluster.model, scenario.cluster.kv_dtype)


def _latency(scenario: Scenario, instance: InstanceSpec) -> LatencyModel:
    return latency_model(
        instance.accelerator,
        scenario.cluster.model,
        instance.tensor_parallel,
        expert_parallel=instance.expert_parallel,
        data_parallel=instance.data_parallel if instance.expert_parallel > 1 else 1,
        kv_dtype=scenario.cluster.kv_dtype,
        source=instance.timing,
        software=scenario.engine.software,
    )


def _stepper(
    instance: InstanceSpec, latency: LatencyModel, clock: Clock, spec: EngineSpec, fused: bool
) -> Stepper:
    lockstep = instance.expert_parallel > 1 and instance.data_parallel > 1
    timing = {"async_scheduling": spec.async_scheduling, "fused": fused}
    if lockstep and isinstance(latency, SharedExpertLatency):
        graphs = spec.max_cudagraph_tokens or largest_graph_tokens(spec.max_num_seqs)
        return LockstepStepper(latency, graphs, clock, **timing)
    return SingleStepper(latency, clock, **timing)


def _kv_blocks(scenario: Scenario, instance: InstanceSpec) -> int:
    if instance.kv_blocks is not None:
        return instance.kv_blocks
    return kv_pool_blocks(
        instance.accelerator,
        _model(scenario),
        instance.tensor_parallel,
        expert_parallel=instance.expert_parallel,
        memory_utilization=scenario.engine.memory_utilization,
        block_size_tokens=scenario.engine.block_size_tokens,
    )


def fitting_workload(scenario: Scenario, engines: list[Engine], seed: int) -> Workload:
    """The scenario's workload for a seed, with every program known to fit the smallest pool.

    Generated programs are cut to fit; a listed program that does not fit is refused.

    Raises:
        ValueError: naming program, tokens and pool, or whatever is wrong with the workload.
    """
    smallest = min((engine.pool for engine in engines), key=lambda pool: pool.capacity)
    size = scenario.engine.block_size_tokens
    room_tokens = (smallest.capacity - 1 - _most_besides(scenario)) * size
    spec = scenario.workload
    if isinstance(spec, GeneratedWorkload):
        window = spec.max_context_tokens
        if window is None:
            name, needed_tokens = largest_window_floor(spec)
            if room_tokens < needed_tokens:
                raise ValueError(
                    f"kv_blocks: {smallest.name} holds {room_tokens} tokens ({smallest.capacity} "
                    f"blocks of {size}); programs of class {name!r} need at least {needed_tokens}"
                )
        if window is not None and window > room_tokens:
            raise ValueError(
                f"workload.max_context_tokens is {window}, but {smallest.name} holds "
                f"{room_tokens} tokens ({smallest.capacity} blocks of {size})"
            )
        spec = spec.model_copy(update={"max_context_tokens": window or room_tokens})
        return build_workload(spec, scenario.arrivals, seed)
    workload = build_workload(spec, scenario.arrivals, seed)
    for index in range(len(workload)):
        _check_fits(workload.program(index), room_tokens, smallest.name)
    return workload


def _most_besides(scenario: Scenario) -> int:
    """Most blocks that a turn needs besides those of its context, as it is admitted."""
    size = scenario.engine.block_size_tokens
    besides = hybrid_blocks(_model(scenario), size)
    chunk = scenario.engine.max_num_batched_tokens // size
    return besides.windows + besides.states + besides.passing * chunk


def _check_fits(program: Program, room_tokens: int, pool: str) -> None:
    if program.peak_context_tokens > room_tokens:
        raise ValueError(
            f"program {program.program_id!r} needs {program.peak_context_tokens} tokens of KV, but "
            f"{pool} holds {room_tokens}"
        )
    for turn in program.turns:
        for child in turn.children:
            _check_fits(child, room_tokens, pool)


def _signals(scenario: Scenario, engine: Engine, clock: Clock) -> Signals:
    """Where the router's knowledge of an engine comes from."""
    delay_s = scenario.router.signal_delay_s
    signals: Signals = DelayedSignals(engine, clock, delay_s) if delay_s else LiveSignals(engine)
    if scenario.router.load_signal == "step_end":
        return StepEndSignals(engine, clock, signals)
    return signals


def build_view(
    scenario: Scenario,
    topology: Topology,
    engines: list[Engine],
    residency: Residency,
    tools: ToolStatistics,
    clock: Clock,
) -> ClusterView:
    """What policies may see of the cluster."""
    limits = scenario.engine
    views = [
        InstanceView(
            engine.index,
            topology.node_of[engine.index],
            spec.accelerator,
            spec.tensor_parallel,
            engine.latency,
            engine.pool.capacity,
            limits.block_size_tokens,
            limits.max_num_seqs,
            limits.max_num_batched_tokens,
            _signals(scenario, engine, clock),
        )
        for engine, (spec, _) in zip(engines, ranks(scenario.cluster), strict=True)
    ]
    return ClusterView(views, residency, engines, tools, clock)
