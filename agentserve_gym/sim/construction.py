"""From a scenario to the parts of a simulation: engines, workload, and what policies see."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from agentserve_gym.hardware import (
    LatencyModel,
    Model,
    hybrid_blocks,
    kv_pool_blocks,
    latency_model,
)
from agentserve_gym.hardware.pricing.lockstep import SharedExpertLatency, largest_graph_tokens
from agentserve_gym.sim.instances import Instance, StepLimits, step_limits
from agentserve_gym.sim.kernel.engine import Engine
from agentserve_gym.sim.kernel.events import Clock
from agentserve_gym.sim.kernel.host import Host
from agentserve_gym.sim.kernel.limits import EngineLimits, Footprint
from agentserve_gym.sim.kernel.pools import BlockPool
from agentserve_gym.sim.kernel.residency import Residency
from agentserve_gym.sim.kernel.stepper import LockstepStepper, SingleStepper, Stepper
from agentserve_gym.sim.kernel.tool_statistics import ToolStatistics
from agentserve_gym.sim.scenario import EngineSpec, InstanceSpec, Scenario
from agentserve_gym.sim.signals import DelayedSignals, LiveSignals, Signals, StepEndSignals
from agentserve_gym.sim.views import ClusterView, InstanceView
from agentserve_gym.workloads import GeneratedWorkload, Program, Workload, build_workload
from agentserve_gym.workloads.build import window_floors


def build_engines(
    scenario: Scenario, instances: Sequence[Instance], clock: Clock, host: Host, *, fused: bool
) -> list[Engine]:
    """One engine per instance; those of a group with expert parallelism share a stepper.

    Raises:
        ValueError: unknown hardware, or a model that does not fit.
    """
    limits: dict[tuple[int, StepLimits], EngineLimits] = {}
    latencies: dict[InstanceSpec, LatencyModel] = {}
    engines: list[Engine] = []
    stepper: Stepper | None = None
    for index, instance in enumerate(instances):
        spec, sizes = instance.spec, step_limits(scenario.engine, instance.spec.accelerator)
        kind = instance.kv_kind, sizes
        if kind not in limits:
            limits[kind] = _limits(scenario.engine, sizes, instance.llm)
        if spec not in latencies:
            latencies[spec] = _latency(scenario, instance)
        latency = latencies[spec]
        if stepper is None or instance.rank == 0 or spec.expert_parallel == 1:
            stepper = _stepper(spec, latency, clock, scenario.engine, sizes, fused)
        blocks = _kv_blocks(scenario, instance)
        pool = BlockPool(
            f"instance {index} hbm",
            blocks,
            whole_only=instance.llm.is_hybrid,
            hard_pins=limits[kind].hard_pins,
        )
        engines.append(Engine(index, limits[kind], latency, pool, clock, host, stepper))
    return engines


def _limits(spec: EngineSpec, sizes: StepLimits, llm: Model) -> EngineLimits:
    return EngineLimits(
        sizes.max_num_seqs,
        sizes.max_num_batched_tokens,
        spec.block_size_tokens,
        spec.async_scheduling,
        spec.pins == "hard",
        spec.preemption_victim,
        Footprint(*hybrid_blocks(llm, spec.block_size_tokens)),
    )


def _latency(scenario: Scenario, instance: Instance) -> LatencyModel:
    spec = instance.spec
    return latency_model(
        spec.accelerator,
        instance.model,
        spec.tensor_parallel,
        expert_parallel=spec.expert_parallel,
        data_parallel=spec.data_parallel if spec.expert_parallel > 1 else 1,
        kv_dtype=spec.kv_dtype or scenario.cluster.kv_dtype,
        source=spec.timing,
        software=scenario.engine.software,
    )


def _stepper(
    instance: InstanceSpec,
    latency: LatencyModel,
    clock: Clock,
    spec: EngineSpec,
    sizes: StepLimits,
    fused: bool,
) -> Stepper:
    lockstep = instance.expert_parallel > 1 and instance.data_parallel > 1
    timing = {"async_scheduling": spec.async_scheduling, "fused": fused}
    if lockstep and isinstance(latency, SharedExpertLatency):
        graphs = spec.max_cudagraph_tokens or largest_graph_tokens(sizes.max_num_seqs)
        return LockstepStepper(latency, graphs, clock, **timing)
    return SingleStepper(latency, clock, **timing)


def _kv_blocks(scenario: Scenario, instance: Instance) -> int:
    spec = instance.spec
    if spec.kv_blocks is not None:
        return spec.kv_blocks
    return kv_pool_blocks(
        spec.accelerator,
        instance.llm,
        spec.tensor_parallel,
        expert_parallel=spec.expert_parallel,
        memory_utilization=scenario.engine.memory_utilization,
        block_size_tokens=scenario.engine.block_size_tokens,
    )


def fitting_workload(
    scenario: Scenario, instances: Sequence[Instance], engines: Sequence[Engine], seed: int
) -> Workload:
    """The scenario's workload for a seed, with every program known to fit the smallest pool of the
    instances that serve its model.

    Generated programs are cut to fit; a listed program that does not fit is refused.

    Raises:
        ValueError: naming program, tokens and pool, a model that no instance serves, or whatever is
            wrong with the workload.
    """
    rooms = _rooms(scenario, instances, engines)
    default, spec = scenario.cluster.model, scenario.workload
    if isinstance(spec, GeneratedWorkload):
        windows_tokens = _windows_tokens(spec, rooms, default)
        return build_workload(spec, scenario.arrivals, seed, windows_tokens)
    workload = build_workload(spec, scenario.arrivals, seed)
    for index in range(len(workload)):
        _check_fits(workload.program(index), rooms, default)
    return workload


class _Room(NamedTuple):
    """The longest context that the smallest pool of a model can hold, and that pool."""

    tokens: int
    pool: BlockPool
    block_size_tokens: int

    def __str__(self) -> str:
        return (
            f"{self.pool.name} holds {self.tokens} tokens ({self.pool.capacity} blocks of "
            f"{self.block_size_tokens})"
        )


Rooms = dict[str, _Room]
"""By model."""


def _rooms(scenario: Scenario, instances: Sequence[Instance], engines: Sequence[Engine]) -> Rooms:
    size = scenario.engine.block_size_tokens
    rooms: Rooms = {}
    for instance, engine in zip(instances, engines, strict=True):
        tokens = (engine.pool.capacity - 1 - _most_besides(engine.limits)) * size
        if instance.model not in rooms or tokens < rooms[instance.model].tokens:
            rooms[instance.model] = _Room(tokens, engine.pool, size)
    return rooms


def _most_besides(limits: EngineLimits) -> int:
    """Most blocks that a turn needs besides those of its context, as it is admitted."""
    besides = limits.footprint
    chunk = limits.max_num_batched_tokens // limits.block_size_tokens
    return besides.windows + besides.states + besides.passing * chunk


def _windows_tokens(spec: GeneratedWorkload, rooms: Rooms, default: str) -> dict[str, int]:
    """The window of each agent class: the workload's, or what all that it runs on have room for."""
    given = spec.max_context_tokens
    windows: dict[str, int] = {}
    for name, needed_tokens in window_floors(spec).items():
        own = spec.models.get(name, default)
        room = min(
            rooms[own],
            rooms[spec.sub_agent_models.get(name, own)],
            key=lambda room: room.tokens,
        )
        if given is None and room.tokens < needed_tokens:
            raise ValueError(
                f"kv_blocks: {room}; programs of class {name!r} need at least {needed_tokens}"
            )
        if given is not None and given > room.tokens:
            raise ValueError(f"workload.max_context_tokens is {given}, but {room}")
        windows[name] = given or room.tokens
    return windows


def _check_fits(program: Program, rooms: Rooms, inherited: str) -> None:
    model = program.model or inherited
    if model not in rooms:
        raise ValueError(
            f"program {program.program_id!r} (class {program.agent_class!r}): model is {model!r}, "
            f"which no instance serves; allowed: {', '.join(rooms)}"
        )
    room = rooms[model]
    if program.peak_context_tokens > room.tokens:
        raise ValueError(
            f"program {program.program_id!r} needs {program.peak_context_tokens} tokens of KV, but "
            f"{room.pool.name} holds {room.tokens}"
        )
    for turn in program.turns:
        for child in turn.children:
            _check_fits(child, rooms, model)


def _signals(scenario: Scenario, engine: Engine, clock: Clock) -> Signals:
    """Where the router's knowledge of an engine comes from."""
    delay_s = scenario.router.signal_delay_s
    signals: Signals = DelayedSignals(engine, clock, delay_s) if delay_s else LiveSignals(engine)
    if scenario.router.load_signal == "step_end":
        return StepEndSignals(engine, clock, signals)
    return signals


def build_view(
    scenario: Scenario,
    instances: Sequence[Instance],
    engines: list[Engine],
    residency: Residency,
    tools: ToolStatistics,
    clock: Clock,
) -> ClusterView:
    """What policies may see of the cluster."""
    views = [
        InstanceView(
            engine.index,
            instance.node,
            instance.model,
            instance.spec.accelerator,
            instance.spec.tensor_parallel,
            engine.latency,
            engine.pool.capacity,
            engine.limits.block_size_tokens,
            engine.limits.max_num_seqs,
            engine.limits.max_num_batched_tokens,
            _signals(scenario, engine, clock),
        )
        for instance, engine in zip(instances, engines, strict=True)
    ]
    return ClusterView(views, residency, engines, tools, clock)
