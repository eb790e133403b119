"""Small setups for published trends: synthetic agents on a few instances."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from agentserve_gym.baselines import parse_policy, run_policy
from agentserve_gym.baselines.driving import drive
from agentserve_gym.sim import Scenario, Simulation, load_scenario
from agentserve_gym.validation.trends.programs import Vary, unchanged

Draw = Callable[[np.random.Generator], float]


def constant(value: float) -> Draw:
    """Always the same."""
    return lambda _: value


def exponential(mean: float) -> Draw:
    """Exponential with this mean."""
    return lambda random: float(random.exponential(mean))


def lognormal(median: float, sigma: float) -> Draw:
    """Log-normal: heavy-tailed for ``sigma`` above 1."""
    return lambda random: float(median * np.exp(sigma * random.standard_normal()))


def either(first: Draw, second: Draw, share: float) -> Draw:
    """One draw with probability ``share``, else the other."""
    return lambda random: first(random) if random.random() < share else second(random)


TEN_TURNS = constant(10)
FIRST_TOKENS = constant(4000)
NEW_TOKENS = constant(500)
OUTPUT_TOKENS = constant(100)
ONE_SECOND = constant(1.0)


@dataclass(frozen=True, slots=True)
class Agents:
    """Synthetic agents.

    Attributes:
        programs: how many. ``rate_per_s``: Poisson arrivals; ``None``: all at time 0.
        turns: turns of a program. ``first_tokens``, ``new_tokens``, ``output_tokens``: of the first
            prompt, of what each later turn adds, and of each answer.
        gap_s: tool gaps.
        reuse: share of each later prompt that the program had before; the rest is new, and the
            prompt keeps its length. ``None``: an append-only chain.
        slow_tool_s: gaps from this on are calls of the tool ``slow``, shorter ones of ``fast``;
            ``None``: one tool for all.
    """

    programs: int
    rate_per_s: float | None = None
    turns: Draw = TEN_TURNS
    first_tokens: Draw = FIRST_TOKENS
    new_tokens: Draw = NEW_TOKENS
    output_tokens: Draw = OUTPUT_TOKENS
    gap_s: Draw = ONE_SECOND
    reuse: float | None = None
    slow_tool_s: float | None = None
    seed: int = 0

    def build(self) -> list[dict[str, Any]]:
        """The programs as an inline workload has them."""
        random = np.random.default_rng(self.seed)
        arrival_s = 0.0
        programs = []
        for _ in range(self.programs):
            programs.append({"arrival_s": arrival_s, "turns": self._turns(random)})
            if self.rate_per_s is not None:
                arrival_s += float(random.exponential(1.0 / self.rate_per_s))
        return programs

    def _turns(self, random: np.random.Generator) -> list[dict[str, Any]]:
        count = _whole(self.turns, random)
        first = _whole(self.first_tokens, random)
        turns: list[dict[str, Any]] = []
        for number in range(count):
            turn: dict[str, Any] = {"output_tokens": _whole(self.output_tokens, random)}
            if number == 0:
                turn["new_input_tokens"] = first
            elif self.reuse is None:
                turn["new_input_tokens"] = _whole(self.new_tokens, random)
            else:
                kept = round(first * self.reuse)
                turn |= {"reset_to_tokens": kept, "new_input_tokens": first - kept}
            if number < count - 1:
                turn |= self._gap(self.gap_s(random))
            turns.append(turn)
        return turns

    def _gap(self, seconds: float) -> dict[str, Any]:
        if self.slow_tool_s is None:
            return {"gap_s": seconds}
        kind = "fast" if seconds < self.slow_tool_s else "slow"
        return {"tools": [{"kind": kind, "duration_s": seconds}]}


def cluster(
    programs: list[dict[str, Any]],
    *,
    accelerator: str = "h100-sxm",
    model: str = "llama-3.1-8b",
    tensor_parallel: int = 1,
    instances: int = 1,
    kv_tokens: int = 100_000,
    dram_gib: float | None = None,
    host_gbps: float = 50.0,
    concurrency: int | None = None,
    node: dict[str, Any] | None = None,
    **parts: Any,
) -> Scenario:
    """One node of equal instances that serves the programs, in steps of at most 128 turns and 2,048
    tokens unless ``parts`` say otherwise: the bands of the trends were set with these.

    Args:
        kv_tokens: HBM pool of each instance.
        dram_gib: host memory for KV; ``None`` for no such tier.
        host_gbps: the host link of each GPU, each direction.
        concurrency: closed loop with so many programs at once, instead of their arrivals.
        node: further settings of the node. ``parts``: further parts of the scenario.
    """
    arrivals: dict[str, Any] = {"kind": "trace"}
    if concurrency is not None:
        arrivals = {"kind": "closed_loop", "concurrency": concurrency}
    instance = {
        "accelerator": accelerator,
        "tensor_parallel": tensor_parallel,
        "count": instances,
        "kv_blocks": kv_tokens // 16,
    }
    host: dict[str, Any] = {
        "name": "node0",
        "instances": [instance],
        "host_link": {"bandwidth_gbps": host_gbps},
    }
    if dram_gib is not None:
        host["dram"] = {"capacity_gib": dram_gib, "bandwidth_gbps": 1000.0}
    limits = {"max_num_seqs": 128, "max_num_batched_tokens": 2048}
    return load_scenario(
        {
            "name": "trend",
            "cluster": {"model": model, "nodes": [{**host, **(node or {})}]},
            "workload": {"kind": "inline", "programs": programs},
            "arrivals": arrivals,
            **parts,
            "engine": limits | parts.get("engine", {}),
        }
    )


def swe_agents(
    rate_per_s: float | None = None,
    *,
    programs: int = 60,
    instances: int = 1,
    concurrency: int | None = None,
    gap_scale: float = 1.0,
    model: str = "llama-3.1-70b",
    kv_tokens: int | None = None,
    node: dict[str, Any] | None = None,
    cxl: dict[str, Any] | None = None,
    **parts: Any,
) -> Scenario:
    """AgentServeSim's agents: SWE-bench programs on Llama-3.1-70B, one B200 an instance, whose HBM
    holds the KV of about ten.

    Args:
        rate_per_s: of Poisson arrivals. ``concurrency``: closed loop with so many at once instead.
        gap_scale: multiplies the tools' durations.
        model: another model. ``kv_tokens``: another HBM pool of each instance.
        node: further settings of the node. ``cxl``: a pool that it reaches.
        parts: further parts of the scenario.
    """
    arrivals: dict[str, Any] = {"kind": "poisson", "rate_per_s": rate_per_s}
    if concurrency is not None:
        arrivals = {"kind": "closed_loop", "concurrency": concurrency}
    instance: dict[str, Any] = {"accelerator": "b200", "count": instances}
    if kv_tokens is not None:
        instance["kv_blocks"] = kv_tokens // 16
    host = {"name": "node0", "instances": [instance]}
    hardware: dict[str, Any] = {"model": model, "nodes": [{**host, **(node or {})}]}
    if cxl is not None:
        hardware["cxl"] = {"nodes": ["node0"], **cxl}
    workload = {
        "kind": "generated",
        "mix": {"swe_bench": 1.0},
        "programs": programs,
        "user_gaps": "simulated",
        "gap_scale": gap_scale,
    }
    return load_scenario(
        {"name": "trend", "cluster": hardware, "workload": workload, "arrivals": arrivals, **parts}
    )


def report(
    scenario: Scenario, policy: str, seed: int = 0, vary: Vary = unchanged
) -> dict[str, Any]:
    """The report of one run under a policy."""
    return run_policy(Simulation(scenario, seed, vary=vary), parse_policy(policy))


@dataclass(frozen=True, slots=True)
class Late:
    """What a run came to after its start: share of prompt tokens found in any tier, output tokens
    per second, and mean tokens of a prompt."""

    hits: float
    output_tokens_per_s: float
    prompt_tokens: float


def late(
    scenario: Scenario, policy: str, since_s: float, seed: int = 0, vary: Vary = unchanged
) -> Late:
    """Of the time from ``since_s`` to the scenario's horizon."""
    simulation = Simulation(scenario, seed, vary=vary)
    before: dict[str, Any] | None = None
    for _ in drive(simulation, parse_policy(policy)):
        if before is None and simulation.clock.time_s >= since_s:
            before = simulation.report()
    if before is None:
        raise ValueError(f"since_s is {since_s:g}; the run ends at {simulation.clock.time_s:g}")
    after = simulation.report()
    prompts, turns, output, seconds = (
        after[name] - before[name]
        for name in ("prompt_tokens", "turns", "output_tokens", "simulated_s")
    )
    found = sum(after["hit_tokens"].values()) - sum(before["hit_tokens"].values())
    return Late(found / prompts, output / seconds, prompts / turns)


def reports(scenario: Scenario, policies: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Reports by policy."""
    return {policy: report(scenario, policy) for policy in policies}


def mean_jct_s(scenario: Scenario, policy: str, seed: int = 0) -> float:
    """Mean job completion time under a policy, seconds."""
    return float(report(scenario, policy, seed)["jct_s"]["mean"])


def jct_ratio(scenario: Scenario, policy: str, other: str, seeds: range) -> float:
    """Mean JCT under a policy over that under another: geometric mean of paired seeds."""
    pairs = [
        mean_jct_s(scenario, policy, seed) / mean_jct_s(scenario, other, seed) for seed in seeds
    ]
    return float(np.exp(np.mean(np.log(pairs))))


def hit_share(outcome: dict[str, Any]) -> float:
    """Share of prompt tokens found in any tier."""
    return float(sum(outcome["hit_rate"].values()))


def _whole(draw: Draw, random: np.random.Generator) -> int:
    return max(round(draw(random)), 1)
