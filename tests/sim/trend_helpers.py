"""Workloads and simple policies for the published trends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sim_helpers import drive

from agentserve_gym.sim import (
    KEEP,
    Answer,
    Decision,
    Hold,
    Place,
    Restore,
    Route,
    RouteDecision,
    Scenario,
    Simulation,
    load_scenario,
    offload,
)


def agents(
    count: int,
    *,
    seed: int = 0,
    turns: int = 20,
    first_tokens: int = 1500,
    new_tokens: int = 400,
    output_tokens: int = 80,
    gap_s: float = 2.0,
    prefix_tokens: int = 1000,
    rate_per_s: float = 1.0,
    reset: bool = False,
    gap_sigma: float = 1.0,
) -> list[dict[str, Any]]:
    """Programs whose context grows turn by turn; gaps are log-normal with this median.

    With ``reset`` every turn starts over from the shared prefix: nothing else is ever reused.
    """
    rng = np.random.default_rng(seed)
    arrivals = np.cumsum(rng.exponential(1.0 / rate_per_s, count))
    programs = []
    for index in range(count):
        steps = []
        for turn in range(turns):
            step: dict[str, Any] = {
                "new_input_tokens": int(rng.integers(new_tokens // 2, new_tokens * 3 // 2)),
                "output_tokens": int(rng.integers(output_tokens // 2, output_tokens * 3 // 2)),
            }
            if turn == 0:
                step["new_input_tokens"] = first_tokens
            elif reset:
                step["new_input_tokens"] = first_tokens + turn * new_tokens
                step["reset_to_tokens"] = prefix_tokens
            if turn < turns - 1:
                step["gap_s"] = float(gap_s * np.exp(gap_sigma * rng.standard_normal()))
            steps.append(step)
        programs.append(
            {
                "program_id": f"p{index}",
                "arrival_s": float(arrivals[index]),
                "prefix": [{"key": "system", "tokens": prefix_tokens}] if prefix_tokens else [],
                "turns": steps,
            }
        )
    return programs


def cluster(
    programs: list[dict[str, Any]],
    *,
    instances: int = 1,
    kv_blocks: int = 50_000,
    accelerator: str = "rtx-pro-6000",
    model: str = "llama-3.1-8b",
    node: dict[str, Any] | None = None,
    arrivals: dict[str, Any] | None = None,
    **parts: Any,
) -> Scenario:
    spec = {"accelerator": accelerator, "count": instances, "kv_blocks": kv_blocks}
    return load_scenario(
        {
            "name": "trend",
            "cluster": {
                "model": model,
                "nodes": [{"name": "n0", "instances": [spec], **(node or {})}],
            },
            "workload": {"kind": "inline", "programs": programs},
            "arrivals": arrivals or {"kind": "trace"},
            **parts,
        }
    )


Routing = Callable[[RouteDecision], int]


def round_robin() -> Routing:
    """Each turn goes to the next instance."""
    sent = 0

    def choose(decision: RouteDecision) -> int:
        nonlocal sent
        sent += 1
        return sent % len(decision.cluster.instances)

    return choose


def least_loaded() -> Routing:
    """Join the shortest queue."""

    def choose(decision: RouteDecision) -> int:
        views = decision.cluster.instances
        return min(range(len(views)), key=lambda at: (views[at].sent_turns, at))

    return choose


def sticky() -> Routing:
    """Programs are dealt out in turn, and stay."""
    dealt = -1

    def choose(decision: RouteDecision) -> int:
        nonlocal dealt
        if decision.program.home >= 0:
            return decision.program.home
        dealt += 1
        return dealt % len(decision.cluster.instances)

    return choose


def hybrid(decode_tokens: float = 300.0) -> Routing:
    """Least estimated work: uncached prompt, prefill backlog, and running turns."""

    def choose(decision: RouteDecision) -> int:
        def cost(at: int) -> float:
            view = decision.cluster.instances[at]
            load = view.load()
            uncached = decision.turn.prompt_tokens - view.cached_tokens(decision.turn)
            return uncached + load.prefill_backlog_tokens + decode_tokens * load.turns

        return min(range(len(decision.cluster.instances)), key=lambda at: (cost(at), at))

    return choose


def policy(
    routing: Routing,
    place: Place = KEEP,
    restore: Restore = Restore.RECOMPUTE,
    most_active: int | None = None,
) -> Callable[[Decision], Answer]:
    """A routing rule, one placement for all gaps, and a cap on started programs, if any."""
    started: set[int] = set()

    def decide(decision: Decision) -> Answer:
        if not isinstance(decision, RouteDecision):
            return place
        if most_active is not None and decision.turn.number == 0:
            started.intersection_update(decision.cluster.programs)
            if len(started) >= most_active and decision.may_hold:
                return Hold()
            started.add(decision.program.index)
        return Route(routing(decision), restore=restore)

    return decide


DRAM = offload("dram")


def run(scenario: Scenario, decide: Callable[[Decision], Answer]) -> dict[str, Any]:
    simulation = drive(Simulation(scenario), decide)
    return simulation.report()


def hit_rate(report: dict[str, Any]) -> float:
    return float(report["hit_rate"]["hbm"])


def mean_jct(report: dict[str, Any]) -> float:
    return float(report["jct_s"]["mean"])
