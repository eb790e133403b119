"""Shared by the tests of the baselines: built decisions on a stand-in cluster, small scenarios."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agentserve_gym.baselines import parse_policy, run_policy
from agentserve_gym.hardware import UNBOUNDED_STEPS, BatchStep, DecodeRun, LatencyModel
from agentserve_gym.sim import (
    Load,
    PlacementDecision,
    ProgramState,
    ProgramStatus,
    RouteDecision,
    Scenario,
    Simulation,
    TurnState,
    load_scenario,
)
from agentserve_gym.sim.kernel.tool_statistics import ToolStatistics
from agentserve_gym.workloads.program import PrefixSegment, Program, Turn

BLOCK = 16
PREFILL_S = 1e-4
"""Seconds per prefilled token on the stand-in cluster."""


class FakeInstance:
    """An instance whose signals are set by hand; ``cached`` holds for every turn."""

    def __init__(self, index: int, *, node: int = 0, kv_blocks: int = 1000, **load: int) -> None:
        self.index = index
        self.node = node
        self.model = ""
        self.kv_blocks = kv_blocks
        self.block_size_tokens = BLOCK
        self.max_num_seqs = 128
        self.max_num_batched_tokens = 2048
        self.sent_turns = load.pop("sent_turns", 0)
        self.cached = load.pop("cached", 0)
        self.prompt_tokens = load.pop("prompt_tokens", 0)
        self.hit_tokens = load.pop("hit_tokens", 0)
        self.latency = StepLatency()
        fields = dict.fromkeys(Load._fields, 0)
        fields["free_blocks"] = kv_blocks
        self.state = Load(**{**fields, **load})

    def load(self) -> Load:
        return self.state

    def cached_tokens(self, turn: TurnState) -> int:
        return self.cached

    def look(self, turn: TurnState) -> tuple[int, Load]:
        return self.cached, self.state


def instances(count: int, **per_instance: list[int]) -> list[FakeInstance]:
    """Instances whose fields are given as lists."""
    return [
        FakeInstance(index, **{key: values[index] for key, values in per_instance.items()})
        for index in range(count)
    ]


class StepLatency(LatencyModel):
    """10 ms and 10 us a token up to 1000 tokens, then 20 us a token: the knee is near 1000."""

    def step_s(self, step: BatchStep) -> float:
        tokens = step.prefill_tokens + step.decode_count
        return max(0.01 + 1e-5 * tokens, 2e-5 * tokens)

    def decode_run(self, step: BatchStep) -> DecodeRun:
        return DecodeRun(self.step_s(step), 0.0, UNBOUNDED_STEPS)


class FakeCluster:
    """A cluster with hand-set instances."""

    def __init__(
        self, *instances: FakeInstance, dram: bool = False, cxl: bool = False, now_s: float = 0.0
    ) -> None:
        self.instances = list(instances)
        self.tools = ToolStatistics()
        self.tiers = tuple(name for name, there in (("dram", dram), ("cxl", cxl)) if there)
        self.held_turns = 0
        self.programs: dict[int, ProgramState] = {}
        self.pinned: set[int] = set()
        self.tier: dict[tuple[int, str], int] = {}
        self.copies: dict[int, list[Any]] = {}
        self.chains: dict[tuple[int, str], int] = {}
        self.now_s = now_s
        self.link_bytes_s = 1e9
        self.dram_tokens = 1_000_000

    def serving(self, program: ProgramState) -> list[FakeInstance]:
        return [view for view in self.instances if view.model == program.model]

    def is_pinned(self, program: ProgramState) -> bool:
        return program.index in self.pinned

    def reaches(self, instance: int, tier: str) -> bool:
        return tier in self.tiers

    def reached_tiers(self, instance: int) -> list[str]:
        return list(self.tiers)

    def tier_tokens(self, turn: TurnState, instance: int, tier: str) -> int:
        return self.tier.get((instance, tier), 0)

    def tier_capacity_tokens(self, tier: str, instance: int) -> int:
        return self.dram_tokens if "dram" in self.tiers else 0

    def prefill_s(self, instance: int, new_tokens: int, history_tokens: int) -> float:
        return PREFILL_S * new_tokens

    def offload_s(self, program: ProgramState, tier: str, tokens: int) -> float:
        slower = 4.0 if tier == "cxl" else 1.0
        return slower * tokens * 131072 / self.link_bytes_s

    def load_s(self, instance: int, tier: str, tokens: int) -> float:
        return tokens * 131072 / self.link_bytes_s

    def chain_tokens(self, program: ProgramState, instance: int, tier: str) -> int:
        return self.chains.get((program.index, tier), 0)

    def restorables(self, turn: TurnState, instance: int) -> list[Any]:
        return self.copies.get(instance, [])

    def first_token_s(self, turn: TurnState, instance: int, copy: Any) -> float:
        cached = self.instances[instance].cached if copy is None else copy.blocks * BLOCK
        wait = 0.0 if copy is None else copy.end_s - self.now_s
        return wait + PREFILL_S * (turn.prompt_tokens - cached)


_PLANS: dict[ProgramState, Program] = {}
"""What the programs of `make_program` do, as an orchestrator would know it."""


def make_program(
    index: int = 0,
    *,
    turns: int = 3,
    prompt: int = 1000,
    turns_done: int = 0,
    home: int = -1,
    context: int = 0,
    arrival_s: float = 0.0,
    gap_s: float = 1.0,
    parent: ProgramState | None = None,
    shared: int = 0,
) -> ProgramState:
    """A program whose turns all have the same prompt, the first ``shared`` tokens of which are
    everyone's; past turns are set by hand."""
    plan = Program(
        f"p{index}",
        "test",
        tuple(
            Turn(
                prompt, prompt, 10, 0,
                gap_s if number < turns - 1 else 0.0,
                "tool" if number < turns - 1 else "end",
            )
            for number in range(turns)
        ),
        prefix=(PrefixSegment("system", shared),) if shared else (),
    )  # fmt: skip
    program = ProgramState(plan, index, index + 100, BLOCK, parent)
    _PLANS[program] = plan
    program.turns_done = turns_done
    program.home = home
    program.context_tokens = context
    program.arrival_s = arrival_s
    return program


def route(
    cluster: FakeCluster,
    program: ProgramState | None = None,
    *,
    time_s: float | None = None,
    offers: int = 0,
    may_hold: bool = True,
    reuse: int | None = None,
) -> RouteDecision:
    """The decision of a program's next turn."""
    program = program or make_program()
    time_s = cluster.now_s if time_s is None else time_s
    plan = _PLANS[program].turns[program.turns_done]
    if reuse is not None:
        plan = plan._replace(reuse_tokens=reuse)
    turn = TurnState(program, plan, time_s, BLOCK)
    cluster.programs[program.index] = program
    return RouteDecision(time_s, program, turn, cluster, may_hold, offers)  # type: ignore[arg-type]


def gap(
    cluster: FakeCluster,
    program: ProgramState,
    *tools: str,
    elapsed_s: float = 0.0,
    time_s: float | None = None,
) -> PlacementDecision:
    """The decision of a program whose turn ended on its home."""
    program.status = ProgramStatus.TOOL_GAP
    time_s = cluster.now_s if time_s is None else time_s
    program.gap_started_s = time_s - elapsed_s
    cluster.programs[program.index] = program
    return PlacementDecision(
        time_s,
        program,
        cluster,
        program.home,
        "tool",
        tools,
        elapsed_s,  # type: ignore[arg-type]
    )


def teach(cluster: FakeCluster, tool: str, *durations_s: float) -> None:
    """Let calls of a tool complete."""
    for duration_s in durations_s:
        cluster.tools.learn(tool, duration_s)


def inline(
    programs: Sequence[dict[str, Any]],
    *,
    instances: int = 1,
    kv_blocks: int = 1000,
    dram_gib: float | None = None,
    cxl_gib: float | None = None,
    peer_gbps: float | None = None,
    **parts: Any,
) -> Scenario:
    """A one-node scenario with programs written out, on a GPU whose timing needs no profile."""
    node: dict[str, Any] = {
        "name": "n0",
        "instances": [
            {
                "accelerator": "h100-sxm",
                "count": instances,
                "kv_blocks": kv_blocks,
                "timing": "roofline",
            }
        ],
    }
    if dram_gib is not None:
        node["dram"] = {"capacity_gib": dram_gib}
    if peer_gbps is not None:
        node["peer_link"] = {"bandwidth_gbps": peer_gbps}
    cluster: dict[str, Any] = {"model": "llama-3.1-8b", "nodes": [node]}
    if cxl_gib is not None:
        cluster["cxl"] = {"nodes": ["n0"], "capacity_gib": cxl_gib, "bandwidth_gbps": 30.0}
    return load_scenario(
        {
            "name": "test",
            "cluster": cluster,
            "workload": {"kind": "inline", "programs": list(programs)},
            "arrivals": {"kind": "trace"},
            **parts,
        }
    )


def inline_program(
    *turns: tuple[int, int, float],
    arrival_s: float = 0.0,
    tool: str = "tool",
    prefix: tuple[str, int] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """A program from (new input tokens, output tokens, tool seconds); the last has no tool."""
    written = []
    for number, (new, output, seconds) in enumerate(turns):
        turn: dict[str, Any] = {"new_input_tokens": new, "output_tokens": output}
        if number < len(turns) - 1:
            turn["tools"] = [{"kind": tool, "duration_s": seconds}]
        written.append(turn)
    shared = [{"key": prefix[0], "tokens": prefix[1]}] if prefix else []
    return {"arrival_s": arrival_s, "turns": written, "prefix": shared, **more}


def pressured(programs: int = 20) -> Scenario:
    """Two small instances that are joined, with DRAM and CXL, under more contexts than HBM holds,
    short and long tools, a shared prompt: every mechanism has a reason to fire."""
    written = []
    for number in range(programs):
        size = 1500 + 700 * (number % 5)
        seconds = (0.3, 6.0)[number % 2]
        turns = [(size, 60, seconds)] + [(400, 40 + 60 * (number % 3), seconds)] * 5
        written.append(
            inline_program(
                *turns,
                arrival_s=0.15 * number,
                tool=("fast", "slow")[number % 2],
                prefix=("system", 512),
            )
        )
    return inline(written, instances=2, kv_blocks=1100, dram_gib=4.0, cxl_gib=16.0, peer_gbps=25.0)


def run_named(name: str, scenario: Scenario, seed: int = 0) -> dict[str, Any]:
    """A fresh run under a named policy."""
    return run_policy(Simulation(scenario, seed), parse_policy(name))
