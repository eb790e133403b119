"""The workloads that are measured, all seeded."""

from __future__ import annotations

from typing import Any

import numpy as np

from agentserve_gym.sim import Scenario, load_scenario
from agentserve_gym.workloads import Program, Turn

PEER_INSTANCES = 4
PEER_GAP_S = 2.0
PEER_RATE_PER_S = 2.0

_ENOUGH_PROGRAMS = 250_000
"""More than any run here gets to (10^6 turns are about 96,000 of these programs)."""


def peer_programs(programs: int = 200, turns: int = 5, seed: int = 1) -> list[Program]:
    """The workload that simulators are compared on.

    700 +- 200 new and 200 +- 50 output tokens a turn (normal, at least 1), the context accumulates,
    2 s between turns, Poisson arrivals at 2 programs/s.
    """
    rng = np.random.default_rng(seed)
    arrivals = np.cumsum(rng.exponential(1 / PEER_RATE_PER_S, programs))
    return [
        Program(f"p{index}", "peer", _turns(rng, turns), arrival_s=round(float(arrival), 6))
        for index, arrival in enumerate(arrivals)
    ]


def _turns(rng: np.random.Generator, number: int) -> tuple[Turn, ...]:
    turns: list[Turn] = []
    chain = 0
    for index in range(number):
        new = max(1, round(rng.normal(700, 200)))
        output = max(1, round(rng.normal(200, 50)))
        if index + 1 < number:
            turns.append(Turn(chain + new, new, output, chain, PEER_GAP_S, "tool"))
        else:
            turns.append(Turn(chain + new, new, output, chain))
        chain += new + output
    return tuple(turns)


def peer_scenario(programs: int = 200, seed: int = 1) -> Scenario:
    """`peer_programs` on four H100 that serve Llama-3.1-8B."""
    workload = {
        "kind": "inline",
        "programs": [
            {
                "program_id": program.program_id,
                "arrival_s": program.arrival_s,
                "turns": [
                    {
                        "new_input_tokens": turn.new_input_tokens,
                        "output_tokens": turn.output_tokens,
                        "gap_s": turn.gap_s,
                    }
                    for turn in program.turns
                ],
            }
            for program in peer_programs(programs, seed=seed)
        ],
    }
    return _on_h100("peer", PEER_INSTANCES, workload)


def trace_scenario(path: str) -> Scenario:
    """The programs of a trace file on the same four H100."""
    return _on_h100("peer-trace", PEER_INSTANCES, {"kind": "trace", "path": path})


def decode_scenario(turns: int, tokens: int, seed: int = 1) -> Scenario:
    """Programs of one turn with long outputs on one H100: nearly all steps decode.

    They come at a distance that grows with their length: about half a dozen decode at once, so
    that even the longest contexts fit the KV pool together.
    """
    rng = np.random.default_rng(seed)
    programs = [
        {
            "arrival_s": tokens / 800 * index,
            "turns": [
                {
                    "new_input_tokens": 500,
                    "output_tokens": max(1, round(rng.uniform(0.5, 1.5) * tokens)),
                }
            ],
        }
        for index in range(turns)
    ]
    return _on_h100("decode", 1, {"kind": "inline", "programs": programs})


def growing_scenario(instances: int = 4) -> Scenario:
    """Function-calling agents that arrive without end, as many per instance at any size."""
    return _without_end(instances, {"kind": "poisson", "rate_per_s": 0.2 * instances}, 1.0)


def crowded_scenario(live_programs: int, instances: int = 4) -> Scenario:
    """A fixed number of live programs; gaps grow with it, so turns arrive at about one rate."""
    arrivals = {"kind": "closed_loop", "concurrency": live_programs}
    return _without_end(instances, arrivals, live_programs / 16)


def _without_end(instances: int, arrivals: dict[str, Any], gap_scale: float) -> Scenario:
    content = load_scenario("default").model_dump()
    content["name"] = "without-end"
    content["horizon_s"] = None
    content["cluster"]["nodes"][0]["instances"][0]["count"] = instances
    content["workload"] |= {
        "mix": {"function_calling": 1.0},
        "programs": _ENOUGH_PROGRAMS,
        "gap_scale": gap_scale,
    }
    content["arrivals"] = arrivals
    return load_scenario(content)


def _on_h100(name: str, instances: int, workload: dict[str, Any]) -> Scenario:
    node = {
        "name": "node0",
        "instances": [{"accelerator": "h100-sxm", "count": instances}],
        "host_link": {"bandwidth_gbps": 50.0},
    }
    return load_scenario(
        {
            "name": name,
            "cluster": {"model": "llama-3.1-8b", "nodes": [node]},
            "workload": workload,
            "arrivals": {"kind": "trace"},
            "engine": {"max_num_seqs": 128, "max_num_batched_tokens": 2048},
        }
    )
