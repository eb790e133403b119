"""Our simulation of the peer trace: ``python -m benchmarks.peers.ours POLICY SETTING``.

As a script like a peer's: a fresh process, the trace twice, figures of the second time.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from agentserve_gym.baselines import parse_policy, run_policy
from agentserve_gym.sim import Simulation
from benchmarks.workloads import trace_scenario


def replay(policy: str, trace: str) -> dict[str, Any]:
    """Read the trace and simulate it; the fields of a `benchmarks.peers.base.Measured`."""
    started = time.perf_counter()
    simulation = Simulation(trace_scenario(trace), 0)
    report = run_policy(simulation, parse_policy(policy))
    return {
        "wall_s": time.perf_counter() - started,
        "turns": report["turns"],
        "ttft_ms": 1e3 * report["ttft_s"]["mean"],
        "tpot_ms": 1e3 * report["tpot_s"]["mean"],
        "cached_share": report["hit_tokens"]["hbm"] / report["prompt_tokens"],
    }


if __name__ == "__main__":
    path = json.loads(sys.argv[2])["trace"]
    replay(sys.argv[1], path)
    sys.stdout.write(json.dumps(replay(sys.argv[1], path)) + "\n")
