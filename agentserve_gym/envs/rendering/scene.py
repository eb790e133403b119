"""What a picture shows: the state of a simulation at one moment, as plain values."""

from __future__ import annotations

from dataclasses import dataclass

from agentserve_gym.sim import Decision, ProgramStatus, RouteDecision, Simulation
from agentserve_gym.sim.kernel.pools import BlockPool

STATUS_NAMES = {
    ProgramStatus.PLANNED: "to come",
    ProgramStatus.HELD: "held",
    ProgramStatus.QUEUED: "queued",
    ProgramStatus.LOADING: "loading",
    ProgramStatus.RUNNING: "running",
    ProgramStatus.TOOL_GAP: "tool gap",
    ProgramStatus.DONE: "done",
}


@dataclass(frozen=True, slots=True)
class PoolScene:
    """Shares of a pool's blocks: held by turns and transfers, pinned, cached; the rest is free."""

    name: str
    used: float
    pinned: float
    cached: float

    @property
    def full(self) -> float:
        return self.used + self.pinned + self.cached


@dataclass(frozen=True, slots=True)
class InstanceScene:
    """One instance: what it runs on (and before it, where they differ, the model that it serves),
    turns in each state, its HBM pool."""

    name: str
    hardware: str
    queued: int
    loading: int
    prefilling: int
    decoding: int
    context_tokens: int
    hbm: PoolScene


@dataclass(frozen=True, slots=True)
class Scene:
    """The cluster at one moment.

    Attributes:
        programs: number by status, sub-agents included once they have started.
        question: the pending decision in words.
        asked_instance: the home of the program asked about, or -1.
    """

    scenario: str
    seed: int
    time_s: float
    total_programs: int
    done_programs: int
    mean_jct_s: float
    turns_done: int
    held_turns: int
    programs: dict[ProgramStatus, int]
    instances: tuple[InstanceScene, ...]
    lower_tiers: tuple[PoolScene, ...]
    question: str
    asked_instance: int

    @classmethod
    def of(cls, simulation: Simulation, decision: Decision | None) -> Scene:
        """Look at a simulation, without changing anything in it that matters."""
        jct_s = simulation.metrics.jct_s
        orchestrator = simulation.orchestrator
        return cls(
            scenario=simulation.scenario.name,
            seed=simulation.seed,
            time_s=simulation.now_s,
            total_programs=len(simulation.workload),
            done_programs=orchestrator.done,
            mean_jct_s=sum(jct_s) / len(jct_s) if jct_s else 0.0,
            turns_done=len(simulation.metrics.e2e_s),
            held_turns=len(simulation.router.held),
            programs=_programs(simulation),
            instances=tuple(
                _instance(simulation, number) for number in range(len(simulation.engines))
            ),
            lower_tiers=tuple(_pool(pool) for pool in simulation.residency.lower_pools()),
            question=_question(simulation, decision),
            asked_instance=decision.program.home if decision is not None else -1,
        )


def _programs(simulation: Simulation) -> dict[ProgramStatus, int]:
    orchestrator = simulation.orchestrator
    counts = dict.fromkeys(ProgramStatus, 0)
    for program in orchestrator.live.values():
        counts[program.status] += 1
    counts[ProgramStatus.PLANNED] += len(simulation.workload) - orchestrator.arrived
    counts[ProgramStatus.DONE] = orchestrator.done
    return counts


def _instance(simulation: Simulation, number: int) -> InstanceScene:
    view = simulation.cluster.instances[number]
    engine = simulation.engines[number]
    engine.synchronize()
    ranks = f" x{view.tensor_parallel}" if view.tensor_parallel > 1 else ""
    several = len(simulation.scenario.cluster.models) > 1
    model = f"{view.model} " if several else ""
    return InstanceScene(
        name=f"{number}",
        hardware=model + view.accelerator + ranks,
        queued=len(engine.queue.turns),
        loading=len(engine.queue.loading),
        prefilling=len(engine.prefilling),
        decoding=len(engine.batch),
        context_tokens=engine.batch.context_tokens(),
        hbm=_pool(engine.pool),
    )


def _pool(pool: BlockPool) -> PoolScene:
    pinned = pool.pinned / pool.capacity
    return PoolScene(
        pool.name, max(pool.held / pool.capacity - pinned, 0.0), pinned, pool.cached / pool.capacity
    )


def _question(simulation: Simulation, decision: Decision | None) -> str:
    if decision is None:
        if simulation.truncated:
            return "horizon reached"
        return "every program is done" if simulation.done else "no decision"
    program = decision.program
    if isinstance(decision, RouteDecision):
        turn = decision.turn
        home = f", home {program.home}" if program.home >= 0 else ""
        new = turn.prompt_tokens - turn.reuse_tokens
        return (
            f"route {program.program_id} turn {turn.number}: "
            f"{turn.prompt_tokens} tokens, {new} new{home}"
        )
    tools = ", ".join(decision.tool_kinds) or decision.gap_kind
    again = " again" if decision.elapsed_s > 0.0 else ""
    return (
        f"place KV of {program.program_id}{again}: {program.context_tokens} tokens "
        f"on {decision.instance}, waits for {tools}"
    )
